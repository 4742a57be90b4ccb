"""Reports every few seconds what this process is and serves."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis
from redis.exceptions import RedisError

from scoreline_client.fleet import ProcessReport, send_report, withdraw_report
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.models.registry import Models
from scoreline_tasks.scoring.batch import Totals
from scoreline_tasks.system.periodic import STOP_S, Periodic

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 2.0


class Heartbeat(Periodic):
    """Reports from a thread of its own: a process that loads something for minutes is alive, too."""

    def __init__(
        self,
        connect: Callable[[], redis.Redis],
        keys: Keys,
        models: Models,
        *,
        name: str,
        totals: Totals | None = None,
        parent: str | None = None,
        child_count: Callable[[], int] = lambda: 0,
    ) -> None:
        """`parent` names the main process's report, `child_count` counts those of a main process."""
        super().__init__(
            "heartbeat", REPORT_EVERY_S, self.send, "report_failed: this process may look dead"
        )
        self._redis: Any = connect()
        self._keys = keys
        self._models = models
        self._totals = totals or Totals()
        self._name = name
        self._parent = parent
        self._child_count = child_count
        self._started_at = time.time()

    def send_now(self) -> None:
        """Report at once, since something has changed."""
        self.trigger()

    def stop(self, wait_s: float = STOP_S) -> None:
        """Stop reporting and withdraw the report."""
        super().stop(wait_s)
        try:
            withdraw_report(self._redis, self._keys, self._name)
        except RedisError as error:
            logger.debug("report_not_withdrawn: %s; it expires by itself", error)

    def send(self) -> None:
        """Send one report."""
        try:
            send_report(self._redis, self._keys, self.report())
        except RedisError as error:
            logger.debug("report_not_sent: %s; the next one is due soon", error)

    def report(self) -> ProcessReport:
        """What this process is and serves now."""
        rss_bytes = 0  # where there is no /proc, the report goes without
        with suppress(OSError), open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
            rss_bytes = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return ProcessReport(
            name=self._name,
            host=socket.gethostname(),
            pid=os.getpid(),
            parent=self._parent,
            children=self._child_count(),
            started_at=self._started_at,
            reported_at=time.time(),
            models=self._models.report(),
            requests=self._totals.requests,
            records=self._totals.records,
            batches=self._totals.batches,
            rss_bytes=rss_bytes,
        )
