"""Whole lines of a CSV file in, the same lines with the answers appended out.

Chunks of nothing but plain numbers are read by Arrow. In all others the rows are found as places in the bytes, columns are converted in Arrow, and
the original lines are joined with the answers there too. Only rows in which something is odd are read
one by one, with Python's `csv` module as the arbiter; what cannot be scored gets its error in its line.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion, Scores
from scoreline_artifacts.validation import CheckedRecords, Problem, missing_column
from scoreline_client.codes import Code
from scoreline_client.options import CsvChunk
from scoreline_client.protocol.messages import WireError
from scoreline_tasks.scoring.csv_codec.output import join_answers
from scoreline_tasks.scoring.csv_codec.plain import read_plain
from scoreline_tasks.scoring.csv_codec.source import ChunkRows, check_rows, checked_rows, read_chunk
from scoreline_tasks.scoring.outputs import rules_of, table_result
from scoreline_tasks.scoring.predict import CodecResult, RequestProblem


class CsvBody:
    """The rows of a `csv` body."""

    def __init__(self, body: bytes, loaded: LoadedVersion) -> None:
        """Decode a body and hold its rows to the version's schema.

        Raises:
            WireError: the body has no head, or one that asks for what there is not.
            RequestProblem: E_MISSING_COLUMN; a column that the version needs is not in the file.
        """
        self._loaded = loaded
        chunk, data, schema = open_chunk(body, loaded)
        self._rows, self.checked = _check(chunk, data, schema)

    def results(self, scores: Scores, errors: dict[int, Problem]) -> list[CodecResult]:
        """The one result: the rows' own lines with the answers behind them.

        Raises:
            RequestProblem: E_WIRE; the version does not have an output that the chunk names.
        """
        result = table_result(
            self.checked,
            scores,
            errors,
            self._loaded,
            self._rows.chunk,
            count=len(self._rows.index),
            position=self._rows.position,
            write=partial(join_answers, self._rows),
        )
        return [result]


def _check(chunk: CsvChunk, data: bytes, schema: Schema) -> tuple[ChunkRows, CheckedRecords]:
    rules = rules_of(chunk)
    plain = read_plain(chunk, data, schema)
    if plain is not None:
        rows, arrays = plain
        return rows, checked_rows(rows, schema, arrays, {}, rules)
    rows = read_chunk(chunk, data)
    return rows, check_rows(rows, schema, rules)


def open_chunk(body: bytes, loaded: LoadedVersion) -> tuple[CsvChunk, bytes, Schema]:
    """A body's head and rows, and the schema that they are held to.

    Raises:
        WireError, RequestProblem: as for `CsvBody`.
    """
    chunk, view = CsvChunk.decode(body)
    if any(place >= len(chunk.columns) for place in chunk.columns_out or ()):
        raise WireError(f"columns_out has a place beyond the file's {len(chunk.columns)} columns")
    schema = loaded.schema or _any_schema(chunk.columns)
    for name in schema.names:
        found = list(chunk.columns).count(name)
        if found == 0:
            raise RequestProblem(Code.MISSING_COLUMN, missing_column(name, chunk.columns), name)
        if found > 1:
            message = f"column {name!r} is there {found} times"
            raise RequestProblem(Code.DUPLICATE_COLUMN, message, name)
    return chunk, bytes(view), schema


def _any_schema(columns: Sequence[str]) -> Schema:
    raise RequestProblem(
        Code.NOT_LOADED, f"a version without a schema cannot score CSV; the file has {columns[:20]}"
    )
