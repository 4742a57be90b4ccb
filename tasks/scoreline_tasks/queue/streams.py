"""The two lanes of a queue as a worker uses them: take, renew, claim, finish.

An entry belongs to the consumer that read it until it is finished. A consumer that stops renewing its
entries loses them, after a lease, to the first that claims them. `finish.lua` gives each request one answer,
however many processes try. Only a chunk whose job is over leaves its lane without an answer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha1
from importlib import resources
from typing import Any, TypeVar

from redis import Redis
from redis.connection import PythonRespSerializer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError

from scoreline_client.fleet import withdraw_report
from scoreline_client.protocol.full_server import write_while_full
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.protocol.messages import DEFAULT_EXPIRES_MS, StoredNote
from scoreline_tasks.scoring.batch import Entry, Finished, Seldom

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
Command = tuple[Any, ...]

FINISH_AT_ONCE = 256
"""Requests that one call of the finish script answers: it blocks the server meanwhile."""
CLAIM_BYTES = {Lane.ONLINE: 1 << 18, Lane.BULK: 1}
"""Bytes of abandoned entries that are taken over together: some hundred records, or one large request."""
DEAD_LETTERS, DEAD_LETTERS_BYTES, DEAD_LETTERS_MS = 1000, 32 << 20, 7 * 86_400_000
"""How many dead letters are kept, how many bytes they hold together, and for how many milliseconds."""
DEAD_BODY_BYTES = 2 << 20
"""Of a larger body a dead letter says only how large it was."""
READ_AT_ONCE_MS = 60_000
"""Milliseconds that an answer is kept for a client that waits: one that is alive reads it at once."""
ATTEMPTS_KEPT_MS = 86_400_000
"""Milliseconds that attempts are kept of a request that leaves its lane unseen, such as with a flushed stream."""
CONSUMER_FORGOTTEN_MS = 3_600_000
"""Milliseconds after which an idle consumer is removed, unless it holds entries."""
PROCESS_FORGOTTEN_S = 3600.0
"""Seconds from its last report until the name of a process is removed."""
JOB_FORGOTTEN_MS = 60_000
"""Milliseconds from the end of a job's lease until it is removed; meanwhile its client is told that it was over."""
JOBS_KEPT_MS = 3_600_000
"""Milliseconds after which nothing stays of jobs whose clients died."""
BUFFER_BYTES = 1 << 16
PIECE_BYTES = 1 << 16
"""Bytes that are sent in one go: their time-out is that of one reply, however large an answer is."""
AHEAD_MS = 60_000
"""Milliseconds by which an entry's id may be ahead of every clock: who queues it may choose it."""
ORPHANS = "nobody"
"""The consumer that gets requests whose own consumer was deleted; a rescue takes them from it."""
ORPHANS_IDLE_MS = 3_600_000
LOOKED_AT = 16
"""How many of the oldest pending entries of a lane are looked at for orphans between them."""
_dropped = Seldom(10.0)


class RequestQueue:
    """The lanes of one queue, read as one consumer of the group."""

    def __init__(self, redis: Redis, keys: Keys, consumer: str, *, result_ttl_s: int) -> None:
        self._redis = redis
        self._pipeline = Pipeline(redis)
        self._keys = keys
        self._lanes = {keys.lane(lane).encode(): lane for lane in Lane}
        self._consumer = consumer
        self._ttl_ms = result_ttl_s * 1000
        self._clock_ms = 0
        """The server's clock less this machine's monotonic one, when it was furthest ahead."""
        self._finish = _script("finish.lua")
        self._finish_sha = sha1(self._finish.encode(), usedforsecurity=False).hexdigest()
        self._forget = _script("forget_consumers.lua")
        self._mend = _script("mend_lane.lua")
        self._find_orphans = _script("find_orphans.lua")
        self._claim, self._release, self._add_dead_letter = (
            redis.register_script(_script(name))
            for name in ("claim.lua", "release.lua", "add_dead_letter.lua")
        )

    def prepare(self) -> None:
        """Create the lanes' consumer groups where they are missing."""
        for lane in Lane:
            try:
                # From 0: requests that were queued before any worker started are not skipped.
                self._write("XGROUP CREATE", self._keys.lane(lane), GROUP, "0", "MKSTREAM")
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    def server_time_ms(self) -> int:
        """Unix milliseconds by the server's clock, by which requests expire."""
        seconds, microseconds = self._ask("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    def begin_slice(self) -> int:
        """Look at the lanes as a whole, and mend them if need be; returns the server's time in Unix milliseconds."""
        lanes = [self._keys.lane(lane) for lane in Lane]
        server_time, *replies = self._pipeline.execute(
            [
                ("TIME",),
                *(("XLEN", lane) for lane in lanes),
                *(("XINFO", "GROUPS", lane) for lane in lanes),
            ]
        )
        _raise_first([server_time])
        now_ms = int(server_time[0]) * 1000 + int(server_time[1]) // 1000
        # A server whose clock was set back continues from its last id, which no caller has chosen.
        own_ms = int(time.monotonic() * 1000)
        self._clock_ms = max(self._clock_ms, now_ms - own_ms)
        latest_ms = max(own_ms + self._clock_ms, int(time.time() * 1000)) + AHEAD_MS
        for lane, length, groups in zip(lanes, replies, replies[len(lanes) :], strict=False):
            # A lane that is missing is an error here; the next read creates it.
            for group in groups if isinstance(groups, list) else ():
                info = (
                    group
                    if isinstance(group, dict)
                    else dict(zip(group[::2], group[1::2], strict=True))
                )
                delivered_ms = int(info[b"last-delivered-id"].partition(b"-")[0])
                try:
                    if delivered_ms > latest_ms:
                        mended = self._ask("EVAL", self._mend, 1, lane, GROUP, latest_ms - now_ms)
                        if mended:  # unless another process was first
                            logger.error(
                                "lane_mended lane=%s moved=%d dropped=%d: somebody had queued an entry with an id far "
                                "ahead of the server's clock: nothing would have expired or been queued any more",
                                lane,
                                *mended,
                            )
                    elif length > info[b"pending"]:
                        arguments = (GROUP, ORPHANS, ORPHANS_IDLE_MS, LOOKED_AT)
                        orphans = int(self._ask("EVAL", self._find_orphans, 1, lane, *arguments))
                        if orphans:
                            logger.warning(
                                "requests_found lane=%s count=%d: their consumer was deleted, they are scored again",
                                lane,
                                orphans,
                            )
                # Rights that are not this worker's, for one: what is in order is served all the same.
                except ResponseError as error:
                    logger.warning("lane_not_mended lane=%s: %s", lane, error)
        return now_ms

    @property
    def has_lost_reply(self) -> bool:
        """Whether a read may have brought this consumer entries in a reply that was lost."""
        return self._pipeline.has_lost_reply

    def own(self) -> list[Entry]:
        """Read the entries again that this consumer has read and not finished."""
        self._pipeline.has_lost_reply = False
        names = [self._keys.lane(lane) for lane in Lane]
        group = ("XREADGROUP", "GROUP", GROUP, self._consumer)
        begin = ["0"] * len(names)
        return self._entries(self._pipeline.execute([(*group, "STREAMS", *names, *begin)]))

    def exchange(self, finished: Sequence[Finished], take: int) -> list[Entry]:
        """Finish a batch and take the entries of the online lane, in one round trip; never blocks."""
        reads = [self._read([Lane.ONLINE], take)] if take else []
        return self._entries(self._finish_and(finished, reads)[1])

    def wait(self, take: int, block_ms: int, finished: Sequence[Finished] = ()) -> list[Entry]:
        """Wait for an entry of either lane; takes up to `take` online ones and one bulk chunk.

        COUNT applies to each stream of a read, so the blocking one asks for a single entry of each
        lane, and a second read, sent along with it, takes the other entries of the online lane; where
        hardly anything comes, `take=0` leaves that to the next read. Finished answers leave in the same
        round trip before it blocks.
        """
        reads = [self._read(list(Lane), 1, block_ms)]
        if take:
            reads.append(self._read([Lane.ONLINE], take))
        return self._entries(self._finish_and(finished, reads)[1])

    def finish(self, finished: Sequence[Finished]) -> int:
        """Give requests their answers; returns how many of these were the first."""
        return self._finish_and(finished, [])[0] if finished else 0

    def look_at(self, chunk: Entry, now_ms: int) -> tuple[int, bool]:
        """How many entries of its lane are not finished, and whether the lease of its job is over.

        It also removes the leases of clients that died: callers have no right to remove those of others.
        """
        lane, job, jobs = self._keys.lane(chunk.lane), chunk.job, self._keys.jobs
        commands: list[Command] = [("XLEN", lane)]
        if job:
            over_ms = now_ms - JOB_FORGOTTEN_MS
            commands += [
                ("ZSCORE", jobs, job),
                ("ZREMRANGEBYSCORE", jobs, "-inf", over_ms),
                ("PEXPIRE", jobs, JOBS_KEPT_MS),
            ]
        replies = self._pipeline.execute(commands)
        _raise_first(replies)
        waiting, *until = replies
        return int(waiting), bool(job) and (until[0] is None or float(until[0]) <= now_ms)

    def drop(self, chunk: Entry) -> None:
        """Take a chunk whose job is over out of its lane, unscored.

        A client that is alive after all notices at its next renewal that its lease was over, and sends
        its chunks again. So no client waits for an answer to this one.
        """
        lane = self._keys.lane(chunk.lane)
        commands: list[Command] = [
            ("XACK", lane, GROUP, chunk.id),
            ("XDEL", lane, chunk.id),
            ("HDEL", self._keys.attempts, chunk.request_id),
        ]
        _raise_first(self._pipeline.execute(commands))
        # A client that dies may leave many.
        if (left_out := _dropped.due()) is not None:
            logger.warning(
                "request_dropped job=%s request=%s entry=%s left_out=%d: its job is over, and nobody waits for it",
                chunk.job.decode(),
                chunk.request_id,
                chunk.id.decode(errors="replace"),
                left_out,
            )

    def waiting(self, lane: Lane) -> int:
        """Entries of a lane that are not finished."""
        return int(self._ask("XLEN", self._keys.lane(lane)))

    def renew(self, entries: Iterable[Entry]) -> None:
        """Hold entries for another lease; it does not count as a delivery."""
        for lane in Lane:
            ids = [entry.id for entry in entries if entry.lane is lane]
            for some_ids in _slices(ids):
                self._redis.xclaim(
                    self._keys.lane(lane),
                    GROUP,
                    self._consumer,
                    0,
                    list(some_ids),
                    justid=True,
                    # Also where somebody has deleted the consumer meanwhile.
                    force=True,
                )

    def hand_over(self, entries: Iterable[Entry], lease_ms: int) -> None:
        """Release entries in hand to the next rescue, as if they had not been renewed for a lease."""
        for lane in Lane:
            ids = [entry.id for entry in entries if entry.lane is lane]
            for some_ids in _slices(ids):
                group = (self._keys.lane(lane), GROUP, ORPHANS)
                self._redis.xclaim(*group, 0, list(some_ids), idle=lease_ms, justid=True)

    def look_for_abandoned(self, lease_ms: int) -> tuple[bool, bool]:
        """Whether anybody has entries in hand, and whether some of these were not renewed for a lease."""

        def pending(*options: object) -> list[Any]:
            replies = self._pipeline.execute(
                [("XPENDING", self._keys.lane(lane), GROUP, *options) for lane in Lane]
            )
            # A group that is missing is an error here; the next read creates it.
            return [reply for reply in replies if isinstance(reply, list) and reply and reply[0]]

        is_held = bool(pending())
        return is_held, is_held and bool(pending("IDLE", lease_ms, "-", "+", 1))

    def claim(self, lane: Lane, lease_ms: int, most: int) -> list[Entry]:
        """Take over up to `most` abandoned entries, as many as hold `CLAIM_BYTES` together."""
        claimed = self._claim(
            keys=[self._keys.lane(lane)],
            args=[GROUP, self._consumer, lease_ms, most, CLAIM_BYTES[lane]],
        )
        return [
            Entry(lane, entry, dict(zip(pairs[::2], pairs[1::2], strict=True)))
            for entry, pairs in claimed
        ]

    def release(self, consumer: str, lease_ms: int) -> int:
        """Release what a dead process holds to the next rescue, and forget the process; returns how many entries.

        Only for a process that is known to be dead: no lease is waited for.
        """
        withdraw_report(self._redis, self._keys, consumer)
        return sum(
            int(
                self._release(
                    keys=[self._keys.lane(lane)], args=[GROUP, consumer, self._consumer, lease_ms]
                )
            )
            for lane in Lane
        )

    def attempts(self, entries: Sequence[Entry]) -> list[int]:
        """For each entry, how many rescuers have ended while a throw-away process scored it."""
        counts: Any = self._redis.hmget(
            self._keys.attempts, [entry.request_id for entry in entries]
        )
        return [int(count or 0) for count in counts]

    def begin_attempt(self, entries: Sequence[Entry]) -> None:
        """Count an attempt at each entry; it stays counted if this process ends while another one scores them."""
        attempts = self._keys.attempts
        pipeline = self._redis.pipeline(transaction=False)
        for entry in entries:
            pipeline.hincrby(attempts, entry.request_id, 1)
        pipeline.pexpire(attempts, ATTEMPTS_KEPT_MS)
        for entry, reply in zip(entries, pipeline.execute(raise_on_error=False), strict=False):
            if isinstance(reply, OutOfMemoryError):
                self._write("HINCRBY", attempts, entry.request_id, 1)

    def end_attempt(self, entries: Sequence[Entry]) -> None:
        """Forget the attempts: this process has survived, whatever became of the throw-away process."""
        self._redis.hdel(self._keys.attempts, *(entry.request_id for entry in entries))

    def add_dead_letter(self, entry: Entry, reason: str) -> None:
        """Keep a copy of a request that is given up, for an operator to look at and to send again."""
        fields = {**entry.fields, b"lane": entry.lane.value.encode(), b"reason": reason.encode()}
        body = fields.get(b"body", b"")
        if len(body) > DEAD_BODY_BYTES:
            fields |= {b"body": b"", b"cut": str(len(body)).encode()}
        flat = [text for field in fields.items() for text in field]
        bounds = [DEAD_LETTERS_MS, DEAD_LETTERS, DEAD_LETTERS_BYTES]
        self._add_dead_letter(keys=[self._keys.dead], args=[*bounds, *flat])

    def claim_once(self, key: str, lifetime_ms: int) -> bool:
        """True for the first caller within `lifetime_ms` (SET NX); it keeps wakeups from piling up."""
        claim = ("SET", key, b"1", "NX", "PX", lifetime_ms)
        try:
            return bool(self._ask(*claim))
        except OutOfMemoryError:
            return bool(self._write(*claim))

    def release_claim(self, key: str) -> None:
        """Let the next caller claim; called before the read that the wakeup was for."""
        self._ask("DEL", key)

    def forget_dead_consumers(self, idle_ms: int = CONSUMER_FORGOTTEN_MS) -> int:
        """Remove consumers that have been idle for `idle_ms` and hold nothing, and names without reports.

        Returns how many consumers.
        """
        oldest = self.server_time_ms() / 1000 - PROCESS_FORGOTTEN_S
        self._redis.zremrangebyscore(self._keys.processes, 0, oldest)
        return self._forget_consumers(idle_ms)

    def leave(self) -> None:
        """Remove this consumer from its groups, unless it holds entries."""
        try:
            self._forget_consumers(0, self._consumer)
        except RedisError as error:
            logger.debug("consumer_not_removed: %s; another worker removes it after an hour", error)

    def _forget_consumers(self, idle_ms: int, only: str = "") -> int:
        return sum(
            int(self._redis.eval(self._forget, 1, self._keys.lane(lane), GROUP, idle_ms, only))
            for lane in Lane
        )

    def _ask(self, *command: Any) -> Any:
        """The reply to a command over the connection of this thread's reads: a drain need not open another one first.

        Raises:
            RedisError: the server cannot be reached, or refuses it.
        """
        replies = self._pipeline.execute([command])
        _raise_first(replies)
        return replies[0]

    def _write(self, command: str, key: str, *arguments: Any) -> Any:
        return write_while_full(self._redis, command, key, *arguments)

    def _finish_and(
        self, finished: Sequence[Finished], commands: Sequence[Command]
    ) -> tuple[int, list[Any]]:
        """Give requests their answers and send commands along, in one round trip.

        Returns how many of the answers were the first, and the replies to the commands.
        """
        finishing: list[Command] = []
        for lane, items in _lane_slices(finished):
            for item in items:
                if item.is_large:
                    # Stored before the script runs, which would copy it several times.
                    value = memoryview(item.answer)
                    lifetime_ms = self._lifetime_ms(item.entry)
                    key = self._keys.result(item.request_id)
                    finishing.append(("SET", key, value, "NX", "PX", lifetime_ms))
            finishing.append(("EVALSHA", self._finish_sha, *self._finish_arguments(lane, items)))
        first = 0

        def settle(results: list[Any]) -> None:
            nonlocal first
            first = sum(result for result in results if isinstance(result, int))
            is_full = any(isinstance(result, OutOfMemoryError) for result in results)
            if not is_full and not any(isinstance(result, NoScriptError) for result in results):
                _raise_first(results)
                return
            # Once more: a request that is finished already does not change, and on a full server only the script
            # may write, so it takes the large answers, too.
            self._finish_sha = self._redis.script_load(self._finish)
            for lane, items in _lane_slices(finished):
                arguments = self._finish_arguments(lane, items, whole=is_full)
                first += int(self._redis.evalsha(self._finish_sha, *arguments))

        replies = self._pipeline.execute(commands, finishing, settle)
        return first, replies

    def _read(self, lanes: Sequence[Lane], count: int, block_ms: int | None = None) -> Command:
        # To a server, BLOCK 0 is for ever.
        block = ("BLOCK", block_ms) if block_ms else ()
        names = [self._keys.lane(lane) for lane in lanes]
        new = [">"] * len(names)
        group = ("XREADGROUP", "GROUP", GROUP, self._consumer)
        return (*group, "COUNT", count, *block, "STREAMS", *names, *new)

    def _entries(self, replies: Iterable[Any]) -> list[Entry]:
        entries: list[Entry] = []
        for reply in replies:
            if isinstance(reply, ResponseError) and "NOGROUP" in str(reply):
                # The server was flushed or the group destroyed: serve the entries from now on.
                self.prepare()
                continue
            _raise_first([reply])
            # RESP3 gives a mapping, RESP2 pairs, and both nothing when there is nothing.
            for stream, read in reply.items() if isinstance(reply, dict) else reply or ():
                lane = self._lanes[stream]
                for entry_id, pairs in read:
                    if pairs is None:  # read before, and not in its lane any more
                        continue
                    fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
                    entries.append(Entry(lane, entry_id, fields))
        return entries

    def _finish_arguments(
        self, lane: Lane, items: Sequence[Finished], *, whole: bool = False
    ) -> tuple[Any, ...]:
        keys: list[str] = [self._keys.lane(lane), self._keys.attempts, self._keys.callers(lane)]
        arguments: list[Any] = [GROUP]
        for item in items:
            result = self._keys.result(item.request_id)
            entry = item.entry
            notify = "" if item.reply_to else entry.notify
            client = item.reply_to or notify
            keys += (result, self._keys.reply(client) if client else result)
            note = StoredNote(item.request_id).encode() if item.is_large or notify else b""
            answer = b"" if item.is_large and not whole else item.answer
            kept_ms = self._lifetime_ms(entry)
            arguments += (entry.id, entry.request_id, answer, note, kept_ms)
            arguments += (READ_AT_ONCE_MS if notify else kept_ms, entry.number(b"callers", 1))
        return (len(keys), *keys, *arguments)

    def _lifetime_ms(self, entry: Entry) -> int:
        """How long a result stays: that of a job for later, and any other until its caller has given up."""
        if entry.job:
            return min(self._ttl_ms, READ_AT_ONCE_MS)
        if not entry.fields.get(b"reply_to"):
            return self._ttl_ms
        return min(self._ttl_ms, entry.number(b"expires_ms", DEFAULT_EXPIRES_MS) + READ_AT_ONCE_MS)


def _lane_slices(finished: Sequence[Finished]) -> Iterable[tuple[Lane, Sequence[Finished]]]:
    """Finished requests by lane, as many as one call of the finish script answers."""
    for lane in Lane:
        for items in _slices([item for item in finished if item.entry.lane is lane]):
            yield lane, items


def _slices(items: Sequence[_T]) -> Iterable[Sequence[_T]]:
    for start in range(0, len(items), FINISH_AT_ONCE):
        yield items[start : start + FINISH_AT_ONCE]


def _raise_first(replies: Iterable[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply


class Pipeline:
    """Sends commands together over one connection for each thread, which is closed with the client's pool.

    For a lone request, most of a worker's work beside scoring went into redis-py's pipelines: an object for
    each command, measurements, rewritten replies, a connection taken out of a pool and checked. Connecting,
    retries, packing and parsing are still redis-py's.
    """

    def __init__(self, redis: Redis) -> None:
        self._pool = redis.connection_pool
        self._own = threading.local()
        self.has_lost_reply = False
        """Whether the reply of a read may have been lost; whoever reads again sets it back."""

    def execute(
        self,
        commands: Sequence[Command],
        before: Sequence[Command] = (),
        settle: Callable[[list[Any]], None] = lambda _: None,
    ) -> list[Any]:
        """Send commands in one go; returns their replies in order, an error as its command's reply.

        Those of `before` are sent ahead of the others. `settle` is called with their replies once these are there: what
        it mends does not wait for a read that blocks.

        Views of memory are sent without a copy. The connection may have been lost since its last use: then
        all commands are sent once more over a new one. So each must be one that may arrive twice.

        Raises:
            RedisError: the server cannot be reached.
        """
        if not commands and not before:
            return []
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._pool.get_connection()
        try:
            return _send_and_read(connection, commands, before, settle)
        except RedisConnectionError:
            self.has_lost_reply = True
            return _send_and_read(connection, commands, before, settle)


def _send_and_read(
    connection: Any,
    commands: Sequence[Command],
    before: Sequence[Command],
    settle: Callable[[list[Any]], None],
) -> list[Any]:
    connection.send_packed_command([*_pieces(_packed(connection, [*before, *commands]))])
    try:
        if before:
            settle([_reply(connection) for _ in before])
        return [_reply(connection) for _ in commands]
    # Whatever ends this early, such as a task's time limit: no later read may take these replies.
    except BaseException:
        connection.disconnect()
        raise


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _packed(connection: Any, commands: Sequence[Command]) -> Iterator[bytes | memoryview]:
    small: list[Command] = []
    for command in commands:
        if not any(isinstance(value, memoryview) for value in command):
            small.append(command)
            continue
        yield from connection.pack_commands(small)
        small = []
        # Not hiredis, which copies everything into one piece.
        serializer = PythonRespSerializer(BUFFER_BYTES, connection.encoder.encode)
        yield from serializer.pack(*command)  # type: ignore[no-untyped-call]
    yield from connection.pack_commands(small)


def _pieces(buffers: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    for buffer in buffers:
        if len(buffer) <= PIECE_BYTES:
            yield buffer
            continue
        view = memoryview(buffer)
        for start in range(0, len(view), PIECE_BYTES):
            yield view[start : start + PIECE_BYTES]


def _script(name: str) -> str:
    return resources.files("scoreline_tasks.queue").joinpath(name).read_text()
