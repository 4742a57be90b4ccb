"""What the server refuses, or somebody writes between the messages, ends no worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from scoreline_client import Client
from scoreline_client.errors import ScorelineError
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Request, new_id
from scoreline_tasks.dev.server import free_port
from tests.acceptance.conftest import MODEL, Fleet
from tests.support.worker import entry_fields

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

REFUSED_S = 4.0
"""Longer than a drain's slice: hints are taken and sent meanwhile."""


def _is_answered(fleet: Fleet) -> bool:
    try:
        with Client(fleet.url) as client:
            return bool(client.predict(MODEL, {"x": 1.0}, timeout=1.0).value == pytest.approx(2.0))
    except ScorelineError:
        return False


def _demote(fleet: Fleet) -> None:
    fleet.redis.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))


def _promote(fleet: Fleet) -> None:
    fleet.redis.execute_command("REPLICAOF", "NO", "ONE")


def _setting(name: str, value: str) -> Callable[[Fleet], Any]:
    return lambda fleet: fleet.redis.config_set(name, value)


@pytest.mark.parametrize(
    ("refuse", "allow"),
    [
        pytest.param(
            _setting("min-replicas-to-write", "1"),
            _setting("min-replicas-to-write", "0"),
            marks=pytest.mark.exhaustive,
        ),
        # `tests/faults` fills a server under a load.
        pytest.param(
            _setting("maxmemory", "1000000"),
            _setting("maxmemory", "0"),
            marks=pytest.mark.exhaustive,
        ),
        (_demote, _promote),
    ],
    ids=["replicas are away", "memory is full", "it is a replica"],
)
def test_a_server_that_refuses_writes_for_a_while_ends_no_worker(
    fleet: Fleet,
    eventually: Callable[..., Any],
    refuse: Callable[[Fleet], Any],
    allow: Callable[[Fleet], Any],
) -> None:
    worker = fleet.start_worker()
    refuse(fleet)
    try:
        until = time.monotonic() + REFUSED_S
        while time.monotonic() < until and worker.poll() is None:
            time.sleep(0.1)
    finally:
        allow(fleet)
    eventually(lambda: worker.poll() is not None or _is_answered(fleet))
    assert worker.poll() is None, fleet.log.read_text()[-3000:]


def test_a_server_that_is_full_for_long_is_served_all_the_same(
    fleet: Fleet, eventually: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a drain may last: its successor must find room, or nobody makes any."""
    monkeypatch.setenv("SCORELINE_BATCH_LIMIT_S", "1")
    fleet.start_worker()
    fleet.redis.config_set("maxmemory", "1000000")
    time.sleep(2 * REFUSED_S)
    request = Request(id=new_id(), model=MODEL, body=b'[{"x": 1.0}]', expires_ms=60_000)
    # A client's request would be refused; this stands for one that was accepted before.
    fields = [part for pair in entry_fields(request).items() for part in pair]
    queue = "#!lua flags=allow-oom\nreturn redis.call('XADD', KEYS[1], '*', unpack(ARGV))"
    fleet.redis.eval(queue, 1, fleet.keys.lane(Lane.ONLINE), *fields)
    eventually(lambda: fleet.redis.exists(fleet.keys.result(request.id)))


DAMAGED = (
    b"no JSON",
    b"\xff\xfe",
    b"[]",
    b"7",
    b"{}",
    b'{"properties": {}}',
    b'{"body": 1, "properties": 1}',
)


def test_damaged_messages_end_no_worker(fleet: Fleet, eventually: Callable[..., Any]) -> None:
    worker = fleet.start_worker()
    queue = f"{fleet.keys.celery_prefix}scoreline.default"
    for damage in DAMAGED:
        fleet.redis.lpush(queue, damage)
        eventually(lambda: not fleet.redis.llen(queue))
        eventually(lambda: worker.poll() is not None or _is_answered(fleet))
        assert worker.poll() is None, (damage, fleet.log.read_text()[-3000:])


def test_a_message_that_stops_workers_stops_none(fleet: Fleet) -> None:
    """Remote control is on only where an operator has asked for it (SCORELINE_REMOTE_CONTROL)."""
    from scoreline_tasks.celery import app

    worker = fleet.start_worker()
    app.conf.broker_url = fleet.url
    with app.connection_for_write(fleet.url) as connection:
        app.control.broadcast("shutdown", connection=connection)
    time.sleep(2)
    assert worker.poll() is None
    assert _is_answered(fleet)
