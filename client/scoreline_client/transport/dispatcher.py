"""Sends requests, receives their answers, retries, and looks up answers that got lost.

Everything runs on one asyncio event loop. All requests of one turn of the loop leave in one script call;
one blocking read of the client's reply list brings the answers of many. A reply may get lost with a
connection, but its answer stays in Redis: overdue requests are looked up under their ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from scoreline_client.codes import Code
from scoreline_client.errors import (
    JobLost,
    NoAnswer,
    NotReplicated,
    PayloadTooLarge,
    QueueFull,
    ScorelineError,
    ServerUnreachable,
)
from scoreline_client.fleet import (
    ProcessReport,
    is_scoring,
    readable,
    report_keys,
    words_for_no_answer,
    words_for_unknown,
)
from scoreline_client.protocol.json_records import gc_paused
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.protocol.messages import (
    Answer,
    Request,
    StoredNote,
    WireError,
    decode_reply,
    new_id,
)
from scoreline_client.settings import ClientSettings
from scoreline_client.tracing import Tracing, traced
from scoreline_client.transport.connection import (
    DEFAULT_TIMES,
    ReplyLost,
    Script,
    ShortPathRedis,
    TransportTimes,
    client_error,
    is_final,
    open_connection,
)

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
REQUESTS_PER_CALL = 256
BYTES_PER_CALL = 1 << 20
LARGE_BYTES = 1 << 16
"""A request with a larger body is sent by itself and without a script, which would copy all that it gets."""
REPLIES_PER_READ = 512
DELETED_TOGETHER = 64
"""Received results that are deleted at once, without waiting for more."""
MOST_CALLERS = 64
"""Callers of one request; see coalescing.SHARED_RECORDS."""
ROOM_KNOWN_S = 1.0
"""How long a lane counts as having room after the server said so."""


class PendingRequest:
    """A request whose answer has not come."""

    __slots__ = (
        "entry",
        "future",
        "is_repeated",
        "job_ttl_ms",
        "lane",
        "request",
        "sent_at",
        "until",
    )

    def __init__(
        self,
        request: Request,
        lane: Lane,
        future: asyncio.Future[Answer],
        job_ttl_ms: int,
        accept_s: float,
    ) -> None:
        self.request = request
        self.lane = lane
        self.future = future
        self.job_ttl_ms = job_ttl_ms
        """How long its job record stays; 0 for a request that is no job."""
        self.sent_at = time.monotonic()
        self.until = self.sent_at + accept_s
        """Until when the client tries to queue it, where the server cannot be reached."""
        self.entry: bytes | None = None
        """The id of its stream entry, once it is queued."""
        self.is_repeated = False
        """Whether it may be queued twice: its result must then stay, or a worker would score it again."""

    @property
    def is_large(self) -> bool:
        """Whether it is sent by itself; never a job, whose record must be written together with its entry."""
        return len(self.request.body) > LARGE_BYTES and not self.job_ttl_ms


@dataclass(slots=True, eq=False)
class _Submission:
    """Requests of one lane that are queued in one call."""

    lane: Lane
    requests: list[PendingRequest]
    began: float = field(default_factory=time.monotonic)
    """When the first attempt was made."""
    is_over: bool = False
    """Whether the reader, which submits it with its read, is done with it."""


class Transport:
    """Sends requests and resolves a future for each; belongs to the event loop it is first used on."""

    def __init__(
        self,
        settings: ClientSettings,
        connection: redis.asyncio.Redis | None = None,
        times: TransportTimes = DEFAULT_TIMES,
    ) -> None:
        if connection is None:
            settings.check_redis_url()
        self.settings = settings
        self.tracing = Tracing.of(settings)
        self.times = times
        self.keys = Keys(settings.queue)
        self.client_id = new_id()
        self._given_connection = connection
        self._outbox: list[PendingRequest] = []
        self._is_flush_planned = False
        self._pending: dict[str, PendingRequest] = {}
        self._awaited: dict[str, set[asyncio.Event]] = {}
        """By job id, events of callers who wait for its result: set when a worker says that it is stored."""
        self._received: list[str] = []
        """Ids of requests whose answers were received, so that their results can be deleted."""
        self._abandoned: list[PendingRequest] = []
        """Requests that are still queued, and whose callers wait no longer."""
        self._ended_jobs: list[str] = []
        """Bulk jobs whose lease is to be given up."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._reader: asyncio.Task[None] | None = None
        self._wake_up: asyncio.Future[None] | None = None
        """Wakes the reader, which reads nothing while no answer is due."""
        self._carried: _Submission | None = None
        """The requests that the reader submits with its next read."""
        self._seen_waiting: dict[Lane, tuple[int, float]] = {}
        """By lane, how many callers waited there at the most when the server last said so, and when that was."""
        self._gets_notes = False
        """Whether this client has submitted jobs: workers may send notes on them at any time."""
        self._reading: asyncio.Timeout | None = None
        """The limit of the reader's current read, by which it is ended."""
        self._heard_at = 0.0
        """When the server last answered the reader, if only that there is no reply."""
        self._search: asyncio.Task[None] | None = None
        self._checks: asyncio.Task[None] | None = None
        self._full_memory: str | None = None
        """Why new requests are refused, while the server's memory is nearly full."""
        self._open()

    def _open(self) -> None:
        """Make the connection, its scripts and its event; the first command connects it."""
        self.redis: Any = self._given_connection or open_connection(self.settings, self.times)
        self._submit_script = Script(self.redis, "submit.lua")
        self._renew_script = Script(self.redis, "renew_job.lua")
        self._is_lost_script = Script(self.redis, "is_lost.lua")
        self._is_memory_known = asyncio.Event()

    # Sending

    def send(
        self,
        request: Request,
        lane: Lane,
        *,
        job: bool = False,
        accept_s: float | None = None,
    ) -> asyncio.Future[Answer]:
        """Queue a request at the end of this turn of the loop; the future gets its answer.

        The future raises PayloadTooLarge, QueueFull or ServerUnreachable if the request was not accepted. Cancelling it
        forgets the request, and takes a bulk job's request out of the queue. With `job`, the future of a
        request without `reply_to` is resolved as soon as it is queued. `accept_s` limits the
        attempts while the server cannot be reached; without it, they end when the request expires.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        if len(request.body) > self.settings.max_request_bytes:
            message = (
                f"a request of {len(request.body)} bytes is more than one may have "
                f"(SCORELINE_MAX_REQUEST_BYTES, {self.settings.max_request_bytes})"
            )
            future.set_exception(PayloadTooLarge(Code.TOO_LARGE, message))
            return future
        if self._full_memory is not None:
            future.set_exception(self._queue_full(self._full_memory))
            return future
        ttl_ms = request.expires_ms + self.settings.result_ttl_s * 1000 if job else 0
        accept_s = request.expires_ms / 1000 if accept_s is None else accept_s
        pending = PendingRequest(request, lane, future, ttl_ms, accept_s)
        if request.reply_to:
            # Before it is sent: its answer may be back before the send returns.
            self._pending[request.id] = pending
            future.add_done_callback(lambda _: self._settle(pending))
        self._outbox.append(pending)
        if not self._is_flush_planned:
            self._is_flush_planned = True
            loop.call_soon(self.flush)
        return future

    async def ask(self, request: Request, lane: Lane, timeout_s: float) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            NoAnswer: no answer within `timeout_s`; the message says how many workers there are.
            QueueFull, ServerUnreachable: it was not accepted.
        """
        with traced(self.tracing, lane, request.model) as trace:
            if trace:
                request = replace(request, trace=trace)
            future = self.send(request, lane)
            try:
                async with asyncio.timeout(timeout_s):
                    return await asyncio.shield(future)
            except TimeoutError:
                raise NoAnswer(request.id, timeout_s, await self.diagnose(request.id)) from None
            finally:
                future.cancel()

    async def submit(self, request: Request, lane: Lane, timeout_s: float) -> None:
        """Queue a request whose answer is fetched later.

        Raises:
            QueueFull, ServerUnreachable: it was not accepted within `timeout_s`.
            NotReplicated: it was, but not by as many replicas as the settings ask for.
        """
        is_sent = False
        try:
            async with asyncio.timeout(timeout_s):
                # A client may live for one job only: it must know how full the server is before it sends that.
                self._start_checks()
                await self._is_memory_known.wait()
                future = self.send(request, lane, job=True, accept_s=timeout_s)
                is_sent = True
                await future
                if required := self.settings.durable_replicas:
                    pipeline = self.redis.pipeline(transaction=False)
                    # WAIT is about the writes of its own connection: this one comes after that of the job.
                    lifetime_ms = request.expires_ms + self.settings.result_ttl_s * 1000
                    pipeline.pexpire(self.keys.job(request.id), lifetime_ms)
                    pipeline.execute_command("WAIT", required, int(self.times.replicate_s * 1000))
                    is_there, replicas = await pipeline.execute()
                    if not is_there:
                        raise JobLost(request.id)
                    if replicas < required:
                        raise NotReplicated(request.id, replicas, required)
        except RedisError as error:
            raise self._unreachable(str(error), request.id) from error
        except TimeoutError:
            reason = f"it does not say within {timeout_s:g} s that it has a job"
            request_id = request.id if is_sent else None
            raise self._unreachable(reason, request_id) from None

    def flush(self) -> None:
        """Send all requests of this turn of the loop now, without waiting for its end."""
        self._is_flush_planned = False
        outbox, self._outbox = self._outbox, []
        self._gets_notes = self._gets_notes or any(pending.request.notify for pending in outbox)
        awaits_replies = any(
            pending.request.reply_to or pending.request.notify for pending in outbox
        )
        # The reader begins to read where answers are due, and submits the carried requests with that read. A connection
        # that was given to the client sends commands one by one.
        may_carry = awaits_replies and isinstance(self.redis, ShortPathRedis)
        if awaits_replies and self._reader is None:
            self._reader = asyncio.create_task(self._read_replies())
            self._start_checks()
        elif awaits_replies and self._wake_up is not None and self._is_reader_idle:
            self._wake_up.set_result(None)
        else:
            may_carry = False
        for lane in Lane:
            # Each call is small enough not to block the server for long or to fill its buffers.
            requests: list[PendingRequest] = []
            size = 0
            for pending in outbox:
                if pending.lane is not lane:
                    continue
                if pending.is_large:
                    self.spawn(self._submit(_Submission(lane, [pending])))
                    continue
                if len(requests) == REQUESTS_PER_CALL or size > BYTES_PER_CALL:
                    self.spawn(self._submit(_Submission(lane, requests)))
                    requests, size = [], 0
                requests.append(pending)
                size += len(pending.request.body)
            if requests and may_carry and self._carried is None:
                self._carried = _Submission(lane, requests)
            elif requests:
                self.spawn(self._submit(_Submission(lane, requests)))

    @property
    def _is_reader_idle(self) -> bool:
        """Whether the reader reads nothing, since no answer is due."""
        return self._wake_up is not None and not self._wake_up.done()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that is cancelled when the transport is closed."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _submit(self, submission: _Submission, failed: RedisError | None = None) -> None:
        """Queue as many of these requests as the lane takes, in their order, in one call.

        Any error is set on their futures: callers must not wait until their time is up. `failed` is the error of an
        attempt that was made before.
        """
        requests = submission.requests
        while True:
            if failed is not None:
                requests = await self._left_to_repeat(requests, failed, submission.began)
                if not requests:
                    return
            try:
                is_large = requests[0].is_large
                # Without requests the script only says how much room there is.
                keys, args = self._script_arguments(submission.lane, () if is_large else requests)
                reply = await self._submit_script(keys=keys, args=args)
                if is_large and reply[0] > 0:
                    fields = requests[0].request.encode()
                    entry = await self.redis.execute_command("XADD", keys[0], "*", *fields)
                    reply = [*reply, entry]
                break
            except RedisError as error:
                failed = error
            except Exception as error:  # noqa: BLE001
                self._fail(requests, error)
                return
        self._note_queued(submission.lane, requests, reply)

    async def _left_to_repeat(
        self, requests: list[PendingRequest], error: RedisError, began: float
    ) -> list[PendingRequest]:
        """After a failed attempt and a pause, the requests that are to be tried again; callers of the others are told why."""
        if isinstance(error, ReplyLost):
            # Workers answer an id once, so a request may be queued again.
            for pending in requests:
                pending.is_repeated = True
            self._suspect()
        if not self._is_worth_repeating(error, began):
            self._fail(requests, self.explain(error))
            return []
        now = time.monotonic()
        self._fail([pending for pending in requests if pending.until < now], self.explain(error))
        requests = [pending for pending in requests if not pending.future.done()]
        if requests:
            await self._pause()
        return requests

    def _script_arguments(
        self, lane: Lane, requests: Sequence[PendingRequest]
    ) -> tuple[list[str], list[Any]]:
        """The keys and arguments of the script that queues these requests."""
        keys = [self.keys.lane(lane), self.keys.callers(lane)]
        args: list[Any] = [self.settings.queue_limit, MOST_CALLERS]
        for pending in requests:
            request, ttl_ms = pending.request, pending.job_ttl_ms
            keys.append(self.keys.job(request.id) if ttl_ms else keys[0])
            fields = request.encode()
            args += (ttl_ms, request.callers, len(fields), *fields)
        return keys, args

    def _note_queued(
        self, lane: Lane, requests: Sequence[PendingRequest], reply: Sequence[Any]
    ) -> None:
        """Note which requests are queued, as the script replied; the others are refused."""
        room, *entries = reply
        self._seen_waiting[lane] = (self.settings.queue_limit - room, time.monotonic())
        for pending, entry in zip(requests, entries, strict=False):
            pending.entry = entry
            if not pending.request.reply_to and not pending.future.done():
                pending.future.set_result(Answer(id=pending.request.id))
            elif pending.future.cancelled():
                self._abandon(pending)
        if len(entries) < len(requests):
            reason = f"{self.settings.queue_limit} callers wait already (SCORELINE_QUEUE_LIMIT)"
            self._fail(requests[len(entries) :], self._queue_full(reason, int(room)))

    def _is_worth_repeating(self, error: RedisError, began: float) -> bool:
        """Whether a command whose connection failed may succeed when it is sent again."""
        is_transient = isinstance(error, RedisConnectionError | RedisTimeoutError)
        if not is_transient or is_final(error):
            return False
        # A server that was never reached is perhaps not there at all, and its URL wrong.
        return self.was_reached or time.monotonic() - began < self.times.first_contact_s

    async def repeat(self, operation: Callable[[], Awaitable[_T]], timeout_s: float) -> _T:
        """The result of an operation that may be done twice: once more where its connection is lost.

        Raises:
            ServerUnreachable: there is none after `timeout_s`, or the server refuses it.
        """
        began = time.monotonic()
        reason: ScorelineError = self._unreachable(f"no reply within {timeout_s:g} s")
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        return await operation()
                    except RedisError as error:
                        reason = self.explain(error)
                        if not self._is_worth_repeating(error, began):
                            raise reason from error
                    await self._pause()
        except TimeoutError:
            raise reason from None

    def _fail(self, failed: Iterable[PendingRequest], error: Exception) -> None:
        """Give callers the reason why their requests were not accepted, or that they may have been."""
        for pending in failed:
            reason = error
            request = pending.request
            if pending.is_repeated and isinstance(error, QueueFull | ServerUnreachable):
                # An earlier attempt may have been accepted: a caller goes on waiting for its answer. A chunk of a job is
                # sent once more instead.
                if isinstance(error, QueueFull) and request.reply_to and not request.job:
                    continue
                reason = self._unreachable(error.reason, request.id)
            if not pending.future.done():
                pending.future.set_exception(reason)

    async def _pause(self) -> None:
        # Of random length: attempts must not coincide with a fault that comes at regular intervals.
        await asyncio.sleep(self.times.retry_pause_s * random.uniform(0.5, 1.5))  # noqa: S311

    # Receiving

    async def _read_replies(self) -> None:
        """Read the client's reply list whenever answers are due, for as long as the client is open.

        A client with nothing on its way asks the server for nothing: its next request leaves together with the next read.
        """
        loop = asyncio.get_running_loop()
        read_command = ("BLMPOP", self.times.read_block_s, 1, self.keys.reply(self.client_id), "LEFT", "COUNT", REPLIES_PER_READ)  # fmt: skip
        may_have_lost_replies = False
        while True:
            submission, self._carried = self._carried, None
            if submission is None and not (self._pending or self._gets_notes):
                self._wake_up = loop.create_future()
                await self._wake_up
                self._heard_at = time.monotonic()
                continue
            try:
                if may_have_lost_replies:
                    await self._look_up(list(self._pending.values()))
                    may_have_lost_replies = False
                async with asyncio.timeout(None) as self._reading:
                    if submission is None:
                        popped = await self.redis.execute_command(*read_command)
                    else:
                        popped = await self._submit_and_read(submission, read_command)
                self._heard_at = time.monotonic()
                if popped:
                    await self._receive(popped[1])
            except TimeoutError:
                may_have_lost_replies = True  # its connection is under suspicion
                self._resubmit(submission, ReplyLost("the connection is given up"))
            except RedisError as error:
                may_have_lost_replies = True
                self._resubmit(submission, error)
                if isinstance(error, ResponseError) or is_final(error):
                    self._fail(list(self._pending.values()), self.explain(error))
                await self._pause()
            # Without this task every answer would come by a look-up, seconds late.
            except Exception:
                logger.exception("replies_unreadable client=%s: reading on", self.client_id)
                may_have_lost_replies = True
                self._resubmit(submission, ReplyLost("the reply cannot be read"))
                await self._pause()

    async def _submit_and_read(self, submission: _Submission, read_command: Sequence[Any]) -> Any:
        """Queue requests and begin to read replies with one piece of data to the server; returns the replies.

        A lone request needs no script where the lane was nearly empty a moment ago, however many callers its requests
        have: on the server, a script costs several times what it does.
        """
        lane, requests = submission.lane, submission.requests
        is_alone = len(requests) == 1 and requests[0].request.callers == 1
        waiting, seen_at = self._seen_waiting.get(lane, (0, -math.inf))
        has_room = (waiting + 1) * MOST_CALLERS * 2 <= self.settings.queue_limit
        is_known = time.monotonic() - seen_at < ROOM_KNOWN_S
        if is_alone and not requests[0].job_ttl_ms and has_room and is_known:
            name = self.keys.lane(lane)
            commands = [("XADD", name, "*", *requests[0].request.encode()), ("XLEN", name)]
        else:
            commands = [self._submit_script.command(*self._script_arguments(lane, requests))]

        def take(replies: list[Any]) -> None:
            failed = next((reply for reply in replies if isinstance(reply, RedisError)), None)
            if failed is not None:
                self._resubmit(submission, failed)
                return
            submission.is_over = True
            if len(replies) == 1:
                self._note_queued(lane, requests, replies[0])
            else:
                entry, waiting = replies
                self._note_queued(lane, requests, [self.settings.queue_limit - waiting, entry])

        return await self.redis.execute_before_read(commands, read_command, take)

    def _resubmit(self, submission: _Submission | None, error: RedisError) -> None:
        """Submit again what failed, in a task of its own: the reader has replies to read."""
        if submission is not None and not submission.is_over:
            submission.is_over = True
            # `_submit` loads a script that the server does not have.
            failed = None if isinstance(error, NoScriptError) else error
            self.spawn(self._submit(submission, failed))

    async def _receive(self, replies: list[bytes]) -> None:
        for data in replies:
            try:
                reply = decode_reply(data)
            except WireError:
                continue  # of another release, perhaps; its request is looked up when it is overdue
            if not isinstance(reply, StoredNote):
                self._resolve(reply)
            elif reply.id in self._awaited:
                for event in self._awaited[reply.id]:
                    event.set()
            elif reply.id in self._pending:
                stored = await self.redis.get(self.keys.result(reply.id))
                if stored is not None:
                    with gc_paused():
                        self._resolve_stored(self._pending.get(reply.id), stored)

    def _resolve(self, answer: Answer) -> None:
        pending = self._pending.get(answer.id)
        if pending is None or pending.future.done():
            return
        if (answer.error or {}).get("code") == Code.UNKNOWN_MODEL:
            self.spawn(self._tell_unknown(pending, answer))
        else:
            pending.future.set_result(answer)
            # Now, before the reader checks whether any answer is due.
            del self._pending[answer.id]
        if not pending.is_repeated:
            # A result that was received need not stay until its time to live ends.
            if not self._received:
                self._clean_up_in(self.times.delete_after_s)
            self._received.append(answer.id)
            if len(self._received) == DELETED_TOGETHER:
                self._start_clean_up()

    def _resolve_stored(self, pending: PendingRequest | None, data: bytes) -> None:
        """Take the stored result of a request; one that cannot be read is its caller's error, and nobody else's."""
        try:
            self._resolve(Answer.decode(data))
            self._clean_up_in(self.times.delete_stored_after_s)
        except WireError as error:
            if pending is not None:
                self._fail([pending], error)

    @contextlib.contextmanager
    def stored_event(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set if a worker says that the result of a job of this client is stored."""
        event, waiting = asyncio.Event(), self._awaited.setdefault(job_id, set())
        waiting.add(event)
        try:
            yield event
        finally:
            waiting.remove(event)
            if not waiting:
                del self._awaited[job_id]

    def _settle(self, pending: PendingRequest) -> None:
        """Forget a request that has its answer, or whose caller waits no longer."""
        self._pending.pop(pending.request.id, None)
        if pending.future.cancelled() and pending.entry is not None:
            self._abandon(pending)

    def _abandon(self, pending: PendingRequest) -> None:
        """Take a request out of the queue whose caller waits no longer.

        An expired one is left to a worker, which says that it has expired; one of several callers counts as theirs until
        it expires.
        """
        is_alone = pending.request.callers == 1 and time.monotonic() < pending.until
        if pending.request.job or (is_alone and not pending.is_repeated):
            if not self._abandoned:
                asyncio.get_running_loop().call_soon(self._start_clean_up)
            self._abandoned.append(pending)

    def _clean_up_in(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._start_clean_up)

    def _start_clean_up(self) -> None:
        if self._received or self._abandoned:
            self.spawn(self._clean_up())

    async def _clean_up(self) -> None:
        """Delete received results, abandoned requests and ended jobs; should it fail, they expire by themselves."""
        received, self._received = self._received, []
        abandoned, self._abandoned = self._abandoned, []
        ended, self._ended_jobs = self._ended_jobs, []
        results = [self.keys.result(request_id) for request_id in received]
        results += [self.keys.result(pending.request.id) for pending in abandoned]
        with contextlib.suppress(RedisError):
            if abandoned:
                for lane in {pending.lane for pending in abandoned}:
                    entries = [pending.entry for pending in abandoned if pending.lane is lane]
                    await self.redis.xdel(self.keys.lane(lane), *entries)
            if results:
                await self.redis.unlink(*results)
            if ended:
                await self.redis.zrem(self.keys.jobs, *ended)

    # Answers that got lost, and a server that fills up

    def _start_checks(self) -> None:
        if self._checks is None:
            self._checks = self.spawn(self._check_regularly())

    async def _check_regularly(self) -> None:
        """Check how full the server is, and look up answers that are overdue, unless nothing is due and there was room."""
        while True:
            try:
                if not self._is_reader_idle or self._full_memory is not None:
                    await self._check_memory()
                    overdue = time.monotonic() - self.times.overdue_s
                    is_found = await self._look_up(
                        [pending for pending in self._pending.values() if pending.sent_at < overdue]
                    )
                    if is_found and self._heard_at < overdue:
                        self._suspect()
                    await self._send_lost_again(overdue)
            except ReplyLost:
                self._suspect()
            except (RedisError, ServerUnreachable):
                pass  # the reader and the senders meet it too, and tell their callers
            # These checks must not end: nothing else finds answers that got lost.
            except Exception:
                logger.exception("pending_check_failed client=%s: retrying", self.client_id)
            self._is_memory_known.set()
            await asyncio.sleep(self.times.check_every_s)

    def _suspect(self) -> None:
        """Have the reader connect anew, and look for replies that its old connection may still take with it.

        The server goes on popping replies for a dead connection until the blocking read on it is over.
        """
        if self._pending and (self._search is None or self._search.done()):
            self._search = self.spawn(self._search_replies())
        if self._reading is not None and self._heard_at < time.monotonic() - self.times.command_s:
            with contextlib.suppress(RuntimeError):  # it has just ended
                self._reading.reschedule(asyncio.get_running_loop().time())

    async def _search_replies(self) -> None:
        until = time.monotonic() + self.times.read_block_s + self.times.command_s
        while self._pending and time.monotonic() < until:
            with contextlib.suppress(RedisError):
                await self._look_up(list(self._pending.values()))
            await self._pause()

    async def _look_up(self, requests: list[PendingRequest]) -> bool:
        """Take the results that are stored; returns whether there was any."""
        is_found = False
        for start in range(0, len(requests), REPLIES_PER_READ):
            chunk = requests[start : start + REPLIES_PER_READ]
            keys = [self.keys.result(pending.request.id) for pending in chunk]
            for pending, data in zip(chunk, await self.redis.mget(keys), strict=True):
                if data is not None:
                    is_found = True
                    self._resolve_stored(pending, data)
        return is_found

    async def _send_lost_again(self, overdue: float) -> None:
        """Send requests once more that the server has lost, while their callers wait.

        Its data were deleted, or a replica that did not have them was made the primary. Then the oldest request is
        gone or the newest; the others are checked only where one of these is. Jobs check their own requests.
        """
        queued = [
            pending
            for pending in self._pending.values()
            if pending.sent_at < overdue
            and pending.entry is not None
            and not (pending.request.job or pending.future.done())
        ]
        ends = [queued[0], queued[-1]] if queued else []
        if not any([await self.is_lost(pending.request) for pending in ends]):
            return
        for pending in queued:
            if await self.is_lost(pending.request):
                logger.warning(
                    "request_lost id=%s: the server has lost it, it is sent again",
                    pending.request.id,
                )
                pending.entry, pending.is_repeated = None, True
                self._outbox.append(pending)
        self.flush()

    async def _check_memory(self) -> None:
        try:
            memory = await self.redis.info("memory")
        except ResponseError:
            return  # a server that does not say; it refuses by itself when it is full
        limit = int(memory.get("maxmemory") or 0)
        percent = self.settings.memory_limit_percent
        used = int(memory.get("used_memory") or 0)
        self._full_memory = (
            f"the server uses {used} of {limit} bytes, over {percent} % "
            "(SCORELINE_MEMORY_LIMIT_PERCENT)"
            if limit and used * 100 > limit * percent
            else None
        )

    # Bulk jobs

    async def renew_job(self, job: str, lease_ms: int) -> tuple[bool, int]:
        """Renew a bulk job's lease. Returns whether it was still held, and the number of jobs with a lease."""
        is_known, jobs = await self.repeat(
            lambda: self._renew_script(keys=[self.keys.jobs], args=[job, lease_ms]), lease_ms / 3000
        )
        return bool(is_known), int(jobs)

    async def tell_progress(self, job: str, progress: bytes, lease_ms: int) -> None:
        """Tell whoever watches the queue how far a bulk job is; nothing depends on it."""
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(lease_ms / 3000):
                await self.redis.set(self.keys.progress(job), progress, px=lease_ms)

    async def end_job(self, job: str) -> None:
        """Give up a bulk job's lease, and take its requests that were cancelled out of the queue.

        Where the server does not answer at once, this goes on in the background: the caller's time may be up.
        """
        self._ended_jobs.append(job)
        await asyncio.wait([self.spawn(self._clean_up())], timeout=self.times.end_job_s)

    async def is_lost(self, request: Request) -> bool:
        """Whether a request was queued, and neither it nor an answer to it is there now."""
        pending = self._pending.get(request.id)
        if pending is None or pending.entry is None:
            return False
        stream, entry = self.keys.lane(pending.lane), pending.entry
        script, keys = self._is_lost_script, [stream, self.keys.result(request.id)]

        async def is_gone() -> bool:
            return bool(await script(keys=keys, args=[GROUP, entry]))

        return await self.repeat(is_gone, self.times.reports_s) and not pending.future.done()

    # What is known of the service

    @property
    def was_reached(self) -> bool:
        """Whether the server has ever replied."""
        return bool(getattr(self.redis, "was_reached", True))

    async def process_count(self) -> int:
        """How many worker processes score, without main processes, whose children do it."""
        reports = await self.repeat(self._reports, self.times.reports_s)
        return sum(map(is_scoring, reports))

    async def diagnose(self, request_id: str = "") -> str:
        """Why no answer to a request may have come, in a sentence.

        It takes a moment at the most, since the caller's time is up.

        Raises:
            ServerUnreachable: Redis refuses the connection, which is why.
        """
        pending = self._pending.get(request_id)
        try:
            async with asyncio.timeout(self.times.diagnose_s):
                reports = await self.guard(self._reports())
                lanes = [self.keys.lane(lane) for lane in Lane]
                backlog = sum([await self.guard(self.redis.xlen(lane)) for lane in lanes])
        except TimeoutError:
            return f"Redis at {self.settings.server} does not answer"
        except ServerUnreachable as error:
            if pending is not None and (pending.entry is not None or pending.is_repeated):
                raise self._unreachable(error.reason, request_id) from error
            raise
        model = None if pending is None else pending.request.model
        return words_for_no_answer(self.settings.queue, reports, backlog, model)

    async def _tell_unknown(self, pending: PendingRequest, answer: Answer) -> None:
        answer = await self.in_words(pending.request.model, answer)
        if not pending.future.done():
            pending.future.set_result(answer)

    async def in_words(self, model: str, answer: Answer) -> Answer:
        """An answer that a model is unknown, with a message for callers, who have no artifact store to look into."""
        with contextlib.suppress(RedisError, TimeoutError):
            async with asyncio.timeout(self.times.diagnose_s):
                reports = await self.reports()
                words = words_for_unknown(model, reports, names_others=self.settings.names_others)
                if words is not None:
                    answer = replace(answer, error={**(answer.error or {}), "message": words})
        return answer

    async def _reports(self) -> list[bytes]:
        names = await self.redis.zrange(self.keys.processes, 0, -1)
        keys = list(report_keys(self.keys, names))
        if not keys:
            return []
        return [report for report in await self.redis.mget(keys) if report is not None]

    async def reports(self) -> list[ProcessReport]:
        """The reports of all processes that are alive, as far as they can be read.

        Raises:
            RedisError: the server does not answer.
        """
        return readable(await self._reports())

    async def guard(self, operation: Coroutine[Any, Any, Any]) -> Any:
        """Await a Redis operation; an error of Redis becomes the client's."""
        try:
            return await operation
        except RedisError as error:
            raise self.explain(error) from error

    def explain(self, error: RedisError) -> ScorelineError:
        """The client's error for an error of Redis."""
        return client_error(error, self.settings, self.times)

    def _unreachable(self, reason: str, request_id: str | None = None) -> ServerUnreachable:
        return ServerUnreachable(self.settings.server, reason, request_id)

    def _queue_full(self, reason: str, room: int = 0) -> QueueFull:
        return QueueFull(self.settings.queue, reason, self.times.queue_full_s, room)

    async def close(self) -> None:
        """Stop reading, cancel what waits, and close the connections; the next use opens them again."""
        running = {*self._tasks, *([self._reader] if self._reader else [])}
        is_used = self._reader is not None
        while running:
            for task in running:
                task.cancel()
            # A cancellation that meets a reply just coming in gets lost now and then: once more.
            _, running = await asyncio.wait(running, timeout=self.times.close_s)
        for pending in list(self._pending.values()):
            pending.future.cancel()
        await asyncio.sleep(0)  # `_settle` is called
        self._reader = self._checks = self._search = self._wake_up = self._carried = None
        if is_used:
            with contextlib.suppress(RedisError, TimeoutError):
                async with asyncio.timeout(self.times.close_s):
                    await self._clean_up()
                    await self.redis.unlink(self.keys.reply(self.client_id))
        await self.redis.aclose()
        self._open()
