"""What a worker's processes tell each other in shared memory: which drain is in charge, and how long a call may take.

It is made in the main process before it forks. The values are single machine words with one writer each, or of
which the last write counts: they need no lock. Times are the monotonic clock's, which all processes of a machine share.
"""

from __future__ import annotations

import math
import os
import secrets
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import RawArray, RawValue
from types import TracebackType

ON_ITS_WAY_S, LONGEST_WAY_S = 0.25, 10.0
"""Seconds within which a drain that was sent should have begun; twice as many for each that was sent in vain."""
FLOOR_S = 5.0
"""Seconds that every call of a pipeline may take."""
LONGER = 10
"""How many times longer than its version was seen to need a call may take."""
UNKNOWN_ROW_S = 1.0
"""Seconds that a row is taken to need of a version of which no call has returned yet."""
MANY = 64
"""Rows from which on what a call costs besides its rows hardly counts."""
FORGETS = 1000
"""Quick calls after which a slow one is about forgotten."""
VERSIONS, CHILDREN = 256, 1024
NO_MORE = 2**64 - 1
"""A number that no drain has."""


class Charge:
    """Which permanent drain of a worker is in charge, and by when it looks at the queue again.

    A drain says before each batch and each wait by when it will be back. One that is not back scores for long, hangs,
    is stopped or dead, or has lost Redis: the watchdog sends another one, which is in charge when it begins. The old
    one finishes what it has in hand, if it can, and ends; it serves on if the other one has not begun.
    """

    def __init__(self) -> None:
        # Not from 0: a successor that an earlier main process of this worker's name has left is none of ours.
        self._last = secrets.randbits(48)
        self._begun = RawValue("Q", self._last)
        """The drain in charge; written by drains."""
        self._expected = RawValue("Q", self._last)
        """The last one that was sent, which alone is to have successors of its number; written by the main process."""
        self._back_by = RawValue("d", 0.0)
        self._way_s = ON_ITS_WAY_S

    def expect_next(self) -> int:
        """In the main process: number another drain, which is in charge as soon as it begins; returns the number."""
        # One that has not begun may be on its way: what makes it late is not mended by many more.
        has_begun = self._begun.value == self._expected.value
        self._way_s = ON_ITS_WAY_S if has_begun else min(2 * self._way_s, LONGEST_WAY_S)
        self._last += 1
        self._expected.value = self._last
        self.wait(self._way_s)
        return self._last

    def expect_none(self, within_s: float) -> None:
        """In the main process: the drain that was numbered could not be sent; number none for some seconds."""
        self._expected.value = self._begun.value
        self.wait(within_s)

    def end(self) -> None:
        """In the main process, which is told to end: the drain in charge ends within its wait, and none follows it."""
        self._begun.value = NO_MORE
        self.wait(math.inf)

    def begin(self, number: int) -> bool:
        """Put the drain of this number in charge; False if a later one is, or if this worker has not sent it."""
        if not self._begun.value <= number <= self._expected.value:
            return False
        self._begun.value = number
        return True

    def is_held_by(self, number: int) -> bool:
        """Whether no other drain has begun."""
        return bool(number == self._begun.value)

    def is_expected(self, number: int) -> bool:
        """Whether no other drain was sent, so that this one is to have a successor."""
        return bool(number == self._expected.value)

    def promise(self, number: int, within_s: float) -> None:
        """The drain of this number, if it is in charge, looks at the queue again within some seconds."""
        if number == self._begun.value:
            self.wait(within_s)

    def wait(self, within_s: float) -> None:
        """Expect no drain to be back for some seconds."""
        self._back_by.value = time.monotonic() + within_s

    @property
    def is_overdue(self) -> bool:
        """Whether the drain in charge is not back although it should be."""
        return bool(time.monotonic() > self._back_by.value)


class Silence:
    """When a process of a worker last got no reply in time: the connections of all others are likely dead, too."""

    def __init__(self) -> None:
        self._began_at = RawValue("d", 0.0)

    def note(self, for_s: float) -> None:
        """This process has waited for a reply in vain for so long."""
        self._began_at.value = time.monotonic() - for_s

    def was_after(self, connected_at: float) -> bool:
        """Whether the last silence began after these connections were made, in any process."""
        return bool(self._began_at.value > connected_at)


class CallTimes:
    """How long a call of a pipeline may take in a process that serves, by what its version was seen to need.

    A call that takes longer costs its process: the main process ends it, and what it had in hand is scored apart. There
    a request that is alone has `cap_s`, so that no slow version is refused for what another one needs.
    """

    def __init__(self) -> None:
        self.cap_s = 300.0
        """SCORELINE_BATCH_LIMIT_S; set before the first fork."""
        # By version, for calls of few and of many rows. Two versions of one slot have the time of the slower.
        self._row_s = RawArray("d", 2 * VERSIONS)
        self._pids, self._until = RawArray("Q", CHILDREN), RawArray("d", CHILDREN)
        self._first_s = RawArray("d", VERSIONS)
        """By version, how long its first call in a process may take: that may compile code, or import for long."""
        self._first_slot, self._first_limit_s = RawArray("Q", CHILDREN), RawArray("d", CHILDREN)
        """By child whose first call of a version has begun: the version's slot + 1, and the call's limit."""
        self._called: set[str] = set()
        """Not shared: versions of which a call has returned in this process."""
        self._child: int | None = None
        self._thread = 0
        self._call: Call | None = None

    def limit_s(self, version: str, rows: int) -> float:
        """Seconds that a call may take; `version` is a model and its number, such as `pima@3`."""
        few, many = (self._row_s[slot] for slot in _slots(version))
        row_s = (many or few if rows >= MANY else few or many) or UNKNOWN_ROW_S
        first_s = 0.0 if version in self._called else self._first_s[_slots(version)[0]]
        return min(self.cap_s, max(FLOOR_S, LONGER * row_s * rows, first_s))

    def note(self, version: str, rows: int, took_s: float) -> None:
        """A call has returned."""
        slots = _slots(version)
        version_slot, slot = slots[0], slots[rows >= MANY]
        row_s, before_s = took_s / max(1, rows), self._row_s[slot]
        if version not in self._called:
            self._called.add(version)
            longer_s = LONGER * took_s
            # A limit that calls which never returned have raised falls by halves.
            self._first_s[version_slot] = max(
                longer_s, (self._first_s[version_slot] + longer_s) / 2
            )
            if before_s:
                return  # the first call may take far longer than the others
        self._row_s[slot] = row_s if row_s > before_s else before_s - (before_s - row_s) / FORGETS

    def watch(self, child: int) -> None:
        """In a child: from now on its calls have a limit; `child` is its index in the pool."""
        self._child = child if child < CHILDREN else None
        self._thread = threading.get_ident()
        if self._child is not None:
            self._until[child] = 0.0
            self._first_slot[child] = 0
            self._pids[child] = os.getpid()

    def set_limit(self, within_s: float) -> None:
        """In a child: a call has begun, or has ended, if it is 0."""
        if self._child is not None:
            self._until[self._child] = time.monotonic() + within_s if within_s else 0.0

    def is_overdue(self, child: int, pid: int) -> bool:
        """In the main process: whether a child has begun a call that has taken too long."""
        if child >= CHILDREN or self._pids[child] != pid:
            return False
        return bool(0.0 < self._until[child] < time.monotonic())

    def note_ended(self, child: int) -> None:
        """In the main process: a child is ended for its call, which may take twice as long if it was its first one.

        Else a version whose first call takes longer than its limit would cost each child its process.
        """
        self._until[child] = 0.0
        if self._first_slot[child]:
            self._first_s[self._first_slot[child] - 1] = 2 * self._first_limit_s[child]
            self._first_slot[child] = 0

    def timed(self, version: str, rows: int) -> Call:
        """Limit the calls of a pipeline inside the block."""
        return Call(self, version, rows)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait, inside the block, for another thread: where this one scores, that is not its call's time."""
        call, child = self._call, self._child
        is_here = child is not None and self._pids[child] == os.getpid()  # and not in a fork of it
        if call is None or not is_here or threading.get_ident() != self._thread:
            yield
            return
        started = time.monotonic()
        self.set_limit(self.cap_s)
        try:
            yield
        finally:
            call.resume(time.monotonic() - started)


class Call:
    """A call of a pipeline, or several one after the other, each of which has the limit of the first."""

    def __init__(self, times: CallTimes, version: str, rows: int) -> None:
        self._times, self._version, self._rows = times, version, rows
        self._started = 0.0
        self._is_only = True

    def __enter__(self) -> Call:
        times, child = self._times, self._times._child
        times._call = self
        if child is not None and self._version not in times._called:
            times._first_limit_s[child] = times.limit_s(self._version, self._rows)
            times._first_slot[child] = _slots(self._version)[0] + 1
        self.resume(0)
        self._started = time.monotonic()
        return self

    def begin_next(self) -> None:
        """One call has ended, another one begins."""
        self._is_only = False
        self.resume(0)

    def resume(self, waited_s: float) -> None:
        """The call goes on after a wait, with its limit."""
        self._started += waited_s
        self._times.set_limit(self._times.limit_s(self._version, self._rows))

    def note(self) -> None:
        """All rows were answered: note how long that took, if it was in one call."""
        if self._is_only and self._rows:
            self._times.note(self._version, self._rows, time.monotonic() - self._started)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._times.set_limit(0)
        self._times._call = None
        if self._times._child is not None:
            self._times._first_slot[self._times._child] = 0


def _slots(version: str) -> tuple[int, int]:
    slot = zlib.crc32(version.encode()) % VERSIONS
    return slot, slot + VERSIONS
