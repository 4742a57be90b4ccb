"""Raw values to the array that pandas had in training: a column at once where it is clean, else value by value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts.schema import Column, ColumnType
from scoreline_artifacts.validation.problems import InvalidValue, Problem, kind_of, shown
from scoreline_artifacts.validation.rows import Texts

EXACT_IN_FLOAT = 2**53 - 1
"""A whole float up to here is the number that was written; a larger one may have been rounded to it."""
NON_FINITE_TEXT = frozenset({"NaN", "Infinity", "-Infinity"})
"""How callers write the numbers that JSON cannot express."""
_NANOSECONDS = re.compile(r"[.,][0-9]{7}")
_CLOCK = re.compile(
    r"(?:(?P<days>[+-]?[0-9]{1,9}) days?)?(?:,? ?(?P<sign>[+-]?)(?P<hours>[0-9]{1,9}):"
    r"(?P<minutes>[0-5][0-9]):(?P<seconds>[0-5][0-9])(?:\.(?P<fraction>[0-9]{1,9}))?)?"
)
"""A span of time as pandas and Python write it: `-1 days +23:59:59.5`, `1 day, 2:00:00`."""
_ISO_DURATION = re.compile(
    r"(?P<sign>[+-]?)P(?=.)(?:(?P<days>[+-]?[0-9]{1,9})D)?(?:T(?=.)(?:(?P<hours>[0-9]{1,9})H)?"
    r"(?:(?P<minutes>[0-9]{1,9})M)?(?:(?P<seconds>[0-9]{1,9})(?:[.,](?P<fraction>[0-9]{1,9}))?S)?)?"
)
_NANOSECONDS_IN = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_MISSING = {"None": None, "nan": np.nan, "NA": pd.NA}
_EXPECTED = {
    ColumnType.INTEGER: "a whole number",
    ColumnType.NUMBER: "a finite number",
    ColumnType.BOOLEAN: "true or false",
    ColumnType.STRING: "text",
    ColumnType.CATEGORY: "one of the categories of training",
    ColumnType.DATETIME: "a date and time such as 2026-01-31T12:00:00",
    ColumnType.DURATION: "a span of time such as P1DT2H or 1 days 02:00:00",
}


class SameObject:
    """A key for a cache that compares by identity: comparing all that a schema holds would take too long."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __hash__(self) -> int:
        return id(self.held)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameObject) and self.held is other.held


# The fast path: all values of a column at once.


def convert_column(column: Column, values: Any) -> Any | None:
    """All values of a column as an array, or as `Texts`, or None if one of them needs `convert_values`.

    `values` is a sequence of Python values, or an array of numpy's or pandas' that this column may keep.
    """
    if isinstance(values, np.ndarray | pd.api.extensions.ExtensionArray):
        return _convert_array(column, values)
    types = set(map(type, values))
    has_missing = column.nullable and type(None) in types
    if has_missing:
        types.discard(type(None))
    try:
        match column.type:
            case ColumnType.NUMBER if types <= {float, int}:
                return _as_floats(column, np.array(values, dtype=np.float64))
            case ColumnType.INTEGER if types <= {int, float} and not has_missing:
                # 120.0 is a whole number: languages with only one type of number write it so.
                whole = values if float not in types else whole_numbers(values)
                if whole is None:
                    return None
                return _as_integers(column, np.array(whole, dtype=np.int64))
            case ColumnType.BOOLEAN if types <= {bool}:
                return as_column(column, values)
            case ColumnType.STRING if types <= {str}:
                text = "".join(filter(None, values))
                is_plain = "\0" not in text and (text.isascii() or not has_surrogate(text))
                return _as_texts(column, values) if is_plain else None
            case ColumnType.CATEGORY if types <= {str}:
                is_known = _known_texts(SameObject(column)).issuperset(values)
                return _as_texts(column, values) if is_known else None
    except OverflowError:  # a whole number of more bits than numpy's types have
        return None
    return None


def whole_numbers(values: Sequence[float]) -> list[int] | None:
    """The same as whole numbers, or None if one of them is none."""
    try:
        whole = list(map(int, values))
    except (ValueError, OverflowError):  # NaN, infinity
        return None
    return whole if whole == list(values) else None


@lru_cache(maxsize=1024)
def _known_texts(key: SameObject) -> frozenset[str | None]:
    """The categories of a column that are text, and None for a missing one."""
    return frozenset({None, *(text for text in key.held.categories or () if type(text) is str)})


def _as_texts(column: Column, values: Sequence[str | None]) -> Texts:
    """Text that needs no change."""
    if column.type is ColumnType.CATEGORY:
        return Texts(values, None, np.nan, partial(array_of, column, list(values)))
    dtype = pandas_type(column.dtype)
    missing = _MISSING[column.missing] if column.dtype == "object" else dtype.na_value
    return Texts(values, dtype, missing, partial(as_column, column, values))


def _convert_array(column: Column, values: Any) -> Any | None:
    match column.type, values.dtype.kind:
        case ColumnType.NUMBER, "f" | "i" | "u":
            return _as_floats(column, values.astype(np.float64, copy=False))
        case ColumnType.INTEGER, "i" | "u":
            return _as_integers(column, values)
        case ColumnType.BOOLEAN, "b":
            return as_column(column, values)
        case (ColumnType.DATETIME, "M") | (ColumnType.DURATION, "m"):
            return _as_times(column, values)
    return None


def _as_floats(column: Column, array: npt.NDArray[np.float64]) -> Any | None:
    """As the float type of training, or None if a value is missing that may not be, or infinite in that type."""
    is_refused = np.isinf(array) if column.nullable else ~np.isfinite(array)
    if is_refused.any():
        return None
    if column.dtype == "float64":
        return array
    with np.errstate(over="ignore"):
        narrow = array.astype(numpy_type(column.dtype))
    return None if np.isinf(narrow).any() else as_column(column, narrow)


def _as_integers(column: Column, array: npt.NDArray[Any]) -> Any | None:
    """As the integer type of training, or None if a value does not fit."""
    target = numpy_type(column.dtype)
    if array.dtype != target:
        bounds = bounds_of(column.dtype)
        if len(array) and not (int(array.min()) in bounds and int(array.max()) in bounds):
            return None
        array = array.astype(target)
    return array if column.dtype == target.name else as_column(column, array)


def _as_times(column: Column, array: Any) -> Any | None:
    """As the unit and the zone of training, or None if a value does not fit."""
    unit, zone = clock_of(column.dtype)
    has_zone = getattr(array, "tz", None) is not None
    if (not column.nullable and array.isna().any()) or has_zone != (zone is not None):
        return None
    try:
        times = (array.tz_convert(zone) if has_zone else array).as_unit(unit)
        # Converted back to compare: a fraction finer than the unit of training was cut off.
        is_exact = bool(((times.as_unit(array.unit) == array) | array.isna()).all())
    except (ValueError, OverflowError):
        return None
    if not is_exact:
        return None
    return times if times.dtype == pandas_type(column.dtype) else as_column(column, times)


# The strict path: value by value, with a reason for each value that a column does not take.


def convert_values(column: Column, values: Any, problems: dict[int, Problem]) -> Any:
    """A column converted value by value; each value that it does not take adds to `problems`, by index."""
    convert = converter_of(column)
    converted: list[Any] = []
    for index, value in enumerate(values.tolist() if isinstance(values, np.ndarray) else values):
        try:
            converted.append(convert_value(column, value, convert))
        except InvalidValue as invalid:
            converted.append(None)
            if not column.unused:
                message = f"column {column.name!r}: {invalid.message}"
                problem = Problem(
                    index, invalid.code, message, column.name, shown(value), invalid.text
                )
                problems.setdefault(index, problem)
    return array_of(column, converted)


def convert_value(column: Column, value: Any, convert: Callable[[Column, Any], Any]) -> Any:
    """A value as the column holds it, None if it is missing and may be; `convert` comes from `converter_of`.

    Raises:
        InvalidValue: the column does not take it.
    """
    if value is None or value is pd.NaT:
        if column.nullable:
            return None
        raise InvalidValue("E_NULL", f"the value is missing; expected {_EXPECTED[column.type]}")
    return convert(column, value)


def converter_of(column: Column) -> Callable[[Column, Any], Any]:
    """The function that converts a value which is not missing."""
    if column.type is ColumnType.CATEGORY:
        return partial(
            _category, {_identity(category): category for category in column.categories or ()}
        )
    return _CONVERTERS[column.type]


def _identity(value: Any) -> tuple[bool, Any]:
    """A key that tells True from 1, which are equal in Python."""
    return isinstance(value, bool), value


def _number(column: Column, value: Any) -> float:
    if isinstance(value, float) and math.isnan(value) and column.nullable:
        return value
    # The nearest float, as it was in training: most decimal fractions have no float of their own either.
    number = _finite(column, value)
    with np.errstate(over="ignore"):
        if np.isinf(numpy_type(column.dtype).type(number)):
            raise _out_of_range(column, value)
    return number


def _finite(column: Column, value: Any) -> float:
    is_text = isinstance(value, str) and value in NON_FINITE_TEXT
    if is_text or (isinstance(value, float | Decimal) and not math.isfinite(value)):
        expected = _EXPECTED[column.type]
        raise InvalidValue("E_NON_FINITE", f"{value} is no finite number; expected {expected}")
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise _wrong_type(column, value)
    try:
        return float(value)
    except OverflowError:
        raise _out_of_range(column, value) from None


def _integer(column: Column, value: Any) -> int:
    is_decimal = isinstance(value, Decimal) and value.is_finite() and value == value.to_integral()
    if is_decimal or (isinstance(value, int) and not isinstance(value, bool)):
        whole = int(value)
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
        message = f"{shown(value)} holds a NUL byte; expected plain text"
        raise InvalidValue("E_CONTROL_CHAR", message)
    if has_surrogate(value):
        message = f"{shown(value)} cannot be written as UTF-8; expected plain text"
        raise InvalidValue("E_ENCODING", message)
    return value


def _category(categories: dict[tuple[bool, Any], Any], column: Column, value: Any) -> Any:
    if not isinstance(value, str | int | float | Decimal):
        raise _wrong_type(column, value)
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral() else float(value)
    if _identity(value) in categories:
        return categories[_identity(value)]
    if isinstance(value, bool) and not {(True, True), (True, False)} & categories.keys():
        raise _wrong_type(column, value)
    message = f"{shown(value)} is none of its {len(categories)} categories"
    raise InvalidValue("E_CATEGORY", message, value[:100] if isinstance(value, str) else None)


def _datetime(column: Column, value: Any) -> Any:
    """A pandas timestamp; text that pandas would have to guess at is refused."""
    if not isinstance(value, str | date):
        raise _wrong_type(column, value)
    try:
        moment: Any = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(moment, datetime) and moment.tzinfo is not None:
            moment.astimezone(UTC)  # fails outside the years 1 to 9999, where pandas does not
        if isinstance(value, str) and _NANOSECONDS.search(value):
            # Python reads six digits of a second's fraction and drops the rest; pandas reads nine.
            moment = value.replace(",", ".")
        timestamp: Any = pd.Timestamp(moment)
    except (pd.errors.OutOfBoundsDatetime, OverflowError):
        raise _out_of_range(column, value) from None
    except ValueError:
        raise _wrong_type(column, value) from None
    unit, zone = clock_of(column.dtype)
    if timestamp.tzinfo is not None and zone is None:
        rule = "has an offset from UTC; the times of training had none"
        raise InvalidValue("E_TYPE", f"{shown(value)} {rule}")
    if timestamp.tzinfo is None and zone is not None:
        rule = "has no offset from UTC; expected one, such as in 2026-01-31T12:00:00+00:00"
        raise InvalidValue("E_TYPE", f"{shown(value)} {rule}")
    try:
        timestamp = timestamp if zone is None else timestamp.tz_convert(zone)
        return timestamp.as_unit(unit, round_ok=False)
    except (ValueError, OverflowError):  # outside of the unit's range, or finer than the unit
        raise _out_of_range(column, value) from None


def _duration(column: Column, value: Any) -> Any:
    """A pandas timedelta."""
    if isinstance(value, str):
        match = _ISO_DURATION.fullmatch(value) or _CLOCK.fullmatch(value)
        if match is None or not value:
            raise _wrong_type(column, value)
        numbers = {
            name: int(digits or 0)
            for name, digits in match.groupdict("0").items()
            if name != "sign"
        }
        seconds = (numbers["hours"] * 60 + numbers["minutes"]) * 60 + numbers["seconds"]
        clock = seconds * 10**9 + int((match["fraction"] or "").ljust(9, "0"))
        days = numbers["days"] * 86_400 * 10**9
        is_negative = match["sign"] == "-"
        if match.re is _CLOCK:  # there the sign is that of the clock alone
            nanoseconds = days - clock if is_negative else days + clock
        else:
            nanoseconds = -(days + clock) if is_negative else days + clock
    elif isinstance(value, timedelta):
        microseconds = (value.days * 86_400 + value.seconds) * 10**6 + value.microseconds
        nanoseconds = microseconds * 1000 + getattr(value, "nanoseconds", 0)
    else:
        raise _wrong_type(column, value)
    unit, _ = clock_of(column.dtype)
    count, remainder = divmod(nanoseconds, _NANOSECONDS_IN[unit])
    if remainder or abs(count) >= 2**63:
        raise _out_of_range(column, value)
    exact: Any = np.timedelta64(count, unit)  # type: ignore[call-overload]  # a unit of numpy's
    return pd.Timedelta(exact)


_CONVERTERS: dict[ColumnType, Callable[[Column, Any], Any]] = {
    ColumnType.INTEGER: _integer,
    ColumnType.NUMBER: _number,
    ColumnType.BOOLEAN: _boolean,
    ColumnType.STRING: _string,
    ColumnType.DATETIME: _datetime,
    ColumnType.DURATION: _duration,
}


def _wrong_type(column: Column, value: object) -> InvalidValue:
    message = f"{shown(value)} is {kind_of(value)}; expected {_EXPECTED[column.type]}"
    return InvalidValue("E_TYPE", message)


def _out_of_range(column: Column, value: object) -> InvalidValue:
    exactly = "" if column.type is ColumnType.NUMBER else " without rounding"
    return InvalidValue("E_RANGE", f"{shown(value)} cannot be held in {column.dtype}{exactly}")


def has_surrogate(text: str) -> bool:
    """Whether text cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


# Arrays of the types of training.


def array_of(column: Column, values: list[Any]) -> Any:
    """Converted values, None where one is missing or invalid, as the array that pandas had in training."""
    if column.type is ColumnType.CATEGORY:
        return pd.Categorical(values, dtype=category_type(column))
    dtype = pandas_type(column.dtype)
    if isinstance(dtype, np.dtype) and dtype.kind in "fiub":
        # In a column without missing values, None stands for a record with a problem, which is dropped.
        placeholder = np.nan if dtype.kind == "f" else 0
        values = [placeholder if value is None else value for value in values]
    return as_column(column, values)


def as_column(column: Column, values: Sequence[Any] | npt.NDArray[Any]) -> Any:
    """Values that fit as the array that pandas had in training, of a plain numpy type if it had one."""
    if column.dtype == "object":
        # pandas 3 would give an array of text its own text type.
        objects = pd.Series(values, dtype=object)
        if column.nullable and column.missing != "None":
            objects[objects.isna()] = _MISSING[column.missing]
        return objects
    dtype = pandas_type(column.dtype)
    if isinstance(dtype, np.dtype) and dtype.kind not in "mM":
        return np.asarray(values, dtype=dtype)
    return pd.array(values, dtype=dtype)


@lru_cache(maxsize=256)
def pandas_type(dtype: str) -> Any:
    """The type of a column from its name in the manifest."""
    return pd.api.types.pandas_dtype(dtype)


def category_type(column: Column) -> Any:
    """The type of a category column, with categories of the type that they had in training."""
    listed = list(column.categories or ())
    dtype = None if column.categories_dtype is None else pandas_type(column.categories_dtype)
    return pd.CategoricalDtype(pd.Index(listed, dtype=dtype), ordered=column.ordered)


def numpy_type(dtype: str) -> np.dtype[Any]:
    """numpy's type for the values of a column, also where pandas wraps it (Int8)."""
    column_type = pandas_type(dtype)
    inner: np.dtype[Any] = (
        column_type if isinstance(column_type, np.dtype) else column_type.numpy_dtype
    )
    return inner


@lru_cache(maxsize=256)
def bounds_of(dtype: str) -> range:
    """The whole numbers that a column of integers can hold."""
    info = np.iinfo(numpy_type(dtype))
    return range(int(info.min), int(info.max) + 1)


@lru_cache(maxsize=256)
def clock_of(dtype: str) -> tuple[str, tzinfo | str | None]:
    """The unit in which a column keeps points or spans of time, and their time zone."""
    column_type = pandas_type(dtype)
    if isinstance(column_type, pd.ArrowDtype):
        inner = column_type.pyarrow_dtype
        return inner.unit, getattr(inner, "tz", None)
    if isinstance(column_type, np.dtype):
        return np.datetime_data(column_type)[0], None
    return column_type.unit, column_type.tz
