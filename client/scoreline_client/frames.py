"""Data frames over the wire, as Arrow. pandas and pyarrow are imported when a frame is passed in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from types import ModuleType
from typing import TYPE_CHECKING, Any

from scoreline_client.codes import Code
from scoreline_client.errors import EmptyRequest, MissingDependency, RequestRefused
from scoreline_client.protocol.json_records import raise_refusal
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Codec, Request
from scoreline_client.transport.ordered import answers_in_time

if TYPE_CHECKING:
    import pandas as pd

    from scoreline_client.async_client import AsyncClient

SLICE_ROWS, SLICE_ROWS_AT_LEAST = 50_000, 2500
SLICES_AT_LEAST = 4
"""Into so many slices a frame is cut, if it is not very small, so that processes share it."""
ONLINE_ROWS = 1000


async def predict_frame(
    client: AsyncClient, model: str, frame: pd.DataFrame, timeout_s: float
) -> pd.DataFrame:
    """Send a frame in slices, all to one version, and put the answers together."""
    arrow = _arrow()
    _check(frame)

    def build(ref: str, body: bytes, job: str = "") -> Request:
        return client.request(ref, body, timeout_s, codec=Codec.ARROW, job=job)

    answers: list[Answer] = []
    bodies = (_encode(arrow, part) for part in _slices(frame))
    if len(frame) <= SLICE_ROWS_AT_LEAST:
        body = await asyncio.to_thread(next, bodies)
        lane = Lane.ONLINE if len(frame) <= ONLINE_ROWS else Lane.BULK
        answers.append(await client.transport.ask(build(model, body), lane, timeout_s))
        raise_refusal(answers[0])
    else:
        found = answers_in_time(client.transport, model, bodies, build, timeout_s=timeout_s)
        async with aclosing(found):
            async for _, answer in found:
                answers.append(answer)
    from scoreline_client.protocol.arrow_tables import read_stream, untyped_where_empty

    tables = [read_stream(answer.body) for answer in answers]
    if len(tables) > 1:
        tables = [untyped_where_empty(table) for table in tables]
    result = arrow.concat_tables(tables, promote_options="permissive").to_pandas()
    result.index = frame.index
    return result


def _slices(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    count = max(SLICES_AT_LEAST, -(-len(frame) // SLICE_ROWS))
    size = max(SLICE_ROWS_AT_LEAST, -(-len(frame) // count))
    for start in range(0, len(frame), size):
        yield frame.iloc[start : start + size]


def _encode(arrow: ModuleType, frame: pd.DataFrame) -> Any:
    from scoreline_client.protocol.arrow_tables import write_stream

    refusals = (
        arrow.ArrowInvalid,
        arrow.ArrowTypeError,
        arrow.ArrowNotImplementedError,
        OverflowError,
        UnicodeEncodeError,
    )
    try:
        return write_stream(_table(arrow, frame)).to_pybytes()
    except refusals as error:
        for name in frame.columns:
            try:
                _table(arrow, frame[[name]])
            except refusals as cause:
                raise _unsendable(str(name), cause) from error
        raise


def _table(arrow: ModuleType, frame: pd.DataFrame) -> Any:
    return arrow.Table.from_pandas(frame, preserve_index=False, nthreads=1)


def _unsendable(column: str, cause: Exception) -> RequestRefused:
    return RequestRefused(
        Code.TYPE,
        f"column {column!r} cannot be sent: {cause}. Give it values of one type: numbers of at most "
        "64 bits, text, booleans or times",
        column,
    )


def _check(frame: pd.DataFrame) -> None:
    names = list(frame.columns)
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise RequestRefused(
            Code.DUPLICATE_COLUMN, f"the frame has columns more than once: {twice}", twice[0]
        )
    if len(frame) == 0:
        raise EmptyRequest(Code.EMPTY_REQUEST, "the frame has no rows; give at least one")


def _arrow() -> ModuleType:
    for package in ("pandas", "pyarrow"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingDependency("predict_frame", package, "frames") from error
    import pyarrow

    return pyarrow  # type: ignore[no-any-return]
