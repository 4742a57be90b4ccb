"""Single records: Scoreline's clients against one Celery task per record, and against the pipeline alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from benchmarks.callers import pipeline_ms, seldom, tasks, threads
from benchmarks.celery_callers import celery_tasks, celery_worker
from benchmarks.measures import Goal, Rate, Row, alone, at_least, at_most, minus, times
from benchmarks.stage import Stage
from scoreline_tasks.dev.demo import records

REPEATS = 5
WARM_UP_S = 0.4
REPEAT_S = 1.5
SILENCE_S = 1.0
SELDOM_CALLS = 6
PIPELINE_1, PIPELINE_64 = "pipeline, 1 row", "pipeline, 64 rows"
TASKS_1, TASKS_64, TASKS_512 = "1 in flight", "64 in flight", "512 in flight"
THREADS_64 = "64 threads, sync Client"
SELDOM = "1 in flight after 1 s of silence"
CELERY_1, CELERY_64 = "Celery, 1 in flight", "Celery, 64 in flight"

Ask = Callable[[float], Rate]
Figure = Literal["per_second", "p50_ms", "p99_ms"]

UNITS: dict[Figure, str] = {
    "per_second": "answers a second",
    "p50_ms": "p50 in ms",
    "p99_ms": "p99 in ms",
}


class _Found:
    """What every repeat found, by who asked."""

    def __init__(self) -> None:
        self.rates: dict[str, list[Rate]] = {}
        self.pipeline: dict[str, list[float]] = {PIPELINE_1: [], PIPELINE_64: []}

    def of(self, who: str, figure: Figure) -> list[float]:
        return [getattr(rate, figure) for rate in self.rates[who]]

    def alone(self, who: str, figure: Figure, goal: Goal | None = None) -> Row:
        return alone(who, UNITS[figure], self.of(who, figure), goal=goal)

    def beside(self, who: str, other: str, figure: Figure, goal: Goal | None = None) -> Row:
        baseline = self.of(other, figure)
        return times(who, UNITS[figure], self.of(who, figure), other, baseline, goal=goal)

    def over_pipeline(self, who: str, goal: Goal) -> Row:
        """What is left of the median when the pipeline's own time is taken off."""
        own = self.pipeline[PIPELINE_1]
        return minus(who, UNITS["p50_ms"], self.of(who, "p50_ms"), PIPELINE_1, own, goal=goal)


def measure(stage: Stage) -> list[Row]:
    """Both sides' workers wait all the time; one side at a time is asked, in turns."""
    found = _Found()
    loaded = stage.load()
    with stage.worker(), celery_worker(stage):
        sides = _sides(stage)
        for _ in range(REPEATS):
            found.pipeline[PIPELINE_1].append(pipeline_ms(loaded, records(1, seed=1)))
            found.pipeline[PIPELINE_64].append(pipeline_ms(loaded, records(64, seed=1)))
            for who, ask in sides.items():
                ask(WARM_UP_S)
                found.rates.setdefault(who, []).append(ask(REPEAT_S))
            rate = asyncio.run(seldom(stage, SELDOM_CALLS, SILENCE_S))
            found.rates.setdefault(SELDOM, []).append(rate)
    return _rows(found)


def _sides(stage: Stage) -> dict[str, Ask]:
    return {
        TASKS_64: lambda seconds: asyncio.run(tasks(stage, 64, seconds)),
        CELERY_64: lambda seconds: celery_tasks(64, seconds),
        TASKS_512: lambda seconds: asyncio.run(tasks(stage, 512, seconds)),
        THREADS_64: lambda seconds: threads(stage, 64, seconds),
        TASKS_1: lambda seconds: asyncio.run(tasks(stage, 1, seconds)),
        CELERY_1: lambda seconds: celery_tasks(1, seconds),
    }


def _rows(found: _Found) -> list[Row]:
    return [
        *(alone(name, "ms", took) for name, took in found.pipeline.items()),
        found.beside(TASKS_64, CELERY_64, "per_second", at_least(110)),
        found.beside(TASKS_64, CELERY_64, "p50_ms"),
        # The goal is for a pipeline that takes 1.1 ms: see the first row.
        found.alone(TASKS_64, "p99_ms", at_most(12)),
        found.beside(TASKS_512, CELERY_64, "per_second", at_least(350)),
        found.alone(TASKS_512, "p50_ms"),
        found.alone(TASKS_512, "p99_ms"),
        found.beside(THREADS_64, CELERY_64, "per_second", at_least(60)),
        found.alone(THREADS_64, "p50_ms"),
        found.alone(THREADS_64, "p99_ms"),
        found.over_pipeline(TASKS_1, at_most(1.0)),
        found.beside(TASKS_1, CELERY_1, "p50_ms"),
        found.beside(TASKS_1, CELERY_1, "p99_ms"),
        found.over_pipeline(SELDOM, at_most(3.0)),
    ]
