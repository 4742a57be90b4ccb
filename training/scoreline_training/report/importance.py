"""Permutation importance: what it costs when one raw column is shuffled.

The pipeline is a black box, so the columns are those of the raw records, of any type. The cost is
bounded by rows, columns, repeats, and a time budget: repeats go round by round over all columns, so
that what the budget cuts off are repeats first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_training.report.answers import ask
from scoreline_training.report.data import NotMeasurable
from scoreline_training.report.measures import objective
from scoreline_training.report.rows import Rows, sample_places

ROWS = 2_000
COLUMNS = 200
CALLS = 150
"""About how often the pipeline is asked in all; many columns have fewer repeats."""
MOST_REPEATS, FEWEST_REPEATS = 5, 2
BUDGET_S = 3.0
_SEED = 0


@dataclass(frozen=True, slots=True)
class ColumnImportance:
    """What shuffling one column does."""

    name: str
    mean: float
    low: float
    high: float
    """Over the repeats."""


@dataclass(frozen=True, slots=True)
class Importance:
    """All columns that were measured, the most important one first."""

    columns: list[ColumnImportance]
    unit: str
    rows: int
    repeats: int
    """As many as every measured column has."""
    left_out: int
    """Columns that were not measured, for want of time or because there are so many."""


def importance(
    version: LoadedVersion,
    rows: Rows,
    *,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.perf_counter,
) -> Importance:
    """Shuffle one column after the other and look how the answers suffer.

    Raises:
        NotMeasurable: there are not two rows, or no column, or answers that are no numbers.
        Exception: whatever the pipeline raises.
    """
    names = list(rows.frame.columns)
    if len(rows.frame) < 2 or not names:
        raise NotMeasurable("It takes two rows and a column at least to shuffle anything.")
    places = sample_places(len(rows.frame), ROWS)
    frame = rows.frame.iloc[places]
    truth = None if rows.truth is None else rows.truth[places]
    unit, loss = objective(truth, ask(version, frame, truth))
    losses: dict[str, list[float]] = {name: [] for name in names[:COLUMNS]}
    generator = np.random.default_rng(_SEED)
    deadline = clock() + budget_s
    for name in [*losses] * _repeats(len(losses)):
        if clock() >= deadline:
            break
        order = generator.permutation(len(frame))
        losses[name].append(loss(ask(version, _with_shuffled(frame, name, order), truth)))
    columns = [_column(name, found) for name, found in losses.items() if found]
    if not columns:
        raise NotMeasurable("The pipeline is too slow to be asked again for every column.")
    if not all(math.isfinite(one.mean) for one in columns):
        raise NotMeasurable("Some answers are not finite, so it cannot be said how far they move.")
    return Importance(
        columns=sorted(columns, key=lambda one: -one.mean),
        unit=unit,
        rows=len(frame),
        repeats=min(len(found) for found in losses.values() if found),
        left_out=len(names) - len(columns),
    )


def _with_shuffled(frame: pd.DataFrame, name: str, order: npt.NDArray[np.intp]) -> pd.DataFrame:
    changed = frame.copy(deep=False)
    changed[name] = frame[name].iloc[order].set_axis(frame.index)
    return changed


def _repeats(columns: int) -> int:
    return min(MOST_REPEATS, max(FEWEST_REPEATS, CALLS // columns))


def _column(name: str, losses: list[float]) -> ColumnImportance:
    return ColumnImportance(name, float(np.mean(losses)), min(losses), max(losses))
