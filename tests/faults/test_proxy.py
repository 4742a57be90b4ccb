"""What the proxy does to connections is what it says; the faults of this folder rest on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from tests.faults.proxy import Proxy, Way

pytestmark = pytest.mark.integration


@pytest.fixture
def proxy(valkey_server: Any, redis_client: Redis) -> Iterator[Proxy]:
    with Proxy(valkey_server.port) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: Proxy) -> Iterator[Redis]:
    """A client that tries everything once, over one connection."""
    with Redis.from_url(
        proxy.url, socket_timeout=0.3, retry=Retry(NoBackoff(), 0), single_connection_client=True
    ) as redis:
        yield redis


def test_bytes_pass(proxy: Proxy, through: Redis) -> None:
    value = b"x" * 3_000_000
    through.set("key", value)
    assert through.get("key") == value
    assert proxy.connections == 1


def test_a_dropped_reply_is_that_of_a_command_which_was_done(
    proxy: Proxy, through: Redis, redis_client: Redis
) -> None:
    proxy.drop_reply(b"INCR")
    through.ping()
    with pytest.raises(RedisConnectionError):
        through.incr("count")
    assert through.incr("count") == 2
    assert redis_client.get("count") == b"2"
    assert proxy.dropped == 1


def test_reset_ends_connections_and_new_ones_pass(proxy: Proxy, through: Redis) -> None:
    through.ping()
    assert proxy.reset() == 1
    with pytest.raises(RedisConnectionError):
        through.ping()
    assert through.ping()


def test_refused_connections_come_again_after_healing(proxy: Proxy, through: Redis) -> None:
    through.ping()
    proxy.refuse()
    for _ in range(2):
        with pytest.raises(RedisConnectionError):
            through.ping()
    proxy.heal()
    assert through.ping()


@pytest.mark.parametrize("new", [True, False])
def test_a_lost_peer_is_silent_for_ever_and_new_connections_as_asked(
    proxy: Proxy, through: Redis, new: bool
) -> None:
    through.ping()
    proxy.stall(new=new)
    with pytest.raises(RedisTimeoutError):
        through.ping()
    if new:
        with pytest.raises(RedisTimeoutError):
            through.ping()
        proxy.heal()
    assert through.ping()


def test_commands_held_back_arrive_after_healing(
    proxy: Proxy, through: Redis, redis_client: Redis
) -> None:
    through.ping()
    proxy.stall(is_lost=False, ways=frozenset({Way.REPLIES}))
    with pytest.raises(RedisTimeoutError):
        through.incr("count")
    assert redis_client.get("count") == b"1"
    connection = through.connection
    assert connection is not None
    proxy.stall(is_lost=False)
    connection.send_command("INCR", "count")
    proxy.heal()
    assert connection.read_response() is not None
    assert redis_client.get("count") == b"2"


def test_a_slow_network_delays_and_throttles(proxy: Proxy, through: Redis) -> None:
    through.connection_pool.connection_kwargs["socket_timeout"] = 30
    through.set("key", b"x" * 100_000)
    proxy.slow(delay_s=0.05, bytes_per_s=1_000_000)
    begun = time.monotonic()
    through.get("key")
    assert time.monotonic() - begun > 0.15
