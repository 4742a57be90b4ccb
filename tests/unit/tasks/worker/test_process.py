"""What a worker's processes build, and when its children are replaced."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_tasks.models.registry import Models
from scoreline_tasks.queue.drain import Wakeups
from scoreline_tasks.worker import runtime
from scoreline_tasks.worker.process import WorkerProcess


def test_a_main_process_replaces_its_children_only_for_what_serves_otherwise(
    models: Models, zero: Callable[[int], LoadedVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[None] = []
    process: Any = WorkerProcess()
    process._models = models
    process._child_count = lambda: 2
    process._background = SimpleNamespace(
        heartbeat=SimpleNamespace(send_now=lambda: reports.append(None))
    )
    newest = process.generations._newest
    monkeypatch.setattr(models, "follow", lambda: True)  # it has refused something
    process.poll_releases()
    assert (newest.value, len(reports)) == (0, 1)
    monkeypatch.setattr(models, "follow", lambda: models.add(zero(4)) or True)
    process.poll_releases()
    assert (newest.value, len(reports)) == (1, 2)


def test_two_first_tasks_share_one_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)
    built: list[Any] = []

    def build(*_: Any, **__: Any) -> Any:
        # Gives a second builder the time to be here as well.
        with suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.2)
        built.append(SimpleNamespace(start=lambda: None))
        return built[-1]

    monkeypatch.setattr(runtime, "build_runtime", build)
    process = WorkerProcess()
    wakeups = Wakeups(extra_drain=lambda: None, rescue=lambda: None)
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(process.runtime(wakeups))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [got[0]]
    assert got[0] is got[1]


def test_the_app_is_imported_without_the_worker(tmp_path: Any) -> None:
    """`celery -A scoreline_tasks inspect` needs neither shared memory nor numpy."""
    code = (
        "import sys, scoreline_tasks.celery, scoreline_tasks.worker.process as process\n"
        "print(process.this_process.cache_info().currsize, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "False"]
