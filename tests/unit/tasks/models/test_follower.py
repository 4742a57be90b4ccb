"""Following the releases in the background, whatever keeps a process from hearing of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest
from redis.exceptions import RedisError

from scoreline_client.fleet import announce_release
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.models.follower import ReleaseFollower

KEYS = Keys("default")


@pytest.fixture
def redis() -> Iterator[fakeredis.FakeRedis]:
    with fakeredis.FakeRedis() as client:
        yield client


def test_the_releases_are_polled_at_once_when_there_is_news(
    redis: Any, eventually: Callable[..., Any]
) -> None:
    polls: list[None] = []
    follower = ReleaseFollower(lambda: polls.append(None), lambda: redis, KEYS, poll_s=3600)
    follower.start()
    # The first poll, and one when it has learned that it is subscribed.
    eventually(lambda: len(polls) >= 2)
    announce_release(redis, KEYS, "zero")
    eventually(lambda: len(polls) >= 3)
    follower.stop()


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
