from functools import cached_property

from sklearn.base import BaseEstimator, TransformerMixin


class Cleaner:
    width = 3

    class Inner:
        @staticmethod
        def halve(frame):
            return frame / 2

    def __init__(self, offset):
        self.offset = offset

    @staticmethod
    def negate(frame):
        return -frame

    @classmethod
    def widen(cls, frame):
        return frame * cls.width

    def move(self, frame):
        return self.Inner.halve(frame) + self.offset


class Scale(TransformerMixin, BaseEstimator):
    @property
    def power(self):
        return self.cached_power

    @cached_property
    def cached_power(self):
        return 2

    def fit(self, X, y=None):
        self.fitted_power_ = self.power
        return self

    def transform(self, X):
        return X**self.power * self.fitted_power_
