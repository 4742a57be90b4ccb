"""Connections whose other end is gone without a word cost a worker's process seconds, and all of them together no more."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from scoreline_client.protocol.keys import Keys
from scoreline_tasks.celery import configuration
from scoreline_tasks.queue.drain import Lease
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.settings import WorkerSettings
from scoreline_tasks.system import TCP_OPTIONS
from scoreline_tasks.worker import runtime
from scoreline_tasks.worker.runtime import Connections
from scoreline_tasks.worker.shared import Silence
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.integration

REPLY_S = 0.2


@pytest.fixture
def proxy(valkey_server: Any, redis_client: Redis) -> Iterator[Proxy]:
    with Proxy(valkey_server.port, valkey_server.host) as proxy:
        yield proxy


@pytest.fixture
def connections(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Connections:
    monkeypatch.setattr(runtime, "REPLY_S", REPLY_S)
    return Connections(WorkerSettings(redis_url=proxy.url), Silence())


def test_one_time_out_is_enough_for_all_connections_of_a_process(
    proxy: Proxy, connections: Connections
) -> None:
    """Each would be found dead by a time-out of its own, one after the other: a minute in all."""
    queue = RequestQueue(connections.open(), Keys("default"), "one", result_ttl_s=60)
    queue.prepare()
    queue.begin_slice()
    redis = connections.open()
    redis.ping()
    proxy.stall()
    with pytest.raises(RedisTimeoutError) as silence:
        queue.begin_slice()
    connections.note_error(silence.value)
    queue.begin_slice()
    assert queue.own() == []
    assert redis.ping()


def test_what_one_process_of_a_worker_notices_the_others_need_not_find_out(
    proxy: Proxy, connections: Connections
) -> None:
    other = Connections(WorkerSettings(redis_url=proxy.url), connections._silence)
    theirs, own = other.open(), connections.open()
    theirs.ping()
    own.ping()
    proxy.stall()
    with pytest.raises(RedisTimeoutError) as silence:
        own.ping()
    connections.note_error(silence.value)
    other.check()
    assert theirs.ping()
    assert own.ping()


def test_a_refusal_of_the_server_costs_no_connection(connections: Connections) -> None:
    redis = connections.open()
    before = redis.client_id()
    connections.note_error(ResponseError("OOM command not allowed"))
    connections.check()
    assert redis.client_id() == before
    connections.note_error(
        ReadOnlyError("READONLY")
    )  # what is behind the address may be another one by now
    assert redis.client_id() != before


def test_a_lease_is_renewed_over_a_new_connection(
    proxy: Proxy, connections: Connections, redis_client: Redis, eventually: Callable[..., Any]
) -> None:
    queue = RequestQueue(connections.open(), Keys("default"), "one", result_ttl_s=60)
    queue.prepare()
    redis_client.xadd(Keys("default").lane(next(iter(queue._lanes.values()))), {"body": "x"})
    entries = queue.exchange([], take=1)
    lease = Lease(queue, lease_s=0.3, limit_s=60)
    with lease.hold(entries):
        lease.renew()
        proxy.stall()
        lease.start()
        lane = Keys("default").lane(entries[0].lane)
        pending = lambda: redis_client.xpending_range(lane, "workers", "-", "+", 1)  # noqa: E731
        time.sleep(2 * REPLY_S)
        eventually(lambda: pending()[0]["time_since_delivered"] < 50)  # type: ignore[index]
    lease.stop()


def test_neither_the_workers_connections_nor_celerys_wait_for_long() -> None:
    options = configuration()["broker_transport_options"]
    assert options["socket_timeout"] <= 3
    assert options["socket_connect_timeout"] <= 3
    # A wait for messages is over after this and a second.
    assert options["health_check_interval"] <= 2
    assert options["socket_keepalive_options"] == TCP_OPTIONS
    assert socket.TCP_KEEPIDLE in TCP_OPTIONS
