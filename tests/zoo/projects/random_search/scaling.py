from sklearn.base import BaseEstimator, TransformerMixin


class Root(TransformerMixin, BaseEstimator):
    def __init__(self, degree=2):
        self.degree = degree

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X ** (1 / self.degree)
