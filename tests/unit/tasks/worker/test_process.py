"""A worker's main process and its children: what is loaded when, and which children exit for a newer version."""

from __future__ import annotations

import gc
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency import asynpool
from redis.exceptions import RedisError

from scoreline_artifacts.loading.process_settings import _gate
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_tasks import celery
from scoreline_tasks.models.registry import Models
from scoreline_tasks.queue.drain import Wakeups
from scoreline_tasks.system import _fork_lock
from scoreline_tasks.worker import process, runtime
from scoreline_tasks.worker.process import SETTLES_EVERY_S, Child, Generations, WorkerProcess
from scoreline_tasks.worker.shared import CHILDREN


def test_a_main_process_replaces_its_children_only_for_what_serves_otherwise(
    models: Models, zero: Callable[[int], LoadedVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[None] = []
    process: Any = WorkerProcess()
    process._models = models
    process._child_count = lambda: 2
    process._background = SimpleNamespace(
        heartbeat=SimpleNamespace(send_now=lambda: reports.append(None))
    )
    newest = process.generations._newest
    monkeypatch.setattr(models, "follow", lambda _within_s: True)  # it has refused something
    process.poll_releases()
    assert (newest.value, len(reports)) == (0, 1)
    monkeypatch.setattr(models, "follow", lambda _within_s: models.add(zero(4)) or True)
    process.poll_releases()
    assert (newest.value, len(reports)) == (1, 2)
    models.unloaded = 3
    assert process.poll_releases()  # at once again


def test_among_many_releases_only_what_came_since_the_first_is_looked_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Version:
        def __init__(self) -> None:
            self.cycle = self

    process = WorkerProcess()
    kept, looked_through = Version(), []
    monkeypatch.setattr(gc, "unfreeze", lambda: looked_through.append("all"))
    try:
        process._settle()
        frozen = gc.get_freeze_count()
        first, second = weakref.ref(kept), weakref.ref(Version())
        del kept
        process._settle()
        assert (looked_through, second(), gc.get_freeze_count()) == (["all"], None, frozen)
        assert first() is not None
        monkeypatch.undo()
        process._settled_at -= SETTLES_EVERY_S
        process._settle()
        assert first() is None
    finally:
        gc.unfreeze()


def test_two_first_tasks_share_one_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)
    built: list[Any] = []

    def build(*_: Any, **__: Any) -> Any:
        # Gives a second builder the time to be here as well.
        with suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.2)
        built.append(SimpleNamespace(start=lambda: None))
        return built[-1]

    monkeypatch.setattr(runtime, "build_runtime", build)
    process: Any = WorkerProcess()
    process._models = SimpleNamespace(load_aside=lambda **_: None)
    process._nursery = SimpleNamespace()
    wakeups = Wakeups(extra_drain=lambda: None)
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(process.runtime(wakeups))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [got[0]]
    assert got[0] is got[1]


def test_a_childs_waits_for_loads_are_no_time_of_its_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for waits in (_gate(), _fork_lock()):
        monkeypatch.setattr(waits, "waiting", nullcontext)
    for limit in ("keep_freed", "limit_process"):
        monkeypatch.setattr(process, limit, lambda *_, **__: None)
    monkeypatch.setattr(process, "current_process", lambda: SimpleNamespace(index=3))
    built = SimpleNamespace(start=lambda: None)
    monkeypatch.setattr(runtime, "build_runtime", lambda *_, **__: built)
    child: Any = WorkerProcess()
    child._main_pid = os.getppid()
    child._models = SimpleNamespace(load_aside=lambda **_: None)
    child._nursery = SimpleNamespace()
    child.runtime(Wakeups(extra_drain=lambda: None))
    with child.call_times.timed("pima@3", 1):
        for waits in (_gate(), _fork_lock()):
            child.call_times.set_limit(-1)
            assert child.call_times.is_overdue(3, os.getpid())
            with waits.waiting():
                assert not child.call_times.is_overdue(3, os.getpid())


def test_the_app_is_imported_without_the_worker(tmp_path: Any) -> None:
    """`celery -A scoreline_tasks inspect` needs neither shared memory nor numpy."""
    code = (
        "import sys, scoreline_tasks.celery, scoreline_tasks.worker.process as process\n"
        "print(process.this_process.cache_info().currsize, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "False"]


def test_the_death_of_a_child_is_noted_before_it_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    main: Any = WorkerProcess()
    main.node = "w@h"
    main.take_over(1)  # nobody supervises yet
    main._supervision = SimpleNamespace(team=SimpleNamespace(take_over=seen.append))
    monkeypatch.setattr(process, "this_process", lambda: main)
    monkeypatch.setattr(
        asynpool.AsynPool, "_join_exited_workers", lambda *_: seen.append("replaced")
    )
    pool: Any = object.__new__(process.Pool)
    pool._pool = [
        SimpleNamespace(pid=number, exitcode=code) for number, code in ((2, None), (3, -9), (4, 0))
    ]
    pool._join_exited_workers()
    assert seen == ["w@h/3", "w@h/4", "replaced"]


@pytest.mark.parametrize("task", [lambda: celery.drain(1), celery.extra_drain])
def test_a_child_without_memory_ends_itself_and_not_its_worker(
    monkeypatch: pytest.MonkeyPatch, task: Callable[[], None]
) -> None:
    """A burst of large requests may be more than it can read; Celery would raise that in the main process, too."""

    def read_a_burst(*_: Any) -> None:
        raise MemoryError

    main = WorkerProcess()
    main._main_pid = os.getpid()
    monkeypatch.setattr(celery, "this_process", lambda: main)
    monkeypatch.setattr(celery, "_runtime", read_a_burst)
    with pytest.raises(MemoryError):
        task()  # of a pool without children, as far as this process knows
    child = os.fork()
    if not child:
        try:
            task()
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


class Worker:
    """A main process and its children, in one process: a fork is a change of what `own` is."""

    def __init__(self, count: int = 2) -> None:
        self.pid = 0
        self.count = count
        self.shared = Generations(lambda: self.pid)
        self.births: dict[int, int] = {0: 0}
        self.busy: set[int] = set()

    def advance(self) -> None:
        self.be(0).advance()
        self.births[0] = self.shared.own

    def fork(self, pid: int, *, is_ready: bool = True) -> None:
        self.births[pid] = self.births[0]
        if is_ready:
            self.be(pid).note_ready()

    def be(self, pid: int) -> Generations:
        """Look at it from a process; a child's place is its number."""
        self.pid = self.shared.index = pid
        self.shared.own = self.births[pid]
        return self.shared

    def exiting(self) -> set[int]:
        pids = [pid for pid in self.births if pid]
        children = [Child(pid, pid, self.births[pid], pid in self.busy) for pid in pids]
        self.be(0).let_leave(children, self.count)
        return {pid for pid in pids if self.be(pid).should_exit()}

    def end(self, pid: int) -> None:
        del self.births[pid]


def started(count: int) -> Worker:
    worker = Worker(count)
    for pid in range(1, count + 1):
        worker.fork(pid)
    worker.be(1).mark_as_drain_owner()
    worker.busy = {1}
    return worker


@pytest.fixture
def worker() -> Worker:
    return started(2)


def test_nobody_exits_while_there_is_nothing_newer(worker: Worker) -> None:
    worker.fork(3)
    assert worker.exiting() == set()


def test_nobody_exits_before_a_newer_one_can_serve(worker: Worker) -> None:
    worker.advance()
    worker.fork(3, is_ready=False)
    assert worker.exiting() == set()
    worker.be(3).note_ready()
    assert worker.exiting() == {2}


def test_the_owner_of_the_drain_exits_after_those_that_have_nothing_to_do(worker: Worker) -> None:
    worker.advance()
    worker.fork(3)
    assert worker.exiting() == {2}
    worker.end(2)
    assert worker.exiting() == set()  # one may take long, and another one listens
    worker.fork(4)
    assert worker.exiting() == {1}


def test_who_scores_for_long_keeps_no_other_one_from_being_replaced(worker: Worker) -> None:
    worker.be(2).mark_as_drain_owner()
    worker.busy = {1, 2}
    worker.advance()
    worker.fork(3)
    assert worker.exiting() == {2}


def test_of_many_all_exit_but_those_that_are_needed() -> None:
    worker = started(4)
    worker.advance()
    worker.fork(5)
    assert worker.exiting() == {2, 3, 4}


def test_a_place_beyond_the_shared_memory_keeps_nobody_from_leaving() -> None:
    worker = started(2)
    worker.births[CHILDREN + 1] = 0
    worker.advance()
    worker.fork(3)
    assert worker.exiting() >= {2, CHILDREN + 1}


def test_an_only_child_exits_when_its_successor_can_serve() -> None:
    worker = started(1)
    worker.advance()
    assert worker.exiting() == set()
    worker.fork(2)
    assert worker.exiting() == {1}


def test_releases_in_a_row_starve_nobody(worker: Worker) -> None:
    worker.advance()
    worker.fork(3)
    worker.advance()
    # Number 3 is outdated already, but can serve while another one is replaced.
    assert worker.exiting()


def test_who_takes_the_place_of_one_that_was_to_leave_is_to_stay(worker: Worker) -> None:
    worker.advance()
    worker.fork(3)
    assert worker.exiting() == {2}
    worker.end(2)
    worker.advance()
    assert not worker.shared.should_exit()


def test_the_owner_of_the_drain_serves_until_another_has_taken_its_drain(worker: Worker) -> None:
    worker.advance()
    worker.fork(3)
    assert worker.be(1).is_drain_owner
    worker.be(3).mark_as_drain_owner()
    assert not worker.be(1).is_drain_owner


# The permanent drain


class Serving:
    """A runtime whose drain does what it is told, one thing for each slice."""

    def __init__(self, *slices: Callable[[], object]) -> None:
        self.slices = list(slices)
        self.settings = SimpleNamespace(slice_s=2.0, batch_limit_s=300.0)
        self.drain = self.connections = self
        self.has_postponed = self.is_interrupted = False
        self.log: list[str] = []

    def serve(self, *_: object, **__: object) -> None:
        self.log.append("serve")
        self.slices.pop(0)()
        self.is_interrupted = False

    def interrupt(self) -> None:
        self.log.append("interrupt")
        self.is_interrupted = True

    def check(self) -> None:
        self.log.append("check")

    def note_error(self, _error: RedisError) -> None:
        self.log.append("reconnect")

    def answer_postponed(self, *_: object) -> None:
        self.log.append("end")


def lost() -> None:
    raise RedisError("away")


@pytest.fixture
def in_charge(monkeypatch: pytest.MonkeyPatch) -> WorkerProcess:
    main = WorkerProcess()
    main.charge.expect_next()
    clock = SimpleNamespace(now=0.0)
    time = SimpleNamespace(
        monotonic=lambda: clock.now,
        sleep=lambda seconds: setattr(clock, "now", clock.now + seconds),
    )
    monkeypatch.setattr(process, "time", time)
    return main


def number_of(main: WorkerProcess) -> int:
    return int(main.charge._expected.value)


def test_a_drain_that_loses_its_connections_makes_them_anew_and_goes_on(
    in_charge: WorkerProcess,
) -> None:
    """Given up, it would leave the queue to nobody, and the other connections to be waited for in vain one by one."""
    runtime: Any = Serving(lost, lost, lambda: None)
    in_charge.run_permanent_drain(
        runtime, number_of(in_charge), lambda: runtime.log.append("successor")
    )
    again = ["serve", "reconnect", "interrupt"]
    assert runtime.log == ["check", *again, *again, "serve", "successor", "end"]


def test_a_drain_that_loses_its_connections_and_its_charge_answers_what_it_had_read(
    in_charge: WorkerProcess,
) -> None:
    def lose_both() -> None:
        in_charge.charge.begin(in_charge.charge.expect_next())
        lost()

    runtime: Any = Serving(lose_both, lambda: None)
    in_charge.run_permanent_drain(runtime, number_of(in_charge), pytest.fail)
    assert runtime.log == ["check", "serve", "reconnect", "interrupt", "serve", "end"]


def test_a_drain_goes_on_for_seconds_while_redis_is_away(in_charge: WorkerProcess) -> None:
    """A warm shutdown waits for it."""
    runtime: Any = Serving(*[lost] * 100)
    in_charge.run_permanent_drain(runtime, number_of(in_charge), pytest.fail)
    assert 3 < runtime.log.count("reconnect") < 20


def test_a_drain_that_comes_back_when_another_is_in_charge_ends_without_a_successor(
    in_charge: WorkerProcess,
) -> None:
    runtime: Any = Serving(lambda: in_charge.charge.begin(in_charge.charge.expect_next()))
    in_charge.run_permanent_drain(runtime, number_of(in_charge), pytest.fail)
    assert runtime.log == ["check", "serve", "end"]


def test_a_drain_serves_on_while_the_one_that_was_sent_in_its_place_has_not_begun(
    in_charge: WorkerProcess,
) -> None:
    """It may be lost on its way. A successor of the older one would be one too many."""
    charge, number = in_charge.charge, number_of(in_charge)
    runtime: Any = Serving(charge.expect_next)
    in_charge.run_permanent_drain(runtime, number, pytest.fail)
    assert charge.is_held_by(number)
    assert runtime.log == ["check", "serve", "end"]
    charge.expect_none(0)
    runtime = Serving(lambda: None)
    in_charge.run_permanent_drain(runtime, number, lambda: runtime.log.append("successor"))
    assert runtime.log == ["check", "serve", "successor", "end"]


class Listening:
    """A runtime of a child without a task, whose drain serves for as long as it is to."""

    def __init__(self, *turns: Callable[[], object]) -> None:
        self.turns = list(turns)
        self.settings = SimpleNamespace(slice_s=2.0, batch_limit_s=300.0)
        self.drain = self.connections = self
        self.log: list[str] = []

    def serve_backlog(self, _slice_s: float, should_exit: Callable[[], bool]) -> None:
        while not should_exit():
            self.log.append("serve")
            self.turns.pop(0)()

    def answer_postponed(self, *_: object) -> None:
        self.log.append("postponed")

    def interrupt(self) -> None:
        self.log.append("interrupt")

    def check(self) -> None:
        pass

    def note_error(self, _error: RedisError) -> None:
        pass


def test_a_child_without_a_task_serves_while_nobody_listens() -> None:
    """The main process may be too busy to put another drain in charge."""
    child: Any = WorkerProcess()
    child.charge.expect_next()
    child._runtime = Listening(lambda: None, lambda: child.charge.wait(60.0))
    child.listen(lambda: False)
    assert child._runtime.log == []  # somebody is on the way
    child.charge.wait(-1.0)
    child.listen(lambda: False)
    assert child._runtime.log == ["serve", "serve", "postponed"]


def test_a_child_that_serves_while_nobody_listens_ends_with_the_next_task() -> None:
    child: Any = WorkerProcess()
    tasks: list[str] = []
    child.charge.wait(-1.0)
    child._runtime = Listening(lambda: tasks.append("drain"))
    child.listen(lambda: bool(tasks))
    assert child._runtime.log == ["serve", "postponed"]


def test_a_child_that_has_lost_redis_asks_for_it_now_and_then() -> None:
    child: Any = WorkerProcess()
    child.charge.wait(-1.0)
    child._runtime = Listening(lost)
    for _ in range(5):
        child.listen(lambda: False)
    assert child._runtime.log == ["serve", "interrupt"]


def test_a_process_that_is_told_to_end_exits_when_it_has_nothing_in_hand(worker: Worker) -> None:
    shared = worker.be(1)
    shared.is_leaving = True
    assert shared.should_exit()


def test_a_process_ends_some_seconds_after_it_is_told_to_although_a_native_call_does_not_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "LEAVES_WITHIN_S", 0.2)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            monkeypatch.setattr(asynpool.Worker, "after_fork", lambda _: None)
            child: Any = process.Worker.__new__(process.Worker)
            child.after_fork()
            child._is_idle = False
            fork = os.fork()
            if fork == 0:  # of a pipeline's: what it is told is its own affair
                time.sleep(30)
                os._exit(1)
            os.kill(fork, signal.SIGTERM)
            time.sleep(0.5)
            os.kill(fork, signal.SIGKILL)
            os.write(writer, b"1")
            hashlib.pbkdf2_hmac("sha256", b"x", b"y", 20_000_000)
        finally:
            os._exit(0)
    os.close(writer)
    assert os.read(reader, 1) == b"1", "it was ended by what its fork was told"
    time.sleep(0.1)
    os.kill(pid, signal.SIGTERM)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
