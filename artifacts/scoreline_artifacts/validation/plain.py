"""The shortest way for the plainest records: whole numbers and numbers, such as training had.

Their frame is made of one block of memory for each type, as pandas would arrange it when a pipeline
looks at it first. For a lone record that is a third of what columns made one by one take. Whatever is
anything else goes the way of all records (`frames`), which says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts.schema import Column, ColumnType, Schema
from scoreline_artifacts.validation.arrays import EXACT_IN_FLOAT

try:
    from pandas.api.internals import create_dataframe_from_blocks
except ImportError:  # before pandas 3
    create_dataframe_from_blocks = None

MOST_RECORDS = 128
"""Of more, numpy finds what is unusual faster than `min` and `max` do."""
_TYPES: dict[tuple[ColumnType, str], tuple[type[Any], frozenset[type]]] = {
    (ColumnType.INTEGER, "int64"): (np.int64, frozenset({int})),
    (ColumnType.NUMBER, "float64"): (np.float64, frozenset({int, float})),
}
"""What a column's values become, and what they may be."""


def frame_of_plain(
    columns: Mapping[str, Sequence[Any]], count: int, schema: Schema
) -> pd.DataFrame | None:
    """The frame of a few records, (count,) values by column; None unless all of them are plain."""
    plan = _plan_of(_Key(schema)) if 0 < count <= MOST_RECORDS else None
    if plan is None:
        return None
    blocks: list[tuple[Any, Any]] = []
    for part in plan.parts:
        values = part.values(columns)
        if values is None:
            return None
        blocks.append((values, part.places))
    # Views have their own names, should a pipeline give them some.
    names, rows = plan.names.view(), _rows(count).view()
    return create_dataframe_from_blocks(blocks, index=rows, columns=names)


@dataclass(frozen=True, slots=True)
class _Part:
    """The columns of one type."""

    dtype: type[Any]
    kinds: frozenset[type]
    places: npt.NDArray[np.intp]
    bounds: tuple[tuple[str, float, float], ...]
    """Each column's name, and what training had least and most of."""

    def values(self, columns: Mapping[str, Sequence[Any]]) -> npt.NDArray[Any] | None:
        """(columns, records)"""
        found: list[Sequence[Any]] = []
        for name, least, most in self.bounds:
            column = columns[name]
            if not self.kinds.issuperset(map(type, column)):
                return None
            if not (least <= min(column) and max(column) <= most):
                return None
            found.append(column)
        array = np.array(found, dtype=self.dtype)
        # NaN hides from min and max.
        return array if np.isfinite(array).all() else None


@dataclass(frozen=True, slots=True)
class _Plan:
    names: pd.Index[str]
    parts: tuple[_Part, ...]


class _Key:
    """A schema, as itself: to compare what is in it would take longer than it saves."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.schema is other.schema


@lru_cache(maxsize=MOST_RECORDS)
def _rows(count: int) -> pd.RangeIndex:
    return pd.RangeIndex(count)


@lru_cache(maxsize=256)
def _plan_of(key: _Key) -> _Plan | None:
    columns = key.schema.columns
    types = [_TYPES.get((column.type, column.dtype)) for column in columns]
    if create_dataframe_from_blocks is None or None in types:
        return None
    parts: list[_Part] = []
    for kind in _TYPES.values():
        places = [place for place, one in enumerate(types) if one is kind]
        if places:
            bounds = tuple(_bounds_of(columns[place]) for place in places)
            parts.append(_Part(*kind, np.array(places), bounds))
    return _Plan(pd.Index(key.schema.names), tuple(parts))


def _bounds_of(column: Column) -> tuple[str, float, float]:
    """Within those of training, and within those in which a float is what was written."""
    least = -EXACT_IN_FLOAT if column.minimum is None else max(column.minimum, -EXACT_IN_FLOAT)
    most = EXACT_IN_FLOAT if column.maximum is None else min(column.maximum, EXACT_IN_FLOAT)
    return column.name, least, most
