"""What the text of a CSV field means: rules of our own, the same wherever the file came from.

A number is written in ASCII digits with an optional sign, point and exponent; blanks around it do
not matter. No hexadecimal, no separators, no words. An empty field is a missing value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from scoreline_artifacts import Column, ColumnType
from scoreline_artifacts.records import EXACT_IN_FLOAT

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NON_FINITE = {"nan": "NaN", "inf": "Infinity", "infinity": "Infinity"}
_LONGEST_INTEGER = 400
_BOOLEANS = {"true": True, "false": False}


def value_of(column: Column, text: str) -> Any:
    """The value that a field stands for; text that stands for none stays text, and is refused as
    such when the value is held to its column."""
    if not text:
        return None
    return _VALUE_OF[column.type](column, text)


def _number(column: Column, text: str) -> Any:
    bare = text.strip(" ")
    if len(bare) <= _LONGEST_INTEGER and _INTEGER.fullmatch(bare):
        whole = int(bare)
        # As a float where it is one exactly, so that -0 keeps its sign as it does in Arrow.
        exact = column.type is ColumnType.NUMBER and abs(whole) < EXACT_IN_FLOAT
        return float(bare) if exact else whole
    if _NUMBER.fullmatch(bare):
        value = float(bare)
        # A number too large for a float is none, like infinity itself.
        return value if abs(value) != float("inf") else "Infinity"
    return _NON_FINITE.get(bare.lstrip("+-").casefold(), text)


def _boolean(_: Column, text: str) -> Any:
    return _BOOLEANS.get(text.casefold(), text)


def _category(column: Column, text: str) -> Any:
    return next((one for one in column.categories or () if str(one) == text), text)


def _as_it_is(_: Column, text: str) -> Any:
    return text


_VALUE_OF: dict[ColumnType, Callable[[Column, str], Any]] = {
    ColumnType.INTEGER: _number,
    ColumnType.NUMBER: _number,
    ColumnType.BOOLEAN: _boolean,
    ColumnType.STRING: _as_it_is,
    ColumnType.CATEGORY: _category,
    ColumnType.DATETIME: _as_it_is,
}
