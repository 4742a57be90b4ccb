"""The shortest way for the plainest chunks: nothing but numbers, as programs write them.

Where all bytes are digits, points, minus signs, delimiters and line ends, Arrow's own reader of CSV
cannot misunderstand anything that it does not refuse, and it is the fastest there is. Whatever it
refuses, and whatever else there is, goes the way of all chunks (`csv_source`), which says the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from scoreline_artifacts import Column, ColumnType, Schema
from scoreline_artifacts.validation import EXACT_IN_FLOAT
from scoreline_client.options import CsvChunk
from scoreline_tasks.scoring.csv_codec.rows import RowIndex
from scoreline_tasks.scoring.csv_codec.source import ChunkRows
from scoreline_tasks.scoring.csv_codec.text import ChunkText

_PLAIN = b"0123456789.-\r\n"
_ARROW_TYPES = {"int64": pa.int64(), "float64": pa.float64()}


def read_plain(
    chunk: CsvChunk, data: bytes, schema: Schema
) -> tuple[ChunkRows, dict[str, Any]] | None:
    """The rows of a chunk and its columns as the arrays of training; None if it is not plain."""
    if not _is_usual(chunk) or not all(map(_is_usual_number, schema.columns)):
        return None
    if data.translate(None, _PLAIN + chunk.delimiter.encode()) or not _are_ends_alike(data):
        return None
    index = _index(data)
    if (index.starts == index.ends).any():
        return None
    try:
        table = _parse(chunk, data, schema)
    except pa.ArrowInvalid:
        return None
    arrays = {name: table.column(name).to_numpy() for name in schema.names}
    if len(index) != table.num_rows or not all(map(_is_exact, arrays.values())):
        return None
    return ChunkRows(chunk, data, ChunkText(data, None), index, {}), arrays


def _is_usual(chunk: CsvChunk) -> bool:
    """Whether numbers are written as they are everywhere, and lines come back as they are."""
    is_written_so = chunk.decimal == "." and not chunk.thousands and tuple(chunk.nulls) == ("",)
    comes_back_so = chunk.columns_out is None and not chunk.excel_safe
    return is_written_so and comes_back_so and not chunk.comment and chunk.delimiter not in "-."


def _is_usual_number(column: Column) -> bool:
    is_number = column.type in (ColumnType.INTEGER, ColumnType.NUMBER)
    return is_number and column.dtype in _ARROW_TYPES


def _are_ends_alike(data: bytes) -> bool:
    """Whether all lines end in the same way, the last one too."""
    if not data.endswith(b"\n"):
        return False
    return b"\r" not in data or data.count(b"\r") == data.count(b"\r\n") == data.count(b"\n")


def _parse(chunk: CsvChunk, data: bytes, schema: Schema) -> Any:
    return pa.csv.read_csv(
        pa.BufferReader(data),
        read_options=pa.csv.ReadOptions(
            column_names=list(chunk.columns),
            use_threads=False,
            block_size=max(len(data) + 1, 1024),
        ),
        parse_options=pa.csv.ParseOptions(
            delimiter=chunk.delimiter, quote_char=False, double_quote=False
        ),
        convert_options=pa.csv.ConvertOptions(
            include_columns=schema.names,
            column_types={one.name: _ARROW_TYPES[one.dtype] for one in schema.columns},
            null_values=[],
        ),
    )


def _is_exact(values: npt.NDArray[Any]) -> bool:
    """Whole numbers this large are looked at one by one: they may not fit without rounding."""
    return bool(values.min() > -EXACT_IN_FLOAT and values.max() < EXACT_IN_FLOAT)


def _index(data: bytes) -> RowIndex:
    """Where the lines are; nobody asks for their fields."""
    line_end = 2 if b"\r" in data else 1
    stops = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")).astype(np.int32) + 1
    starts = np.concatenate((np.zeros(1, dtype=np.int32), stops[:-1]))
    no_fields = np.zeros((len(stops), 0), dtype=np.int32)
    ends = stops - line_end
    return RowIndex(starts, ends, stops, np.arange(len(stops)), no_fields, no_fields)
