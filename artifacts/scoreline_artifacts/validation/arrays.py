"""Values that fit a column as the array that pandas had in training; columns at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts.schema import Column, ColumnType

EXACT_IN_FLOAT = 2**53 - 1
"""A float up to here that is whole is what was written; a larger one may have been rounded to it."""


def at_once(column: Column, values: Sequence[Any] | npt.NDArray[Any]) -> Any | None:
    """All values of a column converted; None if one of them must be looked at closer."""
    if isinstance(values, np.ndarray):
        return _array_at_once(column, values)
    kinds = set(map(type, values))
    match column.type:
        case ColumnType.NUMBER if kinds <= {float, int}:
            return _numbers_at_once(column, values, has_int=int in kinds)
        case ColumnType.INTEGER if kinds <= {int}:
            return _integers_at_once(column, values)
        case ColumnType.BOOLEAN if kinds <= {bool}:
            return as_column(column, values)
        case ColumnType.STRING if kinds <= {str} and _is_plain_text("".join(values)):
            return as_column(column, values)
    return None


def _is_plain_text(text: str) -> bool:
    if text.isascii():
        return "\0" not in text
    return "\0" not in text and not has_surrogate(text)


def has_surrogate(text: str) -> bool:
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
        narrow = array.astype(type_beneath(column.dtype))
    return None if np.isinf(narrow).any() else as_column(column, narrow)


def _integers(column: Column, array: npt.NDArray[np.int64]) -> Any | None:
    """To the integer type of training, if all values fit."""
    if column.dtype == "int64":
        return array
    bounds = bounds_of(column.dtype)
    if len(array) and not (int(array.min()) in bounds and int(array.max()) in bounds):
        return None
    return as_column(column, array.astype(type_beneath(column.dtype)))


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
            return as_column(column, values)
    return None


def _is_non_finite(array: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return ~np.isfinite(array)


def as_column(column: Column, values: Sequence[Any] | npt.NDArray[Any]) -> Any:
    """Values that fit as the array that pandas had in training, with a plain numpy type if it had."""
    if column.dtype == "object":
        # As an array, pandas 3 would take text in it for its own type of text.
        return pd.Series(values, dtype=object)
    kind = pandas_type(column.dtype)
    if isinstance(kind, np.dtype) and kind.kind != "M":
        return np.asarray(values, dtype=kind)
    return pd.array(values, dtype=kind)


@lru_cache(maxsize=256)
def pandas_type(dtype: str) -> Any:
    return pd.api.types.pandas_dtype(dtype)


def type_beneath(dtype: str) -> np.dtype[Any]:
    """numpy's type for the values of a column, where pandas has wrapped it as well (Int8)."""
    kind = pandas_type(dtype)
    beneath: np.dtype[Any] = kind if isinstance(kind, np.dtype) else kind.numpy_dtype
    return beneath


@lru_cache(maxsize=256)
def bounds_of(dtype: str) -> range:
    """The whole numbers that a column of integers can hold."""
    info = np.iinfo(type_beneath(dtype))
    return range(int(info.min), int(info.max) + 1)


@lru_cache(maxsize=256)
def clock_of(dtype: str) -> tuple[str, tzinfo | str | None]:
    """The unit and the time zone in which a column keeps points in time."""
    kind = pandas_type(dtype)
    if isinstance(kind, pd.ArrowDtype):
        return kind.pyarrow_dtype.unit, kind.pyarrow_dtype.tz
    if isinstance(kind, np.dtype):
        return np.datetime_data(kind)[0], None
    return kind.unit, kind.tz
