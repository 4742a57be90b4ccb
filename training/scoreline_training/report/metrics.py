"""Which rows a pipeline is measured on, its answers for them, and the metrics of these answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from sklearn import metrics
from sklearn.utils import get_tags

from scoreline_artifacts.loading.version import LoadedVersion

MEASURED_ROWS, SCORING_BUDGET_S, PROBED_ROWS = 20_000, 8.0, 200
SHUFFLED_ROWS, SHUFFLES, SHUFFLING_BUDGET_S = 2_000, 3, 3.0

CLOCK = time.perf_counter
Array = npt.NDArray[Any]
Clock = Callable[[], float]


class NotMeasurable(Exception):
    """Raised when a part of the report cannot be made from the data; the message says why."""


class Kind(StrEnum):
    """The kind of question that a pipeline answers."""

    BINARY = "binary classifier"
    MULTICLASS = "multi-class classifier"
    REGRESSION = "regressor"
    OTHER = "pipeline of another kind"
    """A transformer, an outlier detector, a clusterer, or several outputs: no metrics, only a description."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows that a pipeline is measured on, chosen among `of`."""

    frame: pd.DataFrame
    truth: Array | None
    """(rows,) or (rows, outputs); None without usable labels, and `remark` says why."""
    held_out: bool
    of: int
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """A version's answers for (rows,); a classifier's values are names of classes, as text."""

    kind: Kind
    values: Array
    """(rows,) or (rows, outputs)."""
    classes: list[Any] | None = None
    probabilities: Array | None = None
    """(rows, classes)."""
    scores: Array | None = None
    """(rows,): the larger, the more a row is of the second of two classes."""

    @property
    def names(self) -> list[str]:
        """Names of the classes."""
        return [str(label) for label in self.classes or ()]

    def named(self, labels: Array) -> Array:
        """(rows,) Labels as names of classes."""
        names = dict(zip(self.classes or (), self.names, strict=True))
        return np.array([names.get(label, str(label)) for label in labels.tolist()], dtype=object)


def measured_rows(
    version: LoadedVersion, held_out: bool, frame: pd.DataFrame, labels: Any, clock: Clock = CLOCK
) -> Rows:
    """Choose a sample of rows that the pipeline scores in time, and leave out those without a label."""
    of, limit, truth = len(frame), MEASURED_ROWS, np.array(0)
    if of > PROBED_ROWS:
        start = clock()
        version.score(frame.iloc[:PROBED_ROWS])
        per_second = PROBED_ROWS / max(clock() - start, 1e-9)
        limit = min(limit, max(PROBED_ROWS, int(SCORING_BUDGET_S * per_second)))
    chosen, remark = sample(of, limit), ""
    with suppress(ValueError):  # lists of different lengths
        truth = np.asarray(labels)
    if truth.ndim == 2 and truth.shape[-1] == 1:
        truth = truth.reshape(-1)
    has_labels = truth.ndim in (1, 2) and len(truth) == of
    if not has_labels:
        why = "No labels were given" if labels is None else "The labels do not fit the rows"
        remark = f"{why}, so the answers cannot be judged."
    elif (missing := pd.DataFrame(truth[chosen]).isna().any(axis=1).to_numpy()).all():
        has_labels, remark = False, "No row has a label."
    elif missing.any():
        remark = f"{missing.sum():,} rows have no label and are left out."
        chosen, of = chosen[~missing], of - int(missing.sum())
    usable = _plain(truth[chosen]) if has_labels else None
    return Rows(frame=frame.iloc[chosen], truth=usable, held_out=held_out, of=of, remark=remark)


def sample(count: int, limit: int) -> npt.NDArray[np.intp]:
    """Positions of a random sample, in order; the same ones every time."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, limit, replace=False))


def _plain(array: Array) -> Array:
    """An array of Python objects as numbers, if all of them are numbers."""
    numbers = np.asarray(pd.DataFrame(array).infer_objects()).reshape(array.shape)
    return numbers if numbers.dtype.kind in "fiu" else array


def ask(version: LoadedVersion, frame: pd.DataFrame, truth: Array | None = None) -> Answers:
    """Score a frame; `truth` helps where the pipeline itself does not say what kind it is."""
    scored = version.score(frame)
    values, probabilities = _plain(scored.values), scored.probabilities
    if probabilities is not None and not np.isfinite(probabilities).all():
        raise NotMeasurable("Some probabilities are not finite.")
    kind, classes = _kind(version, values, truth)
    scores = None
    if kind is Kind.BINARY and probabilities is not None:
        scores = probabilities[:, 1]
    elif kind is Kind.BINARY and hasattr(version.pipeline, "decision_function"):
        scores = np.asarray(version.pipeline.decision_function(frame), dtype=float)
    answers = Answers(
        kind=kind, values=values, classes=classes, probabilities=probabilities, scores=scores
    )
    return answers if classes is None else replace(answers, values=answers.named(values))


def _kind(version: LoadedVersion, values: Array, truth: Array | None) -> tuple[Kind, Any]:
    """The kind of a pipeline's answers, and the classes of a classifier."""
    try:
        declared = get_tags(version.pipeline).estimator_type
    except Exception:  # noqa: BLE001 - no estimator, or one whose own tags fail, declares nothing
        declared = None
    is_other = values.ndim == 2 or declared in ("outlier_detector", "clusterer")
    if is_other or version.outputs.method == "transform":
        return Kind.OTHER, None
    classes = version.classes or np.ravel(getattr(version.pipeline, "classes_", [])).tolist()
    labels = set(values.tolist())
    if truth is not None and truth.ndim == 1:
        labels |= set(truth.tolist())
    is_text = any(isinstance(label, str | bool) for label in labels)
    if declared == "regressor" or not (classes or declared or is_text):
        return Kind.REGRESSION, None
    classes = classes or sorted(labels, key=lambda label: (str(type(label)), label))
    return (Kind.BINARY if len(classes) == 2 else Kind.MULTICLASS), classes


class Metric(NamedTuple):
    """One way to judge answers; classes are positions among the names, the second one is positive."""

    name: str
    needs: str
    """The field of `Answers` that it judges."""
    of: Callable[[Array, Array], Any]
    """A number, or an array of rows: the metric is their mean, which has a simple 95 % interval."""
    more_is_better: bool = True

    def value(self, truth: Array, answers: Answers) -> float:
        """The metric of encoded answers, or NaN where it is not defined."""
        predicted = getattr(answers, self.needs)
        with suppress(ValueError, IndexError):
            if predicted is not None and np.size(judged := self.of(truth, predicted)):
                return float(np.mean(judged))
        return float("nan")

    def interval(self, truth: Array, answers: Answers) -> tuple[float, float] | None:
        """The 95 % interval, or None where there is no simple formula."""
        predicted = getattr(answers, self.needs)
        if self.name == "ROC AUC":
            return _interval_of_area(truth == 1, predicted)
        rows = self.of(truth, predicted)
        if np.ndim(rows) == 0:
            return None
        if rows.dtype == bool:
            return interval_of_share(rows)
        half = 1.96 * rows.std() / len(rows) ** 0.5
        return float(rows.mean() - half), float(rows.mean() + half)


def interval_of_share(is_hit: Array) -> tuple[float, float]:
    """95 % interval of the share of rows that are true (Wilson's score interval)."""
    ends = stats.binomtest(int(is_hit.sum()), len(is_hit)).proportion_ci(method="wilson")
    return float(ends.low), float(ends.high)


def _interval_of_area(is_positive: Array, scores: Array) -> tuple[float, float]:
    """95 % interval of the area under the ROC curve (Hanley and McNeil, 1982)."""
    area = metrics.roc_auc_score(is_positive, scores)
    positives, negatives = is_positive.sum(), (~is_positive).sum()
    q1, q2 = area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2
    spread = area * (1 - area) + (positives - 1) * q1 + (negatives - 1) * q2
    half = 1.96 * (max(0.0, spread) / (positives * negatives)) ** 0.5
    return float(max(0.0, area - half)), float(min(1.0, area + half))


def _areas(truth: Array, probabilities: Array) -> float:
    """The mean area under the ROC curves of each class against all others."""
    columns = [(truth == label, column) for label, column in enumerate(probabilities.T)]
    areas = [
        metrics.roc_auc_score(is_class, column) for is_class, column in columns if is_class.any()
    ]
    return float(np.mean(areas))


def _log_losses(truth: Array, probabilities: Array) -> Array:
    """(rows,) Losses; raises IndexError if a label is not among the classes."""
    losses: Array = -np.log(np.clip(probabilities[np.arange(len(truth)), truth], 1e-15, None))
    return losses


_ACCURACY = (
    Metric("Accuracy", "values", lambda t, v: t == v),
    Metric("Balanced accuracy", "values", metrics.balanced_accuracy_score),
)
_LOG_LOSS = Metric("Log loss", "probabilities", _log_losses, False)
METRICS: dict[Kind, tuple[Metric, ...]] = {
    Kind.BINARY: (
        Metric("ROC AUC", "scores", lambda t, s: metrics.roc_auc_score(t == 1, s)),
        Metric(
            "Average precision", "scores", lambda t, s: metrics.average_precision_score(t == 1, s)
        ),
        *_ACCURACY,
        Metric("Precision of {}", "values", lambda t, v: t[v == 1] == 1),
        Metric("Recall of {}", "values", lambda t, v: v[t == 1] == 1),
        Metric("F1 of {}", "values", lambda t, v: metrics.f1_score(t == 1, v == 1)),
        _LOG_LOSS,
        Metric("Brier score", "probabilities", lambda t, p: (p[:, 1] - (t == 1)) ** 2, False),
    ),
    Kind.MULTICLASS: (
        Metric("ROC AUC, mean of classes", "probabilities", _areas),
        *_ACCURACY,
        _LOG_LOSS,
        Metric(
            "F1, mean of classes", "values", lambda t, v: metrics.f1_score(t, v, average="macro")
        ),
    ),
    Kind.REGRESSION: (
        Metric("R²", "values", metrics.r2_score),
        Metric("RMSE", "values", metrics.root_mean_squared_error, False),
        Metric("Mean absolute error", "values", lambda t, v: np.abs(v - t), False),
        Metric("Median absolute error", "values", metrics.median_absolute_error, False),
        Metric("Largest error", "values", metrics.max_error, False),
    ),
}
"""The metrics of each kind, the most telling one first."""


class Measure(NamedTuple):
    """The value of a metric."""

    name: str
    value: float
    metric: Metric
    simplest: float = float("nan")
    """The metric of the most frequent class, or of the mean, as the answer for every row."""
    interval: tuple[float, float] | None = None


def encoded(truth: Array, answers: Answers) -> tuple[Array, Answers]:
    """Labels and answers as metrics take them: finite numbers, or positions among the classes.

    Raises:
        NotMeasurable: labels and answers do not fit each other.
    """
    if answers.kind is Kind.OTHER:
        raise NotMeasurable(
            "Metrics are for classifiers and regressors with one output; the answers of this pipeline "
            "are described, not judged."
        )
    if truth.shape != answers.values.shape:
        raise NotMeasurable(f"Labels are {truth.shape}, answers {answers.values.shape} in shape.")
    if answers.classes is None:
        try:
            pair = np.asarray(truth, dtype=float), np.asarray(answers.values, dtype=float)
        except (TypeError, ValueError):
            raise NotMeasurable(
                "Labels or answers are no numbers: no distance is defined."
            ) from None
        if not np.isfinite(pair).all():
            raise NotMeasurable("Some labels or answers are not finite.")
        return pair[0], replace(answers, values=pair[1])
    named, names = answers.named(truth), answers.names
    if not set(named) & set(names):
        raise NotMeasurable(
            f"Labels such as {truth[0]!r} are not classes of the pipeline, such as {names[0]!r}. "
            "Are they encoded on one side only?"
        )
    positions = pd.Index([*names, *sorted(set(named).difference(names))]).get_indexer
    return positions(named), replace(answers, values=positions(answers.values))


def measure(truth: Array, answers: Answers) -> list[Measure]:
    """The metrics that the answers allow, the most telling one first."""
    truth, answers = encoded(truth, answers)
    if answers.classes is None:
        simplest = replace(answers, values=np.full(len(truth), truth.mean()))
    else:
        shares = np.bincount(truth, minlength=len(answers.classes))[: len(answers.classes)] / len(
            truth
        )
        simplest = Answers(
            kind=answers.kind,
            values=np.full(len(truth), shares.argmax()),
            probabilities=np.tile(shares, (len(truth), 1)),
            scores=np.full(len(truth), shares[1]),
        )
    measures = []
    for metric in METRICS[answers.kind]:
        value, name = metric.value(truth, answers), metric.name.format(*answers.names[1:2])
        if not np.isnan(value):
            ends = metric.interval(truth, answers)
            measures.append(Measure(name, value, metric, metric.value(truth, simplest), ends))
    return measures


def importance(
    version: LoadedVersion, rows: Rows, metric: Metric | None, clock: Clock = CLOCK
) -> tuple[pd.Series[float], str]:
    """The mean cost of shuffling a raw column, by column, the largest first, and its unit.

    The cost is that of a metric, or without labels how far the answers move. A slow pipeline has fewer
    repeats, then fewer columns.
    """
    chosen = sample(len(rows.frame), SHUFFLED_ROWS)
    frame, truth = rows.frame.iloc[chosen], None if rows.truth is None else rows.truth[chosen]
    if len(frame) < 2 or frame.columns.empty:
        raise NotMeasurable("It takes two rows and a column at least to shuffle anything.")
    usual = ask(version, frame, truth)
    field = "values" if usual.probabilities is None else "probabilities"
    before = getattr(usual, field)
    is_number = before.dtype.kind in "fiu"

    def cost(answers: Answers) -> float:
        if metric is not None and truth is not None:
            change = metric.value(*encoded(truth, usual)) - metric.value(*encoded(truth, answers))
            return change if metric.more_is_better else -change
        if is_number:
            return float(np.abs(getattr(answers, field) - before).mean() / (np.std(before) or 1.0))
        return float((answers.values != usual.values).mean())

    generator, end = np.random.default_rng(0), clock() + SHUFFLING_BUDGET_S
    costs: dict[str, list[float]] = {}
    for name in [*frame.columns] * SHUFFLES:
        if clock() > end:
            break
        shuffled = frame.copy(deep=False)
        moved = frame[name].iloc[generator.permutation(len(frame))]
        shuffled[name] = moved.set_axis(frame.index)
        costs.setdefault(name, []).append(cost(ask(version, shuffled, truth)))
    means = pd.Series({name: np.mean(changes) for name, changes in costs.items()}, dtype=float)
    if not np.isfinite(means).all():
        raise NotMeasurable("Some answers are not finite: how far they move cannot be measured.")
    unit = "mean change, in standard deviations" if is_number else "share of answers that change"
    if metric is not None:
        unit = f"{'drop' if metric.more_is_better else 'rise'} of {metric.name}"
    return means.sort_values(ascending=False, kind="stable"), unit
