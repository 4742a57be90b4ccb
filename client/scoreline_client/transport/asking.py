"""Has the pieces of an input scored: which version it is, and then their answers in order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_client.files.formats.pieces import Described, Piece, Place, Reader
from scoreline_client.protocol.json_records import raise_refusal
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Operation, Request, new_id
from scoreline_client.transport.dispatcher import Transport
from scoreline_client.transport.lane import BulkJob, PieceSize
from scoreline_client.transport.window import in_order

CHUNK_EXPIRES_MS = 3_600_000
DESCRIBE_TIMEOUT_S = 10.0


async def describe(transport: Transport, ref: str) -> Described:
    """Which version a reference names now, and what it needs.

    Raises:
        UnknownModel: none.
    """
    return Described.of(await ask_for_description(transport, ref))


async def ask_for_description(transport: Transport, ref: str) -> Answer:
    """The whole of what a worker says of the version that a reference names now.

    Raises:
        UnknownModel: none.
    """
    request = Request(
        id=new_id(),
        model=ref,
        operation=Operation.DESCRIBE,
        reply_to=transport.client_id,
        expires_ms=int(DESCRIBE_TIMEOUT_S * 1000),
    )
    answer = await transport.ask(request, Lane.ONLINE, DESCRIBE_TIMEOUT_S)
    raise_refusal(answer)
    return answer


async def answers(
    transport: Transport,
    described: Described,
    reader: Reader,
    place: Place,
    *,
    total_bytes: int | None,
    operation: Operation = Operation.SCORE,
    on_unserved: Callable[[float | None], None] | None = None,
) -> AsyncGenerator[tuple[Piece, Answer]]:
    """Every piece from a place on with its answer, in order, as one bulk job; `on_unserved` is BulkJob's.

    Raises:
        RequestRefused: a piece as a whole cannot be scored.
        NoAnswer, QueueFull, ServerUnreachable: the service is gone for too long.
    """
    async with BulkJob(transport, on_unserved) as job:
        size = PieceSize(total_bytes)
        pieces = reader.pieces(place, lambda: size.bytes)

        async def ask(piece: Piece) -> Answer:
            return await job.ask(
                lambda job_id: Request(
                    id=new_id(),
                    model=described.ref,
                    body=piece.body,
                    operation=operation,
                    codec=piece.codec,
                    options=piece.options,
                    reply_to=transport.client_id,
                    expires_ms=CHUNK_EXPIRES_MS,
                    job=job_id,
                )
            )

        async with aclosing(in_order(pieces, ask, lambda: job.window)) as answered:
            async for piece, answer in answered:
                _check_count(piece, answer)
                size.learn(answer.timings.get("scored_ms", 0.0))
                yield piece, answer


def _check_count(piece: Piece, answer: Answer) -> None:
    if answer.records != piece.count:
        where = f" (line {piece.start.line})" if piece.start.line else ""
        message = (
            f"the worker answered {answer.records} rows for the {piece.count} rows from row "
            f"{piece.start.row}{where} on"
        )
        raise RequestRefused(Code.INTERNAL, message)
