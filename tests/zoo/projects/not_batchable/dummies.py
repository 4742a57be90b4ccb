import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

WIDTH = 4


class Dummies(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        wide = pd.get_dummies(X, dtype=float)
        wide.columns = range(wide.shape[1])
        return wide.reindex(columns=range(WIDTH), fill_value=0.0)
