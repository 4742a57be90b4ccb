"""The other side of `online`: callers of a Celery task per record, and its worker."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.callers import TIMEOUT_S, supply
from benchmarks.measures import Rate
from benchmarks.stage import MODEL, PROCESSES, Stage
from scoreline_tasks.dev.demo import records
from scoreline_tasks.dev.processes import running


@contextmanager
def celery_worker(stage: Stage) -> Iterator[None]:
    """As many processes as the other side has, ready to answer."""
    # Its own database of the same server, so that both sides pay for the same durability.
    os.environ["BASELINE_REDIS_URL"] = stage.redis_url.removesuffix("/0") + "/1"
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.celery_task", "worker"]
    command += ["--concurrency", str(PROCESSES), "--loglevel", "WARNING"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    log = (stage.folder / "baseline.log").open("wb")
    with log, running(command, stage.environment, log):
        from benchmarks.celery_task import predict

        predict.delay(records(1)[0]).get(timeout=60)
        yield


def celery_tasks(
    in_flight: int,
    seconds: float,
    *,
    model: str = MODEL,
    rows: Iterator[dict[str, Any]] | None = None,
) -> Rate:
    """Oldest answer first, and a new task for each answer: as fast as a thread per task."""
    from benchmarks.celery_task import predict

    rows = rows or supply()
    waits: list[float] = []
    begun = time.perf_counter()
    until = begun + seconds
    waiting: deque[tuple[float, Any]] = deque()
    while waiting or time.perf_counter() < until:
        while len(waiting) < in_flight and time.perf_counter() < until:
            waiting.append((time.perf_counter(), predict.delay(next(rows), model)))
        sent, result = waiting.popleft()
        result.get(timeout=TIMEOUT_S)
        waits.append(time.perf_counter() - sent)
    return Rate.of(waits, time.perf_counter() - begun)
