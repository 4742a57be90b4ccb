"""Figures about classifiers: curves, confusion, calibration, thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn import metrics

from scoreline_training.report.answers import Answers, Array, Kind
from scoreline_training.report.data import NotMeasurable
from scoreline_training.report.intervals import wilson

CALIBRATION_BINS = 10


@dataclass(frozen=True, slots=True)
class Labelled:
    """Truth and predictions as places in one list of classes."""

    names: list[Any]
    known: int
    """How many of the names the pipeline knows; those behind occur only as labels."""
    truth: npt.NDArray[np.intp]
    predicted: npt.NDArray[np.intp]

    @property
    def matrix(self) -> npt.NDArray[np.intp]:
        """Rows: the true class; columns: the predicted one."""
        places = range(len(self.names))
        found = metrics.confusion_matrix(self.truth, self.predicted, labels=list(places))
        return np.asarray(found, dtype=np.intp)


@dataclass(frozen=True, slots=True)
class Curve:
    """A line that belongs to one class."""

    name: str
    x: Array
    y: Array
    area: float
    """Under the ROC curve, or the average precision."""
    base: float
    """What answers at chance would have."""


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Rows whose probability lies in one tenth."""

    tenth: int
    """0 to 9."""
    mean: float
    """Of the predicted probabilities."""
    share: float
    """Of the rows for which it came true."""
    low: float
    high: float
    """A 95 % interval of the share (Wilson)."""
    rows: int


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """How one class fares."""

    name: Any
    rows: int
    predicted: int
    precision: float
    recall: float
    f1: float


def labelled(truth: Array, answers: Answers) -> Labelled:
    """Put labels and predictions into one list of classes.

    Raises:
        NotMeasurable: none of the labels is a class of the pipeline.
    """
    classes = list(answers.classes or [])
    labels, values = truth.tolist(), answers.values.tolist()
    place = {name: number for number, name in enumerate(classes)}
    others = {one for one in {*labels, *values} if one not in place}
    if labels and others.issuperset(labels):
        raise NotMeasurable(
            f"No label is a class of the pipeline: labels such as {labels[0]!r}, classes such as "
            f"{classes[0] if classes else None!r}. Are they encoded on one side only?"
        )
    names = [*classes, *sorted(others, key=str)]
    place = {name: number for number, name in enumerate(names)}
    return Labelled(
        names,
        len(classes),
        np.array([place[one] for one in labels], dtype=np.intp),
        np.array([place[one] for one in values], dtype=np.intp),
    )


def is_positive(found: Labelled, place: int) -> npt.NDArray[np.bool_]:
    """Which rows are of one class.

    Raises:
        NotMeasurable: all or none are.
    """
    positive: npt.NDArray[np.bool_] = found.truth == place
    if positive.all() or not positive.any():
        only = "every row is" if positive.all() else "no row is"
        raise NotMeasurable(
            f"There is nothing to tell apart: {only} of class {found.names[place]}."
        )
    return positive


def curves(found: Labelled, answers: Answers, *, precision: bool = False) -> list[Curve]:
    """ROC curves, or those of precision over recall: one for two classes, else one for each.

    Raises:
        NotMeasurable: there are neither probabilities nor scores, or only one class occurs.
    """
    draw = _precision_recall if precision else _roc
    if answers.kind is Kind.BINARY:
        if answers.ranking is None:
            raise NotMeasurable(
                "The pipeline gives neither probabilities nor scores to rank rows by."
            )
        return [draw(str(found.names[1]), is_positive(found, 1), answers.ranking)]
    if answers.probabilities is None:
        raise NotMeasurable("The pipeline gives no probabilities to rank rows by.")
    places = [one for one in range(found.known) if 0 < (found.truth == one).mean() < 1]
    if not places:
        raise NotMeasurable("All rows are of one class; there is nothing to tell apart.")
    return [
        draw(str(found.names[place]), found.truth == place, answers.probabilities[:, place])
        for place in places
    ]


def _roc(name: str, positive: npt.NDArray[np.bool_], ranking: Array) -> Curve:
    x, y, _ = metrics.roc_curve(positive, ranking)
    return Curve(name, x, y, float(metrics.auc(x, y)), 0.5)


def _precision_recall(name: str, positive: npt.NDArray[np.bool_], ranking: Array) -> Curve:
    precision, recall, _ = metrics.precision_recall_curve(positive, ranking)
    area = float(metrics.average_precision_score(positive, ranking))
    # The last point of scikit-learn's, recall 0 with precision 1, belongs to no threshold.
    return Curve(name, recall[-2::-1], precision[-2::-1], area, float(positive.mean()))


def calibration(came_true: npt.NDArray[np.bool_], probability: Array) -> list[CalibrationBin]:
    """How often what was given a probability came true, by tenths of the probability."""
    places = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    bins = []
    for place in range(CALIBRATION_BINS):
        here = places == place
        if here.any():
            rows, share = int(here.sum()), float(came_true[here].mean())
            low, high = wilson(share, rows)
            bins.append(
                CalibrationBin(place, float(probability[here].mean()), share, low, high, rows)
            )
    return bins


def calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """Mean distance of probability and share over all rows (the expected calibration error)."""
    rows = sum(one.rows for one in bins)
    return sum(one.rows * abs(one.mean - one.share) for one in bins) / rows


def area_under_roc(positive: npt.NDArray[np.bool_], ranking: Array) -> float:
    """The share of pairs of a positive and another row that are in the right order, ties half.

    That is the area under the ROC curve (Mann and Whitney's U over all pairs). It is asked for some
    hundred times when columns are shuffled, so it does without scikit-learn's checks of its input.
    """
    count = int(positive.sum())
    ranks = float(stats.rankdata(ranking)[positive].sum())
    return (ranks - count * (count + 1) / 2) / (count * (len(positive) - count))


def by_class(found: Labelled) -> list[ClassFigures]:
    """Precision, recall and F1 of each class."""
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        found.truth, found.predicted, labels=list(range(len(found.names))), zero_division=0.0
    )
    return [
        ClassFigures(
            name,
            int((found.truth == place).sum()),
            int((found.predicted == place).sum()),
            float(precision[place]),
            float(recall[place]),
            float(f1[place]),
        )
        for place, name in enumerate(found.names)
    ]


@dataclass(frozen=True, slots=True)
class Threshold:
    """What would be found if rows above a probability were taken for the second class."""

    at: float
    flagged: float
    """Share of all rows."""
    precision: float | None
    recall: float


def thresholds(positive: npt.NDArray[np.bool_], probability: Array) -> list[Threshold]:
    """Precision and recall at every tenth."""
    found = []
    for tenth in range(1, 10):
        above = probability >= tenth / 10
        hits = int((above & positive).sum())
        precision = hits / int(above.sum()) if above.any() else None
        found.append(
            Threshold(tenth / 10, float(above.mean()), precision, hits / int(positive.sum()))
        )
    return found
