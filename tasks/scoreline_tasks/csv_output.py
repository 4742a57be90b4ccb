"""The lines of a chunk with the answers behind them: the input's bytes as they are, joined in Arrow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scoreline_client.options import CsvChunk
from scoreline_tasks.csv_formulas import is_formula, without_formulas
from scoreline_tasks.csv_source import ChunkRows
from scoreline_tasks.csv_text import encoded_field, slices_of
from scoreline_tasks.text_columns import bytes_of


def join_answers(rows: ChunkRows, table: Any) -> bytes | memoryview:
    """The output: each row's own text, the columns of `table`, and the line end that it had."""
    chunk = rows.chunk
    if not len(rows.index):
        return b""
    source = without_formulas(rows) if chunk.excel_safe else rows
    parts = _chosen_columns(source) if chunk.columns_out is not None else [_whole_lines(source)]
    parts += [_answer(table.column(name), chunk) for name in table.column_names]
    ends = _line_ends(source)
    ended = pc.binary_join_element_wise(parts[-1], ends, b"") if parts else ends
    joined = pc.binary_join_element_wise(*parts[:-1], ended, chunk.delimiter.encode())
    if isinstance(joined, pa.Scalar):
        return bytes(joined.as_py() * len(rows.index))
    return bytes_of(joined)


def _line_ends(rows: ChunkRows) -> Any:
    """One line end for all rows where they are alike, or (rows,) of them."""
    index = rows.index
    codes = np.frombuffer(rows.data, np.uint8)
    lengths = index.stops - index.ends
    first = codes[np.minimum(index.ends, len(codes) - 1)]
    if (lengths == lengths[0]).all() and lengths[0] and (first == first[0]).all():
        return pa.scalar(rows.data[index.ends[0] : index.stops[0]], pa.binary())
    ends = slices_of(rows.data, index.ends, index.stops).view(pa.binary())
    # The last line of a file may have no end: its answers get one.
    return pc.if_else(pa.array(lengths > 0), ends, pa.scalar(b"\n", pa.binary()))


def _whole_lines(rows: ChunkRows) -> Any:
    lines = slices_of(rows.data, rows.index.starts, rows.index.ends).view(pa.binary())
    changed = {row: rows.completed(row) for row in rows.careful}
    return _replaced(lines, {row: line for row, line in changed.items() if line is not None})


def _chosen_columns(rows: ChunkRows) -> list[Any]:
    places = rows.chunk.columns_out or ()
    regular = rows.index.regular
    parts = []
    for column in places:
        fields = slices_of(
            rows.data, rows.index.field_starts[:, column], rows.index.field_ends[:, column]
        )
        others = {row: rows.field_as_written(row, column) for row in rows.careful}
        parts.append(_merged(fields.view(pa.binary()), regular, others))
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


def _answer(column: Any, chunk: CsvChunk) -> Any:
    """A column of answers as bytes, or one for all rows; nothing for null.

    Numbers are as Arrow writes them: the shortest digits that give the same number back.
    """
    kind = column.type
    if pa.types.is_null(kind) or column.null_count == len(column):
        return pa.scalar(b"", pa.binary())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        texts = pc.cast(column.combine_chunks(), pa.string())
        if chunk.decimal != "." and pa.types.is_floating(kind):
            texts = pc.replace_substring(texts, ".", chunk.decimal)
            if chunk.decimal == chunk.delimiter:
                texts = pc.binary_join_element_wise('"', texts, '"', "")
        return pc.fill_null(texts, "").cast(pa.binary())
    encoded = column.combine_chunks().dictionary_encode() if pa.types.is_string(kind) else None
    if encoded is None:
        return pa.array([_written(one, chunk) for one in column.to_pylist()], pa.binary())
    texts = pa.array([_written(one, chunk) for one in encoded.dictionary.to_pylist()], pa.binary())
    return pc.fill_null(texts.take(encoded.indices), b"")


def _written(value: Any, chunk: CsvChunk) -> bytes:
    if value is None:
        return b""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    if chunk.excel_safe and is_formula(text, chunk):
        text = "'" + text
    return encoded_field(text, chunk)
