from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_union


class Base(TransformerMixin, BaseEstimator):
    names = ()

    def fit(self, X, y=None):
        return self

    def one(self, frame):
        return frame[self.names[0]]

    def transform(self, X):
        return self.one(X).to_frame()

    def then(self, other):
        return make_union(self, other)


class Loud:
    volume = 11


def guard(column):
    return column.clip(lower=0.1)


def apply(frame, function):
    return frame.apply(function, axis=1)
