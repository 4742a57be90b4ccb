"""A version is proven in the kind of process that serves it: threads of its libraries, settings of its modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from lightgbm import LGBMClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from scoreline_artifacts.store import releases
from scoreline_client import Client, RequestRefused
from scoreline_client.fleet import announce_release
from scoreline_training import publish
from tests.acceptance.conftest import MODEL, POOLS, Fleet, children_of, kill_child

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

_random = np.random.default_rng(0)
FRAME = pd.DataFrame({"a": _random.normal(size=400), "b": _random.normal(size=400)})
LABELS = (FRAME["a"] + FRAME["b"] > 0).astype(int)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Any]:
    """Makes a module of a training project."""
    made: list[str] = []
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def make(name: str, text: str) -> Any:
        (folder / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        sys.modules.pop(name, None)
        made.append(name)
        return importlib.import_module(name)

    yield make
    for name in made:
        sys.modules.pop(name, None)


def _publish(fleet: Fleet, pipeline: Any, model: str, labels: Any = None) -> list[Any]:
    """Publish and promote; returns the answers for the first 20 rows."""
    publish(pipeline, model, FRAME, labels, store=fleet.store, promote=False)
    releases.promote(fleet.store, model, 1)
    return list(pipeline.predict(FRAME.head(20)))


def _ask(fleet: Fleet, model: str) -> list[Any]:
    with Client(settings=fleet.settings) as client:
        records = FRAME.head(20).to_dict("records")
        return [one.value for one in client.predict_many(model, records, timeout=40)]


def _threaded() -> dict[str, Any]:
    return {
        "lightgbm": LGBMClassifier(n_jobs=2, n_estimators=5, verbose=-1),
        "histogram": HistGradientBoostingClassifier(max_iter=5),
    }


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    "kind", ["lightgbm", pytest.param("histogram", marks=pytest.mark.exhaustive)]
)
def test_a_pipeline_with_threads_of_its_own_answers_whenever_it_is_released(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, kind: str, pool: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    before = _publish(fleet, _threaded()[kind].fit(FRAME, LABELS), "before", LABELS)
    fleet.start_worker(2 if pool == "prefork" else 1, "-P", pool)
    assert _ask(fleet, "before") == before
    again = _publish(fleet, _threaded()[kind].fit(FRAME, LABELS), "again", LABELS)
    announce_release(fleet.redis, fleet.keys, "again")
    assert _ask(fleet, "again") == again
    # A process that has scored tries the next version, or has it tried.
    assert _ask(fleet, "before@1") == before
    assert _ask(fleet, MODEL + "@1") is not None


def test_requests_that_a_dead_process_left_are_rescued_from_one_that_has_scored_with_threads(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    expected = _publish(fleet, _threaded()["lightgbm"].fit(FRAME, LABELS), "boosted", LABELS)
    worker = fleet.start_worker()
    assert _ask(fleet, "boosted") == expected
    with Client(settings=fleet.settings) as client:
        records = FRAME.head(20).to_dict("records")
        # Held by a process that is no more, as XREADGROUP leaves them.
        for child in children_of(worker):
            child.suspend()
        jobs = [client.submit("boosted", records) for _ in range(20)]
        for child in children_of(worker):
            child.resume()
        for place in range(2):
            # Not while one of them is a throw-away process that has just been forked.
            eventually(lambda: len(children_of(worker)) == 2)
            eventually(kill_child(worker, place))
        for job in jobs:
            assert [one.value for one in job.result(timeout=60)] == expected


POOL_AT_IMPORT = """
import queue, threading

import numpy as np

asked, answered = queue.Queue(), queue.Queue()

def work():
    while True:
        answered.put(asked.get() + 1)

threading.Thread(target=work, daemon=True).start()

def add_one(frame):
    asked.put(frame)
    return answered.get()
"""


def test_a_version_that_starts_threads_when_it_is_loaded_is_loaded_by_each_process_itself(
    fleet: Fleet, module: Callable[[str, str], Any]
) -> None:
    add_one = module("adding", POOL_AT_IMPORT).add_one
    pipeline = make_pipeline(FunctionTransformer(add_one), LinearRegression())
    expected = _publish(fleet, pipeline.fit(FRAME, FRAME["a"]), "adding", FRAME["a"])
    fleet.start_worker()
    assert _ask(fleet, "adding") == pytest.approx(expected)
    assert _ask(fleet, MODEL) is not None
    status = fleet.scoreline("status")
    assert "each process loads it for itself" in " ".join(status.stdout.split())


HANGS_ON_WORKERS = """
import sys, time

def wait(frame):
    if "celery" in sys.modules:
        time.sleep(3600)
    return frame
"""


@pytest.mark.parametrize("pool", POOLS)
def test_a_version_that_hangs_where_it_serves_is_refused_and_costs_no_other_model(
    fleet: Fleet, module: Callable[[str, str], Any], monkeypatch: pytest.MonkeyPatch, pool: str
) -> None:
    monkeypatch.setenv("SCORELINE_LOAD_LIMIT_S", "4")
    wait = module("waiting", HANGS_ON_WORKERS).wait
    monkeypatch.delitem(sys.modules, "celery", raising=False)
    pipeline = make_pipeline(FunctionTransformer(wait), LinearRegression()).fit(FRAME, LABELS)
    publish(pipeline, "waiting", FRAME, LABELS, store=fleet.store, promote=False)
    releases.promote(fleet.store, "waiting", 1)
    fleet.start_worker(2 if pool == "prefork" else 1, "-P", pool)
    with Client(settings=fleet.settings) as client:
        assert client.predict(MODEL, {"x": 1.0}).version == 1
        with pytest.raises(RequestRefused, match="longer than 4 s"):
            client.predict("waiting", FRAME.iloc[0].to_dict(), timeout=40)
    assert "longer than 4 s" in fleet.scoreline("status", "--json").stdout


OUTPUT = """
import sklearn
sklearn.set_config(transform_output="pandas")

def total(frame):
    assert list(frame.columns) == ["a", "b"]
    return frame
"""
PLAIN = """
def total(frame):
    assert type(frame).__name__ == "ndarray", type(frame)
    return frame
"""
STREAM = """
import sys, warnings
import pandas as pd
sys.stdout.reconfigure(errors="replace")
warnings.simplefilter("error", FutureWarning)
pd.set_option("display.max_colwidth", 7)

def keep(frame):
    assert pd.get_option("display.max_colwidth") == 7
    assert sys.stdout.errors == "replace"
    return frame
"""


@pytest.mark.parametrize("pool", POOLS)
def test_what_a_module_sets_holds_where_its_version_is_scored_and_nowhere_else(
    fleet: Fleet, module: Callable[[str, str], Any], pool: str
) -> None:
    expected: dict[str, list[Any]] = {}

    def publish_with(name: str, text: str, function: str) -> None:
        # What the module sets in this process is undone, so that the next one is trained without it.
        with sklearn.config_context(), pd.option_context("display.max_colwidth", 50):
            step = FunctionTransformer(getattr(module(name, text), function))
            pipeline = make_pipeline(StandardScaler(), step, LinearRegression())
            pipeline.fit(FRAME, FRAME["a"])
            expected[name] = _publish(fleet, pipeline, name, FRAME["a"])

    def check() -> None:
        for _ in range(2):
            for name, values in expected.items():
                assert _ask(fleet, name) == pytest.approx(values), name

    publish_with("plain", PLAIN, "total")
    publish_with("output", OUTPUT, "total")
    processes = 2 if pool == "prefork" else 1
    worker = fleet.start_worker(processes, "-P", pool)
    check()
    # Released while it runs, and there from the start.
    publish_with("stream", STREAM, "keep")
    publish_with("again", OUTPUT, "total")
    announce_release(fleet.redis, fleet.keys, "again")
    check()
    worker.terminate()
    worker.wait(30)
    fleet.start_worker(processes, "-P", pool)
    check()
