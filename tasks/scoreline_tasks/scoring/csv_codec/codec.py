"""Scores whole lines of a CSV file: the answer is the same lines with the predictions appended.

Chunks of nothing but plain numbers are converted by Arrow while it reads them, all others column by
column from text. A row that cannot be scored has its error in its line.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

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
from scoreline_client.protocol.messages import WireError
from scoreline_tasks.scoring.csv_codec.convert import convert_columns
from scoreline_tasks.scoring.csv_codec.output import join_answers
from scoreline_tasks.scoring.csv_codec.rows import (
    ChunkRows,
    chunk_indices,
    read_chunk,
    read_numbers,
)
from scoreline_tasks.scoring.predict import CodecResult, rules_of, table_result
from scoreline_tasks.scoring.text_values import TextRules


class CsvBody:
    """The rows of a `csv` body."""

    def __init__(self, body: bytes, loaded: LoadedVersion) -> None:
        """Decode a body and hold its rows to the version's schema.

        Raises:
            WireError: the body has no head, or a head that this worker cannot follow.
            RequestRefused: E_MISSING_COLUMN; a column that the version needs is not in the file.
        """
        self._loaded = loaded
        chunk, data, schema = open_chunk(body, loaded)
        indices = chunk_indices(chunk)
        needed = [indices[name] for name in schema.names]
        self._rows = read_numbers(chunk, data, schema) or read_chunk(chunk, data, needed)
        self.checked = check_rows(self._rows, schema, rules_of(chunk))

    def results(self, scores: Scores, errors: dict[int, Problem]) -> list[CodecResult]:
        """The one result: the rows' own lines with the answers behind them.

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
            position=self._rows.position,
            write=partial(join_answers, self._rows),
        )
        return [result]


def open_chunk(body: bytes, loaded: LoadedVersion) -> tuple[CsvChunk, bytes, Schema]:
    """A body's head and rows, and the schema that they are held to.

    Raises:
        WireError, RequestRefused: as for `CsvBody`.
    """
    chunk, view = CsvChunk.decode(body)
    if any(index >= len(chunk.columns) for index in chunk.columns_out or ()):
        raise WireError(f"columns_out has an index beyond the file's {len(chunk.columns)} columns")
    schema = loaded.schema
    if schema is None:
        message = f"a version without a schema cannot score CSV; the file has {chunk.columns[:20]}"
        raise RequestRefused(Code.NOT_LOADED, message)
    counts = Counter(chunk.columns)
    for name in schema.names:
        count = counts[name]
        if count == 0:
            raise RequestRefused(Code.MISSING_COLUMN, missing_column(name, chunk.columns), name)
        if count > 1:
            message = f"column {name!r} is there {count} times"
            raise RequestRefused(Code.DUPLICATE_COLUMN, message, name)
    return chunk, bytes(view), schema


def text_rules(chunk: CsvChunk) -> TextRules:
    """How the values of a file are written."""
    return TextRules(chunk.decimal, chunk.thousands, tuple(chunk.nulls), chunk.coerce)


def check_rows(rows: ChunkRows, schema: Schema, rules: Rules) -> CheckedRecords:
    """Hold every row to a schema whose columns are all there."""
    problems: dict[int, Problem] = {}
    indices = chunk_indices(rows.chunk)
    texts = {name: rows.texts(indices[name]) for name in schema.names}
    arrays = convert_columns(schema, texts, text_rules(rows.chunk), problems)
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
