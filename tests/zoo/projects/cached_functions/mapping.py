from functools import lru_cache, singledispatch

from sklearn.base import BaseEstimator, TransformerMixin


@lru_cache
def rank(word):
    return ord(word[0]) - ord("a")


@singledispatch
def weigh(value):
    return 0


@weigh.register
def _(value: int):
    return value * 0.5


class Mapped(TransformerMixin, BaseEstimator):
    def __init__(self, function, column):
        self.function = function
        self.column = column

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X[[self.column]].map(self.function)
