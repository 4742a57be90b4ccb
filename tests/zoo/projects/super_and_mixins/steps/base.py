from abc import ABC, abstractmethod

from sklearn.base import BaseEstimator, TransformerMixin


class Step(TransformerMixin, BaseEstimator, ABC):
    def fit(self, X, y=None):
        self.columns_ = list(X.columns)
        return self

    def transform(self, X):
        return self.change(X[self.columns_].copy())

    @abstractmethod
    def change(self, frame): ...
