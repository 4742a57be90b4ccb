"""Keeps one permanent drain running on this worker: starts the first, and another when it was lost.

It lives in the worker's main process, on Celery's own timer. A drain is lost with the child that ran it,
with its message, or with the broker's memory. Here, all of that looks the same: no drain is in sight.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from celery import bootsteps
from celery.worker import state

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 0.25
MISSED_CHECKS = 3
"""Checks in a row that must miss the drain: for some milliseconds its successor is on its way."""


class Watchdog(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step of Celery's consumer, started anew with each connection to the broker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    task_name: ClassVar[str]
    """The Celery task that is the permanent drain."""

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None
        self._missed = MISSED_CHECKS

    def send_drain(self, node: str) -> None:
        """Send a drain that replaces all earlier ones of this worker."""
        raise NotImplementedError

    def start(self, consumer: Any) -> None:
        """Start the first drain, and check from now on."""
        self._missed = MISSED_CHECKS
        self._timer = consumer.timer.call_repeatedly(
            CHECK_EVERY_S, self.check, (consumer.hostname,)
        )
        self.check(consumer.hostname)

    def stop(self, consumer: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Stop checking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def check(self, node: str) -> None:
        """Send a new drain when none has been in sight for a few checks."""
        try:
            if any(request.name == self.task_name for request in state.reserved_requests):
                self._missed = 0
                return
            self._missed += 1
            if self._missed >= MISSED_CHECKS:
                self._missed = 0
                self.send_drain(node)
        # Mostly a broker that takes no message now. The next checks try again, whatever it is: some
        # exceptions would end Celery's own loop.
        except Exception as error:  # noqa: BLE001
            logger.warning("drain_not_sent: %r; requests wait until the broker takes it", error)
