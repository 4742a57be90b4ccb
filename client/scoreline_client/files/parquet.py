"""Parquet: Arrow from end to end, some rows of a row group at a time.

A Parquet file has its directory at its end, so a file that is half written cannot be continued. The part that
grows is therefore a sequence of small Arrow streams, each after its length; when all are there, they are
read in order and become row groups.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused, MissingDependency
from scoreline_client.files.reader import (
    Chunk,
    ChunkOutput,
    FileReader,
    FileSizes,
    ModelInfo,
    OutputColumns,
    Position,
    check_no_duplicates,
    choose_columns,
    missing_columns,
    predictions_from,
)
from scoreline_client.files.source import Source, compression_by_name
from scoreline_client.options import BulkOptions, RequestOptions
from scoreline_client.predictions import Prediction
from scoreline_client.protocol.messages import Answer, Codec

_LENGTH = struct.Struct("!Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetChunk(Chunk):
    """Some rows of a row group."""

    batch: Any
    """pyarrow.RecordBatch: the columns of the input that the output has."""


class ParquetReader(FileReader[ParquetChunk]):
    """Reads a Parquet file. Chunks are the same in every run, so that row groups are too."""

    unit = "rows"

    def __init__(
        self,
        source: Source,
        target: str,
        options: BulkOptions,
        sizes: FileSizes,
        *,
        wants_problems: bool,
        is_stream: bool = False,
    ) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise MissingDependency("a Parquet file", "pyarrow", "frames") from error
        from scoreline_client.protocol import arrow_tables

        self.notes: list[str] = []
        self._name = source.name
        self._options = options
        self._sizes = sizes
        self._wants_problems = wants_problems
        self._arrow: Any = pyarrow
        self._tables = arrow_tables
        if source.facts is None or source.compression or is_stream:
            message = (
                "Parquet is read and written out of order: name files, and not compressed ones"
            )
            raise FileRefused(Code.FILE, source.name, message)
        if compression_by_name(target)[0]:
            message = "Parquet is compressed within; leave the ending away"
            raise FileRefused(Code.FILE, target, message)
        self._file = self._guarded(lambda: self._arrow.parquet.ParquetFile(source.file))
        self._model: ModelInfo
        self._columns: OutputColumns
        self._needed: list[str]

    @property
    def total(self) -> int:
        """Rows in all."""
        return int(self._file.metadata.num_rows)

    def begin(self, model: ModelInfo) -> tuple[bytes, Position]:
        """Check the schema."""
        names = self._file.schema_arrow.names
        check_no_duplicates(self._name, names)
        missing = [name for name in model.needed if name not in names]
        if missing:
            message = missing_columns(missing, names)
            raise FileRefused(Code.MISSING_COLUMN, self._name, message, missing[0])
        self._model = model
        self._columns = choose_columns(self._name, names, model, self._options)
        self._needed = model.needed or names
        return b"", Position(0, 1, 0)

    def chunks(
        self,
        start: Position,
        chunk_bytes: Callable[[], int],  # noqa: ARG002 - a reader's signature
    ) -> Iterator[ParquetChunk]:
        """Some rows of a row group each: always as many, whatever the time that they take."""
        sizes, metadata, columns = self._sizes, self._file.metadata, self._columns
        outputs = None if self._options.outputs is None else list(columns.answers)
        at = 0
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            if at + group.num_rows <= start.offset:
                at += group.num_rows
                continue
            row_bytes = max(1, group.total_byte_size // max(1, group.num_rows))
            fitting = max(sizes.fewest_chunk_rows, sizes.largest_chunk_bytes // row_bytes)
            batches = self._file.iter_batches(
                batch_size=min(sizes.most_chunk_rows, fitting),
                row_groups=[number],
                use_threads=False,
            )
            while (batch := self._guarded(partial(next, batches, None))) is not None:
                count, end = batch.num_rows, at + batch.num_rows
                if at >= start.offset and count:
                    needed = self._arrow.Table.from_batches([batch.select(self._needed)])
                    options = self._options.for_request(
                        RequestOptions,
                        outputs=outputs,
                        problems=count if self._wants_problems else 0,
                        first_row=at + 1,
                    )
                    if columns.indices is not None:
                        batch = batch.select(list(columns.indices))
                    yield ParquetChunk(
                        body=self._tables.write_stream(needed).to_pybytes(),
                        codec=Codec.ARROW,
                        options=options.encode_options(),
                        count=count,
                        start=Position(at, at + 1, 0),
                        end=Position(end, end + 1, 0),
                        done=end,
                        batch=batch,
                    )
                at = end

    def output(self, chunk: ParquetChunk, answer: Answer) -> ChunkOutput:
        """The rows with their answers, as an Arrow stream after its length."""
        answered = self._tables.read_stream(answer.body)
        columns = [*chunk.batch.columns, *map(answered.column, self._columns.answers)]
        table = self._arrow.table(columns, names=list(self._columns.names))
        data = self._tables.write_stream(table).to_pybytes()
        size = _LENGTH.pack(len(data))
        return ChunkOutput(size + data, answer.rejected, answer.problems, answer.warned)

    def rows(self, chunk: ParquetChunk, answer: Answer) -> list[tuple[dict[str, Any], Prediction]]:
        """The rows as Python's values."""
        answered = self._tables.read_stream(answer.body).to_pylist()
        predictions = predictions_from(answered, self._model, answer.problems, chunk.start.row)
        return list(zip(chunk.batch.to_pylist(), predictions, strict=True))

    def finish(self, part: Path, final: Any) -> bool:
        """Make row groups of the part's streams."""
        arrow, sizes, columns = self._arrow, self._sizes, self._columns
        # The columns as far as they are known without a row; the streams know the rest.
        source = self._file.schema_arrow
        indices = range(len(source.names)) if columns.indices is None else columns.indices
        pairs = zip(indices, columns.kept, strict=True)
        fields = [source.field(index).with_name(name) for index, name in pairs]
        for name, added in zip(columns.answers, columns.added, strict=True):
            kind = arrow.float64() if name.startswith("probability_") else arrow.string()
            fields.append(arrow.field(added, arrow.null() if name == "prediction" else kind))
        schema = arrow.schema(fields)
        for table in self._streams(part):
            schema = arrow.unify_schemas([schema, table.schema], promote_options="permissive")
        with io.BufferedWriter(final) as sink, arrow.parquet.ParquetWriter(sink, schema) as writer:

            def write_group(tables: list[Any]) -> None:
                group = arrow.concat_tables(tables).unify_dictionaries()
                writer.write_table(group, row_group_size=max(1, group.num_rows))

            waiting: list[Any] = []
            for table in self._streams(part):
                waiting.append(table.cast(schema))
                rows = sum(part.num_rows for part in waiting)
                if (
                    rows >= sizes.group_rows
                    or sum(part.nbytes for part in waiting) >= sizes.group_bytes
                ):
                    write_group(waiting)
                    waiting = []
            if waiting:
                write_group(waiting)
        return True

    def _streams(self, part: Path) -> Iterator[Any]:
        """The tables of a part, in order."""
        with part.open("rb") as file:
            while length := file.read(_LENGTH.size):
                data = file.read(_LENGTH.unpack(length)[0])
                yield self._tables.untyped_where_empty(self._tables.read_stream(data))

    def _guarded(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (OSError, self._arrow.ArrowException) as error:
            message = f"the Parquet file cannot be read: {error}"
            raise FileRefused(Code.FILE, self._name, message[:500]) from error
