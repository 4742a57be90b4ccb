"""The loop that takes what waits and answers it.

While a batch is scored the next one gathers in the lane, so batches need no window and no tuning.
An entry is the worker's from its read to its finish; whatever happens in between, another worker
claims it after the lease, and the first to finish gives the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from scoreline_client.protocol.keys import Keys, Lane
from scoreline_tasks.queue.hints import Hints
from scoreline_tasks.queue.lease import Lease
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Batcher, Entry, Finished

HELP, RESCUE = "help", "rescue"
HINT_MS = 1000
"""A hint that was sent is not sent again within this time, unless it was taken up."""
LOOK_EVERY_MS = 1000
"""Milliseconds between two looks for requests that dead processes left."""
WAIT_MS = 250
"""Milliseconds between two looks of a parked drain, in silence, at whether it is to leave."""
LINGER_MS = 200
"""Milliseconds for which a helping drain waits for more before it gives its process back."""


class Drain:
    """Reads, scores and finishes, over one connection."""

    def __init__(
        self,
        queue: RequestQueue,
        batcher: Batcher,
        lease: Lease,
        keys: Keys,
        hints: Hints,
        *,
        take: int,
    ) -> None:
        self._queue = queue
        self._batcher = batcher
        self._lease = lease
        self._keys = keys
        self._hints = hints
        self._take = take
        self._count = take
        """How many entries are read at once, so that they hold about `take` records."""
        self._looked_at = 0.0
        self._clock_offset_ms = 0

    def park(self, slice_s: float, leave: Callable[[], bool] = lambda: False) -> None:
        """Serve for a slice of time, waiting for requests when there are none, or until `leave()`."""
        self._run(slice_s, block_ms=None, leave=leave)

    def help(self, slice_s: float, leave: Callable[[], bool] = lambda: False) -> None:
        """Serve until nothing waits any more, or `leave()`, for a slice of time at the most."""
        # Before the first read: from here on, what comes may ask for yet another one.
        self._queue.release_claim(self._keys.hint(HELP))
        self._run(slice_s, block_ms=LINGER_MS, leave=leave)

    def step(self, block_ms: int = 0) -> int:
        """Answer what waits now, once; returns how many requests that were."""
        self._set_clock()
        entries = self._queue.exchange([], self._count) or self._queue.wait(self._count, block_ms)
        self._queue.finish(self._answer(entries))
        return len(entries)

    def _run(self, slice_s: float, block_ms: int | None, leave: Callable[[], bool]) -> None:
        """Without `block_ms`, wait until the slice ends; with it, end when nothing came so long."""
        self._set_clock()
        end = time.monotonic() + slice_s
        finished: list[Finished] = []
        is_calm = False
        while (left_ms := int((end - time.monotonic()) * 1000)) > 0 and not leave():
            entries: list[Entry] = []
            if not is_calm or self._look_is_due():
                entries = self._queue.exchange(finished, self._count)
                finished = []
                self._look_for_abandoned()
            if not entries:
                patience_ms = WAIT_MS if block_ms is None else block_ms
                entries = self._queue.wait(self._count, min(left_ms, patience_ms), finished)
                if not entries and block_ms is not None:
                    return
                is_calm = _is_calm(entries)
            finished = self._answer(entries)
        self._queue.exchange(finished, take=0)

    def _answer(self, entries: Sequence[Entry]) -> list[Finished]:
        """Answer entries, online ones first, and finish all but the last batch."""
        finished: list[Finished] = []
        online = [entry for entry in entries if entry.lane is Lane.ONLINE]
        batches = [online] if online else []
        batches += [[entry] for entry in entries if entry.lane is Lane.BULK]
        for batch in batches:
            self._queue.finish(finished)
            finished = []
            waiting, is_deserted = self._look_at(batch)
            if waiting > len(batch):
                self._hint(HELP, self._hints.help)
            if is_deserted:
                self._queue.drop(batch[0])
                continue
            scored_before = self._batcher.totals.records
            with self._lease.hold(entries):
                finished = self._batcher.answer(batch, self._now_ms())
            if batch is online:
                self._learn(len(batch), self._batcher.totals.records - scored_before)
        return finished

    def _learn(self, entries: int, records: int) -> None:
        """Requests hold from one record to thousands; the next ones are like those of this batch."""
        self._count = max(1, self._take * entries // max(entries, records))

    def _look_at(self, batch: Sequence[Entry]) -> tuple[int, bool]:
        """How many entries wait, where there may be more than these; and whether nobody wants them."""
        if batch[0].lane is Lane.BULK:
            return self._queue.look_at(batch[0], self._now_ms())
        is_full = len(batch) >= self._count
        return self._queue.waiting(Lane.ONLINE) if is_full else 0, False

    def _look_is_due(self) -> bool:
        return time.monotonic() - self._looked_at >= LOOK_EVERY_MS / 1000

    def _look_for_abandoned(self) -> None:
        if not self._look_is_due():
            return
        self._looked_at = time.monotonic()
        if self._queue.abandoned(self._lease.lease_ms):
            self._hint(RESCUE, self._hints.rescue)

    def _hint(self, name: str, send: Callable[[], None]) -> None:
        if self._queue.claim_once(self._keys.hint(name), HINT_MS):
            send()

    def _set_clock(self) -> None:
        self._clock_offset_ms = self._queue.server_time_ms() - int(time.monotonic() * 1000)

    def _now_ms(self) -> int:
        """Now by the server's clock, which is asked once a slice."""
        return int(time.monotonic() * 1000) + self._clock_offset_ms


def _is_calm(entries: Sequence[Entry]) -> bool:
    """Whether a wait brought so little that hardly anything can have queued up while it is answered.

    Then the next read is a wait again, which takes a chunk along with whatever is in the online lane.
    """
    return len(entries) < 2 and all(entry.lane is Lane.ONLINE for entry in entries)
