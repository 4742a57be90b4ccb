"""Waiting for a worker that was just started."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
from collections.abc import Iterator

import pytest
from fakeredis import FakeRedis
from rich.console import Console

from scoreline_client.fleet import ProcessReport, send_report
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.dev.local_worker import (
    WorkerEnded,
    WorkerSilent,
    first_steps,
    wait_until_reporting,
)

KEYS = Keys("q")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stays until it is killed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.fixture
def redis() -> Iterator[FakeRedis]:
    with FakeRedis() as client:
        yield client


def report(redis: FakeRedis, pid: int, parent: str | None = None, children: int = 0) -> None:
    own = ProcessReport(
        name=f"worker@h/{pid}", host="h", pid=pid, started_at=0.0, reported_at=0.0,
        parent=parent, children=children,
    )  # fmt: skip
    send_report(redis, KEYS, own)


def test_the_children_of_a_worker_count(child: subprocess.Popen[bytes], redis: FakeRedis) -> None:
    report(redis, child.pid, children=2)
    report(redis, 1, parent=f"worker@h/{child.pid}")
    report(redis, 2, parent=f"worker@h/{child.pid}")
    found = wait_until_reporting(child, redis, KEYS, processes=2, timeout_s=5)
    assert {one.pid for one in found} == {1, 2}


def test_a_worker_without_children_counts_itself(
    child: subprocess.Popen[bytes], redis: FakeRedis
) -> None:
    report(redis, child.pid)
    (found,) = wait_until_reporting(child, redis, KEYS, timeout_s=5)
    assert found.pid == child.pid


def test_what_a_killed_worker_left_is_not_taken_for_it(
    child: subprocess.Popen[bytes], redis: FakeRedis
) -> None:
    report(redis, child.pid + 1, children=1)
    report(redis, 1, parent=f"worker@h/{child.pid + 1}")
    with pytest.raises(WorkerSilent):
        wait_until_reporting(child, redis, KEYS, timeout_s=0.2)


def test_a_worker_that_ends_is_not_waited_for(
    child: subprocess.Popen[bytes], redis: FakeRedis
) -> None:
    child.kill()
    child.wait()
    with pytest.raises(WorkerEnded, match="exit code -9"):
        wait_until_reporting(child, redis, KEYS, timeout_s=5)


@pytest.mark.parametrize(
    ("absent", "suggested"),
    [
        ((), "scoreline train pima --promote"),
        (("sklearn_pandas",), "scoreline train SCRIPT.py --promote"),
        (("sklearn_pandas", "jinja2"), "pip install 'scoreline[publishing]'"),
    ],
    ids=["training", "publishing", "worker"],
)
def test_what_is_suggested_works_with_what_is_installed(
    monkeypatch: pytest.MonkeyPatch, absent: tuple[str, ...], suggested: str
) -> None:
    def find_spec(name: str) -> object:
        return None if name in absent else name

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    shown = io.StringIO()
    Console(file=shown, width=200).print(first_steps())
    assert suggested in shown.getvalue()
    assert ("pima" in shown.getvalue()) is (not absent)
