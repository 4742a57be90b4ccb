"""Repeated measurements and how they are summed up: medians, the range that they came from, ratios.

Both sides of a ratio are measured in turns, and it is taken repeat by repeat: what slows the machine
down for a while slows both down.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


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
        if self.repeats == 1:
            return _number(self.median)
        return f"{_number(self.median)} ({_number(self.lowest)}–{_number(self.highest)})"


class Relation(StrEnum):
    """How a figure is set against the one that it is compared with."""

    TIMES = "times"
    """Measured, divided by the other."""
    MINUS = "minus"
    """Measured, less the other."""


@dataclass(frozen=True)
class Goal:
    """What is to be reached: by the ratio or difference of a row that has one, else by its figure."""

    sign: str
    """`>=` or `<=`."""
    bound: float

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.sign == ">=" else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.sign == '>=' else '≤'} {self.bound:,g}"


def at_least(bound: float) -> Goal:
    """More is better."""
    return Goal(">=", bound)


def at_most(bound: float) -> Goal:
    """Less is better."""
    return Goal("<=", bound)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table: a figure, perhaps beside another one, perhaps with a goal."""

    what: str
    unit: str
    measured: Spread
    against: str = ""
    """What it is compared with; empty for nothing."""
    baseline: Spread | None = None
    relation: Relation | None = None
    related: Spread | None = None
    """Ratio or difference, taken repeat by repeat."""
    goal: Goal | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the median is what it is to be; None without a goal."""
        if self.goal is None:
            return None
        return self.goal.is_met((self.related or self.measured).median)

    def as_json(self) -> dict[str, Any]:
        """All of it, for the file of figures."""
        return asdict(self) | {"goal": str(self.goal) if self.goal else None, "met": self.is_met}


def alone(what: str, unit: str, measured: Sequence[float], *, goal: Goal | None = None) -> Row:
    """A figure that is compared with nothing."""
    return Row(what=what, unit=unit, measured=Spread.of(measured), goal=goal)


def times(
    what: str,
    unit: str,
    measured: Sequence[float],
    against: str,
    baseline: Sequence[float],
    *,
    goal: Goal | None = None,
) -> Row:
    """A figure in multiples of another one, repeat by repeat."""
    ratios = [one / other for one, other in zip(measured, baseline, strict=True)]
    return _related(what, unit, measured, against, baseline, Relation.TIMES, ratios, goal)


def minus(
    what: str,
    unit: str,
    measured: Sequence[float],
    against: str,
    baseline: Sequence[float],
    *,
    goal: Goal | None = None,
) -> Row:
    """What a figure is over another one, repeat by repeat."""
    rest = [one - other for one, other in zip(measured, baseline, strict=True)]
    return _related(what, unit, measured, against, baseline, Relation.MINUS, rest, goal)


def _related(
    what: str,
    unit: str,
    measured: Sequence[float],
    against: str,
    baseline: Sequence[float],
    relation: Relation,
    related: Sequence[float],
    goal: Goal | None,
) -> Row:
    return Row(
        what=what,
        unit=unit,
        measured=Spread.of(measured),
        against=against,
        baseline=Spread.of(baseline),
        relation=relation,
        related=Spread.of(related),
        goal=goal,
    )


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


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
