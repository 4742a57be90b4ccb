"""Forks of a process with threads: none in the middle of a load, and no lock stays shut in a child.

A fork copies the moment: a module that was half imported stays half imported in the child, under a
lock whose owner is not there any more. So whoever loads holds the forks up, and a fork waits until
the load is done. The wait is rare: a worker forks when a child has died or is replaced.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Renewable(Protocol):
    """Something with locks of its own."""

    def forked(self) -> None:
        """In a child: have the locks anew, since the threads that may have held them are not there."""


@contextmanager
def no_fork() -> Iterator[None]:
    """Let no other thread of this process fork before the end of the block; this one may."""
    gate = _gate()
    gate.close()
    try:
        yield
    finally:
        gate.open()


def renew_in_forks(renewable: Renewable) -> None:
    """Have something renewed in every fork of this process, for as long as it is alive."""
    _gate().renewables.add(renewable)


class _Gate:
    """A lock that every fork takes, and that its child has anew."""

    def __init__(self) -> None:
        self.renewables: weakref.WeakSet[Renewable] = weakref.WeakSet()
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
        for one in list(self.renewables):
            one.forked()


@functools.cache
def _gate() -> _Gate:
    return _Gate()
