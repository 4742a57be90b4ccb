"""Which rows a pipeline is measured on: held out if there are any, not more than time allows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_training.report.answers import plain
from scoreline_training.report.data import ReportData

MEASURED_ROWS = 20_000
SCORING_BUDGET_S = 8.0
"""How long scoring the measured rows may take; a slow pipeline is measured on fewer."""
_PROBE = 200
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows with the truth about them, as far as it is known."""

    frame: pd.DataFrame
    truth: npt.NDArray[Any] | None
    """(rows,) or (rows, outputs); None without labels."""
    held_out: bool
    of: int
    """How many rows there were to choose from."""
    unlabelled: str = ""
    """Why there is no truth, as a sentence."""
    remark: str = ""
    """What else there is to say of the choice."""

    @property
    def sampled(self) -> bool:
        """Whether rows were left out to keep the report quick."""
        return len(self.frame) < self.of

    def labelled(self) -> Rows:
        """Only the rows whose label is there; if there is no such row, all of them without truth."""
        if self.truth is None:
            return self
        missing = np.asarray(pd.isna(pd.DataFrame(self.truth))).any(axis=1)
        if missing.all():
            return replace(self, truth=None, unlabelled="No row has a label.")
        if not missing.any():
            return self
        return replace(
            self,
            frame=self.frame[~missing],
            truth=plain(self.truth[~missing]),
            of=self.of - int(missing.sum()),
            remark=f"{missing.sum():,} rows have no label and are left out.",
        )


def measured_rows(data: ReportData, clock: Callable[[], float] = time.perf_counter) -> Rows:
    """The held-out rows, else the training rows; a sample of them if they are many."""
    held_out = data.X_test is not None and len(data.X_test) > 0
    frame = data.X_test if held_out and data.X_test is not None else data.X_train
    given, name = (data.y_test, "y_test") if held_out else (data.y_train, "y_train")
    truth = as_truth(given, len(frame))
    kept = sample_places(len(frame), min(MEASURED_ROWS, _affordable(data, frame, clock)))
    return Rows(
        frame=frame.iloc[kept],
        truth=None if truth is None else truth[kept],
        held_out=held_out,
        of=len(frame),
        unlabelled="" if truth is not None else _why_unlabelled(given, name),
    ).labelled()


def _why_unlabelled(given: Any, name: str) -> str:
    if given is None:
        return f"No labels were given, so nothing says how good the answers are; pass {name}."
    return (
        f"{name} does not have one label, or one row of labels, for each row, and cannot be used."
    )


def as_truth(labels: Any, count: int) -> npt.NDArray[Any] | None:
    """Labels of any kind as an array, (rows,) or (rows, outputs); None if they do not fit the rows."""
    if labels is None:
        return None
    try:
        array = labels.to_numpy() if hasattr(labels, "to_numpy") else np.asarray(labels)
    # Lists of different lengths.
    except ValueError:
        return None
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    fits = array.ndim in (1, 2) and len(array) == count and count > 0
    return array if fits else None


def sample_places(count: int, limit: int) -> npt.NDArray[np.intp]:
    """Places of a random sample, in order; the same ones every time."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(_SEED).choice(count, limit, replace=False))


def _affordable(data: ReportData, frame: pd.DataFrame, clock: Callable[[], float]) -> int:
    """How many rows the pipeline is likely to score within the budget."""
    if len(frame) <= _PROBE:
        return len(frame)
    seconds = _probe(data, frame, clock)
    if seconds * len(frame) / _PROBE > SCORING_BUDGET_S:
        # The first call may have paid for what a pipeline only does once.
        seconds = _probe(data, frame, clock)
    return max(_PROBE, int(SCORING_BUDGET_S * _PROBE / max(seconds, 1e-9)))


def _probe(data: ReportData, frame: pd.DataFrame, clock: Callable[[], float]) -> float:
    start = clock()
    data.version.score(frame.iloc[:_PROBE])
    return clock() - start
