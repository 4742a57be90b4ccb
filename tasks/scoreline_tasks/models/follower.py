"""Follows the release logs in the background."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import redis

from scoreline_client.protocol.keys import Keys

logger = logging.getLogger(__name__)


class Keeper:
    """A thread that moves a process's models along with their releases.

    The news of a release on Redis only makes it look at once. It looks every `poll_s` anyhow, since
    news get lost, and the artifact store is the truth.
    """

    def __init__(
        self,
        connect: Callable[[], redis.Redis],
        keys: Keys,
        look: Callable[[], None],
        *,
        poll_s: float,
    ) -> None:
        self._redis: Any = connect()
        self._keys = keys
        self._follow = look
        self._poll_s = poll_s
        self._complaint = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scoreline-keeper", daemon=True)

    def start(self) -> None:
        """Start following."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following; the thread is not waited for, since it may be loading: it ends with its process."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._listen()
            # Mostly Redis that is away; whatever it is, releases are followed without news of them.
            except Exception as error:  # noqa: BLE001
                logger.warning("redis_lost: %r; releases are followed by looking", error)
                self._look()
                self._stopped.wait(self._poll_s)

    def _listen(self) -> None:
        with self._redis.pubsub(ignore_subscribe_messages=True) as news:
            news.subscribe(self._keys.releases)
            while not self._stopped.is_set():
                self._look()
                news.get_message(timeout=self._poll_s)

    def _look(self) -> None:
        try:
            self._follow()
        # A store that cannot be read now is read again at the next look; what is loaded serves on.
        except Exception as error:
            complaint = f"{type(error).__name__}: {error}"
            if complaint != self._complaint:
                logger.exception("store_unreadable: the loaded versions go on serving")
            self._complaint = complaint
        else:
            self._complaint = ""
