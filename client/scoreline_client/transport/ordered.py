"""Many requests in order, under a lease: the share that a bulk job has of the queue.

Many jobs and online traffic share one fleet. Online requests have a lane of their own that workers read
first. Each bulk job keeps only its share of two requests for each worker process in the bulk lane: where
there are as many jobs as that, each has a request there, and the lane serves them in turn.

A job holds a lease, which it renews. A worker does not score a request whose job's lease has expired, so
the requests of a client that died leave the queue unscored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self, TypeVar

from scoreline_client.errors import (
    NoAnswer,
    QueueFull,
    ScorelineError,
    ServerRefused,
    ServerUnreachable,
)
from scoreline_client.protocol.job_progress import JobProgress
from scoreline_client.protocol.json_records import raise_refusal
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, ModelRef, Request, new_id
from scoreline_client.transport.dispatcher import Transport

logger = logging.getLogger(__name__)

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

Build = Callable[[str, _Item, str], Request]
"""Makes the request for a model reference and an item; the last argument is the job's id, or ""."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkTimes:
    """How long a job waits, and for what."""

    lease_ms: int = 15_000
    begin_s: float = 3.0
    """How long the begin of a job waits for the server. After that its requests do; the lease begins with
    the first renewal that succeeds."""
    renew_every_s: float = 3.0
    check_after_s: float = 10.0
    """Without an answer for so long, the client checks that a worker is alive and the request still there."""
    unserved_patience_s: float = 60.0
    """How long no worker may be alive: those that are being deployed load their models first."""
    server_patience_s: float = 30.0
    """How long the server may be unreachable."""
    full_patience_s: float = 60.0
    """How long the queue may be full."""
    retry_pause_s: float = 0.5


DEFAULT_TIMES = BulkTimes()
REQUESTS_PER_PROCESS = 2
"""The first is being scored while the second waits."""
_MAY_NOT_LOAD = "script|load"
"""The command in a refusal that passes: no caller needs it once a worker has loaded the scripts."""
_NO_RIGHT = "does not permit this"
_NEEDED = "Files, frames and jobs need the user `client` of `scoreline acl`"
MOST_REQUESTS = 32
"""Requests of a job in the queue; more would only fill memory."""


class BulkJob:
    """A job that shares the bulk lane with others; holds its lease inside an `async with` block."""

    def __init__(
        self,
        transport: Transport,
        times: BulkTimes = DEFAULT_TIMES,
        on_unserved: Callable[[float | None], None] | None = None,
        progress: Callable[[], JobProgress] | None = None,
    ) -> None:
        """`on_unserved` is called now and then while no worker is alive, with the seconds since the last one
        was, and with None when a worker is alive again. What `progress` returns is sent with each renewal."""
        self.id = new_id()
        self.window = 1
        """How many of its requests may be in the queue at a time."""
        self._transport = transport
        self._times = times
        self._on_unserved = on_unserved
        self._progress = progress
        self._unserved_since: float | None = None
        self._lease_lost = asyncio.Event()
        self._renewal: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        with contextlib.suppress(ServerUnreachable, TimeoutError):
            async with asyncio.timeout(self._times.begin_s):
                await self._renew()
        self._renewal = asyncio.create_task(self._keep_lease())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        await self._transport.end_job(self.id)

    async def ask(self, build: Callable[[str], Request], lane: Lane = Lane.BULK) -> Answer:
        """The answer to a request, whatever happens to workers and server meanwhile.

        `build` makes the request from the job's id; it is called again, for a request with a new id,
        where the first one was lost.

        Raises:
            RequestRefused: the request as a whole cannot be answered.
            NoAnswer, QueueFull, ServerUnreachable: the service is gone for longer than a job waits.
            ServerRefused: the server refuses the user, the password or a command.
        """
        times = self._times
        since: dict[type[ScorelineError], float] = {}
        while True:
            began = time.monotonic()
            try:
                answer = await self._send(build(self.id), lane)
            except (QueueFull, ServerUnreachable) as error:
                if isinstance(error, ServerRefused) and _MAY_NOT_LOAD not in error.reason:
                    if _NO_RIGHT in error.reason:
                        raise ServerRefused(error.url, f"{error.reason}. {_NEEDED}") from error
                    raise
                is_full = isinstance(error, QueueFull)
                if not is_full and not self._transport.was_reached:
                    raise  # its URL may be wrong, and waiting would not help
                limit_s = times.full_patience_s if is_full else times.server_patience_s
                if time.monotonic() - since.setdefault(type(error), began) > limit_s:
                    raise
                await asyncio.sleep(getattr(error, "retry_after_s", times.retry_pause_s))
                continue
            if answer is not None:
                raise_refusal(answer)
                return answer

    async def _send(self, request: Request, lane: Lane) -> Answer | None:
        """Send a request and wait; None if it was lost, or dropped because the lease had expired."""
        times = self._times
        lease_lost = asyncio.ensure_future(self._lease_lost.wait())
        future = self._transport.send(request, lane, accept_s=times.server_patience_s)
        sent_at = time.monotonic()
        waiting: set[asyncio.Future[Any]] = {future, lease_lost}
        try:
            while True:
                is_served = self._unserved_since is None
                pause_s = times.check_after_s if is_served else times.renew_every_s
                await asyncio.wait(waiting, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
                if future.done():
                    return future.result()
                if lease_lost.done():
                    return None
                waited = time.monotonic() - sent_at
                try:
                    await self._count_processes()
                    if self._unserved_s() > times.unserved_patience_s:
                        raise NoAnswer(request.id, waited, await self._transport.diagnose())
                    if await self._transport.is_lost(request):
                        return None
                except ServerUnreachable:
                    if waited > times.server_patience_s:
                        raise
        finally:
            future.cancel()
            lease_lost.cancel()

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(self._times.renew_every_s)
            try:
                is_known = await self._renew()
            # No error may end the renewals: callers learn the cause from their own requests.
            except Exception as error:  # noqa: BLE001
                logger.warning("lease_not_renewed job=%s: %s; retrying", self.id, error)
                continue
            if not is_known:
                lost, self._lease_lost = self._lease_lost, asyncio.Event()
                lost.set()

    async def _renew(self) -> bool:
        """Renew the lease and compute the window; False if the server had forgotten the job."""
        is_known, jobs = await self._transport.renew_job(self.id, self._times.lease_ms)
        if self._progress is not None:
            progress = self._progress().encode()
            await self._transport.tell_progress(self.id, progress, self._times.lease_ms)
        processes = await self._count_processes()
        share = -(-REQUESTS_PER_PROCESS * processes // max(1, jobs))
        self.window = min(MOST_REQUESTS, max(1, share))
        return is_known

    async def _count_processes(self) -> int:
        """The number of worker processes that score; tells `on_unserved` where there are none."""
        count = await self._transport.process_count()
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


async def in_order(
    items: Iterator[_Item],
    ask: Callable[[_Item], Coroutine[Any, Any, _Answer]],
    window: Callable[[], int],
) -> AsyncGenerator[tuple[_Item, _Answer]]:
    """Ask for each item, at most `window()` at a time, and yield it with its answer, in order.

    The next item is made in a thread, and only when the window has room, so that neither items nor
    answers that came early pile up.
    """
    waiting: deque[tuple[_Item, asyncio.Task[_Answer]]] = deque()
    try:
        has_more = True
        while has_more or waiting:
            while has_more and len(waiting) < max(1, window()):
                item = await asyncio.to_thread(next, items, None)
                has_more = item is not None
                if item is not None:
                    waiting.append((item, asyncio.create_task(ask(item))))
            if waiting:
                first, task = waiting.popleft()
                try:
                    answer = await task
                finally:
                    task.cancel()
                yield first, answer
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)


async def answers_in_time(
    transport: Transport,
    ref: str,
    items: Iterator[_Item],
    build: Build[_Item],
    *,
    timeout_s: float,
    times: BulkTimes = DEFAULT_TIMES,
) -> AsyncGenerator[tuple[_Item, Answer]]:
    """Every item with its answer, in order, all of the version that answered the first.

    The other requests do not wait for the first answer: nearly always they meet the same version. Those
    that met another version, because a release was on its way, are sent again for the first version.

    Raises:
        RequestRefused: an item as a whole cannot be scored.
        NoAnswer, QueueFull, ServerUnreachable: as for `predict`.
    """
    times = replace(times, begin_s=min(times.begin_s, timeout_s))
    deadline = asyncio.get_running_loop().time() + timeout_s
    name = ModelRef.parse(ref).name
    first = next(items)

    async def ask_first() -> Answer:
        answer = await transport.ask(build(ref, first, ""), Lane.BULK, timeout_s)
        raise_refusal(answer)
        return answer

    # Sent while the job begins, and not part of it.
    first_answer = asyncio.create_task(ask_first())
    try:
        async with BulkJob(transport, times) as job:

            async def ask_of(ref: str, item: _Item) -> Answer:
                try:
                    async with asyncio.timeout_at(deadline):
                        return await job.ask(lambda job_id: build(ref, item, job_id))
                except NoAnswer:
                    raise
                except TimeoutError:
                    raise NoAnswer(job.id, timeout_s, await transport.diagnose()) from None

            async def first_version() -> int:
                # Shielded: all items wait for it, and an item that is cancelled must not cancel it.
                return (await asyncio.shield(first_answer)).version

            async def ask(item: _Item) -> Answer:
                if item is first:
                    return await asyncio.shield(first_answer)
                is_known = first_answer.done()
                answer = await ask_of(f"{name}@{await first_version()}" if is_known else ref, item)
                version = await first_version()
                return (
                    answer if answer.version == version else await ask_of(f"{name}@{version}", item)
                )

            # The job's window, and the first request, which is not in it.
            pairs = in_order(chain([first], items), ask, lambda: 1 + job.window)
            async with aclosing(pairs) as answered:
                async for pair in answered:
                    yield pair
    finally:
        first_answer.cancel()
        await asyncio.gather(first_answer, return_exceptions=True)
