"""The baseline for single records: one Celery task for each, as a competent user would write it.

The pipeline is loaded before the pool forks, prefetch is tuned for short tasks, messages and results
are JSON, results come back through the Redis backend. The worker is started as
`celery -A benchmarks.celery_task worker`.
"""

from __future__ import annotations

import os
from typing import Any

import pandas as pd
from celery import Celery, signals

from scoreline_artifacts import Store
from scoreline_artifacts.loading.artifact import load
from scoreline_artifacts.loading.version import LoadedVersion

app = Celery("baseline")
app.conf.update(
    broker_url=os.environ["BASELINE_REDIS_URL"],
    result_backend=os.environ["BASELINE_REDIS_URL"],
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    task_default_queue="baseline",
    task_acks_late=False,
    worker_prefetch_multiplier=32,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    result_expires=3600,
)

_held: dict[str, LoadedVersion] = {}


@signals.worker_init.connect
def preload(**_: Any) -> None:
    """In the parent, before it forks."""
    store = Store.from_environment()
    _held.update({model: load(store, model, 1) for model in store.models()})


@app.task(name="baseline.predict")
def predict(record: dict[str, Any], model: str = "pima") -> dict[str, Any]:
    """Score one record, with one call of the pipeline."""
    loaded = _held[model]
    probabilities = loaded.pipeline.predict_proba(pd.DataFrame([record]))[0].tolist()
    classes = loaded.classes or []
    value = max(range(len(classes)), key=probabilities.__getitem__)
    return {"value": classes[value], "probabilities": probabilities}
