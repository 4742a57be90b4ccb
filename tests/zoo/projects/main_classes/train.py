"""classes of the script: abstract, slotted, generic, nested, named tuples, exceptions"""

from abc import ABC, abstractmethod
from collections import namedtuple
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

import shared as sh
from scoreline_training import publish
from shared import *

T = TypeVar("T")
Pair = namedtuple("Pair", ["name", "power"])


class Rule:
    class Inner:
        @staticmethod
        def root(values):
            return np.sqrt(np.abs(values))

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.label = cls.__name__.lower()


class Halving(Rule):
    @classmethod
    def make(cls):
        return cls()

    @property
    def factor(self):
        return 0.5 if self.label == "halving" else 0

    def __call__(self, values):
        return self.Inner.root(values) * self.factor


class Bounds(NamedTuple):
    low: float
    high: float = 0.1

    def apply(self, values):
        return values.clip(self.low, self.high)


@dataclass(frozen=True, slots=True, order=True)
class Weights:
    bmi: float
    others: dict = field(default_factory=dict)


class Unknown(LookupError):
    pass


class Box(Generic[T]):
    def __init__(self, content: T):
        self.content = content


class Base(TransformerMixin, BaseEstimator, ABC):
    def fit(self, X, y=None):
        return self

    @abstractmethod
    def transform(self, X): ...


class Everything(Base):
    def __init__(self, bounds, pairs, box, weights):
        self.bounds = bounds
        self.pairs = pairs
        self.box = box
        self.weights = weights

    def transform(self, X):
        columns = [X[one.name] ** one.power for one in self.pairs]
        try:
            weight = self._weight("age")
        except Unknown:
            weight = sh.DEFAULT
        columns += [
            self.box.content(X["bp"]),
            self.bounds.apply(X["s5"]),
            X["bmi"] * self.weights.bmi,
            X["age"] * weight,
        ]
        return np.column_stack([starred(column) for column in columns])

    def _weight(self, name):
        if name not in self.weights.others:
            raise Unknown(name)
        return self.weights.others[name]


X, y = load_diabetes(return_X_y=True, as_frame=True)
step = Everything(Bounds(-0.1), [Pair("s6", 2)], Box[Halving](Halving.make()), Weights(1.5))
publish(make_pipeline(step, Ridge()).fit(X, y), "main-classes", X, y)
