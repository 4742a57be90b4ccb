"""Reads the rows of a chunk of CSV: the tidy ones at once with Arrow, the others with Python's `csv`.

The `csv` module decides where rows and fields are; the grammar that the client cuts files by agrees with
it. A row is tidy if every quote in it opens a field, closes it, or is one of a pair inside it, and if it
is text in the chunk's encoding. A few malformed rows do not make a chunk slow: they are cut out, and
Arrow reads the rest at once.
"""

from __future__ import annotations

import codecs
import csv
import encodings
import io
import math
import pkgutil
from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from encodings.aliases import aliases
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from scoreline_artifacts import ColumnType, Schema
from scoreline_artifacts.validation import Problem, shown
from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_client.options import CsvChunk
from scoreline_client.protocol.csv_grammar import Grammar
from scoreline_client.protocol.messages import WireError
from scoreline_tasks.scoring.limits import DEFAULT_LIMITS, Limits

Spans = npt.NDArray[np.int32]
"""Positions of bytes in a chunk, which is far smaller than 2 GiB."""

_LF, _CR = ord("\n"), ord("\r")
_BYTES_OF_NUMBERS = b"0123456789.-\r\n"
_NUMBER_TYPES = {"int64": pa.int64(), "float64": pa.float64()}
_PAIRS = (b"\x81\x40", b"\xa4\x40", b"\xb0\xa1", b"\xa4\xa2")
"""One character each in the usual encodings that have two bytes for some characters."""


@dataclass(frozen=True, slots=True)
class MalformedRow:
    """A row that Arrow cannot read, as the csv module does."""

    fields: list[str]
    """Its fields as the csv module reads them when it is lenient. Of a row that cannot be scored they are kept only
    where the output has them one by one: a chunk may have half a million such rows."""
    count: int
    """How many fields it has."""
    problem: Problem | None
    """Why it cannot be scored; None if it can, with these fields."""
    is_unclosed: bool = False
    """Whether a quote in it is never closed."""


@dataclass(frozen=True)
class ChunkRows:
    """All rows of a chunk, in order; blank lines and comments are not rows."""

    chunk: CsvChunk
    data: bytes
    starts: Spans
    """(rows,) Where each row begins."""
    ends: Spans
    """(rows,) Where it ends, before its line end."""
    stops: Spans
    """(rows,) Where its line end ends."""
    regular: npt.NDArray[np.intp]
    """The rows that Arrow has read."""
    columns: Mapping[int, Any]
    """(regular rows,) The fields of columns, as strings without quotes, or as numbers."""
    malformed: Mapping[int, MalformedRow]
    """The other rows, by index."""

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def readable(self) -> npt.NDArray[np.intp]:
        """The rows that have a field for each column."""
        good = [row for row, bad in self.malformed.items() if bad.problem is None]
        return np.sort(np.concatenate([self.regular, good])) if good else self.regular

    def problems(self) -> list[Problem]:
        """Why the other rows cannot be scored, in order."""
        return [bad.problem for bad in self.malformed.values() if bad.problem is not None]

    def texts(self, column: int) -> Any:
        """A column's fields in the readable rows, as strings."""
        malformed = {
            row: bad.fields[column] for row, bad in self.malformed.items() if not bad.problem
        }
        return self.merged(self.columns[column], malformed)

    def merged(self, fields: Any, malformed: Mapping[int, Any]) -> Any:
        """Values of the regular rows and of some malformed ones, in the order of the rows."""
        if not malformed:
            return fields
        order = np.argsort(np.concatenate([self.regular, list(malformed)]))
        both = pa.concat_arrays([fields, pa.array(malformed.values(), fields.type)])
        return both.take(pa.array(order))

    @cached_property
    def is_gapless(self) -> bool:
        """Whether there is nothing but regular rows in the data: no blank lines, no comments."""
        if self.malformed or not len(self):
            return False
        follows = bool((self.starts[1:] == self.stops[:-1]).all())
        return follows and self.starts[0] == 0 and self.stops[-1] == len(self.data)

    def regular_text(self) -> bytes:
        """The regular rows in UTF-8."""
        data = self.data
        if not self.is_gapless:
            spans = zip(self.starts[self.regular], self.stops[self.regular], strict=True)
            data = b"".join(data[start:stop] for start, stop in spans)
        return _in_utf8(data, self.chunk.encoding) or b""

    def position(self, row: int) -> dict[str, int]:
        """A row's number, and the physical line on which it begins."""
        lines_before = int(self._line_ends.searchsorted(self.starts[row]))
        return {"row": self.chunk.first_row + row, "line": self.chunk.first_line + lines_before}

    @cached_property
    def _line_ends(self) -> npt.NDArray[np.intp]:
        return _line_ends(self.data)


def chunk_indices(chunk: CsvChunk) -> dict[str, int]:
    """The columns of a chunk: index by name."""
    return {name: index for index, name in enumerate(chunk.columns)}


def read_numbers(chunk: CsvChunk, data: bytes, schema: Schema) -> ChunkRows | None:
    """The rows of a chunk of nothing but numbers as programs write them; None for any other.

    Where all bytes are digits, points, minus signs, delimiters and line ends, Arrow's own conversion
    cannot misunderstand anything that it does not refuse, and it is the fastest there is. Whatever it
    refuses, `read_chunk` and the conversion of texts decide, with the same result.
    """
    is_written_so = chunk.decimal == "." and not chunk.thousands and tuple(chunk.nulls) == ("",)
    comes_back_so = chunk.columns_out is None and not chunk.excel_safe
    indices = chunk_indices(chunk)
    present = [column for column in schema.columns if column.name in indices]
    types: dict[int, Any] = {}
    for column in present:
        if column.type in (ColumnType.INTEGER, ColumnType.NUMBER) and column.dtype in _NUMBER_TYPES:
            types[indices[column.name]] = _NUMBER_TYPES[column.dtype]
    if (
        not (is_written_so and comes_back_so and types)
        or chunk.comment
        or chunk.delimiter in "-."
        or len(types) < len(present)
        or data.translate(None, _BYTES_OF_NUMBERS + chunk.delimiter.encode())
    ):
        return None
    starts, ends, stops = _row_spans(data, quote=b"")
    try:
        columns, ragged = read_fields(data, chunk, types, quote="")
    except pa.ArrowInvalid:
        return None
    # Whole numbers are exact; a number of hundreds of digits is read as infinity, which is none.
    is_finite = all(
        len(numbers)
        and (
            pa.types.is_integer(numbers.type)
            or max(-numbers.to_numpy().min(), numbers.to_numpy().max()) < math.inf
        )
        for numbers in columns.values()
    )
    if ragged or not is_finite or len(columns[next(iter(types))]) != len(starts):
        return None
    return ChunkRows(chunk, data, starts, ends, stops, np.arange(len(starts)), columns, {})


def without_trailing(data: bytes, chunk: CsvChunk) -> bytes:
    """The rows of a chunk, those without their last delimiter that have one too many; line ends stay where they are."""
    slices, done = [], 0
    delimiter, quote = chunk.delimiter.encode(), chunk.quote.encode()
    csv.field_size_limit(max(csv.field_size_limit(), len(data)))
    for row in Grammar.of(chunk.delimiter, chunk.comment, chunk.quote).rows(data):
        end = row.start("end")
        line = data[row.start() : end]
        if line.endswith(delimiter):
            # In all encodings that come here, a byte of ASCII is that character.
            is_plain = not quote or quote not in line
            fields = line.split(delimiter) if is_plain else _fields(line.decode("latin-1"), chunk)
            if len(fields) == len(chunk.columns) + 1 and not fields[-1]:
                slices.append(data[done : end - 1])
                done = end
    return b"".join((*slices, data[done:]))


def read_chunk(
    chunk: CsvChunk,
    data: bytes,
    columns: Collection[int] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> ChunkRows:
    """Find the rows of a chunk and read `columns` of them, or all.

    Raises:
        WireError: the encoding is none that can be read here.
        RequestRefused: E_TOO_LARGE; too many rows cannot be read as they are.
    """
    grammar = Grammar.of(chunk.delimiter, chunk.comment, chunk.quote)
    text = _in_utf8(data, chunk.encoding)
    malformed: list[int] = []
    if text is not None and not grammar.has_comments(data) and grammar.is_tidy(data):
        starts, ends, stops = _row_spans(data, grammar.quote)
    else:
        spans, tidy = array("i"), bytearray()  # a chunk may have half a million rows
        has_quotes = bool(grammar.quote) and grammar.quote in data
        for count, row in enumerate(grammar.rows(data)):
            start, end, stop = row.start(), row.start("end"), row.end()
            is_tidy = not has_quotes or grammar.tidy.fullmatch(data, start, end)
            if not is_tidy or (text is None and _in_utf8(data[start:end], chunk.encoding) is None):
                malformed.append(count)
            else:
                tidy += row[0]
            spans.extend((start, end, stop))
        starts, ends, stops = np.array(spans, dtype=np.int32).reshape(-1, 3).T
        text = _in_utf8(bytes(tidy), chunk.encoding) or b""
    regular = np.delete(np.arange(len(starts)), malformed)
    wanted = range(len(chunk.columns)) if columns is None else columns
    fields, ragged = read_fields(text, chunk, dict.fromkeys(wanted, pa.string()), chunk.quote)
    malformed += regular[ragged].tolist()
    if len(malformed) > limits.max_request_records:
        message = f"{len(malformed):,} rows do not have the columns of the header: is the delimiter right?"
        raise RequestRefused(Code.TOO_LARGE, message)
    limits.check_values(len(malformed), len(chunk.columns))  # they are filled up with delimiters
    # The limit of the csv module is the process's (131,072); the client lets longer rows pass.
    csv.field_size_limit(max(csv.field_size_limit(), len(data) if malformed else 0))
    return ChunkRows(
        chunk,
        data,
        starts,
        ends,
        stops,
        np.delete(regular, ragged),
        fields,
        {
            row: _read_malformed(row, data[starts[row] : ends[row]], chunk, grammar)
            for row in sorted(malformed)
        },
    )


def read_fields(
    text: bytes, chunk: CsvChunk, types: Mapping[int, Any], quote: str
) -> tuple[dict[int, Any], list[int]]:
    """Columns of tidy rows in UTF-8 as Arrow arrays of `types`, by index.

    Returns also which of the rows have another number of fields than the header, and are left out.

    Raises:
        pyarrow.ArrowInvalid: a field is not of its column's type.
    """
    ragged: list[int] = []

    def skip(row: Any) -> str:
        ragged.append(row.number - 1)
        return "skip"

    if not text or text.startswith(codecs.BOM_UTF8):
        text = b"\n" + text  # Arrow refuses an empty text, and would drop the mark
    table = pa.csv.read_csv(
        pa.BufferReader(text),
        read_options=pa.csv.ReadOptions(
            column_names=[str(index) for index in range(len(chunk.columns))],
            use_threads=False,
            block_size=max(len(text) + 1, 1024),
        ),
        parse_options=pa.csv.ParseOptions(
            delimiter=chunk.delimiter,
            quote_char=quote or False,
            double_quote=bool(quote),
            newlines_in_values=bool(quote),
            invalid_row_handler=skip,
        ),
        convert_options=pa.csv.ConvertOptions(
            include_columns=[str(index) for index in types],
            column_types={str(index): kind for index, kind in types.items()},
            null_values=[],
        ),
    )
    columns = (
        column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        for column in table.itercolumns()
    )
    return dict(zip(types, columns, strict=True)), ragged


def _row_spans(data: bytes, quote: bytes) -> tuple[Spans, Spans, Spans]:
    """Where rows begin, end, and where their line ends end, in data in which all quotes are tidy."""
    codes = np.frombuffer(data, np.uint8)
    ends = _line_ends(data)
    if quote and quote in data:
        is_inside = (
            np.cumsum(codes == quote[0], dtype=np.uint8) & 1
        )  # overflows at 256, which is even
        ends = ends[is_inside[ends] == 0]
    stops = ends + 1
    if b"\r" in data:
        follows = np.minimum(stops, len(data) - 1)
        stops[(codes[ends] == _CR) & (codes[follows] == _LF) & (stops < len(data))] += 1
    if len(data) and (not len(stops) or stops[-1] < len(data)):
        # The last row has no line end; it ends where the data do.
        ends, stops = np.append(ends, len(data)), np.append(stops, len(data))
    starts = np.concatenate(([0], stops[:-1]))[: len(stops)]
    is_row = starts < ends
    if not is_row.all():
        starts, ends, stops = starts[is_row], ends[is_row], stops[is_row]
    return starts.astype(np.int32), ends.astype(np.int32), stops.astype(np.int32)


def _line_ends(data: bytes) -> npt.NDArray[np.intp]:
    """Where each line end begins, inside quotes too."""
    codes = np.frombuffer(data, np.uint8)
    is_end = codes == _LF
    if b"\r" in data:
        is_return = codes == _CR
        is_end[1:] &= ~is_return[:-1]
        is_end |= is_return
    return np.flatnonzero(is_end)


def _in_utf8(data: bytes, encoding: str) -> bytes | None:
    """Data in UTF-8; None if they hold a NUL byte, or bytes that are not text in their encoding.

    Raises:
        WireError: the encoding is not one of those in which a byte is a character.
    """
    is_input = is_utf8(encoding)
    if b"\0" in data:
        return None
    if data.isascii():
        return data
    try:
        text = data.decode(encoding)
        if is_input:
            return data
        # Where two bytes stand for one character, the way back would not be the input's.
        return text.encode() if text.encode(encoding) == data else None
    except UnicodeError:
        return None


@lru_cache(maxsize=32)
def is_utf8(encoding: str) -> bool:
    """Whether an encoding is UTF-8.

    Raises:
        WireError: it is not, nor an encoding of one byte a character that has ASCII in it.
    """
    # Python keeps every name that it does not know for ever.
    name = encodings.normalize_encoding(encoding).lower()
    modules = (module.name for module in pkgutil.iter_modules(encodings.__path__))
    if name not in aliases and name not in modules:
        raise WireError(f"there is no encoding of text {encoding!r}")
    try:
        if codecs.lookup(encoding).name == "utf-8":
            return True
        characters = [bytes([code]).decode(encoding, "replace") for code in range(256)]
        pairs = [len(pair.decode(encoding, "replace")) for pair in _PAIRS]
    except (LookupError, UnicodeError):
        raise WireError(f"there is no encoding of text {encoding!r}") from None
    is_ascii = "".join(characters[:128]) == bytes(range(128)).decode()
    is_one_byte = set(map(len, characters)) == {1} and set(pairs) == {2}
    if not (is_ascii and is_one_byte) or encoding.startswith("utf"):
        raise WireError(f"{encoding!r} does not have one byte for each character; send UTF-8")
    return False


# One malformed row


def _read_malformed(row: int, raw: bytes, chunk: CsvChunk, grammar: Grammar) -> MalformedRow:
    """Read one row without its line end."""
    problem: tuple[Code, str] | None = None
    value: str | None = None
    try:
        text = raw.decode(chunk.encoding)
    except UnicodeDecodeError as error:
        problem = (
            Code.ENCODING,
            f"byte {error.start} of the line, 0x{raw[error.start]:02x}, is not valid "
            f"{chunk.encoding.upper()}{encoding_hint(raw, chunk)}",
        )
        value = raw.decode("latin-1")  # each byte that is no ASCII as its number
        # Bytes that are no text survive the way through strings, as they are.
        text = raw.decode(chunk.encoding, "surrogateescape")
    else:
        if "\0" in text:
            problem = (Code.CONTROL_CHAR, "the line holds a NUL byte")
    fields = _fields(text, chunk)
    is_unclosed = False
    try:
        _fields(text, chunk, strict=True)
    except csv.Error as error:
        problem = problem or (Code.QUOTE, f"the line cannot be read: {error}")
        # Within a quote that is never closed, one delimiter more makes no field more.
        is_unclosed = len(_fields(text + chunk.delimiter, chunk)) == len(fields)
    expected = len(chunk.columns)
    if problem is None and chunk.strict and not grammar.is_tidy(text.encode()):
        message = f"a quote ({chunk.quote}) stands in a field that does not begin with one"
        problem = (Code.QUOTE, message)
    if problem is None and len(fields) != expected:
        message = f"expected {expected} fields, got {len(fields)}"
        if len(fields) == expected + 1 and not fields[-1]:
            message += (
                "; the line ends with a delimiter too many: --trailing-delimiter reads past it"
            )
        problem = (Code.FIELD_COUNT, message)
    if problem is None:
        return MalformedRow(fields, expected, None)
    code, message = problem
    value = shown(text if value is None else value)
    kept_fields = fields if chunk.columns_out is not None or chunk.excel_safe else []
    unreadable = Problem(row, code.value, message, None, value)
    return MalformedRow(kept_fields, len(fields), unreadable, is_unclosed)


def encoding_hint(raw: bytes, chunk: CsvChunk) -> str:
    """How the line would read in the encoding that most files have which are not in UTF-8."""
    try:
        fields = _fields(raw.decode("cp1252"), chunk)
    except UnicodeDecodeError:
        return ""
    word = next((field for field in fields if not field.isascii()), "")
    return f"; --encoding cp1252 would read {word[:40]!r}" if is_utf8(chunk.encoding) else ""


def _fields(text: str, chunk: CsvChunk, *, strict: bool = False) -> list[str]:
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=chunk.delimiter,
        quotechar=chunk.quote or None,
        quoting=csv.QUOTE_MINIMAL if chunk.quote else csv.QUOTE_NONE,
        strict=strict,
    )
    return next(reader, [])
