"""Reports what this process is and serves, every few seconds."""

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
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.models.registry import Models
from scoreline_tasks.scoring.batch import Totals

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 2.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
STOP_S = 2.0


class Reporter:
    """A thread of its own: a process that loads something for minutes is alive all the same."""

    def __init__(
        self,
        connect: Callable[[], redis.Redis],
        keys: Keys,
        models: Models,
        *,
        name: str,
        totals: Totals | None = None,
        parent: str | None = None,
        children: Callable[[], int] = lambda: 0,
    ) -> None:
        """`parent` names the main process's report, `children` counts those of a main process."""
        self._redis: Any = connect()
        self._keys = keys
        self._models = models
        self._totals = totals or Totals()
        self._name = name
        self._parent = parent
        self._children = children
        self._started_at = time.time()
        self._complaints: dict[str, str] = {}
        """Failures that last, by name, so that none is logged again every few seconds."""
        self._stopped = False
        self._due = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scoreline-reporter", daemon=True)

    def start(self) -> None:
        """Start reporting."""
        self._thread.start()

    def tell(self) -> None:
        """Report now: something has changed."""
        self._due.set()

    def stop(self) -> None:
        """Stop reporting and withdraw the report."""
        self._stopped = True
        self._due.set()
        self._thread.join(timeout=STOP_S)
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
            parent=self._parent,
            children=self._children(),
            started_at=self._started_at,
            reported_at=time.time(),
            models=self._models.report(),
            requests=self._totals.requests,
            records=self._totals.records,
            batches=self._totals.batches,
            rss_bytes=_resident_bytes(),
        )

    def _run(self) -> None:
        while not self._stopped:
            self._due.clear()
            # Here too, since a process whose releases the main one follows has nobody else to do it.
            self._attempt("let_go", self._models.let_go)
            self._attempt("report", lambda: send_report(self._redis, self._keys, self.report()))
            self._due.wait(REPORT_EVERY_S)

    def _attempt(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except RedisError as error:
            logger.debug("report_not_sent: %s; the next one comes soon", error)
        # A process without reports counts as gone while it serves, so this thread outlives any failure.
        except Exception as error:
            complaint = f"{type(error).__name__}: {error}"
            if complaint != self._complaints.get(name):
                logger.exception("%s_failed: it is tried again soon", name)
            self._complaints[name] = complaint
        else:
            self._complaints.pop(name, None)


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - no path to build
            return int(statm.read().split()[1]) * PAGE_BYTES
    except OSError:
        return 0  # not Linux: the report goes without
