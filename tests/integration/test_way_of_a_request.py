"""What a reader has to follow: the modules and frames that one `predict` passes through, counted."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd
import pytest
from redis import Redis
from sklearn.tree import DecisionTreeClassifier

from scoreline_artifacts import Store
from scoreline_artifacts.loading.artifact import load
from scoreline_client import Client, ClientSettings
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.models.registry import Models
from scoreline_tasks.queue.drain import Drain, Lease, Wakeups
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Batcher
from scoreline_tasks.scoring.limits import Limits
from scoreline_training import publish

pytestmark = pytest.mark.integration

MODULES = 25
"""Modules whose code runs for one predict, at client and worker together; five of them are the plan's."""
PLAN = "scoreline_artifacts.plan.plan"
FRAMES = 7
"""Calls from the drain to what scores, with it; the last two are the plan's."""


class Recorder:
    """Notes which modules of Scoreline run, in all threads that are started while it is installed."""

    def __init__(self) -> None:
        self.is_on = False
        self.modules: set[str] = set()
        self.between: list[str] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if not self.is_on or event != "call":
            return
        name = frame.f_globals.get("__name__", "")
        if name.startswith("scoreline_"):
            self.modules.add(name)
        # A plan scores in the pipeline's place where publishing has proved it.
        if frame.f_code.co_name == "predict_proba" and name.startswith(("sklearn", PLAN)):
            self.between = self.between or _calls_since_the_drain(frame)


def _calls_since_the_drain(frame: FrameType | None) -> list[str]:
    """The functions of Scoreline from the drain, which is left out, to here."""
    calls = []
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.endswith(".drain"):
            return calls[::-1]
        if name.startswith("scoreline_"):
            calls.append(f"{name}.{frame.f_code.co_name}")
        frame = frame.f_back
    raise AssertionError("the pipeline was not called by a drain")


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    threading.setprofile(recorder)
    yield recorder
    threading.setprofile(None)  # type: ignore[arg-type]


@pytest.fixture
def way(
    recorder: Recorder, client_settings: ClientSettings, redis_client: Redis, tmp_path: Path
) -> Recorder:
    """One lone `predict` of a published version, asked and answered as in production."""
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [0, 1, 0, 1]})
    store = Store(tmp_path / "store")
    publish(
        DecisionTreeClassifier().fit(frame, [0, 0, 1, 1]), "m", frame, [0, 0, 1, 1], store=store
    )
    models = Models(store, max_versions=8)
    models.add(load(store, "m", 1))
    keys = Keys(client_settings.queue)
    queue = RequestQueue(redis_client, keys, "drain", result_ttl_s=60)
    queue.prepare()
    batcher = Batcher(models, Limits(1 << 20, 1000))
    wakeups = Wakeups(extra_drain=lambda: None)
    lease = Lease(queue, lease_s=60, limit_s=60)
    drain = Drain(queue, batcher, lease, keys, wakeups, take=512)
    ended = threading.Event()
    worker = threading.Thread(target=drain.serve, args=(60, ended.is_set))
    worker.start()
    try:
        with Client(settings=client_settings) as client:
            for is_counted in (False, False, True):
                recorder.is_on = is_counted
                sys.setprofile(recorder)
                try:
                    assert client.predict("m", {"a": 1.5, "b": 1}, timeout=10).version == 1
                finally:
                    sys.setprofile(None)
                recorder.is_on = False
    finally:
        ended.set()
        worker.join()
    return recorder


def test_a_lone_request_passes_through_few_modules(way: Recorder) -> None:
    assert len(way.modules) <= MODULES, " ".join(sorted(way.modules))


def test_few_calls_lie_between_the_drain_and_the_pipeline(way: Recorder) -> None:
    assert 1 <= len(way.between) <= FRAMES, way.between
