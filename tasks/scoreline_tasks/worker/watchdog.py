"""Keeps one drain parked on this worker: starts the first one and replaces one that was lost.

Lives in the worker's main process, on Celery's own timer. A drain is lost with the child that ran
it, with its message, or with the broker's memory; all that shows here is that none is in sight.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import bootsteps
from celery.worker import state

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25
MISSING_LOOKS = 3
"""Looks in a row that must miss the drain: its successor is on its way for some milliseconds."""


class Watcher(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step of Celery's consumer, started anew with each connection to the broker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None
        self._missing = MISSING_LOOKS

    def start(self, consumer: Any) -> None:
        """Park the first drain and go on watching."""
        self._missing = MISSING_LOOKS
        self._timer = consumer.timer.call_repeatedly(LOOK_EVERY_S, self.look, (consumer.hostname,))
        self.look(consumer.hostname)

    def stop(self, consumer: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self, node: str) -> None:
        """Send a new drain when none has been in sight for a few looks."""
        from scoreline_tasks.celery import DRAIN, process, send_drain

        try:
            if any(request.name == DRAIN for request in state.reserved_requests):
                self._missing = 0
                return
            self._missing += 1
            if self._missing < MISSING_LOOKS:
                return
            self._missing = 0
            send_drain(node, process.put_in_charge())
        # The broker cannot take it now, or whatever else: the next looks will try again. Celery's loop
        # itself would end with some exceptions.
        except Exception as error:  # noqa: BLE001
            logger.warning("drain_not_sent: %r; requests wait until the broker takes it", error)
