"""Keeps the entries that a process is working on from being taken over by others."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Entry

logger = logging.getLogger(__name__)


class Lease:
    """Renews the entries in hand from a thread of its own, over a connection of its own.

    It stops renewing a batch that has run longer than a batch may: a call that hangs for ever must
    not keep its requests for ever.
    """

    def __init__(self, queue: RequestQueue, *, lease_s: float, limit_s: float) -> None:
        self.lease_ms = int(lease_s * 1000)
        self._queue = queue
        self._every_s = lease_s / 3
        self._limit_s = limit_s
        self._held: dict[object, tuple[float, Sequence[Entry]]] = {}
        """One for each batch in hand: with a pool of threads there are several."""
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

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

    def start(self) -> None:
        """Start renewing."""
        self._thread = threading.Thread(target=self._run, name="scoreline-lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing and wait for the thread to end."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def renew(self) -> None:
        """Renew what is held now, unless it has been held too long."""
        now = time.monotonic()
        with self._lock:
            entries = [one for until, held in self._held.values() if now < until for one in held]
        if entries:
            self._queue.renew(entries)

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self.renew()
            # Whatever it is, it is tried again: without this thread, others would take every batch.
            except Exception as error:  # noqa: BLE001
                logger.warning("lease_not_renewed: %r; others may score the batch too", error)
