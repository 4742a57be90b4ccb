"""Pipelines of other kinds than Pima's, a ColumnTransformer and boosted trees: single records, and files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import cycle
from typing import Any

from benchmarks import models
from benchmarks.bulk import ScriptedFile, against_script, made_rows
from benchmarks.callers import pipeline_ms, tasks
from benchmarks.celery_callers import celery_tasks, celery_worker
from benchmarks.measures import Rate, Row, alone, minus, times
from benchmarks.stage import QUEUE, Stage
from scoreline_client import Client

REPEATS = 5
WARM_UP_S, REPEAT_S = 0.4, 1.5
DRAWN, FILE_ROWS = 5_000, 200_000
KINDS = {
    models.COLUMNS: "one-hot, imputer, scaler, logistic",
    models.BOOSTED: "ordinals, boosted trees",
}


def measure(stage: Stage) -> list[Row]:
    """Each model online in turns with a Celery task that calls the same pipeline; then a file of its rows."""
    models.publish_columns(stage)
    models.publish_boosted(stage)
    listed = models.mixed_rows(DRAWN, seed=1).to_dict("records")
    # NaN is no JSON: a missing number is null on both sides.
    records = [{k: None if v != v else v for k, v in each.items()} for each in listed]
    with stage.worker(), celery_worker(stage):
        online = [row for model in KINDS for row in _online(stage, model, records)]
    source = made_rows("mixed", FILE_ROWS, models.mixed_rows)
    with stage.worker(), Client(stage.redis_url, queue=QUEUE) as client:
        files = [ScriptedFile(what, model, source, FILE_ROWS, 6) for model, what in KINDS.items()]
        return online + [row for file in files for row in against_script(stage, client, file)]


def _online(stage: Stage, model: str, records: list[dict[str, Any]]) -> Iterator[Row]:
    loaded, rows = stage.load(model), cycle(records)
    pipeline: list[float] = []
    rates: dict[str, list[Rate]] = {}

    def ask(in_flight: int, seconds: float) -> Rate:
        return asyncio.run(tasks(stage, in_flight, seconds, models=(model,), rows=rows))

    for _ in range(REPEATS):
        pipeline.append(pipeline_ms(loaded, records[:1]))
        for in_flight in (64, 1):
            ask(in_flight, WARM_UP_S)
            rates.setdefault(str(in_flight), []).append(ask(in_flight, REPEAT_S))
        celery_tasks(64, WARM_UP_S, model=model, rows=rows)
        rates.setdefault("celery", []).append(celery_tasks(64, REPEAT_S, model=model, rows=rows))
    what, own = KINDS[model], f"{KINDS[model]}: pipeline, 1 row"
    yield alone(own, "ms", pipeline)
    beside = [rate.per_second for rate in rates["celery"]]
    answers = [rate.per_second for rate in rates["64"]]
    yield times(
        f"{what}: 64 in flight", "answers a second", answers, "Celery, 64 in flight", beside
    )
    p50 = [rate.p50_ms for rate in rates["1"]]
    yield minus(f"{what}: 1 in flight", "p50 in ms", p50, own, pipeline)
