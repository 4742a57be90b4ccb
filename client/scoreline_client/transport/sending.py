"""Requests that are on their way, and how many of them leave in one call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Request

REQUESTS_AT_ONCE = 256
BYTES_AT_ONCE = 1 << 20
LARGE_BYTES = 1 << 16
"""A larger request is sent by itself, without a script: a script has its own copy of all it is given."""


class Waiting:
    """A request whose answer is awaited."""

    __slots__ = ("future", "job_ttl_ms", "lane", "repeated", "request", "since", "weight")

    def __init__(
        self,
        request: Request,
        lane: Lane,
        future: asyncio.Future[Answer],
        job_ttl_ms: int,
        weight: int,
    ) -> None:
        self.request = request
        self.lane = lane
        self.future = future
        self.job_ttl_ms = job_ttl_ms
        self.weight = weight
        """How many callers share it."""
        self.since = time.monotonic()
        self.repeated = False
        """Whether it may be queued twice; then its result must stay, or there would be a second."""

    @property
    def is_large(self) -> bool:
        """Whether it is sent by itself; a job's record must be written together with its entry."""
        return len(self.request.body) > LARGE_BYTES and not self.job_ttl_ms


def parts_of(waiting: list[Waiting]) -> Iterable[list[Waiting]]:
    """Slices that neither block the server for long nor fill its buffers; large requests alone."""
    part: list[Waiting] = []
    size = 0
    for one in waiting:
        if one.is_large:
            yield [one]
            continue
        if part and (len(part) >= REQUESTS_AT_ONCE or size > BYTES_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one.request.body)
    if part:
        yield part
