"""What a call of each version's pipeline takes, as this process has seen it: so much by itself, and so much for each row."""

from __future__ import annotations

from dataclasses import dataclass

NEW = 0.3
"""The weight of a new call among those before."""
VERSIONS = 256
"""Versions that are remembered; then it begins anew."""


@dataclass(slots=True)
class CallCost:
    """A call of `rows` rows takes `call_s` seconds, and each further row `row_s`; learned from calls of different sizes."""

    rows: int
    """The smallest call of late."""
    call_s: float
    row_s: float

    def expected_s(self, rows: int) -> float:
        """Seconds that a call of so many rows takes."""
        return self.call_s + self.row_s * max(0, rows - self.rows)

    def note(self, rows: int, took_s: float) -> None:
        """A call has ended."""
        if rows != self.rows:
            row_s = (took_s - self.call_s) / (rows - self.rows)
            self.row_s += NEW * (max(0.0, row_s) - self.row_s)
        if rows == self.rows:
            self.call_s += NEW * (took_s - self.call_s)
        elif rows < self.rows or took_s < self.call_s:
            self.rows, self.call_s = rows, took_s
        # A first call may have been slow for reasons of its own; after it, only calls of one row may come.
        self.row_s = min(self.row_s, self.call_s / self.rows)


class CallCosts:
    """The costs of all versions that a process scores."""

    def __init__(self) -> None:
        self._costs: dict[str, CallCost] = {}

    def of(self, version: str) -> CallCost | None:
        """The costs of a version, such as `pima@3`; None before its first call."""
        return self._costs.get(version)

    def note(self, version: str, rows: int, took_s: float) -> None:
        """A call has ended. Of a first one, all is taken to be due to its rows."""
        cost = self._costs.get(version)
        if cost is not None:
            cost.note(rows, took_s)
            return
        if len(self._costs) >= VERSIONS:
            self._costs.clear()
        self._costs[version] = CallCost(rows, took_s, took_s / rows)
