"""The proof of a file: the version and the file score the same rows, and what is measured of their difference."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.plan import ScoringPlan
from scoreline_artifacts.validation import frame_of_records
from scoreline_client.errors import ScorelineError
from scoreline_training.export.formats import Evaluator, Scored
from scoreline_training.export.rows import proving_records

ROWS = 10_000
"""Random rows that a file is proved with, beside golden and special ones."""

_SHOWN = 400
"""Characters of a record in a message."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far a file's answers differ from those of a version, for the same rows."""

    rows: int
    """Rows that both answered, golden ones among them."""
    golden_rows: int
    refused: int
    """Rows that the pipeline itself refuses, or has no answer for; they prove nothing, and are not in `rows`."""
    answered_alone: int
    """Of these, the rows that the file answers."""
    largest_error: float
    """Of a number: its difference from the pipeline's, relative to it, or, where it is close to 0, to the median
    size of all of its output; of a probability: relative to 1."""
    label_flips: int


class NotProven(ScorelineError):
    """Raised when a file does not answer as the version does; the message has a row that shows it."""

    exit_status = 1

    def __init__(self, about: str, reason: str, record: dict[str, Any] | None = None) -> None:
        row = "" if record is None else f", for {repr(record)[:_SHOWN]}"
        super().__init__(
            f"{about} is not proved: {reason}{row}. Do not use the file; the version itself is served as it is."
        )
        self.record = record


def prove(
    about: str,
    loaded: LoadedVersion,
    plan: ScoringPlan,
    evaluator: Evaluator,
    golden: Sequence[dict[str, Any]],
    *,
    tolerance: float,
    rows: int = ROWS,
) -> Parity:
    """Score golden rows, `rows` random ones and special ones by a loaded version and by a file.

    Raises:
        NotProven: a label is another one, a number differs by more than `tolerance`, or the file has no answer.
    """
    if loaded.schema is None:
        raise NotProven(about, "the version has no schema, so that no rows can be made")
    records = [*golden, *proving_records(loaded.schema, plan, golden, count=rows)]
    checked = frame_of_records(records, loaded.schema)
    frame, origin = checked.frame, checked.indices

    # Without the plan, since the file was made of it.
    pipeline = replace(loaded, plan=None)

    def by_pipeline(chunk: pd.DataFrame) -> Scored:
        scores = pipeline.score(chunk)
        if scores.unusable:
            raise ValueError("no answer")
        return Scored(scores.values.tolist(), scores.probabilities, tuple(loaded.classes or ()))

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        want = _scored(frame, by_pipeline)
        answered = np.flatnonzero(want.has_answer)
        got = _scored(frame.iloc[answered].reset_index(drop=True), evaluator)
        refused = np.flatnonzero(~want.has_answer)
        alone = _scored(frame.iloc[refused].reset_index(drop=True), evaluator)
    if not len(answered):
        raise NotProven(about, "the pipeline answers none of the rows that were tried")

    def demand(is_same: npt.NDArray[np.bool_], reason: str) -> None:
        if not is_same.all():
            index = int(np.argmin(is_same))
            row, number = answered[index], np.count_nonzero(~is_same)
            both = f"{got.values[index]!r} instead of {want.values[row]!r}"
            record = records[int(origin[row])]
            raise NotProven(about, f"{reason} ({number} of {len(answered)} rows): {both}", record)

    demand(got.has_answer, "the file has no answer where the pipeline has one")
    values = [want.values[row] for row in answered.tolist()]
    error = 0.0
    if plan.end.classes is not None:
        pairs = zip(values, got.values, strict=True)
        demand(
            np.array([expected == actual for expected, actual in pairs]), "the label is another one"
        )
    else:
        expected_numbers, actual_numbers = np.array(values, float), np.array(got.values, float)
        # One output may be a billion times as large as another.
        size = np.maximum(np.abs(expected_numbers), np.median(np.abs(expected_numbers), axis=0))
        errors = np.abs(actual_numbers - expected_numbers) / np.where(size == 0, 1.0, size)
        errors = errors.reshape(len(answered), -1).max(axis=1)
        demand(errors <= tolerance, "a number differs")
        error = float(errors.max())
    if want.probabilities is not None:
        if got.probabilities is None:
            raise NotProven(about, "the file has no probabilities, and the pipeline has some")
        # A class that no row has still has probabilities.
        if loaded.classes is not None and list(got.classes) != loaded.classes:
            raise NotProven(about, f"its classes are {got.classes}, not {loaded.classes}")
        differences = np.abs(got.probabilities - want.probabilities[answered]).max(axis=1)
        demand(differences <= tolerance, f"a probability differs by {differences.max():.2g}")
        error = float(differences.max())
    return Parity(
        rows=len(answered),
        golden_rows=int(np.count_nonzero(origin[answered] < len(golden))),
        refused=len(refused),
        answered_alone=int(np.count_nonzero(alone.has_answer)),
        largest_error=error,
        label_flips=0,
    )


@dataclass(frozen=True)
class _Answers:
    values: list[Any]
    probabilities: npt.NDArray[np.float64] | None
    """(rows, classes)."""
    has_answer: npt.NDArray[np.bool_]
    classes: tuple[Any, ...] = ()


def _scored(frame: pd.DataFrame, scorer: Evaluator) -> _Answers:
    """Score rows; where one is refused, the rows are scored in halves, down to single ones."""
    values: list[Any] = [None] * len(frame)
    has_answer = np.zeros(len(frame), bool)
    probabilities, classes = None, ()
    spans = [(0, len(frame))] if len(frame) else []
    while spans:
        start, end = spans.pop()
        try:
            scored = scorer(frame.iloc[start:end].reset_index(drop=True))
        except Exception:  # noqa: BLE001 - whatever it is, the row has no answer, and is counted so
            if end - start > 1:
                middle = (start + end) // 2
                spans += [(start, middle), (middle, end)]
            continue
        values[start:end] = scored.values
        has_answer[start:end], classes = True, scored.classes
        if scored.probabilities is not None:
            if probabilities is None:
                probabilities = np.full((len(frame), scored.probabilities.shape[1]), np.nan)
            probabilities[start:end] = scored.probabilities
    return _Answers(values, probabilities, has_answer, classes)
