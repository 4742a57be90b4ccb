"""With each of Celery's options a worker serves, or it does not start and says why."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from scoreline_artifacts.store import releases
from scoreline_client import Client
from scoreline_client.fleet import announce_release
from tests.acceptance.conftest import MODEL, Fleet, publish_shift

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

SERVE = {
    "prefork": ("-P", "prefork"),
    "solo": ("-P", "solo"),
    "threads": ("-P", "threads"),
    "a task for each child": ("--max-tasks-per-child", "1"),
    "little memory": ("--max-memory-per-child", "1000"),
    "autoscale": ("--autoscale", "3,1"),
    "beat": ("-B", "-s", "{tmp}/schedule"),
    "without": ("--without-gossip", "--without-mingle", "--without-heartbeat"),
    "fair": ("-O", "fair", "-E"),
    "prefetch": ("--prefetch-multiplier", "4"),
    "a short time limit": ("--time-limit", "1"),
    "a name": ("-n", "high-priority@%h"),
    "purge": ("--purge",),
}
ALWAYS = {"threads", "a task for each child", "autoscale"}
"""One of each kind: `test_reload.py` has the pool solo, all other tests of workers have prefork."""
REFUSED = {
    "queues": (("-Q", "high"), "SCORELINE_QUEUE"),
    "excluded queues": (("-X", "scoreline.default"), "SCORELINE_QUEUE"),
    "soft time limit": (("--soft-time-limit", "1"), "SCORELINE_BATCH_LIMIT_S"),
    "spawn": (("--pool-start-method", "spawn"), "-P solo"),
    "processes": (("-P", "processes"), "-P prefork, solo, threads"),
}
REFUSED_ALWAYS = {"queues", "processes"}
"""An option and a pool; the unit tests have the reasons of all."""


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(options, id=name, marks=() if name in ALWAYS else pytest.mark.exhaustive)
        for name, options in SERVE.items()
    ],
)
def test_a_worker_serves_and_moves_to_a_new_version(
    fleet: Fleet, options: tuple[str, ...], tmp_path: Any, eventually: Callable[..., Any]
) -> None:
    placed = [option.format(tmp=tmp_path) for option in options]
    processes = 1 if {"solo", "threads", "--autoscale"} & set(placed) else 2
    fleet.start_worker(processes, *placed)
    publish_shift(fleet.store, 2.0)
    with Client(settings=fleet.settings) as client:
        for number in range(20):
            answer = client.predict(MODEL, {"x": float(number)}, timeout=30)
            assert answer.value == pytest.approx(number + 1)
        releases.promote(fleet.store, MODEL, 2)
        announce_release(fleet.redis, fleet.keys, MODEL)
        # A process that is being replaced goes on listening for half a second.
        eventually(lambda: serves_only(client, 2))
        # Longer than a slice: children of one task each have been replaced meanwhile.
        for _ in range(30):
            many = client.predict_many(MODEL, [{"x": 1.0}] * 500, timeout=30)
            assert {one.version for one in many} == {2}


def serves_only(client: Client, version: int) -> bool:
    """Whether a version answers all that is asked in a second."""
    until = time.monotonic() + 1
    while time.monotonic() < until:
        if client.predict(MODEL, {"x": 1.0}, timeout=30).version != version:
            return False
    return True


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        pytest.param(*case, id=name, marks=() if name in REFUSED_ALWAYS else pytest.mark.exhaustive)
        for name, case in REFUSED.items()
    ],
)
def test_a_worker_that_would_not_serve_does_not_start_and_says_why(
    fleet: Fleet, options: tuple[str, ...], advice: str
) -> None:
    command = [sys.executable, "-m", "celery", "-A", "scoreline_tasks", "worker", *options]
    done = subprocess.run(
        command, env=fleet.environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert options[0] in done.stderr
    assert advice in done.stderr
