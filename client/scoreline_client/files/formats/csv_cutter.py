"""Cuts a CSV file into chunks of whole rows, as bytes and without looking at a value.

What a row is, Python's `csv` module decides: a row ends at `\\n`, `\\r\\n` or `\\r` outside quotes, a
quote opens a quoted field only where the field begins, and a blank line is no row. All of it is
done by `bytes` methods and regular expressions on a whole block; only a block whose quotes stand
where they should not is walked row by row. Nothing here reads or writes a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused

MAX_ROW_BYTES = 1_048_576
"""A longer row is taken for a damaged file: most likely a quote was opened and never closed."""

_QUOTED = re.compile(rb'"[^"]*+"')
_RUN = re.compile(rb"[^\r\n]++")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole rows of a file, byte for byte, and where they stand in it."""

    rows: bytes
    """The rows with their line ends, and any blank lines between them."""
    count: int
    """How many rows these are; blank lines are none."""
    first_row: int
    """Number of the first of them; the file's first data row is 1."""
    first_line: int
    """Physical line on which the chunk begins; the header begins on line 1 or, after blanks, later."""
    offset: int
    """Place of the chunk's first byte in the (uncompressed) file."""


class CsvCutter:
    """Takes a file's bytes block by block and gives them back cut at row ends.

    A block must be longer than a row for a chunk to come out of it; until then it is kept.
    """

    def __init__(
        self,
        path: str,
        *,
        first_line: int,
        offset: int,
        first_row: int = 1,
        delimiter: str = ",",
        comment: str = "",
        max_row_bytes: int = MAX_ROW_BYTES,
    ) -> None:
        """Begin behind the header, or where a chunk ended: at a physical line and a place in the
        file. Lines that begin with `comment` are no rows."""
        self._path = path
        self._line = first_line
        self._offset = offset
        self._row = first_row
        self._grammar = Grammar.of(delimiter, comment)
        self._max_row_bytes = max_row_bytes
        self._rest = b""

    @property
    def place(self) -> tuple[int, int, int]:
        """Behind the rows given so far: the place in the file, the next row's number, and its line."""
        return self._offset, self._row, self._line

    def feed(self, block: bytes) -> Chunk | None:
        """The whole rows of what came so far, or None if there are none yet.

        Raises:
            FileRefused: a row is longer than the limit; the message says whether a quote is to blame.
        """
        data = self._rest + block
        end, tidy = self._grammar.last_row_end(data)
        self._rest = data[end:]
        chunk = self._advance(data[:end], tidy)
        if len(self._rest) > self._max_row_bytes:
            raise self._too_long()
        return chunk

    def finish(self) -> Chunk | None:
        """What is left when the file ends: rows without a line end, or None.

        Raises:
            FileRefused: a quote was opened and never closed.
        """
        data, self._rest = self._rest, b""
        opened = self._grammar.unclosed(data)
        if opened is not None:
            raise self._unclosed(data, opened, "the file's end")
        return self._advance(data, tidy=False)

    def _advance(self, rows: bytes, tidy: bool) -> Chunk | None:
        count, lines = self._grammar.count(rows, tidy)
        chunk = Chunk(rows, count, self._row, self._line, self._offset)
        self._row += count
        self._line += lines
        self._offset += len(rows)
        return chunk if count else None

    def _too_long(self) -> FileRefused:
        opened = self._grammar.unclosed(self._rest)
        if opened is not None:
            return self._unclosed(self._rest, opened, f"{self._max_row_bytes:,} bytes")
        message = (
            f"row {self._row} (line {self._line}) is longer than {self._max_row_bytes:,} bytes; "
            "is this a CSV file?"
        )
        return FileRefused(Code.TOO_LARGE, self._path, message)

    def _unclosed(self, data: bytes, opened: int, where: str) -> FileRefused:
        line = self._line + count_lines(data[:opened])
        message = (
            f'the quote (") that opens a field on line {line} is not closed before {where}; '
            f"row {self._row} begins on line {self._line}"
        )
        return FileRefused(Code.QUOTE, self._path, message)


@dataclass(frozen=True, slots=True)
class Grammar:
    """Regular expressions for the rows of files with one delimiter."""

    comment: bytes
    """What a line that is no row begins with; empty: nothing."""

    field: re.Pattern[bytes]
    """One field. A quote that is never closed reaches to the end, and matches the group `unclosed`."""
    row: re.Pattern[bytes]
    """One row with its line end, or a blank line."""
    tidy: re.Pattern[bytes]
    """Bytes in which every quote opens a field, closes it, or is one of a pair inside it."""

    @staticmethod
    @lru_cache(maxsize=16)
    def of(delimiter: str, comment: str = "") -> Grammar:
        """The grammar for an ASCII delimiter, and an ASCII character that begins comments."""
        comma = re.escape(delimiter.encode("ascii"))
        remark = rb"%s[^\r\n]*+" % re.escape(comment.encode("ascii")) if comment else rb"(?!)"
        field = rb'(?:"(?:[^"]++|"")*+(?:"|(?P<unclosed%%s>\Z)))?+[^%s\r\n]*+' % comma
        fields = field % b"" + rb"(?:%s" % comma + field % b"_later" + rb")*+"
        row = rb"(?:%s|%s)(?P<end>\r\n|\r|\n|\Z)" % (remark, fields)
        tidy = rb'(?:[^"]*+(?<![^%s\r\n])"[^"]*+"(?:"[^"]*+")*+(?=[%s\r\n]|\Z))*+[^"]*+' % (
            comma,
            comma,
        )
        begins = comment.encode("ascii")
        return Grammar(begins, re.compile(field % b""), re.compile(row), re.compile(tidy))

    def last_row_end(self, data: bytes) -> tuple[int, bool]:
        """Where the last whole row of `data` ends (0 if there is none); is it tidy up to there?

        A row at the end of `data` without a line end, or with one that may be the first half of
        `\\r\\n`, is not whole.
        """
        if self.comment and self.comment in data:
            return self._last_row_end_by_rows(data), False
        if b'"' not in data:
            return _last_line_end(data), True
        end = _last_line_end_outside_pairs(data)
        if end and self.tidy.fullmatch(data, 0, end):
            return end, True
        return self._last_row_end_by_rows(data), False

    def count(self, data: bytes, tidy: bool) -> tuple[int, int]:
        """How many rows `data` holds, and how many line ends; its last row needs no line end."""
        if self.comment and self.comment in data:
            return sum(1 for _ in self.rows(data)), count_lines(data)
        if b'"' not in data:
            return _count_runs(data)
        if tidy:
            return _count_runs(_QUOTED.sub(b'"', data))[0], count_lines(data)
        return sum(1 for _ in self.rows(data)), count_lines(data)

    def rows(self, data: bytes) -> Iterator[re.Match[bytes]]:
        """Every row, one by one; blank lines and comments are left out."""
        for match in self.row.finditer(data):
            start = match.start()
            if start < match.start("end") and not (
                self.comment and data.startswith(self.comment, start)
            ):
                yield match

    def unclosed(self, data: bytes) -> int | None:
        """Where the last row's quote stands that nothing closes, or None."""
        start = None
        for match in self.row.finditer(data) if b'"' in data else ():
            if match["unclosed"] is not None or match["unclosed_later"] is not None:
                start = match.start()
        if start is None:
            return None
        while (one := self._field_at(data, start))["unclosed"] is None:
            start = one.end() + 1
        return start

    def _field_at(self, data: bytes, start: int) -> re.Match[bytes]:
        match = self.field.match(data, start)
        assert match is not None  # noqa: S101 - a field may be empty: it matches everywhere
        return match

    def _last_row_end_by_rows(self, data: bytes) -> int:
        end = 0
        for match in self.row.finditer(data):
            line_end = match["end"]
            if not line_end or (line_end == b"\r" and match.end() == len(data)):
                break
            end = match.end()
        return end


def count_lines(data: bytes) -> int:
    """How many physical lines end in `data`, inside quotes too."""
    lines = data.count(b"\n")
    if b"\r" in data:
        lines += data.count(b"\r") - data.count(b"\r\n")
    return lines


def _count_runs(data: bytes) -> tuple[int, int]:
    """How many lines are not blank, and how many line ends there are, each of which ends a row."""
    if b"\r" in data:
        data = _with_line_feeds(data)
    ends = data.count(b"\n")
    if data.startswith(b"\n") or b"\n\n" in data:
        return sum(1 for _ in _RUN.finditer(data)), ends
    return ends + (data[-1:] not in (b"\n", b"")), ends


def _with_line_feeds(data: bytes) -> bytes:
    if data.count(b"\r\n") == data.count(b"\r"):
        return data.translate(None, b"\r")  # three times as fast as to replace
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _last_line_end(data: bytes) -> int:
    return data.rfind(b"\n") + 1 or data.rfind(b"\r", 0, -1) + 1


def _last_line_end_outside_pairs(data: bytes) -> int:
    """The last line feed with an even number of quotes before it; 0 if there is none."""
    end = data.rfind(b"\n") + 1
    while end and data.count(b'"', 0, end) % 2:
        opening = data.rfind(b'"', 0, end)
        end = data.rfind(b"\n", 0, opening) + 1
    return end
