import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

FEATURES = {}
NAMED = {}


class Registered(type):
    def __new__(mcls, name, bases, namespace):
        made = super().__new__(mcls, name, bases, namespace)
        FEATURES[name.lower()] = made
        return made

    def __call__(cls, *args, **kwargs):
        return super().__call__(*args, **kwargs).of


class Feature(metaclass=Registered):
    def __init_subclass__(cls, nickname=None, **kwargs):
        super().__init_subclass__(**kwargs)

    def of(self, frame):
        return frame.iloc[:, 0]


class Named:
    def __init_subclass__(cls, *, nickname, **kwargs):
        super().__init_subclass__(**kwargs)
        NAMED[nickname] = cls


class ByName(TransformerMixin, BaseEstimator):
    def __init__(self, names):
        self.names = names

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        import plugins  # those who are asked must have registered

        made = [(FEATURES.get(name) or NAMED[name])() for name in self.names]
        return np.column_stack([one(X) for one in made])
