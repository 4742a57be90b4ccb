"""What can be wrong with records or unusual about them, and the rules that decide what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one record cannot be scored."""

    record: int
    """The record's index, from 0."""
    code: str
    message: str
    column: str | None = None
    value: str | None = None
    """The value, escaped and cut at 80 characters."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Records that are scored although their value of a column did not occur in training."""

    code: str
    column: str
    records: npt.NDArray[np.intp]
    """The records' indices, in order."""


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """Takes the place of a record in a list when its bytes cannot be read."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What happens to values that training did not have: `ignore`, `warn` or `error`."""

    unseen: str = "ignore"
    out_of_range: str = "ignore"


NO_RULES = Rules()


class InvalidValue(Exception):
    """Raised when a column does not take a value."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def shown(value: object) -> str:
    """A value as a message shows it: escaped, at most 80 characters."""
    if value is None:
        return "null"
    try:
        text = ascii(value[:100] if isinstance(value, str) else value)
    # A whole number of more digits, or lists nested deeper, than Python writes out.
    except (ValueError, RecursionError):
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."
