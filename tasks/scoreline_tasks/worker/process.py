"""A worker's processes: the main process, its children, and the pool that replaces a child.

The main process loads the released models and forks. Each child builds its runtime around the models that it
inherited. Meanwhile the main process follows the releases and loads new versions. A child does not load a
newer version: it exits, and the child that replaces it has that version on the same pages of memory as the
main process (see `Generations`). A pool that does not fork serves in the main process, which then switches
to the new version by itself.

A child exits only between two tasks, when it has nothing in hand, and others are there to serve: the pool sends a task
that it had not read yet to another child. `EX_RECYCLE` is the exit code of a child that ends in order, as after
`--max-tasks-per-child`; the pool replaces it at once and logs nothing.

Of each worker one task is the permanent drain: at the end of its slice of time it sends its successor. Shared memory
says which drain is in charge (`Charge`): the watchdog puts another in charge when that one does not come back, and
until then children without a task serve.
"""

from __future__ import annotations

import functools
import gc
import logging
import math
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.sharedctypes import RawArray, RawValue
from typing import TYPE_CHECKING, Any

from billiard import current_process
from billiard.pool import EX_RECYCLE
from celery.concurrency import asynpool, prefork
from redis.exceptions import RedisError

from scoreline_tasks.settings import WorkerSettings
from scoreline_tasks.system import (
    REPLY_S,
    fork_guard,
    is_stopped,
    keep_freed,
    limit_process,
    settle,
    share_memory,
    trim,
    watch_forks,
)
from scoreline_tasks.worker.shared import CHILDREN, ON_ITS_WAY_S, CallTimes, Charge, Silence

if TYPE_CHECKING:
    # Not earlier than configure(): they import numpy.
    from scoreline_tasks.models.registry import Models
    from scoreline_tasks.queue.drain import Wakeups
    from scoreline_tasks.worker.nursery import Nursery
    from scoreline_tasks.worker.runtime import Background, Connections, Runtime, Supervision

logger = logging.getLogger(__name__)

AT_LEAST = 2
"""Children that are there while others are replaced: one may score for long, and another one listens."""
HANDOVER_S = 1.0
"""Seconds within which another child should have begun the permanent drain of one that exits."""
CHILD_OOM_SCORE = 300
"""A machine without memory ends a process that scores before a main process, or a server beside it."""
GOES_ON_S = 5.0
"""Seconds for which a drain that has lost Redis goes on trying; then its process is free for other tasks."""
WORKED_S = 1.2 * REPLY_S
"""Seconds of work after which a loss of Redis is another one: the work has had Redis meanwhile."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
"""Seconds between two tries of a drain that has lost Redis."""
SHOWN_MODELS = 20
"""Versions that a worker names at its start."""
PRELOAD_S = 1.5
"""Seconds after which a worker that starts begins to load no further version before it serves, unless few are left."""
FEW_MODELS = 3
"""Versions that are waited for in any case: loading them is quicker than replacing the children once more."""
FOLLOW_S = 5.0
"""The same for a worker that serves: how long its children, which are then replaced, wait for what was loaded."""
FORK_AGAIN_S = 1.0
"""Seconds until another fork is tried after one that the system has refused."""
SETTLES_EVERY_S = 60.0
"""Seconds between two collections of all garbage in a main process."""
LEAVES_WITHIN_S = 10
"""Seconds that a process has to finish what it has in hand when it is told to end."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@functools.cache
def this_process() -> WorkerProcess:
    """The state of this process. A worker's main process makes it at its start, before it forks."""
    return WorkerProcess()


class WorkerProcess:
    """A worker's main process, or one of its children."""

    def __init__(self) -> None:
        self.node = "scoreline"
        """The Celery worker's name."""
        self.instance = secrets.token_hex(4)
        """Tells this worker from others of its name, earlier ones or ones that run beside it."""
        self.server: str | None = None
        """What the server is, such as `Redis 7.2.4`; None if it was not reached at the start."""
        self.cautions: list[str] = []
        """What an operator is to be warned of, as soon as the worker is ready."""
        self._has_told = False
        self.generations = Generations()
        self.charge = Charge()
        self.call_times = CallTimes()
        self.silence = Silence()
        self._main_pid = os.getpid()
        self._models: Models | None = None
        self._nursery: Nursery | None = None
        self._child_count: Callable[[], int] | None = None
        """In a main process whose children score: how many there are to be."""
        self._background: Background | None = None
        self._background_pid = 0
        self._supervision: Supervision | None = None
        self._runtime: Runtime | None = None
        self._listens_from = 0.0
        """When a child without a task that has lost Redis may listen again."""
        self._settled_at = -math.inf
        self._building = threading.Lock()

    def configure(self, node: str) -> None:
        """Before numpy is imported: set one thread for each numeric library, unless the operator did.

        The processes of a worker run in parallel; more threads would only compete with them.
        """
        self.node = node
        for variable in THREADS:
            os.environ.setdefault(variable, "1")

    def preload(self, pool: str) -> None:
        """In the main process: load the first released versions, so that the children of a pool share the memory.

        The others follow as releases do, so that a store of many models holds up no request.
        """
        from scoreline_tasks.models.isolated_load import ServedBy
        from scoreline_tasks.worker.runtime import open_models

        self._main_pid = os.getpid()
        settings = WorkerSettings.from_environment()
        self.call_times.cap_s = settings.batch_limit_s
        self._models, self._nursery = open_models(settings, ServedBy(pool))
        self._nursery.start()
        self._nursery.gives_way = False
        self._models.follow(PRELOAD_S, FEW_MODELS)
        self._nursery.gives_way = True
        self._settle()

    def tell(self) -> None:
        """In the main process, once: log what it serves, and what its operator should know."""
        if self._has_told or self._models is None:
            return
        self._has_told = True
        settings = WorkerSettings.from_environment()
        names = [
            f"{model}@{alias}={version}"
            for (model, alias), version in self._models.serving().items()
        ]
        more = max(0, len(names) - SHOWN_MODELS) + self._models.unloaded
        logger.info(
            "worker_serves queue=%s server=%s store=%s models=%s: %s%s",
            settings.queue,
            self.server or "not reached at the start",
            self._models.store,
            settings.models or "all",
            ", ".join(names[:SHOWN_MODELS]) or "no version yet",
            f" and {more} more" if more else "",
        )
        idle = ", ".join(self._models.idle)
        of_models = [f"no released model fits {idle} (SCORELINE_MODELS)"] if idle else []
        for caution in self.cautions + of_models:
            logger.warning("worker_caution: %s", caution)

    def supervise(self, child_count: Callable[[], int]) -> None:
        """In the main process: load new releases for its children, of which there are `child_count()`."""
        from scoreline_tasks.worker.runtime import build_supervision

        if self._child_count is None and self._models is not None and self._nursery is not None:
            self._child_count = child_count
            settings = WorkerSettings.from_environment()
            self._supervision = build_supervision(
                settings,
                self._models,
                self._nursery,
                self.node,
                self.poll_releases,
                child_count,
                self.silence,
            )
            self._start(self._supervision)

    def take_over(self, pid: int) -> None:
        """In the main process: have the requests of a dead or stopped child answered without waiting for a lease."""
        if self.generations.is_owned_by(pid):
            self.charge.wait(0.0)  # another drain is due now
        # While this process starts, and once it stops, there is no rescue. Then the lease decides.
        if self._supervision is not None:
            self._supervision.team.take_over(f"{self.node}/{pid}")

    def runtime(self, wakeups: Wakeups) -> Runtime:
        """In a process that serves: its drain and all that belongs to it, built at the first call."""
        with self._building:
            if self._runtime is None:
                from scoreline_artifacts.loading.process_settings import watch_gate
                from scoreline_tasks.worker.runtime import build_runtime, memory_limit

                is_child = os.getpid() != self._main_pid
                settings = WorkerSettings.from_environment()
                if is_child:
                    share_memory()
                    keep_freed()  # a process that loads versions gives back the memory of a load
                    limit_process(memory_limit(settings), oom_score=CHILD_OOM_SCORE)
                    self.generations.index = current_process().index
                    self.call_times.watch(self.generations.index)
                    # Waits for a version that another thread loads.
                    watch_gate(self.call_times.waiting)
                    watch_forks(self.call_times.waiting)
                # Loaded before anything serves.
                assert self._models is not None  # noqa: S101
                assert self._nursery is not None  # noqa: S101
                runtime = build_runtime(
                    settings,
                    self._models,
                    self._nursery,
                    self.node,
                    wakeups,
                    main_pid=self._main_pid,
                    timed=self.call_times.timed,
                    silence=self.silence,
                    poll=None if is_child else self.poll_releases,
                )
                self._start(runtime)
                self._runtime = runtime
                self._models.load_aside(on_ready=self.generations.note_ready)
            return self._runtime

    def listen(self, has_task: Callable[[], bool]) -> None:
        """In a child without a task: if nobody listens, serve until somebody does, or until there is a task.

        What puts a drain in charge goes through the main process, which may be held up for seconds, as by a release.
        """
        runtime = self._runtime
        if runtime is None or not self.charge.is_overdue or time.monotonic() < self._listens_from:
            return

        def should_exit() -> bool:
            return has_task() or not self.charge.is_overdue or self.generations.should_exit()

        def serve() -> None:
            runtime.drain.serve_backlog(runtime.settings.slice_s, should_exit)
            runtime.drain.answer_postponed(runtime.settings.batch_limit_s, self._is_leaving)

        with self.confines_memory():
            runtime.connections.check()
            if not survives(serve, runtime.connections):
                runtime.drain.interrupt()
                self._listens_from = time.monotonic() + GOES_ON_S

    def leave(self) -> None:
        """In the main process, which is told to end: send no drain any more, and take over nothing."""
        self.charge.end()
        if self._supervision is not None:
            self._supervision.team.is_leaving = True

    @contextmanager
    def confines_memory(self) -> Iterator[None]:
        """Around a task: where a child has no memory left, it ends, and what it had read goes to others.

        Celery raises a task's MemoryError in the main process again, and the whole worker would end.
        """
        try:
            yield
        except MemoryError:
            if os.getpid() == self._main_pid:
                raise
            logger.exception(
                "memory_exhausted: this process ends, and others answer what it had read"
            )
            os._exit(1)

    def _start(self, background: Background) -> None:
        self._background, self._background_pid = background, os.getpid()
        background.start()

    def stop(self) -> None:
        """End the background threads of this process; a child's inherited ones are its main process's."""
        if self._background is not None and self._background_pid == os.getpid():
            self._background.stop()
        if self._nursery is not None and self._main_pid == os.getpid():
            self._nursery.stop()
        self._background = self._runtime = self._supervision = None

    def poll_releases(self) -> bool:
        """Load new releases, have children with other versions replaced, and report the change.

        Returns whether more is left to load.
        """
        if self._models is None or self._background is None:
            return False
        before = self._models.serving()
        changed = self._models.follow(FOLLOW_S)
        if self._child_count is not None and self._models.serving() != before:
            with fork_guard():
                self._settle()
                self.generations.advance()
        if changed:
            self._background.heartbeat.send_now()
        return self._models.unloaded > 0

    def _settle(self) -> None:
        """In a main process that is about to fork: collect garbage.

        Collecting all of it takes a tenth of a second of the machine, and copies of shared pages. So among many releases
        only what is newer than the last full collection is collected: at most one version stays that nobody serves.
        """
        now = time.monotonic()
        if now > self._settled_at + SETTLES_EVERY_S:
            settle()
            self._settled_at = now
        else:
            gc.collect()
            trim()

    def run_permanent_drain(
        self, runtime: Runtime, number: int, send_successor: Callable[[], None]
    ) -> None:
        """Serve for one slice and hand over to a successor, unless another drain was put in charge."""
        charge, generations = self.charge, self.generations
        if not charge.begin(number):
            return
        runtime.connections.check()
        settings, drain = runtime.settings, runtime.drain
        generations.mark_as_drain_owner()
        until = time.monotonic() + settings.batch_limit_s

        def should_exit() -> bool:
            # What a lost reply has brought here, and what waits for a version that is loaded here, comes first.
            if drain.is_interrupted:
                return False
            stays = drain.has_postponed and not generations.is_leaving
            is_outdated = generations.should_exit() and not stays
            return is_outdated or not charge.is_held_by(number)

        def serve(slice_s: float, should_exit: Callable[[], bool]) -> None:
            drain.serve(slice_s, should_exit, promise=partial(charge.promise, number))

        while charge.is_held_by(number) and time.monotonic() < until:
            if not goes_on(lambda: serve(settings.slice_s, should_exit), runtime):
                return
            if drain.has_postponed and not generations.is_leaving:
                continue  # requests wait in this process for a version that it loads
            charge.promise(number, ON_ITS_WAY_S)
            if not charge.is_expected(number):
                break
            try:
                send_successor()
            # The broker takes no message now, perhaps for want of memory that only serving frees.
            except Exception as error:  # noqa: BLE001
                logger.warning("drain_handover_failed: %s; this process keeps serving", error)
                continue
            if generations.should_exit() and not generations.is_leaving:
                # It makes room for a newer child, and serves until that has begun the successor.
                survives(
                    lambda: serve(HANDOVER_S, lambda: not generations.is_drain_owner),
                    runtime.connections,
                )
            break
        postponed_s = until - time.monotonic()
        if not survives(
            lambda: drain.answer_postponed(postponed_s, self._is_leaving), runtime.connections
        ):
            drain.interrupt()

    def _is_leaving(self) -> bool:
        """Whether this process was told to end: other workers then get the requests that wait in it for a version."""
        return self.generations.is_leaving

    def run_extra_drain(self, runtime: Runtime) -> None:
        """Serve for a slice, or until nothing waits any more."""
        drain, settings = runtime.drain, runtime.settings

        def serve() -> None:
            drain.serve_backlog(settings.slice_s, self.generations.should_exit)
            drain.answer_postponed(settings.batch_limit_s, self._is_leaving)

        runtime.connections.check()
        goes_on(serve, runtime)


def goes_on(serve: Callable[[], object], runtime: Runtime) -> bool:
    """Do a drain's work, and again over new connections where those are lost; False where Redis stays away."""
    lost_at, pause_s = 0.0, FIRST_PAUSE_S
    while True:
        started = time.monotonic()
        if survives(serve, runtime.connections):
            return True
        runtime.drain.interrupt()
        now = time.monotonic()
        if not lost_at or now > started + WORKED_S:
            lost_at, pause_s = now, FIRST_PAUSE_S
        if now > lost_at + GOES_ON_S:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def survives(work: Callable[[], object], connections: Connections) -> bool:
    """Do a task's work; returns False where Redis was lost, which is no failure of the task."""
    try:
        work()
    except RedisError as error:
        logger.warning("redis_lost: %s; the batch in hand will be scored again", error)
        connections.note_error(error)
        return False
    return True


class Generations:
    """What a main process and its children tell each other about releases; created before it forks.

    A generation is the number of times the main process had loaded something when it forked a child::

        main process   advance: newest += 1; the pool has one child more as long as any is outdated
                           |
        child             CURRENT                own == newest
                           |  advance
                           v
                          OUTDATED               own < newest
                           |  the main process lets it leave: two others serve, or the only one that there is to be
                           |  owns the permanent drain: serves until another has begun that
                           v
                          exits between two tasks; the pool forks its successor, which is CURRENT

    So while one child scores for long, another always listens, also on a machine on which a fork takes seconds. The
    numbers are single machine words with one writer each, or of which the last write counts: they need no lock.
    """

    def __init__(self, pid: Callable[[], int] = os.getpid) -> None:
        self._pid = pid
        self._newest = RawValue("Q", 0)
        """The generation of children that are forked from now on; written by the main process."""
        self._ready, self._may_leave = RawArray("Q", CHILDREN), RawArray("Q", CHILDREN)
        """By index in the pool, process ids: of a child that can serve, written by it, and of one that may exit,
        written by the main process."""
        self._drain_owner = RawValue("Q", 0)
        """Process id of the child that last began the permanent drain; written by children."""
        self.own = 0
        """Not shared: a child keeps the value that its main process had at the fork."""
        self.index = 0
        """Of this child in the pool; not shared."""
        self.is_leaving = False
        """Whether this child was told to end; not shared."""

    def advance(self) -> None:
        """In the main process: children forked from now on have something newer."""
        self.own += 1
        self._newest.value = self.own

    def note_ready(self) -> None:
        """In a child: it can serve."""
        if self.index < CHILDREN:
            self._ready[self.index] = self._pid()

    def mark_as_drain_owner(self) -> None:
        """In a child: it runs the permanent drain from now on."""
        self._drain_owner.value = self._pid()

    @property
    def is_drain_owner(self) -> bool:
        """Whether no other child has begun the permanent drain since this one did."""
        return self.is_owned_by(self._pid())

    def is_owned_by(self, pid: int) -> bool:
        """Whether this child was the last to begin the permanent drain."""
        return bool(self._drain_owner.value == pid)

    def should_exit(self) -> bool:
        """In a child: whether it is to exit, as soon as it has nothing in hand."""
        if self.is_leaving:
            return True
        may_leave = self.index >= CHILDREN or self._may_leave[self.index] == self._pid()
        return may_leave and bool(self.own < self._newest.value)

    def let_leave(self, children: Sequence[Child], count: int) -> None:
        """In the main process: of a pool that is to have `count` children, let the outdated exit that can be spared.

        Those that have nothing to do come first, and last those that may be busy for long.
        """
        outdated = [child for child in children if child.generation < self.own]
        outdated.sort(key=lambda child: (child.is_busy, not self.is_owned_by(child.pid)))
        # Those beyond the shared memory cannot say that they serve; they leave by themselves.
        sharing = [child for child in children if child.index < CHILDREN]
        serving = sum(self._ready[child.index] == child.pid for child in sharing)
        leaving = outdated[: max(0, serving - min(AT_LEAST, count))]
        for child in outdated:
            if child in sharing:
                self._may_leave[child.index] = child.pid if child in leaving else 0


@dataclass(frozen=True, slots=True)
class Child:
    """A process of a pool, as its main process knows it."""

    pid: int
    index: int
    generation: int
    is_busy: bool


CHECK_EVERY_S = 0.1
"""Seconds between two checks of a child without a task of whether it is to exit."""


def end_after_sigterm() -> None:
    """See to it that this process ends some seconds after SIGTERM, whatever it is doing then.

    A handler runs only when a native call returns. The signal's byte in a pipe wakes a thread meanwhile.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def listen(descriptor: int) -> None:
        with suppress(ValueError):  # not the main thread
            signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)

    def do_not_listen() -> None:
        listen(-1)

    listen(writer)
    # A signal to a pipeline's own fork is not this process's, from the fork's first moment on.
    os.register_at_fork(
        before=do_not_listen,
        after_in_parent=lambda: listen(writer),
        after_in_child=do_not_listen,
    )

    def end() -> None:
        while os.read(reader, 1) != bytes([signal.SIGTERM]):
            pass
        time.sleep(LEAVES_WITHIN_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end, name="scoreline-leave", daemon=True).start()


class Worker(asynpool.Worker):  # type: ignore[misc]
    """A child's main loop."""

    _is_idle = True

    def after_fork(self) -> None:
        super().after_fork()
        end_at_once: Any = signal.getsignal(signal.SIGTERM)

        def leave(number: int, frame: Any) -> None:
            # systemd, by default, signals all processes of a worker at once. What a child has in hand would wait for
            # its lease to end if it did not answer it.
            if self._is_idle or this_process().generations.is_leaving:
                end_at_once(number, frame)
            this_process().generations.is_leaving = True

        signal.signal(signal.SIGTERM, leave)
        end_after_sigterm()

    def _make_child_methods(self, *args: Any) -> None:
        super()._make_child_methods(*args)
        receive: Callable[[], Any] = self.wait_for_job

        def wait_for_job() -> Any:
            self._is_idle = True
            process = this_process()
            if process.generations.should_exit():
                process.stop()
                logging.shutdown()
                os._exit(EX_RECYCLE)
            # Polled first, since a release cannot wait as long as Celery's own wait.
            if not self.inq._reader.poll(CHECK_EVERY_S):
                self._is_idle = False
                process.listen(self.inq._reader.poll)
                return None
            self._is_idle = False
            return receive()

        self.wait_for_job: Callable[[], Any] = wait_for_job


class Pool(asynpool.AsynPool):  # type: ignore[misc]
    """The pool in the main process."""

    Worker = Worker
    _forks_from = 0.0

    def _create_worker_process(self, index: int) -> Any:
        # The children of a generation are those that were forked before the next release.
        with fork_guard():
            child = super()._create_worker_process(index)
            child.generation = this_process().generations.own
        return child

    def _repopulate_pool(self, exitcodes: Sequence[int]) -> None:
        """Have one child more as long as outdated ones are replaced."""
        own = this_process().generations.own
        more = int(any(child.generation < own for child in self._pool))
        self._processes += more
        try:
            self.on_grow(more)
            super()._repopulate_pool(exitcodes)
        finally:
            self._processes -= more

    def replace_children(self) -> None:
        """Fork a child that has the newest release, and let outdated ones leave as others can serve in their place."""
        generations = this_process().generations
        children = [
            Child(child.pid, child.index, child.generation, child.inqW_fd in self._busy_workers)
            for child in self._pool
        ]
        if all(child.generation == generations.own for child in children):
            return
        generations.let_leave(children, self._processes)
        if len(children) <= self._processes and time.monotonic() >= self._forks_from:
            try:
                self.maintain_pool()
            # As at the limit of processes: the outdated ones serve on.
            except (OSError, MemoryError) as error:
                self._forks_from = time.monotonic() + FORK_AGAIN_S
                logger.warning("children_not_replaced: no process can be forked: %s", error)

    def _join_exited_workers(self, shutdown: bool = False) -> Any:
        """Have what a child held taken over before it is replaced: that has to wait while a version is loaded."""
        for child in self._pool:
            if child.exitcode is not None:
                this_process().take_over(child.pid)
        return super()._join_exited_workers(shutdown)

    def _event_process_exit(self, hub: Any, proc: Any, again_s: float = 0.005) -> None:
        """Replace a child as soon as it has ended.

        A process closes its files before it can be waited for. Celery checks only when they are closed,
        and then every five seconds, in which nobody would serve.
        """
        super()._event_process_exit(hub, proc)
        if proc in self._pool:
            hub.call_later(again_s, self._event_process_exit, hub, proc, min(again_s * 2, 1.0))


class TaskPool(prefork.TaskPool):  # type: ignore[misc]
    """The value of Celery's setting `worker_pool`."""

    Pool = Pool


def child_count(pool: TaskPool) -> int:
    """How many children a pool is to have; 0 when it is not running."""
    return 0 if pool._pool is None else int(pool.num_processes)


def end_overdue_children(pool: TaskPool, times: CallTimes) -> None:
    """In the main process: end children whose call of a pipeline takes too long."""
    for child in [] if pool._pool is None else pool._pool._pool:
        if times.is_overdue(child.index, child.pid):
            logger.error(
                "call_too_long pid=%s: a pipeline does not return; its process is ended, and what that had in hand is "
                "scored apart",
                child.pid,
            )
            times.note_ended(child.index)
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)


def replace_children(pool: TaskPool) -> None:
    """In the main process: replace children that were forked before the last release, see `Generations`."""
    if pool._pool is not None:
        pool._pool.replace_children()


TAKEN_OVER_TIMES = 3
"""How often what a stopped child holds is taken over: a read of it that waits on the server may still bring some."""


def take_over_stopped_children(pool: TaskPool, times_seen: dict[int, int]) -> None:
    """In the main process: have the requests answered that stopped children hold, as after SIGSTOP.

    One that goes on later finishes what it had; the first answer counts. `times_seen` is kept between calls, by pid.
    """
    children = [] if pool._pool is None else pool._pool._pool
    stopped = [child.pid for child in children if is_stopped(child.pid)]
    for pid in [pid for pid in times_seen if pid not in stopped]:
        del times_seen[pid]
    for pid in stopped:
        times_seen[pid] = times_seen.get(pid, 0) + 1
        if times_seen[pid] == 1:
            logger.warning("process_stopped pid=%s: what it has in hand is scored again", pid)
        if times_seen[pid] <= TAKEN_OVER_TIMES:
            this_process().take_over(pid)
