"""Raw records to the frame that the pipeline was trained on, with one problem per bad record.

The rules are Scoreline's own and the same wherever records come from: nothing is guessed, and
nothing is converted that would change a value. The common case, all well, is columns at a time; only
a column in which something is odd is looked at value by value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts.schema import Column, ColumnType, Schema

NON_FINITE_TEXT = frozenset({"NaN", "Infinity", "-Infinity"})
"""How callers spell in JSON what JSON cannot say."""
EXACT_IN_FLOAT = 2**53
INT64 = range(-(2**63), 2**63)


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
class Checked:
    """Records held to a schema."""

    frame: pd.DataFrame
    """The good records, in order, with the columns and types of training."""
    good: npt.NDArray[np.intp] | None
    """The places of the good records; None when all are good."""
    problems: list[Problem]
    """One for each bad record, in order."""


class _Odd(Exception):
    """A value that a column does not take."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def shown(value: object) -> str:
    """A value as it may stand in a message: escaped, at most 80 characters."""
    text = ascii(value) if not isinstance(value, str) else ascii(value[:100])
    return text if len(text) <= 80 else text[:77] + "..."


def frame_of_records(records: Sequence[object], schema: Schema | None) -> Checked:
    """Check records against a schema and build the pipeline's frame from the good ones.

    Without a schema, any mappings are taken as they are.
    """
    if schema is None:
        return _without_schema(records)
    try:
        # A mapping is a dict wherever records were decoded; anything else goes the careful way.
        columns: dict[str, Sequence[Any]] = {
            column.name: [record[column.name] for record in records]  # type: ignore[index]
            for column in schema.columns
        }
    except (KeyError, TypeError, IndexError):
        return _record_by_record(records, schema)
    if set(map(type, records)) - {dict}:
        return _record_by_record(records, schema)
    return frame_of_columns(columns, len(records), schema)


def frame_of_columns(
    columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]], count: int, schema: Schema
) -> Checked:
    """The same for values that come by column; every column of the schema must be there."""
    arrays: dict[str, Any] = {}
    problems: dict[int, Problem] = {}
    for column in schema.columns:
        values = columns[column.name]
        array = _at_once(column, values)
        if array is None:
            array = _one_by_one(column, values, problems)
        arrays[column.name] = array
    if not problems:
        return Checked(pd.DataFrame(arrays, copy=False), None, [])
    good = np.array([row for row in range(count) if row not in problems], dtype=np.intp)
    kept = {name: _take(array, good) for name, array in arrays.items()}
    frame = pd.DataFrame(kept, index=range(len(good)))
    return Checked(frame, good, [problems[row] for row in sorted(problems)])


def _take(array: Any, good: npt.NDArray[np.intp]) -> Any:
    return array.take(good)


def _without_schema(records: Sequence[object]) -> Checked:
    problems = [
        Problem(place, "E_TYPE", _not_a_mapping(record), None, shown(record))
        for place, record in enumerate(records)
        if not isinstance(record, Mapping)
    ]
    good = [place for place, record in enumerate(records) if isinstance(record, Mapping)]
    frame = pd.DataFrame([records[place] for place in good])
    return Checked(frame, np.array(good, dtype=np.intp) if problems else None, problems)


def _not_a_mapping(record: object) -> str:
    return f"the record is {_kind(record)}; expected an object with a value for each column"


def _record_by_record(records: Sequence[object], schema: Schema) -> Checked:
    """Sort out records that lack a column or are none, and check the rest by column."""
    problems: list[Problem] = []
    good: list[int] = []
    for place, record in enumerate(records):
        if not isinstance(record, Mapping):
            problems.append(Problem(place, "E_TYPE", _not_a_mapping(record), None, shown(record)))
            continue
        missing = next((name for name in schema.names if name not in record), None)
        if missing is None:
            good.append(place)
        else:
            message = missing_column(missing, [str(key) for key in record])
            problems.append(Problem(place, "E_MISSING_COLUMN", message, missing))
    columns = {name: [records[place][name] for place in good] for name in schema.names}  # type: ignore[index]
    checked = frame_of_columns(columns, len(good), schema)
    problems += [
        Problem(good[one.record], one.code, one.message, one.column, one.value)
        for one in checked.problems
    ]
    kept = good if checked.good is None else [good[row] for row in checked.good]
    ordered = sorted(problems, key=lambda one: one.record)
    return Checked(checked.frame, np.array(kept, dtype=np.intp), ordered)


def missing_column(name: str, found: Sequence[str]) -> str:
    """The message for a column that is not there."""
    near = get_close_matches(name, [one.strip() for one in found], n=1, cutoff=0.7)
    near = near or [one for one in found if one.strip().casefold() == name.casefold()]
    hint = f"; did you mean it by {near[0]!r}?" if near else ""
    return f"column {name!r} is missing{hint}"


# Columns at a time: an array when every value is plainly right, None when somebody must look closer.


def _at_once(column: Column, values: Sequence[Any] | npt.NDArray[Any]) -> Any | None:
    if isinstance(values, np.ndarray):
        return _array_at_once(column, values)
    kinds = set(map(type, values))
    match column.type:
        case ColumnType.NUMBER if kinds <= {float, int}:
            return _numbers_at_once(column, values, has_int=int in kinds)
        case ColumnType.INTEGER if kinds <= {int}:
            return _integers_at_once(column, values)
        case ColumnType.BOOLEAN if kinds <= {bool}:
            return np.array(values, dtype=column.dtype)
        case ColumnType.STRING if kinds <= {str}:
            return _text(column, values)
    return None


def _numbers_at_once(column: Column, values: Sequence[Any], *, has_int: bool) -> Any | None:
    try:
        array = np.array(values, dtype=np.float64)
    except OverflowError:
        return None
    if not np.isfinite(array).all() or (has_int and (np.abs(array) > EXACT_IN_FLOAT).any()):
        return None
    return array.astype(column.dtype, copy=False)


def _integers_at_once(column: Column, values: Sequence[Any]) -> Any | None:
    try:
        array = np.array(values, dtype=np.int64)
    except OverflowError:
        return None
    return _narrowed(column, array)


def _narrowed(column: Column, array: npt.NDArray[np.int64]) -> Any | None:
    """To a smaller integer type of training, if all values fit."""
    if column.dtype == "int64":
        return array
    if column.dtype[0] not in "iu":
        return pd.array(array, dtype=column.dtype)
    bounds = np.iinfo(column.dtype)
    if len(array) and (array.min() < bounds.min or array.max() > bounds.max):
        return None
    return array.astype(column.dtype)


def _array_at_once(column: Column, values: npt.NDArray[Any]) -> Any | None:
    kind = values.dtype.kind
    if column.type is ColumnType.NUMBER and kind == "f":
        if not column.nullable and not np.isfinite(values).all():
            return None
        if column.nullable and np.isinf(values).any():
            return None
        return values.astype(column.dtype, copy=False)
    if column.type is ColumnType.NUMBER and kind in "iu":
        exact = not len(values) or (np.abs(values.astype(np.float64)) <= EXACT_IN_FLOAT).all()
        return values.astype(column.dtype) if exact else None
    if column.type is ColumnType.INTEGER and kind == "i":
        return _narrowed(column, values.astype(np.int64, copy=False))
    if column.type is ColumnType.BOOLEAN and kind == "b":
        return values.astype(column.dtype)
    return None


def _text(column: Column, values: Sequence[Any]) -> Any:
    if column.dtype == "object":
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array
    return pd.array(values, dtype=column.dtype)


# Value by value.


def _one_by_one(
    column: Column, values: Sequence[Any] | npt.NDArray[Any], problems: dict[int, Problem]
) -> Any:
    convert = _CONVERT[column.type]
    converted: list[Any] = []
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    for row, value in enumerate(plain):
        try:
            converted.append(_convert(column, value, convert))
        except _Odd as odd:
            converted.append(None)
            message = f"column {column.name!r}: {odd.message}"
            problems.setdefault(row, Problem(row, odd.code, message, column.name, shown(value)))
    return _array(column, converted)


def _convert(column: Column, value: Any, convert: Callable[[Column, Any], Any]) -> Any:
    if value is None:
        if column.nullable:
            return None
        raise _Odd("E_NULL", f"the value is missing; expected {_expected(column)}")
    return convert(column, value)


def _array(column: Column, values: list[Any]) -> Any:
    """Values that are right or None as the array that pandas had in training."""
    match column.type:
        case ColumnType.INTEGER | ColumnType.BOOLEAN if column.dtype[0] in "iub":
            # None stands for a row that has a problem and will not be kept.
            return np.array([one or 0 for one in values], dtype=column.dtype)
        case ColumnType.NUMBER if column.dtype.startswith("float"):
            return np.array([np.nan if one is None else one for one in values], column.dtype)
        case ColumnType.STRING:
            return _text(column, values)
        case ColumnType.CATEGORY:
            return pd.Categorical(values, categories=list(column.categories or ()))
        case ColumnType.DATETIME:
            return pd.Series(pd.to_datetime(values, format="ISO8601")).astype(column.dtype).array
    return pd.array(values, dtype=column.dtype)


def _number(column: Column, value: Any) -> float:
    if isinstance(value, str) and value in NON_FINITE_TEXT:
        raise _Odd("E_NON_FINITE", f"{value} is no finite number; expected {_expected(column)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(column, value)
    if isinstance(value, int):
        if abs(value) > EXACT_IN_FLOAT and int(_float(column, value)) != value:
            raise _out_of_range(column, value)
        return float(value)
    if math.isnan(value) and column.nullable:
        return value
    if not math.isfinite(value):
        raise _Odd("E_NON_FINITE", f"{value} is no finite number; expected {_expected(column)}")
    return value


def _float(column: Column, value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise _out_of_range(column, value) from None


def _integer(column: Column, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        whole = value
    else:
        number = _number(column, value)
        if not number.is_integer():
            raise _wrong_type(column, value)
        whole = int(number)
    bounds = INT64
    if column.dtype[0] in "iu":
        info = np.iinfo(column.dtype)
        bounds = range(int(info.min), int(info.max) + 1)
    if whole not in bounds:
        raise _out_of_range(column, value)
    return whole


def _boolean(column: Column, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(column, value)
    return value


def _string(column: Column, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong_type(column, value)
    return value


def _category(column: Column, value: Any) -> Any:
    if value not in (column.categories or ()):
        known = [str(one) for one in column.categories or ()]
        near = get_close_matches(str(value), known, n=1, cutoff=0.6)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        raise _Odd("E_CATEGORY", f"{shown(value)} is none of its {len(known)} categories{hint}")
    return value


def _datetime(column: Column, value: Any) -> Any:
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            raise _wrong_type(column, value) from None
    if isinstance(value, datetime):
        return value
    raise _wrong_type(column, value)


_CONVERT: dict[ColumnType, Callable[[Column, Any], Any]] = {
    ColumnType.INTEGER: _integer,
    ColumnType.NUMBER: _number,
    ColumnType.BOOLEAN: _boolean,
    ColumnType.STRING: _string,
    ColumnType.CATEGORY: _category,
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


def _wrong_type(column: Column, value: object) -> _Odd:
    return _Odd("E_TYPE", f"{shown(value)} is {_kind(value)}; expected {_expected(column)}")


def _out_of_range(column: Column, value: object) -> _Odd:
    return _Odd("E_RANGE", f"{shown(value)} cannot be held in {column.dtype} without rounding")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")
