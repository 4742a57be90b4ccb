"""Parquet: Arrow from end to end, some rows of a row group at a time.

A Parquet file has its directory at its end, so a file that is half written cannot be continued. The part that
grows is therefore a sequence of small Arrow streams, each after its length; when all are there, they are
read in order and become row groups. The input's columns keep their types, whether they may be null, and their
metadata; what pandas has noted of them (index, categories, time zones) is kept as far as it holds.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused, MissingDependency
from scoreline_client.files.reader import (
    PARQUET_TYPE,
    Chunk,
    ChunkOutput,
    FileReader,
    FileSizes,
    ModelInfo,
    OutputColumns,
    Position,
    check_no_duplicates,
    choose_columns,
    listing,
    missing_columns,
    names_read,
    other_names,
    predictions_from,
    requested,
)
from scoreline_client.files.source import Source, compression_by_name
from scoreline_client.options import BulkOptions, RequestOptions
from scoreline_client.predictions import Prediction
from scoreline_client.protocol.messages import Answer, Codec

_LENGTH = struct.Struct("!Q")
_PANDAS = b"pandas"
_TEXT = ("string", "large_string", "string_view")
_NO_TEXT = ("integer", "number", "boolean")
"""Types of a model's columns for which text is only read with `coerce`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetChunk(Chunk):
    """Some rows of a row group."""

    table: Any
    """pyarrow.Table: the columns of the input that the output has."""


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
        is_written_so: bool = True,
    ) -> None:
        """`is_written_so`: the output is Parquet, too, and so neither compressed nor a stream."""
        try:
            import pyarrow
            import pyarrow.compute
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
        if source.facts is None or source.compression or (is_stream and is_written_so):
            message = (
                "Parquet is read and written out of order: name files, and not compressed ones"
            )
            raise FileRefused(Code.FILE, source.name, message)
        if compression_by_name(target)[0] and is_written_so:
            message = "Parquet is compressed within; leave the ending away"
            raise FileRefused(Code.FILE, target, message)
        self._stored = source.file
        self._file = self._guarded(lambda: self._arrow.parquet.ParquetFile(source.file))
        self._model: ModelInfo
        self.columns: OutputColumns
        self._model_names: list[str]
        """The names under which the model reads columns."""
        self._file_names: list[str]
        """The names that these columns have in the file."""

    @property
    def total(self) -> int:
        """Rows in all."""
        return int(self._file.metadata.num_rows)

    @property
    def media_type(self) -> str:
        """Parquet."""
        return PARQUET_TYPE

    def begin(self, model: ModelInfo) -> tuple[bytes, Position]:
        """Check the schema."""
        file_names = self._file.schema_arrow.names
        check_no_duplicates(self._name, file_names)
        names = names_read(file_names, model, self._options)
        missing = [name for name in model.needed if name not in names]
        if missing:
            message = missing_columns(missing, names, model.needed)
            raise FileRefused(Code.MISSING_COLUMN, self._name, message, missing[0])
        if left_out := [name for name in model.known if name not in names]:
            self.notes.append(
                f"not in the file, which the model can do without: {listing(left_out)}"
            )
        self._model = model
        self.columns = columns = choose_columns(self._name, file_names, model, self._options)
        answers = dict(zip(columns.answers, columns.added, strict=True))
        self.notes += other_names(answers, self._options)
        in_file = dict(zip(names, file_names, strict=True))
        needed = {name: in_file[name] for name in model.known if name in in_file} or in_file
        self._model_names, self._file_names = list(needed), list(needed.values())
        schema = self._file.schema_arrow
        types = {column["name"]: column["type"] for column in model.columns}
        texts = [
            file_name
            for name, file_name in needed.items()
            if str(schema.field(file_name).type) in _TEXT and types.get(name) in _NO_TEXT
        ]
        if texts and not self._options.coerce:
            # A file that was made of CSV may hold numbers as text.
            self.notes.append(
                f"text in the file, and no text to the model: {listing(texts)}; numbers, true and false that are "
                "written there are read with --coerce"
            )
        return b"", Position(0, 1, 0)

    def chunks(
        self,
        start: Position,
        chunk_bytes: Callable[[], int],  # noqa: ARG002 - a reader's signature
    ) -> Iterator[ParquetChunk]:
        """Some rows of a row group each: the same number in every run, however slow the model is."""
        metadata, columns = self._file.metadata, self.columns
        outputs = requested(columns.answers, self._model, self._options)
        names = self._file.schema_arrow.names
        kept_names = (
            names if columns.indices is None else [names[index] for index in columns.indices]
        )
        used = {*kept_names, *self._file_names}
        read_names = [name for name in names if name in used]
        offset = 0
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            if offset + group.num_rows <= start.offset:
                offset += group.num_rows
                continue
            for table in self._read(number, read_names):
                end = offset + table.num_rows
                if offset < start.offset < end:
                    # The journal was written by a run that cut the rows elsewhere.
                    table, offset = table.slice(start.offset - offset), start.offset
                count = table.num_rows
                if offset >= start.offset:
                    options = self._options.for_request(
                        RequestOptions,
                        outputs=outputs,
                        problems=count if self._wants_problems else 0,
                        first_row=offset + 1,
                    )
                    yield ParquetChunk(
                        body=self._tables.write_stream(
                            table.select(self._file_names).rename_columns(self._model_names)
                        ).to_pybytes(),
                        codec=Codec.ARROW,
                        options=options.encoded_options,
                        count=count,
                        start=Position(offset, offset + 1, 0),
                        end=Position(end, end + 1, 0),
                        done=end,
                        table=table.select(kept_names),
                    )
                offset = end

    def output(self, chunk: ParquetChunk, answer: Answer) -> ChunkOutput:
        """The rows with their answers, as an Arrow stream after its length."""
        answer_table = self._tables.read_stream(answer.body)
        columns = [*chunk.table.columns, *map(answer_table.column, self.columns.answers)]
        table = self._arrow.table(columns, names=list(self.columns.names))
        return ChunkOutput(framed(table), answer.rejected, answer.problems, answer.warned)

    def rows(self, chunk: ParquetChunk, answer: Answer) -> list[tuple[dict[str, Any], Prediction]]:
        """The rows as Python's values."""
        answered = self._tables.read_stream(answer.body).to_pylist()
        predictions = predictions_from(answered, self._model, answer.problems, chunk.start.row)
        return list(zip(chunk.table.to_pylist(), predictions, strict=True))

    def finish(self, part: Path, final: Any) -> bool:
        """Make row groups of the part's streams."""
        arrow, sizes, columns = self._arrow, self._sizes, self.columns
        source = self._file.schema_arrow
        indices = range(len(source.names)) if columns.indices is None else columns.indices
        pairs = list(zip(indices, columns.kept, strict=True))
        fields = [source.field(index).with_name(name) for index, name in pairs]
        # Types of answers that are known without a row; the streams know the others.
        answers = arrow.schema(
            (
                added,
                arrow.float64()
                if name.startswith("probability_")
                else arrow.null()
                if name in self._model.prediction_columns
                else arrow.string(),
            )
            for name, added in zip(columns.answers, columns.added, strict=True)
        )
        for table in self._streams(part):
            answer_schema = table.select(range(len(fields), table.num_columns)).schema
            answers = arrow.unify_schemas([answers, answer_schema], promote_options="permissive")
        metadata = dict(source.metadata or {})
        if _PANDAS in metadata:
            renamed = {source.names[index]: name for index, name in pairs}
            metadata[_PANDAS] = pandas_note(metadata[_PANDAS], renamed, columns.added)
        schema = arrow.schema([*fields, *answers], metadata=metadata)
        write_groups(self._streams(part), schema, final, sizes)
        return True

    def _streams(self, part: Path) -> Iterator[Any]:
        """The tables of a part, in order."""
        for table in tables_of(part):
            kept_count = len(self.columns.kept)
            answers = self._tables.untyped_where_empty(
                table.select(range(kept_count, table.num_columns))
            )
            yield self._arrow.table(
                [*table.columns[:kept_count], *answers.columns], names=table.column_names
            )

    def _read(self, number: int, names: list[str]) -> Iterator[Any]:
        """The rows of a row group as tables, each of a chunk: in every run the same, wherever it begins.

        A text that the file stores once may be repeated in every row, and take a thousand times as much room in
        memory: so few rows are read at a time that it stays small even then.
        """
        sizes, group = self._sizes, self._file.metadata.row_group(number)
        stored_bytes = max(1, group.total_byte_size // max(1, group.num_rows))
        most = max(sizes.fewest_chunk_rows, sizes.largest_chunk_bytes // stored_bytes)
        most = min(sizes.most_chunk_rows, most)
        step = max(1, min(most, sizes.most_table_bytes // self.longest_row(number, names)))
        batches = self._file.iter_batches(
            batch_size=step, row_groups=[number], columns=names, use_threads=False
        )
        pending: list[Any] = []
        rows = size = 0
        while (batch := self._guarded(partial(next, batches, None))) is not None:
            pending.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if rows + step > most or size > sizes.most_table_bytes // 2:
                yield self._arrow.Table.from_batches(pending)
                pending, rows, size = [], 0, 0
        if rows:
            yield self._arrow.Table.from_batches(pending)

    def longest_row(self, number: int, names: list[str]) -> int:
        """Bytes that a row of a group may have in memory, as far as the group stores values once and repeats them."""
        group, schema = self._file.metadata.row_group(number), self._file.schema_arrow
        longest, texts = 1, []
        for column in map(group.column, range(group.num_columns)):
            name = column.path_in_schema
            if not any("DICTIONARY" in encoding for encoding in column.encodings):
                continue
            if name not in names:
                # A list: nobody knows how many values there are in a row.
                if name.partition(".")[0] in names:
                    longest += self._sizes.most_table_bytes // self._sizes.fewest_chunk_rows
            elif column.physical_type == "BYTE_ARRAY":
                texts.append(name)
            else:
                longest += schema.field(name).type.bit_width // 8
        if texts and group.num_rows:
            # A column's dictionary comes with its first row.
            parquet = self._arrow.parquet.ParquetFile(
                self._stored, metadata=self._file.metadata, read_dictionary=texts
            )
            first = parquet.iter_batches(
                batch_size=1, row_groups=[number], columns=texts, use_threads=False
            )
            for column in self._guarded(partial(next, first)).columns:
                if isinstance(column, self._arrow.DictionaryArray) and len(column.dictionary):
                    lengths = self._arrow.compute.binary_length(column.dictionary)
                    longest += self._arrow.compute.max(lengths).as_py() or 0
        return longest

    def _guarded(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        # A damaged name of a column is a UnicodeDecodeError.
        except (OSError, UnicodeDecodeError, self._arrow.ArrowException) as error:
            message = f"the Parquet file cannot be read: {error}"
            raise FileRefused(Code.FILE, self._name, message[:500]) from error


def framed(table: Any) -> bytes:
    """A table as a part holds it: an Arrow stream behind its length."""
    from scoreline_client.protocol import arrow_tables

    data: bytes = arrow_tables.write_stream(table).to_pybytes()
    return _LENGTH.pack(len(data)) + data


def tables_of(part: Path) -> Iterator[Any]:
    """The tables of a part, in order."""
    from scoreline_client.protocol import arrow_tables

    with part.open("rb") as file:
        while length := file.read(_LENGTH.size):
            yield arrow_tables.read_stream(file.read(_LENGTH.unpack(length)[0]))


def write_groups(tables: Iterable[Any], schema: Any, final: Any, sizes: FileSizes) -> None:
    """Write tables that can be cast to a schema into a Parquet file, as row groups of about the same size."""
    import pyarrow
    import pyarrow.parquet

    with io.BufferedWriter(final) as sink, pyarrow.parquet.ParquetWriter(sink, schema) as writer:

        def write_group(pending: list[Any]) -> None:
            group = pyarrow.concat_tables(pending).unify_dictionaries()
            writer.write_table(group, row_group_size=max(1, group.num_rows))

        pending: list[Any] = []
        rows = size = 0
        for table in tables:
            pending.append(table.cast(schema))
            rows, size = rows + table.num_rows, size + pending[-1].nbytes
            if rows >= sizes.group_rows or size >= sizes.group_bytes:
                write_group(pending)
                pending, rows, size = [], 0, 0
        if pending:
            write_group(pending)


def pandas_note(note: bytes, renamed: Mapping[str, str], added: Sequence[str]) -> bytes:
    """What pandas has noted about a table, for the columns that an output has.

    `renamed` has the output's name of each column of the input that is kept. An index that is not kept is left
    out: pandas then counts the rows.
    """
    try:
        values = json.loads(note)
        columns = [
            column
            | {
                "field_name": renamed[field],
                "name": column["name"] if renamed[field] == field else renamed[field],
            }
            for column in values["columns"]
            if (field := column.get("field_name") or column["name"]) in renamed
        ]
        indexes = [
            index if isinstance(index, dict) else renamed[index]
            for index in values["index_columns"]
            if isinstance(index, dict) or index in renamed
        ]
        labels = values.get("column_indexes", [])
        if added and not (
            len(labels) == 1 and labels[0].get("pandas_type") in ("unicode", "string")
        ):
            # The answers' names are text: no numbers, times or tuples, as the names may have been.
            names = labels[0] if len(labels) == 1 else {"name": None, "field_name": None}
            plain = {
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": {"encoding": "UTF-8"},
            }
            labels = [names | plain]
        return json.dumps(
            values | {"columns": columns, "index_columns": indexes, "column_indexes": labels}
        ).encode()
    except (ValueError, TypeError, KeyError, AttributeError):
        return note  # pandas has not written it, so nothing is known of its meaning
