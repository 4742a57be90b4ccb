"""The grammar of CSV: where rows and fields begin and end, as bytes; shared by client and worker.

Rows and fields are those of Python's `csv` module: a row ends at `\\n`, `\\r\\n` or `\\r` outside quotes,
a quote opens a quoted field only at the field's beginning, and a blank line is not a row. All of it is
done by `bytes` methods and regular expressions on a whole block; only a block with a misplaced quote or
with comments is read row by row. Values are not decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

MAX_ROW_BYTES = 1_048_576
"""A longer row means a damaged file: most likely a quote was opened and never closed."""

FORMULA_BEGINNINGS = "=+-@\t\r\n"
"""Characters with which a field begins that a spreadsheet runs as a formula, unless it is a number (CWE-1236)."""
FORMULA_MARK = "'"
"""Before such a field, it makes a spreadsheet show it as text."""

_RUN = re.compile(rb"[^\r\n]++")
_NUMBER = re.compile(r"[+-]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Grammar:
    """The rows of files with one delimiter, quote character and comment character.

    Create it with `Grammar.of`, which compiles each combination once.
    """

    quote: bytes
    """Empty: quotes are characters like any other."""
    comment: bytes
    """First character of lines that are not rows; empty: there are none."""
    field: re.Pattern[bytes]
    """One field. The group `unclosed` matches if its quote is never closed: it ends with the data."""
    row: re.Pattern[bytes]
    """One row with its line end, a blank line or a comment. Groups: `end`, the line end (empty if the
    data end first); `unclosed`, `unclosed_later`: see `is_unclosed`."""
    tidy: re.Pattern[bytes]
    """Bytes in which every quote opens a field, closes it, or is one of a pair inside it."""
    quoted: re.Pattern[bytes]
    """A stretch from a quote to the next."""

    @staticmethod
    @lru_cache(maxsize=16)
    def of(delimiter: str, comment: str = "", quote: str = '"') -> Grammar:
        """The grammar for an ASCII delimiter; `comment` and `quote` are an ASCII character or empty."""
        d, q, c = map(re.escape, (delimiter, quote, comment))
        quoted, tidy, stretch = r"(?P<unclosed>(?!))", r"(?s:.*+)", r"(?!)"
        if quote:
            stretch = f"{q}[^{q}]*+{q}"
            quoted = rf"{q}(?:[^{q}]++|{q}{q})*+(?:{q}|(?P<unclosed>\Z))"
            pairs = rf"(?<![^{d}\r\n]){stretch}(?:{stretch})*+(?=[{d}\r\n]|\Z)"
            tidy = rf"(?:[^{q}]*+{pairs})*+[^{q}]*+"
        field = rf"(?:{quoted})?+[^{d}\r\n]*+"
        row = f"{field}(?:{d}{field.replace('<unclosed>', '<unclosed_later>')})*+"
        if comment:
            row = rf"{c}[^\r\n]*+|{row}"
        row = rf"(?:{row})(?P<end>\r\n|\r|\n|\Z)"
        patterns = (re.compile(text.encode("ascii")) for text in (field, row, tidy, stretch))
        return Grammar(quote.encode("ascii"), comment.encode("ascii"), *patterns)

    def rows(self, data: bytes) -> Iterator[re.Match[bytes]]:
        """Every row in order, without blank lines and comments.

        Of a match `row`, `row.start()` is where the row begins, `row.start("end")` where its text ends,
        and `row.end()` where its line end does. The last row needs no line end.
        """
        for match in self.row.finditer(data):
            start = match.start()
            if start < match.start("end") and not (
                self.comment and data.startswith(self.comment, start)
            ):
                yield match

    def is_tidy(self, data: bytes, end: int | None = None) -> bool:
        """Whether every quote in `data[:end]` opens a field, closes it, or is one of a pair inside it.

        Row ends of such bytes can be found by counting quotes. Comments are not recognised: use
        `has_comments` first.
        """
        stop = len(data) if end is None else end
        return (
            not self.quote
            or data.find(self.quote, 0, stop) < 0
            or self.tidy.fullmatch(data, 0, stop) is not None
        )

    def has_comments(self, data: bytes) -> bool:
        """Whether the data may have lines that are comments: whether the character occurs at all."""
        return bool(self.comment) and self.comment in data

    @staticmethod
    def is_unclosed(row: re.Match[bytes]) -> bool:
        """Whether a row of `rows` has a quoted field that is never closed."""
        return row["unclosed"] is not None or row["unclosed_later"] is not None

    def unclosed(self, data: bytes) -> int | None:
        """Position of the quote in the last row that is never closed, or None."""
        start = None
        for match in self.row.finditer(data) if self.quote and self.quote in data else ():
            if self.is_unclosed(match):
                start = match.start()
        if start is None:
            return None
        while (field := self.field.match(data, start)) is not None and field["unclosed"] is None:
            start = field.end() + 1
        return start

    def last_row_end(self, data: bytes) -> tuple[int, bool]:
        """Where the last complete row of `data` ends (0 if there is none), and whether it is tidy up to
        there.

        A row at the end of `data` is not complete without a line end, or with one that may be the first
        half of `\\r\\n`.
        """
        if not self.has_comments(data):
            if not self.quote or self.quote not in data:
                return data.rfind(b"\n") + 1 or data.rfind(b"\r", 0, -1) + 1, True
            # The last line feed with an even number of quotes before it.
            end = data.rfind(b"\n") + 1
            is_odd = data.count(self.quote, 0, end) % 2
            while end and is_odd:
                # Only what is stepped over is counted again.
                before = data.rfind(b"\n", 0, data.rfind(self.quote, 0, end)) + 1
                is_odd ^= data.count(self.quote, before, end) % 2
                end = before
            if end and self.tidy.fullmatch(data, 0, end):
                return end, True
        end = 0
        for match in self.row.finditer(data):
            line_end = match["end"]
            if not line_end or (line_end == b"\r" and match.end() == len(data)):
                break
            end = match.end()
        return end, False

    def count(self, data: bytes, tidy: bool) -> tuple[int, int]:
        """Numbers of rows and of line ends in `data`; `tidy` as `last_row_end` returned it.

        The last row needs no line end.
        """
        if not self.has_comments(data):
            if not self.quote or self.quote not in data:
                return _count_lines_with_text(data)
            if tidy:
                return _count_lines_with_text(self.quoted.sub(self.quote, data))[0], count_lines(
                    data
                )
        return sum(1 for _ in self.rows(data)), count_lines(data)


def count_lines(data: bytes) -> int:
    """Number of line ends, inside quotes too; `\\r\\n` is one."""
    lines = data.count(b"\n")
    if b"\r" in data:
        lines += data.count(b"\r") - data.count(b"\r\n")
    return lines


def _count_lines_with_text(data: bytes) -> tuple[int, int]:
    """Numbers of lines that are not blank, and of line ends, of data without quotes."""
    if b"\r" in data:
        if data.count(b"\r\n") == data.count(b"\r"):
            data = data.translate(None, b"\r")  # three times as fast as to replace
        else:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    ends = data.count(b"\n")
    if data.startswith(b"\n") or b"\n\n" in data:
        return sum(1 for _ in _RUN.finditer(data)), ends
    return ends + (data[-1:] not in (b"\n", b"")), ends


def quote_field(text: str, delimiter: str, quote: str = '"') -> str:
    """A field as it is written: in quotes where it holds a delimiter, a quote or a line end."""
    if any(special in text for special in (delimiter, quote, "\n", "\r")):
        return quote + text.replace(quote, quote * 2) + quote
    return text


def spreadsheet_safe(text: str) -> str:
    """A text of Scoreline's own, such as a column's name, that no spreadsheet runs as a formula."""
    is_formula = text.startswith(tuple(FORMULA_BEGINNINGS)) and not _NUMBER.fullmatch(text)
    return FORMULA_MARK + text if is_formula else text
