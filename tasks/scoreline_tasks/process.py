"""One worker's processes: what the main one prepares, what each child builds, and its tasks' bodies.

The main process loads the released models and forks; each child builds its runtime around what it
inherited. A counter in shared memory tells a parked drain whether it is still in charge: the watcher
raises it when it starts another.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable
from multiprocessing.sharedctypes import RawValue
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from scoreline_tasks.settings import WorkerSettings

if TYPE_CHECKING:
    from scoreline_tasks.hints import Hints
    from scoreline_tasks.models import Models
    from scoreline_tasks.runtime import Runtime

logger = logging.getLogger(__name__)

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class WorkerProcess:
    """This process, be it a worker's main one or one of its children."""

    def __init__(self) -> None:
        self.node = "scoreline"
        """The Celery worker's name."""
        self._in_charge = RawValue("Q", 0)
        self._models: Models | None = None
        self._runtime: Runtime | None = None

    def configure(self, node: str) -> None:
        """Before numpy is imported: one thread for each numeric library, unless the operator says
        otherwise. Processes are the workers here; more threads would only get in their way."""
        self.node = node
        for variable in THREADS:
            os.environ.setdefault(variable, "1")

    def preload(self) -> None:
        """In the main process: load what is released, so that children share the memory."""
        from scoreline_tasks.runtime import open_models

        self._models = open_models(WorkerSettings.from_environment())
        gc.collect()
        gc.freeze()

    def runtime(self, hints: Hints) -> Runtime:
        """In a child: what it scores with, built at the first call."""
        if self._runtime is None:
            from scoreline_tasks.runtime import build, open_models

            settings = WorkerSettings.from_environment()
            models = self._models or open_models(settings)
            # A child that replaces another is forked long after the main process has preloaded.
            models.follow()
            self._runtime = build(settings, models, self.node, hints)
            self._runtime.start()
        return self._runtime

    def stop(self) -> None:
        """In a child: end what runs beside the tasks."""
        if self._runtime is not None:
            self._runtime.stop()
            self._runtime = None

    def put_in_charge(self) -> int:
        """In the main process: number the next parked drain; all earlier ones end with their slice."""
        self._in_charge.value += 1
        return int(self._in_charge.value)

    def is_in_charge(self, number: int) -> bool:
        """Whether the parked drain of this number is to go on."""
        return bool(number == self._in_charge.value)

    def park(self, runtime: Runtime, number: int, send_successor: Callable[[], None]) -> None:
        """Serve one slice and hand over to a successor, unless another drain is in charge."""
        until = time.monotonic() + runtime.settings.batch_limit_s
        while self.is_in_charge(number) and time.monotonic() < until:
            if not served(lambda: runtime.drain.park(runtime.settings.slice_s)):
                return
            try:
                send_successor()
            # The broker takes no message now, perhaps for want of memory that only serving frees.
            except Exception as error:  # noqa: BLE001
                logger.warning("successor_not_sent: %s; this drain serves on", error)
            else:
                return


def served(serve: Callable[[], object]) -> bool:
    """Do a task's work; a lost server is an event, not a failure of the task."""
    try:
        serve()
    except RedisError as error:
        logger.warning("redis_lost: %s; what was being scored will be scored again", error)
        return False
    return True
