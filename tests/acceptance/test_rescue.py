"""What a dead process had in hand is answered at once, and a row that is fatal costs itself in every way in."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scoreline_artifacts.store import releases
from scoreline_client import AsyncClient, Client, Prediction, RecordRejected
from scoreline_client.protocol.keys import GROUP, Lane
from scoreline_training import publish
from tests.acceptance.conftest import Fleet, children_of

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

FRAME = pd.DataFrame({"x": [float(number) for number in range(50)]})
LEASE_S = "3600"
"""Nothing is answered in these tests because a lease was over."""


def _wait_for(frame: pd.DataFrame, flag: str) -> pd.DataFrame:
    while not Path(flag).exists() and "celery" in sys.modules:
        time.sleep(0.05)
    return frame


def _die_of_1313(frame: pd.DataFrame) -> pd.DataFrame:
    if (frame["x"] == 1212).any():
        np.ones(1 << 28)  # 2 GiB
    if (frame["x"] == 1313).any():
        os.kill(os.getpid(), signal.SIGSEGV)
    return frame


def _publish(fleet: Fleet, step: FunctionTransformer, model: str) -> None:
    """Publish and promote a model that answers x + 1 after a step."""
    pipeline = make_pipeline(step, LinearRegression())
    publish(pipeline.fit(FRAME, FRAME["x"] + 1), model, FRAME, store=fleet.store, promote=False)
    releases.promote(fleet.store, model, 1)


def test_what_a_killed_child_had_in_hand_waits_for_no_lease(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    monkeypatch.setenv("SCORELINE_LEASE_S", LEASE_S)
    flag = tmp_path / "flag"
    flag.touch()
    _publish(fleet, FunctionTransformer(_wait_for, kw_args={"flag": str(flag)}), "waiting")
    worker = fleet.start_worker(processes=1)
    with Client(settings=fleet.settings) as client:
        assert client.predict("waiting", {"x": 0.0}).value == pytest.approx(1.0)
        flag.unlink()
        jobs = [client.submit("waiting", [{"x": float(number)}]) for number in range(50)]
        lane = fleet.keys.lane(Lane.ONLINE)
        eventually(lambda: fleet.redis.xpending(lane, GROUP)["pending"])
        children_of(worker)[0].kill()
        flag.touch()
        values = [job.result(timeout=40)[0].value for job in jobs]
    assert values == pytest.approx([number + 1.0 for number in range(50)])


async def _ask(fleet: Fleet, numbers: list[float]) -> list[Prediction | BaseException]:
    async with AsyncClient(settings=fleet.settings) as client:
        asked = (client.predict("fatal", {"x": number}) for number in numbers)
        return await asyncio.gather(*asked, return_exceptions=True)


def test_a_row_that_kills_its_process_costs_that_row_in_every_way_in(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCORELINE_LEASE_S", LEASE_S)
    monkeypatch.setenv("SCORELINE_MEMORY_LIMIT_MB", "500")
    _publish(fleet, FunctionTransformer(_die_of_1313), "fatal")
    fleet.start_worker(processes=1)
    with (
        Client(settings=fleet.settings) as client,
        pytest.raises(RecordRejected, match="MemoryError"),
    ):
        client.predict("fatal", {"x": 1212.0})
    numbers = [float(number) for number in range(200)]
    numbers[77] = 1313.0
    # All of them with the default timeout, and most of them in a request with the fatal one.
    *answers, last = asyncio.run(_ask(fleet, [*numbers, 1.0]))
    fatal = answers.pop(77)
    assert isinstance(fatal, Exception)
    assert getattr(fatal, "code", None) == "E_CRASHED"
    values = [one.value if isinstance(one, Prediction) else one for one in [*answers, last]]
    assert values == pytest.approx([n + 1 for n in [*numbers[:77], *numbers[78:], 1.0]])

    frame = pd.DataFrame({"x": numbers})
    expected = [None if number == 1313 else number + 1 for number in numbers]
    frame.to_csv(tmp_path / "in.csv", index=False)
    frame.to_parquet(tmp_path / "in.parquet")
    with Client(settings=fleet.settings) as client:
        outputs = [client.predict_frame("fatal", frame)]
        for name, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
            summary = client.score_file("fatal", tmp_path / f"in.{name}", tmp_path / f"out.{name}")
            assert (summary.rows, summary.rejected) == (200, 1)
            outputs.append(read(tmp_path / f"out.{name}"))
    for output in outputs:
        found = output["prediction"].astype(float)
        assert [None if pd.isna(one) else round(one, 6) for one in found] == expected
        assert [row for row, error in enumerate(output["error"]) if not pd.isna(error)] == [77]
        assert output["error"][77].startswith("E_CRASHED")
    letters = fleet.scoreline("dead-letters", "list", "--json")
    assert letters.stdout.count('"id"') == 4
