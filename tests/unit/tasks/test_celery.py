"""The watchdog on Celery's timer, whose loop must not end with any failure of a check."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ReadOnlyError

from scoreline_tasks import celery
from scoreline_tasks.celery import (
    DRAIN,
    MISSED_CHECKS,
    Consumer,
    DrainWatchdog,
    configuration,
    own_queue,
)
from scoreline_tasks.settings import WorkerSettings
from scoreline_tasks.worker.process import WorkerProcess


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The workers to which a drain was sent; sending the first of them fails."""
    nodes: list[str] = []

    def send(node: str, _number: int) -> None:
        nodes.append(node)
        if len(nodes) == 1:
            raise AssertionError("such as Celery's own loop ends with")

    monkeypatch.setattr(celery, "send_drain", send)
    return nodes


def test_it_checks_again_after_any_failure(
    monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    watchdog = DrainWatchdog(SimpleNamespace())
    for _ in range(MISSED_CHECKS):
        watchdog.check("w@h")
    with monkeypatch.context() as broken:
        broken.setattr(celery, "state", SimpleNamespace(reserved_requests=None))
        watchdog.check("w@h")
    for _ in range(MISSED_CHECKS):
        watchdog.check("w@h")
    assert sent == ["w@h", "w@h"]


def test_a_drain_that_is_in_sight_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    watchdog = DrainWatchdog(SimpleNamespace())
    drain = SimpleNamespace(name=DRAIN)
    monkeypatch.setattr(celery, "state", SimpleNamespace(reserved_requests=[drain]))
    for _ in range(2 * MISSED_CHECKS):
        watchdog.check("w@h")
    assert sent == []


# Connections


def _ssl(monkeypatch: pytest.MonkeyPatch, url: str) -> Any:
    monkeypatch.setenv("SCORELINE_REDIS_URL", url)
    return configuration()["broker_use_ssl"]


def test_the_brokers_certificate_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """kombu takes any certificate where nothing is said of it, and sends the password."""
    assert _ssl(monkeypatch, "rediss://:secret@queue.internal:6379/0") == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
    }


@pytest.mark.parametrize(
    "url", ["redis://queue.internal", "rediss://queue.internal?ssl_cert_reqs=none"]
)
def test_a_url_that_says_something_else_is_taken_at_its_word(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    assert _ssl(monkeypatch, url) is False


@pytest.mark.parametrize(("value", "is_on"), [(None, False), ("0", False), ("1", True)])
def test_remote_control_is_on_where_an_operator_asked_for_it(
    monkeypatch: pytest.MonkeyPatch, value: str | None, is_on: bool
) -> None:
    if value is not None:
        monkeypatch.setenv("SCORELINE_REMOTE_CONTROL", value)
    assert configuration()["worker_enable_remote_control"] is is_on


def test_wakeups_are_not_noted_as_unacknowledged() -> None:
    """A full or demoted server refuses the note, and Celery ends because of it."""
    (shared,) = configuration()["task_queues"]
    assert shared.no_ack
    assert own_queue(WorkerSettings(), "w@h").no_ack


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Scoreline's consumer over a stub of Celery's."""

    def start(consumer: Any, **_: Any) -> None:
        consumer.connection_errors = (OSError,)

    def connect(_: Any, conn: Any) -> Any:
        return conn.ensure_connection(str, None, callback=str)

    monkeypatch.setattr(celery.consumer.Consumer, "__init__", start)
    monkeypatch.setattr(celery.consumer.Consumer, "ensure_connected", connect)
    return Consumer(hostname="w@h")


@pytest.mark.parametrize("error", [OSError, ReadOnlyError, ValueError, KeyError, TypeError])
def test_a_refusal_or_a_damaged_message_is_a_reason_to_connect_again(
    consumer: Any, error: type[Exception]
) -> None:
    assert issubclass(error, consumer.connection_errors)
    assert not issubclass(SystemExit, consumer.connection_errors)


def test_the_broker_is_asked_every_two_seconds_at_least(consumer: Any) -> None:
    asked: dict[str, Any] = {}
    conn = SimpleNamespace(ensure_connection=lambda *_, **options: asked.update(options))
    consumer.ensure_connected(conn)
    assert asked["interval_max"] == 2.0
    assert asked["interval_start"] <= 1.0


def test_a_wakeup_has_no_time_by_another_machines_clock() -> None:
    sent: list[dict[str, Any]] = []
    task = SimpleNamespace(name="t", apply_async=lambda **options: sent.append(options))
    celery._wakeup(task)()
    assert "expires" not in sent[0]


def test_a_successor_that_an_earlier_worker_of_this_name_left_is_not_served() -> None:
    """Each would park one more process, until none is free to help."""
    process = WorkerProcess()
    earlier = WorkerProcess().next_drain()
    assert process.next_drain() != earlier
    process.run_permanent_drain(None, earlier, pytest.fail)  # type: ignore[arg-type]
    assert not process.generations.is_drain_owner
