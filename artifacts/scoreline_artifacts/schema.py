"""What the training frame looked like: the contract that raw records are held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from scoreline_artifacts.errors import UnsuitableData

if TYPE_CHECKING:
    import pandas as pd

MAX_CATEGORIES = 1000


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
    """All values of a category column."""


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

    def to_json(self) -> list[dict[str, Any]]:
        """As JSON-able values."""
        return [asdict(column) for column in self.columns]

    @classmethod
    def from_json(cls, values: list[Mapping[str, Any]]) -> Schema:
        """The inverse of `to_json`."""
        return cls(
            tuple(
                Column(
                    **{
                        **one,
                        "type": ColumnType(one["type"]),
                        "categories": None
                        if one.get("categories") is None
                        else tuple(one["categories"]),
                    }
                )
                for one in values
            )
        )


def _describe(series: pd.Series[Any]) -> Column:
    name = str(series.name)
    kind = _type_of(series)
    present = series.dropna()
    numeric = kind in (ColumnType.INTEGER, ColumnType.NUMBER) and len(present) > 0
    categories = None
    if kind is ColumnType.CATEGORY:
        categories = tuple(series.cat.categories.tolist())
        if len(categories) > MAX_CATEGORIES:
            raise UnsuitableData(
                f"column {name!r} has {len(categories)} categories; at most {MAX_CATEGORIES} are "
                "recorded. Pass it as text."
            )
    return Column(
        name=name,
        type=kind,
        dtype=str(series.dtype),
        nullable=len(present) < len(series),
        minimum=float(present.min()) if numeric else None,
        maximum=float(present.max()) if numeric else None,
        categories=categories,
    )


def _type_of(series: pd.Series[Any]) -> ColumnType:
    import pandas.api.types as types

    dtype = series.dtype
    if str(dtype) == "category":
        return ColumnType.CATEGORY
    for matches, kind in (
        (types.is_bool_dtype, ColumnType.BOOLEAN),
        (types.is_integer_dtype, ColumnType.INTEGER),
        (types.is_float_dtype, ColumnType.NUMBER),
        (types.is_datetime64_any_dtype, ColumnType.DATETIME),
    ):
        if matches(dtype):
            return kind
    if types.is_string_dtype(dtype) or all(isinstance(one, str) for one in series.dropna()):
        return ColumnType.STRING
    raise UnsuitableData(
        f"column {series.name!r} has the type {dtype} with values that are not all text; "
        "give it one of: integers, floats, booleans, text, category, datetime"
    )
