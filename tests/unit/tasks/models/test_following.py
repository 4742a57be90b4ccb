"""The threads beside the tasks: one follows the releases, one reports, and neither stops for a fault."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest
from redis.exceptions import RedisError

from scoreline_artifacts import Store
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.fleet import announce_release, read_reports
from scoreline_client.protocol.keys import Keys
from scoreline_tasks import celery
from scoreline_tasks.models.follower import Keeper
from scoreline_tasks.models.registry import Models
from scoreline_tasks.worker import heartbeat as reporter_module
from scoreline_tasks.worker import watchdog as watcher_module
from scoreline_tasks.worker.heartbeat import Reporter
from scoreline_tasks.worker.process import WorkerProcess
from scoreline_tasks.worker.watchdog import MISSING_LOOKS, Watcher

KEYS = Keys("default")


@pytest.fixture
def redis() -> Iterator[fakeredis.FakeRedis]:
    with fakeredis.FakeRedis() as client:
        yield client


@pytest.fixture
def models(tmp_path: Path) -> Models:
    models = Models(Store(tmp_path), max_versions=2)
    models.add(LoadedVersion.of(_Zero(), "zero", version=3))
    return models


class _Zero:
    def predict(self, frame: Any) -> Any:
        return [0] * len(frame)


def test_a_keeper_looks_at_once_when_there_is_news(
    redis: Any, eventually: Callable[..., Any]
) -> None:
    looks: list[None] = []
    keeper = Keeper(lambda: redis, KEYS, lambda: looks.append(None), poll_s=3600)
    keeper.start()
    # The first look, and one when it has learned that it is subscribed.
    eventually(lambda: len(looks) >= 2)
    announce_release(redis, KEYS, "zero")
    eventually(lambda: len(looks) >= 3)
    keeper.stop()


def test_a_keeper_goes_on_when_the_store_cannot_be_read_and_says_so_once(
    redis: Any, eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    looks: list[None] = []

    def look() -> None:
        looks.append(None)
        raise PermissionError("the store is closed")

    keeper = Keeper(lambda: redis, KEYS, look, poll_s=0.001)
    keeper.start()
    eventually(lambda: len(looks) > 5)
    keeper.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "store_unreadable: the loaded versions go on serving"
    ]


def test_a_reporter_reports_while_a_version_is_being_loaded(
    redis: Any, models: Models, eventually: Callable[..., Any]
) -> None:
    reporter = Reporter(lambda: redis, KEYS, models, name="w@h/2", parent="w@h/1")
    loading, loaded = threading.Event(), threading.Event()

    def load() -> None:
        with models._lock:
            loading.set()
            loaded.wait()

    thread = threading.Thread(target=load)
    thread.start()
    loading.wait()
    reporter.start()
    (report,) = eventually(lambda: read_reports(redis, KEYS))
    loaded.set()
    thread.join()
    assert report.models["zero@production"].serving == 3
    assert (report.parent, report.scores) == ("w@h/1", True)
    reporter.stop()
    assert read_reports(redis, KEYS) == []


@pytest.mark.parametrize("failing", ["let_go", "report"])
def test_a_reporter_goes_on_after_any_failure_and_says_so_once(
    redis: Any,
    models: Models,
    failing: str,
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

    monkeypatch.setattr(reporter_module, "REPORT_EVERY_S", 0.001)
    monkeypatch.setattr(models, failing, fail)
    reporter = Reporter(lambda: redis, KEYS, models, name="w@h/1")
    reporter.start()
    eventually(lambda: len(turns) > 4 and read_reports(redis, KEYS))
    reporter.stop()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f"{failing}_failed: it is tried again soon"]


@pytest.mark.parametrize("failure", [RedisError("away"), OSError("none left"), ValueError("x")])
def test_a_keeper_follows_the_releases_whatever_keeps_it_from_hearing_of_them(
    failure: Exception, eventually: Callable[..., Any]
) -> None:
    class Deaf:
        def pubsub(self, **_: Any) -> Any:
            raise failure

    looks: list[None] = []
    keeper = Keeper(lambda: Deaf(), KEYS, lambda: looks.append(None), poll_s=0.001)  # type: ignore[arg-type, return-value]
    keeper.start()
    eventually(lambda: len(looks) > 3)
    keeper.stop()


def test_a_watcher_looks_again_after_any_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("such as Celery's own loop ends with")

    sent: list[str] = []
    watcher = Watcher(SimpleNamespace())
    monkeypatch.setattr(celery, "send_drain", fail)
    for _ in range(MISSING_LOOKS):
        watcher.look("w@h")
    monkeypatch.setattr(watcher_module, "state", SimpleNamespace(reserved_requests=None))
    watcher.look("w@h")
    monkeypatch.undo()
    monkeypatch.setattr(celery, "send_drain", lambda node, _: sent.append(node))
    for _ in range(MISSING_LOOKS):
        watcher.look("w@h")
    assert sent == ["w@h"]


def test_a_main_process_reports_how_many_children_it_is_to_have(redis: Any, models: Models) -> None:
    reporter = Reporter(lambda: redis, KEYS, models, name="w@h/1", children=lambda: 4)
    assert reporter.report().children == 4
    assert not reporter.report().scores


def test_a_main_process_replaces_its_children_only_for_what_serves_otherwise(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = WorkerProcess()
    newest = process.generations._newest
    monkeypatch.setattr(models, "follow", lambda: True)  # it has refused something
    process._advance(models, 2)
    assert newest.value == 0
    better = LoadedVersion.of(_Zero(), "zero", version=4)
    monkeypatch.setattr(models, "follow", lambda: models.add(better) or True)
    process._advance(models, 2)
    assert newest.value == 1
