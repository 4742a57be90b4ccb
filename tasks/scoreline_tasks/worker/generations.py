"""Which children of a worker are replaced after the main process has loaded something newer.

A child has the versions that its main process had at the fork, on the same pages of memory. So it does not
load a newer version: it exits, and the child that replaces it has that version.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing.sharedctypes import RawValue


class Generations:
    """Counters in memory that a main process shares with its children; created before it forks.

    A generation is the number of times the main process had loaded something when it forked a child::

        main process   advance: newest += 1
                           |
        child             CURRENT                own == newest
                           |  advance
                           v
                          OUTDATED               own < newest
                           |  has no permanent drain: exits at once
                           |  owns it, is the only child: exits at once
                           |  owns it, has siblings: serves until a newer child is ready
                           v
                          exits between two tasks; the pool forks its successor, which is CURRENT

    So some child always serves, unless there is to be only one. The numbers are single machine words with
    one writer each, or of which the last write counts: they need no lock.
    """

    def __init__(self, pid: Callable[[], int] = os.getpid) -> None:
        self._pid = pid
        self._newest = RawValue("Q", 0)
        """The generation of children that are forked from now on; written by the main process."""
        self._ready = RawValue("Q", 0)
        """The newest generation of which a child can serve; written by children."""
        self._child_count = RawValue("Q", 0)
        """How many children the pool is to have; written by the main process."""
        self._drain_owner = RawValue("Q", 0)
        """Process id of the child that last began the permanent drain; written by children."""
        self._own = 0
        """Not shared: a child keeps the value that its main process had at the fork."""

    def advance(self, child_count: int) -> None:
        """In the main process: children forked from now on have something newer."""
        self.note_child_count(child_count)
        self._own += 1
        self._newest.value = self._own

    def note_child_count(self, child_count: int) -> None:
        """In the main process: how many children there are to be."""
        self._child_count.value = child_count

    def note_ready(self) -> None:
        """In a child: it can serve."""
        self._ready.value = max(self._ready.value, self._own)

    def mark_as_drain_owner(self) -> None:
        """In a child: it runs the permanent drain from now on."""
        self._drain_owner.value = self._pid()

    @property
    def is_drain_owner(self) -> bool:
        """Whether no other child has begun the permanent drain since this one did."""
        return bool(self._drain_owner.value == self._pid())

    @property
    def is_only_child(self) -> bool:
        """Whether there is to be one child only."""
        return bool(self._child_count.value <= 1)

    def should_exit(self) -> bool:
        """In a child: whether it is to exit, as soon as it has nothing in hand."""
        if self._own >= self._newest.value:
            return False
        return self.is_only_child or not self.is_drain_owner or bool(self._ready.value > self._own)
