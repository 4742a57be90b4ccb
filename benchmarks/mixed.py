"""A file and single records at the same time: what each costs the other."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from redis import Redis

from benchmarks import program
from benchmarks.callers import steadily
from benchmarks.files import million_rows, repeated
from benchmarks.measures import Rate, Row, alone, at_least, at_most, times
from benchmarks.stage import QUEUE, Stage
from scoreline_client.protocol.keys import Keys, Lane

REPEATS = 5
ROWS = 3_000_000
PER_SECOND = 80.0
GIVE_UP_S = 30.0


def measure(stage: Stage) -> list[Row]:
    """The same file alone and beside callers who come at even distances, in turns."""
    source = repeated(million_rows(), ROWS)
    target = stage.folder / "mixed.csv"
    undisturbed: list[float] = []
    beside: list[float] = []
    rates: list[Rate] = []
    with stage.worker():
        program.score(stage, million_rows(), target)
        for _ in range(REPEATS):
            undisturbed.append(program.score(stage, source, target)["rows_per_s"])
            rate, rows_per_s = _score_beside(stage, source, target)
            rates.append(rate)
            beside.append(rows_per_s)
    light = f"{PER_SECOND:.0f} requests a second"
    waits = f"{light} beside {ROWS:,} rows"
    return [
        alone(f"{waits}: p50", "ms", [rate.p50_ms for rate in rates]),
        alone(f"{waits}: p99", "ms", [rate.p99_ms for rate in rates], goal=at_most(60)),
        times(
            f"{ROWS:,} rows beside {light}", "rows a second", beside,
            "the same file alone", undisturbed, goal=at_least(0.85),
        ),
    ]  # fmt: skip


def _score_beside(stage: Stage, source: Path, target: Path) -> tuple[Rate, float]:
    """The file's program has a process of its own; this one asks, from the first chunk to the last."""
    done = threading.Event()
    with program.scoring(stage, source, target) as wait, ThreadPoolExecutor(1) as pool:
        _wait_for_chunks(stage)
        callers = pool.submit(lambda: asyncio.run(steadily(stage, PER_SECOND, done)))
        try:
            summary = wait()
        finally:
            done.set()
        return callers.result(), summary["rows_per_s"]


def _wait_for_chunks(stage: Stage) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    with Redis.from_url(stage.redis_url) as redis:
        while not redis.xlen(Keys(QUEUE).lane(Lane.BULK)):
            if time.monotonic() > deadline:
                raise TimeoutError("no chunk of the file came into the queue")
            time.sleep(0.005)
