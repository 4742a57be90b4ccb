"""Which children exit when the main process has something newer, and which continue to serve meanwhile."""

from __future__ import annotations

import pytest

from scoreline_tasks.worker.generations import Generations


class Worker:
    """A main process and its children, in one process: a fork is a change of what `_own` is."""

    def __init__(self) -> None:
        self.pid = 0
        self.shared = Generations(lambda: self.pid)
        self.births: dict[int, int] = {}

    def advance(self, child_count: int = 2) -> None:
        self.be(0)
        self.shared.advance(child_count)
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

    def exiting(self) -> set[int]:
        return {pid for pid in self.births if pid and self.be(pid).should_exit()}


@pytest.fixture
def worker() -> Worker:
    worker = Worker()
    for pid in (1, 2, 3):
        worker.fork(pid)
    worker.be(1).mark_as_drain_owner()
    return worker


def test_nobody_exits_while_there_is_nothing_newer(worker: Worker) -> None:
    assert worker.exiting() == set()


def test_all_but_the_owner_of_the_drain_exit_at_once(worker: Worker) -> None:
    worker.advance()
    assert worker.exiting() == {2, 3}


def test_the_owner_of_the_drain_exits_when_a_newer_one_is_ready(worker: Worker) -> None:
    worker.advance()
    worker.fork(4)
    assert worker.exiting() == {1, 2, 3}


def test_releases_in_a_row_starve_nobody(worker: Worker) -> None:
    worker.advance()
    worker.fork(4)
    worker.advance()
    # Number 4 is outdated already, but newer than the owner of the drain, which need not wait any more.
    assert 1 in worker.exiting()


def test_the_owner_of_the_drain_serves_until_another_has_taken_its_drain(worker: Worker) -> None:
    worker.advance()
    worker.fork(4)
    assert worker.be(1).is_drain_owner
    worker.be(4).mark_as_drain_owner()
    assert not worker.be(1).is_drain_owner


def test_an_only_child_exits_at_once(worker: Worker) -> None:
    worker.advance(child_count=1)
    assert 1 in worker.exiting()


def test_a_pool_that_shrinks_to_one_child_keeps_it_waiting_for_nobody(worker: Worker) -> None:
    worker.advance()
    assert 1 not in worker.exiting()
    worker.be(0).note_child_count(1)
    assert 1 in worker.exiting()
