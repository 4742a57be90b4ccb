"""The loop that takes requests from the queue and answers them.

While a batch is scored, the next one gathers in the lane, so batches need no window and no tuning. An entry
belongs to the worker from its read to its finish. Whatever happens in between, another worker claims the
entry after the lease, and the first to finish gives the answer.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from redis.exceptions import RedisError

from scoreline_client.protocol.keys import Keys, Lane
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Batcher, Entry, Finished
from scoreline_tasks.system import Periodic

logger = logging.getLogger(__name__)

EXTRA_DRAIN = "help"
"""The name under which its wakeup is claimed in Redis."""
WAKEUP_MS = 1000
"""Milliseconds within which a wakeup is not sent again, unless a process has followed it."""
WAIT_MS = 250
"""Milliseconds between two checks, while nothing arrives, of whether the drain is to exit."""
LINGER_MS = 200
"""Milliseconds for which an extra drain waits for more before it gives its process back."""
PAUSE_MS = 10
"""Milliseconds between two reads of the online lane while a batch takes many calls of its pipeline."""
LOOK_AGAIN_MS = 25
"""Milliseconds between two looks at the requests that wait for their version to be loaded."""


@dataclass(frozen=True, slots=True)
class Wakeups:
    """The messages that a drain may send to the fleet; losing one costs time, never a request."""

    extra_drain: Callable[[], None]
    """Start another drain, in any free process."""


class Lease(Periodic):
    """Renews the entries in hand, from a thread of its own and over a connection of its own.

    A batch that has run longer than a batch may is no longer renewed: a call that hangs for ever must not
    keep its requests for ever.
    """

    def __init__(self, queue: RequestQueue, *, lease_s: float, limit_s: float) -> None:
        super().__init__(
            "lease",
            lease_s / 3,
            self.renew,
            "lease_not_renewed: other processes may score the batch, too",
        )
        self.lease_ms = int(lease_s * 1000)
        self._queue = queue
        self._limit_s = limit_s
        self._held: dict[object, tuple[float, Sequence[Entry]]] = {}
        """By batch: when its time is up, and its entries. A pool of threads holds several."""
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, entries: Sequence[Entry]) -> Iterator[None]:
        """Renew these entries for as long as the block runs."""
        batch = object()
        with self._lock:
            self._held[batch] = (time.monotonic() + self._limit_s, entries)
        try:
            yield
        finally:
            with self._lock:
                del self._held[batch]

    def keep(self, holder: object, entries: Sequence[Entry]) -> None:
        """Renew these entries for a holder, in place of those that it had before."""
        with self._lock:
            self._held.pop(holder, None)
            if entries:
                self._held[holder] = (time.monotonic() + self._limit_s, entries)

    def renew(self) -> None:
        """Renew what is held now, unless it has been held too long."""
        now = time.monotonic()
        with self._lock:
            held = list(self._held.values())
        entries = [entry for until, batch in held if now < until for entry in batch]
        if entries:
            self._queue.renew(entries)


class Drain:
    """Reads, scores and finishes, over one connection."""

    def __init__(
        self,
        queue: RequestQueue,
        batcher: Batcher,
        lease: Lease,
        keys: Keys,
        wakeups: Wakeups,
        *,
        take: int,
    ) -> None:
        """Prepare to read about `take` records at once."""
        self._queue = queue
        self._batcher = batcher
        self._lease = lease
        self._keys = keys
        self._wakeups = wakeups
        self._take = take
        self._count = take
        """Entries of one read, so that they hold about `take` records."""
        self._postponed: list[Entry] = []
        """Requests whose version is being loaded, beside all others."""
        self._next_look_ms = 0
        self._lock = threading.Lock()
        """Held while requests are postponed or looked at again: a pool of threads shares a drain."""

    @property
    def has_postponed(self) -> bool:
        """Whether requests wait in this process for a version that it loads."""
        return bool(self._postponed)

    def serve_backlog(
        self, slice_s: float, should_exit: Callable[[], bool] = lambda: False
    ) -> None:
        """Serve until nothing waits any more, or `should_exit()`, for a slice of time at the most."""
        # Before the first read: whatever arrives from here on may call for yet another drain.
        self._queue.release_claim(self._keys.hint(EXTRA_DRAIN))
        self.serve(slice_s, should_exit, linger_ms=LINGER_MS)

    def serve(
        self,
        slice_s: float,
        should_exit: Callable[[], bool] = lambda: False,
        *,
        linger_ms: int | None = None,
    ) -> int:
        """Answer requests for a slice of time, or until `should_exit()`; returns how many it read.

        With `linger_ms` it also ends as soon as nothing has arrived for that long.
        """
        count = 0
        end_ms = _monotonic_ms() + int(slice_s * 1000)
        clock_offset_ms = self._queue.server_time_ms() - _monotonic_ms()
        finished: list[Finished] = []  # answers that are ready: they leave with the next read
        is_calm = False
        while (left_ms := end_ms - _monotonic_ms()) > 0 and not should_exit():
            entries: list[Entry] = []
            self._look_again(clock_offset_ms)
            if not is_calm:
                # One round trip: the answers leave, and the online lane's entries come.
                entries, finished = self._queue.exchange(finished, self._count), []
            if not entries:
                # The same with either lane, and it blocks.
                longest_ms = LOOK_AGAIN_MS if self._postponed else WAIT_MS
                wait_ms = min(left_ms, longest_ms if linger_ms is None else linger_ms)
                entries, finished = self._queue.wait(self._count, wait_ms, finished), []
                if not entries and linger_ms is not None:
                    return count
                # When a single online request came, hardly another can have queued up by the time it is
                # answered. The next read is a wait again, which also takes a chunk along.
                is_calm = len(entries) < 2 and all(entry.lane is Lane.ONLINE for entry in entries)
            count += len(entries)
            online = [entry for entry in entries if entry.lane is Lane.ONLINE]
            chunks = [[entry] for entry in entries if entry.lane is Lane.BULK]
            for batch in [online, *chunks] if online else chunks:
                self._queue.finish(
                    finished
                )  # the answers to the online batch do not wait for a chunk
                finished = []
                now_ms = _monotonic_ms() + clock_offset_ms
                waiting, is_deserted = 0, False
                if batch is not online:
                    waiting, is_deserted = self._queue.look_at(batch[0], now_ms)
                elif len(batch) >= self._count:
                    waiting = self._queue.waiting(Lane.ONLINE)
                if waiting > len(batch):
                    self._wake(EXTRA_DRAIN, self._wakeups.extra_drain)
                if is_deserted:
                    self._queue.drop(batch[0])
                    continue
                scored_before = self._batcher.totals.records
                with self._lease.hold(entries):
                    pause = self._pause_for_online(clock_offset_ms)
                    finished = self._answer(batch, now_ms, pause=pause)
                if batch is online:
                    # Requests hold from one record to thousands; the next ones are like these.
                    records = max(len(batch), self._batcher.totals.records - scored_before)
                    self._count = max(1, self._take * len(batch) // records)
        self._queue.exchange(finished, take=0)
        return count

    def step(self) -> int:
        """Answer the requests that wait now, once; returns the number of requests."""
        turns = iter([False])
        return self.serve(3600, lambda: next(turns, True), linger_ms=0)

    def answer_postponed(self, limit_s: float) -> None:
        """Answer what is postponed as soon as it can be; what is left after `limit_s` seconds is refused."""
        clock_offset_ms = self._queue.server_time_ms() - _monotonic_ms() if self._postponed else 0
        end_ms = _monotonic_ms() + int(limit_s * 1000)
        while self._postponed:
            time.sleep(LOOK_AGAIN_MS / 1000)
            self._look_again(clock_offset_ms, is_last=_monotonic_ms() >= end_ms)

    def release_postponed(self) -> None:
        """Hold postponed requests no longer: whoever takes over finds them once their lease is over."""
        with self._lock:
            self._postponed = []
            self._lease.keep(self, ())

    def _answer(
        self,
        batch: Sequence[Entry],
        now_ms: int,
        *,
        postpones: bool = True,
        pause: Callable[[], None] = lambda: None,
    ) -> list[Finished]:
        """Score entries under a lease; those that wait for their version are postponed, or else refused."""
        postponed: list[Entry] = []
        finished = self._batcher.answer(
            batch, now_ms, postponed.append if postpones else None, pause
        )
        if postponed:
            with self._lock:
                self._postponed += postponed
                self._lease.keep(self, tuple(self._postponed))
        return finished

    def _look_again(self, clock_offset_ms: int, *, is_last: bool = False) -> None:
        """Answer those of the postponed requests whose version is there, or whose time is over."""
        now_ms = _monotonic_ms()
        with self._lock:
            if not self._postponed or now_ms < self._next_look_ms:
                return
            waiting, self._postponed = self._postponed, []
            self._next_look_ms = now_ms + LOOK_AGAIN_MS
        with self._lease.hold(waiting):
            self._lease.keep(self, ())
            finished = self._answer(waiting, now_ms + clock_offset_ms, postpones=not is_last)
            self._queue.finish(finished)

    def _pause_for_online(self, clock_offset_ms: int) -> Callable[[], None]:
        """A function that answers the online lane while a batch takes many calls of its pipeline."""
        next_ms: float = _monotonic_ms() + PAUSE_MS

        def pause() -> None:
            nonlocal next_ms
            if _monotonic_ms() < next_ms:
                return
            try:
                entries = self._queue.exchange([], self._count)
                with self._lease.hold(entries):
                    self._queue.finish(self._answer(entries, _monotonic_ms() + clock_offset_ms))
            except RedisError as error:
                # It is no fault of the batch, whose own answers say soon enough whether Redis is back.
                logger.warning("redis_lost: %s; the online lane waits for the batch in hand", error)
                next_ms = math.inf
            else:
                next_ms = _monotonic_ms() + PAUSE_MS

        return pause

    def _wake(self, name: str, send: Callable[[], None]) -> None:
        """Send a wakeup, unless one was sent a moment ago, by whichever process."""
        if self._queue.claim_once(self._keys.hint(name), WAKEUP_MS):
            send()


def _monotonic_ms() -> int:
    return int(time.monotonic() * 1000)
