"""One caller's two connections: requests out, answers in.

Everything runs on one asyncio event loop. All requests of one tick of the loop leave in one script
call; one blocking read on the caller's reply list brings the answers of many. An answer may get lost
on its way, with a connection, but not in Redis: overdue requests are looked up under their ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import redis.asyncio
from redis.exceptions import (
    AuthenticationError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from scoreline_client.errors import NoAnswer
from scoreline_client.protocol.garbage import no_search_for_garbage
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import (
    Answer,
    Request,
    StoredNote,
    WireError,
    decode_reply,
    new_id,
)
from scoreline_client.settings import ClientSettings
from scoreline_client.transport.connection import READ_BLOCK_S, Connection
from scoreline_client.transport.sending import Waiting, parts_of

logger = logging.getLogger(__name__)

REPLIES_AT_ONCE = 512
OVERDUE_S = 2.0
"""Seconds after which a request's result is looked up, in case its reply was lost on the way."""
FORGET_AFTER_S = 0.05
MEMORY_LOOK_S = 1.0
CLOSE_AGAIN_S = 0.2
RETRY_PAUSE_S = 0.2


_Queue = Callable[[Lane, list[Waiting]], Coroutine[Any, Any, tuple[int, list[bytes]]]]


async def _pause() -> None:
    """Before another try. Never equally long: what fails at even distances would be met every time."""
    await asyncio.sleep(RETRY_PAUSE_S * random.uniform(0.5, 1.5))  # noqa: S311 - no secret


class Transport(Connection):
    """Sends requests and resolves a future for each; belongs to the event loop it is first used on."""

    def __init__(self, settings: ClientSettings, connection: redis.asyncio.Redis | None = None):
        super().__init__(settings, connection)
        self.client_id = new_id()
        self._outbox: list[Waiting] = []
        self._waiting: dict[str, Waiting] = {}
        self._received: list[str] = []
        self._flush_planned = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._reader: asyncio.Task[None] | None = None
        self._first_look: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._full_memory: str | None = None
        self._chunks: dict[str, dict[str, bytes]] = {}
        """Of each bulk job that is alive here, the entries of its requests that have no answer."""

    def send(
        self, request: Request, lane: Lane, *, job: bool = False, weight: int = 1
    ) -> asyncio.Future[Answer]:
        """Queue a request; the future gets its answer.

        The future raises QueueFull or ServerUnreachable if the request was not accepted. Cancelling
        it forgets the request. With `job`, the future of a request without reply_to is resolved as
        soon as it is queued. A request for several callers weighs as much against the lane's limit.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        ttl_ms = request.expires_ms + self.settings.result_ttl_s * 1000 if job else 0
        waiting = Waiting(request, lane, future, ttl_ms, weight)
        if self._full_memory is not None:
            future.set_exception(self.queue_full(self._full_memory))
            return future
        if request.reply_to:
            # Before it is sent: its answer may be back before the send returns.
            self._waiting[request.id] = waiting
            future.add_done_callback(lambda _: self._waiting.pop(request.id, None))
        self._outbox.append(waiting)
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self.flush)
        return future

    async def ask(self, request: Request, lane: Lane, timeout_s: float) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            NoAnswer: none came within `timeout_s`; the message says what is known of the workers.
            QueueFull, ServerUnreachable: it was not accepted.
        """
        future = self.send(request, lane)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise NoAnswer(request.id, timeout_s, await self.diagnose()) from None

    async def submit(self, request: Request, lane: Lane) -> None:
        """Queue a request whose answer is fetched later.

        Raises:
            QueueFull, ServerUnreachable: it was not accepted.
        """
        # A client may live for one job only: it must know how full the server is before it sends that.
        if self._first_look is None:
            self._first_look = self.spawn(self._look_first())
            self._watch()
        await asyncio.wait([self._first_look])
        await self.send(request, lane, job=True)

    async def renew_job(self, job: str, lease_ms: int) -> tuple[bool, int]:
        """Keep a bulk job alive; tells whether its lease was still there, and how many jobs are."""
        self._chunks.setdefault(job, {})
        _ = self.redis
        known, jobs = await self.guard(self._renew_job(keys=[self.keys.jobs], args=[job, lease_ms]))
        return bool(known), int(jobs)

    async def is_lost(self, request: Request) -> bool:
        """Whether a bulk job's request was queued, and neither it nor an answer to it is there now."""
        entry = self._chunks.get(request.job, {}).get(request.id)
        if entry is None:
            return False
        stream = self.keys.lane(Lane.BULK)
        # In this order: a request that leaves its lane has its answer at the same moment.
        if await self.guard(self.redis.xrange(stream, entry, entry, count=1)):
            return False
        there = await self.guard(self.redis.exists(self.keys.result(request.id)))
        return not there and request.id in self._waiting

    async def end_job(self, job: str) -> None:
        """Take what a bulk job still has in the queue out of it, and forget the job."""
        chunks = self._chunks.pop(job, {})
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.zrem(self.keys.jobs, job)
        if chunks:
            pipeline.xdel(self.keys.lane(Lane.BULK), *chunks.values())
            pipeline.unlink(*(self.keys.result(request_id) for request_id in chunks))
        await self.guard(pipeline.execute())

    async def close(self) -> None:
        """Stop reading and close the connections; what still waits is cancelled."""
        running = {*self._tasks, *([self._reader] if self._reader else [])}
        while running:
            for task in running:
                task.cancel()
            # A cancellation that meets a reply just coming in gets lost now and then: once more.
            _, running = await asyncio.wait(running, timeout=CLOSE_AGAIN_S)
        for waiting in list(self._waiting.values()):
            waiting.future.cancel()
        self._reader = self._first_look = self._watcher = None
        # Taken before the wait below, in which the timer of `_forget` may come up.
        received, self._received = self._received, []
        if self._redis is not None:
            with contextlib.suppress(RedisError, TimeoutError):
                async with asyncio.timeout(CLOSE_AGAIN_S):
                    await self._redis.unlink(self.keys.reply(self.client_id), *received)
            await self._redis.aclose()
            self._redis = None

    # Out

    def flush(self) -> None:
        """Send what is queued now, and not at the end of the loop's turn."""
        self._flush_planned = False
        outbox, self._outbox = self._outbox, []
        if self._reader is None and any(one.request.reply_to for one in outbox):
            self._reader = asyncio.create_task(self._read_for_ever())
            self._watch()
        for lane in Lane:
            for part in parts_of([one for one in outbox if one.lane is lane]):
                self.spawn(self._submit_part(lane, part))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something beside; it is cancelled when the transport is closed."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _submit_part(self, lane: Lane, part: list[Waiting]) -> None:
        queue = self._queue_large if part[0].is_large else self._queue_part
        try:
            room, entries = await self._submit_until_accepted(queue, lane, part)
        except RedisError as error:
            self._fail(part, self.explain(error))
            return
        # Whatever else it is, callers must not wait for it until their time is up.
        except Exception as error:  # noqa: BLE001
            self._fail(part, error)
            return
        for one, entry in zip(part, entries, strict=False):
            if not one.request.reply_to and not one.future.done():
                one.future.set_result(Answer(id=one.request.id))
            if one.request.job:
                await self._note_chunk(one.request, entry)
        if len(entries) < len(part):
            full = f"{self.settings.queue_limit} requests wait already (SCORELINE_QUEUE_LIMIT)"
            self._fail(part[len(entries) :], self.queue_full(full, room))

    async def _queue_part(self, lane: Lane, part: list[Waiting]) -> tuple[int, list[bytes]]:
        """Queue as many as the lane takes; says for how many callers there is still room."""
        stream = self.keys.lane(lane)
        keys: list[str] = [stream]
        args: list[Any] = [self.settings.queue_limit]
        for one in part:
            keys.append(self.keys.job(one.request.id) if one.job_ttl_ms else stream)
            fields = one.request.encode()
            args += (one.job_ttl_ms, one.weight, len(fields), *fields)
        room, *entries = await self._submit(keys=keys, args=args)
        return int(room), entries

    async def _queue_large(self, lane: Lane, part: list[Waiting]) -> tuple[int, list[bytes]]:
        (one,) = part
        stream = self.keys.lane(lane)
        if await self.redis.xlen(stream) >= self.settings.queue_limit:
            return 0, []
        entry = await self.redis.execute_command("XADD", stream, "*", *one.request.encode())
        return 0, [entry]

    async def _submit_until_accepted(
        self, queue: _Queue, lane: Lane, part: list[Waiting]
    ) -> tuple[int, list[bytes]]:
        """A lost reply is no reason to give up: the ids make it harmless to send once more."""
        deadline = time.monotonic() + min(one.request.expires_ms for one in part) / 1000
        _ = self.redis
        tries = 0
        while True:
            try:
                return await queue(lane, part)
            except AuthenticationError:
                raise
            except (RedisConnectionError, RedisTimeoutError):
                tries += 1
                for one in part:
                    one.repeated = True
                if tries > 10 or time.monotonic() > deadline:
                    raise
                await _pause()

    async def _note_chunk(self, request: Request, entry: bytes) -> None:
        chunks = self._chunks.get(request.job)
        if chunks is None:  # its job ended while it was on its way into the queue
            with contextlib.suppress(RedisError):
                await self.redis.xdel(self.keys.lane(Lane.BULK), entry)
        elif request.id in self._waiting:
            chunks[request.id] = entry

    def _fail(self, part: Iterable[Waiting], error: Exception) -> None:
        for one in part:
            if not one.future.done():
                one.future.set_exception(error)

    # In

    async def _read_for_ever(self) -> None:
        reply = self.keys.reply(self.client_id)
        lost = False
        while True:
            try:
                if lost:
                    await self._look_up(list(self._waiting.values()))
                    lost = False
                found = await self.redis.blmpop(
                    READ_BLOCK_S, 1, reply, direction="LEFT", count=REPLIES_AT_ONCE
                )
                if found:
                    await self._take(found[1])
            except RedisError as error:
                lost = True
                if isinstance(error, AuthenticationError | ResponseError):
                    self._fail(list(self._waiting.values()), self.explain(error))
                await _pause()

    async def _take(self, replies: list[bytes]) -> None:
        for data in replies:
            try:
                reply = decode_reply(data)
            except WireError:
                continue  # not for us to understand; its request is looked up when it is overdue
            if isinstance(reply, StoredNote):
                await self._fetch_stored(reply.id)
            else:
                self._resolve(reply)

    async def _fetch_stored(self, request_id: str) -> None:
        waiting = self._waiting.get(request_id)
        if waiting is None:
            return
        key = self.keys.result(request_id)
        data = await self.redis.get(key)
        if data is not None:
            with no_search_for_garbage():
                answer = Answer.decode(data)
            self._resolve(answer)

    def _resolve(self, answer: Answer) -> None:
        waiting = self._waiting.get(answer.id)
        if waiting is not None and not waiting.future.done():
            waiting.future.set_result(answer)
            if waiting.request.job:
                self._chunks.get(waiting.request.job, {}).pop(answer.id, None)
            if not waiting.repeated:
                self._forget_soon(answer.id)

    def _forget_soon(self, request_id: str) -> None:
        """A result that was received need not be stored until its time to live ends."""
        if not self._received:
            asyncio.get_running_loop().call_later(FORGET_AFTER_S, self._forget)
        self._received.append(self.keys.result(request_id))

    def _forget(self) -> None:
        received, self._received = self._received, []
        if received and self._redis is not None:
            self.spawn(self._unlink(received))

    async def _unlink(self, keys: list[str]) -> None:
        with contextlib.suppress(RedisError):  # what stays expires by itself
            await self.redis.unlink(*keys)

    def _watch(self) -> None:
        if self._watcher is None:
            self._watcher = self.spawn(self._look_after())

    async def _look_first(self) -> None:
        with contextlib.suppress(RedisError):  # the job that is sent next says what is wrong
            await self._look_at_memory()

    async def _look_after(self) -> None:
        """Once a second: overdue requests, and how full the server is."""
        while True:
            await asyncio.sleep(MEMORY_LOOK_S)
            try:
                await self._look_at_memory()
                overdue = time.monotonic() - OVERDUE_S
                await self._look_up([w for w in self._waiting.values() if w.since < overdue])
            except (RedisError, WireError):
                continue  # the reader and the senders notice too, and say so to callers
            # It is the last one who looks for answers that were lost: it must not end.
            except Exception:
                logger.exception("look_failed client=%s: it is tried again", self.client_id)

    async def _look_up(self, waiting: list[Waiting]) -> None:
        for start in range(0, len(waiting), REPLIES_AT_ONCE):
            part = waiting[start : start + REPLIES_AT_ONCE]
            found = await self.redis.mget([self.keys.result(one.request.id) for one in part])
            for data in found:
                if data is not None:
                    self._resolve(Answer.decode(data))

    async def _look_at_memory(self) -> None:
        try:
            memory = await self.redis.info("memory")
        except ResponseError:
            return  # a server that does not tell; it refuses by itself when it is full
        limit = int(memory.get("maxmemory") or 0)
        percent = self.settings.memory_limit_percent
        used = int(memory.get("used_memory") or 0)
        self._full_memory = (
            f"the server uses {used} of {limit} bytes, over {percent} % "
            "(SCORELINE_MEMORY_LIMIT_PERCENT)"
            if limit and used * 100 > limit * percent
            else None
        )
