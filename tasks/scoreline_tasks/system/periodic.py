"""A thread that repeats some work every few seconds, whatever one turn of it raises."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

STOP_S = 2.0
"""Seconds that `stop` waits for a turn to end."""


class Periodic:
    """Repeats work in a daemon thread, from `start` to `stop`.

    It runs in the process that starts it: in a fork of that process, `stop` does nothing.
    """

    def __init__(self, name: str, every_s: float, work: Callable[[], object], failure: str) -> None:
        """Prepare to call `work` every `every_s` seconds; `failure` is logged for what it raises."""
        self._every_s = every_s
        self._work = work
        self._failure = failure
        self._last_failure = ""
        self._due = threading.Event()
        self._is_stopped = False
        self._pid = 0
        self._thread = threading.Thread(target=self._run, name=f"scoreline-{name}", daemon=True)

    def start(self) -> None:
        """Start with a first turn."""
        self._pid = os.getpid()
        self._thread.start()

    def trigger(self) -> None:
        """Begin the next turn now."""
        self._due.set()

    def sleep(self) -> None:
        """Wait until the next turn is due, is triggered, or `stop` is called."""
        if not self._is_stopped:
            self._due.wait(self._every_s)

    def stop(self, wait_s: float = STOP_S) -> None:
        """End after the current turn, which is waited for up to `wait_s` seconds."""
        if self._pid != os.getpid():
            return
        self._is_stopped = True
        self._due.set()
        self._thread.join(wait_s)

    def _run(self) -> None:
        while not self._is_stopped:
            self._due.clear()
            try:
                self._work()
            # The next turn tries again: a process without this thread is taken for dead.
            except Exception as error:
                if repr(error) != self._last_failure:
                    logger.exception(self._failure)
                self._last_failure = repr(error)
            else:
                self._last_failure = ""
            self.sleep()
