"""The columns of a training frame: the contract that raw records are checked against."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
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
_FIELDS_OF_FIRST_RELEASE = 8
"""How many fields a column had in the first release: those up to `ordered`."""


class ColumnType(StrEnum):
    """The kinds of values that a column can hold."""

    INTEGER = "integer"
    """A whole number that fits the column's type; 5.0 is one, 5.5 is not."""
    NUMBER = "number"
    """A finite number, as the float that is nearest to it."""
    BOOLEAN = "boolean"
    """True or false; 0 and 1 are not."""
    STRING = "string"
    """Text."""
    CATEGORY = "category"
    """One of the values that a pandas category column had in training."""
    DATETIME = "datetime"
    """A point in time, as ISO 8601 text."""
    DURATION = "duration"
    """A span of time, as ISO 8601 text (`P1DT2H`) or as pandas and Python write it (`1 days 02:00:00`)."""


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
    """Whether a value was missing in training, or the publisher said that it may be; only then may one be
    missing now."""
    minimum: float | None = None
    """Smallest training value of a number; used for display and warnings, never to refuse a value."""
    maximum: float | None = None
    """Largest training value of a number."""
    categories: tuple[Any, ...] | None = None
    """All values of a category column; of a text column, those of training, if they were few. A text that
    is not among them is refused only if a request wants that."""
    ordered: bool = False
    """Whether pandas had the categories in an order of size."""
    categories_dtype: str | None = None
    """The dtype of the categories in pandas; None in what was published before it was recorded."""
    missing: str = "None"
    """What stood for a missing value in a column of Python objects: `None`, `nan` or `NA`."""
    has_empty_text: bool = False
    """Whether the empty text was among the values of training."""
    optional: bool = False
    """Whether the publisher said that callers may leave the column out; its value is missing then."""
    unused: bool = False
    """Whether the pipeline was proven to give the same answers without the column. Callers may leave it
    out, and whatever they give for it is no error; what the column cannot hold is missing then."""

    def encode(self) -> dict[str, Any]:
        """The column as a manifest holds it. A field that the first release did not have is left out at its default:
        so the manifests of earlier releases are encoded as they were signed."""
        values = asdict(self)
        added = {field.name: field.default for field in fields(self)[_FIELDS_OF_FIRST_RELEASE:]}
        return {
            name: value
            for name, value in values.items()
            if name not in added or value != added[name]
        }

    @property
    def may_be_left_out(self) -> bool:
        """Whether a record is complete without it."""
        return self.optional or self.unused

    @property
    def presence(self) -> str:
        """Whether a record must have it, in words."""
        if self.unused:
            return "not used"
        if self.optional:
            return "may be left out"
        return "may be null" if self.nullable else "required"

    @property
    def takes_empty_text(self) -> bool:
        """Whether an empty field of a file is text. Where values may be missing, it is a missing one."""
        if self.nullable:
            return False
        return self.has_empty_text or (
            self.type in (ColumnType.STRING, ColumnType.CATEGORY) and "" in (self.categories or ())
        )


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of the training frame, in order."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def demanded(self) -> list[str]:
        """Names of the columns without which a record is not complete."""
        return [column.name for column in self.columns if not column.may_be_left_out]

    def with_unused(self, names: Collection[str]) -> Schema:
        """The same schema, in which these columns and no others count as unused."""
        return Schema(
            tuple(replace(column, unused=column.name in names) for column in self.columns)
        )

    @classmethod
    def infer(cls, frame: pd.DataFrame, *, optional: Collection[str] = ()) -> Schema:
        """Describe a training frame; callers may leave out the columns that `optional` names.

        Raises:
            UnsuitableData: a column's name is no text or not unique, its type is not supported, or one of
                `optional` is not there or of a type that cannot hold a missing value.
        """
        names = list(frame.columns)
        if not all(isinstance(name, str) for name in names):
            raise UnsuitableData(
                f"columns must have text as names, since records are given by name; found {names!r}"
            )
        if len(set(names)) != len(names):
            duplicates = sorted({name for name in names if names.count(name) > 1})
            raise UnsuitableData(f"duplicate columns in the training frame: {duplicates}")
        if unknown := [name for name in optional if name not in names]:
            raise UnsuitableData(
                f"optional= names {unknown[0]!r}, which is no column of X_train: {names[:20]}"
            )
        return cls(tuple(_describe(frame[name], name in optional) for name in names))


def _describe(series: pd.Series[Any], is_optional: bool) -> Column:
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
    if is_optional and series.dtype.kind in "biu" and not hasattr(series.dtype, "na_value"):
        wider = {"b": "boolean", "i": "Int64", "u": "UInt64"}[series.dtype.kind]
        raise UnsuitableData(
            f"optional= names {series.name!r}, whose type {series.dtype} cannot hold a missing value; "
            f"train with {wider!r} or 'float64', as in X_train.astype({{{series.name!r}: {wider!r}}})"
        )
    # Where training had none, as pandas reads files: NaN is what scikit-learn's imputers look for.
    missing = "nan" if is_optional else "None"
    if series.dtype == object and len(present) < len(series):
        kinds = series[series.isna()].map(lambda value: str(value) if value is not None else "None")
        missing = {"None": "None", "<NA>": "NA"}.get(kinds.mode()[0], "nan")
    return Column(
        name=str(series.name),
        type=column_type,
        dtype=_name_of(series.dtype),
        nullable=is_optional or len(present) < len(series),
        minimum=minimum,
        maximum=maximum,
        categories=categories,
        ordered=column_type is ColumnType.CATEGORY and bool(series.cat.ordered),
        categories_dtype=(
            _name_of(series.cat.categories.dtype) if column_type is ColumnType.CATEGORY else None
        ),
        missing=missing,
        has_empty_text=column_type is ColumnType.STRING and bool((present == "").any()),
        optional=is_optional,
    )


def _name_of(dtype: Any) -> str:
    """The name from which pandas makes a dtype again; `string` alone leaves open how it is stored."""
    import pandas as pd

    is_ambiguous = isinstance(dtype, pd.StringDtype) and dtype.na_value is pd.NA
    return f"string[{dtype.storage}]" if is_ambiguous else str(dtype)


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
        (lambda dtype: str(dtype).startswith(("datetime64[", "timestamp[")), ColumnType.DATETIME),
        (lambda dtype: str(dtype).startswith(("timedelta64[", "duration[")), ColumnType.DURATION),
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
            "nor all booleans; give it one of: integers, floats, booleans, text, category, datetime, "
            "timedelta"
        )
    return column_type


def _can_be_made_from_its_name(dtype: Any) -> bool:
    """Whether pandas makes the same dtype from its name, which is all that a manifest holds."""
    import pandas as pd

    try:
        return bool(pd.api.types.pandas_dtype(str(dtype)) == dtype)
    except TypeError:
        return False
