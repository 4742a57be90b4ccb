"""Connections whose other end is gone without a word cost a worker's process seconds, and all of them together no more."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from scoreline_artifacts import Store
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.celery import configuration
from scoreline_tasks.models.registry import Models
from scoreline_tasks.queue.drain import Lease
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.settings import WorkerSettings
from scoreline_tasks.system import TCP_OPTIONS
from scoreline_tasks.worker import runtime
from scoreline_tasks.worker.runtime import Connections, build_supervision
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


def test_a_main_process_leaves_a_server_that_takes_no_writes_any_more(
    redis_url: str, redis_client: Redis, tmp_path: Path
) -> None:
    """Behind its address there may be another one by now. Only reports are written by a process that has no drain."""
    supervision = build_supervision(
        WorkerSettings(redis_url=redis_url),
        Models(Store(tmp_path), max_versions=1),
        SimpleNamespace(score=None),  # type: ignore[arg-type]
        "w@h",
        poll=lambda: None,
        child_count=lambda: 2,
        silence=Silence(),
    )
    rescue: Any = supervision.team.rescues[0]._queue._redis
    supervision.heartbeat.send()
    before = rescue.client_id()
    assert rescue.client_id() == before
    redis_client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        supervision.heartbeat.send()
        assert rescue.client_id() != before
    finally:
        redis_client.execute_command("REPLICAOF", "NO", "ONE")
        rescue.connection_pool.disconnect()


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
