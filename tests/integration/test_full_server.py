"""A server whose memory is full takes all that a worker writes, since only its work makes room there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib import resources

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from scoreline_client.fleet import ProcessReport, read_status, send_report
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.protocol.messages import Request, new_id
from scoreline_tasks.queue.streams import RequestQueue
from tests.support.worker import enqueue

KEYS = Keys("default")


@pytest.fixture
def full(redis_client: Redis) -> Iterator[Redis]:
    """A server that refuses whatever takes memory."""
    redis_client.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        redis_client.set("anything", 1)
    yield redis_client
    redis_client.config_set("maxmemory", 0)


def _queue(redis: Redis) -> RequestQueue:
    return RequestQueue(redis, KEYS, "worker", result_ttl_s=60)


def test_a_worker_that_starts_on_a_full_server_reads(full: Redis) -> None:
    queue = _queue(full)
    assert queue.exchange([], take=10) == []  # which finds no group, and creates it
    full.config_set("maxmemory", 0)
    enqueue(full, Request(id=new_id(), model="m", body=b"[{}]", expires_ms=60_000))
    full.config_set("maxmemory", 1)
    assert len(queue.exchange([], take=10)) == 1


def test_wakeups_attempts_and_dead_letters_are_written(redis_client: Redis) -> None:
    enqueue(redis_client, Request(id=new_id(), model="m", body=b"[{}]", expires_ms=60_000))
    queue = _queue(redis_client)
    queue.prepare()
    (entry,) = queue.exchange([], take=10)
    redis_client.config_set("maxmemory", 1)
    try:
        assert queue.claim_once(KEYS.hint("help"), 60_000)
        assert not queue.claim_once(KEYS.hint("help"), 60_000)
        for _ in range(2):
            queue.begin_attempt([entry])
        assert queue.attempts([entry]) == [2]
        queue.add_dead_letter(entry, "it kills")
    finally:
        redis_client.config_set("maxmemory", 0)
    ((_, fields),) = redis_client.xrange(KEYS.dead)
    assert fields[b"reason"] == b"it kills"
    assert fields[b"body"] == b"[{}]"


def test_processes_are_seen(full: Redis) -> None:
    now = time.time()
    report = ProcessReport(name="w@h/1", host="h", pid=1, started_at=now, reported_at=now)
    send_report(full, KEYS, report)
    status = read_status(full, KEYS)
    assert [process.name for process in status.processes] == ["w@h/1"]
    assert status.waiting == {Lane.ONLINE: 0, Lane.BULK: 0}
    assert full.ttl(KEYS.process("w@h/1")) > 0


def test_callers_add_nothing_by_the_scripts_that_run_while_it_is_full(full: Redis) -> None:
    """Whoever may name a key may call each script that the server knows with it."""
    large = b"x" * (2 << 20)
    attempts: list[tuple[str, list[str], list[bytes]]] = [
        ("while_full", [KEYS.lane(Lane.ONLINE)], [b"XADD", b"*", b"body", b"[{}]"]),
        ("while_full", [KEYS.lane(Lane.ONLINE)], [b"xadd", b"*", b"body", b"[{}]"]),
        ("while_full", [KEYS.result("1" * 32)], [b"SET", large]),
        ("cancel", [KEYS.result("1" * 32), KEYS.lane(Lane.BULK), KEYS.attempts], [large, b"9", b"1-1", b"1"]),
        ("renew_job", [KEYS.jobs], [large, b"60000"]),
    ]  # fmt: skip
    for name, keys, arguments in attempts:
        package = "protocol" if name == "while_full" else "transport"
        source = resources.files(f"scoreline_client.{package}").joinpath(f"{name}.lua").read_text()
        with pytest.raises((OutOfMemoryError, ResponseError)):
            full.eval(source, len(keys), *keys, *arguments)  # type: ignore[arg-type]
    assert full.keys() == []
