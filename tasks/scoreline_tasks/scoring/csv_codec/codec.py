"""Scores whole lines of a CSV file: the answer is the same lines, byte for byte, with the predictions appended.

Chunks of nothing but plain numbers are converted by Arrow while it reads them, all others column by
column from text. A row that cannot be scored has its error in its line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion, Scores
from scoreline_artifacts.validation import (
    CheckedRecords,
    Problem,
    Rules,
    frame_of_arrays,
    missing_column,
    renumbered,
)
from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_client.options import CsvChunk
from scoreline_client.protocol.csv_grammar import FORMULA_BEGINNINGS, FORMULA_MARK, quote_field
from scoreline_client.protocol.messages import WireError
from scoreline_tasks.scoring.csv_codec.convert import bytes_of, convert_columns, offsets_of
from scoreline_tasks.scoring.csv_codec.doubts import doubts_of
from scoreline_tasks.scoring.csv_codec.rows import (
    ChunkRows,
    Spans,
    chunk_indices,
    is_utf8,
    read_chunk,
    read_fields,
    read_numbers,
    without_trailing,
)
from scoreline_tasks.scoring.limits import DEFAULT_LIMITS, Limits
from scoreline_tasks.scoring.predict import CodecResult, rules_of, table_result
from scoreline_tasks.scoring.text_values import TextRules, number_pattern

MOST_HEAD_BYTES = 1 << 22
"""Of the head of a body: a header of a megabyte in any encoding, and as much again for the rest."""
CHUNK_BYTES = (1 << 20) + (1 << 16)
"""Clients cut files into chunks of a megabyte and a row, however many rows that makes."""
MOST_LINES = 10
"""Lines that a row may have, on average."""


class CsvBody:
    """The rows of a `csv` body."""

    def __init__(self, body: bytes, loaded: LoadedVersion, limits: Limits = DEFAULT_LIMITS) -> None:
        """Decode a body and hold its rows to the version's schema.

        Raises:
            WireError: the body has no head, or a head that this worker cannot follow.
            RequestRefused: E_MISSING_COLUMN or E_TOO_LARGE; a column that the version needs is not in the file, or
                there are too many rows.
        """
        self._loaded = loaded
        chunk, data, schema = open_chunk(body, loaded, limits)
        indices = chunk_indices(chunk)
        needed = [indices[name] for name in schema.names if name in indices]
        # Where all columns are left out, the first one tells where the rows are.
        self._rows = read_numbers(chunk, data, schema) or read_chunk(
            chunk, data, needed or [0], limits
        )
        check_count(self._rows, schema, limits)
        self.checked = check_rows(self._rows, schema, rules_of(chunk, limits))
        limits.check_rejected(len(self.checked.problems))
        self._schema, self._text_rules = schema, text_rules(chunk)

    def extract(self, record: int) -> bytes:
        """The body of a request that has nothing but this row."""
        rows, position = self._rows, self._rows.position(record)
        head = replace(rows.chunk, first_row=position["row"], first_line=position["line"])
        return head.encode(rows.data[rows.starts[record] : rows.stops[record]])

    def results(self, scores: Scores, errors: dict[int, Problem]) -> list[CodecResult]:
        """A single result: the rows' own lines with the answers behind them.

        Raises:
            RequestRefused: E_WIRE; the version does not have an output that the chunk names.
        """
        result = table_result(
            self.checked,
            scores,
            errors,
            self._loaded,
            self._rows.chunk,
            count=len(self._rows),
            body_bytes=len(self._rows.data),
            position=self._rows.position,
            write=partial(join_answers, self._rows),
        )
        result.report = doubts_of(self._rows, self._schema, self._text_rules)
        return [result]


def open_chunk(
    body: bytes, loaded: LoadedVersion, limits: Limits
) -> tuple[CsvChunk, bytes, Schema]:
    """A body's head and rows, and the schema that they are held to.

    Raises:
        WireError, RequestRefused: as for `CsvBody`.
    """
    if len(body) > MOST_HEAD_BYTES and body.find(b"\n", 0, MOST_HEAD_BYTES) < 0:
        raise WireError(f"the head of a csv body has more than {MOST_HEAD_BYTES:,} bytes")
    chunk, view = CsvChunk.decode(body)
    columns_out = chunk.columns_out or ()
    if any(index >= len(chunk.columns) for index in columns_out):
        raise WireError(f"columns_out has an index beyond the file's {len(chunk.columns)} columns")
    if len(set(columns_out)) < len(columns_out):
        raise WireError("columns_out has an index twice")
    schema = loaded.schema
    if schema is None:
        message = f"a version without a schema cannot score CSV; the file has {chunk.columns[:20]}"
        raise RequestRefused(Code.NOT_LOADED, message)
    counts, demanded = Counter(chunk.columns), set(schema.demanded)
    for name in schema.names:
        count = counts[name]
        if count == 0 and name in demanded:
            raise RequestRefused(Code.MISSING_COLUMN, missing_column(name, chunk.columns), name)
        if count > 1:
            message = f"column {name!r} is there {count} times"
            raise RequestRefused(Code.DUPLICATE_COLUMN, message, name)
    data = bytes(view)
    # Before they are looked for: a row may have several lines, as text in quotes has.
    if len(data) > CHUNK_BYTES:
        limits.check_records((data.count(b"\n") + data.count(b"\r")) // MOST_LINES)
    return chunk, without_trailing(data, chunk) if chunk.trailing_delimiter else data, schema


def check_count(rows: ChunkRows, schema: Schema, limits: Limits) -> None:
    """Check how many rows there are, before their values are converted.

    Raises:
        RequestRefused: E_TOO_LARGE.
    """
    if len(rows.data) > CHUNK_BYTES:
        limits.check_records(len(rows))
    limits.check_values(len(rows), len(schema.columns))


def text_rules(chunk: CsvChunk) -> TextRules:
    """How the values of a file are written."""
    return TextRules(
        chunk.decimal, chunk.thousands, frozenset(chunk.nulls), chunk.coerce, chunk.date_format
    )


def check_rows(rows: ChunkRows, schema: Schema, rules: Rules) -> CheckedRecords:
    """Hold every row to a schema whose demanded columns are all there."""
    problems: dict[int, Problem] = {}
    indices = chunk_indices(rows.chunk)
    texts = {name: rows.texts(indices[name]) for name in schema.names if name in indices}
    count = len(rows.readable)
    arrays = convert_columns(schema, texts, count, text_rules(rows.chunk), problems)
    return checked_rows(rows, schema, arrays, problems, rules)


def checked_rows(
    rows: ChunkRows,
    schema: Schema,
    arrays: dict[str, Any],
    problems: dict[int, Problem],
    rules: Rules,
) -> CheckedRecords:
    """The same for readable rows that are converted already."""
    checked = frame_of_arrays(arrays, len(rows.readable), schema, problems, rules)
    if len(rows.readable) == len(rows):
        return checked
    return renumbered(checked, rows.readable, rows.problems())


_NEW_END = b"\n"
"""The last line of a file may have no end: its answers get one."""
_NEVER_IN_UTF8 = b"\xfd\xfe\xff"


def join_answers(rows: ChunkRows, table: Any) -> bytes | memoryview:
    """The output: each row's own text, the columns of `table`, and the line end that it had."""
    chunk = rows.chunk
    if not len(rows):
        return b""
    parts: list[Any] = []
    if chunk.columns_out is not None:
        for index, fields in zip(
            chunk.columns_out, _fields_as_written(rows, chunk.columns_out), strict=True
        ):
            malformed = {
                row: _written(bad.fields[index], chunk) if index < len(bad.fields) else b""
                for row, bad in rows.malformed.items()
            }
            parts += [*([_delimiter(chunk)] if parts else []), rows.merged(fields, malformed)]
        ends = _line_ends(rows)
    elif rows.is_gapless and not chunk.excel_safe:
        # The lines without a copy, each behind the end of the line before; and only the last line's end.
        offsets = np.concatenate((np.zeros(1, dtype=np.int32), rows.ends))
        last = rows.data[rows.ends[-1] : rows.stops[-1]] or _NEW_END
        last_end = np.zeros(len(rows) + 1, dtype=np.int32)
        last_end[-1] = len(last)
        parts, ends = [_binary(offsets, rows.data)], _binary(last_end, last)
    else:
        if chunk.excel_safe:
            fields = _fields_as_written(rows, range(len(chunk.columns)))
            lines = pc.binary_join_element_wise(*fields, _delimiter(chunk))
        else:
            starts, stops = rows.starts[rows.regular], rows.ends[rows.regular]
            lines = _slices(rows.data, starts, stops)
        padded = {row: _padded_line(rows, row) for row in rows.malformed}
        parts, ends = [rows.merged(lines, padded)], _line_ends(rows)
    answers = _answers(table, chunk)
    joined = pc.binary_join_element_wise(*parts, *answers, ends, b"")
    if isinstance(joined, pa.Scalar):
        joined = pa.repeat(joined, len(rows))
    return bytes_of(joined if parts or not answers else _without_delimiter(joined))


def _line_ends(rows: ChunkRows) -> Any:
    """One line end for all rows where they are alike, or (rows,) of them."""
    codes = np.frombuffer(rows.data, np.uint8)
    lengths = rows.stops - rows.ends
    first = codes[np.minimum(rows.ends, len(codes) - 1)]
    if (lengths == lengths[0]).all() and lengths[0] and (first == first[0]).all():
        return pa.scalar(rows.data[rows.ends[0] : rows.stops[0]], pa.binary())
    ends = _slices(rows.data, rows.ends, rows.stops)
    return pc.if_else(pa.array(lengths > 0), ends, pa.scalar(_NEW_END, pa.binary()))


def _padded_line(rows: ChunkRows, row: int) -> bytes:
    """A malformed row's text, completed so that the answers stand in their columns.

    A field too many cannot be helped: nothing of the input may stand where a prediction is expected.
    """
    chunk, malformed = rows.chunk, rows.malformed[row]
    line = rows.data[rows.starts[row] : rows.ends[row]]
    added = chunk.quote if malformed.is_unclosed else ""
    if chunk.excel_safe and any(is_formula(field, chunk) for field in malformed.fields):
        line = chunk.delimiter.encode().join(_written(field, chunk) for field in malformed.fields)
        added = ""
    added += chunk.delimiter * max(0, len(chunk.columns) - max(1, malformed.count))
    return line + added.encode()


def _fields_as_written(rows: ChunkRows, indices: Sequence[int]) -> list[Any]:
    """(regular rows,) Fields as they stand in the file, quotes and all; formulas with a mark."""
    chunk, text = rows.chunk, rows.regular_text()
    quote = chunk.quote.encode()
    if not indices:
        return []
    is_utf8_too = is_utf8(chunk.encoding) or text.isascii()
    restored = None
    if quote and quote in text:
        # Arrow takes quotes for characters like any other if the characters that they protect are others for
        # a while: bytes that UTF-8 never has.
        codes = np.frombuffer(text, np.uint8).copy()
        is_inside = np.cumsum(codes == quote[0], dtype=np.uint8) & 1 == 1
        special = f"{chunk.delimiter}\r\n".encode()
        for code, stand_in in zip(special, _NEVER_IN_UTF8, strict=True):
            codes[is_inside & (codes == code)] = stand_in
        text, restored = codes.tobytes(), bytes.maketrans(_NEVER_IN_UTF8, special)
    columns, _ = read_fields(text, chunk, dict.fromkeys(indices, pa.binary()), quote="")
    mark = f"{re.escape(chunk.quote)}?" if chunk.quote else ""
    begins = f"^{mark}[{re.escape(FORMULA_BEGINNINGS)}]"
    number = rf"^{mark}{number_pattern(chunk.decimal, chunk.thousands)[1:-1]}{mark}\z"
    fields = {}
    for index, column in columns.items():
        texts = column
        if restored is not None:
            texts = _binary(offsets_of(column), bytes(bytes_of(column)).translate(restored))
        texts = texts.cast(pa.string())
        if chunk.excel_safe and pc.any(is_begun := pc.match_substring_regex(texts, begins)).as_py():
            is_safe = pc.match_substring_regex(texts, number)
            marked = pc.replace_substring_regex(texts, f"^({mark})", rf"\1{FORMULA_MARK}")
            texts = pc.if_else(pc.and_not(is_begun, is_safe), marked, texts)
        if is_utf8_too:
            fields[index] = texts.view(pa.binary())
        else:
            encoded = [text.encode(chunk.encoding) for text in texts.to_pylist()]
            fields[index] = pa.array(encoded, pa.binary())
    return [fields[index] for index in indices]


def _slices(data: bytes | memoryview, starts: Spans, ends: Spans) -> Any:
    """Arrow bytes between positions; each slice begins where the slice before ended, or later.

    Arrow takes the bytes as they lie there, once for the slices and once for the gaps between, and
    copies only the slices.
    """
    count = len(starts)
    if count == 0:
        return pa.array([], pa.binary())
    offsets = np.empty(2 * count + 1, dtype=np.int32)
    offsets[0:-1:2] = starts
    offsets[1:-1:2] = ends
    offsets[-1] = ends[-1]
    return _binary(offsets, data).take(pa.array(np.arange(0, 2 * count, 2)))


# Text that a spreadsheet would run as a formula (CWE-1236)


def is_formula(text: str, chunk: CsvChunk) -> bool:
    """Whether a spreadsheet would take a field for a formula that is no number."""
    if not text.startswith(tuple(FORMULA_BEGINNINGS)):
        return False
    return not re.match(number_pattern(chunk.decimal, chunk.thousands), text)


# Answers as text


def _answers(table: Any, chunk: CsvChunk) -> list[Any]:
    """Columns as bytes, or a scalar for all rows, behind the delimiter; nothing for null.

    Columns of numbers that stand beside each other are joined here: Arrow joins value by value.
    """

    def numbers(column: Any) -> Any:
        kind = column.type
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        return (
            kind if is_number and not column.null_count and not _needs_quotes(kind, chunk) else None
        )

    parts: list[Any] = []
    for kind, columns in groupby(table.itercolumns(), numbers):
        arrays = [column.combine_chunks() for column in columns]
        if kind is None:
            parts += [_answer(array, chunk) for array in arrays]
        else:
            parts.append(_numbers(arrays, chunk))
    return parts


def _needs_quotes(kind: Any, chunk: CsvChunk) -> bool:
    return chunk.decimal == chunk.delimiter and bool(pa.types.is_floating(kind))


def _answer(array: Any, chunk: CsvChunk) -> Any:
    kind = array.type
    delimiter = _delimiter(chunk)
    if pa.types.is_null(kind) or array.null_count == len(array):
        return delimiter
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        texts = _numbers([array.fill_null(0)], chunk)
        if _needs_quotes(kind, chunk):
            quoted = f'{chunk.delimiter}"'.encode()
            texts = pc.binary_join_element_wise(quoted, _without_delimiter(texts), b'"', b"")
        return pc.if_else(array.is_valid(), texts, delimiter)
    if pa.types.is_boolean(kind):
        array = array.cast(pa.string())
    if pa.types.is_string(array.type):
        encoded = array.dictionary_encode()
        written = [
            delimiter.as_py() + _written(text, chunk) for text in encoded.dictionary.to_pylist()
        ]
        return pc.fill_null(pa.array(written, pa.binary()).take(encoded.indices), delimiter)
    written = [delimiter.as_py() + _written(value, chunk) for value in array.to_pylist()]
    return pa.array(written, pa.binary())


def _numbers(arrays: Sequence[Any], chunk: CsvChunk) -> Any:
    """Numbers behind the delimiter, as JSON has them: the shortest digits that give the same number
    back. orjson writes a column in a quarter of the time that Arrow takes."""
    values = np.column_stack([array.to_numpy() for array in arrays])
    listed = orjson.dumps(values.ravel(), option=orjson.OPT_SERIALIZE_NUMPY)
    commas = np.flatnonzero(np.frombuffer(listed, np.uint8) == ord(","))
    offsets = np.empty(len(values) + 1, dtype=np.int32)
    offsets[0], offsets[-1] = 0, len(listed) - 1
    offsets[1:-1] = commas[len(arrays) - 1 :: len(arrays)]
    data = b"".join((b",", memoryview(listed)[1:-1]))
    if (chunk.delimiter, chunk.decimal) != (",", "."):
        marks = f"{chunk.delimiter}{chunk.decimal}".encode()
        data = data.translate(bytes.maketrans(b",.", marks))
    return _binary(offsets, data)


def _binary(offsets: npt.NDArray[Any], data: bytes | memoryview) -> Any:
    """An Arrow array of bytes; each value ends where the next begins."""
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.BinaryArray.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def _without_delimiter(texts: Any) -> Any:
    offsets = offsets_of(texts) - offsets_of(texts)[0]
    return _slices(bytes_of(texts), offsets[:-1] + 1, offsets[1:])


def _delimiter(chunk: CsvChunk) -> Any:
    return pa.scalar(chunk.delimiter.encode(), pa.binary())


def _written(value: Any, chunk: CsvChunk) -> bytes:
    if value is None:
        return b""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    if chunk.excel_safe and is_formula(text, chunk):
        text = FORMULA_MARK + text
    field = quote_field(text, chunk.delimiter, chunk.quote or '"')
    try:
        return field.encode(chunk.encoding, "surrogateescape")
    except UnicodeEncodeError:
        return field.encode(chunk.encoding, "backslashreplace")
