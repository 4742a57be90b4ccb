"""A file whose rows make the pipeline raise ends soon, and nobody else waits for it."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from scoreline_artifacts.store import releases
from scoreline_client import Client
from scoreline_training import publish
from tests.acceptance.conftest import MODEL, Fleet

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

TRAIN = pd.DataFrame({"quarter": ["Q1", "Q2", "Q3", "Q4"] * 25, "x": np.arange(100.0)})


@pytest.fixture
def quarters(fleet: Fleet) -> Fleet:
    """A worker that serves a pipeline whose encoder raises for a quarter that it has not seen."""
    encode = make_column_transformer((OneHotEncoder(), ["quarter"]), remainder="passthrough")
    fitted = make_pipeline(encode, LinearRegression()).fit(TRAIN, TRAIN["x"])
    publish(fitted, "quarters", TRAIN, store=fleet.store, promote=False)
    releases.promote(fleet.store, "quarters", 1)
    fleet.start_worker(1)
    return fleet


def _file(path: Path, quarters: list[str]) -> str:
    frame = pd.DataFrame({"quarter": quarters, "x": np.arange(float(len(quarters)))})
    frame.to_csv(path, index=False)
    return str(path)


def test_a_file_in_which_every_row_raises_stops_with_the_reason_and_holds_up_no_request(
    quarters: Fleet, tmp_path: Path
) -> None:
    rows, out = _file(tmp_path / "in.csv", ["Q5"] * 20_000), str(tmp_path / "out.csv")
    answered = []
    done = threading.Event()

    def ask() -> None:
        with Client(settings=quarters.settings) as client:
            while not done.is_set():
                answered.append(client.predict(MODEL, {"x": 1.0}, timeout=30).version)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        stopped = quarters.scoreline("score", "quarters", rows, out)
        before = len(answered)
    finally:
        done.set()
        asking.join()
    told = " ".join(stopped.stderr.split())
    assert stopped.returncode == 2, stopped
    assert "Q5" in told
    assert "--unseen error" in told
    assert before > 100
    # What it advises: the rows are rejected, and the run ends.
    advised = quarters.scoreline("score", "quarters", rows, out, "--unseen", "error", "--restart")
    assert advised.returncode == 1, advised
    assert len(pd.read_csv(out)) == 20_000


def test_the_good_rows_of_a_file_are_all_answered(quarters: Fleet, tmp_path: Path) -> None:
    names = ["Q5" if row % 50 == 0 else f"Q{row % 4 + 1}" for row in range(10_000)]
    rows, out = _file(tmp_path / "in.csv", names), tmp_path / "out.csv"
    scored = quarters.scoreline("score", "quarters", rows, str(out))
    assert scored.returncode == 1, scored
    written = pd.read_csv(out)
    is_bad = written["quarter"] == "Q5"
    assert written["error"].notna().equals(is_bad)
    assert written["prediction"][~is_bad].to_numpy() == pytest.approx(written["x"][~is_bad])
