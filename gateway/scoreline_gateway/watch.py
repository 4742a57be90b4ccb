"""The queue at a glance, read every two seconds while somebody watches, once for all who do."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace

import msgspec
from redis.exceptions import RedisError

from scoreline_client.errors import ScorelineError
from scoreline_client.overview import Glance, Overview
from scoreline_client.protocol.keys import Keys
from scoreline_client.protocol.messages import WireError
from scoreline_client.transport.servers import blocking_redis
from scoreline_gateway.settings import GatewaySettings

logger = logging.getLogger(__name__)

EVERY_S = 2.0
REPLY_S = 2.0
LINGERS_S = 60.0
"""Seconds for which reading goes on after the last viewer has gone, so that whoever comes back sees rates at once."""
MOST_WORKERS = 100
LONGEST = 500
"""Characters of a reason."""


class Watch:
    """Reads the queue while it is watched, and gives each viewer the newest glance as a server-sent event."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._event = b""
        self._number = 0
        """The number of the newest reading; a viewer waits for one that it has not seen."""
        self._next_reading = asyncio.Event()
        """Replaced with each reading."""
        self._left_at = 0.0
        self._reading: asyncio.Task[None] | None = None
        self.viewers = 0

    async def events(self) -> AsyncGenerator[bytes]:
        """The newest glance now and after each reading; a slow viewer misses the glances in between."""
        self.viewers += 1
        try:
            if self._reading is None or self._reading.done():
                self._event = b""
                self._reading = asyncio.create_task(self._read_on())
            seen_number = 0
            while True:
                next_reading = self._next_reading
                if self._event and self._number > seen_number:
                    seen_number = self._number
                    yield self._event
                else:
                    await next_reading.wait()
        finally:
            self.viewers -= 1
            self._left_at = time.monotonic()

    async def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read_on(self) -> None:
        redis = blocking_redis(
            self._settings.redis_url, socket_timeout=REPLY_S, socket_connect_timeout=REPLY_S
        )
        overview = Overview(redis, Keys(self._settings.queue))
        trouble = ""
        try:
            while self.viewers or time.monotonic() - self._left_at < LINGERS_S:
                began = time.monotonic()
                try:
                    glance = await asyncio.to_thread(overview.look)
                    self._event, trouble = b"event: glance\ndata: %b\n\n" % encode(glance), ""
                # The address of the server is the operator's business, and its words may tell it.
                except (RedisError, WireError, ScorelineError, OSError) as error:
                    if str(error) != trouble:
                        logger.warning("queue_not_read: %s; viewers see the last glance", error)
                    trouble = str(error)
                    data = {
                        "message": "Redis is away or refuses to be read; the gateway's log says why"
                    }
                    self._event = b"event: trouble\ndata: %b\n\n" % msgspec.json.encode(data)
                self._number += 1
                finished, self._next_reading = self._next_reading, asyncio.Event()
                finished.set()
                await asyncio.sleep(max(0.1, EVERY_S - (time.monotonic() - began)))
        finally:
            with suppress(RedisError):
                redis.close()


def encode(glance: Glance) -> bytes:
    """A glance as JSON, on one line; long lists and texts are cut."""
    history = {
        str(step): [
            [point.at]
            + [
                n
                for lane in point.lanes.values()
                for n in (lane.waiting, round(1000 * lane.oldest_waiting_s))
            ]
            for point in points
        ]
        for step, points in glance.history.items()
    }
    left_out = glance.workers[MOST_WORKERS:]
    short = replace(
        glance,
        history={},
        workers=glance.workers[:MOST_WORKERS],
        releases=[
            replace(release, refused=release.refused and release.refused[:LONGEST])
            for release in glance.releases
        ],
        letters=[replace(letter, reason=letter.reason[:LONGEST]) for letter in glance.letters],
    )
    content = msgspec.to_builtins(short) | {"history": history, "workers_left_out": len(left_out)}
    return msgspec.json.encode(content)
