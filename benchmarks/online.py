"""Single records, 64 and 1 in flight: Scoreline's AsyncClient against one Celery task per record."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from operator import attrgetter
from typing import Any

from benchmarks.measures import Comparison, Rate, Spread
from benchmarks.stage import MODEL, PROCESSES, QUEUE, Stage
from scoreline_client import AsyncClient
from scoreline_tasks.children import running
from scoreline_tasks.sample_rows import records

REPEATS = 7
IN_FLIGHT = (64, 1)
WARM_UP_S = 0.7
REPEAT_S = 3.0
OURS, THEIRS = "Scoreline", "a Celery task per record"

Ask = Callable[[int, float], Rate]


def measure(stage: Stage) -> list[Comparison]:
    """Both sides' workers wait all the time; one side at a time is asked, in turns."""
    sides: dict[str, Ask] = {}
    with stage.worker(), _celery_worker(stage):
        sides = {OURS: _ask_scoreline(stage), THEIRS: _ask_celery()}
        rates: dict[tuple[int, str], list[Rate]] = {}
        for _ in range(REPEATS):
            for in_flight in IN_FLIGHT:
                for name, ask in sides.items():
                    ask(in_flight, WARM_UP_S)
                    rates.setdefault((in_flight, name), []).append(ask(in_flight, REPEAT_S))
    return [one for in_flight in IN_FLIGHT for one in _compare(in_flight, rates)]


def _compare(in_flight: int, rates: dict[tuple[int, str], list[Rate]]) -> Iterator[Comparison]:
    for what, figure, more_is_better in (
        ("a second", attrgetter("per_second"), True),
        ("p50, ms", attrgetter("p50_ms"), False),
        ("p99, ms", attrgetter("p99_ms"), False),
    ):
        ours, theirs = (
            Spread.of([figure(rate) for rate in rates[in_flight, name]]) for name in (OURS, THEIRS)
        )
        yield Comparison(f"{in_flight} in flight: {what}", ours, theirs, more_is_better)


def _ask_scoreline(stage: Stage) -> Ask:
    rows = records(10_000, seed=1)

    def ask(in_flight: int, seconds: float) -> Rate:
        return asyncio.run(_drive(stage, rows, in_flight, seconds))

    return ask


async def _drive(stage: Stage, rows: list[dict[str, Any]], in_flight: int, seconds: float) -> Rate:
    waits: list[float] = []
    supply = cycle(rows)
    async with AsyncClient(stage.redis_url, queue=QUEUE) as client:
        begun = time.perf_counter()
        until = begun + seconds

        async def call() -> None:
            while (sent := time.perf_counter()) < until:
                answer = await client.predict(MODEL, next(supply), timeout=30)
                if answer.version != 1:
                    raise AssertionError(f"answered by version {answer.version}")
                waits.append(time.perf_counter() - sent)

        await asyncio.gather(*(call() for _ in range(in_flight)))
        return Rate.of(waits, time.perf_counter() - begun)


@contextmanager
def _celery_worker(stage: Stage) -> Iterator[None]:
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


def _ask_celery() -> Ask:
    from benchmarks.celery_task import predict

    supply = cycle(records(10_000, seed=1))

    def ask(in_flight: int, seconds: float) -> Rate:
        """Oldest answer first, and a new task for each answer: as fast as a thread per task."""
        waits: list[float] = []
        begun = time.perf_counter()
        until = begun + seconds
        waiting: deque[tuple[float, Any]] = deque()
        while waiting or time.perf_counter() < until:
            while len(waiting) < in_flight and time.perf_counter() < until:
                waiting.append((time.perf_counter(), predict.delay(next(supply))))
            sent, result = waiting.popleft()
            result.get(timeout=30)
            waits.append(time.perf_counter() - sent)
        return Rate.of(waits, time.perf_counter() - begun)

    return ask
