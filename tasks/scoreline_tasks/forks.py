"""Keeps a process from forking while one of its threads is loading a version.

A fork copies the moment: a module that was half imported stays half imported in the child, under a
lock whose owner is not there any more. So whoever loads holds the forks up, and a fork waits until
the load is done. The wait is rare: a worker forks when a child has died or is replaced.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_fork() -> Iterator[None]:
    """Let no other thread of this process fork before the end of the block; this one may."""
    gate = _gate()
    gate.close()
    try:
        yield
    finally:
        gate.open()


class _Gate:
    """A lock that every fork takes, and that its child has anew."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        os.register_at_fork(
            before=self.close, after_in_parent=self.open, after_in_child=self._renew
        )

    def close(self) -> None:
        self._lock.acquire()

    def open(self) -> None:
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.RLock()


@functools.cache
def _gate() -> _Gate:
    return _Gate()
