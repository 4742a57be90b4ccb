from itertools import combinations

from sklearn.base import BaseEstimator, TransformerMixin


class Products(TransformerMixin, BaseEstimator):
    def __init__(self, columns):
        self.columns = columns

    def fit(self, X, y=None):
        self.pairs_ = list(combinations(self.columns, 2))
        return self

    def transform(self, X):
        return X.assign(**{f"{a}*{b}": X[a] * X[b] for a, b in self.pairs_})
