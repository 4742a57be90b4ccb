"""Which children of a worker are to be replaced, because the main process has loaded something newer.

A child has the versions that the main process had when it forked it, on the very same pages of memory.
So it does not load a newer one: it leaves, and the child that replaces it has it. Those with nothing
to do leave at once. The one that runs the parked drain goes on serving until a newer child is ready,
so that somebody always serves, unless it is the only one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing.sharedctypes import RawValue


class Generations:
    """Numbers in memory that a main process shares with its children; created before it forks."""

    def __init__(self, pid: Callable[[], int] = os.getpid) -> None:
        self._pid = pid
        self._newest = RawValue("Q", 0)
        self._ready = RawValue("Q", 0)
        self._places = RawValue("Q", 0)
        self._parked = RawValue("Q", 0)
        self._own = 0
        """Not shared: a child keeps what its main process had when it forked it."""

    def advance(self, places: int) -> None:
        """In the main process: children forked from now on have something newer."""
        self.note_places(places)
        self._own += 1
        self._newest.value = self._own

    def note_places(self, places: int) -> None:
        """In the main process: how many children there are to be."""
        self._places.value = places

    def note_ready(self) -> None:
        """In a child: it can serve."""
        self._ready.value = max(self._ready.value, self._own)

    def note_parked(self) -> None:
        """In a child: it is the one that runs the parked drain."""
        self._parked.value = self._pid()

    @property
    def is_parked_here(self) -> bool:
        """Whether no other child has run the parked drain since this one did."""
        return bool(self._parked.value == self._pid())

    @property
    def is_alone(self) -> bool:
        """Whether there is to be one child only."""
        return bool(self._places.value <= 1)

    def may_leave(self) -> bool:
        """In a child: whether it is to make room for a newer one, as soon as it has nothing in hand."""
        if self._own >= self._newest.value:
            return False
        return self.is_alone or not self.is_parked_here or bool(self._ready.value > self._own)
