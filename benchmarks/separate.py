"""Clients that share nothing: fleets of web processes, each with a request or a few in flight; and jobs, one after another."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import psutil
from redis import Redis

from benchmarks.callers import TIMEOUT_S, check, supply
from benchmarks.celery_callers import celery_tasks, celery_worker
from benchmarks.measures import Goal, Rate, Row, alone, at_least, at_most, minus, times
from benchmarks.online import CELERY_64
from benchmarks.stage import MODEL, QUEUE, Stage
from scoreline_client import AsyncClient

REPEATS = 5
REPEAT_S = 1.5
JOBS = 200
PROGRAMS = 4
"""Real processes that the clients are in: two cores have no room for 64, and one would be the limit itself."""
FLEETS = ((64, 1), (16, 1), (8, 8))
"""How many clients, and how many requests each has in flight."""
START_S = 120.0
SIDES: Mapping[str, Goal | None] = {"clients": None, "server": at_most(35), "worker": at_most(45)}
"""Whose CPU is counted, with the goals at 64 clients."""


@dataclass(frozen=True)
class _Repeat:
    rate: Rate
    cpu_us: dict[str, float]
    """CPU of a request, by side."""


def measure(stage: Stage) -> list[Row]:
    """Fleets of clients and Celery's caller in turns, against one worker; then jobs beside single records."""
    repeats: dict[str, list[_Repeat]] = {}
    celery: list[Rate] = []
    with stage.worker() as worker, celery_worker(stage), Redis.from_url(stage.redis_url) as redis:
        server = psutil.Process(int(redis.info("server")["process_id"]))
        for count, each in FLEETS:
            name = f"{count} clients, {each} in flight each"
            with _programs(stage, count, each) as (pipes, programs):
                sides = {
                    "clients": programs,
                    "server": [server],
                    "worker": [worker, *worker.children()],
                }
                for _ in range(REPEATS):
                    if count == FLEETS[0][0]:
                        celery.append(celery_tasks(64, REPEAT_S))
                    repeats.setdefault(name, []).append(_ask(pipes, sides))
        singles, jobs = zip(*(asyncio.run(_jobs(stage)) for _ in range(REPEATS)), strict=True)
    rows = list(_rows(repeats, celery))
    single = "predict, one after the other"
    return [
        *rows,
        alone(single, "p50 in ms", singles),
        minus("submit and result, one after the other", "p50 in ms", jobs, single, singles, goal=at_most(1)),
    ]  # fmt: skip


def _rows(repeats: Mapping[str, Sequence[_Repeat]], celery: Sequence[Rate]) -> Iterator[Row]:
    largest = next(iter(repeats))
    for name, found in repeats.items():
        rates = [one.rate.per_second for one in found]
        if name == largest:
            beside = [one.per_second for one in celery]
            yield times(name, "answers a second", rates, CELERY_64, beside, goal=at_least(20))
        else:
            yield alone(name, "answers a second", rates)
        p50 = [one.rate.p50_ms for one in found]
        yield alone(name, "p50 in ms", p50, goal=at_most(8) if name == largest else None)
        yield alone(name, "p99 in ms", [one.rate.p99_ms for one in found])
        for side, goal in SIDES.items():
            used = [one.cpu_us[side] for one in found]
            unit = f"µs of CPU a request, {side}"
            yield alone(name, unit, used, goal=goal if name == largest else None)


@contextmanager
def _programs(
    stage: Stage, count: int, each: int
) -> Iterator[tuple[list[Connection], list[psutil.Process]]]:
    """So many clients in a few programs, connected; a number of seconds sent to each lets them ask."""
    context = multiprocessing.get_context("spawn")
    started: list[tuple[Any, Connection]] = []
    try:
        for _ in range(PROGRAMS):
            here, there = context.Pipe()
            arguments = (there, stage.redis_url, count // PROGRAMS, each)
            program = context.Process(target=_program, args=arguments, daemon=True)
            program.start()
            started.append((program, here))
        for _, here in started:
            if not here.poll(START_S):
                raise TimeoutError("the clients do not start")
            here.recv()
        yield [here for _, here in started], [psutil.Process(one.pid) for one, _ in started]
    finally:
        for program, _ in started:
            program.kill()
            program.join()


def _program(control: Connection, redis_url: str, count: int, each: int) -> None:
    """Have so many clients ask for as long as is said, and say how long each answer took."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        rows = supply()
        clients = [AsyncClient(redis_url, queue=QUEUE) for _ in range(count)]
        for one in clients:
            check(await one.predict(MODEL, next(rows), timeout=TIMEOUT_S))
        control.send("ready")
        while True:
            seconds = await loop.run_in_executor(None, control.recv)
            waits: list[float] = []
            until = time.perf_counter() + seconds

            async def call(client: AsyncClient) -> None:
                while (sent := time.perf_counter()) < until:  # noqa: B023 - awaited within the turn
                    check(await client.predict(MODEL, next(rows), timeout=TIMEOUT_S))
                    waits.append(time.perf_counter() - sent)  # noqa: B023

            await asyncio.gather(*(call(one) for one in clients for _ in range(each)))
            control.send(waits)

    asyncio.run(run())


def _ask(pipes: Sequence[Connection], sides: Mapping[str, Sequence[psutil.Process]]) -> _Repeat:
    before = {side: _cpu_s(processes) for side, processes in sides.items()}
    begun = time.perf_counter()
    for one in pipes:
        one.send(REPEAT_S)
    waits: list[float] = [wait for one in pipes for wait in one.recv()]
    rate = Rate.of(waits, time.perf_counter() - begun)
    cpu_us = {
        side: (_cpu_s(processes) - before[side]) / rate.answers * 1e6
        for side, processes in sides.items()
    }
    return _Repeat(rate, cpu_us)


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    used = 0.0
    for one in processes:
        of_one = one.cpu_times()
        used += of_one.user + of_one.system
    return used


async def _jobs(stage: Stage) -> tuple[float, float]:
    """Medians in ms: of `predict`, and of `submit` with its `result`, each after the one before."""
    rows = supply()
    singles: list[float] = []
    jobs: list[float] = []
    async with AsyncClient(stage.redis_url, queue=QUEUE) as client:
        check(await client.predict(MODEL, next(rows), timeout=TIMEOUT_S))
        for _ in range(JOBS):
            begun = time.perf_counter()
            check(await client.predict(MODEL, next(rows), timeout=TIMEOUT_S))
            single = time.perf_counter()
            job = await client.submit(MODEL, [next(rows)])
            check((await job.result(timeout=TIMEOUT_S))[0])
            singles.append(single - begun)
            jobs.append(time.perf_counter() - single)
    return statistics.median(singles) * 1000, statistics.median(jobs) * 1000
