"""Callers that ask for one record after the other: tasks of an event loop, or threads."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

from benchmarks.measures import Rate
from benchmarks.stage import MODEL, QUEUE, Stage
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client import AsyncClient, Client
from scoreline_client.predictions import Prediction
from scoreline_tasks.dev.demo import records

TIMEOUT_S = 30.0
PIPELINE_CALLS = 100


def supply(seed: int = 1) -> Iterator[dict[str, Any]]:
    """Records without an end."""
    return cycle(records(10_000, seed=seed))


async def tasks(
    stage: Stage,
    in_flight: int,
    seconds: float,
    *,
    models: tuple[str, ...] = (MODEL,),
    rows: Iterator[dict[str, Any]] | None = None,
) -> Rate:
    """Keep requests in flight through one AsyncClient; with several models, each has its turn."""
    waits: list[float] = []
    pairs = zip(cycle(models), rows or supply(), strict=False)
    async with AsyncClient(stage.redis_url, queue=QUEUE) as client:
        begun = time.perf_counter()
        until = begun + seconds

        async def call() -> None:
            while (sent := time.perf_counter()) < until:
                model, record = next(pairs)
                check(await client.predict(model, record, timeout=TIMEOUT_S))
                waits.append(time.perf_counter() - sent)

        await asyncio.gather(*(call() for _ in range(in_flight)))
        return Rate.of(waits, time.perf_counter() - begun)


async def seldom(stage: Stage, calls: int, silence_s: float) -> Rate:
    """One caller that asks and then does nothing for a while, as does everybody else."""
    waits: list[float] = []
    rows = supply()
    async with AsyncClient(stage.redis_url, queue=QUEUE) as client:
        await client.predict(MODEL, next(rows), timeout=TIMEOUT_S)  # connects
        begun = time.perf_counter()
        for _ in range(calls):
            await asyncio.sleep(silence_s)
            sent = time.perf_counter()
            check(await client.predict(MODEL, next(rows), timeout=TIMEOUT_S))
            waits.append(time.perf_counter() - sent)
        return Rate.of(waits, time.perf_counter() - begun)


async def steadily(stage: Stage, per_second: float, until: threading.Event) -> Rate:
    """Callers who come at even distances, whether those before have their answers or not."""
    waits: list[float] = []
    rows = supply()
    calls: set[asyncio.Task[None]] = set()
    async with AsyncClient(stage.redis_url, queue=QUEUE) as client:

        async def call() -> None:
            sent = time.perf_counter()
            check(await client.predict(MODEL, next(rows), timeout=TIMEOUT_S))
            waits.append(time.perf_counter() - sent)

        await call()
        waits.clear()
        begun = time.perf_counter()
        while not until.is_set():
            calls.add(asyncio.create_task(call()))
            due = begun + len(calls) / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await asyncio.gather(*calls)
        return Rate.of(waits, time.perf_counter() - begun)


def threads(stage: Stage, count: int, seconds: float) -> Rate:
    """Threads that share one Client, each with one request in flight."""
    waits: list[float] = []
    failures: list[BaseException] = []
    with Client(stage.redis_url, queue=QUEUE) as client:
        begun = time.perf_counter()
        until = begun + seconds

        def call(rows: Iterator[dict[str, Any]]) -> None:
            try:
                while (sent := time.perf_counter()) < until:
                    check(client.predict(MODEL, next(rows), timeout=TIMEOUT_S))
                    waits.append(time.perf_counter() - sent)
            except BaseException as failure:  # noqa: BLE001 - raised again by the one who counts
                failures.append(failure)

        listed = records(10_000, seed=1)
        callers = [
            threading.Thread(target=call, args=(cycle(listed[place::count]),))
            for place in range(count)
        ]
        for one in callers:
            one.start()
        for one in callers:
            one.join()
        if failures:
            raise failures[0]
        return Rate.of(waits, time.perf_counter() - begun)


def pipeline_ms(loaded: LoadedVersion, rows: Sequence[dict[str, Any]]) -> float:
    """Median of what one call of the pipeline itself takes, for a frame that is there already."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    took: list[float] = []
    for _ in range(PIPELINE_CALLS):
        begun = time.perf_counter()
        loaded.pipeline.predict_proba(frame)
        took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1000


def check(answer: Prediction) -> None:
    """An answer that is none must not count as a fast one."""
    if answer.version != 1 or answer.error is not None:
        raise AssertionError(f"answered by version {answer.version}: {answer.error}")
