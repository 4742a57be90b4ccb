"""The columns of a training frame: the contract that raw records are checked against."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from scoreline_artifacts.errors import UnsuitableData

if TYPE_CHECKING:
    import pandas as pd

MAX_CATEGORIES = 1000
"""Values of a category column that are recorded at most."""
MAX_KNOWN_TEXTS = 200
"""Different values of a text column that are recorded at most, and only if they are repeated: a text
that differs in every row is no category, and may be somebody's name."""
_LONGEST_KNOWN_TEXT = 100


class ColumnType(StrEnum):
    """The kinds of values that a column can hold."""

    INTEGER = "integer"
    """A whole number that fits 64 bits; 5.0 is one, 5.5 is not."""
    NUMBER = "number"
    """A finite number."""
    BOOLEAN = "boolean"
    """True or false; 0 and 1 are not."""
    STRING = "string"
    """Text."""
    CATEGORY = "category"
    """One of the values that a pandas category column had in training."""
    DATETIME = "datetime"
    """A point in time, as ISO 8601 text."""


_TYPES_OF_OBJECTS = {
    "string": ColumnType.STRING,
    "boolean": ColumnType.BOOLEAN,
    "empty": ColumnType.STRING,
}
"""Type of a column of Python objects, by what pandas infers from its values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the training frame."""

    name: str
    type: ColumnType
    dtype: str
    """Its dtype in pandas; the pipeline gets the same again."""
    nullable: bool = False
    """Whether a value was missing in training; only then may one be missing now."""
    minimum: float | None = None
    """Smallest training value of a number; used for display and warnings, never to refuse a value."""
    maximum: float | None = None
    """Largest training value of a number."""
    categories: tuple[Any, ...] | None = None
    """All values of a category column; of a text column, those of training, if they were few. A text that
    is not among them is refused only if a request wants that."""
    ordered: bool = False
    """Whether pandas had the categories in an order of size."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of the training frame, in order."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @classmethod
    def infer(cls, frame: pd.DataFrame) -> Schema:
        """Describe a training frame.

        Raises:
            UnsuitableData: a column's name is no text or not unique, or its type is not supported.
        """
        names = list(frame.columns)
        if not all(isinstance(name, str) for name in names):
            raise UnsuitableData(
                f"columns must have text as names, since records are given by name; found {names!r}"
            )
        if len(set(names)) != len(names):
            duplicates = sorted({name for name in names if names.count(name) > 1})
            raise UnsuitableData(f"duplicate columns in the training frame: {duplicates}")
        return cls(tuple(_describe(frame[name]) for name in names))


def _describe(series: pd.Series[Any]) -> Column:
    column_type = _type_of(series)
    present = series.dropna()
    minimum = maximum = categories = None
    if column_type in (ColumnType.INTEGER, ColumnType.NUMBER):
        finite = present[(present > -math.inf) & (present < math.inf)]
        if len(finite):
            minimum, maximum = float(finite.min()), float(finite.max())
    elif column_type is ColumnType.CATEGORY:
        categories = _categories(series)
    elif column_type is ColumnType.STRING:
        # Only if each value came twice or more on average, and they are few.
        distinct = present.unique()
        if 0 < len(distinct) <= min(MAX_KNOWN_TEXTS, len(present) // 2):
            texts = sorted(map(str, distinct))
            if len(max(texts, key=len)) <= _LONGEST_KNOWN_TEXT:
                categories = tuple(texts)
    return Column(
        name=str(series.name),
        type=column_type,
        dtype=str(series.dtype),
        nullable=len(present) < len(series),
        minimum=minimum,
        maximum=maximum,
        categories=categories,
        ordered=column_type is ColumnType.CATEGORY and bool(series.cat.ordered),
    )


def _categories(series: pd.Series[Any]) -> tuple[Any, ...]:
    categories = tuple(series.cat.categories.tolist())
    if len(categories) > MAX_CATEGORIES:
        raise UnsuitableData(
            f"column {series.name!r} has {len(categories)} categories; at most {MAX_CATEGORIES} are "
            "recorded. Pass it as text."
        )
    for category in categories:
        if not isinstance(category, str | int | float):
            raise UnsuitableData(
                f"column {series.name!r} has the category {category!r}, a {type(category).__name__}; "
                "records can give text, numbers and booleans. Turn the categories into text."
            )
    return categories


def _type_of(series: pd.Series[Any]) -> ColumnType:
    import pandas as pd
    from pandas.api import types

    dtype = series.dtype
    kinds = (
        (types.is_string_dtype, ColumnType.STRING),
        (types.is_bool_dtype, ColumnType.BOOLEAN),
        (types.is_integer_dtype, ColumnType.INTEGER),
        (types.is_float_dtype, ColumnType.NUMBER),
        (_is_datetime, ColumnType.DATETIME),
    )
    column_type = None
    if str(dtype) == "category":
        column_type = ColumnType.CATEGORY
    elif str(dtype) == "object":
        # The dtype says nothing here, so the values do.
        column_type = _TYPES_OF_OBJECTS.get(types.infer_dtype(series, skipna=True))
    elif types.is_string_dtype(dtype) or (
        not isinstance(dtype, pd.SparseDtype) and _can_be_made_from_its_name(dtype)
    ):
        column_type = next((kind for matches, kind in kinds if matches(dtype)), None)
    if column_type is None:
        raise UnsuitableData(
            f"column {series.name!r} has the type {dtype}, or values in it that are neither all text "
            "nor all booleans; give it one of: integers, floats, booleans, text, category, datetime"
        )
    return column_type


def _is_datetime(dtype: Any) -> bool:
    return str(dtype).startswith(("datetime64[", "timestamp["))


def _can_be_made_from_its_name(dtype: Any) -> bool:
    """Whether pandas makes the same dtype from its name, which is all that a manifest holds."""
    import pandas as pd

    try:
        return bool(pd.api.types.pandas_dtype(str(dtype)) == dtype)
    except TypeError:
        return False
