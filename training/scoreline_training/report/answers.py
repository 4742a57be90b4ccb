"""What kind of question a pipeline answers, and its answers for a frame."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_training.report.data import NotMeasurable

Array = npt.NDArray[Any]


class Kind(StrEnum):
    """What a pipeline is for; decides what is worth drawing."""

    BINARY = "binary classifier"
    """One of two classes."""
    MULTICLASS = "multi-class classifier"
    """One of several classes."""
    REGRESSION = "regressor"
    """A number."""
    MULTI_OUTPUT = "several outputs"
    """Several values for each row."""
    OUTLIERS = "outlier detector"
    """1 for a usual row, -1 for an unusual one."""
    TRANSFORMER = "transformer"
    """Features, without a model behind them."""

    @property
    def is_classifier(self) -> bool:
        """Whether there are classes, a confusion matrix and the like."""
        return self in (Kind.BINARY, Kind.MULTICLASS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a version says about the rows of a frame."""

    kind: Kind
    values: Array
    """(rows,) or (rows, outputs)."""
    classes: list[Any] | None = None
    """Known classes in the pipeline's order, for classifiers."""
    probabilities: Array | None = None
    """(rows, classes)."""
    scores: Array | None = None
    """(rows,): the larger, the more the second class, or the more usual; for two classes or outliers."""

    @property
    def ranking(self) -> Array | None:
        """What rows can be ordered by for the second of two classes: probability or score."""
        if self.kind is not Kind.BINARY or self.probabilities is None:
            return self.scores
        return self.probabilities[:, 1]


def ask(version: LoadedVersion, frame: pd.DataFrame, truth: Array | None = None) -> Answers:
    """Score a frame and find out what kind of answers came back.

    `truth` helps only where the pipeline does not say of itself what it is.

    Raises:
        NotMeasurable: some probabilities are no numbers.
        Exception: whatever the pipeline raises.
    """
    found = version.score(frame)
    if found.probabilities is not None and not np.isfinite(found.probabilities).all():
        raise NotMeasurable("Some probabilities are not finite.")
    values = plain(found.values)
    kind, classes = _kind(version, values, truth)
    scores = (
        _scores(version.pipeline, frame) if _may_have_scores(kind, found.probabilities) else None
    )
    return Answers(
        kind=kind, values=values, classes=classes, probabilities=found.probabilities, scores=scores
    )


def _kind(
    version: LoadedVersion, values: Array, truth: Array | None
) -> tuple[Kind, list[Any] | None]:
    if version.outputs.method == "transform":
        return Kind.TRANSFORMER, None
    if values.ndim == 2:
        return Kind.MULTI_OUTPUT, None
    said = estimator_type(version.pipeline)
    if said == "outlier_detector":
        return Kind.OUTLIERS, None
    if said == "regressor":
        return Kind.REGRESSION, None
    classes = version.classes or _classes(version.pipeline)
    if classes is None and said == "clusterer":
        classes = _found_classes(values, None)
    if classes is None and (said == "classifier" or _is_nominal(values, truth)):
        classes = _found_classes(values, truth)
    if classes is None:
        return Kind.REGRESSION, None
    return (Kind.BINARY if len(classes) == 2 else Kind.MULTICLASS), classes


def estimator_type(pipeline: Any) -> str | None:
    """What scikit-learn takes it for: classifier, regressor, outlier_detector, …; None if it is silent."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tags = getattr(pipeline, "__sklearn_tags__", None)
            found = tags().estimator_type if tags else getattr(pipeline, "_estimator_type", None)
    # Tags are computed by the estimator's own code; one that fails at it says nothing.
    except Exception:  # noqa: BLE001
        return None
    return found if isinstance(found, str) else None


def plain(array: Array) -> Array:
    """An array of Python objects as numbers, where all of them are."""
    if array.dtype.kind != "O":
        return array
    found = np.asarray(pd.DataFrame(array).infer_objects()).reshape(array.shape)
    return found if found.dtype.kind in "fiu" else array


def _classes(pipeline: Any) -> list[Any] | None:
    found = getattr(pipeline, "classes_", None)
    return found.tolist() if isinstance(found, np.ndarray) and found.ndim == 1 else None


def _is_nominal(values: Array, truth: Array | None) -> bool:
    if values.dtype.kind in "OUSb":
        return True
    return truth is not None and truth.ndim == 1 and _is_text(truth)


def _is_text(array: Array) -> bool:
    return array.dtype.kind in "US" or (
        array.dtype.kind == "O" and any(isinstance(one, str) for one in array[:100])
    )


def _found_classes(values: Array, truth: Array | None) -> list[Any]:
    found = set(values.tolist()) | (set() if truth is None else set(truth.tolist()))
    return sorted(found, key=lambda one: (str(type(one)), one))


def _may_have_scores(kind: Kind, probabilities: Array | None) -> bool:
    return kind is Kind.OUTLIERS or (kind is Kind.BINARY and probabilities is None)


def _scores(pipeline: Any, frame: pd.DataFrame) -> Array | None:
    method = getattr(pipeline, "decision_function", None)
    if method is None:
        return None
    found = np.asarray(method(frame), dtype=float)
    return found if found.shape == (len(frame),) else None
