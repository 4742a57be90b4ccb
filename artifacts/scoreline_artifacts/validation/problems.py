"""What can be wrong with records or unusual about them, and the rules that decide what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts.schema import Column, ColumnType, Schema
from scoreline_artifacts.validation.rows import whole
from scoreline_client.protocol.names import STAND_IN_TEXT, STAND_IN_TYPE, near_name


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
    text: str | None = None
    """The text that is none of the column's known values; one of those may be meant."""


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
    suggest: bool = True
    """Whether messages say which of training's values was probably meant."""


NO_RULES = Rules()


class InvalidValue(Exception):
    """Raised when a column does not take a value."""

    def __init__(self, code: str, message: str, text: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.text = text
        """As in Problem."""


def kind_of(value: object) -> str:
    """A value's type in the words of JSON."""
    if isinstance(value, dict) and value.keys() == {STAND_IN_TYPE, STAND_IN_TEXT}:
        return f"a {str(value[STAND_IN_TYPE])[:40]}"
    names = {
        dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null",
        int: "a whole number", float: "a number",
    }  # fmt: skip
    name = type(value).__name__
    return names.get(type(value), f"{'an' if name[:1] in 'aeiou' else 'a'} {name}")


def shown(value: object) -> str:
    """A value as a message shows it: escaped, at most 80 characters."""
    if value is None:
        return "null"
    if isinstance(value, dict) and value.keys() == {STAND_IN_TYPE, STAND_IN_TEXT}:
        # Its sender has escaped it already.
        value = str(value[STAND_IN_TEXT])[:100]
        return value[:80] if value.isascii() and value.isprintable() else shown(value)
    try:
        text = ascii(value[:100] if isinstance(value, str) else value)
    # Python refuses to write out a number of too many digits, lists nested too deep, or too long a time of Arrow.
    except (ValueError, OverflowError, RecursionError):
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."


UNSEEN = "W_UNSEEN_CATEGORY"
OUT_OF_RANGE = "W_OUT_OF_RANGE"
_ERRORS = {UNSEEN: "E_CATEGORY", OUT_OF_RANGE: "E_OUT_OF_RANGE"}


def find_anomalies(
    schema: Schema, arrays: Mapping[str, Any], rules: Rules, problems: dict[int, Problem]
) -> list[Anomaly]:
    """The anomalies of records without a problem; those that `rules` refuse are added to `problems`."""
    if rules.unseen == rules.out_of_range == "ignore":
        return []
    anomalies: list[Anomaly] = []
    for column in schema.columns:
        if column.type in (ColumnType.INTEGER, ColumnType.NUMBER):
            code, rule, is_anomaly = OUT_OF_RANGE, rules.out_of_range, is_out_of_range
        elif column.type is ColumnType.STRING:
            code, rule, is_anomaly = UNSEEN, rules.unseen, is_unseen
        else:
            continue
        if rule == "ignore" or column.unused:
            continue
        array = whole(arrays[column.name])
        indices = np.flatnonzero(is_anomaly(column, array))
        if not len(indices):
            continue
        if rule == "warn":
            anomalies.append(Anomaly(code, column.name, indices))
            continue
        for index in indices.tolist():
            value = value_at(array, index)
            message = describe_anomaly(code, column, value)
            text = str(value) if code == UNSEEN else None
            problem = Problem(index, _ERRORS[code], message, column.name, shown(value), text)
            problems.setdefault(index, problem)
    if not problems:
        return anomalies
    bad = np.fromiter(problems, dtype=np.intp, count=len(problems))
    anomalies = [
        replace(anomaly, records=np.setdiff1d(anomaly.records, bad)) for anomaly in anomalies
    ]
    return [anomaly for anomaly in anomalies if len(anomaly.records)]


def describe_anomaly(code: str, column: Column, value: object) -> str:
    """The message for a value, without a hint at what was probably meant."""
    if code == UNSEEN:
        return f"column {column.name!r}: {shown(value)} was not there in training"
    low, high = (
        f"{bound:g}" if bound is not None and abs(bound) < 1e6 else str(bound)
        for bound in (column.minimum, column.maximum)
    )
    return f"column {column.name!r}: {shown(value)} is outside of {low} to {high}, the range of training"


_near_name = lru_cache(maxsize=1024)(near_name)  # callers repeat their mistakes
MOST_HINTS = 8
"""For how many values of a request the nearest known one is looked for."""


class Hints:
    """The known values that were probably meant by the first few unknown ones of a request.

    An unknown value is compared with all known ones, which takes some thousand times as long as refusing it.
    """

    def __init__(self, rules: Rules = NO_RULES) -> None:
        self._near: dict[tuple[str, str], str | None] = {}
        self._limit = MOST_HINTS if rules.suggest else 0

    def near(self, column: Column, text: str) -> str | None:
        """The known value of a column that is nearest; None if none is near, or too many were looked for."""
        key = column.name, text[:100]
        if key not in self._near and len(self._near) < self._limit:
            self._near[key] = _near_name(text[:100], tuple(map(str, column.categories or ())))
        return self._near.get(key)

    def of(self, column: Column, text: str) -> str:
        """The nearest value as the end of a message."""
        nearest = self.near(column, text)
        return "" if nearest is None else f"; the nearest is {nearest[:80]!r}"


def with_hints(problems: Mapping[int, Problem], schema: Schema, hints: Hints) -> list[Problem]:
    """Problems in the order of their records; the first few say which known value was probably meant."""
    columns = {column.name: column for column in schema.columns}
    listed = [problems[record] for record in sorted(problems)]
    for index, problem in enumerate(listed):
        if problem.text is not None and problem.column is not None:
            hint = hints.of(columns[problem.column], problem.text)
            listed[index] = replace(problem, message=problem.message + hint) if hint else problem
    return listed


def value_at(array: Any, index: int) -> Any:
    """One value of a converted array as a Python value."""
    value = array.iloc[index] if isinstance(array, pd.Series) else array[index]
    return value.item() if isinstance(value, np.generic) else value


def is_out_of_range(column: Column, array: Any) -> npt.NDArray[np.bool_]:
    """Which numbers are below the smallest or above the largest of training; a missing one is not."""
    if column.minimum is None or column.maximum is None:
        return np.zeros(len(array), dtype=bool)
    numbers = (
        array
        if isinstance(array, np.ndarray)
        else pd.Series(array).to_numpy(dtype=np.float64, na_value=np.nan)
    )
    # Bounds are kept as Python floats: numpy compares narrow floats with those as narrow floats.
    return np.asarray((numbers < column.minimum) | (numbers > column.maximum))


def is_unseen(column: Column, array: Any) -> npt.NDArray[np.bool_]:
    """Which texts training did not have, where the schema lists those that it had."""
    if column.categories is None:
        return np.zeros(len(array), dtype=bool)
    texts = pd.Series(array)
    return ~np.asarray(texts.isin(list(column.categories)) | texts.isna())
