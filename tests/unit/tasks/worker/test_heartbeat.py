"""What a process reports of itself, and that it does so whatever else happens to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest

from scoreline_client.fleet import read_reports
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.models.registry import Models
from scoreline_tasks.worker import heartbeat as heartbeat_module
from scoreline_tasks.worker.heartbeat import Heartbeat

KEYS = Keys("default")


@pytest.fixture
def redis() -> Iterator[fakeredis.FakeRedis]:
    with fakeredis.FakeRedis() as client:
        yield client


def test_a_process_reports_while_a_version_is_being_loaded(
    redis: Any, models: Models, eventually: Callable[..., Any]
) -> None:
    heartbeat = Heartbeat(lambda: redis, KEYS, models, name="w@h/2", parent="w@h/1")
    loading, loaded = threading.Event(), threading.Event()

    def load() -> None:
        with models._lock:
            loading.set()
            loaded.wait()

    thread = threading.Thread(target=load)
    thread.start()
    loading.wait()
    heartbeat.start()
    (report,) = eventually(lambda: read_reports(redis, KEYS))
    loaded.set()
    thread.join()
    assert report.models["zero@production"].serving == 3
    assert (report.parent, report.scores) == ("w@h/1", True)
    heartbeat.stop()
    assert read_reports(redis, KEYS) == []


def test_reports_go_on_after_any_failure_which_is_logged_once(
    redis: Any,
    models: Models,
    eventually: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    turns: list[None] = []

    def fail() -> Any:
        turns.append(None)
        if len(turns) <= 3:
            raise ValueError("of a kind that nobody expected")
        return {}

    monkeypatch.setattr(heartbeat_module, "REPORT_EVERY_S", 0.001)
    monkeypatch.setattr(models, "report", fail)
    heartbeat = Heartbeat(lambda: redis, KEYS, models, name="w@h/1")
    heartbeat.start()
    eventually(lambda: len(turns) > 4 and read_reports(redis, KEYS))
    heartbeat.stop()
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["report_failed"]


def test_a_main_process_reports_how_many_children_it_is_to_have(redis: Any, models: Models) -> None:
    heartbeat = Heartbeat(lambda: redis, KEYS, models, name="w@h/1", child_count=lambda: 4)
    assert heartbeat.report().children == 4
    assert not heartbeat.report().scores
