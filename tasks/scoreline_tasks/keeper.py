"""Follows the release logs in the background and reports what this process serves."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
from redis.exceptions import RedisError

from scoreline_client.fleet import ProcessReport, send_report, withdraw_report
from scoreline_client.keys import Keys
from scoreline_tasks.batching import Tally
from scoreline_tasks.models import Models

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 2.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Keeper:
    """A thread that moves a process's models along with their releases.

    The news of a release on Redis only makes it look at once. It looks every `poll_s` anyhow, since
    news get lost, and the artifact store is the truth.
    """

    def __init__(
        self,
        connect: Callable[[], redis.Redis],
        keys: Keys,
        models: Models,
        tally: Tally,
        *,
        name: str,
        poll_s: float,
    ) -> None:
        self._redis: Any = connect()
        self._keys = keys
        self._models = models
        self._tally = tally
        self._name = name
        self._poll_s = poll_s
        self._started_at = time.time()
        self._reported_at = float("-inf")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scoreline-keeper", daemon=True)

    def start(self) -> None:
        """Start following."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following and withdraw the report."""
        self._stopped.set()
        self._thread.join(timeout=self._poll_s + 1)
        try:
            withdraw_report(self._redis, self._keys, self._name)
        except RedisError as error:
            logger.debug("report_not_withdrawn: %s; it expires by itself", error)

    def report(self) -> ProcessReport:
        """What this process says of itself now."""
        return ProcessReport(
            name=self._name,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at,
            reported_at=time.time(),
            models=self._models.report(),
            requests=self._tally.requests,
            records=self._tally.records,
            batches=self._tally.batches,
            rss_bytes=_resident_bytes(),
        )

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._listen()
            except RedisError as error:
                logger.warning("redis_lost: %s; releases are followed by looking", error)
                self._look()
                self._stopped.wait(self._poll_s)

    def _listen(self) -> None:
        with self._redis.pubsub(ignore_subscribe_messages=True) as news:
            news.subscribe(self._keys.releases)
            while not self._stopped.is_set():
                changed = self._look()
                if changed or time.monotonic() - self._reported_at > REPORT_EVERY_S:
                    send_report(self._redis, self._keys, self.report())
                    self._reported_at = time.monotonic()
                news.get_message(timeout=self._poll_s)

    def _look(self) -> bool:
        try:
            return self._models.follow()
        # A store that cannot be read now is read again at the next look; what is loaded serves on.
        except Exception:
            logger.exception("store_unreadable: the loaded versions go on serving")
            return False


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - no path to build
            return int(statm.read().split()[1]) * PAGE_BYTES
    except OSError:
        return 0  # not Linux: the report goes without
