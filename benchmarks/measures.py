"""Repeated measurements and how they are summed up: medians, and the range that they came from."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """One figure over several repeats."""

    median: float
    lowest: float
    highest: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        return f"{_number(self.median)} ({_number(self.lowest)}-{_number(self.highest)})"


@dataclass(frozen=True)
class Rate:
    """One repeat of callers asking one record after the other."""

    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, waits_s: Sequence[float], seconds: float) -> Rate:
        """From how long each answer was waited for, and how long the repeat lasted."""
        cuts = statistics.quantiles(waits_s, n=100, method="inclusive")
        return cls(len(waits_s), seconds, cuts[49] * 1000, cuts[98] * 1000)

    @property
    def per_second(self) -> float:
        return self.answers / self.seconds


@dataclass(frozen=True)
class Comparison:
    """The same figure of both sides."""

    what: str
    ours: Spread
    theirs: Spread
    more_is_better: bool

    @property
    def ratio(self) -> float:
        """How many times better ours is, median to median."""
        better, worse = self.ours.median, self.theirs.median
        return better / worse if self.more_is_better else worse / better


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
