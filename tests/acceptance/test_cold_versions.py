"""A version that is not in memory costs nobody else anything, and whoever asks for it waits until it is there."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scoreline_artifacts.store import releases
from scoreline_client import Client
from scoreline_client.fleet import announce_release
from scoreline_client.jobs import JobStatus
from scoreline_training import publish
from tests.acceptance.conftest import MODEL, POOLS, Fleet

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

FRAME = pd.DataFrame({"x": [float(number) for number in range(50)]})
SLOW = """
import time
time.sleep(2)

def keep(frame):
    return frame
"""


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A pipeline that takes two seconds to load and answers x."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "takes_its_time.py").write_text(SLOW)
    monkeypatch.syspath_prepend(folder)
    keep = importlib.import_module("takes_its_time").keep
    yield make_pipeline(FunctionTransformer(keep), LinearRegression()).fit(FRAME, FRAME["x"])
    sys.modules.pop("takes_its_time")


@pytest.mark.parametrize("pool", POOLS)
def test_requests_for_other_versions_are_answered_while_one_is_loaded(
    fleet: Fleet, slow: Any, pool: str
) -> None:
    publish(slow, "slow", FRAME, store=fleet.store, promote=False)
    fleet.start_worker(1, "-P", pool)
    with Client(settings=fleet.settings) as client:
        assert client.predict(MODEL, {"x": 1.0}, timeout=30).version == 1
        job = client.submit("slow@1", [{"x": 7.0}])
        meanwhile = 0
        while job.status() is not JobStatus.DONE:
            assert client.predict(MODEL, {"x": 1.0}, timeout=30).version == 1
            meanwhile += 1
        assert job.result(timeout=30)[0].value == pytest.approx(7.0)
    # It is answered after two loads, and the others never waited for them.
    assert meanwhile > 100


@pytest.mark.parametrize("pool", POOLS)
def test_who_asks_at_once_for_what_was_just_released_waits_for_it(
    fleet: Fleet, slow: Any, tmp_path: Path, pool: str
) -> None:
    fleet.start_worker(1, "-P", pool)
    rows = tmp_path / "rows.csv"
    FRAME.to_csv(rows, index=False)
    with Client(settings=fleet.settings) as client:
        for model in ("first", "second", "third"):
            publish(slow, model, FRAME, store=fleet.store, promote=False)
            releases.promote(fleet.store, model, 1)
            announce_release(fleet.redis, fleet.keys, model)
            if model == "first":
                assert client.predict(model, {"x": 7.0}, timeout=40).value == pytest.approx(7.0)
            elif model == "second":
                many = client.predict_many(model, FRAME.to_dict("records") * 50, timeout=40)
                assert {one.error for one in many} == {None}
            else:
                summary = client.score_file(model, rows, tmp_path / f"{pool}.csv")
                assert (summary.rows, summary.rejected) == (50, 0)


def test_versions_in_a_circle_are_all_answered_and_stop_nobody(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    monkeypatch.setenv("SCORELINE_MAX_VERSIONS", "2")
    from tests.acceptance.conftest import publish_shift

    for version in range(2, 9):
        publish_shift(fleet.store, float(version))
    fleet.start_worker(1)
    with Client(settings=fleet.settings) as client:
        for _ in range(2):
            jobs = [client.submit(f"{MODEL}@{version}", [{"x": 1.0}]) for version in range(1, 9)]
            for version, job in enumerate(jobs, 1):
                assert client.predict(MODEL, {"x": 1.0}).version == 1
                assert job.result(timeout=60)[0].value == pytest.approx(1.0 + version)
