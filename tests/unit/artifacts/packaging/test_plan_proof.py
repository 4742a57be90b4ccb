"""Up to how many rows a plan is used, by what it and its pipeline take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from scoreline_artifacts.packaging import plan_proof
from scoreline_artifacts.packaging.plan_proof import SIZES, WITHOUT_LIMIT, faster_up_to

FRAME = pd.DataFrame({"a": [1.0, 2.0]})
BEYOND = SIZES[-1] + 1


class Clock:
    """Time passes while somebody scores."""

    now = 0.0

    def time(self) -> float:
        return self.now


class Scorer:
    """Takes so many seconds for a call, and for each of its rows; from `slow_from` rows on ten times that."""

    def __init__(self, clock: Clock, call_s: float, row_s: float, slow_from: int = BEYOND) -> None:
        self._clock, self._call_s, self._row_s, self._slow_from = clock, call_s, row_s, slow_from

    def predict(self, rows: Any) -> None:
        slower = 10 if len(rows) >= self._slow_from else 1
        self._clock.now += (self._call_s + self._row_s * len(rows)) * slower


@pytest.mark.parametrize(
    ("plan", "pipeline", "limit_s", "expected"),
    [
        pytest.param((1, 1), (9, 2), 1e9, WITHOUT_LIMIT, id="always faster"),
        pytest.param((9, 1), (9, 1), 1e9, 0, id="no faster"),
        pytest.param((10, 1), (1, 2), 1e9, 0, id="slower for one row"),
        pytest.param((1, 1, 4096), (9, 2), 1e9, 512, id="slower for many rows"),
        pytest.param((1, 1), (9, 2), 100, WITHOUT_LIMIT, id="time is up, a further row is cheaper"),
        pytest.param((1, 2), (99, 1), 1000, 8, id="time is up, a further row is dearer"),
        pytest.param((1, 1), (9, 2), 0, 1, id="time is up after one row"),
    ],
)
def test_a_plan_is_used_for_as_many_rows_as_it_is_faster_for(
    plan: tuple[Any, ...],
    pipeline: tuple[Any, ...],
    limit_s: float,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    clocks = SimpleNamespace(process_time=clock.time, monotonic=clock.time)
    monkeypatch.setattr(plan_proof, "time", clocks)
    loaded: Any = SimpleNamespace(has_probabilities=False, pipeline=Scorer(clock, *pipeline))
    scorer: Any = Scorer(clock, *plan)
    assert faster_up_to(loaded, scorer, FRAME, limit_s) == expected
