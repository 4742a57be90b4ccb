"""The watchdog on Celery's timer, whose loop must not end with any failure of a check."""

from __future__ import annotations

import json
import logging
import math
import ssl
import threading
import time
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError, ReadOnlyError

from scoreline_client.logs import JsonLines
from scoreline_tasks import celery
from scoreline_tasks.celery import (
    CHECK_EVERY_S,
    SEND_AGAIN_S,
    Consumer,
    DrainWatchdog,
    ShownRecords,
    app,
    configuration,
    own_queue,
)
from scoreline_tasks.queue.drain import BATCH_S
from scoreline_tasks.settings import WorkerSettings
from scoreline_tasks.worker import shared
from scoreline_tasks.worker.process import WorkerProcess
from scoreline_tasks.worker.shared import ON_ITS_WAY_S


class Worker:
    """A main process whose drains are noted instead of sent, with two processes of which some are busy."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.process = WorkerProcess()
        self.sent: list[int] = []
        self.busy: list[object] = []
        self.failures: list[BaseException] = []
        self.now = 0.0
        monkeypatch.setattr(celery, "send_drain", self._send)
        monkeypatch.setattr(celery, "this_process", lambda: self.process)
        monkeypatch.setattr(celery, "state", SimpleNamespace(reserved_requests=self.busy))
        monkeypatch.setattr(shared, "time", SimpleNamespace(monotonic=lambda: self.now))

    def _send(self, _: object, number: int) -> None:
        if self.failures:
            raise self.failures.pop()
        self.sent.append(number)

    def begin(self) -> int:
        """Let the drain that was sent last begin; returns its number."""
        assert self.process.charge.begin(self.sent[-1])
        return self.sent[-1]

    def pass_time(self, seconds: float) -> None:
        """Let the watchdog check for so long."""
        consumer = SimpleNamespace(
            hostname="w@h",
            pool=SimpleNamespace(num_processes=2),
            controller=SimpleNamespace(max_concurrency=None),
        )
        for _ in range(round(seconds / CHECK_EVERY_S)):
            self.now += CHECK_EVERY_S
            DrainWatchdog(SimpleNamespace()).check(consumer)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(monkeypatch)


def test_it_checks_again_after_any_failure(worker: Worker) -> None:
    worker.failures = [AssertionError("such as Celery's own loop ends with"), OSError("away")]
    worker.pass_time(2 * SEND_AGAIN_S + 0.3)
    assert len(worker.sent) == 1


def test_a_drain_that_is_back_in_time_is_not_replaced(worker: Worker) -> None:
    worker.pass_time(0.1)
    number = worker.begin()
    for _ in range(100):
        worker.process.charge.promise(number, BATCH_S)
        worker.pass_time(0.1)
    assert worker.sent == [number]


def test_another_drain_is_put_in_charge_once_when_one_scores_for_long(worker: Worker) -> None:
    worker.pass_time(0.1)
    first = worker.begin()
    worker.busy.append("the first drain")
    worker.process.charge.promise(first, BATCH_S)
    worker.pass_time(BATCH_S + 2 * CHECK_EVERY_S)
    second = worker.begin()
    assert not worker.process.charge.is_held_by(first)
    worker.process.charge.promise(first, 3600)  # it is back, and not in charge
    worker.process.charge.promise(second, 0.5)
    worker.pass_time(0.3)
    assert len(worker.sent) == 2
    worker.pass_time(0.3)
    assert len(worker.sent) == 3


def test_nothing_is_sent_while_nobody_is_free_to_listen(worker: Worker) -> None:
    worker.busy += ["a drain", "another"]
    worker.pass_time(300)
    assert worker.sent == []
    worker.busy.pop()
    worker.pass_time(0.1)
    assert len(worker.sent) == 1


def test_a_drain_whose_message_was_lost_is_replaced(worker: Worker) -> None:
    worker.pass_time(ON_ITS_WAY_S + 0.2)
    assert len(worker.sent) == 2
    assert worker.process.charge.begin(worker.sent[1])
    assert not worker.process.charge.begin(worker.sent[0])


def test_drains_that_take_long_to_begin_do_not_overtake_each_other_for_ever(worker: Worker) -> None:
    worker.pass_time(60)
    assert len(worker.sent) < 15
    worker.process.charge.promise(worker.begin(), 0)
    sent = len(worker.sent)
    worker.pass_time(ON_ITS_WAY_S + 0.1)
    assert len(worker.sent) == sent + 2


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
    "url", ["redis://:p@queue.internal", "rediss://:p@queue.internal?ssl_cert_reqs=none"]
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
    assert own_queue(WorkerSettings(), WorkerProcess()).no_ack


def test_a_wakeup_for_the_fleet_goes_to_one_queue() -> None:
    """Not to the queues of all workers as well: in a fleet of fifty, each would start fifty drains more."""
    (shared,) = configuration()["task_queues"]
    queues = app.amqp.Queues([shared, own_queue(WorkerSettings(), WorkerProcess())])
    bound = [(one.exchange.name, one.routing_key) for one in queues.values()]
    assert len({*bound}) == 2


def test_workers_of_one_name_have_queues_of_their_own() -> None:
    """Two on one machine, or a restarted one: each would take drains that are none of its own."""
    queues = {own_queue(WorkerSettings(), WorkerProcess()).name for _ in range(2)}
    assert len(queues) == 2


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
    sent: Queue[dict[str, Any]] = Queue()
    task = SimpleNamespace(name="t", apply_async=lambda **options: sent.put(options))
    celery._wakeup(task)()
    assert "expires" not in sent.get(timeout=20)


def test_a_successor_that_an_earlier_worker_of_this_name_left_is_not_served() -> None:
    """Each would park one more process, until none is free to help."""
    process = WorkerProcess()
    earlier = WorkerProcess().charge.expect_next()
    assert process.charge.expect_next() != earlier
    process.run_permanent_drain(None, earlier, pytest.fail)  # type: ignore[arg-type]
    assert not process.generations.is_drain_owner


def test_a_binding_that_cannot_be_renewed_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """kombu asks every second, with a traceback for each refusal of a full server."""
    asked: list[float] = []

    def refuse(channel: Any) -> None:
        if time.monotonic() - channel._binding_expiry_refreshed_at >= 40:
            asked.append(time.monotonic())
            raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")

    monkeypatch.setattr(celery.redis.Channel, "maybe_refresh_binding_expiry", refuse)
    channel: Any = object.__new__(celery.WakeupChannel)
    channel._binding_expiry_refreshed_at = channel._bindings_swept_at = -math.inf
    for _ in range(10):
        channel.maybe_refresh_binding_expiry()
    assert len(asked) == 1
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "binding_not_renewed"
    ]
    assert caplog.records[0].exc_info is None


def _logged(name: str, text: str, *arguments: object) -> str:
    record = logging.LogRecord(name, logging.WARNING, "", 0, text, arguments, None)
    assert ShownRecords().filter(record)
    return logging.Formatter("%(message)s").format(record)


def test_no_text_of_others_begins_a_line_of_its_own_in_the_log() -> None:
    evil = "x\n[2026-01-01 INFO] all is well\x1b[2J"
    said = _logged("scoreline_tasks.models.registry", "version_refused reason=%s", evil)
    assert said == r"version_refused reason=x\n[2026-01-01 INFO] all is well\x1b[2J"
    # What Celery says on several lines stays so.
    assert _logged("celery.worker", "Task %s\n%s", "t", "\x1b[2J") == "Task t\n\\x1b[2J"


def test_a_batch_in_hand_does_not_wait_until_a_wakeup_is_sent() -> None:
    """Over a network of 200 ms a round trip, the first one took three seconds."""
    is_taken, is_sent = threading.Event(), threading.Event()

    def apply_async(**_: Any) -> None:
        assert is_taken.wait(20)
        is_sent.set()

    celery._wakeup(SimpleNamespace(name="scoreline.help", apply_async=apply_async))()
    assert not is_sent.is_set()
    is_taken.set()
    assert is_sent.wait(20)


@pytest.mark.parametrize(
    ("task", "level", "is_logged"),
    [
        (celery.DRAIN, logging.INFO, False),
        (celery.EXTRA_DRAIN, logging.INFO, False),
        (celery.DRAIN, logging.ERROR, True),
        ("another.task", logging.INFO, True),
    ],
)
def test_wakeups_that_go_well_are_no_news(task: str, level: int, is_logged: bool) -> None:
    record = logging.LogRecord("celery.app.trace", level, "", 1, "%(name)s", None, None)
    record.data = {"name": task}
    assert celery.NoWakeups().filter(record) is is_logged


def test_a_worker_tells_once_what_it_serves_and_what_to_beware_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    process: Any = WorkerProcess()
    process.server, process.cautions = "Redis 7.0.15", ["appendonly is off"]
    serving = {(f"m{number:02}", "production"): 1 for number in range(25)}
    process._models = SimpleNamespace(
        serving=lambda: serving, unloaded=150, store="/srv/store", idle=["x*"]
    )
    monkeypatch.setenv("SCORELINE_MODELS", "m*")
    with caplog.at_level(logging.INFO):
        process.tell()
        process.tell()
    first, second, third = caplog.messages
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    assert [line["event"] for line in lines] == ["worker_serves", *["worker_caution"] * 2]
    assert "server=Redis 7.0.15 store=/srv/store models=m*: m00@production=1, " in first
    assert first.endswith("m19@production=1 and 155 more")
    assert second == "worker_caution: appendonly is off"
    assert third == "worker_caution: no released model fits x* (SCORELINE_MODELS)"


def test_a_child_does_not_wait_for_a_broker_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Queue[threading.Thread] = Queue()

    def connect() -> Any:
        asked.put(threading.current_thread())
        raise ConnectionError

    monkeypatch.setattr(celery, "_runtime", lambda: None)
    monkeypatch.setattr(celery.app, "producer_or_acquire", connect)
    celery.on_child()
    assert asked.get(timeout=60) is not threading.current_thread()
