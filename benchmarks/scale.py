"""More waiting requests, more processes, more models: what becomes of records per second and batches."""

from __future__ import annotations

import asyncio
import time

from redis import Redis

from benchmarks import models
from benchmarks.backlog import Backlog
from benchmarks.callers import tasks
from benchmarks.measures import Row, alone, at_least, times
from benchmarks.stage import MODEL, QUEUE, Stage
from scoreline_client.fleet import read_reports
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.dev.demo import records

REPEATS = 5
BACKLOGS = (10_000, 100_000, 1_000_000)
ANSWERS = 50_000
WARM_UP = 5_000
FEW_RECORDS = {"SCORELINE_BATCH_RECORDS": "16", "SCORELINE_RESULT_TTL_S": "10"}
SHORT_LIVED = {"SCORELINE_RESULT_TTL_S": "10"}
PROCESS_COUNTS = (1, 2, 4, 8)
SLEEPING_BACKLOG = 60_000
RAMP_S, WINDOW_S = 3.0, 1.5
MODELS, IN_FLIGHT, ASK_S = 50, 512, 2.0
REPORTED_S = 2.5
"""Every process reports in this time."""


def measure(stage: Stage) -> list[Row]:
    """One after the other, each with workers of its own."""
    with Redis.from_url(stage.redis_url) as redis:
        rows = _backlogs(stage, Backlog(redis))
        models.publish_sleeping(stage)
        rows += _processes(stage, Backlog(redis))
        return rows + _many_models(stage, redis)


def _backlogs(stage: Stage, backlog: Backlog) -> list[Row]:
    """In turns."""
    rates: dict[int, list[float]] = {size: [] for size in BACKLOGS}
    with stage.worker(settings=SHORT_LIVED):
        _rate(backlog, BACKLOGS[0])
        for _ in range(REPEATS):
            for size in BACKLOGS:
                rates[size].append(_rate(backlog, size))
    against = f"{BACKLOGS[0]:,} waiting"
    return [
        times(
            f"{size:,} waiting", "answers a second", rates[size],
            against, rates[BACKLOGS[0]], goal=at_least(0.9),
        )
        for size in BACKLOGS[1:]
    ]  # fmt: skip


def _rate(backlog: Backlog, size: int) -> float:
    """While so many wait all the time, and when all processes are at work already."""
    some = records(100, seed=1)
    backlog.put(MODEL, size, some)
    backlog.rate(MODEL, WARM_UP, some)
    rate = backlog.rate(MODEL, ANSWERS, some)
    backlog.drop()
    return rate


def _processes(stage: Stage, backlog: Backlog) -> list[Row]:
    """Not in turns, since each number of processes is a worker of its own; they wait, not compute."""
    rates: dict[int, list[float]] = {}
    for count in PROCESS_COUNTS:
        with stage.worker(processes=count, model=models.SLEEPING, settings=FEW_RECORDS):
            backlog.put(models.SLEEPING, SLEEPING_BACKLOG, [{"x": 1.0}])
            time.sleep(RAMP_S)
            rates[count] = [backlog.rate_for(WINDOW_S) for _ in range(REPEATS)]
            backlog.drop()
    one = rates[PROCESS_COUNTS[0]]
    return [
        times(
            f"{count} processes, 16 records and 20 ms a call", "answers a second", rates[count],
            "1 process", one, goal=at_least(0.9 * count),
        )
        for count in PROCESS_COUNTS[1:]
    ]  # fmt: skip


def _many_models(stage: Stage, redis: Redis) -> list[Row]:
    """All at once, in turns with a single one, by callers who take the next model each time."""
    names = models.publish_copies(stage, MODELS)
    many: list[tuple[float, float]] = []
    single: list[tuple[float, float]] = []
    with stage.worker(model=names[-1]):
        for _ in range(REPEATS):
            many.append(_ask(stage, redis, names))
            single.append(_ask(stage, redis, (MODEL,)))
    what = f"{MODELS} models, {IN_FLIGHT} in flight"
    per_call, rates = zip(*many, strict=True)
    _, single_rates = zip(*single, strict=True)
    return [
        alone(what, "records in a call of a pipeline", per_call, goal=at_least(2)),
        times(what, "answers a second", rates, "1 model", single_rates, goal=at_least(0.4)),
    ]


def _ask(stage: Stage, redis: Redis, names: tuple[str, ...]) -> tuple[float, float]:
    """Records in a call of the pipeline on average, and answers a second."""
    records_before, calls_before = _scored(redis)
    rate = asyncio.run(tasks(stage, IN_FLIGHT, ASK_S, models=names))
    time.sleep(REPORTED_S)
    records_after, calls_after = _scored(redis)
    per_call = (records_after - records_before) / (calls_after - calls_before)
    return per_call, rate.per_second


def _scored(redis: Redis) -> tuple[int, int]:
    reports = [one for one in read_reports(redis, Keys(QUEUE)) if one.scores]
    return sum(one.records for one in reports), sum(one.batches for one in reports)
