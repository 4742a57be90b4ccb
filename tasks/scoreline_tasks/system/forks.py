"""Forks of a process with threads: none happens during a load, and no lock stays locked in a child.

A fork copies one moment of its process. A module that another thread is importing stays half imported in
the child, behind a lock whose owner does not exist there. So a load holds `fork_guard`, and a fork waits
until the load is done. The wait is rare: a worker forks when a child has died or is replaced.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Renewable(Protocol):
    """An object with locks of its own."""

    def forked(self) -> None:
        """In a child: replace the locks, since the threads that may hold them do not exist there."""


@contextmanager
def fork_guard() -> Iterator[None]:
    """Keep all other threads of this process from forking inside the block."""
    lock = _fork_lock()
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def renew_in_forks(renewable: Renewable) -> None:
    """Call `renewable.forked()` in every fork of this process, for as long as the object is alive."""
    _fork_lock().renewables.add(renewable)


def parent_death_hook() -> Callable[[], None]:
    """A function for a new process to call, so that it is killed as soon as this process ends.

    This holds even when this process is killed itself. The kernel ties it to the thread that forks: when
    that thread ends, the new process is killed, too. Where there is no such mechanism (macOS) the function
    does nothing. All lookups are made here, since little may be done between a fork and an exec.
    """
    parent = os.getpid()
    prctl = getattr(ctypes.CDLL(None), "prctl", None)

    def die_with_parent() -> None:
        if prctl is None:
            return
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            os._exit(1)  # the parent died before its death could be a signal

    return die_with_parent


class ForkLock:
    """A lock that every fork of this process takes, and that is new in the child."""

    def __init__(self) -> None:
        self.renewables: weakref.WeakSet[Renewable] = weakref.WeakSet()
        self._lock = threading.RLock()
        os.register_at_fork(
            before=self.acquire, after_in_parent=self.release, after_in_child=self._renew
        )

    def acquire(self) -> None:
        """Wait until no other thread loads or forks."""
        self._lock.acquire()

    def release(self) -> None:
        """Let other threads fork again."""
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.RLock()
        for renewable in list(self.renewables):
            renewable.forked()


@functools.cache
def _fork_lock() -> ForkLock:
    return ForkLock()
