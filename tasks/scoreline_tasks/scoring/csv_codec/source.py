"""The rows of a chunk, read: most of them as places in its bytes, the odd ones field by field."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from scoreline_artifacts import Schema
from scoreline_artifacts.validation import (
    CheckedRecords,
    Problem,
    Rules,
    frame_of_arrays,
    renumbered,
)
from scoreline_client.options import CsvChunk
from scoreline_tasks.scoring.csv_codec.careful import CarefulRow, read_row
from scoreline_tasks.scoring.csv_codec.rows import RowIndex, index_rows, rows_of_places, without
from scoreline_tasks.scoring.csv_codec.text import (
    ChunkText,
    column_texts,
    encoded_field,
    text_of,
    undecodable,
    with_careful,
)
from scoreline_tasks.scoring.text_columns import convert_block, convert_texts
from scoreline_tasks.scoring.text_values import TextRules


@dataclass(frozen=True)
class ChunkRows:
    """All rows of a chunk."""

    chunk: CsvChunk
    data: bytes
    text: ChunkText
    index: RowIndex
    careful: dict[int, CarefulRow]
    """The rows that are not regular, by their place."""

    @cached_property
    def readable(self) -> npt.NDArray[np.intp]:
        """The rows that have their fields."""
        good = [row for row, one in self.careful.items() if one.problem is None]
        if not good:
            return self.index.regular
        return np.sort(np.concatenate([self.index.regular, good]))

    def problems(self) -> list[Problem]:
        """Why the other rows have not, in order."""
        return [one.problem for one in self.careful.values() if one.problem is not None]

    def texts(self, column: int) -> Any:
        """A column's fields in the readable rows, as strings."""
        texts = column_texts(self.text, self.index, [column], self.chunk)
        good = [(row, one.fields[column]) for row, one in self.careful.items() if not one.problem]
        return with_careful(texts, self.index.regular, good)

    def position(self, row: int) -> dict[str, int]:
        """A row's number, and the physical line on which it begins."""
        before = row
        if not self._has_a_line_for_each_row:
            before = int(np.searchsorted(self._line_ends, self.index.starts[row]))
        return {"row": self.chunk.first_row + row, "line": self.chunk.first_line + before}

    @cached_property
    def is_gapless(self) -> bool:
        """Whether every row begins where the one before ended, and all are regular."""
        starts, stops = self.index.starts, self.index.stops
        follows = not self.careful and len(starts) > 0 and starts[0] == 0
        return follows and bool((starts[1:] == stops[:-1]).all())

    @cached_property
    def _has_a_line_for_each_row(self) -> bool:
        quote = self.chunk.quote.encode()
        return self.is_gapless and not (quote and quote in self.data)

    @cached_property
    def _line_ends(self) -> npt.NDArray[np.intp]:
        codes = np.frombuffer(self.data, np.uint8)
        ends = codes == ord("\n")
        returns = np.flatnonzero(codes == ord("\r"))
        follows = returns[returns + 1 < len(codes)]
        ends[returns] = True
        ends[follows[codes[follows + 1] == ord("\n")]] = False
        return np.flatnonzero(ends)

    def completed(self, row: int) -> bytes | None:
        """An odd row's text, completed so that what follows stands in its columns; None if it does.

        A field too many cannot be helped: nothing of the input may stand where a prediction is
        looked for.
        """
        one = self.careful[row]
        line = self.data[self.index.starts[row] : self.index.ends[row]]
        if one.is_rewritten:
            delimiter = self.chunk.delimiter.encode()
            line = delimiter.join(encoded_field(field, self.chunk) for field in one.fields)
        added = self.chunk.quote if one.is_unclosed else ""
        added += self.chunk.delimiter * max(0, len(self.chunk.columns) - max(1, len(one.fields)))
        return line + added.encode() if added or one.is_rewritten else None

    def field_as_written(self, row: int, column: int) -> bytes:
        """A field of an odd row, with quotes as they should be; empty if the row is too short."""
        fields = self.careful[row].fields
        return encoded_field(fields[column], self.chunk) if column < len(fields) else b""


def read_chunk(chunk: CsvChunk, data: bytes) -> ChunkRows:
    """Find the rows of a chunk and read the odd ones.

    Raises:
        WireError: the encoding is none that can be read here.
    """
    index = index_rows(data, chunk)
    places = undecodable(data, chunk.encoding)
    if len(places):
        index = without(index, rows_of_places(index, places))
    careful = {
        row: read_row(row, data[index.starts[row] : index.ends[row]], chunk)
        for row in index.irregular()
    }
    return ChunkRows(chunk, data, text_of(data, chunk.encoding), index, careful)


def text_rules(chunk: CsvChunk) -> TextRules:
    """How the values of a file are written."""
    return TextRules(chunk.decimal, chunk.thousands, tuple(chunk.nulls), chunk.coerce)


def check_rows(rows: ChunkRows, schema: Schema, rules: Rules) -> CheckedRecords:
    """Hold every row to a schema whose columns are all there."""
    problems: dict[int, Problem] = {}
    return checked_rows(rows, schema, convert_rows(rows, schema, problems), problems, rules)


def checked_rows(
    rows: ChunkRows,
    schema: Schema,
    arrays: dict[str, Any],
    problems: dict[int, Problem],
    rules: Rules,
) -> CheckedRecords:
    """The same for readable rows that are converted already."""
    checked = frame_of_arrays(arrays, len(rows.readable), schema, problems, rules)
    if len(rows.readable) == len(rows.index):
        return checked
    return renumbered(checked, rows.readable, rows.problems())


def convert_rows(rows: ChunkRows, schema: Schema, problems: dict[int, Problem]) -> dict[str, Any]:
    """The readable rows as the arrays of training, by column; `problems` gets what does not fit."""
    rules = text_rules(rows.chunk)
    places = {name: place for place, name in enumerate(rows.chunk.columns)}
    numbers = _numbers_at_once(rows, schema, rules)
    return {
        column.name: numbers[column.name]
        if column.name in numbers
        else convert_texts(column, rows.texts(places[column.name]), rules, problems)
        for column in schema.columns
    }


def _numbers_at_once(rows: ChunkRows, schema: Schema, rules: TextRules) -> dict[str, Any]:
    """All columns of usual numbers, if they are plain throughout; or none."""
    places = {name: place for place, name in enumerate(rows.chunk.columns)}
    found = [one for one in schema.columns if one.dtype in ("float64", "int64")]
    if len(found) < 2 or len(rows.readable) != len(rows.index.regular):
        return {}
    found.sort(key=lambda one: places[one.name])
    texts = column_texts(rows.text, rows.index, [places[one.name] for one in found], rows.chunk)
    arrays = convert_block(found, texts, rules)
    if arrays is None:
        return {}
    return {column.name: array for column, array in zip(found, arrays, strict=True)}
