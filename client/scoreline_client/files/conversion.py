"""CSV in and Parquet out, and the other way round: the rows are read by one format's reader and written in the other.

Of a CSV file the columns of the input are text in Parquet, as they stand in the file: what a value means is the
reader's to say, and an identifier keeps its zeros. Answers have their types in Parquet.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused, MissingDependency
from scoreline_client.files.csv import CsvReader
from scoreline_client.files.parquet import (
    ParquetChunk,
    ParquetReader,
    framed,
    tables_of,
    write_groups,
)
from scoreline_client.files.reader import (
    PARQUET_TYPE,
    Chunk,
    ChunkOutput,
    FileReader,
    FileSizes,
    ModelInfo,
    Position,
    delimited_type,
)
from scoreline_client.files.source import Source, compression_by_name
from scoreline_client.options import BulkOptions
from scoreline_client.predictions import Prediction
from scoreline_client.protocol.csv_grammar import spreadsheet_safe
from scoreline_client.protocol.messages import Answer

_INTEGER = r"^-?[0-9]{1,18}\z"
_TRAILING_ZEROS = re.compile(r"(\.[0-9]*?)0+(?=Z?$)")


class CsvToParquet(FileReader[Chunk]):
    """Reads CSV, and writes Parquet out of the lines that workers answer."""

    unit = "bytes"

    def __init__(
        self,
        source: Source,
        target: str,
        options: BulkOptions,
        sizes: FileSizes,
        *,
        wants_problems: bool,
        is_stream: bool,
    ) -> None:
        try:
            import pyarrow
            import pyarrow.compute
            import pyarrow.csv
        except ImportError as error:
            raise MissingDependency("a Parquet file", "pyarrow", "frames") from error
        if is_stream or compression_by_name(target)[0]:
            message = "Parquet is compressed within, and written out of order: name a plain file"
            raise FileRefused(Code.FILE, target, message)
        self._arrow: Any = pyarrow
        self._csv = CsvReader(source, options, wants_problems=wants_problems, line_by_line=False)
        self._options, self._sizes = options, sizes
        self._model: ModelInfo
        self.notes = self._csv.notes

    @property
    def media_type(self) -> str:
        """Parquet."""
        return PARQUET_TYPE

    @property
    def total(self) -> int | None:
        """Stored bytes in all."""
        return self._csv.total

    def begin(self, model: ModelInfo) -> tuple[bytes, Position]:
        """Check the header; the beginning is empty, since Parquet is written in `finish`."""
        self._model = model
        _, start = self._csv.begin(model)
        return b"", start

    def chunks(self, start: Position, chunk_bytes: Callable[[], int]) -> Iterator[Chunk]:
        """Chunks of whole rows."""
        return self._csv.chunks(start, chunk_bytes)

    def output(self, chunk: Chunk, answer: Answer) -> ChunkOutput:
        """The worker's lines as a table: the input's columns are text, the answers have their types."""
        arrow, columns = self._arrow, self._csv.columns
        text = bytes(answer.body).decode(self._csv.header.encoding, "backslashreplace").encode()
        indices = [str(index) for index in range(len(columns.names))]
        table = arrow.csv.read_csv(
            arrow.BufferReader(text),
            read_options=arrow.csv.ReadOptions(
                column_names=indices, use_threads=False, block_size=max(len(text) + 1, 1024)
            ),
            parse_options=arrow.csv.ParseOptions(
                delimiter=self._csv.header.delimiter,
                newlines_in_values=True,
                ignore_empty_lines=len(indices) > 1,
            ),
            convert_options=arrow.csv.ConvertOptions(
                column_types=dict.fromkeys(indices, arrow.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        if table.num_rows != chunk.count:
            message = (
                f"row {chunk.start.row} (line {chunk.start.line}) and those behind it cannot be told apart in "
                "the answer: score into CSV"
            )
            raise FileRefused(Code.QUOTE, self._csv.header.columns[0], message)
        kept_count = len(columns.kept)
        typed = [
            self._typed(name, column.combine_chunks())
            for name, column in zip(columns.answers, table.columns[kept_count:], strict=True)
        ]
        table = arrow.table([*table.columns[:kept_count], *typed], names=list(columns.names))
        return ChunkOutput(
            framed(table), answer.rejected, answer.problems, answer.warned, answer.report
        )

    def rows(self, chunk: Chunk, answer: Answer) -> list[tuple[dict[str, Any], Prediction]]:
        """The fields of the worker's lines, as text."""
        return self._csv.rows(chunk, answer)

    def finish(self, part: Path, final: Any) -> bool:
        """Make row groups of the part's tables."""
        arrow, columns = self._arrow, self._csv.columns
        schema = arrow.schema(
            [
                *((name, arrow.string()) for name in columns.kept),
                *(
                    (name, arrow.float64() if answer.startswith("probability_") else arrow.null())
                    for answer, name in zip(columns.answers, columns.added, strict=True)
                ),
            ]
        )
        for table in tables_of(part):
            schema = arrow.unify_schemas([schema, table.schema], promote_options="permissive")
        # Not every reader knows the type of a column without any value.
        for index, field in enumerate(schema):
            if arrow.types.is_null(field.type):
                schema = schema.set(index, field.with_type(arrow.string()))
        write_groups(tables_of(part), schema, final, self._sizes)
        return True

    def _typed(self, name: str, texts: Any) -> Any:
        """An answer's texts as values of the type that the version's output has."""
        arrow, model = self._arrow, self._model
        if texts.null_count == len(texts):
            return arrow.nulls(len(texts))
        output_types = {
            column: output.get("type")
            for column, output in zip(model.prediction_columns, model.outputs, strict=False)
        }
        kind = "number" if name.startswith("probability_") else output_types.get(name)
        if kind == "boolean":
            return texts.cast(arrow.bool_())
        if kind != "number":
            return texts
        if self._options.decimal != ".":
            texts = arrow.compute.replace_substring(texts, self._options.decimal, ".")
        is_whole = arrow.compute.match_substring_regex(texts, _INTEGER)
        is_integer = not name.startswith("probability_") and arrow.compute.all(is_whole).as_py()
        return texts.cast(arrow.int64() if is_integer else arrow.float64())


class ParquetToCsv(FileReader[ParquetChunk]):
    """Reads Parquet, and writes lines of CSV."""

    unit = "rows"

    def __init__(
        self,
        source: Source,
        target: str,
        options: BulkOptions,
        sizes: FileSizes,
        *,
        wants_problems: bool,
    ) -> None:
        self._parquet = ParquetReader(
            source, target, options, sizes, wants_problems=wants_problems, is_written_so=False
        )
        self._options = options
        self.notes = self._parquet.notes

    @property
    def media_type(self) -> str:
        """Delimited text in UTF-8."""
        return delimited_type(self._options.delimiter or ",", "utf-8")

    @property
    def total(self) -> int | None:
        """Rows in all."""
        return self._parquet.total

    def begin(self, model: ModelInfo) -> tuple[bytes, Position]:
        """Check the schema, and make the header."""
        _, start = self._parquet.begin(model)
        names: list[Any] = list(self._parquet.columns.names)
        if self._options.excel_safe:
            names = list(map(spreadsheet_safe, names))
        return self._lines([names]), start

    def chunks(self, start: Position, chunk_bytes: Callable[[], int]) -> Iterator[ParquetChunk]:
        """Some rows of a row group each."""
        return self._parquet.chunks(start, chunk_bytes)

    def output(self, chunk: ParquetChunk, answer: Answer) -> ChunkOutput:
        """A line for each row."""
        from scoreline_client.protocol import arrow_tables

        answer_table = arrow_tables.read_stream(answer.body)
        answers = map(answer_table.column, self._parquet.columns.answers)
        texts = [self._texts(column) for column in (*chunk.table.columns, *answers)]
        lines = self._lines(zip(*texts, strict=True))
        return ChunkOutput(lines, answer.rejected, answer.problems, answer.warned)

    def rows(self, chunk: ParquetChunk, answer: Answer) -> list[tuple[dict[str, Any], Prediction]]:
        """The rows as Python's values."""
        return self._parquet.rows(chunk, answer)

    def _texts(self, column: Any) -> list[str | None]:
        """A column's values as they are written in CSV; None where one is missing."""
        import pyarrow as pa

        types, column_type, options = pa.types, column.type, self._options
        if types.is_dictionary(column_type):
            column_type = column_type.value_type
            column = column.cast(column_type)
        if types.is_nested(column_type) or types.is_binary(column_type):
            values = column.to_pylist()
            return [
                None if value is None else orjson.dumps(value, default=str).decode()
                for value in values
            ]
        texts: list[str | None] = column.cast(pa.string()).to_pylist()
        if types.is_timestamp(column_type) or types.is_time(column_type):
            return [
                text and _TRAILING_ZEROS.sub(r"\1", text).replace(".Z", "Z").rstrip(".")
                for text in texts
            ]
        if options.decimal != "." and (
            types.is_floating(column_type) or types.is_decimal(column_type)
        ):
            return [text and text.replace(".", options.decimal) for text in texts]
        if options.excel_safe and (
            types.is_string(column_type) or types.is_large_string(column_type)
        ):
            return [text and spreadsheet_safe(text) for text in texts]
        return texts

    def _lines(self, rows: Any) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=self._options.delimiter or ",", lineterminator="\n")
        writer.writerows(rows)
        return text.getvalue().encode("utf-8", "backslashreplace")
