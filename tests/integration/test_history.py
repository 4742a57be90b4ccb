"""The history of a queue, noted by the server itself, asked of a real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError, OutOfMemoryError

from scoreline_client.cli.acl import Role, rights
from scoreline_client.history import RINGS, Backlog, HistoryPoint, read_history, record_history
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.protocol.messages import Request, new_id
from tests.support.worker import StubWorker, enqueue

pytestmark = pytest.mark.integration

KEYS = Keys("default")
SHORT, LONG = RINGS


def queue_request(redis: Redis, lane: Lane = Lane.ONLINE) -> None:
    enqueue(redis, Request(id=new_id(), model="m", body=b"[{}]", expires_ms=60_000), lane)


def newest(redis: Redis, step: int = SHORT) -> HistoryPoint:
    return read_history(redis, KEYS)[step][-1]


def forget_step(redis: Redis) -> None:
    """Let the next record be that of a new short step, whatever the time is."""
    redis.lpop(KEYS.history(SHORT))


def test_a_point_has_what_no_worker_has_taken(redis_client: Redis) -> None:
    StubWorker(redis_client)
    for _ in range(3):
        queue_request(redis_client)
    queue_request(redis_client, Lane.BULK)
    redis_client.xreadgroup(GROUP, "w", {KEYS.lane(Lane.ONLINE): ">"}, count=1)
    assert record_history(redis_client, KEYS)
    point = newest(redis_client)
    assert {lane: backlog.waiting for lane, backlog in point.lanes.items()} == {
        Lane.ONLINE: 2,
        Lane.BULK: 1,
    }


def test_the_oldest_request_is_the_first_that_nobody_has_taken(
    redis_client: Redis, eventually: Callable[..., Any]
) -> None:
    StubWorker(redis_client)
    queue_request(redis_client)
    redis_client.xreadgroup(GROUP, "w", {KEYS.lane(Lane.ONLINE): ">"})
    record_history(redis_client, KEYS)
    assert newest(redis_client).lanes[Lane.ONLINE].oldest_waiting_s == 0
    queue_request(redis_client)

    def is_seen() -> bool:
        forget_step(redis_client)
        record_history(redis_client, KEYS)
        return newest(redis_client).lanes[Lane.ONLINE].oldest_waiting_s > 0.05

    eventually(is_seen)
    # One that is cancelled leaves a gap, after which the server does not know a group's `lag` any more.
    redis_client.delete(KEYS.history(SHORT))
    waiting = redis_client.xrange(KEYS.lane(Lane.ONLINE))[-1][0]
    redis_client.xdel(KEYS.lane(Lane.ONLINE), waiting)
    record_history(redis_client, KEYS)
    assert newest(redis_client).lanes[Lane.ONLINE] == Backlog(waiting=0, oldest_waiting_s=0)


def test_a_step_is_noted_once_however_many_workers_there_are(redis_client: Redis) -> None:
    noted = [record_history(redis_client, KEYS) for _ in range(200)]
    points = read_history(redis_client, KEYS)[SHORT]
    assert sum(noted) == len(points)
    assert all(later.at > earlier.at for earlier, later in pairwise(points))


def test_a_long_step_has_the_most_of_its_short_ones(redis_client: Redis) -> None:
    for _ in range(5):
        queue_request(redis_client)
    record_history(redis_client, KEYS)
    redis_client.delete(KEYS.lane(Lane.ONLINE))
    forget_step(redis_client)
    record_history(redis_client, KEYS)
    assert newest(redis_client, SHORT).lanes[Lane.ONLINE].waiting == 0
    # Unless a minute has ended between the two.
    assert {point.lanes[Lane.ONLINE].waiting for point in read_history(redis_client, KEYS)[LONG]} in ({5}, {5, 0})  # fmt: skip


def test_the_rings_are_bounded_and_do_not_outlive_their_queue(redis_client: Redis) -> None:
    for step, count in RINGS.items():
        old = [f"[{step * slot},1,1,1,1]" for slot in range(count + 50)]
        redis_client.lpush(KEYS.history(step), *old)
    record_history(redis_client, KEYS)
    for step, count in RINGS.items():
        assert redis_client.llen(KEYS.history(step)) == count
        assert redis_client.ttl(KEYS.history(step)) > 0


def test_what_is_no_point_and_points_of_a_clock_that_was_ahead_are_dropped(
    redis_client: Redis,
) -> None:
    ring = KEYS.history(SHORT)
    good = "[2,1,1000,1,1000]"
    for text in (good, "nonsense", "[1]", "{}", "[null,1,1,1,1]", "[99999999999,1,1,1,1]"):
        redis_client.lpush(ring, text)
    assert record_history(redis_client, KEYS)
    stored = [json.loads(text) for text in redis_client.lrange(ring, 0, -1)]
    assert len(stored) == 2
    assert stored[1] == [2, 1, 1000, 1, 1000]
    redis_client.lpush(ring, "nonsense")
    assert [point.at for point in read_history(redis_client, KEYS)[SHORT]] == [2, stored[0][0]]


def test_a_full_server_goes_on_noting_how_full_its_queue_is(redis_client: Redis) -> None:
    queue_request(redis_client)
    redis_client.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        redis_client.set("anything", 1)
    assert record_history(redis_client, KEYS)
    assert newest(redis_client).lanes[Lane.ONLINE].waiting == 1


def test_a_worker_notes_it_and_whoever_watches_reads_it_with_no_more_rights_than_theirs(
    redis_client: Redis,
) -> None:
    def as_user(role: Role) -> Redis:
        words = rights(role, "default").split()
        redis_client.execute_command("ACL", "SETUSER", role, "reset", "on", ">word", *words)
        where = redis_client.connection_pool.connection_kwargs
        return Redis(where["host"], where["port"], username=role, password="word")

    queue_request(redis_client)
    with as_user(Role.WORKER) as worker, as_user(Role.METRICS) as watcher:
        assert record_history(worker, KEYS)
        forget_step(redis_client)
        assert record_history(worker, KEYS)
        assert newest(watcher).lanes[Lane.ONLINE].waiting == 1
        with pytest.raises(NoPermissionError):
            record_history(watcher, KEYS)
    with as_user(Role.CLIENT) as client:
        assert read_history(client, KEYS) == {SHORT: [], LONG: []}
    redis_client.acl_deluser(Role.WORKER, Role.METRICS, Role.CLIENT)
