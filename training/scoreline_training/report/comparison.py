"""The new version beside the one in production, on the same rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoreline_training.report.answers import Answers, Array
from scoreline_training.report.data import Incumbent, NotMeasurable
from scoreline_training.report.measures import Measure, measure
from scoreline_training.report.rows import Rows

TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What both versions say about the same rows."""

    reference: str
    answers: Answers
    """Those of the version in production."""
    measures: list[Measure]
    agreement: float
    """Share of rows with the same answer, numbers up to the tolerance."""
    mended: int | None
    """Rows that only the new version gets right; None without labels, or for numbers."""
    broken: int | None
    """Rows that only the version in production gets right."""


def compare(production: Incumbent, answers: Answers, rows: Rows) -> Comparison:
    """Let the version in production score the rows that the new one has scored.

    Raises:
        NotMeasurable: it cannot, or its answers are of another kind; says why.
    """
    if production.ask is None or production.reference is None:
        raise NotMeasurable(production.why_not or "There is no version in production.")
    found = production.ask(rows)
    _check_alike(production.reference, answers, found)
    mended, broken = _swapped(answers, found, rows.truth)
    return Comparison(
        reference=production.reference,
        answers=found,
        measures=_measures(rows.truth, found),
        agreement=float(same_answers(answers.values, found.values).mean()),
        mended=mended,
        broken=broken,
    )


def _check_alike(reference: str, answers: Answers, found: Answers) -> None:
    if answers.kind is not found.kind:
        raise NotMeasurable(
            f"{reference} is a {found.kind} and this is a {answers.kind}: their answers are not of one "
            "kind."
        )
    if answers.values.shape != found.values.shape:
        raise NotMeasurable(
            f"{reference} gives answers of shape {found.values.shape}, this {answers.values.shape}."
        )


def same_answers(one: Array, other: Array) -> npt.NDArray[np.bool_]:
    """Row by row whether answers are the same."""
    same: npt.NDArray[np.bool_]
    if one.dtype.kind in "fiu" and other.dtype.kind in "fiu":
        same = np.isclose(
            one.astype(float), other.astype(float), TOLERANCE, TOLERANCE, equal_nan=True
        )
    else:
        same = np.asarray(one.astype(object) == other.astype(object), dtype=bool)
    return same if same.ndim == 1 else np.asarray(same.all(axis=1))


def _swapped(one: Answers, other: Answers, truth: Array | None) -> tuple[int | None, int | None]:
    if truth is None or not one.kind.is_classifier or truth.shape != one.values.shape:
        return None, None
    right, was_right = same_answers(one.values, truth), same_answers(other.values, truth)
    return int((right & ~was_right).sum()), int((was_right & ~right).sum())


def _measures(truth: Array | None, answers: Answers) -> list[Measure]:
    if truth is None:
        return []
    try:
        return measure(truth, answers)
    except NotMeasurable:
        return []
