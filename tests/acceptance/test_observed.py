"""What others see of a worker: counts that outlive its processes, Celery's own tools, and its logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scoreline_artifacts.store import releases
from scoreline_client import Client
from scoreline_client.fleet import announce_release
from scoreline_client.metrics import read_state
from tests.acceptance.conftest import (
    MODEL,
    Fleet,
    children_of,
    kill_child,
    kill_group,
    publish_shift,
)

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


def _ok(fleet: Fleet) -> int:
    totals = read_state(fleet.redis, fleet.keys).totals
    return sum(tally.records["ok"] for (model, _, _), tally in totals.items() if model == MODEL)


def test_counts_outlive_releases_killed_children_and_restarts(
    fleet: Fleet, eventually: Callable[..., Any]
) -> None:
    worker = fleet.start_worker(processes=2)
    with Client(settings=fleet.settings) as client:

        def score(count: int) -> None:
            client.predict_many(MODEL, [{"x": 1.0}] * count, timeout=30)

        score(10)
        eventually(lambda: _ok(fleet) == 10)
        score(5)
        publish_shift(fleet.store, 2.0)
        releases.promote(fleet.store, MODEL, 2)
        announce_release(fleet.redis, fleet.keys, MODEL)
        # Children that a release replaces report what they have counted before they end.
        before = 15

        def has_moved() -> bool:
            nonlocal before
            before += 1
            return client.predict(MODEL, {"x": 1.0}).version == 2

        eventually(has_moved)
        eventually(lambda: _ok(fleet) == before)
        replaced = kill_child(worker, 0)
        eventually(replaced)
        score(7)
        eventually(lambda: _ok(fleet) == before + 7)
        kill_group(worker)
        fleet.start_worker(processes=2)
        score(3)
        eventually(lambda: _ok(fleet) == before + 10)
    totals = read_state(fleet.redis, fleet.keys).totals
    assert {version for model, version, _ in totals if model == MODEL} == {"1", "2"}


@contextmanager
def _flower(fleet: Fleet, port: int) -> Iterator[Callable[[str], Any]]:
    """Flower beside a fleet; asks its API."""
    command = [sys.executable, "-m", "celery", "-A", "scoreline_tasks", "flower"]
    environment = {**fleet.environment, "FLOWER_UNAUTHENTICATED_API": "true"}
    options = [f"--port={port}", "--address=127.0.0.1", "--inspect-timeout=5000"]
    log = fleet.log.with_name("flower.log").open("wb")
    with (
        log,
        subprocess.Popen([*command, *options], env=environment, stderr=log, stdout=log) as run,
    ):

        def ask(path: str) -> Any:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
                    return json.loads(reply.read())
            except OSError:
                return None  # not there yet

        try:
            yield ask
        finally:
            run.terminate()


@pytest.mark.exhaustive
def test_celerys_tools_and_the_logs_tell_the_truth(
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Any],
    unused_tcp_port: int,
) -> None:
    pytest.importorskip("flower", reason="Flower is not installed")
    monkeypatch.setenv("SCORELINE_REMOTE_CONTROL", "1")
    monkeypatch.setenv("SCORELINE_LOG", "json")
    worker = fleet.start_worker(2, "--task-events", "--loglevel=DEBUG")
    with _flower(fleet, unused_tcp_port) as ask:
        workers = eventually(lambda: ask("/api/workers?refresh=1"))
        (name,) = workers
        ((known, pool),) = ((name, workers[name]["stats"]["pool"]),)
        assert pool["max-concurrency"] == 2
        assert set(pool["processes"]) == {child.pid for child in children_of(worker)}
        # It is online by its heartbeats, which are events: those of tasks would have come, too.
        eventually(lambda: ask("/api/workers?status=1").get(known))
        assert ask("/api/tasks") == {}

    def celery(*arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "scoreline_tasks", *arguments, "--json"],
            env=fleet.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        # Behind it, `status` says how many nodes there are.
        return json.JSONDecoder().raw_decode(done.stdout.strip())[0]

    assert celery("status", "--timeout=10") == {known: {"ok": "pong"}}
    (active,) = celery("inspect", "active", "--timeout=10").values()
    assert {task["name"] for task in active} <= {"scoreline.drain"}
    kill_child(worker, 1)
    eventually(
        lambda: "exited prematurely" in fleet.log.read_text() or "signal 9" in fleet.log.read_text()
    )
    _check_lines(fleet.log)


def _check_lines(log: Path) -> None:
    text = log.read_text()
    # Celery prints what it is before it logs.
    lines = [line for line in text.splitlines() if line.startswith("{")]
    others = text[text.index("{") :].splitlines()
    assert [line for line in others if not line.startswith("{")] == []
    loggers = {json.loads(line)["logger"].partition(".")[0] for line in lines}
    assert {"celery", "multiprocessing"} <= loggers, loggers
    assert len({json.loads(line)["process"] for line in lines}) > 1 or os.name != "posix"
