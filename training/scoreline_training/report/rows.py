"""Which rows a pipeline is measured on: held out if there are any, not more than time allows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
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
    remarks: list[str] = field(default_factory=list)

    @property
    def sampled(self) -> bool:
        """Whether rows were left out to keep the report quick."""
        return len(self.frame) < self.of

    def without_unlabelled(self) -> Rows:
        """Only the rows whose label is there."""
        if self.truth is None:
            return self
        missing = np.asarray(pd.isna(pd.DataFrame(self.truth))).any(axis=1)
        if not missing.any():
            return self
        remark = f"{missing.sum():,} rows have no label and are left out."
        return Rows(
            frame=self.frame[~missing],
            truth=plain(self.truth[~missing]),
            held_out=self.held_out,
            of=self.of,
            remarks=[*self.remarks, remark],
        )


def measured_rows(data: ReportData, clock: Callable[[], float] = time.perf_counter) -> Rows:
    """The held-out rows, else the training rows; a sample of them if they are many."""
    held_out = data.X_test is not None and len(data.X_test) > 0
    frame = data.X_test if held_out and data.X_test is not None else data.X_train
    truth = as_truth(data.y_test if held_out else data.y_train, len(frame))
    limit = min(MEASURED_ROWS, _affordable(data, frame, clock))
    kept = sample_places(len(frame), limit)
    return Rows(
        frame=frame.iloc[kept],
        truth=None if truth is None else truth[kept],
        held_out=held_out,
        of=len(frame),
    ).without_unlabelled()


def as_truth(labels: Any, count: int) -> npt.NDArray[Any] | None:
    """Labels of any kind as an array, (rows,) or (rows, outputs); None if they do not fit the rows."""
    if labels is None:
        return None
    array = labels.to_numpy() if hasattr(labels, "to_numpy") else np.asarray(labels)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    return array if array.ndim in (1, 2) and len(array) == count else None


def sample_places(count: int, limit: int) -> npt.NDArray[np.intp]:
    """Places of a random sample, in order; the same ones every time."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(_SEED).choice(count, limit, replace=False))


def _affordable(data: ReportData, frame: pd.DataFrame, clock: Callable[[], float]) -> int:
    """How many rows the pipeline is likely to score within the budget."""
    if len(frame) <= _PROBE:
        return len(frame)
    start = clock()
    data.version.score(frame.iloc[:_PROBE])
    seconds_per_row = (clock() - start) / _PROBE
    return max(_PROBE, int(SCORING_BUDGET_S / max(seconds_per_row, 1e-9)))
