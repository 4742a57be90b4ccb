"""Which children leave when the main process has something newer, and which serve on meanwhile."""

from __future__ import annotations

import pytest

from scoreline_tasks.worker.generations import Generations


class Worker:
    """A main process and its children, in one process: a fork is a change of what `_own` is."""

    def __init__(self) -> None:
        self.pid = 0
        self.shared = Generations(lambda: self.pid)
        self.births: dict[int, int] = {}

    def advance(self, places: int = 2) -> None:
        self.be(0)
        self.shared.advance(places)
        self.births[0] = self.shared._own

    def fork(self, pid: int) -> None:
        self.births[pid] = self.births.get(0, 0)
        self.be(pid)
        self.shared.note_ready()

    def be(self, pid: int) -> Generations:
        """Look at it from a process."""
        self.pid = pid
        self.shared._own = self.births.get(pid, 0)
        return self.shared

    def leaving(self) -> set[int]:
        return {pid for pid in self.births if pid and self.be(pid).may_leave()}


@pytest.fixture
def worker() -> Worker:
    worker = Worker()
    for pid in (1, 2, 3):
        worker.fork(pid)
    worker.be(1).note_parked()
    return worker


def test_nobody_leaves_while_there_is_nothing_newer(worker: Worker) -> None:
    assert worker.leaving() == set()


def test_all_but_the_one_that_is_parked_leave_at_once(worker: Worker) -> None:
    worker.advance()
    assert worker.leaving() == {2, 3}


def test_the_parked_one_leaves_when_a_newer_one_is_ready(worker: Worker) -> None:
    worker.advance()
    worker.fork(4)
    assert worker.leaving() == {1, 2, 3}


def test_releases_in_a_row_starve_nobody(worker: Worker) -> None:
    worker.advance()
    worker.fork(4)
    worker.advance()
    # Number 4 is outdated already, but newer than the parked one, which need not wait any more.
    assert 1 in worker.leaving()


def test_the_parked_one_serves_until_another_has_taken_its_drain(worker: Worker) -> None:
    worker.advance()
    worker.fork(4)
    assert worker.be(1).is_parked_here
    worker.be(4).note_parked()
    assert not worker.be(1).is_parked_here


def test_an_only_child_leaves_at_once(worker: Worker) -> None:
    worker.advance(places=1)
    assert 1 in worker.leaving()


def test_a_pool_that_shrinks_to_one_child_keeps_it_waiting_for_nobody(worker: Worker) -> None:
    worker.advance()
    assert 1 not in worker.leaving()
    worker.be(0).note_places(1)
    assert 1 in worker.leaving()
