"""The threads beside a worker's work: the heartbeat's reports, and the follower of the release logs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest
from redis.exceptions import NoPermissionError, RedisError

from scoreline_client.fleet import announce_release, read_reports
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.models.registry import Models
from scoreline_tasks.worker import runtime as runtime_module
from scoreline_tasks.worker.runtime import Heartbeat, ReleaseFollower

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

    monkeypatch.setattr(runtime_module, "REPORT_EVERY_S", 0.001)
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


def test_main_processes_note_the_history_and_their_children_do_not(
    redis: Any, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[Keys] = []
    monkeypatch.setattr(runtime_module, "record_history", lambda _, keys: noted.append(keys))
    Heartbeat(lambda: redis, KEYS, models, name="w@h/2", parent="w@h/1").send()
    assert noted == []
    Heartbeat(lambda: redis, KEYS, models, name="w@h/1", child_count=lambda: 2).send()
    assert noted == [KEYS]


def test_a_worker_whose_user_may_not_note_the_history_says_so_once(
    redis: Any, models: Models, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> bool:
        raise NoPermissionError("this user has no permissions")

    monkeypatch.setattr(runtime_module, "record_history", refuse)
    heartbeat = Heartbeat(lambda: redis, KEYS, models, name="w@h/1")
    for _ in range(3):
        heartbeat.send()
    assert [one.getMessage().partition(":")[0] for one in caplog.records] == [
        "history_not_recorded"
    ]
    assert len(read_reports(redis, KEYS)) == 1


def test_the_releases_are_polled_at_once_when_there_is_news(
    redis: Any, eventually: Callable[..., Any]
) -> None:
    polls: list[None] = []
    follower = ReleaseFollower(lambda: bool(polls.append(None)), lambda: redis, KEYS, poll_s=3600)
    follower.start()
    # The first poll, and one when it has learned that it is subscribed.
    eventually(lambda: len(polls) >= 2)
    announce_release(redis, KEYS, "zero")
    eventually(lambda: len(polls) >= 3)
    follower.stop()


def test_a_flood_of_news_costs_one_poll_in_half_a_second(
    redis: Any, eventually: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may publish could make a worker look at its store without a pause, which a bucket charges for."""
    monkeypatch.setattr(runtime_module, "NEWS_EVERY_S", 0.2)
    polls: list[int] = []
    news = 0
    follower = ReleaseFollower(lambda: bool(polls.append(news)), lambda: redis, KEYS, poll_s=3600)
    follower.start()
    eventually(lambda: len(polls) >= 2)
    for news in range(1, 2001):  # noqa: B007 - the polls note it
        redis.publish(KEYS.releases, "m")
    eventually(lambda: polls[-1] == 2000)
    time.sleep(0.5)
    follower.stop()
    assert len(polls) < 20


def test_a_store_that_cannot_be_read_is_polled_again_and_logged_once(
    redis: Any, eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    polls: list[None] = []

    def poll() -> None:
        polls.append(None)
        raise PermissionError("the store is closed")

    follower = ReleaseFollower(poll, lambda: redis, KEYS, poll_s=0.001)
    follower.start()
    eventually(lambda: len(polls) > 5)
    follower.stop()
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "store_unreadable"
    ]


@pytest.mark.parametrize("failure", [RedisError("away"), OSError("none left"), ValueError("x")])
def test_releases_are_followed_without_news_of_them(
    failure: Exception, eventually: Callable[..., Any]
) -> None:
    class Deaf:
        def pubsub(self, **_: Any) -> Any:
            raise failure

    polls: list[None] = []
    deaf: Any = Deaf()
    follower = ReleaseFollower(lambda: polls.append(None), lambda: deaf, KEYS, poll_s=0.001)
    follower.start()
    eventually(lambda: len(polls) > 3)
    follower.stop()
