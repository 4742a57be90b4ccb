"""The lines of a chunk with the answers behind them: the input's bytes as they are, joined in Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from scoreline_client.options import CsvChunk
from scoreline_tasks.scoring.csv_codec.formulas import is_formula, without_formulas
from scoreline_tasks.scoring.csv_codec.source import ChunkRows
from scoreline_tasks.scoring.csv_codec.text import encoded_field, slices_of
from scoreline_tasks.scoring.text_columns import bytes_of, offsets_of

_NEW_END = b"\n"
"""The last line of a file may have no end: its answers get one."""


def join_answers(rows: ChunkRows, table: Any) -> bytes | memoryview:
    """The output: each row's own text, the columns of `table`, and the line end that it had."""
    chunk = rows.chunk
    if not len(rows.index):
        return b""
    source = without_formulas(rows) if chunk.excel_safe else rows
    if chunk.columns_out is not None:
        parts, ends = _chosen_columns(source), _line_ends(source)
    elif source.is_gapless:
        parts, ends = _lines_behind_ends(source)
    else:
        parts, ends = [_whole_lines(source)], _line_ends(source)
    answers = _answers(table, chunk)
    joined = pc.binary_join_element_wise(*parts, *answers, ends, b"")
    if isinstance(joined, pa.Scalar):
        joined = pa.repeat(joined, len(rows.index))
    return bytes_of(joined if parts or not answers else _without_delimiter(joined))


def _lines_behind_ends(rows: ChunkRows) -> tuple[list[Any], Any]:
    """The lines without a copy, each behind the end of the one before; and only the last line's end."""
    ends, count = rows.index.ends, len(rows.index)
    lines = _binary(np.concatenate((np.zeros(1, dtype=np.int32), ends)), rows.data)
    last = rows.data[ends[-1] : rows.index.stops[-1]] or _NEW_END
    offsets = np.zeros(count + 1, dtype=np.int32)
    offsets[-1] = len(last)
    return [lines], _binary(offsets, last)


def _line_ends(rows: ChunkRows) -> Any:
    """One line end for all rows where they are alike, or (rows,) of them."""
    index = rows.index
    codes = np.frombuffer(rows.data, np.uint8)
    lengths = index.stops - index.ends
    first = codes[np.minimum(index.ends, len(codes) - 1)]
    if (lengths == lengths[0]).all() and lengths[0] and (first == first[0]).all():
        return pa.scalar(rows.data[index.ends[0] : index.stops[0]], pa.binary())
    ends = slices_of(rows.data, index.ends, index.stops).view(pa.binary())
    return pc.if_else(pa.array(lengths > 0), ends, pa.scalar(_NEW_END, pa.binary()))


def _whole_lines(rows: ChunkRows) -> Any:
    lines = slices_of(rows.data, rows.index.starts, rows.index.ends).view(pa.binary())
    changed = {row: rows.completed(row) for row in rows.careful}
    return _replaced(lines, {row: line for row, line in changed.items() if line is not None})


def _chosen_columns(rows: ChunkRows) -> list[Any]:
    regular = rows.index.regular
    parts: list[Any] = []
    for column in rows.chunk.columns_out or ():
        fields = slices_of(
            rows.data, rows.index.field_starts[:, column], rows.index.field_ends[:, column]
        )
        others = {row: rows.field_as_written(row, column) for row in rows.careful}
        delimiter = [_delimiter(rows.chunk)] if parts else []
        parts += [*delimiter, _merged(fields.view(pa.binary()), regular, others)]
    return parts


def _merged(fields: Any, regular: npt.NDArray[np.intp], others: dict[int, bytes]) -> Any:
    if not others:
        return fields
    order = np.argsort(np.concatenate([regular, list(others)]))
    return pa.concat_arrays([fields, pa.array(others.values(), pa.binary())]).take(pa.array(order))


def _replaced(lines: Any, changed: dict[int, bytes]) -> Any:
    if not changed:
        return lines
    source = np.arange(len(lines))
    source[list(changed)] = len(lines) + np.arange(len(changed))
    return pa.concat_arrays([lines, pa.array(changed.values(), pa.binary())]).take(pa.array(source))


# Answers as text


def _answers(table: Any, chunk: CsvChunk) -> list[Any]:
    """Columns as bytes, or one for all rows, behind the delimiter; nothing for null.

    Columns of numbers that stand beside each other are one: what joins them goes value by value.
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
        known = [delimiter.as_py() + _written(one, chunk) for one in encoded.dictionary.to_pylist()]
        return pc.fill_null(pa.array(known, pa.binary()).take(encoded.indices), delimiter)
    written = [delimiter.as_py() + _written(one, chunk) for one in array.to_pylist()]
    return pa.array(written, pa.binary())


def _numbers(arrays: Sequence[Any], chunk: CsvChunk) -> Any:
    """Numbers behind the delimiter, as JSON has them: the shortest digits that give the same number
    back. orjson writes a column in a quarter of the time that Arrow takes."""
    values = np.column_stack([one.to_numpy() for one in arrays])
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


def _binary(offsets: npt.NDArray[np.int32], data: bytes) -> Any:
    """An Arrow array of bytes; each one ends where the next one begins."""
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.BinaryArray.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def _without_delimiter(texts: Any) -> Any:
    places = offsets_of(texts) - offsets_of(texts)[0]
    return slices_of(bytes_of(texts), places[:-1] + 1, places[1:]).view(pa.binary())


def _delimiter(chunk: CsvChunk) -> Any:
    return pa.scalar(chunk.delimiter.encode(), pa.binary())


def _written(value: Any, chunk: CsvChunk) -> bytes:
    if value is None:
        return b""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    if chunk.excel_safe and is_formula(text, chunk):
        text = "'" + text
    return encoded_field(text, chunk)
