"""Cuts an input into chunks by the reader of its format, and has them scored in order, for files and for rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, closing
from dataclasses import dataclass, fields, replace
from typing import Any

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused, RequestRefused, SettingsError
from scoreline_client.files.csv import CsvReader
from scoreline_client.files.reader import (
    DEFAULT_SIZES,
    Chunk,
    FileReader,
    FileSizes,
    ModelInfo,
    Position,
)
from scoreline_client.files.source import STANDARD, Source, compression_by_name, open_source
from scoreline_client.options import BulkOptions, CsvFormat
from scoreline_client.predictions import Prediction
from scoreline_client.protocol.job_progress import JobProgress
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Operation, Request, new_id
from scoreline_client.transport.dispatcher import Transport
from scoreline_client.transport.ordered import DEFAULT_TIMES, BulkJob, BulkTimes, in_order

CHUNK_EXPIRES_MS = 3_600_000
FIRST_CHECK_S = 2.0
"""Seconds after which a run that has just begun looks whether there are workers at all."""
_PARQUET_MAGIC = b"PAR1"
_CSV_OUTPUT_OPTIONS = ("delimiter", "decimal", "excel_safe")
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}


def open_reader(
    source: Source,
    target: str,
    options: BulkOptions,
    *,
    wants_problems: bool,
    is_stream: bool = False,
    line_by_line: bool = True,
    sizes: FileSizes = DEFAULT_SIZES,
) -> FileReader[Any]:
    """The reader of an input's format.

    `wants_problems`: answers hold the details of rejected rows; `is_stream`: the output is no file.

    Raises:
        FileRefused: the output would have another format.
        SettingsError: an option does not apply to the format.
    """
    source_format: str | None = options.input_format
    if source_format is None:
        is_parquet = source.start.startswith(_PARQUET_MAGIC)
        source_format = "parquet" if is_parquet else _format_by_name(source.name) or "csv"
    target_format = options.output_format or _format_by_name(target) or source_format
    if source_format != target_format and {source_format, target_format} != {"csv", "parquet"}:
        message = (
            f"the input is {source_format} and the output would be {target_format}; only CSV and Parquet become each other: "
            "convert before or after"
        )
        raise FileRefused(Code.FILE, target, message)
    if source_format == "csv" and target_format == "parquet":
        from scoreline_client.files.conversion import CsvToParquet

        return CsvToParquet(
            source, target, options, sizes, wants_problems=wants_problems, is_stream=is_stream
        )
    if source_format == "csv":
        return CsvReader(source, options, wants_problems=wants_problems, line_by_line=line_by_line)
    foreign = {option.name for option in fields(CsvFormat)}
    if source_format == "parquet":
        foreign.add("encoding")
    if target_format == "csv":
        foreign.difference_update(_CSV_OUTPUT_OPTIONS)
    for option in fields(options):
        value = getattr(options, option.name)
        if option.name in foreign and value != option.default:
            raise SettingsError(option.name, value, f"none: the input is {source_format}, not csv")
    if source_format == "jsonl":
        from scoreline_client.files.jsonl import JsonLinesReader

        return JsonLinesReader(source, options, sizes)
    if target_format == "csv":
        from scoreline_client.files.conversion import ParquetToCsv

        return ParquetToCsv(source, target, options, sizes, wants_problems=wants_problems)
    from scoreline_client.files.parquet import ParquetReader

    return ParquetReader(
        source, target, options, sizes, wants_problems=wants_problems, is_stream=is_stream
    )


async def describe(
    transport: Transport,
    ref: str,
    *,
    on_unserved: Callable[[float | None], None] | None = None,
    times: BulkTimes = DEFAULT_TIMES,
) -> ModelInfo:
    """The version that a reference names now, and the columns that it needs; `on_unserved` is BulkJob's.

    Raises:
        UnknownModel: there is no such version.
        NoAnswer, QueueFull, ServerUnreachable: the service is gone for longer than a job waits.
    """
    times = replace(times, check_after_s=min(times.check_after_s, FIRST_CHECK_S))

    def build(_: str) -> Request:
        return Request(
            id=new_id(),
            model=ref,
            operation=Operation.DESCRIBE,
            reply_to=transport.client_id,
            expires_ms=CHUNK_EXPIRES_MS,
        )

    # It waits as long as a job does, and needs no lease: it is one small request.
    answer = await BulkJob(transport, times, on_unserved).ask(build, Lane.ONLINE)
    description = answer.description or {}
    outputs = description.get("outputs", {})
    return ModelInfo(
        answer.model,
        answer.version,
        description.get("columns", ()),
        outputs.get("classes") or (),
        outputs.get("each") or (),
    )


async def answered_chunks(
    transport: Transport,
    model: ModelInfo,
    reader: FileReader[Any],
    start: Position,
    *,
    total_bytes: int | None,
    operation: Operation = Operation.SCORE,
    on_unserved: Callable[[float | None], None] | None = None,
    progress: Callable[[], JobProgress] | None = None,
    sizes: FileSizes = DEFAULT_SIZES,
    times: BulkTimes = DEFAULT_TIMES,
) -> AsyncGenerator[tuple[Chunk, Answer]]:
    """Every chunk from a position on with its answer, in order, as a job; `on_unserved` and `progress` are BulkJob's.

    Raises:
        RequestRefused: a chunk as a whole cannot be scored.
        NoAnswer, QueueFull, ServerUnreachable: the service is gone for too long.
    """
    async with BulkJob(transport, times, on_unserved, progress) as job:
        size = ChunkSize(total_bytes, sizes)
        chunks = reader.chunks(start, lambda: size.bytes)

        async def ask(chunk: Chunk) -> Answer:
            return await job.ask(
                lambda job_id: Request(
                    id=new_id(),
                    model=model.ref,
                    body=chunk.body,
                    operation=operation,
                    codec=chunk.codec,
                    options=chunk.options,
                    reply_to=transport.client_id,
                    expires_ms=CHUNK_EXPIRES_MS,
                    job=job_id,
                )
            )

        async with aclosing(in_order(chunks, ask, lambda: job.window)) as answered:
            async for chunk, answer in answered:
                if answer.records != chunk.count:
                    where = f" (line {chunk.start.line})" if chunk.start.line else ""
                    message = (
                        f"the worker answered {answer.records} rows for the {chunk.count} rows from "
                        f"row {chunk.start.row}{where} on"
                    )
                    raise RequestRefused(Code.INTERNAL, message)
                size.learn(answer.timings.get("scored_ms", 0.0))
                yield chunk, answer


class ChunkSize:
    """The size of a file's chunks: always the same, unless the model is slow.

    The last digit of an answer may depend on which rows are scored together, since numeric libraries
    work on several at once. So a file is cut at the same rows in every run, also after it was
    interrupted, whatever the speed of the machine.
    """

    def __init__(self, total_bytes: int | None, sizes: FileSizes = DEFAULT_SIZES) -> None:
        self._sizes = sizes
        largest = sizes.largest_chunk_bytes
        share = largest if total_bytes is None else total_bytes // sizes.least_chunks
        self.bytes = min(largest, max(sizes.smallest_chunk_bytes, share))
        self._slow = 0

    def learn(self, scored_ms: float) -> None:
        """Take note of how long a chunk took; halves the size after several slow ones in a row."""
        self._slow = self._slow + 1 if scored_ms > self._sizes.slow_chunk_ms else 0
        if self._slow == self._sizes.slow_chunks:
            self._slow = 0
            self.bytes = max(self._sizes.smallest_chunk_bytes, self.bytes // 2)


def _format_by_name(name: str) -> str | None:
    """The format that a name's ending stands for: csv for an unknown ending, None without an ending."""
    base = compression_by_name(name)[1].rpartition("/")[2]
    if name == STANDARD or "." not in base:
        return None
    return _SUFFIXES.get(base[base.rindex(".") :].lower(), "csv")


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """A row of a file."""

    row: int
    """Its number; the file's first data row is 1."""
    record: dict[str, Any]
    """The columns that the options choose, as the file has them: text, where the file is text."""
    prediction: Prediction
    """Its prediction; with an `error`, if the row was rejected."""


async def scored_parts(
    transport: Transport, model: str, source_name: str, options: BulkOptions | None
) -> AsyncGenerator[list[ScoredRow]]:
    """The rows of a file, some at a time, in order; see AsyncClient.score_rows."""
    # Without marks for spreadsheets: a program reads the text that the pipeline answered.
    options = replace(options or BulkOptions(), outputs=None, rename={}, excel_safe=False)
    with closing(await asyncio.to_thread(open_source, source_name)) as source:
        info = await describe(transport, model)
        reader = open_reader(source, source_name, options, wants_problems=True, line_by_line=False)
        _, start = await asyncio.to_thread(reader.begin, info)
        answered = answered_chunks(transport, info, reader, start, total_bytes=source.size)
        async with aclosing(answered):
            async for chunk, answer in answered:
                rows = await asyncio.to_thread(reader.rows, chunk, answer)
                yield [
                    ScoredRow(number, record, prediction)
                    for number, (record, prediction) in enumerate(rows, start=chunk.start.row)
                ]
