"""Parquet: Arrow all the way, some rows of a row group at a time.

A Parquet file has its directory at its end, so one that was half written cannot be continued. The
part that grows is therefore a sequence of small Arrow streams, each behind its length; when all are
there, they are read one after the other and become row groups.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused, MissingDependency
from scoreline_client.files.columns import OutputColumns, check_strict, choose_columns
from scoreline_client.files.compression import compression_by_name
from scoreline_client.files.formats.csv_header import check_no_duplicates, missing_columns
from scoreline_client.files.formats.pieces import Described, Piece, Place, Written
from scoreline_client.files.reading_answers import predictions_from
from scoreline_client.files.source import STANDARD, Source
from scoreline_client.options import BulkOptions, RequestOptions
from scoreline_client.predictions import Prediction
from scoreline_client.protocol.messages import Answer, Codec

PIECE_BYTES = 1 << 20
FEWEST_ROWS, MOST_ROWS = 256, 50_000
GROUP_ROWS, GROUP_BYTES = 100_000, 32 << 20
"""A row group of the output is closed when it has so many rows, or is so large in memory."""
_LENGTH = struct.Struct("!Q")


class ParquetReader:
    """Reads a Parquet file. Pieces are the same at every run, so that row groups are too."""

    unit = "rows"

    def __init__(
        self, source: Source, target: str, options: BulkOptions, *, wants_problems: bool
    ) -> None:
        self.notes: list[str] = []
        self._name = source.name
        self._options = options
        self._wants_problems = wants_problems
        self._arrow = _arrow()
        self._stream = _stream()
        if source.raw.facts is None or source.compression or target == STANDARD:
            message = (
                "Parquet is read and written out of order: name files, and not compressed ones"
            )
            raise FileRefused(Code.FILE, source.name, message)
        if compression_by_name(target)[0]:
            message = "Parquet is compressed within; leave the ending away"
            raise FileRefused(Code.FILE, target, message)
        self._file = self._guarded(lambda: self._arrow.parquet.ParquetFile(source.raw.file))
        self._described: Described
        self._columns: OutputColumns
        self._needed: list[str]

    @property
    def total(self) -> int:
        """Rows in all."""
        return int(self._file.metadata.num_rows)

    def begin(self, described: Described) -> tuple[bytes, Place]:
        """Look at the schema."""
        self._described = described
        names = self._file.schema_arrow.names
        check_no_duplicates(self._name, names)
        missing = [name for name in described.needed if name not in names]
        if missing:
            message = missing_columns(missing, names)
            raise FileRefused(Code.MISSING_COLUMN, self._name, message, missing[0])
        if self._options.strict:
            check_strict(self._name, names, described)
        self._columns = choose_columns(self._name, names, described, self._options)
        self._needed = list(described.needed or names)
        return b"", Place(0, 1, 0)

    def pieces(
        self,
        start: Place,
        piece_bytes: Callable[[], int],  # noqa: ARG002 - a reader's signature
    ) -> Iterator[Piece]:
        """Some rows of a row group, as Arrow."""
        metadata = self._file.metadata
        groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
        ends = list(accumulate(group.num_rows for group in groups))
        for place, (group, end) in enumerate(zip(groups, ends, strict=True)):
            if end <= start.offset:
                continue
            at = end - group.num_rows
            for batch in self._batches(place, _rows_at_once(group)):
                if at >= start.offset and batch.num_rows:
                    yield self._piece(batch, at)
                at += batch.num_rows

    def written(self, piece: Piece, answer: Answer) -> Written:
        """The rows with their answers, as an Arrow stream behind its length."""
        arrow = self._arrow
        answered = self._stream.read_stream(answer.body)
        kept = arrow.Table.from_batches([piece.context])
        columns = [*kept.columns, *(answered.column(name) for name in self._columns.answers)]
        table = arrow.table(columns, names=list(self._columns.names))
        data = self._stream.write_stream(table).to_pybytes()
        size = _LENGTH.pack(len(data))
        return Written(size + data, answer.rejected, answer.problems, answer.warned)

    def records(self, piece: Piece, answer: Answer) -> list[tuple[dict[str, Any], Prediction]]:
        """The rows as Python's values."""
        answered = self._stream.read_stream(answer.body).to_pylist()
        said = predictions_from(answered, self._described, answer.problems, piece.start.row)
        return list(zip(piece.context.to_pylist(), said, strict=True))

    def complete(self, part: Path, final: Path) -> bool:
        """Make row groups out of the part."""
        arrow = self._arrow
        schema = self._schema()
        for table in _streams(part):
            schema = arrow.unify_schemas([schema, table.schema], promote_options="permissive")
        with arrow.parquet.ParquetWriter(final, schema) as writer:
            for table in _groups(arrow, part, schema):
                writer.write_table(table, row_group_size=max(1, table.num_rows))
        return True

    def _piece(self, batch: Any, at: int) -> Piece:
        count = batch.num_rows
        places = self._columns.places
        needed = self._arrow.Table.from_batches([batch.select(self._needed)])
        asked = RequestOptions(
            unseen=self._options.unseen,
            out_of_range=self._options.out_of_range,
            coerce=self._options.coerce,
            outputs=None if self._options.outputs is None else list(self._columns.answers),
            problems=count if self._wants_problems else 0,
            first_row=at + 1,
        )
        return Piece(
            body=self._stream.write_stream(needed).to_pybytes(),
            codec=Codec.ARROW,
            count=count,
            start=Place(at, at + 1, 0),
            end=Place(at + count, at + count + 1, 0),
            done=at + count,
            options=asked.encode_options(),
            context=batch if places is None else batch.select(list(places)),
        )

    def _schema(self) -> Any:
        """The output's columns where no row says more of them."""
        arrow, columns = self._arrow, self._columns
        schema = self._file.schema_arrow
        places = range(len(schema.names)) if columns.places is None else columns.places
        fields = [
            schema.field(place).with_name(name)
            for place, name in zip(places, columns.kept, strict=True)
        ]
        for name, called in zip(columns.answers, columns.added, strict=True):
            kind = arrow.float64() if name.startswith("probability_") else arrow.string()
            fields.append(arrow.field(called, arrow.null() if name == "prediction" else kind))
        return arrow.schema(fields)

    def _batches(self, group: int, rows: int) -> Iterator[Any]:
        batches = self._file.iter_batches(batch_size=rows, row_groups=[group], use_threads=False)
        while (batch := self._guarded(lambda: next(batches, None))) is not None:
            yield batch

    def _guarded(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (OSError, self._arrow.ArrowException) as error:
            message = f"the Parquet file cannot be read: {error}"
            raise FileRefused(Code.FILE, self._name, message[:500]) from error


def _rows_at_once(group: Any) -> int:
    """So many that they are about PIECE_BYTES, whatever the time that they take."""
    row_bytes = max(1, group.total_byte_size // max(1, group.num_rows))
    return int(min(MOST_ROWS, max(FEWEST_ROWS, PIECE_BYTES // row_bytes)))


def _streams(part: Path) -> Iterator[Any]:
    with part.open("rb") as file:
        while length := file.read(_LENGTH.size):
            data = file.read(_LENGTH.unpack(length)[0])
            yield _stream().untyped_where_empty(_stream().read_stream(data))


def _groups(arrow: Any, part: Path, schema: Any) -> Iterator[Any]:
    """Tables that are large enough for a row group."""
    waiting: list[Any] = []
    for table in _streams(part):
        waiting.append(table.cast(schema))
        rows = sum(one.num_rows for one in waiting)
        if rows >= GROUP_ROWS or sum(one.nbytes for one in waiting) >= GROUP_BYTES:
            yield arrow.concat_tables(waiting).unify_dictionaries()
            waiting = []
    if waiting:
        yield arrow.concat_tables(waiting).unify_dictionaries()


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependency("a Parquet file", "pyarrow", "frames") from error
    return pyarrow


def _stream() -> Any:
    from scoreline_client.protocol import arrow_tables

    return arrow_tables
