"""Trains a classifier for the Pima Indians Diabetes data and measures it on held-out rows.

768 women of Pima heritage, eight measurements, and whether diabetes was found within five years. The
data comes from the National Institute of Diabetes and Digestive and Kidney Diseases, here by way of
the R package mlbench 2.1-3 (PimaIndiansDiabetes).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from joblib.externals.loky import get_reusable_executor
from rich.console import Group
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, roc_auc_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn_pandas import DataFrameMapper

from scoreline_training.jobs.pima.features import is_at_least

FEATURES = ["preg", "plas", "pres", "skin", "test", "mass", "pedi", "age"]
LABEL = "label"
SENIOR_YEARS = 50
STRENGTHS = (0.01, 0.1, 1.0, 10.0)


@dataclass(frozen=True, slots=True)
class Split:
    """Training and hold-out rows."""

    X_train: pd.DataFrame
    X_test: pd.DataFrame
    y_train: pd.Series[Any]
    y_test: pd.Series[Any]


@dataclass(frozen=True, slots=True)
class BinaryMetrics:
    """How good a binary classifier is on held-out rows."""

    rows: int
    accuracy: float
    """Share of rows whose class was predicted, 0 to 1."""
    roc_auc: float
    """Area under the ROC curve, 0 to 1."""
    confusion_matrix: list[list[int]]
    """Rows: the true class; columns: the predicted one."""
    classes: list[Any]

    @classmethod
    def measure(cls, pipeline: Any, X: Any, y: Any) -> BinaryMetrics:  # noqa: N803
        """Score held-out rows."""
        predicted = pipeline.predict(X)
        return cls(
            rows=len(y),
            accuracy=float(accuracy_score(y, predicted)),
            roc_auc=float(roc_auc_score(y, pipeline.predict_proba(X)[:, 1])),
            confusion_matrix=confusion_matrix(y, predicted).tolist(),
            classes=pipeline.classes_.tolist(),
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    def __rich__(self) -> Group:
        figures = Table(show_header=False, box=None, padding=(0, 2))
        figures.add_row("hold-out rows", str(self.rows))
        figures.add_row("accuracy", f"{self.accuracy:.4f}")
        figures.add_row("ROC AUC", f"{self.roc_auc:.4f}")
        matrix = Table(title="confusion matrix", title_justify="left")
        matrix.add_column("")
        for label in self.classes:
            matrix.add_column(f"predicted {label}", justify="right")
        for label, row in zip(self.classes, self.confusion_matrix, strict=True):
            matrix.add_row(f"true {label}", *map(str, row))
        return Group(figures, matrix)


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted pipeline with its data, its hold-out metrics and its parameters."""

    pipeline: Pipeline
    split: Split
    metrics: BinaryMetrics
    parameters: dict[str, Any]


def load_split() -> Split:
    """The data, split as in the literature: a third held out, seed 42."""
    path = resources.files("scoreline_training.jobs.pima").joinpath("pima-indians-diabetes.csv")
    with path.open() as file:
        data = pd.read_csv(file)
    return Split(*train_test_split(data[FEATURES], data[LABEL], test_size=0.33, random_state=42))


def make_mapper() -> DataFrameMapper:
    """The raw features, log1p of the body mass index, and whether somebody is a senior."""
    senior = FunctionTransformer(partial(is_at_least, years=SENIOR_YEARS))
    return DataFrameMapper(
        [
            (["mass"], FunctionTransformer(np.log1p), {"alias": "log_mass"}),
            (["age"], senior, {"alias": "is_senior"}),
            (FEATURES, None),
        ]
    )


def make_pipeline() -> Pipeline:
    """Features and model in one object that takes raw records."""
    return Pipeline(
        [
            ("features", make_mapper()),
            ("scale", StandardScaler()),
            ("model", LogisticRegression(solver="liblinear")),
        ]
    )


def ranking_score(estimator: Any, X: pd.DataFrame, y: npt.ArrayLike) -> float:  # noqa: N803
    """The score that the grid search maximises: area under the ROC curve."""
    return float(roc_auc_score(y, estimator.predict_proba(X)[:, 1]))


def train(strengths: tuple[float, ...] = STRENGTHS) -> Trained:
    """Search for the best regularisation, fit it on the training rows, measure it on the others.

    `strengths` are the values of C, the inverse of the regularisation's strength, that are tried.
    """
    split = load_split()
    search = GridSearchCV(
        make_pipeline(), {"model__C": list(strengths)}, scoring=ranking_score, cv=5, n_jobs=2
    )
    try:
        search.fit(split.X_train, split.y_train)
    finally:
        # Its processes would wait for more work for minutes, and outlive this one for a while.
        get_reusable_executor().shutdown(wait=True)
    # The best pipeline, not the search: a worker has no use for the search's history.
    pipeline = search.best_estimator_
    metrics = BinaryMetrics.measure(pipeline, split.X_test, split.y_test)
    parameters = {**search.best_params_, "cross_validated_roc_auc": float(search.best_score_)}
    return Trained(pipeline, split, metrics, parameters)
