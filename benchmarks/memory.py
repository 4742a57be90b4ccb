"""What a worker's processes take together when they serve a large forest, in copies of that forest.

Measured is PSS, which counts a page that n processes share as 1/n in each: the sum is what they really
take. The same worker with a tiny model is subtracted. One copy is what loading the forest adds to a
process that has loaded the tiny one.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from redis import Redis

from benchmarks.stage import Stage
from scoreline_artifacts import Store
from scoreline_artifacts.store import releases
from scoreline_client import AsyncClient
from scoreline_client.fleet import ProcessReport, announce_release, convergence, read_reports
from scoreline_client.protocol.keys import Keys
from scoreline_client.settings import ClientSettings
from scoreline_tasks.dev.local_worker import local_worker, wait_until_reporting
from scoreline_tasks.models.registry import PREVIOUS_KEPT_S
from scoreline_tasks.system import trim

CHILDREN = 4
TINY, LARGE = "tiny", "large"
QUEUE = "memory"
ROWS, COLUMNS = 60_000, 8
GROWN, TREES = 14, 126
"""Trees that are grown, and trees of the forest: the others are copies, each with memory of its own."""
MIB = 1 << 20
GIVE_UP_S = 300


@dataclass(frozen=True)
class Figure:
    """The processes of a worker at one moment."""

    what: str
    total_mib: float
    """PSS of the main process and its children."""
    main_mib: float
    model_mib: float
    """What is left of the total without a worker of the tiny model."""
    copies: float
    """The same in copies of the model."""


def measure(stage: Stage) -> list[Figure]:
    """Start a worker with the tiny model, then one with the large one, and let that one move on."""
    place = _Place(stage)
    publish_models(place.store)
    copy_mib = _one_copy(place)
    with place.worker(TINY) as baseline:
        asyncio.run(place.ask_every_child(TINY))
        nothing = _pss(baseline)
    figures = [Figure("one process, loaded once", 0.0, 0.0, copy_mib, 1.0)]
    figures.append(Figure("worker with a tiny model", sum(nothing), nothing[0], 0.0, 0.0))
    with place.worker(LARGE) as worker:
        asyncio.run(place.ask_every_child(LARGE))
        figures.append(_figure("right after the start", worker, nothing, copy_mib))
        place.release(LARGE, 2)
        asyncio.run(place.ask_every_child(LARGE))
        figures.append(_figure("right after a release", worker, nothing, copy_mib))
        place.wait_until_previous_is_gone(LARGE)
        figures.append(_figure("when the version before is let go", worker, nothing, copy_mib))
    return figures


def publish_models(store: Store) -> None:
    """A forest of one small tree, and two versions of one of some 300 MB."""
    import numpy as np
    import pandas as pd
    from sklearn.ensemble import RandomForestClassifier

    from scoreline_training import publish

    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.random((ROWS, COLUMNS)), columns=list("abcdefgh"))
    # Nothing can be learned from these labels, so that trees grow down to single rows.
    labels = random.integers(0, 2, ROWS)
    few = frame.head(200), labels[:200]
    tiny = RandomForestClassifier(1, max_depth=2, random_state=0).fit(*few)
    publish(tiny, TINY, *few, store=store, promote=False)
    releases.promote(store, TINY, 1)
    for seed in (1, 2):
        forest = RandomForestClassifier(GROWN, max_features=1, random_state=seed, n_jobs=-1)
        forest.fit(frame, labels).set_params(n_jobs=None, n_estimators=TREES)
        forest.estimators_ = [
            copy.deepcopy(forest.estimators_[place % GROWN]) for place in range(TREES)
        ]
        publish(forest, LARGE, *few, store=store, promote=False)
    releases.promote(store, LARGE, 1)


class _Place:
    """A stage's server and a store of our own."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.root = stage.folder / "memory-store"
        self.store = Store(self.root)
        self.keys = Keys(QUEUE)
        self.redis = Redis.from_url(stage.redis_url)
        self.settings = ClientSettings(redis_url=stage.redis_url, queue=QUEUE)

    @contextmanager
    def worker(self, model: str) -> Iterator[psutil.Process]:
        """A worker whose store has one model released."""
        other = LARGE if model == TINY else TINY
        hidden = self.root / other / "releases"
        aside = hidden.with_name("not-released")
        hidden.rename(aside)
        # A small batch is a full one, so that the first drain asks the other children for help.
        os.environ["SCORELINE_BATCH_RECORDS"] = "4"
        where = type(self.stage.where)(
            redis_url=self.stage.redis_url, artifacts=self.root, queue=QUEUE
        )
        log = (self.stage.folder / f"{model}.log").open("wb")
        try:
            with log, local_worker(where, concurrency=CHILDREN, output=log) as child:
                wait_until_reporting(
                    child, self.redis, self.keys, processes=CHILDREN, model=model,
                    timeout_s=GIVE_UP_S,
                )  # fmt: skip
                yield psutil.Process(child.pid)
        finally:
            aside.rename(hidden)

    def release(self, model: str, version: int) -> None:
        """Promote a version and wait until all children serve it."""
        releases.promote(self.store, model, version)
        announce_release(self.redis, self.keys, model)
        _wait(lambda: _all_serve(read_reports(self.redis, self.keys), model, version))

    def wait_until_previous_is_gone(self, model: str) -> None:
        """Wait until every process has one version in memory."""
        _wait(
            lambda: all(
                len(report.models[f"{model}@production"].resident) == 1
                for report in read_reports(self.redis, self.keys)
            )
        )

    async def ask_every_child(self, model: str) -> None:
        """Ask until every child has answered something."""
        record = dict.fromkeys("abcdefgh", 0.5)
        async with AsyncClient(settings=self.settings) as client:
            while not self._all_have_answered():
                await asyncio.gather(
                    *(client.predict(model, record, timeout=GIVE_UP_S) for _ in range(256))
                )

    def _all_have_answered(self) -> bool:
        reports = [one for one in read_reports(self.redis, self.keys) if one.scores]
        return len(reports) == CHILDREN and all(one.requests for one in reports)


def _all_serve(reports: list[ProcessReport], model: str, version: int) -> bool:
    serving, _, waiting = convergence(reports, model, "production", version)
    return len(serving) == CHILDREN and not waiting


def _wait(until: Any) -> None:
    deadline = time.monotonic() + GIVE_UP_S + PREVIOUS_KEPT_S
    while not until():
        if time.monotonic() > deadline:
            raise TimeoutError("the worker did not get there")
        time.sleep(0.1)


def _pss(worker: psutil.Process) -> list[float]:
    """MiB of the main process, and then of each child."""
    return [one.memory_full_info().pss / MIB for one in (worker, *worker.children())]


def _figure(what: str, worker: psutil.Process, nothing: list[float], copy_mib: float) -> Figure:
    now = _pss(worker)
    model_mib = sum(now) - sum(nothing)
    return Figure(what, sum(now), now[0], model_mib, model_mib / copy_mib)


def _one_copy(place: _Place) -> float:
    """What loading the large model adds to a process that has loaded and asked the tiny one."""
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", str(place.store.root)],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return float(json.loads(output))


def _load_here(root: str) -> None:
    from scoreline_artifacts.loading.artifact import load

    store = Store(Path(root))
    kept = [load(store, TINY, 1)]
    before = psutil.Process().memory_full_info().pss
    kept.append(load(store, LARGE, 1))
    trim()
    sys.stdout.write(json.dumps((psutil.Process().memory_full_info().pss - before) / MIB))


if __name__ == "__main__":
    _load_here(sys.argv[1])
