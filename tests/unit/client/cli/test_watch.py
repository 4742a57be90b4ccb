"""`scoreline status --watch`: what it shows of a glance, on a terminal of some size."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from redis.exceptions import ConnectionError as RedisConnectionError
from rich.console import Console

from scoreline_client.cli import watch as watch_module
from scoreline_client.cli.main import main
from scoreline_client.cli.watch import seconds, shown, spark, watch
from scoreline_client.history import Backlog, HistoryPoint
from scoreline_client.metrics import LaneState
from scoreline_client.overview import Glance, ReleaseState, RunningJob, Times, VersionActivity
from scoreline_client.protocol.job_progress import JobProgress
from scoreline_client.protocol.keys import Lane

NOW = 1_800_000_000.0
BACKLOG = Backlog(waiting=3, oldest_waiting_s=90.0)
GLANCE = Glance(
    at=NOW,
    queue="default",
    window_s=30.0,
    lanes={
        lane: LaneState(waiting=3, scoring=1, oldest_waiting_s=0.25, oldest_s=1.0) for lane in Lane
    },
    history={60: [HistoryPoint(at=int(NOW) - 600, lanes=dict.fromkeys(Lane, BACKLOG))]},
    versions=[
        VersionActivity(
            model="pima",
            version="3",
            requests_per_s=10.0,
            records_per_s=2000.5,
            rejected_share=0.25,
            waited=Times(p50_s=0.001, p99_s=0.004),
            scored=None,
            records=5,
        )
    ],
    errors=[],
    busy_share=0.5,
    workers=[],
    releases=[
        ReleaseState(
            name="pima@production", serving=3, wanted=4, processes=2, refused="it\x1b[2J faults"
        )
    ],
    jobs=[
        RunningJob(
            id="0123abcd",
            progress=JobProgress(
                host="h",
                source="in.csv",
                owner="shop",
                model="pima",
                version=3,
                rows=1000,
                rejected=0,
                percent=40.0,
                rows_per_s=100.0,
                seconds=10.0,
                seconds_left=900.0,
            ),
        )
    ],
    job_count=1,
    dead=7,
    letters=[],
    unreadable=0,
)


def text(glance: Glance, trouble: str = "") -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(shown(glance, trouble))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_glance_has_what_waits_its_history_rates_releases_and_jobs() -> None:
    told = text(GLANCE)
    for part in (
        "250 ms",
        "90 s",
        "2,000.5",
        "25.0%",
        "≤ 4 ms",
        "in.csv",
        "shop",
        "40 %",
        "15 min",
        "7 dead letters",
    ):
        assert part in told, told
    assert "█" in told
    assert "no worker is alive" in told


def test_texts_of_others_steer_no_terminal() -> None:
    told = text(GLANCE, "away: \x1b]0;x\x07")
    assert "\x1b" not in told
    assert "refused: it\\x1b[2J faults" in told


def test_sections_without_news_are_left_out() -> None:
    told = text(replace(GLANCE, versions=[], releases=[], jobs=[], job_count=0))
    assert not any(word in told for word in ("versions", "releases", "bulk jobs", "errors"))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "–"),
        (0, "0 s"),
        (0.0005, "0.5 ms"),
        (1.25, "1.25 s"),
        (119, "119 s"),
        (7300, "2 h"),
        (10**6, "12 days"),
    ],
)
def test_a_time_is_short(value: float | None, told: str) -> None:
    assert seconds(value) == told


def test_bars_are_as_high_as_their_numbers() -> None:
    assert spark([0, 1, 4, 8]) == "▁▂▅█"
    assert spark([0, 0]) == "▁▁"
    assert spark([]) == ""


def test_a_server_that_goes_away_is_waited_for_beside_the_last_glance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Overview:
        def __init__(self) -> None:
            self.answers: Iterator[Any] = iter(
                [GLANCE, RedisConnectionError("gone"), KeyboardInterrupt()]
            )

        def look(self) -> Glance:
            answer = next(self.answers)
            if isinstance(answer, Glance):
                return answer
            raise answer

    monkeypatch.setattr(watch_module, "EVERY_S", 0)
    console = Console(file=io.StringIO(), width=120, height=60, force_terminal=True)
    with pytest.raises(KeyboardInterrupt):
        watch(Overview(), console)  # type: ignore[arg-type]
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "gone" in told
    assert told.rindex("250 ms") > told.index("gone")


def test_watching_needs_a_terminal() -> None:
    done = CliRunner().invoke(main, ["status", "--watch"])
    assert done.exit_code == 2
    assert "needs a terminal" in done.output
