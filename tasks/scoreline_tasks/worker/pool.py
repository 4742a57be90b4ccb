"""Celery's pool of processes, whose children exit between two tasks when newer ones are to be forked.

Only between two tasks does a child have nothing in hand: the pool sends a task that it had not read yet to
another one. `EX_RECYCLE` is the exit code of a child that ends in order, as after `--max-tasks-per-child`;
the pool replaces it at once and logs nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from billiard.pool import EX_RECYCLE
from celery.concurrency import asynpool, prefork

from scoreline_tasks.worker.process import this_process

CHECK_EVERY_S = 0.1
"""Seconds between two checks of a child without a task of whether it is to exit."""


class Worker(asynpool.Worker):  # type: ignore[misc]
    """A child's main loop."""

    def _make_child_methods(self, *args: Any) -> None:
        super()._make_child_methods(*args)
        receive: Callable[[], Any] = self.wait_for_job

        def wait_for_job() -> Any:
            process = this_process()
            if process.generations.should_exit():
                process.stop()
                logging.shutdown()
                os._exit(EX_RECYCLE)
            # Polled first, since a release cannot wait as long as Celery's own wait.
            return receive() if self.inq._reader.poll(CHECK_EVERY_S) else None

        self.wait_for_job: Callable[[], Any] = wait_for_job


class Pool(asynpool.AsynPool):  # type: ignore[misc]
    """The pool in the main process."""

    Worker = Worker

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
