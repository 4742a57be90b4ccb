"""The two lanes of a queue as a worker sees them: take, renew, claim, finish.

An entry belongs to the consumer that read it until it is finished. A consumer that stops renewing
its entries loses them, after a lease, to whoever claims them. `finish` is the only way in which an
entry leaves a lane, and it gives each request one answer, whoever and how many try.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from hashlib import sha1
from importlib import resources
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError

from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.protocol.messages import StoredNote
from scoreline_tasks.queue.pipeline import Command, Line
from scoreline_tasks.scoring.batch import Entry, Finished

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

FINISH_AT_ONCE = 256
"""Requests that one call of the finish script answers, so that it does not block the server long."""
CLAIM_AT_ONCE = {Lane.ONLINE: 256, Lane.BULK: 1}
DEAD_LETTERS = 1000
CHUNK_RESULT_MS = 60_000
"""A client that is alive reads the answer to a chunk at once; one that is not never does."""
ATTEMPTS_KEPT_MS = 86_400_000
"""For a request that leaves its lane in a way that no worker sees, such as with a flushed stream."""
CONSUMER_FORGOTTEN_MS = 3_600_000
"""Processes come and go; the names of those that are gone for so long are removed."""


class RequestQueue:
    """The lanes of one queue, read as one consumer of the group."""

    def __init__(self, redis: Redis, keys: Keys, consumer: str, *, result_ttl_s: int) -> None:
        self._redis = redis
        self._line = Line(redis)
        self._keys = keys
        self._lanes = {keys.lane(lane).encode(): lane for lane in Lane}
        self._consumer = consumer
        self._ttl_ms = result_ttl_s * 1000
        self._finish = _script("finish.lua")
        self._finish_sha = sha1(self._finish.encode(), usedforsecurity=False).hexdigest()
        self._forget = _script("forget_consumers.lua")

    def prepare(self) -> None:
        """Create the groups where they are missing, from the lanes' first entries on."""
        for lane in Lane:
            try:
                # From 0: what callers queued before any worker started is not skipped.
                self._redis.xgroup_create(self._keys.lane(lane), GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    def server_time_ms(self) -> int:
        """Unix milliseconds by the server's clock, the only one that counts."""
        seconds, microseconds = self._redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def exchange(self, finished: Sequence[Finished], take: int) -> list[Entry]:
        """Finish a batch and take what waits in the online lane, in one round trip; never blocks."""
        reads = [self._read([Lane.ONLINE], take)] if take else []
        return self._entries(self._finish_and(finished, reads)[1])

    def wait(self, take: int, block_ms: int, finished: Sequence[Finished] = ()) -> list[Entry]:
        """Wait for an entry of either lane; brings up to `take` online ones and one bulk chunk.

        COUNT counts for each stream of a read, so the blocking one asks for a single entry of each
        lane, and a second read, sent along with it, brings what else came into the online lane.
        A batch that is `finished` goes with them, and its callers do not wait for what comes.
        """
        reads = [self._read(list(Lane), 1, block_ms), self._read([Lane.ONLINE], take)]
        return self._entries(self._finish_and(finished, reads)[1])

    def finish(self, finished: Sequence[Finished]) -> int:
        """Give requests their answers; returns for how many this was the first answer."""
        return self._finish_and(finished, [])[0] if finished else 0

    def look_at(self, chunk: Entry, now_ms: int) -> tuple[int, bool]:
        """How many entries of its lane are not finished, and whether its job's client is gone."""
        lane, job = self._keys.lane(chunk.lane), chunk.job
        replies = self._line.ask(
            [("XLEN", lane), *([("ZSCORE", self._keys.jobs, job)] if job else [])]
        )
        _raise_first(replies)
        waiting, *until = replies
        return int(waiting), bool(job) and (until[0] is None or float(until[0]) <= now_ms)

    def drop(self, chunk: Entry) -> None:
        """Take a chunk whose client is gone out of its lane, unscored.

        The client of a job that is alive finds out that its lease was over when it renews it, and
        sends its chunks again: so nobody waits for an answer to this one.
        """
        lane = self._keys.lane(chunk.lane)
        forgetting = ("HDEL", self._keys.attempts, chunk.request_id)
        _raise_first(
            self._line.ask([("XACK", lane, GROUP, chunk.id), ("XDEL", lane, chunk.id), forgetting])
        )

    def waiting(self, lane: Lane) -> int:
        """Entries of a lane that are not finished."""
        return int(self._redis.xlen(self._keys.lane(lane)))

    def renew(self, entries: Iterable[Entry]) -> None:
        """Keep entries for another lease, without counting as a delivery."""
        for lane in Lane:
            ids = [entry.id for entry in entries if entry.lane is lane]
            for part in _slices(ids):
                self._redis.xclaim(
                    self._keys.lane(lane), GROUP, self._consumer, 0, list(part), justid=True
                )

    def abandoned(self, lease_ms: int) -> bool:
        """Whether some consumer holds an entry that it has not renewed for a lease."""
        pipeline = self._redis.pipeline(transaction=False)
        for lane in Lane:
            pipeline.xpending_range(self._keys.lane(lane), GROUP, "-", "+", 1, idle=lease_ms)
        # A group that is missing is an error here; the next read makes it.
        return any(isinstance(one, list) and one for one in pipeline.execute(raise_on_error=False))

    def claim(self, lane: Lane, lease_ms: int) -> list[Entry]:
        """Take over abandoned entries."""
        _, claimed, _ = self._redis.xautoclaim(
            self._keys.lane(lane), GROUP, self._consumer, lease_ms, count=CLAIM_AT_ONCE[lane]
        )
        return [Entry(lane, entry, fields) for entry, fields in claimed if fields]

    def count_attempts(self, entries: Sequence[Entry]) -> list[int]:
        """Note, just before they are scored, that requests that killed a worker are tried again."""
        pipeline = self._redis.pipeline(transaction=False)
        for entry in entries:
            pipeline.hincrby(self._keys.attempts, entry.request_id, 1)
        pipeline.pexpire(self._keys.attempts, ATTEMPTS_KEPT_MS)
        *counts, _ = pipeline.execute()
        return [int(count) for count in counts]

    def bury(self, entry: Entry, reason: str) -> None:
        """Keep a copy of an entry that is given up, for people to look at."""
        fields: dict[Any, Any] = {**entry.fields, b"lane": entry.lane.value, b"reason": reason}
        self._redis.xadd(self._keys.dead, fields, maxlen=DEAD_LETTERS, approximate=True)

    def claim_once(self, key: str, lifetime_ms: int) -> bool:
        """Whether this is the first to ask within a lifetime; used so that hints do not pile up.

        Never, when the server has no memory for it: it would have none for the hint either.
        """
        try:
            return bool(self._redis.set(key, b"1", nx=True, px=lifetime_ms))
        except OutOfMemoryError:
            return False

    def release_claim(self, key: str) -> None:
        """Let the next one ask; to be called before the read that the hint was about."""
        self._redis.delete(key)

    def forget_dead_consumers(self, idle_ms: int = CONSUMER_FORGOTTEN_MS) -> int:
        """Remove consumers that were not heard of for `idle_ms` and hold nothing."""
        return self._forget_consumers(idle_ms)

    def leave(self) -> None:
        """Let the group forget this consumer, unless it holds something."""
        try:
            self._forget_consumers(0, self._consumer)
        except RedisError as error:
            logger.debug("consumer_not_removed: %s; others remove it some day", error)

    def _forget_consumers(self, idle_ms: int, only: str = "") -> int:
        return sum(
            int(self._redis.eval(self._forget, 1, self._keys.lane(lane), GROUP, idle_ms, only))
            for lane in Lane
        )

    def _finish_and(
        self, finished: Sequence[Finished], commands: Sequence[Command]
    ) -> tuple[int, list[Any]]:
        """Give requests their answers and send commands along; for how many this was the first
        answer, and what the server replied to the commands."""
        finishing: list[Command] = []
        for lane, part in _parts(finished):
            finishing += [self._storing(one) for one in part if one.is_large]
            finishing.append(("EVALSHA", self._finish_sha, *self._finish_arguments(lane, part)))
        replies = self._line.ask([*finishing, *commands])
        said, replies = replies[: len(finishing)], replies[len(finishing) :]
        won = sum(one for one in said if isinstance(one, int))
        is_full = any(isinstance(one, OutOfMemoryError) for one in said)
        if is_full or any(isinstance(one, NoScriptError) for one in said):
            self._finish_sha = self._redis.script_load(self._finish)
            won += sum(self._finish_again(lane, part, is_full) for lane, part in _parts(finished))
        else:
            _raise_first(said)
        return won, replies

    def _finish_again(self, lane: Lane, part: Sequence[Finished], is_full: bool) -> int:
        """What was finished already changes nothing; only the script may write where a server is full."""
        arguments = self._finish_arguments(lane, part, whole=is_full)
        return int(self._redis.evalsha(self._finish_sha, *arguments))

    def _read(self, lanes: Sequence[Lane], count: int, block_ms: int | None = None) -> Command:
        block = () if block_ms is None else ("BLOCK", block_ms)
        names = [self._keys.lane(lane) for lane in lanes]
        new = [">"] * len(names)
        group = ("XREADGROUP", "GROUP", GROUP, self._consumer)
        return (*group, "COUNT", count, *block, "STREAMS", *names, *new)

    def _entries(self, replies: Iterable[Any]) -> list[Entry]:
        entries: list[Entry] = []
        for reply in replies:
            if isinstance(reply, ResponseError) and "NOGROUP" in str(reply):
                # Somebody flushed the server or destroyed the group: serve those who come now.
                self.prepare()
                continue
            _raise_first([reply])
            for stream, read in _streams(reply):
                lane = self._lanes[stream]
                entries += [Entry(lane, entry, _mapping(fields)) for entry, fields in read]
        return entries

    def _finish_arguments(
        self, lane: Lane, part: Sequence[Finished], *, whole: bool = False
    ) -> tuple[Any, ...]:
        keys: list[str] = [self._keys.lane(lane), self._keys.attempts]
        arguments: list[Any] = [GROUP, self._lifetime_ms(part[0].entry)]
        for one in part:
            result = self._keys.result(one.request_id)
            keys += (result, self._keys.reply(one.reply_to) if one.reply_to else result)
            note = StoredNote(one.request_id).encode() if one.is_large else b""
            answer = b"" if one.is_large and not whole else one.answer
            arguments += (one.entry.id, one.entry.request_id, answer, note)
        return (len(keys), *keys, *arguments)

    def _storing(self, one: Finished) -> Command:
        """Stores a large answer before the script is told of it, which would copy it several times."""
        key, lifetime_ms = self._keys.result(one.request_id), self._lifetime_ms(one.entry)
        return ("SET", key, memoryview(one.answer), "NX", "PX", lifetime_ms)

    def _lifetime_ms(self, entry: Entry) -> int:
        return min(self._ttl_ms, CHUNK_RESULT_MS) if entry.job else self._ttl_ms


def _parts(finished: Sequence[Finished]) -> Iterable[tuple[Lane, Sequence[Finished]]]:
    """Finished requests of one lane; chunks apart, since their results stay less long."""
    for lane in Lane:
        for is_chunk in (False, True):
            of_kind = [
                one
                for one in finished
                if one.entry.lane is lane and bool(one.entry.job) is is_chunk
            ]
            for part in _slices(of_kind):
                yield lane, part


def _slices(items: Sequence[_T]) -> Iterable[Sequence[_T]]:
    for start in range(0, len(items), FINISH_AT_ONCE):
        yield items[start : start + FINISH_AT_ONCE]


def _streams(reply: Any) -> Iterable[tuple[bytes, Any]]:
    """RESP2 gives pairs, RESP3 a mapping."""
    return reply.items() if isinstance(reply, dict) else reply or ()


def _mapping(fields: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _raise_first(replies: Iterable[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply


def _script(name: str) -> str:
    return resources.files("scoreline_tasks.queue").joinpath(name).read_text()
