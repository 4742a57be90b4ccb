"""Callers that keep requests in flight while something else happens, and count what they get."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from scoreline_client import AsyncClient
from scoreline_client.errors import ScorelineError


@dataclass
class Phase:
    """What callers saw in one stretch of time."""

    name: str
    versions: Counter[int] = field(default_factory=Counter)
    """Answers by the version that made them."""
    failures: Counter[str] = field(default_factory=Counter)
    """By message."""
    slowest_s: float = 0.0
    """The longest that any request waited that ended in this stretch."""
    seconds: float = 0.0

    @property
    def answers(self) -> int:
        """How many requests were answered."""
        return self.versions.total()


class Load:
    """Requests of one record each, a fixed number of them in flight, from a thread of its own."""

    def __init__(self, redis_url: str, queue: str, model: str, in_flight: int) -> None:
        self.phases: list[Phase] = []
        self._redis_url = redis_url
        self._queue = queue
        self._model = model
        self._in_flight = in_flight
        self._ended = threading.Event()
        self._begun = 0.0

    def begin(self, name: str) -> None:
        """From here on, what ends belongs to a new phase."""
        self._close()
        self.phases.append(Phase(name))

    def last(self, seconds: float) -> None:
        """Let the load run on for a while."""
        self._ended.wait(seconds)

    def _close(self) -> None:
        now = time.monotonic()
        if self.phases:
            self.phases[-1].seconds = now - self._begun
        self._begun = now

    @contextmanager
    def running(self, records: Sequence[dict[str, Any]]) -> Iterator[None]:
        """Keep requests in flight for as long as the block lasts, and wait for the last answers.

        A phase must have begun.
        """
        thread = threading.Thread(target=lambda: asyncio.run(self._drive(records)), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self._close()

    async def _drive(self, records: Sequence[dict[str, Any]]) -> None:
        supply = cycle(records)
        async with AsyncClient(self._redis_url, queue=self._queue) as client:
            await asyncio.gather(*(self._call(client, supply) for _ in range(self._in_flight)))

    async def _call(self, client: AsyncClient, supply: Iterator[dict[str, Any]]) -> None:
        while not self._ended.is_set():
            begun = time.monotonic()
            try:
                answer = await client.predict(self._model, next(supply), timeout=10)
            except ScorelineError as error:
                self.phases[-1].failures[str(error)] += 1
            else:
                self.phases[-1].versions[answer.version] += 1
            phase = self.phases[-1]
            phase.slowest_s = max(phase.slowest_s, time.monotonic() - begun)
