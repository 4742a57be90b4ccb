"""The rows of a file with their predictions, for callers who write the output themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from dataclasses import dataclass, replace
from typing import Any

from scoreline_client.files.chunks import answered_chunks, describe, open_reader
from scoreline_client.files.source import open_source
from scoreline_client.options import BulkOptions
from scoreline_client.predictions import Prediction
from scoreline_client.transport.dispatcher import Transport


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One row of a file."""

    row: int
    """Its number; the file's first data row is 1."""
    record: dict[str, Any]
    """The columns that the options choose, as the file has them: text, where the file is text."""
    prediction: Prediction
    """What the model predicts for it; with an `error`, if the row was rejected."""


async def scored_parts(
    transport: Transport, model: str, source_name: str, options: BulkOptions | None
) -> AsyncGenerator[list[ScoredRow]]:
    """The rows of a file, some at a time, in order; see AsyncClient.score_rows."""
    options = replace(options or BulkOptions(), outputs=None, rename={})
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
