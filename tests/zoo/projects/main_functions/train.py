"""everything in one script: functions, classes with super(), a dataclass, an enum, constants"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scoreline_training import publish

FACTOR = 3
TABLE = {"bmi": 1.5, "bp": 0.5}


class Side(Enum):
    LEFT = 1
    RIGHT = 2


@dataclass(frozen=True)
class Limits:
    low: float
    side: Side = Side.LEFT


class Step(TransformerMixin, BaseEstimator):
    def __init__(self, limits=Limits(-0.1)):
        self.limits = limits

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X


class Clip(Step):
    def transform(self, X):
        X = super().transform(X)
        return X.clip(lower=self.limits.low) if self.limits.side is Side.LEFT else X


def weigh(frame):
    return frame.assign(**{name: scale(frame[name], by) for name, by in TABLE.items()})


def scale(column, by):
    return np.tanh(FACTOR * by * column)


def main():
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    model = make_pipeline(
        Clip(), FunctionTransformer(weigh), Clip(Limits(-1, Side.RIGHT)), LinearRegression()
    )
    publish(model.fit(X, y), "main-functions", X, y)


if __name__ == "__main__":
    main()
