"""Converts columns of text to the arrays of training, with the results of `text_values`.

Arrow converts texts that are plainly right. The rest goes through `text_values` value by value, each different
text once; both give the same, and a column is slow only where its values are unusual.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from scoreline_artifacts import Column, ColumnType, Schema
from scoreline_artifacts.validation import (
    EXACT_IN_FLOAT,
    InvalidValue,
    Problem,
    array_of,
    as_column,
    bounds_of,
    category_type,
    clock_of,
    convert_value,
    converter_of,
    numpy_type,
    pandas_type,
    shown,
)
from scoreline_tasks.scoring.text_values import (
    NUMBERS,
    TextRules,
    date_hint,
    number_hint,
    number_pattern,
    reader_of,
    thousands_pattern,
)

Mask = npt.NDArray[np.bool_]
_FRACTION_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def convert_columns(
    schema: Schema,
    fields: Mapping[str, Any],
    count: int,
    rules: TextRules,
    problems: dict[int, Problem],
) -> dict[str, Any]:
    """The arrays of training by column, from (rows,) strings or numbers of each.

    `problems` gets the values that do not fit. A column without fields is missing in all `count` rows.
    """
    arrays = {
        name: array.to_numpy(zero_copy_only=False)
        for name, array in fields.items()
        if not pa.types.is_string(array.type)
    }
    numbers = [
        column
        for column in schema.columns
        if column.dtype in ("float64", "int64") and column.name in fields
    ]
    if len(numbers) > 1 and not arrays:
        # One conversion for all that are plain: a file of many columns has few rows in a chunk.
        texts = pa.concat_arrays([fields[column.name] for column in numbers])
        is_null = null_mask(texts, rules.nulls)
        floats = None if is_null.any() else _plain_floats(texts, is_null, rules)
        if floats is not None:
            block = floats.reshape(len(numbers), -1)
            for column, values in zip(numbers, block, strict=True):
                is_number = column.type is ColumnType.NUMBER
                is_plain = (np.abs(values) < (math.inf if is_number else EXACT_IN_FLOAT)).all()
                if is_number and is_plain:
                    arrays[column.name] = values
                elif is_plain and (np.trunc(values) == values).all():
                    arrays[column.name] = values.astype(np.int64)
    for column in schema.columns:
        if column.name not in fields:
            arrays[column.name] = array_of(column, [None] * count)
        elif column.name not in arrays:
            texts = fields[column.name]
            arrays[column.name] = convert_texts(column, texts, rules, problems)
    # In the order of training, which is that of the frame.
    return {name: arrays[name] for name in schema.names}


def convert_texts(
    column: Column, texts: Any, rules: TextRules, problems: dict[int, Problem]
) -> Any:
    """The array that pandas had in training, from (rows,) strings; `problems` gets the values that do not fit."""
    by_hand = _ByHand(column, texts, rules, problems)
    return _CONVERT[column.type](column, texts, rules, by_hand)


def bytes_of(strings: Any) -> memoryview:
    """The bytes of an array of strings, one after the other: they lie like that in memory already."""
    data = strings.buffers()[2]
    if len(strings) == 0 or data is None:
        return memoryview(b"")
    offsets = offsets_of(strings)
    return memoryview(data)[offsets[0] : offsets[-1]]


def offsets_of(strings: Any) -> npt.NDArray[Any]:
    """Where each string begins among those bytes, and where the last one ends."""
    if len(strings) == 0:
        return np.zeros(1, dtype=np.int32)
    kind = strings.type
    is_large = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    offsets = np.frombuffer(strings.buffers()[1], dtype=np.int64 if is_large else np.int32)
    return offsets[strings.offset : strings.offset + len(strings) + 1]


class _ByHand:
    """Converts single values, each different text once."""

    def __init__(
        self, column: Column, texts: Any, rules: TextRules, problems: dict[int, Problem]
    ) -> None:
        self._column = column
        self._texts = texts
        self._problems = problems
        self._rules = rules
        self._convert = converter_of(column)
        self._read = reader_of(column, rules)
        self._converted: dict[str, Any] = {}
        """The value of each text, or the problem that it is."""

    def values(self, rows: npt.NDArray[np.intp]) -> list[Any]:
        """The values of some rows; None where one is missing, or has a problem."""
        texts = self._texts.take(pa.array(rows)).to_pylist()
        return [self._value(row, text) for row, text in zip(rows.tolist(), texts, strict=True)]

    def all(self) -> Any:
        """The whole column as an array."""
        return array_of(self._column, self.values(np.arange(len(self._texts))))

    def distinct(self) -> tuple[list[Any], npt.NDArray[np.intp]]:
        """The values of all different texts, and which of them each row has (-1: none)."""
        encoded = self._texts.dictionary_encode()
        texts = encoded.dictionary.to_pylist()
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        values = [self._look_up(text) for text in texts]
        is_odd = np.array([isinstance(value, Problem) for value in values], dtype=bool)
        if is_odd.any():
            for row in np.flatnonzero(is_odd[codes]).tolist():
                self._value(row, texts[codes[row]])
        return [None if isinstance(value, Problem) else value for value in values], codes

    def _value(self, row: int, text: str) -> Any:
        value = self._look_up(text)
        if not isinstance(value, Problem):
            return value
        if row not in self._problems:
            self._problems[row] = Problem(
                row, value.code, value.message, value.column, value.value, value.text
            )
        return None

    def _look_up(self, text: str) -> Any:
        if text in self._converted:
            return self._converted[text]
        value, rules, kind = self._read(text), self._rules, self._column.type
        try:
            if kind is ColumnType.DATETIME and rules.date_format and isinstance(value, str):
                # A text that is not in the declared format is no date, even if it is one in ISO 8601.
                raise InvalidValue("E_TYPE", f"{shown(text)} is no date and time")  # noqa: TRY301
            converted = convert_value(self._column, value, self._convert)
        except InvalidValue as invalid:
            name = self._column.name
            message = f"column {name!r}: {invalid.message}"
            if invalid.code == "E_TYPE" and isinstance(value, str):
                if kind in NUMBERS:
                    message += number_hint(text, rules)
                elif kind is ColumnType.DATETIME:
                    message += date_hint(text, rules)
            refused = text if value is None else value
            if invalid.code == "E_NON_FINITE" and isinstance(value, str):
                # What stands in the file, and not the word that stands for it on the wire.
                refused, message = text, message.replace(value, shown(text), 1)
            converted = (
                None
                if self._column.unused
                else Problem(0, invalid.code, message, name, shown(refused), invalid.text)
            )
        self._converted[text] = converted
        return converted


def _is_all(texts: Any, characters: bytes) -> bool:
    """Whether texts hold nothing but some characters."""
    return not bytes(bytes_of(texts)).translate(None, characters)


def null_mask(texts: Any, nulls: frozenset[str]) -> Mask:
    """Which texts stand for a missing value."""
    if nulls == {""}:
        return np.asarray(np.diff(offsets_of(texts)) == 0)
    return np.asarray(pc.is_in(texts, pa.array(list(nulls), pa.string())))


# Numbers


def _numbers(column: Column, texts: Any, rules: TextRules, by_hand: _ByHand) -> Any:
    is_null = null_mask(texts, rules.nulls_of(column))
    floats, is_odd = _floats(texts, is_null, rules, math.inf)
    dtype = numpy_type(column.dtype)
    if dtype != np.float64:
        with np.errstate(over="ignore"):
            is_odd |= np.isinf(floats.astype(dtype))
    if not column.nullable:
        is_odd |= is_null
    rows = np.flatnonzero(is_odd)
    if len(rows):
        floats[rows] = [np.nan if value is None else value for value in by_hand.values(rows)]
    return floats if column.dtype == "float64" else as_column(column, floats.astype(dtype))


def _integers(column: Column, texts: Any, rules: TextRules, by_hand: _ByHand) -> Any:
    is_null = null_mask(texts, rules.nulls_of(column))
    if is_null.any() and column.nullable:
        return by_hand.all()
    integers = None
    if rules.is_plain and not is_null.any() and _is_all(texts, b"0123456789-"):
        with suppress(pa.ArrowInvalid):
            integers = pc.cast(texts, pa.int64()).to_numpy(zero_copy_only=False)
    if integers is None:
        floats, is_odd = _floats(texts, is_null, rules, EXACT_IN_FLOAT)
        is_odd |= is_null | (np.trunc(floats) != floats)
        floats[is_odd] = 0
        integers = floats.astype(np.int64)
        rows = np.flatnonzero(is_odd)
        values = [0 if value is None else value for value in by_hand.values(rows)]
        if any(abs(value) >= 2**63 for value in values):
            return by_hand.all()
        integers[rows] = values
    bounds = bounds_of(column.dtype)
    if len(integers) and not (int(integers.min()) in bounds and int(integers.max()) in bounds):
        return by_hand.all()
    if column.dtype == "int64":
        return integers
    return as_column(column, integers.astype(numpy_type(column.dtype)))


def _floats(
    texts: Any, is_null: Mask, rules: TextRules, limit: float
) -> tuple[npt.NDArray[np.float64], Mask]:
    """Numbers, NaN where there is none; and which rows must be looked at by hand: those beyond a limit, too."""
    numbers = _plain_floats(texts, is_null, rules)
    is_odd = np.zeros(len(texts), dtype=bool)
    if numbers is None:
        # Numbers without blanks, plus sign and separators; and which texts are numbers at all.
        bare = pc.utf8_trim(texts, " ")
        pattern = number_pattern(rules.decimal, rules.thousands).replace("$", r"\z")
        is_number = np.array(pc.match_substring_regex(bare, pattern), dtype=bool) & ~is_null
        if rules.thousands:
            bare = pc.replace_substring_regex(bare, thousands_pattern(rules.thousands), "")
        if rules.decimal != ".":
            bare = pc.replace_substring(bare, rules.decimal, ".")
        bare = pc.replace_substring_regex(bare, r"^\+", "")
        numbers = _plain_floats(bare, ~is_number, TextRules(), is_checked=True)
        is_odd = ~is_number & ~is_null
    if numbers is None:
        return np.zeros(len(texts)), ~is_null
    floats = np.array(numbers)
    # Infinity is beyond any limit, and NaN no number at all.
    return floats, is_odd | (~(np.abs(floats) < limit) & ~is_null)


def _plain_floats(
    texts: Any, is_missing: Mask, rules: TextRules, *, is_checked: bool = False
) -> Any | None:
    if not rules.is_plain:
        return None
    if not is_checked and not _is_all(texts, b"0123456789.-"):
        return None
    if is_missing.any():
        texts = pc.if_else(pa.array(~is_missing), texts, None)
    try:
        return pc.cast(texts, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None


# Other types


def _texts(column: Column, texts: Any, rules: TextRules, by_hand: _ByHand) -> Any:
    is_null = null_mask(texts, rules.nulls_of(column))
    if is_null.any():
        if not column.nullable:
            by_hand.values(np.flatnonzero(is_null))
        texts = pc.if_else(pa.array(~is_null), texts, None)
    if column.dtype == "object":
        return as_column(column, texts.to_numpy(zero_copy_only=False))
    kind = pandas_type(column.dtype)
    if isinstance(kind, pd.ArrowDtype) or getattr(kind, "storage", "") == "pyarrow":
        return pd.array(texts, dtype=kind)
    return as_column(column, texts.to_pylist())


def _booleans(column: Column, _: Any, __: TextRules, by_hand: _ByHand) -> Any:
    values, codes = by_hand.distinct()
    if None in values:
        return array_of(column, [values[code] for code in codes.tolist()])
    return as_column(column, np.array(values, dtype=bool)[codes] if values else [])


def _categories(column: Column, _: Any, __: TextRules, by_hand: _ByHand) -> Any:
    values, codes = by_hand.distinct()
    category_codes = array_of(column, values).codes
    kind = category_type(column)
    return pd.Categorical.from_codes(category_codes[codes] if values else [], dtype=kind)


def _each_once(column: Column, _: Any, __: TextRules, by_hand: _ByHand) -> Any:
    values, codes = by_hand.distinct()
    return array_of(column, [values[code] for code in codes.tolist()])


def _datetimes(column: Column, texts: Any, rules: TextRules, by_hand: _ByHand) -> Any:
    kind = pandas_type(column.dtype)
    if isinstance(kind, pd.ArrowDtype) or rules.date_format:
        return _each_once(column, texts, rules, by_hand)
    unit, zone = clock_of(column.dtype)
    # What pandas reads as fast as it can, and like `validation`: years that every unit can count.
    digits = min(_FRACTION_DIGITS[unit], 6)
    clock = "[T ][0-9]{2}:[0-9]{2}:[0-9]{2}" + (rf"(?:\.[0-9]{{1,{digits}}})?" if digits else "")
    clock = rf"{clock}(?:Z|[+-][0-9]{{2}}:[0-9]{{2}})" if zone else f"(?:{clock})?"
    pattern = rf"^(?:19|20)[0-9]{{2}}-[0-9]{{2}}-[0-9]{{2}}{clock}\z"
    is_plain = np.array(pc.match_substring_regex(texts, pattern), dtype=bool)
    is_plain &= ~null_mask(texts, rules.nulls_of(column))
    plain = pc.if_else(pa.array(is_plain), texts, None).to_numpy(zero_copy_only=False)
    moments = pd.Series(
        pd.to_datetime(plain, format="ISO8601", errors="coerce", utc=bool(zone)), dtype=None
    )
    moments = (moments.dt.tz_convert(zone) if zone else moments).dt.as_unit(unit)
    rows = np.flatnonzero(np.asarray(moments.isna()))
    if len(rows):
        moments = moments.copy()  # pandas 2 warns of writing into what `dt` gives
        moments.iloc[rows] = pd.Series(array_of(column, by_hand.values(rows)))
    return moments.array


_CONVERT: dict[ColumnType, Callable[[Column, Any, TextRules, _ByHand], Any]] = {
    ColumnType.INTEGER: _integers,
    ColumnType.NUMBER: _numbers,
    ColumnType.BOOLEAN: _booleans,
    ColumnType.STRING: _texts,
    ColumnType.CATEGORY: _categories,
    ColumnType.DATETIME: _datetimes,
    ColumnType.DURATION: _each_once,
}
