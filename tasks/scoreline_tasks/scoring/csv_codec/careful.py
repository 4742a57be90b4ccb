"""One row of CSV at a time, as Python's `csv` module reads it: for rows in which something is odd."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from scoreline_artifacts.validation import Problem, shown
from scoreline_client.codes import Code
from scoreline_client.options import CsvChunk
from scoreline_tasks.scoring.csv_codec.rows import is_tidy_row


@dataclass(frozen=True, slots=True)
class CarefulRow:
    """What became of an odd row."""

    fields: list[str]
    """Its fields as the csv module reads them when it is lenient; for a bad row too."""
    problem: Problem | None
    """Why it cannot be used, or None."""
    is_unclosed: bool = False
    """Whether a quote in it is never closed."""
    is_rewritten: bool = False
    """Whether its fields are no longer those of the file, and stand for it all the same."""


def read_row(row: int, raw: bytes, chunk: CsvChunk) -> CarefulRow:
    """Read one row without its line end."""
    text, problem = _decode(row, raw, chunk)
    # A process-wide limit of the csv module (131,072), in the way of rows that the client lets pass.
    csv.field_size_limit(max(csv.field_size_limit(), len(raw)))
    fields = next(_reader(text, chunk, strict=False), [])
    try:
        next(_reader(text, chunk, strict=True), [])
    except csv.Error as error:
        problem = problem or _problem(row, Code.QUOTE, f"the line cannot be read: {error}", text)
        return CarefulRow(fields, problem, _is_unclosed(text, fields, chunk))
    if problem is None:
        problem = _stray_quote(row, text, chunk) or _field_count(row, text, fields, chunk)
    return CarefulRow(fields, problem)


def _is_unclosed(text: str, fields: list[str], chunk: CsvChunk) -> bool:
    """Whether the text ends within quotes: then one field more is none."""
    longer = next(_reader(text + chunk.delimiter, chunk, strict=False), [])
    return len(longer) == len(fields)


def _decode(row: int, raw: bytes, chunk: CsvChunk) -> tuple[str, Problem | None]:
    try:
        text = raw.decode(chunk.encoding)
    except UnicodeDecodeError as error:
        found = raw[error.start]
        message = (
            f"byte {error.start} of the line, 0x{found:02x}, is not valid {chunk.encoding.upper()}"
        )
        problem = _problem(row, Code.ENCODING, message, str(raw))
        # Bytes that are no text survive the way through strings, as they are.
        return raw.decode(chunk.encoding, "surrogateescape"), problem
    if "\0" in text:
        return text, _problem(row, Code.CONTROL_CHAR, "the line holds a NUL byte", text)
    return text, None


def _stray_quote(row: int, text: str, chunk: CsvChunk) -> Problem | None:
    if not chunk.strict or is_tidy_row(text.encode(), chunk):
        return None
    message = f"a quote ({chunk.quote}) stands in a field that does not begin with one"
    return _problem(row, Code.QUOTE, message, text)


def _field_count(row: int, text: str, fields: list[str], chunk: CsvChunk) -> Problem | None:
    expected = len(chunk.columns)
    if len(fields) == expected:
        return None
    message = f"expected {expected} fields, got {len(fields)}"
    if len(fields) == expected + 1 and not fields[-1]:
        message += "; the line ends with a delimiter too many"
    return _problem(row, Code.FIELD_COUNT, message, text)


def _reader(text: str, chunk: CsvChunk, *, strict: bool) -> Iterator[list[str]]:
    return csv.reader(
        io.StringIO(text, newline=""),
        delimiter=chunk.delimiter,
        quotechar=chunk.quote or None,
        quoting=csv.QUOTE_MINIMAL if chunk.quote else csv.QUOTE_NONE,
        strict=strict,
    )


def _problem(row: int, code: Code, message: str, text: str) -> Problem:
    return Problem(row, code.value, message, None, shown(text))
