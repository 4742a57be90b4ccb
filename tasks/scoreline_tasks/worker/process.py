"""One worker's processes: what the main one does, what each child builds, and its tasks' bodies.

The main process loads the released models and forks; each child builds its runtime around what it
inherited. While it runs, the main process follows the releases and loads what is new, and its
children are replaced (see generations.py). A pool that does not fork serves in the main process,
which then swaps to the new version by itself.

A counter in shared memory tells a parked drain whether it is still in charge: the watcher raises it
when it starts another.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.sharedctypes import RawValue
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from scoreline_tasks.settings import WorkerSettings
from scoreline_tasks.system.forks import no_fork
from scoreline_tasks.system.memory import keep_freed, settle
from scoreline_tasks.worker.generations import Generations

if TYPE_CHECKING:
    from scoreline_tasks.models.registry import Models
    from scoreline_tasks.queue.hints import Hints
    from scoreline_tasks.worker.runtime import Runtime, Supervision

logger = logging.getLogger(__name__)

TAKEN_S = 1.0
"""Seconds within which another child should have taken up the parked drain of one that leaves."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class WorkerProcess:
    """This process, be it a worker's main one or one of its children."""

    def __init__(self) -> None:
        self.node = "scoreline"
        """The Celery worker's name."""
        self.generations = Generations()
        self._in_charge = RawValue("Q", 0)
        self._main_pid = os.getpid()
        self._models: Models | None = None
        self._runtime: Runtime | None = None
        self._building = threading.Lock()
        """With a pool of threads, several tasks may be the first."""
        self._supervision: Supervision | None = None

    def configure(self, node: str) -> None:
        """Before numpy is imported: one thread for each numeric library, unless the operator says
        otherwise. Processes are the workers here; more threads would only get in their way."""
        self.node = node
        for variable in THREADS:
            os.environ.setdefault(variable, "1")

    def preload(self) -> None:
        """In the main process: load what is released, so that children share the memory."""
        from scoreline_tasks.worker.runtime import open_models

        self._main_pid = os.getpid()
        self._models = open_models(WorkerSettings.from_environment())
        self._models.follow()
        settle()

    def supervise(self, places: Callable[[], int]) -> None:
        """In the main process: load new releases for children, of which there are to be `places()`."""
        from scoreline_tasks.worker.runtime import supervise

        if self._supervision is None and self._models is not None:
            settings = WorkerSettings.from_environment()
            models = self._models

            def look() -> bool:
                return self._advance(models, places())

            self._supervision = supervise(settings, models, self.node, look, places)
            self._supervision.start()

    def runtime(self, hints: Hints) -> Runtime:
        """In a process that serves: what it scores with, built at the first call."""
        with self._building:
            if self._runtime is None:
                from scoreline_tasks.worker.runtime import build, open_models

                if os.getpid() != self._main_pid:
                    keep_freed()  # not where versions are loaded: what that leaves is given back
                settings = WorkerSettings.from_environment()
                models = self._models or open_models(settings)
                runtime = build(settings, models, self.node, hints, main_pid=self._main_pid)
                runtime.start()
                self._runtime = runtime
                self.generations.note_ready()
            return self._runtime

    def stop(self) -> None:
        """End what runs beside the tasks."""
        if self._runtime is not None:
            self._runtime.stop()
            self._runtime = None
        if self._supervision is not None and os.getpid() == self._main_pid:
            self._supervision.stop()
            self._supervision = None

    def put_in_charge(self) -> int:
        """In the main process: number the next parked drain; all earlier ones end with their slice."""
        self._in_charge.value += 1
        return int(self._in_charge.value)

    def is_in_charge(self, number: int) -> bool:
        """Whether the parked drain of this number is to go on."""
        return bool(number == self._in_charge.value)

    def park(self, runtime: Runtime, number: int, send_successor: Callable[[], None]) -> None:
        """Serve one slice and hand over to a successor, unless another drain is in charge."""
        self.generations.note_parked()
        until = time.monotonic() + runtime.settings.batch_limit_s
        while self.is_in_charge(number) and time.monotonic() < until:
            if not served(lambda: runtime.drain.park(runtime.settings.slice_s, self.may_leave)):
                return
            try:
                send_successor()
            # The broker takes no message now, perhaps for want of memory that only serving frees.
            except Exception as error:  # noqa: BLE001
                logger.warning("successor_not_sent: %s; this drain serves on", error)
            else:
                self._serve_until_taken(runtime)
                return

    def help(self, runtime: Runtime) -> None:
        """Serve for a slice, or until nothing waits any more."""
        served(lambda: runtime.drain.help(runtime.settings.slice_s, self.may_leave))

    def _serve_until_taken(self, runtime: Runtime) -> None:
        """A parked drain that makes room serves on until the successor runs in another child."""
        generations = self.generations
        if generations.may_leave() and not generations.is_alone:
            served(lambda: runtime.drain.park(TAKEN_S, lambda: not generations.is_parked_here))

    def may_leave(self) -> bool:
        """In a child: whether its drain is to end early, so that it can be replaced."""
        return self.generations.may_leave()

    def _advance(self, models: Models, places: int) -> bool:
        before = models.serving()
        changed = models.follow()
        if models.serving() != before:
            with no_fork():
                settle()
                self.generations.advance(places)
        else:
            self.generations.note_places(places)
        return changed


def served(serve: Callable[[], object]) -> bool:
    """Do a task's work; a lost server is an event, not a failure of the task."""
    try:
        serve()
    except RedisError as error:
        logger.warning("redis_lost: %s; what was being scored will be scored again", error)
        return False
    return True
