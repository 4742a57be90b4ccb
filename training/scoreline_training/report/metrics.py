"""Which rows a pipeline is measured on, what it answers for them, and how good that is in figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from sklearn import metrics
from sklearn.dummy import DummyRegressor
from sklearn.inspection import permutation_importance
from sklearn.utils import get_tags

from scoreline_artifacts.loading.version import LoadedVersion

MEASURED_ROWS, SCORING_BUDGET_S, PROBED_ROWS = 20_000, 8.0, 200
SHUFFLED_ROWS, SHUFFLED_COLUMNS, SHUFFLES, SHUFFLING_BUDGET_S = 2_000, 200, 150, 3.0

CLOCK = time.perf_counter
Array = npt.NDArray[Any]
Clock = Callable[[], float]


class NotMeasurable(Exception):
    """Raised when a part of the report cannot be made from the data; the message says why."""


class Kind(StrEnum):
    """The kind of question that a pipeline answers; an outlier detector has the classes 1 and -1."""

    BINARY = "binary classifier"
    MULTICLASS = "multi-class classifier"
    OUTLIERS = "outlier detector"
    REGRESSION = "regressor"
    MULTI_OUTPUT = "several outputs"
    TRANSFORMER = "transformer"


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
    """What a version answers for (rows,); a classifier's values are names of classes, as text."""

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
        return [str(one) for one in self.classes or ()]

    def named(self, labels: Array) -> Array:
        """(rows,) Labels as names of classes."""
        names = {one: str(one) for one in self.classes or ()}
        return np.array([names.get(one, str(one)) for one in labels.tolist()], dtype=object)


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure for how good the answers are."""

    name: str
    value: float
    more_is_better: bool = True
    baseline: float | None = None
    """The figure of the simplest answer: chance, the most frequent class, the mean."""
    interval: tuple[float, float] | None = None
    """95 % interval; None where there is no simple formula."""


def measured_rows(
    version: LoadedVersion, held_out: bool, frame: pd.DataFrame, labels: Any, clock: Clock = CLOCK
) -> Rows:
    """Choose a sample of rows that the pipeline scores in time, and leave out those without a label."""
    of, limit, truth = len(frame), MEASURED_ROWS, np.array(0)
    if of > PROBED_ROWS:
        for _ in range(2):  # the first call may pay for what a pipeline does only once
            start = clock()
            version.score(frame.iloc[:PROBED_ROWS])
            seconds = max(clock() - start, 1e-9)
        limit = min(limit, max(PROBED_ROWS, int(SCORING_BUDGET_S * PROBED_ROWS / seconds)))
    kept, remark = sample(of, limit), ""
    with suppress(ValueError):  # lists of different lengths
        truth = np.asarray(labels.to_numpy() if hasattr(labels, "to_numpy") else labels)
    if truth.ndim == 2 and truth.shape[-1] == 1:
        truth = truth.reshape(-1)
    has_labels = truth.ndim in (1, 2) and len(truth) == of
    if not has_labels:
        why = "No labels were given" if labels is None else "The labels do not fit the rows"
        remark = f"{why}, so the answers cannot be judged."
    elif (missing := pd.DataFrame(truth[kept]).isna().any(axis=1).to_numpy()).all():
        has_labels, remark = False, "No row has a label."
    elif missing.any():
        remark = f"{missing.sum():,} rows have no label and are left out."
        kept, of = kept[~missing], of - int(missing.sum())
    known = _plain(truth[kept]) if has_labels else None
    return Rows(frame=frame.iloc[kept], truth=known, held_out=held_out, of=of, remark=remark)


def sample(count: int, limit: int) -> npt.NDArray[np.intp]:
    """Positions of a random sample, in order; the same ones every time."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, limit, replace=False))


def _plain(array: Array) -> Array:
    """An array of Python objects as numbers, if all of them are numbers."""
    found = np.asarray(pd.DataFrame(array).infer_objects()).reshape(array.shape)
    return found if found.dtype.kind in "fiu" else array


def ask(version: LoadedVersion, frame: pd.DataFrame, truth: Array | None = None) -> Answers:
    """Score a frame; `truth` helps where the pipeline itself does not say what kind it is."""
    found = version.score(frame)
    values, given = _plain(found.values), found.probabilities
    if given is not None and not np.isfinite(given).all():
        raise NotMeasurable("Some probabilities are not finite.")
    kind, classes = _kind(version, values, truth)
    scores = given[:, 1] if kind is Kind.BINARY and given is not None else None
    decide = getattr(version.pipeline, "decision_function", None)
    if scores is None and decide is not None and kind in (Kind.BINARY, Kind.OUTLIERS):
        # An outlier detector gives more to what is usual.
        scores = np.asarray(decide(frame), dtype=float) * (-1 if kind is Kind.OUTLIERS else 1)
    answers = Answers(kind=kind, values=values, classes=classes, probabilities=given, scores=scores)
    return answers if classes is None else replace(answers, values=answers.named(values))


def _kind(version: LoadedVersion, values: Array, truth: Array | None) -> tuple[Kind, Any]:
    """The kind of a pipeline's answers, and the classes of a classifier."""
    if version.outputs.method == "transform":
        return Kind.TRANSFORMER, None
    if values.ndim == 2:
        return Kind.MULTI_OUTPUT, None
    try:
        declared = get_tags(version.pipeline).estimator_type
    except Exception:  # noqa: BLE001 - no estimator, or one whose own tags fail, declares nothing
        declared = getattr(version.pipeline, "_estimator_type", None)
    if declared == "outlier_detector":
        return Kind.OUTLIERS, [1, -1]
    classes = version.classes or np.ravel(getattr(version.pipeline, "classes_", [])).tolist()
    seen = set(values.tolist())
    if truth is not None and truth.ndim == 1 and declared != "clusterer":
        seen |= set(truth.tolist())
    is_text = any(isinstance(one, str | bool) for one in seen)
    if declared == "regressor" or not (classes or declared or is_text):
        return Kind.REGRESSION, None
    classes = classes or sorted(seen, key=lambda one: (str(type(one)), one))
    return (Kind.BINARY if len(classes) == 2 else Kind.MULTICLASS), classes


def measure(truth: Array, answers: Answers) -> Iterable[Measure]:
    """Figures that the answers allow, the most telling one first, each computed when it is taken."""
    if answers.kind is Kind.TRANSFORMER:
        raise NotMeasurable("A transformer's output has no label to be compared with.")
    if truth.shape != answers.values.shape:
        raise NotMeasurable(f"Labels are {truth.shape}, answers {answers.values.shape} in shape.")
    if answers.classes is not None:
        others = set(truth.tolist()).difference(answers.classes)
        if others.issuperset(truth.tolist()) or (others and answers.kind is Kind.OUTLIERS):
            raise NotMeasurable(
                f"Labels such as {truth[0]!r} are not classes of the pipeline, such as "
                f"{next(iter(answers.classes), None)!r}. Are they encoded on one side only?"
            )
        return _of_classes(answers.named(truth), answers)
    if answers.kind is Kind.MULTI_OUTPUT and answers.values.dtype.kind != "f":
        same = truth == answers.values
        shares = {"Outputs right": same.mean(), "Rows all right": same.all(axis=1).mean()}
        return [Measure(name, float(share)) for name, share in shares.items()]
    try:
        pair = np.asarray(truth, dtype=float), np.asarray(answers.values, dtype=float)
    except (TypeError, ValueError):
        raise NotMeasurable("Labels or answers are no numbers: no distance is defined.") from None
    if not np.isfinite(pair).all():
        raise NotMeasurable("Some labels or answers are not finite.")
    if answers.kind is Kind.REGRESSION:
        return _of_numbers(*pair)
    r2 = Measure("R², mean of outputs", float(metrics.r2_score(*pair)), baseline=0.0)
    return [r2, Measure("Mean absolute error", float(np.abs(pair[0] - pair[1]).mean()), False)]


def _of_classes(truth: Array, answers: Answers) -> Iterable[Measure]:
    names, given, predicted = answers.names, answers.probabilities, answers.values
    shares, right = pd.Series(truth).value_counts(normalize=True), truth == predicted
    positive, flagged = truth == names[1], predicted == names[1]
    if answers.scores is not None and positive.any() and not positive.all():
        yield _of_roc(positive, answers.scores)
        precision = float(metrics.average_precision_score(positive, answers.scores))
        yield Measure("Average precision", precision, baseline=float(positive.mean()))
    elif answers.kind is Kind.MULTICLASS and given is not None and len(shares) > 1:
        columns = [(truth == name, given[:, place]) for place, name in enumerate(names)]
        areas = [metrics.roc_auc_score(*pair) for pair in columns if pair[0].any()]
        yield Measure("ROC AUC, mean of classes", float(np.mean(areas)), baseline=0.5)
    yield Measure("Accuracy", float(right.mean()), True, shares.max(), interval_of_share(right))
    recall = metrics.recall_score(truth, predicted, average="macro", labels=shares.index)
    yield Measure("Balanced accuracy", float(recall), baseline=1 / len(shares))
    if answers.kind is Kind.MULTICLASS:
        f1 = metrics.f1_score(truth, predicted, average="macro", zero_division=0.0)
        yield Measure("F1, mean of classes", float(f1))
    else:
        for name, of in (("Precision", positive[flagged]), ("Recall", flagged[positive])):
            if len(of):
                share, interval = float(of.mean()), interval_of_share(of)
                yield Measure(f"{name} of {names[1]}", share, interval=interval)
        f1 = metrics.f1_score(positive, flagged, zero_division=0.0)
        yield Measure(f"F1 of {names[1]}", float(f1))
    if given is not None and shares.index.isin(names).all():
        likely = given[np.arange(len(truth)), pd.Index(names).get_indexer(truth)]
        losses = -np.log(np.clip(likely / given.sum(axis=1), 1e-15, None))
        yield _of_losses("Log loss", losses, float(stats.entropy(shares)))
        if answers.kind is Kind.BINARY:
            losses = (given[:, 1] - positive) ** 2
            yield _of_losses("Brier score", losses, float(positive.var()))


def _of_roc(positive: Array, scores: Array) -> Measure:
    """The area under the ROC curve, with the interval of Hanley and McNeil (1982)."""
    count, others = int(positive.sum()), int((~positive).sum())
    area = float(metrics.roc_auc_score(positive, scores))
    one, two = area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2
    spread = (area * (1 - area) + (count - 1) * one + (others - 1) * two) / (count * others)
    half = 1.96 * max(0.0, spread) ** 0.5
    return Measure("ROC AUC", area, True, 0.5, (max(0.0, area - half), min(1.0, area + half)))


def _of_numbers(truth: Array, predicted: Array) -> Iterable[Measure]:
    errors, spread = np.abs(predicted - truth), float(truth.var())
    square = _of_losses("Mean squared error", errors**2, spread)
    low, high = square.interval or (0.0, 0.0)
    if spread > 0:
        # The spread of the labels is taken as known.
        interval = 1 - high / spread, 1 - low / spread
        yield Measure("R²", float(metrics.r2_score(truth, predicted)), True, 0.0, interval)
    interval = max(0.0, low) ** 0.5, high**0.5
    yield Measure("RMSE", square.value**0.5, False, spread**0.5, interval)
    yield _of_losses("Mean absolute error", errors, float(np.abs(truth - truth.mean()).mean()))
    middle = float(np.median(np.abs(truth - np.median(truth))))
    yield Measure("Median absolute error", float(np.median(errors)), False, middle)
    yield Measure("Largest error", float(errors.max()), False)


def _of_losses(name: str, losses: Array, baseline: float) -> Measure:
    """A mean of losses, (rows,), with the interval of the normal distribution."""
    mean, half = float(np.mean(losses)), 1.96 * float(np.std(losses)) / len(losses) ** 0.5
    return Measure(name, mean, False, baseline, (mean - half, mean + half))


def interval_of_share(is_hit: Array) -> tuple[float, float]:
    """95 % interval of the share of rows that are true (Wilson's score interval)."""
    found = stats.binomtest(int(is_hit.sum()), len(is_hit)).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def importance(
    version: LoadedVersion, rows: Rows, clock: Clock = CLOCK
) -> tuple[pd.DataFrame, str]:
    """What shuffling a raw column costs, (repeats, columns), the largest cost first, and its unit.

    A slow pipeline has fewer repeats, then fewer columns.
    """
    kept = sample(len(rows.frame), SHUFFLED_ROWS)
    frame, truth = rows.frame.iloc[kept], None if rows.truth is None else rows.truth[kept]
    if len(frame) < 2 or frame.columns.empty:
        raise NotMeasurable("It takes two rows and a column at least to shuffle anything.")
    unit, loss = objective(truth, ask(version, frame, truth))

    def score(_: object, shuffled: pd.DataFrame, __: object) -> float:
        whole = frame.copy(deep=False)
        whole[shuffled.columns] = shuffled
        return -loss(ask(version, whole, truth))

    start = clock()
    score(None, frame, None)
    calls = int(SHUFFLING_BUDGET_S / max(clock() - start, 1e-9))
    names = frame.columns[: min(SHUFFLED_COLUMNS, calls)]
    if names.empty:
        raise NotMeasurable("The pipeline is too slow to be asked again for every column.")
    repeats = min(max(2, min(5, SHUFFLES // len(names))), calls // len(names))
    # The estimator goes to `score` alone, which asks the pipeline in its own way.
    drops = permutation_importance(
        DummyRegressor(), frame[names], None, scoring=score, n_repeats=repeats, random_state=0
    ).importances
    if not np.isfinite(drops).all():
        raise NotMeasurable("Some answers are not finite: how far they move cannot be measured.")
    order = np.argsort(-drops.mean(axis=1), kind="stable")
    return pd.DataFrame(drops[order].T, columns=names[order]), unit


def objective(truth: Array | None, answers: Answers) -> tuple[str, Callable[[Answers], float]]:
    """The loss of the first figure, or without labels how far answers move: its name, and it."""
    with suppress(NotMeasurable):
        if truth is not None:
            first = next(iter(measure(truth, answers)))
            sign, verb = (1.0, "drop") if first.more_is_better else (-1.0, "rise")
            return (
                f"{verb} of {first.name}",
                lambda other: sign * (first.value - next(iter(measure(truth, other))).value),
            )
    name = "values" if answers.probabilities is None else "probabilities"
    usual = getattr(answers, name)
    if usual.dtype.kind not in "fiu":
        return "share of answers that change", lambda other: float((other.values != usual).mean())
    spread = float(np.std(usual)) or 1.0
    unit = "mean change, in standard deviations of the answers"
    return unit, lambda other: float(np.abs(getattr(other, name) - usual).mean() / spread)
