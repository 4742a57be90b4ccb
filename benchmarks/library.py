"""Frames and lists of records in one call: through the queue, and in this very process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pandas as pd

from benchmarks.measures import Row, alone, at_least, times
from benchmarks.stage import MODEL, QUEUE, Stage
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client import Client
from scoreline_tasks.dev.demo import records

REPEATS, CALLS = 9, 5
FRAME_ROWS, MANY_RECORDS = 100_000, 10_000
IN_PROCESS = "LoadedVersion.score in this process"


def measure(stage: Stage) -> list[Row]:
    """Both ways in turns, with the same frame."""
    loaded = stage.load()
    listed = records(MANY_RECORDS, seed=1)
    frame = pd.DataFrame(records(FRAME_ROWS, seed=2))
    queued: list[float] = []
    in_process: list[float] = []
    many: list[float] = []
    with stage.worker(), Client(stage.redis_url, queue=QUEUE) as client:
        _check_same(client, loaded, frame)
        client.predict_many(MODEL, listed)
        for _ in range(REPEATS):
            queued.append(FRAME_ROWS / _seconds(lambda: client.predict_frame(MODEL, frame)))
            in_process.append(FRAME_ROWS / _seconds(lambda: loaded.score(frame)))
            many.append(MANY_RECORDS / _seconds(lambda: client.predict_many(MODEL, listed)))
    return [
        times(
            f"predict_frame of {FRAME_ROWS:,} rows", "rows a second", queued,
            IN_PROCESS, in_process, goal=at_least(0.5),
        ),
        alone(
            f"predict_many of {MANY_RECORDS:,} dicts", "records a second", many,
            goal=at_least(300_000),
        ),
    ]  # fmt: skip


def _seconds(work: Callable[[], Any]) -> float:
    """What a call takes of several in a row: who makes so large ones makes more than one."""
    begun = time.perf_counter()
    for _ in range(CALLS):
        work()
    return (time.perf_counter() - begun) / CALLS


def _check_same(client: Client, loaded: LoadedVersion, frame: pd.DataFrame) -> None:
    answers = client.predict_frame(MODEL, frame)
    if answers["error"].notna().any():
        raise AssertionError("rows were rejected")
    if (answers["prediction"].to_numpy() != loaded.score(frame).values).any():
        raise AssertionError("the two ways answer differently")
