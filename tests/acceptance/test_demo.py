"""`scoreline demo` tells its story to the end, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from scoreline_tasks.dev.local_worker import scoreline

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(400)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo makes its temporary directories, so that they can be looked for."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def _started_by_us(place: Path) -> list[str]:
    """Command lines of processes that the demo of this test started, or their children did."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(place):
                found.append(" ".join(process.cmdline()))
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return found


def test_the_whole_story_succeeds_without_a_terminal(place: Path) -> None:
    done = subprocess.run(
        scoreline("demo", "--rows", "20000"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20,000 rows" in done.stdout
    assert "pima@2" in done.stdout
    assert "Nothing failed" in done.stdout
    assert (_started_by_us(place), list(place.iterdir())) == ([], [])
    # Its key, which signed two versions, was its own.
    assert not Path(os.environ["SCORELINE_KEYS"]).exists()
    assert not Path(os.environ["SCORELINE_CACHE"]).exists()


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("2  Start", signal.SIGTERM),
        pytest.param("5  Train", signal.SIGINT, marks=pytest.mark.exhaustive),
        pytest.param("1  Train", signal.SIGINT, marks=pytest.mark.exhaustive),
        pytest.param("1  Train", signal.SIGTERM, marks=pytest.mark.exhaustive),
        pytest.param("2  Start", signal.SIGINT, marks=pytest.mark.exhaustive),
        pytest.param("5  Train", signal.SIGTERM, marks=pytest.mark.exhaustive),
    ],
)
def test_an_interrupted_demo_leaves_no_process_and_no_directory(
    place: Path, number: signal.Signals, moment: str, eventually: Callable[..., Any]
) -> None:
    with _demo(place) as child:
        eventually(lambda: moment in (place / "said").read_text())
        child.send_signal(number)
        assert child.wait(30) == 130
    left = [path.name for path in place.iterdir()]
    assert (_started_by_us(place), left) == ([], ["said"])


def test_a_killed_demo_leaves_no_process(place: Path, eventually: Callable[..., Any]) -> None:
    with _demo(place) as child:
        for moment in ("2  Start", "3  Score"):
            eventually(lambda: moment in (place / "said").read_text())  # noqa: B023 - asked at once
        child.kill()
        child.wait()
    eventually(lambda: not _started_by_us(place))


def _demo(place: Path) -> subprocess.Popen[bytes]:
    with (place / "said").open("wb") as output:
        return subprocess.Popen(
            scoreline("demo", "--rows", "1000"), stdout=output, stderr=subprocess.STDOUT
        )
