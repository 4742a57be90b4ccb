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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from redis.exceptions import RedisError

from scoreline_client.protocol.keys import Keys, Lane
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Batcher, Entry, Finished
from scoreline_tasks.settings import IDLE_SLICES
from scoreline_tasks.system import Periodic

logger = logging.getLogger(__name__)

EXTRA_DRAIN = "help"
"""The name under which its wakeup is claimed in Redis."""
WAKEUP_MS = 1000
"""Milliseconds within which a wakeup is not sent again, unless a process has followed it."""
WAIT_MS = 500
"""Milliseconds between two checks, while nothing arrives, of whether the drain is to exit."""
LINGER_MS = 200
"""Milliseconds for which an extra drain waits for more before it gives its process back."""
PAUSE_MS = 10
"""Milliseconds between two reads of the online lane while a batch takes many calls of its pipeline."""
LOOK_AGAIN_MS = 25
"""Milliseconds between two looks at the requests that wait for their version to be loaded."""
BATCH_S = 0.15
"""Seconds of a batch after which another process is to listen."""
ROWS_S = 0.25
"""Seconds that the rows of one read are to take: those who come last wait for all of them."""
LATE_S = 0.25
"""Seconds by which a wait may end late."""
FIRST_READ = 2
"""Entries of the first read of a process, which does not know yet how large requests are."""
READ_BYTES = 32 << 20
"""Bytes of requests that are scored together, and that a read is to hold."""


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

    def held(self) -> set[tuple[Lane, bytes]]:
        """The lanes and ids of the entries in hand."""
        with self._lock:
            batches = [entries for _, entries in self._held.values()]
        return {(entry.lane, entry.id) for entries in batches for entry in entries}

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
        first: int | None = None,
    ) -> None:
        """Prepare to read about `take` records at once, and `first` entries at the first time."""
        self._queue = queue
        self._batcher = batcher
        self._lease = lease
        self._keys = keys
        self._wakeups = wakeups
        self._take = take
        self._count = min(take, first or take)
        """Entries of one read, so that they hold about `take` records, and no more than READ_BYTES."""
        self._largest = 0
        """Bytes of the largest request of late."""
        self._was_interrupted = False
        """Whether the reply of a read may have been lost, with entries that are this process's since."""
        self._postponed: list[Entry] = []
        """Requests whose version is being loaded, beside all others."""
        self._next_look_ms = 0
        self._lock = threading.Lock()
        """Held while requests are postponed or looked at again: a pool of threads shares a drain."""

    @property
    def has_postponed(self) -> bool:
        """Whether requests wait in this process for a version that it loads."""
        return bool(self._postponed)

    @property
    def is_interrupted(self) -> bool:
        """Whether a reply may have been lost, with requests that wait for this process since then."""
        return self._was_interrupted or self._queue.has_lost_reply

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
        promise: Callable[[float], None] = lambda _: None,
    ) -> int:
        """Answer requests for a slice of time, or until `should_exit()`; returns how many it read.

        With `linger_ms` it also ends as soon as nothing has arrived for that long. `promise` is called with the
        seconds within which the queue is looked at again.
        """
        count = 0
        slice_ms, begin_ms = slice_s * 1000, _monotonic_ms()
        clock_offset_ms = self._queue.begin_slice() - _monotonic_ms()
        finished: list[Finished] = []  # answers that are ready: they leave with the next read
        is_calm = is_idle = False
        while not should_exit():
            end_ms = begin_ms + (slice_ms if count else IDLE_SLICES * slice_ms)
            left_ms = int(end_ms - _monotonic_ms())
            if left_ms <= 0:
                break
            entries = self._left_over() if self.is_interrupted else []
            self._look_again(clock_offset_ms)
            if not entries and not is_calm:
                # One round trip: the answers leave, and the online lane's entries come.
                entries, finished = self._queue.exchange(finished, self._count), []
            if not entries:
                # The same with either lane, and it blocks.
                longest_ms = LOOK_AGAIN_MS if self._postponed else WAIT_MS
                wait_ms = min(left_ms, longest_ms if linger_ms is None else linger_ms)
                promise(wait_ms / 1000 + LATE_S)
                take = 0 if is_idle else self._count
                entries, finished = self._queue.wait(take, wait_ms, finished), []
                if not entries and linger_ms is not None:
                    return count
                is_idle = not entries
                # When a single online request came, hardly another can have queued up by the time it is
                # answered. The next read is a wait again, which also takes a chunk along.
                is_calm = len(entries) < 2 and all(entry.lane is Lane.ONLINE for entry in entries)
            count += len(entries)
            is_full = len(entries) >= self._count
            for batch in self._batches(entries):
                # The answers to the online batch do not wait for a chunk.
                self._queue.finish(finished)
                finished = []
                now_ms = _monotonic_ms() + clock_offset_ms
                waiting, is_deserted = 0, False
                if batch[0].lane is Lane.BULK:
                    waiting, is_deserted = self._queue.look_at(batch[0], now_ms)
                elif is_full:
                    waiting = self._queue.waiting(Lane.ONLINE)
                if waiting > len(batch) and self._queue.claim_once(
                    self._keys.hint(EXTRA_DRAIN), WAKEUP_MS
                ):
                    self._wakeups.extra_drain()
                if is_deserted:
                    self._queue.drop(batch[0])
                    continue
                scored_before = self._batcher.totals.records
                promise(BATCH_S)
                with self._lease.hold(entries):
                    pause = self._pause_for_online(clock_offset_ms)
                    finished = self._answer(batch, now_ms, pause=pause)
                if batch[0].lane is Lane.ONLINE:
                    # Requests hold from one record to thousands; the next ones are like these.
                    records = max(len(batch), self._batcher.totals.records - scored_before)
                    fitting = READ_BYTES // max(1, self._largest)
                    in_time = int(len(batch) * ROWS_S / max(self._batcher.rows_s, 1e-9))
                    self._count = max(1, min(self._take * len(batch) // records, fitting, in_time))
        self._queue.exchange(finished, take=0)
        return count

    def _batches(self, entries: Sequence[Entry]) -> list[list[Entry]]:
        """The online entries together, as far as READ_BYTES allow, and each chunk alone after them."""
        online = [entry for entry in entries if entry.lane is Lane.ONLINE]
        batches = [online] if online else []
        largest = max([entry.size for entry in online], default=0)
        self._largest = max(largest, self._largest // 2)
        if largest * len(online) > READ_BYTES:
            batches, room = [], 0
            for entry in online:
                if not batches or entry.size > room:
                    batches.append([])
                    room = READ_BYTES
                batches[-1].append(entry)
                room -= entry.size
        return batches + [[entry] for entry in entries if entry.lane is Lane.BULK]

    def _left_over(self) -> list[Entry]:
        """The entries that this process has read and does not have in hand: the reply that brought them was lost."""
        held = self._lease.held()
        entries = [entry for entry in self._queue.own() if (entry.lane, entry.id) not in held]
        self._was_interrupted = False
        return entries

    def step(self) -> int:
        """Answer the requests that wait now, once; returns the number of requests."""
        turns = iter([False])
        return self.serve(3600, lambda: next(turns, True), linger_ms=0)

    def answer_postponed(
        self, limit_s: float, is_leaving: Callable[[], bool] = lambda: False
    ) -> None:
        """Answer postponed requests as soon as they can be; those that are left after `limit_s` seconds are refused.

        Those that are left when `is_leaving()` are handed over to other workers.
        """
        clock_offset_ms = self._queue.server_time_ms() - _monotonic_ms() if self._postponed else 0
        end_ms = _monotonic_ms() + int(limit_s * 1000)
        while self._postponed:
            if is_leaving():
                with self._lock:
                    waiting, self._postponed = self._postponed, []
                    self._lease.keep(self, ())
                self._queue.hand_over(waiting, self._lease.lease_ms)
                return
            time.sleep(LOOK_AGAIN_MS / 1000)
            self._look_again(clock_offset_ms, is_last=_monotonic_ms() >= end_ms)

    def interrupt(self) -> None:
        """After Redis was lost: hold nothing any more; the next `serve` takes up what this process still has."""
        with self._lock:
            self._postponed = []
            self._lease.keep(self, ())
            self._was_interrupted = True

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
        """Answer the postponed requests whose version is loaded, or whose time is over."""
        now_ms = _monotonic_ms()
        with ExitStack() as stack:
            with self._lock:
                if not self._postponed or now_ms < self._next_look_ms:
                    return
                waiting, self._postponed = self._postponed, []
                self._next_look_ms = now_ms + LOOK_AGAIN_MS
                # Before another thread postpones: what it adds is not to lose its hold.
                stack.enter_context(self._lease.hold(waiting))
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
                self._was_interrupted = True
            else:
                next_ms = _monotonic_ms() + PAUSE_MS

        return pause


def _monotonic_ms() -> int:
    return int(time.monotonic() * 1000)
