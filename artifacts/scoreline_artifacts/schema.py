"""What the training frame looked like: the contract that raw records are held to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from scoreline_artifacts.errors import UnsuitableData

if TYPE_CHECKING:
    import pandas as pd

MAX_CATEGORIES = 1000
"""At most so many values of a category column are recorded."""
MAX_KNOWN_TEXTS = 200
"""At most so many different values of a text column are recorded, and only if they come again and
again: what is different in every row is no category, and may be somebody's name."""
_LONGEST_KNOWN_TEXT = 100


class ColumnType(StrEnum):
    """What a value of a column may be."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the training frame."""

    name: str
    type: ColumnType
    dtype: str
    """What pandas called it; the pipeline gets the same again."""
    nullable: bool = False
    """Whether a value was missing in training; only then may one be missing now."""
    minimum: float | None = None
    """Smallest training value of a number; for people and warnings, nothing is refused for it."""
    maximum: float | None = None
    """Largest training value of a number."""
    categories: tuple[Any, ...] | None = None
    """All values of a category column; of a text column, those of training, if they were few. Then no
    value is refused for it, unless a request asks for that."""
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
            twice = sorted({name for name in names if names.count(name) > 1})
            raise UnsuitableData(f"columns occur more than once in the training frame: {twice}")
        return cls(tuple(_describe(frame[name]) for name in names))


_OBJECTS = {
    "string": ColumnType.STRING,
    "boolean": ColumnType.BOOLEAN,
    "empty": ColumnType.STRING,
}
"""What a column of Python objects is, by what pandas finds in it."""


def _describe(series: pd.Series[Any]) -> Column:
    name = str(series.name)
    kind = _type_of(series)
    present = series.dropna()
    minimum, maximum = _range(present, kind)
    is_category = kind is ColumnType.CATEGORY
    known = _known_texts(present) if kind is ColumnType.STRING else None
    return Column(
        name=name,
        type=kind,
        dtype=str(series.dtype),
        nullable=len(present) < len(series),
        minimum=minimum,
        maximum=maximum,
        categories=_categories(series) if is_category else known,
        ordered=is_category and bool(series.cat.ordered),
    )


def _range(present: pd.Series[Any], kind: ColumnType) -> tuple[float | None, float | None]:
    """The smallest and the largest finite number."""
    if kind not in (ColumnType.INTEGER, ColumnType.NUMBER):
        return None, None
    finite = present[(present > -math.inf) & (present < math.inf)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (None, None)


def _known_texts(present: pd.Series[Any]) -> tuple[str, ...] | None:
    """The values of a text column, if each came twice or more on average and they are few."""
    found = present.unique()
    if not len(found) or len(found) > min(MAX_KNOWN_TEXTS, len(present) // 2):
        return None
    texts = sorted(map(str, found))
    return tuple(texts) if len(max(texts, key=len)) <= _LONGEST_KNOWN_TEXT else None


def _categories(series: pd.Series[Any]) -> tuple[Any, ...]:
    found = tuple(series.cat.categories.tolist())
    if len(found) > MAX_CATEGORIES:
        raise UnsuitableData(
            f"column {series.name!r} has {len(found)} categories; at most {MAX_CATEGORIES} are "
            "recorded. Pass it as text."
        )
    odd = next((one for one in found if not isinstance(one, str | int | float)), None)
    if odd is not None:
        raise UnsuitableData(
            f"column {series.name!r} has the category {odd!r}, a {type(odd).__name__}; records can "
            "give text, numbers and booleans. Turn the categories into text."
        )
    return found


def _is_datetime(dtype: Any) -> bool:
    return str(dtype).startswith(("datetime64[", "timestamp["))


def _has_name(dtype: Any) -> bool:
    """Whether pandas makes the same type from its name, which is all that a manifest holds."""
    import pandas as pd

    try:
        return bool(pd.api.types.pandas_dtype(str(dtype)) == dtype)
    except TypeError:
        return False


def _type_of(series: pd.Series[Any]) -> ColumnType:
    import pandas.api.types as types

    dtype = series.dtype
    if str(dtype) == "category":
        return ColumnType.CATEGORY
    if str(dtype) == "object":
        # The dtype says nothing here, so the values do.
        kind = _OBJECTS.get(types.infer_dtype(series, skipna=True))
    else:
        kind = _type_of_dtype(dtype)
    if kind is None:
        raise UnsuitableData(
            f"column {series.name!r} has the type {dtype}, or values in it that are neither all text "
            "nor all booleans; give it one of: integers, floats, booleans, text, category, datetime"
        )
    return kind


def _type_of_dtype(dtype: Any) -> ColumnType | None:
    import pandas as pd
    import pandas.api.types as types

    if types.is_string_dtype(dtype):
        return ColumnType.STRING
    if isinstance(dtype, pd.SparseDtype) or not _has_name(dtype):
        return None
    for matches, kind in (
        (types.is_bool_dtype, ColumnType.BOOLEAN),
        (types.is_integer_dtype, ColumnType.INTEGER),
        (types.is_float_dtype, ColumnType.NUMBER),
        (_is_datetime, ColumnType.DATETIME),
    ):
        if matches(dtype):
            return kind
    return None
