"""A bulk job's share of the queue: its lease, its window, and chunks that find their answer.

Many jobs and online traffic share one fleet. Online requests have a lane of their own that is read
first. Among bulk jobs, each keeps only its share of two chunks a process in the queue: where there
are as many jobs as that, each has one there, and the queue of the lane serves them in turn.

A job holds a lease, which it renews. A worker does not score a chunk whose job's lease is over, so
what a client that died has left leaves the queue unscored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol, Self

from scoreline_client.errors import NoAnswer, QueueFull, ScorelineError, ServerUnreachable
from scoreline_client.protocol.json_records import raise_refusal
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Request, new_id

logger = logging.getLogger(__name__)

LEASE_MS = 15_000
RENEW_EVERY_S = 3.0
CHUNKS_A_PROCESS = 2
"""One that is scored, and one that waits for it to be done."""
FEWEST, MOST = 1, 32
"""Chunks of one job in the queue; more than MOST would only fill memory."""
PATIENCE_S = 10.0
"""Seconds without an answer after which the client looks whether any worker is alive."""
UNSERVED_PATIENCE_S = 60.0
"""Seconds without any worker before a job gives up: those that are deployed load their models first."""
SERVER_PATIENCE_S = 30.0
"""Seconds for which a server may be away before a job gives up."""
FULL_PATIENCE_S = 60.0
"""Seconds for which a queue may be full before a job gives up."""
RETRY_PAUSE_S = 0.5
SMALLEST_BYTES, LARGEST_BYTES = 1 << 14, 1 << 20
CHUNKS_AT_LEAST = 8
"""Into so many chunks a file is cut, if it is not very small, so that processes share it."""
SLOW_CHUNK_MS, SLOW_CHUNKS = 250.0, 3
"""Online requests wait behind the chunk that a process has in hand: so many in a row that take so long
are too large."""


class Lanes(Protocol):
    """What a job needs of a transport."""

    client_id: str

    def send(self, request: Request, lane: Lane) -> asyncio.Future[Answer]:
        """Queue a request."""

    async def process_count(self) -> int:
        """How many worker processes there are."""

    async def renew_job(self, job: str, lease_ms: int) -> tuple[bool, int]:
        """Renew a lease."""

    async def end_job(self, job: str) -> None:
        """Take a job's chunks out of the queue."""

    async def is_lost(self, request: Request) -> bool:
        """Whether nothing is left of a request, nor of an answer to it."""

    async def diagnose(self) -> str:
        """Why no answer may have come."""


class BulkJob:
    """One job among those that share the bulk lane; alive inside an `async with` block."""

    def __init__(
        self, lanes: Lanes, on_unserved: Callable[[float | None], None] | None = None
    ) -> None:
        """`on_unserved` is called now and then while there is no worker, with the seconds for which
        there is none, and with None when there is one again."""
        self.id = new_id()
        self.window = FEWEST
        """Chunks that may be on their way at a time."""
        self._lanes = lanes
        self._on_unserved = on_unserved
        self._unserved_since: float | None = None
        self._lease_lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._renew()
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        # A server that is away forgets the job by itself when the lease is over.
        with contextlib.suppress(ScorelineError):
            await self._lanes.end_job(self.id)

    async def ask(self, build: Callable[[str], Request]) -> Answer:
        """Have a chunk scored, whatever happens to workers and server meanwhile.

        `build` makes the request, given the job's id; it is sent again, with a new id, when it was
        lost together with the job's lease.

        Raises:
            RequestRefused: the chunk as a whole cannot be scored.
            NoAnswer, QueueFull, ServerUnreachable: the service is gone for longer than a job waits.
        """
        patience = _Patience()
        while True:
            try:
                answer = await self._answer(build(self.id))
            except (QueueFull, ServerUnreachable) as error:
                await patience.wait(error)
                continue
            if answer is not None:
                raise_refusal(answer)
                return answer

    async def _answer(self, request: Request) -> Answer | None:
        """The answer, or None if the request was lost, or dropped with the job's lease."""
        lost = asyncio.ensure_future(self._lease_lost.wait())
        future = self._lanes.send(request, Lane.BULK)
        sent = time.monotonic()
        try:
            while not future.done() and not lost.done():
                both: set[asyncio.Future[Any]] = {future, lost}
                pause_s = PATIENCE_S if self._unserved_since is None else RENEW_EVERY_S
                await asyncio.wait(both, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
                if not future.done() and not lost.done() and await self._is_lost(request, sent):
                    return None
            return future.result() if future.done() else None
        finally:
            future.cancel()
            lost.cancel()

    async def _is_lost(self, request: Request, sent: float) -> bool:
        """Whether the request must be sent again; raises when nobody would answer it."""
        waited = time.monotonic() - sent
        try:
            await self._count_processes()
            if self._unserved_s() > UNSERVED_PATIENCE_S:
                raise NoAnswer(request.id, waited, await self._lanes.diagnose())
            return await self._lanes.is_lost(request)
        except ServerUnreachable:
            if waited > SERVER_PATIENCE_S:
                raise
            return False

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                known = await self._renew()
            # Whatever it was, it must not end the lease: those who ask tell callers what is wrong.
            except Exception as error:  # noqa: BLE001
                logger.warning("job_not_renewed job=%s: %s; it is tried again", self.id, error)
                continue
            if not known:
                lost, self._lease_lost = self._lease_lost, asyncio.Event()
                lost.set()

    async def _renew(self) -> bool:
        known, jobs = await self._lanes.renew_job(self.id, LEASE_MS)
        processes = await self._count_processes()
        share = -(-CHUNKS_A_PROCESS * processes // max(1, jobs))
        self.window = min(MOST, max(FEWEST, share))
        return known

    async def _count_processes(self) -> int:
        count = await self._lanes.process_count()
        was_unserved = self._unserved_since is not None
        if count:
            self._unserved_since = None
        elif not was_unserved:
            self._unserved_since = time.monotonic()
        if was_unserved and self._on_unserved is not None:
            self._on_unserved(None if count else self._unserved_s())
        return count

    def _unserved_s(self) -> float:
        since = self._unserved_since
        return 0.0 if since is None else time.monotonic() - since


class PieceSize:
    """How large a chunk is to be: always the same, unless the model is slow.

    The last digit of an answer may depend on which rows are scored together, since numeric libraries
    work on several at once. So a file is cut at the same places in every run, also in one that was
    interrupted, and not by how fast a machine happens to be.
    """

    def __init__(self, total_bytes: int | None) -> None:
        share = LARGEST_BYTES if total_bytes is None else total_bytes // CHUNKS_AT_LEAST
        self.bytes = min(LARGEST_BYTES, max(SMALLEST_BYTES, share))
        self._slow = 0

    def learn(self, scored_ms: float) -> None:
        """Take in how long a chunk took; halves the size after some in a row that took too long."""
        self._slow = self._slow + 1 if scored_ms > SLOW_CHUNK_MS else 0
        if self._slow == SLOW_CHUNKS:
            self._slow = 0
            self.bytes = max(SMALLEST_BYTES, self.bytes // 2)


class _Patience:
    """Waits between tries, up to a limit for each kind of trouble."""

    def __init__(self) -> None:
        self._since: dict[type[ScorelineError], float] = {}

    async def wait(self, error: QueueFull | ServerUnreachable) -> None:
        """Wait a little; raises the error when it has lasted too long."""
        since = self._since.setdefault(type(error), time.monotonic())
        limit_s = FULL_PATIENCE_S if isinstance(error, QueueFull) else SERVER_PATIENCE_S
        if time.monotonic() - since > limit_s:
            raise error
        await asyncio.sleep(getattr(error, "retry_after_s", RETRY_PAUSE_S))
