"""Follows the release logs in the background: polls the store, at once when a release is announced."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import redis

from scoreline_client.protocol.keys import Keys
from scoreline_tasks.system.periodic import Periodic

logger = logging.getLogger(__name__)


class ReleaseFollower(Periodic):
    """Calls `poll` every `poll_s` seconds, and whenever Redis brings the news of a release.

    News can get lost, so they only shorten the wait; the artifact store is the truth.
    """

    def __init__(
        self,
        poll: Callable[[], object],
        connect: Callable[[], redis.Redis],
        keys: Keys,
        *,
        poll_s: float,
    ) -> None:
        super().__init__(
            "follower", poll_s, poll, "store_unreadable: the loaded versions continue to serve"
        )
        self._poll_s = poll_s
        self._redis: Any = connect()
        self._keys = keys
        self._news: Any = None

    def stop(self, wait_s: float = 0) -> None:
        """Stop following. A load that has begun is not waited for: it ends with its process."""
        super().stop(wait_s)

    def sleep(self) -> None:
        """Wait for news of a release, up to `poll_s` seconds."""
        try:
            if self._news is None:
                self._news = self._redis.pubsub(ignore_subscribe_messages=True)
                self._news.subscribe(self._keys.releases)
            # Returns at once when it is subscribed: the next poll finds a release that came just before.
            self._news.get_message(timeout=self._poll_s)
        # Mostly Redis that is away; whatever it is, releases are followed without news of them.
        except Exception as error:  # noqa: BLE001
            logger.warning("redis_lost: %r; releases are found by polling alone", error)
            self._news = None
            super().sleep()
