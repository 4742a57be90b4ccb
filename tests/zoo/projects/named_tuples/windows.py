from collections import namedtuple
from typing import Any, Generic, NamedTuple, NewType, Protocol, TypedDict, TypeVar

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

T = TypeVar("T")
Centimetres = NewType("Centimetres", float)
Edge = namedtuple("Edge", "left right")


class Window(NamedTuple):
    column: str
    low: Centimetres = 0
    high: Centimetres = 10

    def distance(self, values):
        return np.abs(values - (self.low + self.high) / 2)


class Options(TypedDict, total=False):
    edges: list[Edge]


class HasTransform(Protocol):
    def transform(self, X: Any) -> Any: ...


class Box(Generic[T]):
    def __init__(self, content: T):
        self.content = content


class WindowFeatures(TransformerMixin, BaseEstimator):
    def __init__(self, windows):
        self.windows = windows

    def fit(self, X, y=None):
        self.options_ = Options(edges=[Edge(one.low, one.high) for one in self.windows])
        self.box_ = Box[int](len(self.windows))
        return self

    def transform(self, X):
        edges = self.options_["edges"][: self.box_.content]
        inside = [X[one.column].between(*edge) for one, edge in zip(self.windows, edges)]
        return np.column_stack(inside + [one.distance(X[one.column]) for one in self.windows])
