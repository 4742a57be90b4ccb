"""Keeps the entries that a process works on from being claimed by other processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Entry
from scoreline_tasks.system.periodic import Periodic


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

    def renew(self) -> None:
        """Renew what is held now, unless it has been held too long."""
        now = time.monotonic()
        with self._lock:
            held = list(self._held.values())
        entries = [entry for until, batch in held if now < until for entry in batch]
        if entries:
            self._queue.renew(entries)
