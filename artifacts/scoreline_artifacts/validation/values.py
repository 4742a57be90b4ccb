"""One value at a time: what a column takes, and why not."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts.schema import Column, ColumnType
from scoreline_artifacts.validation.arrays import (
    as_column,
    bounds_of,
    clock_of,
    has_surrogate,
    pandas_type,
    type_beneath,
)
from scoreline_artifacts.validation.problems import Odd, Problem, shown

NON_FINITE_TEXT = frozenset({"NaN", "Infinity", "-Infinity"})
"""How callers spell in JSON what JSON cannot say."""
_NANOSECONDS = re.compile(r"[.,][0-9]{7}")


def one_by_one(
    column: Column, values: Sequence[Any] | npt.NDArray[Any], problems: dict[int, Problem]
) -> Any:
    """A column converted value by value; what it does not take goes to `problems`, by place."""
    convert = converter_of(column)
    converted: list[Any] = []
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    for row, value in enumerate(plain):
        try:
            converted.append(convert_value(column, value, convert))
        except Odd as odd:
            converted.append(None)
            message = f"column {column.name!r}: {odd.message}"
            problems.setdefault(row, Problem(row, odd.code, message, column.name, shown(value)))
    return array_of(column, converted)


def convert_value(column: Column, value: Any, convert: Callable[[Column, Any], Any]) -> Any:
    """A value as the column has it, None if it is missing and may be.

    Raises:
        Odd: the column does not take it.
    """
    if value is None or value is pd.NaT:
        if column.nullable:
            return None
        raise Odd("E_NULL", f"the value is missing; expected {_expected(column)}")
    return convert(column, value)


def converter_of(column: Column) -> Callable[[Column, Any], Any]:
    """What turns a value that is there into the column's own."""
    if column.type is ColumnType.CATEGORY:
        return partial(_category, {_identity(one): one for one in column.categories or ()})
    return _CONVERT[column.type]


def _identity(value: Any) -> tuple[bool, Any]:
    """What tells values apart: to Python, True and 1 are the same."""
    return isinstance(value, bool), value


def array_of(column: Column, values: list[Any]) -> Any:
    """Values that are right or None as the array that pandas had in training."""
    if column.type is ColumnType.CATEGORY:
        categories = list(column.categories or ())
        return pd.Categorical(values, categories=categories, ordered=column.ordered)
    kind = pandas_type(column.dtype)
    if isinstance(kind, np.dtype) and kind.kind in "fiub":
        # In a column that cannot have it, None stands for a row with a problem: it is not kept.
        nothing = np.nan if kind.kind == "f" else 0
        values = [nothing if one is None else one for one in values]
    return as_column(column, values)


def _number(column: Column, value: Any) -> float:
    if isinstance(value, float) and math.isnan(value) and column.nullable:
        return value
    number = _finite(column, value)
    with np.errstate(over="ignore"):
        if np.isinf(type_beneath(column.dtype).type(number)):
            raise _out_of_range(column, value)
    return number


def _finite(column: Column, value: Any) -> float:
    if isinstance(value, str) and value in NON_FINITE_TEXT:
        raise Odd("E_NON_FINITE", f"{value} is no finite number; expected {_expected(column)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(column, value)
    if isinstance(value, int):
        return _float(column, value)
    if not math.isfinite(value):
        raise Odd("E_NON_FINITE", f"{value} is no finite number; expected {_expected(column)}")
    return value


def _float(column: Column, value: int) -> float:
    try:
        number = float(value)
    except OverflowError:
        raise _out_of_range(column, value) from None
    if int(number) != value:
        raise _out_of_range(column, value)
    return number


def _integer(column: Column, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        whole = value
    else:
        number = _finite(column, value)
        if not number.is_integer():
            raise _wrong_type(column, value)
        whole = int(number)
    if whole not in bounds_of(column.dtype):
        raise _out_of_range(column, value)
    return whole


def _boolean(column: Column, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(column, value)
    return value


def _string(column: Column, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong_type(column, value)
    if "\0" in value:
        raise Odd("E_CONTROL_CHAR", f"{shown(value)} holds a NUL byte; expected plain text")
    if has_surrogate(value):
        raise Odd("E_ENCODING", f"{shown(value)} cannot be written as UTF-8; expected plain text")
    return value


def _category(known: dict[tuple[bool, Any], Any], column: Column, value: Any) -> Any:
    if not isinstance(value, str | int | float):
        raise _wrong_type(column, value)
    if _identity(value) in known:
        return known[_identity(value)]
    if isinstance(value, bool) and not any(is_boolean for is_boolean, _ in known):
        raise _wrong_type(column, value)
    names = [str(one) for one in column.categories or ()]
    near = get_close_matches(value[:100], names, n=1, cutoff=0.6) if isinstance(value, str) else []
    hint = f"; the nearest is {near[0]!r}" if near else ""
    raise Odd("E_CATEGORY", f"{shown(value)} is none of its {len(names)} categories{hint}")


def _datetime(column: Column, value: Any) -> Any:
    moment = _moment(column, value)
    unit, zone = clock_of(column.dtype)
    if (moment.tzinfo is None) != (zone is None):
        raise _other_clock(value, zone)
    try:
        moment = moment if zone is None else moment.tz_convert(zone)
        return moment.as_unit(unit, round_ok=False)
    # Before or after what the unit can count, or finer than it.
    except (ValueError, OverflowError):
        raise _out_of_range(column, value) from None


def _moment(column: Column, value: Any) -> Any:
    """A point in time as pandas has it; what pandas would guess from other text is refused."""
    if not isinstance(value, str | datetime):
        raise _wrong_type(column, value)
    try:
        exact = datetime.fromisoformat(value) if isinstance(value, str) else value
        if exact.tzinfo is not None:
            exact.astimezone(UTC)  # fails outside the years 1 to 9999, where pandas does not
        if isinstance(value, str) and _NANOSECONDS.search(value):
            # Python reads six digits of a second's fraction and drops the rest; pandas reads nine.
            return pd.Timestamp(value.replace(",", "."))
        return pd.Timestamp(exact)
    except (pd.errors.OutOfBoundsDatetime, OverflowError):
        raise _out_of_range(column, value) from None
    except ValueError:
        raise _wrong_type(column, value) from None


def _other_clock(value: object, zone: object) -> Odd:
    if zone is None:
        rule = "has an offset from UTC; the times of training had none"
    else:
        rule = "has no offset from UTC; expected one, such as in 2026-01-31T12:00:00+00:00"
    return Odd("E_TYPE", f"{shown(value)} {rule}")


_CONVERT: dict[ColumnType, Callable[[Column, Any], Any]] = {
    ColumnType.INTEGER: _integer,
    ColumnType.NUMBER: _number,
    ColumnType.BOOLEAN: _boolean,
    ColumnType.STRING: _string,
    ColumnType.DATETIME: _datetime,
}

_EXPECTED = {
    ColumnType.INTEGER: "a whole number",
    ColumnType.NUMBER: "a finite number",
    ColumnType.BOOLEAN: "true or false",
    ColumnType.STRING: "text",
    ColumnType.CATEGORY: "one of the categories of training",
    ColumnType.DATETIME: "a date and time such as 2026-01-31T12:00:00",
}


def _expected(column: Column) -> str:
    return _EXPECTED[column.type]


def _wrong_type(column: Column, value: object) -> Odd:
    return Odd("E_TYPE", f"{shown(value)} is {kind_of(value)}; expected {_expected(column)}")


def _out_of_range(column: Column, value: object) -> Odd:
    return Odd("E_RANGE", f"{shown(value)} cannot be held in {column.dtype} without rounding")


def kind_of(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")
