"""Headline figures: how good the answers are, each as one number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import metrics

from scoreline_training.report import intervals
from scoreline_training.report.answers import Answers, Array, Kind
from scoreline_training.report.classes import Labelled, area_under_roc, labelled
from scoreline_training.report.data import NotMeasurable
from scoreline_training.report.intervals import Interval


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure."""

    name: str
    value: float
    more_is_better: bool = True
    baseline: float | None = None
    """What the simplest answer would have: the most frequent class, the mean."""
    interval: Interval | None = None
    """The 95 % interval that the number of rows allows; None where there is no simple one."""


def measure(truth: Array, answers: Answers) -> list[Measure]:
    """All headline figures that the answers allow, most telling first.

    Raises:
        NotMeasurable: labels and answers cannot be compared.
    """
    return list(_measures(truth, answers))


def headline(truth: Array, answers: Answers) -> Measure:
    """Only the most telling figure, without the cost of the others.

    Raises:
        NotMeasurable: labels and answers cannot be compared.
    """
    return next(iter(_measures(truth, answers)))


def _measures(truth: Array, answers: Answers) -> Iterable[Measure]:
    if len(truth) == 0:
        raise NotMeasurable("There are no labelled rows.")
    if answers.kind.is_classifier:
        if truth.ndim != 1:
            raise NotMeasurable(
                f"Labels have {truth.shape[1]} columns, the pipeline gives one class."
            )
        return _of_classes(labelled(truth, answers), answers)
    if answers.kind is Kind.REGRESSION:
        return _of_numbers(*numeric(truth, answers.values))
    if answers.kind is Kind.MULTI_OUTPUT:
        return _of_outputs(truth, answers.values)
    if answers.kind is Kind.OUTLIERS:
        return _of_outliers(truth, answers)
    raise NotMeasurable("A transformer's output has no label to be compared with.")


def numeric(truth: Array, values: Array) -> tuple[Array, Array]:
    """Both as finite numbers.

    Raises:
        NotMeasurable: they are none.
    """
    try:
        pair = np.asarray(truth, dtype=float), np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise NotMeasurable(
            "Labels or answers are no numbers, so no distance is defined."
        ) from None
    if pair[0].shape != pair[1].shape:
        raise NotMeasurable(f"Labels are of shape {pair[0].shape}, answers of {pair[1].shape}.")
    if not (np.isfinite(pair[0]).all() and np.isfinite(pair[1]).all()):
        raise NotMeasurable("Some labels or answers are not finite.")
    return pair


def _of_classes(found: Labelled, answers: Answers) -> Iterable[Measure]:
    yield from _of_ranking(found, answers)
    rows = len(found.truth)
    counts = np.bincount(found.truth, minlength=len(found.names))
    right = float((found.truth == found.predicted).mean())
    most = float(counts.max()) / rows
    yield Measure("Accuracy", right, baseline=most, interval=intervals.wilson(right, rows))
    occurring = np.flatnonzero(counts)
    recalls = [float((found.predicted[found.truth == one] == one).mean()) for one in occurring]
    yield Measure(
        "Balanced accuracy",
        float(np.mean(recalls)),
        baseline=1 / len(occurring),
        interval=intervals.of_mean_of_shares(recalls, counts[occurring].tolist()),
    )
    if answers.kind is Kind.BINARY:
        yield from _of_positive(found)
    else:
        f1 = metrics.f1_score(found.truth, found.predicted, average="macro", zero_division=0.0)
        yield Measure("F1, mean of classes", float(f1))
    yield from _of_probabilities(found, answers)


def _of_ranking(found: Labelled, answers: Answers) -> Iterable[Measure]:
    if answers.kind is Kind.BINARY and answers.ranking is not None:
        positive = found.truth == 1
        if 0 < positive.mean() < 1:
            yield from _of_binary_ranking(positive, answers.ranking)
    elif answers.probabilities is not None:
        areas = [
            area_under_roc(found.truth == place, answers.probabilities[:, place])
            for place in range(found.known)
            if 0 < (found.truth == place).mean() < 1
        ]
        if areas:
            yield Measure("ROC AUC, mean of classes", float(np.mean(areas)), baseline=0.5)


def _of_binary_ranking(positive: Array, ranking: Array) -> Iterable[Measure]:
    count = int(positive.sum())
    area = area_under_roc(positive, ranking)
    interval = intervals.of_auc(area, count, len(positive) - count)
    yield Measure("ROC AUC", area, baseline=0.5, interval=interval)
    precision = float(metrics.average_precision_score(positive, ranking))
    interval = intervals.of_average_precision(precision, count)
    base = count / len(positive)
    yield Measure("Average precision", precision, baseline=base, interval=interval)


def _of_positive(found: Labelled) -> Iterable[Measure]:
    name = found.names[1]
    positive, said = found.truth == 1, found.predicted == 1
    hits = int((positive & said).sum())
    for title, of in (("Precision", int(said.sum())), ("Recall", int(positive.sum()))):
        if of:
            yield Measure(f"{title} of {name}", hits / of, interval=intervals.wilson(hits / of, of))
    either = int((positive | said).sum())
    if either:
        # F1 grows with the share of hits among the rows that are, or are called, positive.
        low, high = (2 * one / (1 + one) for one in intervals.wilson(hits / either, either))
        yield Measure(f"F1 of {name}", 2 * hits / (either + hits), interval=(low, high))


def _of_probabilities(found: Labelled, answers: Answers) -> Iterable[Measure]:
    if answers.probabilities is None or (found.truth >= found.known).any():
        return
    given = np.clip(answers.probabilities, 1e-15, None)
    given = given / given.sum(axis=1, keepdims=True)
    rows = np.arange(len(found.truth))
    shares = np.bincount(found.truth, minlength=found.known) / len(found.truth)
    entropy = -float(sum(one * np.log(one) for one in shares if one > 0))
    yield _of_losses("Log loss", -np.log(given[rows, found.truth]), entropy)
    if answers.kind is Kind.BINARY:
        losses = (answers.probabilities[:, 1] - (found.truth == 1)) ** 2
        yield _of_losses("Brier score", losses, float(shares[1] * (1 - shares[1])))


def _of_losses(name: str, losses: Array, baseline: float) -> Measure:
    """A mean of losses, one for each row."""
    return Measure(name, float(losses.mean()), False, baseline, intervals.of_mean(losses))


def _of_numbers(truth: Array, values: Array) -> Iterable[Measure]:
    errors = np.abs(values - truth)
    spread = float(((truth - truth.mean()) ** 2).mean())
    square = float((errors**2).mean())
    low, high = intervals.of_mean(errors**2)
    if spread > 0:
        # The spread of the truth is taken as known.
        yield Measure(
            "R²", 1 - square / spread, baseline=0.0, interval=(1 - high / spread, 1 - low / spread)
        )
    roots = math.sqrt(max(0.0, low)), math.sqrt(high)
    yield Measure("RMSE", math.sqrt(square), False, math.sqrt(spread), roots)
    yield _of_losses("Mean absolute error", errors, float(np.abs(truth - truth.mean()).mean()))
    middle = float(np.median(np.abs(truth - np.median(truth))))
    yield Measure("Median absolute error", float(np.median(errors)), False, middle)
    yield Measure("Largest error", float(errors.max()), False)


def _of_outputs(truth: Array, values: Array) -> Iterable[Measure]:
    if truth.shape != values.shape:
        raise NotMeasurable(
            f"Labels are of shape {truth.shape} and answers of {values.shape}; there must be one "
            "label for each output."
        )
    if is_continuous(truth):
        each = [metrics.r2_score(truth[:, one], values[:, one]) for one in range(values.shape[1])]
        yield Measure("R², mean of outputs", float(np.mean(each)), baseline=0.0)
        pair = numeric(truth, values)
        yield Measure("Mean absolute error", float(np.abs(pair[0] - pair[1]).mean()), False)
    else:
        same = truth == values
        yield Measure("Outputs right", float(same.mean()))
        yield Measure("Rows all right", float(same.all(axis=1).mean()))


def is_continuous(truth: Array) -> bool:
    """Whether labels are amounts rather than classes."""
    if truth.dtype.kind != "f":
        return False
    return bool((truth != np.round(truth)).any())


def _of_outliers(truth: Array, answers: Answers) -> Iterable[Measure]:
    if truth.ndim != 1 or not set(truth.tolist()) <= {-1, 1}:
        raise NotMeasurable(
            "An outlier detector answers 1 for usual and -1 for unusual rows; labels of another kind "
            "cannot be compared with that."
        )
    odd = truth == -1
    if odd.any() and not odd.all() and answers.scores is not None:
        yield Measure("ROC AUC", area_under_roc(odd, -answers.scores), baseline=0.5)
    said = answers.values == -1
    yield Measure(
        "Accuracy", float((said == odd).mean()), baseline=float(max(odd.mean(), 1 - odd.mean()))
    )
    for title, score in (("Precision", metrics.precision_score), ("Recall", metrics.recall_score)):
        yield Measure(f"{title} of outliers", float(score(odd, said, zero_division=0.0)))


def objective(truth: Array | None, answers: Answers) -> tuple[str, Callable[[Answers], float]]:
    """The one figure by which a pipeline's answers are judged when a column is shuffled.

    With labels it is the loss of the first headline figure; without, how far the answers move.
    """
    if truth is not None:
        try:
            first = headline(truth, answers)
        except NotMeasurable:
            return movement(answers)
        sign = 1.0 if first.more_is_better else -1.0
        verb = "drop" if first.more_is_better else "rise"
        return (
            f"{verb} of {first.name}",
            lambda other: sign * (first.value - headline(truth, other).value),
        )
    return movement(answers)


def movement(answers: Answers) -> tuple[str, Callable[[Answers], float]]:
    """How far answers move from these, without asking which are right."""
    if answers.probabilities is not None:
        return "mean change of the probabilities", lambda other: float(
            np.abs(_known(other.probabilities) - _known(answers.probabilities)).mean()
        )
    if answers.scores is not None:
        return "mean change of the score", lambda other: float(
            np.abs(_known(other.scores) - _known(answers.scores)).mean()
        )
    if answers.values.dtype.kind in "fiu" and not answers.kind.is_classifier:
        spread = float(np.std(answers.values)) or 1.0
        return "mean change, in standard deviations of the answers", lambda other: float(
            np.abs(np.asarray(other.values, float) - answers.values).mean() / spread
        )
    return "share of answers that change", lambda other: float(
        (np.asarray(other.values) != answers.values).mean()
    )


def _known(array: Array | None) -> Any:
    return np.nan if array is None else array
