"""Estimators of a project's own, and what they answer for records unlike those of training."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

LIMIT = 1e5
ODD = {
    "NA": pd.NA,
    "None": None,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "Decimal": Decimal("1.5"),
    "Timestamp": pd.Timestamp("2024-01-01"),
    "date": datetime.date(2024, 1, 1),
    "bytes": b"yes",
    "long": 2**70,
    "text": "refer",
    "complex": 1j,
    "list": [1, 2],
    "surrogate": "\ud800",
}


def _is_odd(frame):
    return np.abs(np.asarray(frame, dtype=object)[:, 0].astype(float)) > LIMIT


class Answers(BaseEstimator):
    """A label for each row, and something odd for a row unlike those of training."""

    def __init__(self, odd, labels=("no", "yes")):
        self.odd = odd
        self.labels = labels

    def fit(self, X, y=None):
        """Learn nothing."""
        return self

    def predict(self, X):
        """The first column's sign, as a label."""
        positive = np.asarray(X.iloc[:, 0], float) > 0
        found = np.empty(len(X), dtype=object)
        for row, (is_odd, is_positive) in enumerate(zip(_is_odd(X), positive, strict=True)):
            found[row] = ODD[self.odd] if is_odd else self.labels[int(is_positive)]
        return found


class Shaped(BaseEstimator):
    """The same numbers in one of the shapes that people return."""

    def __init__(self, shape):
        self.shape = shape

    def fit(self, X, y=None):
        """Learn nothing."""
        return self

    def predict(self, X):
        """Twice the first column."""
        numbers = np.asarray(X.iloc[:, 0], float) * 2
        index = np.arange(len(X))[::-1] + 7
        return {
            "list": lambda: numbers.tolist(),
            "series": lambda: pd.Series(numbers, index=index),
            "frame": lambda: pd.DataFrame({"twice": numbers, "half": numbers / 4}, index=index),
            "column": lambda: numbers[:, None],
            "float32": lambda: numbers.astype("float32"),
            "float16": lambda: np.clip(numbers, -9, 9).astype("float16"),
            "int32": lambda: np.clip(numbers, -99, 99).astype("int32"),
            "uint64": lambda: np.full(len(X), 2**64 - 1, "uint64"),
            "nullable": lambda: pd.Series(np.clip(numbers, -99, 99).round(), dtype="Int64"),
            "category": lambda: pd.Series(np.where(numbers > 0, "a", "b"), dtype="category"),
            "strings": lambda: pd.Series(np.where(numbers > 0, "a", "b"), dtype="string"),
            "boolean": lambda: pd.Series(numbers > 0, dtype="boolean"),
        }[self.shape]()


class Referring(ClassifierMixin, BaseEstimator):
    """A business rule around a classifier: large amounts are for people."""

    def __init__(self, inner):
        self.inner = inner

    def fit(self, X, y):
        """Fit the classifier within."""
        self.inner.fit(X, y)
        self.classes_ = self.inner.classes_
        return self

    def predict_proba(self, X):
        """As the classifier within."""
        return self.inner.predict_proba(X)

    def predict(self, X):
        """Its class, or `refer`."""
        found = np.asarray(self.inner.predict(X), dtype=object)
        found[_is_odd(X)] = "refer"
        return found


class Witness(BaseEstimator):
    """Answers with what the frame looks like that it is given."""

    def fit(self, X, y=None):
        """Learn nothing."""
        return self

    def predict(self, X):
        """A text for each row: its values, and the types, order, index and writability of its frame."""
        index = "whole" if X.index.equals(pd.RangeIndex(len(X))) else repr(X.index)
        types = ", ".join(f"{name}: {dtype}" for name, dtype in X.dtypes.items())
        kinds = type(X).__name__, type(X.index).__name__, *map(str, _read_only(X))
        rows = [
            " | ".join("missing" if pd.isna(one) else repr(one) for one in X.iloc[row])
            for row in range(len(X))
        ]
        return np.array([f"{kinds} {index} {types}: {row}" for row in rows], dtype=object)


def _read_only(frame):
    """The columns that cannot be written into."""
    for place, name in enumerate(frame.columns):
        try:
            frame.iloc[0, place] = frame.iloc[0, place]
        except ValueError:
            yield f"{name} is read-only"


class SmallDigits(RegressorMixin, BaseEstimator):
    """Numbers of 32 bits: as short or as long everywhere."""

    def fit(self, X, y=None):
        """Learn nothing."""
        return self

    def predict(self, X):
        """A tenth of the second column."""
        return (np.asarray(X.iloc[:, 1], "float32") * np.float32(0.1)).astype("float32")
