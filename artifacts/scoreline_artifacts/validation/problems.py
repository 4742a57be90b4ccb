"""What is said of records: why one cannot be scored, and what is unusual about one that can."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one record cannot be scored."""

    record: int
    """The record's place, from 0."""
    code: str
    message: str
    column: str | None = None
    value: str | None = None
    """The value, escaped and cut at 80 characters."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Records that are scored although a column has something in them that training did not have."""

    code: str
    column: str
    records: npt.NDArray[np.intp]
    """Their places, in order."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Records held to a schema."""

    frame: pd.DataFrame
    """The good records, in order, with the columns and types of training."""
    good: npt.NDArray[np.intp] | None
    """The places of the good records; None when all are good."""
    problems: list[Problem]
    """One for each bad record, in order."""
    findings: list[Finding] = field(default_factory=list)
    """About good records, if asked for."""

    @property
    def places(self) -> npt.NDArray[np.intp]:
        """The places of the good records."""
        return np.arange(len(self.frame)) if self.good is None else self.good


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands where a record would, when what was sent cannot be read as one."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What becomes of values that training did not have: `ignore`, `warn` or `error`."""

    unseen: str = "ignore"
    out_of_range: str = "ignore"


NO_RULES = Rules()


class Odd(Exception):
    """Raised when a column does not take a value."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def shown(value: object) -> str:
    """A value as it may stand in a message: escaped, at most 80 characters."""
    text = ascii(value[:100]) if isinstance(value, str) else _written(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _written(value: object) -> str:
    if value is None:
        return "null"
    try:
        return ascii(value)
    # A whole number of more digits, or lists nested deeper, than Python writes out.
    except (ValueError, RecursionError):
        return f"<{type(value).__name__}>"
