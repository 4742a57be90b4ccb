"""Whole lines of a CSV file in, the same lines with the answers appended out.

Two ways, one answer. The fast way is for chunks in which nothing can be misunderstood: Arrow parses
them, and joins the original lines with the answers, all in C++. Every other chunk goes row by row,
with Python's `csv` module as the arbiter; a row that cannot be scored gets its error in its own line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from scoreline_artifacts import ColumnType, Schema
from scoreline_artifacts.loading import LoadedVersion
from scoreline_artifacts.records import (
    EXACT_IN_FLOAT,
    Checked,
    Problem,
    frame_of_columns,
    missing_column,
    shown,
)
from scoreline_client.codes import Code
from scoreline_client.csv_cutter import Grammar
from scoreline_client.options import CsvChunk
from scoreline_tasks.codec_arrow import all_problems, output_table
from scoreline_tasks.scoring import CodecResult, RequestProblem, count_codes, score_frame
from scoreline_tasks.text_values import value_of

_PLAIN = b"0123456789.-\r\n"
"""Where a chunk holds nothing else than these and commas, Arrow's idea of a number is ours."""
_ARROW_TYPES = {ColumnType.INTEGER: pa.int64(), ColumnType.NUMBER: pa.float64()}
_NO_DELIMITER = "\x01"


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a chunk: their text as it stands in the file, and what it means."""

    lines: Any
    """(rows,) strings without line ends."""
    line_ends: Any
    """One string for all rows, or (rows,) strings."""
    checked: Checked


def score_csv_chunk(body: bytes, loaded: LoadedVersion) -> CodecResult:
    """Score the rows of a `csv` body.

    Raises:
        WireError: the body has no head.
        RequestProblem: E_MISSING_COLUMN; a column that the version needs is not in the file.
    """
    chunk, view = CsvChunk.decode(body)
    data = bytes(view)
    schema = loaded.schema or _any_schema(chunk.columns)
    for name in schema.names:
        if name not in chunk.columns:
            raise RequestProblem(Code.MISSING_COLUMN, missing_column(name, chunk.columns), name)
    rows = read_fast(chunk, data, schema) or read_carefully(chunk, data, schema)
    scored = score_frame(loaded, rows.checked.frame)
    problems = all_problems(rows.checked, scored)
    count = len(rows.lines)
    table = output_table(count, rows.checked, scored, problems, loaded.classes)
    return CodecResult(count, count_codes(problems.values()), _join(rows, table, chunk.delimiter))


def _any_schema(columns: Sequence[str]) -> Schema:
    raise RequestProblem(
        Code.NOT_LOADED, f"a version without a schema cannot score CSV; the file has {columns[:20]}"
    )


# The fast way


def read_fast(chunk: CsvChunk, data: bytes, schema: Schema) -> _Rows | None:
    """Read a chunk in C++, or None if anything in it is not plain."""
    if any(column.type not in _ARROW_TYPES for column in schema.columns):
        return None
    if data.translate(None, _PLAIN + chunk.delimiter.encode()) or not _is_even(data):
        return None
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(data),
            read_options=_read_options(chunk.columns, len(data)),
            parse_options=_parse_options(chunk.delimiter),
            convert_options=pa.csv.ConvertOptions(
                include_columns=schema.names,
                column_types={one.name: _ARROW_TYPES[one.type] for one in schema.columns},
                null_values=[],
            ),
        )
        lines = pa.csv.read_csv(
            pa.BufferReader(data),
            read_options=_read_options(["line"], len(data)),
            parse_options=_parse_options(_NO_DELIMITER),
            convert_options=pa.csv.ConvertOptions(column_types={"line": pa.string()}),
        ).column(0)
    except pa.ArrowInvalid:
        return None
    columns = {name: table.column(name).to_numpy() for name in schema.names}
    if table.num_rows != len(lines) or not all(map(_is_exact, columns.values())):
        return None
    checked = frame_of_columns(columns, table.num_rows, schema)
    return _Rows(lines, "\r\n" if b"\r" in data else "\n", checked)


def _is_even(data: bytes) -> bool:
    """Whether all lines end in the same way, the last one too."""
    if not data.endswith(b"\n"):
        return False
    return b"\r" not in data or data.count(b"\r") == data.count(b"\r\n") == data.count(b"\n")


def _is_exact(values: Any) -> bool:
    """Whole numbers this large are looked at one by one: they may not fit without rounding."""
    return not len(values) or bool((np.abs(values) < EXACT_IN_FLOAT).all())


def _read_options(columns: Sequence[str], size: int) -> Any:
    return pa.csv.ReadOptions(
        column_names=list(columns), use_threads=False, block_size=max(size + 1, 1024)
    )


def _parse_options(delimiter: str) -> Any:
    return pa.csv.ParseOptions(delimiter=delimiter, quote_char=False, double_quote=False)


# The careful way


def read_carefully(chunk: CsvChunk, data: bytes, schema: Schema) -> _Rows:
    """Read a chunk row by row."""
    lines: list[str] = []
    ends: list[str] = []
    problems: dict[int, Problem] = {}
    good: list[int] = []
    values: list[list[Any]] = []
    places = [list(chunk.columns).index(name) for name in schema.names]
    for row, match in enumerate(Grammar.of(chunk.delimiter).rows(data)):
        raw = match[0][: match.start("end") - match.start()]
        # Bytes that are no text survive the way through strings, as they are.
        lines.append(raw.decode("utf-8", "surrogateescape"))
        ends.append(match["end"].decode() or "\n")
        fields = _fields(raw, chunk, row)
        if isinstance(fields, Problem):
            problems[row] = fields
            continue
        good.append(row)
        texts = [fields[place] for place in places]
        columns = schema.columns
        values.append([value_of(one, text) for one, text in zip(columns, texts, strict=True)])
    named = {name: [one[place] for one in values] for place, name in enumerate(schema.names)}
    checked = frame_of_columns(named, len(good), schema)
    for problem in checked.problems:
        row = good[problem.record]
        problems[row] = Problem(row, problem.code, problem.message, problem.column, problem.value)
    kept = good if checked.good is None else [good[place] for place in checked.good]
    ordered = [problems[row] for row in sorted(problems)]
    whole = Checked(checked.frame, np.array(kept, dtype=np.intp) if problems else None, ordered)
    return _Rows(lines, ends, whole)


def _fields(raw: bytes, chunk: CsvChunk, row: int) -> list[str] | Problem:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        message = f"byte {error.start} of the line, 0x{raw[error.start]:02x}, is not valid UTF-8"
        return Problem(row, Code.ENCODING.value, message, None, shown(str(raw)))
    if "\0" in text:
        return Problem(row, Code.CONTROL_CHAR.value, "the line holds a NUL byte", None, shown(text))
    # A process-wide limit of the csv module (131,072), in the way of rows that the client lets pass.
    csv.field_size_limit(max(csv.field_size_limit(), len(raw)))
    try:
        fields = next(
            csv.reader(io.StringIO(text, newline=""), delimiter=chunk.delimiter, strict=True)
        )
    except csv.Error as error:
        return Problem(
            row, Code.QUOTE.value, f"the line cannot be read: {error}", None, shown(text)
        )
    if len(fields) != len(chunk.columns):
        message = f"expected {len(chunk.columns)} fields, got {len(fields)}"
        if len(fields) == len(chunk.columns) + 1 and not fields[-1]:
            message += "; the line ends with a delimiter too many"
        return Problem(row, Code.FIELD_COUNT.value, message, None, shown(text))
    return fields


# Back to text


def _join(rows: _Rows, table: Any, delimiter: str) -> bytes | memoryview:
    answers = [_text(table.column(name), delimiter) for name in table.column_names]
    if isinstance(rows.line_ends, str):
        last = answers[-1]
        if table.column(table.num_columns - 1).null_count == table.num_rows:
            ended: Any = pa.scalar(rows.line_ends)
        else:
            ended = pc.binary_join_element_wise(last, rows.line_ends, "")
        joined = pc.binary_join_element_wise(rows.lines, *answers[:-1], ended, delimiter)
        return _bytes_of(joined)
    plain = [answer.to_pylist() for answer in answers]
    text = "".join(
        f"{delimiter.join((line, *fields))}{end}"
        for line, end, *fields in zip(rows.lines, rows.line_ends, *plain, strict=True)
    )
    return text.encode("utf-8", "surrogateescape")


def _text(column: Any, delimiter: str) -> Any:
    """A column of answers as text; nothing for null. Numbers as Arrow writes them: the shortest
    digits that give the same number back."""
    kind = column.type
    if pa.types.is_null(kind):
        return pa.array([""] * len(column), pa.string())
    if pa.types.is_list(kind):
        texts: Any = pa.chunked_array([pa.array([_json(one) for one in column.to_pylist()])])
    else:
        texts = pc.cast(column, pa.string())
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        texts = pa.chunked_array([pa.array(_quoted(texts.to_pylist(), delimiter), pa.string())])
    return pc.fill_null(texts, "")


def _json(values: Any) -> str | None:
    return None if values is None else " ".join(map(str, values))


def _quoted(texts: list[str | None], delimiter: str) -> list[str | None]:
    special = (delimiter, '"', "\n", "\r")
    return [
        '"' + text.replace('"', '""') + '"'
        if text is not None and any(one in text for one in special)
        else text
        for text in texts
    ]


def _bytes_of(joined: Any) -> bytes | memoryview:
    """The bytes of strings, one after the other: they lie like that in memory already."""
    array = joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    _, offsets, data = array.buffers()
    if len(array) == 0 or data is None:
        return b""
    width = np.int64 if pa.types.is_large_string(array.type) else np.int32
    places = np.frombuffer(offsets, dtype=width)
    return memoryview(data)[places[array.offset] : places[array.offset + len(array)]]
