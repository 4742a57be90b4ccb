"""Whatever is lost, late, stuck or dead, and in whatever order: as long as a process is free, somebody listens again.

A model of a worker's processes, messages and watchdog around the real `Charge`; Hypothesis chooses what happens.
A process here goes through the steps of `WorkerProcess.run_permanent_drain`, one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scoreline_tasks.queue.drain import BATCH_S, LATE_S, WAIT_MS
from scoreline_tasks.worker import shared
from scoreline_tasks.worker.shared import LONGEST_WAY_S, ON_ITS_WAY_S, Charge

CHECK_S = 0.05
SOON_S = 2 * LONGEST_WAY_S + 5
"""Within which somebody listens once nothing more goes wrong: a way that was doubled in vain is waited for first."""


@dataclass
class Process:
    """A process of the pool: free, serving as the drain of a number, or stuck while it does."""

    number: int | None = None
    is_stuck: bool = False


class Wakeups(RuleBasedStateMachine):
    """A worker in which everything may happen between two steps of anybody."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._clock = mock.patch.object(shared, "time", self)
        self._clock.start()
        self.charge = Charge()
        self.messages: list[int] = []
        self.waiting = 0

    def monotonic(self) -> float:
        """The clock of all processes."""
        return self.now

    @initialize(count=st.integers(1, 3))
    def start(self, count: int) -> None:
        self.processes = [Process() for _ in range(count)]
        self.check()

    # What happens by itself

    @rule()
    def check(self) -> None:
        """The watchdog looks."""
        reserved = len(self.messages) + sum(one.number is not None for one in self.processes)
        if self.charge.is_overdue and reserved < len(self.processes):
            self.messages.append(self.charge.expect_next())

    @rule()
    def deliver(self) -> None:
        """A free process takes the oldest message."""
        free = [one for one in self.processes if one.number is None]
        if free and self.messages:
            number = self.messages.pop(0)
            if self.charge.begin(number):
                free[0].number = number

    @rule(place=st.integers(0, 2))
    def look(self, place: int) -> None:
        """A drain reads the queue, and answers what waits there at once."""
        process = self._serving(place)
        if process is None or process.number is None:
            return
        if not self.charge.is_held_by(process.number):
            process.number = None
            return
        self.charge.promise(process.number, WAIT_MS / 1000 + LATE_S)
        self.waiting = 0

    @rule(place=st.integers(0, 2), sent=st.booleans())
    def end_slice(self, place: int, sent: bool) -> None:
        """A drain hands over to its successor, or keeps serving where the broker takes no message."""
        process = self._serving(place)
        if process is None or process.number is None:
            return
        if not self.charge.is_held_by(process.number):
            process.number = None
            return
        self.charge.promise(process.number, ON_ITS_WAY_S)
        if not self.charge.is_expected(process.number):
            process.number = None
        elif sent:
            self.messages.append(process.number)
            process.number = None

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.2, 0.6, 3.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def submit(self) -> None:
        self.waiting += 1

    # What goes wrong

    @rule(place=st.integers(0, 2))
    def score_for_long(self, place: int) -> None:
        """A drain begins a batch, and is not back."""
        process = self._serving(place)
        if process is not None and process.number is not None:
            self.charge.promise(process.number, BATCH_S)
            process.is_stuck = True

    @rule(place=st.integers(0, 2))
    def come_back(self, place: int) -> None:
        if place < len(self.processes):
            self.processes[place].is_stuck = False

    @rule(place=st.integers(0, 2))
    def die(self, place: int) -> None:
        """A process is killed, and another takes its place."""
        if place < len(self.processes):
            self.processes[place] = Process()

    @precondition(lambda self: self.messages)
    @rule()
    def lose_message(self) -> None:
        self.messages.pop()

    @precondition(lambda self: self.messages)
    @rule()
    def repeat_message(self) -> None:
        self.messages.append(self.messages[0])

    # What holds

    def _serving(self, place: int) -> Process | None:
        process = self.processes[place] if place < len(self.processes) else None
        return None if process is None or process.is_stuck else process

    @invariant()
    def no_number_of_the_future_is_served(self) -> None:
        for process in getattr(self, "processes", []):
            if process.number is not None:
                assert process.number <= self.charge._expected.value

    def teardown(self) -> None:
        try:
            if any(not one.is_stuck for one in self.processes):
                self.waiting += 1
                self._let_run()
                assert not self.waiting, (self.processes, self.messages)
        finally:
            self._clock.stop()

    def _let_run(self) -> None:
        """Nothing more goes wrong; those that are stuck stay so."""
        until = self.now + SOON_S
        while self.now < until and self.waiting:
            self.now += CHECK_S
            self.check()
            self.deliver()
            for place in range(len(self.processes)):
                self.look(place)


TestWakeups = Wakeups.TestCase
TestWakeups.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
