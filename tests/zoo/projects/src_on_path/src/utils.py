from sklearn.base import BaseEstimator, TransformerMixin

from tests import digits


class Rounder(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X.round(digits())
