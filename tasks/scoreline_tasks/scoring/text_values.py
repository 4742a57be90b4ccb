"""Converts the text of a field to a value, by the same rules wherever the file came from.

A number is written in ASCII digits with an optional sign, decimal mark and exponent; blanks around it do
not matter. No hexadecimal, no separators but those that were declared, no words. An empty field is a
missing value, and so is any other token that was declared as such; but where training had empty texts and
no missing ones, the empty field is that text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any

import numpy as np

from scoreline_artifacts import Column, ColumnType
from scoreline_artifacts.validation import Values

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NON_FINITE = {"nan": "NaN", "inf": "Infinity", "infinity": "Infinity"}
_LONGEST_INTEGER = 400
_BOOLEANS = {"true": True, "false": False}
EXCEL = "excel"
"""The format of dates that are numbers of days, as spreadsheets keep them."""
_SERIAL = re.compile(r"[0-9]{1,7}(?:\.[0-9]{0,20})?")
_RECENT_SERIAL = re.compile(r"[1-9][0-9]{4}(?:[.,][0-9]{0,20})?")
"""The serial numbers of the years from 1927 to 2173, which nobody takes for a year."""
_SERIALS_END = 2_958_466
"""The day after the 31st of December 9999."""
_EXCEL_ZERO = datetime(1899, 12, 30)
_OTHER_MARKS = (
    *((",", ""), (".", ""), (".", ","), (",", "."), (".", "'"), (".", "’"), (",", "'")),
    *((mark, " ") for mark in ",."),
)
"""Marks of decimals and of thousands with which numbers are written somewhere."""
_SPACES = " \u00a0\u202f\u2009"
"""All that a space between groups of digits may be; on a screen they look alike."""
NUMBERS = (ColumnType.INTEGER, ColumnType.NUMBER)
_TEXTS = (ColumnType.STRING, ColumnType.DATETIME, ColumnType.DURATION)


@dataclass(frozen=True)
class TextRules:
    """How values are written."""

    decimal: str = "."
    thousands: str = ""
    nulls: frozenset[str] = frozenset({""})
    coerce: bool = False
    date_format: str = ""
    """How points in time are written: Python's codes, or `excel`; empty for ISO 8601."""

    @property
    def is_plain(self) -> bool:
        """Whether numbers are written as programs write them."""
        return self.decimal == "." and not self.thousands

    def nulls_of(self, column: Column) -> frozenset[str]:
        """The texts that stand for a missing value of a column."""
        return self.nulls - {""} if column.takes_empty_text else self.nulls


PLAIN = TextRules()
_COERCED = TextRules(coerce=True)


def reader_of(column: Column, rules: TextRules = PLAIN) -> Callable[[str], Any]:
    """A function from a text of a column to the value that it stands for.

    Text that stands for no value stays text, and is refused as such when it is held to its column.
    """
    nulls = rules.nulls_of(column)
    if column.type is ColumnType.CATEGORY:
        categories = {(isinstance(value, bool), value): value for value in column.categories or ()}
        read = partial(_category, column, categories)
    else:
        read = partial(_VALUE_OF[column.type], column)
    return lambda text: None if text in nulls else read(text, rules)


def coerced(column: Column, values: Values) -> Values:
    """Values of JSON or Arrow, with text read as in a file, and 1 and 0 taken for true and false."""
    if column.type in _TEXTS:
        return values
    text_value = reader_of(column, _COERCED)
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    read: list[Any] = []
    for value in plain:
        if isinstance(value, str):
            read.append(text_value(value))
        elif isinstance(value, bool) and column.type in NUMBERS:
            read.append(int(value))
        elif column.type is ColumnType.BOOLEAN and type(value) in (int, float) and value in (0, 1):
            read.append(bool(value))
        else:
            read.append(value)
    return read


@lru_cache(maxsize=32)
def number_pattern(decimal: str, thousands: str) -> str:
    """A regular expression, in Python's dialect and RE2's, for all of a number's text."""
    mark = re.escape(decimal)
    whole = "[0-9]+"
    if thousands:
        # `0.123` is a fraction that was written with another mark than was declared: no group begins with 0.
        whole = f"(?:[1-9][0-9]{{0,2}}(?:{thousands_pattern(thousands)}[0-9]{{3}})+|[0-9]+)"
    return f"^[+-]?(?:{whole}(?:{mark}[0-9]*)?|{mark}[0-9]+)(?:[eE][+-]?[0-9]+)?$"


def thousands_pattern(mark: str) -> str:
    """A regular expression, in both dialects, for a mark between groups of digits; a space stands for any space."""
    return f"[{_SPACES}]" if mark == " " else re.escape(mark)


def number_hint(text: str, rules: TextRules) -> str:
    """How a text that is no number would be one, as the end of a message; empty if nobody can say."""
    bare = text.strip(" ")
    if bare.endswith(("%", "‰")) and re.match(
        number_pattern(rules.decimal, rules.thousands), bare[:-1].rstrip(" ")
    ):
        return f"; numbers are written without {bare[-1]}"
    fitting = []
    for decimal, thousands in _OTHER_MARKS:
        if not re.search(thousands_pattern(thousands), bare) or bare.endswith("\n"):
            continue
        if re.match(number_pattern(decimal, thousands), bare):
            quoted = {" ": "' '", "'": '"\'"'}.get(thousands, thousands)
            options = [f"--decimal {decimal}"] if decimal != rules.decimal else []
            options += [f"--thousands {quoted}"] if thousands else []
            fitting.append(" ".join(options))
    return f"; is it written with {' or '.join(fitting)}?" if fitting else ""


def _number(column: Column, text: str, rules: TextRules) -> Any:
    bare = text.strip(" ")
    # The pattern's `$` would also match before a line feed.
    is_number = re.match(number_pattern(rules.decimal, rules.thousands), bare)
    if bare.endswith("\n") or not is_number:
        if rules.coerce and bare.casefold() in _BOOLEANS:
            return int(_BOOLEANS[bare.casefold()])
        return _NON_FINITE.get(bare.lstrip("+-").casefold(), text)
    if rules.thousands:
        bare = re.sub(thousands_pattern(rules.thousands), "", bare)
    bare = bare.replace(rules.decimal, ".")
    is_whole = _INTEGER.fullmatch(bare) is not None
    # As a float where a float is wanted, so that -0 keeps its sign as it does in Arrow.
    if is_whole and column.type is not ColumnType.NUMBER and len(bare) <= _LONGEST_INTEGER:
        return int(bare)
    value = float(bare)
    if abs(value) != float("inf"):
        return value
    if is_whole:
        # Python takes quadratic time to read digits; these are enough to be too many.
        return int(bare.lstrip("+-0")[:_LONGEST_INTEGER])
    # A number too large for a float is refused like infinity itself.
    return "Infinity"


def _boolean(_: Column, text: str, rules: TextRules) -> Any:
    if rules.coerce and text.strip(" ") in ("0", "1"):
        return text.strip(" ") == "1"
    return _BOOLEANS.get(text.casefold(), text)


def _category(
    column: Column, categories: Mapping[tuple[bool, Any], Any], text: str, rules: TextRules
) -> Any:
    """The category that is written so: as text, else as a boolean or a number (`1`, `1.0`, `true`)."""
    if (False, text) in categories:
        return text
    value = _BOOLEANS.get(text.casefold())
    if value is None:
        value = _number(column, text, TextRules(rules.decimal, rules.thousands))
    return categories.get((isinstance(value, bool), value), text)


def _datetime(_: Column, text: str, rules: TextRules) -> Any:
    """A point in time; text where it is none, or where dates are ISO 8601, which `validation` reads."""
    if not rules.date_format:
        return text
    if rules.date_format != EXCEL:
        try:
            return datetime.strptime(text.strip(" "), rules.date_format)
        # Not a ValueError: a code that is there twice.
        except (ValueError, re.error):
            return text
    serial = text.strip(" ").replace(rules.decimal, ".")
    if not _SERIAL.fullmatch(serial) or not 1 <= (days := Decimal(serial)) < _SERIALS_END:
        return text
    if 60 <= days < 61:  # the 29th of February 1900, which there was not
        return text
    # A second is no whole fraction of a day: serial numbers are exact to some microseconds.
    milliseconds = int((days * 86_400_000).to_integral_value())
    return (_EXCEL_ZERO if days >= 61 else _EXCEL_ZERO + timedelta(1)) + timedelta(
        milliseconds=milliseconds
    )


def date_hint(text: str, rules: TextRules) -> str:
    """How the dates of a file are expected to be written, as the end of a message."""
    if not rules.date_format and _RECENT_SERIAL.fullmatch(text.strip(" ")):
        return f"; is it a spreadsheet's serial number? It is read with --date-format {EXCEL}"
    if not rules.date_format:
        return "; dates that are written otherwise are read with --date-format"
    form = "as a serial number" if rules.date_format == EXCEL else f"as {rules.date_format}"
    return f", written {form} (--date-format)"


def _as_it_is(_: Column, text: str, __: TextRules) -> Any:
    return text


_VALUE_OF: dict[ColumnType, Callable[[Column, str, TextRules], Any]] = {
    ColumnType.INTEGER: _number,
    ColumnType.NUMBER: _number,
    ColumnType.BOOLEAN: _boolean,
    ColumnType.STRING: _as_it_is,
    ColumnType.DATETIME: _datetime,
    ColumnType.DURATION: _as_it_is,
}
