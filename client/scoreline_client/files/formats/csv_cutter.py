"""Cuts a CSV file into chunks of whole rows, as bytes and without decoding a value."""

from __future__ import annotations

from dataclasses import dataclass

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.protocol.csv_grammar import MAX_ROW_BYTES, Grammar, count_lines


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
