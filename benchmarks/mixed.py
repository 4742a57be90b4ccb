"""A file and single records at the same time: what each costs the other."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.callers import steadily
from benchmarks.files import million_rows, repeated
from benchmarks.measures import Rate, Row, alone, at_least, at_most, times
from benchmarks.stage import MODEL, QUEUE, Stage
from scoreline_client import Client

REPEATS = 5
ROWS = 3_000_000
PER_SECOND = 80.0


def measure(stage: Stage) -> list[Row]:
    """The same file alone and beside callers who come at even distances, in turns."""
    source = repeated(million_rows(), ROWS)
    target = stage.folder / "mixed.csv"
    undisturbed: list[float] = []
    beside: list[float] = []
    rates: list[Rate] = []
    with stage.worker(), Client(stage.redis_url, queue=QUEUE) as client:
        _score(client, million_rows(), target)
        for _ in range(REPEATS):
            undisturbed.append(_score(client, source, target))
            rate, rows_per_s = _score_beside(stage, client, source, target)
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


def _score(client: Client, source: Path, target: Path) -> float:
    return client.score_csv(MODEL, source, target).rows_per_s


def _score_beside(stage: Stage, client: Client, source: Path, target: Path) -> tuple[Rate, float]:
    """Callers on an event loop of their own, from before the file is opened until it is done."""
    done = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        callers = pool.submit(lambda: asyncio.run(steadily(stage, PER_SECOND, done)))
        try:
            rows_per_s = _score(client, source, target)
        finally:
            done.set()
        return callers.result(), rows_per_s
