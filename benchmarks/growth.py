"""What a worker's processes hold after millions of records, beside what they hold after one million."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil

from benchmarks.callers import tasks
from benchmarks.files import MILLION, million_rows, repeated
from benchmarks.measures import Row, at_most, times
from benchmarks.memory_bulk import MEBIBYTE
from benchmarks.stage import MODEL, QUEUE, Stage
from scoreline_client import Client
from scoreline_tasks.dev.demo import records

MANY_ROWS = 10 * MILLION
LIST_RECORDS = 10_000
FEW_LISTS, MANY_LISTS = 10, 50
FEW_S, MANY_S = 1.0, 6.0
IN_FLIGHT = 64


def measure(stage: Stage) -> list[Row]:
    """Every kind of request a little, then a lot; a figure for each child."""
    long = repeated(million_rows(), MANY_ROWS)
    with stage.worker() as worker, Client(stage.redis_url, queue=QUEUE) as client:
        _score(stage, client, million_rows(), lists=FEW_LISTS, seconds=FEW_S)
        before = _resident(worker)
        asked = _score(stage, client, long, lists=MANY_LISTS, seconds=MANY_S)
        after = _resident(worker)
    if before.keys() != after.keys():
        raise AssertionError("a child was replaced meanwhile")
    return [
        times(
            f"each child, {asked / MILLION:.1f} million records later", "MiB resident",
            [after[pid] for pid in before], "after a million", list(before.values()),
            goal=at_most(1.05),
        )
    ]  # fmt: skip


def _score(stage: Stage, client: Client, source: Path, *, lists: int, seconds: float) -> int:
    """A file, lists of records, and single ones; gives how many records that were."""
    rows = client.score_csv(MODEL, source, stage.folder / "growth.csv").rows
    some = records(LIST_RECORDS, seed=3)
    for _ in range(lists):
        client.predict_many(MODEL, some)
    return rows + lists * LIST_RECORDS + asyncio.run(tasks(stage, IN_FLIGHT, seconds)).answers


def _resident(worker: psutil.Process) -> dict[int, float]:
    """MiB of each child that scores, by process id."""
    return {child.pid: child.memory_info().rss / MEBIBYTE for child in worker.children()}
