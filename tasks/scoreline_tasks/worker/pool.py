"""Celery's pool of processes, whose children leave between two tasks when newer ones are to be forked.

Only between two tasks is nothing in hand: a task that was sent to the child and not yet read is sent
to another one by the pool. `EX_RECYCLE` is how a child says that it ends in order, as it does after
`--max-tasks-per-child`; the pool replaces it at once and logs nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from billiard.pool import EX_RECYCLE
from celery.concurrency import asynpool, prefork

LOOK_EVERY_S = 0.1
"""Seconds between two looks of a child without a task at whether it is to leave."""


class Worker(asynpool.Worker):  # type: ignore[misc]
    """A child's main loop."""

    def _make_child_methods(self, *args: Any) -> None:
        super()._make_child_methods(*args)
        receive: Callable[[], Any] = self.wait_for_job

        def wait_for_job() -> Any:
            _leave_if_outdated()
            # Looked at first, since Celery's own wait is too long for a release to wait for.
            return receive() if self.inq._reader.poll(LOOK_EVERY_S) else None

        self.wait_for_job: Callable[[], Any] = wait_for_job


class Pool(asynpool.AsynPool):  # type: ignore[misc]
    """The pool in the main process."""

    Worker = Worker

    def _event_process_exit(self, hub: Any, proc: Any, again_s: float = 0.005) -> None:
        """Replace a child as soon as it is gone.

        A process closes its files before it can be waited for. Celery looks only when they are closed,
        and then every five seconds; nobody would serve in between.
        """
        super()._event_process_exit(hub, proc)
        if proc in self._pool:
            hub.call_later(again_s, self._event_process_exit, hub, proc, min(again_s * 2, 1.0))


class TaskPool(prefork.TaskPool):  # type: ignore[misc]
    """What Celery's setting `worker_pool` names."""

    Pool = Pool


def places(pool: TaskPool) -> int:
    """How many children a pool is to have; 0 when it is not running."""
    return 0 if pool._pool is None else int(pool.num_processes)


def _leave_if_outdated() -> None:
    from scoreline_tasks.celery import process

    if process.generations.may_leave():
        process.stop()
        logging.shutdown()
        os._exit(EX_RECYCLE)
