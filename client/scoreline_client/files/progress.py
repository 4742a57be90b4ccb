"""How far a run is, and what became of a file in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from scoreline_client.files.checkpoint import Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkProgress:
    """How far a file is."""

    rows: int
    """Rows written, with those of the run that is resumed."""
    rejected: int
    done: int
    """How much of the input that is."""
    total: int | None
    """How much there is; None if nobody knows."""
    unit: str
    """What `done` and `total` count: bytes or row groups."""
    seconds: float
    """How long it took so far, with the run that is resumed."""
    rows_per_s: float
    """Rows a second in this run."""
    seconds_left: float | None
    """How long the rest will take at this run's pace; None if nobody knows."""
    version: int
    source: str
    """The input's name."""
    waiting: str | None = None
    """Why it does not go on at this moment; None if it does."""

    @property
    def percent(self) -> float | None:
        """How much of the input is done; None if nobody knows."""
        if self.total is None:
            return None
        return 100.0 if self.total == 0 else min(100.0, 100 * self.done / self.total)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        percent = None if self.percent is None else round(self.percent, 2)
        values = asdict(self) | {"percent": percent}
        for name in ("seconds", "rows_per_s", "seconds_left"):
            if values[name] is not None:
                values[name] = round(values[name], 3)
        return {"event": "progress", **values}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSummary:
    """What became of a file."""

    rows: int
    scored: int
    rejected: int
    rejected_by_code: dict[str, int]
    warnings: dict[str, int]
    """How many values each kind of warning is about, by `code column`."""
    model: str
    version: int
    seconds: float
    rows_per_s: float
    source: str
    target: str
    errors: str | None = None
    """The error report's name, if there is one."""
    notes: tuple[str, ...] = ()
    """What the caller should know about how the file was read."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        rounded = {"seconds": round(self.seconds, 3), "rows_per_s": round(self.rows_per_s, 1)}
        return {"event": "summary", **asdict(self), **rounded}


@dataclass(slots=True)
class Tally:
    """The counts of a run."""

    rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    seconds_before: float = 0.0
    rows_before: int = 0

    @classmethod
    def of(cls, mark: Mark) -> Tally:
        """The counts up to a mark."""
        rows = mark.place.row - 1
        return cls(rows, Counter(mark.rejected), Counter(mark.warned), mark.seconds, rows)

    @property
    def rejected_rows(self) -> int:
        """Rejected rows of all codes."""
        return sum(self.rejected.values())

    def add(self, rows: int, rejected: Mapping[str, int], warned: Any) -> None:
        """Count a piece."""
        self.rows += rows
        self.rejected.update(rejected)
        for one in warned:
            self.warned[f"{one['code']} {one['column']}"] += one["count"]
