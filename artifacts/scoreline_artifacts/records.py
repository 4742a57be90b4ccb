"""Raw records to the frame that the pipeline was trained on, with one problem per bad record.

The rules are Scoreline's own and the same wherever records come from: nothing is guessed, and
nothing is converted that would change a value. The common case, all well, is columns at a time; only
a column in which something is odd is looked at value by value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from difflib import get_close_matches
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts.schema import Column, ColumnType, Schema

NON_FINITE_TEXT = frozenset({"NaN", "Infinity", "-Infinity"})
"""How callers spell in JSON what JSON cannot say."""
EXACT_IN_FLOAT = 2**53 - 1
"""A float up to here that is whole is what was written; a larger one may have been rounded to it."""
_NANOSECONDS = re.compile(r"[.,][0-9]{7}")


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
    text = ascii(value[:100]) if isinstance(value, str) else _written(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _written(value: object) -> str:
    try:
        return ascii(value)
    # A whole number of more digits, or lists nested deeper, than Python writes out.
    except (ValueError, RecursionError):
        return f"<{type(value).__name__}>"


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
    """The same for values that come by column; a column that is not there fails every record."""
    arrays: dict[str, Any] = {}
    problems: dict[int, Problem] = {}
    for column in schema.columns:
        if column.name not in columns:
            return _without_column(column.name, columns, count, schema)
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


def _without_column(
    name: str, columns: Mapping[str, object], count: int, schema: Schema
) -> Checked:
    message = missing_column(name, list(columns))
    problems = [Problem(row, "E_MISSING_COLUMN", message, name) for row in range(count)]
    nothing: dict[str, list[Any]] = {column: [] for column in schema.names}
    frame = frame_of_columns(nothing, 0, schema).frame
    return Checked(frame, np.array([], dtype=np.intp) if problems else None, problems)


def _take(array: Any, good: npt.NDArray[np.intp]) -> Any:
    kept = array.take(good)
    return kept.reset_index(drop=True) if isinstance(kept, pd.Series) else kept


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
            message = missing_column(missing, [key for key in record if isinstance(key, str)])
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
            return _as_column(column, values)
        case ColumnType.STRING if kinds <= {str} and _is_plain_text("".join(values)):
            return _as_column(column, values)
    return None


def _is_plain_text(text: str) -> bool:
    if text.isascii():
        return "\0" not in text
    return "\0" not in text and not _has_surrogate(text)


def _has_surrogate(text: str) -> bool:
    """Whether text cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _numbers_at_once(column: Column, values: Sequence[Any], *, has_int: bool) -> Any | None:
    try:
        array = np.array(values, dtype=np.float64)
    except OverflowError:
        return None
    if not np.isfinite(array).all() or (has_int and (np.abs(array) > EXACT_IN_FLOAT).any()):
        return None
    return _floats(column, array)


def _integers_at_once(column: Column, values: Sequence[Any]) -> Any | None:
    try:
        array = np.array(values, dtype=np.int64)
    except OverflowError:
        return None
    return _integers(column, array)


def _floats(column: Column, array: npt.NDArray[np.float64]) -> Any | None:
    """To the float type of training, if no value becomes infinite there."""
    if column.dtype == "float64":
        return array
    with np.errstate(over="ignore"):
        narrow = array.astype(_type_beneath(column.dtype))
    return None if np.isinf(narrow).any() else _as_column(column, narrow)


def _integers(column: Column, array: npt.NDArray[np.int64]) -> Any | None:
    """To the integer type of training, if all values fit."""
    if column.dtype == "int64":
        return array
    bounds = _bounds(column.dtype)
    if len(array) and not (int(array.min()) in bounds and int(array.max()) in bounds):
        return None
    return _as_column(column, array.astype(_type_beneath(column.dtype)))


def _array_at_once(column: Column, values: npt.NDArray[Any]) -> Any | None:
    match column.type, values.dtype.kind:
        case ColumnType.NUMBER, "f":
            refused = np.isinf if column.nullable else _is_non_finite
            array = values.astype(np.float64, copy=False)
            return None if refused(array).any() else _floats(column, array)
        case ColumnType.NUMBER, "i" | "u":
            array = values.astype(np.float64)
            return None if (np.abs(array) > EXACT_IN_FLOAT).any() else _floats(column, array)
        case ColumnType.INTEGER, "i":
            return _integers(column, values.astype(np.int64, copy=False))
        case ColumnType.BOOLEAN, "b":
            return _as_column(column, values)
    return None


def _is_non_finite(array: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return ~np.isfinite(array)


def _as_column(column: Column, values: Sequence[Any] | npt.NDArray[Any]) -> Any:
    """Values that fit as the array that pandas had in training, with a plain numpy type if it had."""
    if column.dtype == "object":
        # As an array, pandas 3 would take text in it for its own type of text.
        return pd.Series(values, dtype=object)
    kind = _pandas_type(column.dtype)
    if isinstance(kind, np.dtype) and kind.kind != "M":
        return np.asarray(values, dtype=kind)
    return pd.array(values, dtype=kind)


@lru_cache(maxsize=256)
def _pandas_type(dtype: str) -> Any:
    return pd.api.types.pandas_dtype(dtype)


def _type_beneath(dtype: str) -> np.dtype[Any]:
    """numpy's type for the values of a column, where pandas has wrapped it as well (Int8)."""
    kind = _pandas_type(dtype)
    beneath: np.dtype[Any] = kind if isinstance(kind, np.dtype) else kind.numpy_dtype
    return beneath


@lru_cache(maxsize=256)
def _bounds(dtype: str) -> range:
    """The whole numbers that a column of integers can hold."""
    info = np.iinfo(_type_beneath(dtype))
    return range(int(info.min), int(info.max) + 1)


@lru_cache(maxsize=256)
def _clock(dtype: str) -> tuple[str, tzinfo | str | None]:
    """The unit and the time zone in which a column keeps points in time."""
    kind = _pandas_type(dtype)
    if isinstance(kind, pd.ArrowDtype):
        return kind.pyarrow_dtype.unit, kind.pyarrow_dtype.tz
    if isinstance(kind, np.dtype):
        return np.datetime_data(kind)[0], None
    return kind.unit, kind.tz


# Value by value.


def _one_by_one(
    column: Column, values: Sequence[Any] | npt.NDArray[Any], problems: dict[int, Problem]
) -> Any:
    convert = _converter(column)
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
    if value is None or value is pd.NaT:
        if column.nullable:
            return None
        raise _Odd("E_NULL", f"the value is missing; expected {_expected(column)}")
    return convert(column, value)


def _converter(column: Column) -> Callable[[Column, Any], Any]:
    if column.type is ColumnType.CATEGORY:
        return partial(_category, {_identity(one): one for one in column.categories or ()})
    return _CONVERT[column.type]


def _identity(value: Any) -> tuple[bool, Any]:
    """What tells values apart: to Python, True and 1 are the same."""
    return isinstance(value, bool), value


def _array(column: Column, values: list[Any]) -> Any:
    """Values that are right or None as the array that pandas had in training."""
    if column.type is ColumnType.CATEGORY:
        categories = list(column.categories or ())
        return pd.Categorical(values, categories=categories, ordered=column.ordered)
    kind = _pandas_type(column.dtype)
    if isinstance(kind, np.dtype) and kind.kind in "fiub":
        # In a column that cannot have it, None stands for a row with a problem: it is not kept.
        nothing = np.nan if kind.kind == "f" else 0
        values = [nothing if one is None else one for one in values]
    return _as_column(column, values)


def _number(column: Column, value: Any) -> float:
    if isinstance(value, float) and math.isnan(value) and column.nullable:
        return value
    number = _finite(column, value)
    with np.errstate(over="ignore"):
        if np.isinf(_type_beneath(column.dtype).type(number)):
            raise _out_of_range(column, value)
    return number


def _finite(column: Column, value: Any) -> float:
    if isinstance(value, str) and value in NON_FINITE_TEXT:
        raise _Odd("E_NON_FINITE", f"{value} is no finite number; expected {_expected(column)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(column, value)
    if isinstance(value, int):
        return _float(column, value)
    if not math.isfinite(value):
        raise _Odd("E_NON_FINITE", f"{value} is no finite number; expected {_expected(column)}")
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
    if whole not in _bounds(column.dtype):
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
        raise _Odd("E_CONTROL_CHAR", f"{shown(value)} holds a NUL byte; expected plain text")
    if _has_surrogate(value):
        raise _Odd("E_ENCODING", f"{shown(value)} cannot be written as UTF-8; expected plain text")
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
    raise _Odd("E_CATEGORY", f"{shown(value)} is none of its {len(names)} categories{hint}")


def _datetime(column: Column, value: Any) -> Any:
    moment = _moment(column, value)
    unit, zone = _clock(column.dtype)
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


def _other_clock(value: object, zone: object) -> _Odd:
    if zone is None:
        rule = "has an offset from UTC; the times of training had none"
    else:
        rule = "has no offset from UTC; expected one, such as in 2026-01-31T12:00:00+00:00"
    return _Odd("E_TYPE", f"{shown(value)} {rule}")


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


def _wrong_type(column: Column, value: object) -> _Odd:
    return _Odd("E_TYPE", f"{shown(value)} is {_kind(value)}; expected {_expected(column)}")


def _out_of_range(column: Column, value: object) -> _Odd:
    return _Odd("E_RANGE", f"{shown(value)} cannot be held in {column.dtype} without rounding")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")
