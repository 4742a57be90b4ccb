"""What Prometheus is given: of a queue, by `scoreline metrics`, and by a gateway."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from redis import Redis

from scoreline_client.cli.acl import Role, rights
from scoreline_client.cli.health import health
from scoreline_client.fleet import ProcessReport, ServedModel, send_report
from scoreline_client.metrics import read_state, registry
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.protocol.messages import Request, new_id
from scoreline_client.protocol.totals import Totals
from scoreline_gateway import GatewaySettings, build_app
from tests.support.asgi import call
from tests.support.worker import StubWorker, enqueue

pytestmark = pytest.mark.integration

KEYS = Keys("default")
DOCS = Path(__file__).resolve().parents[2] / "docs"


def _send(redis: Redis, *, answered_at: float = 0.0, refused: str | None = None) -> None:
    """A report of a process that has scored a batch, and refused a request."""
    totals = Totals()
    totals.add_batch(
        ("pima", "3", Lane.ONLINE),
        waited_ms=[1, 700],
        scored_us=3_000,
        busy_us=3_000,
        records=5,
        rejected=Counter({("E_TYPE", "plas"): 1}),
    )
    totals.add_request("E_WIRE", ("", "", Lane.BULK))
    now = time.time()
    served = ServedModel(serving=3, wanted=4 if refused else 3, refused=refused)
    report = ProcessReport(
        name="w@h/1",
        host="h",
        pid=1,
        started_at=now,
        reported_at=now,
        answered_at=answered_at,
        rss_bytes=1 << 20,
        counted=1,
        models={"pima@production": served},
    )
    send_report(redis, KEYS, report, totals.take())


def _wait(redis: Redis, age_s: float) -> None:
    """A request that was queued so long ago."""
    entry = f"{int((time.time() - age_s) * 1000)}-0"
    redis.xadd(KEYS.lane(Lane.ONLINE), {"wire": "1"}, id=entry)


@pytest.fixture
def samples(redis_client: Redis) -> Iterator[Any]:
    """The value of a metric with these labels, as the official parser of OpenMetrics reads it."""
    made = registry(lambda: redis_client, KEYS)

    def value(name: str, **labels: str) -> float | None:
        families = text_string_to_metric_families(generate_latest(made).decode())
        found = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }
        return found.get((name, tuple(sorted(labels.items()))))

    return value


def test_totals_are_counters_and_histograms(redis_client: Redis, samples: Any) -> None:
    _send(redis_client)
    of = {"model": "pima", "version": "3", "lane": "online"}
    assert samples("scoreline_requests_total", outcome="ok", **of) == 2
    assert samples("scoreline_records_total", outcome="E_TYPE", **of) == 1
    assert samples("scoreline_rejected_total", code="E_TYPE", column="plas", **of) == 1
    assert (
        samples("scoreline_requests_total", outcome="E_WIRE", model="", version="", lane="bulk")
        == 1
    )
    assert samples("scoreline_queue_seconds_bucket", le="0.001", **of) == 1
    assert samples("scoreline_queue_seconds_bucket", le="1.0", **of) == 2
    assert samples("scoreline_queue_seconds_sum", **of) == pytest.approx(0.701)
    assert samples("scoreline_score_seconds_count", **of) == 2
    assert samples("scoreline_batch_records_bucket", le="8.0", **of) == 1
    assert samples("scoreline_process_busy_seconds_total", **of) == pytest.approx(0.003)


def test_lanes_and_processes_are_gauges(redis_client: Redis, samples: Any) -> None:
    worker = StubWorker(redis_client)
    _wait(redis_client, age_s=90)
    redis_client.xadd(KEYS.lane(Lane.BULK), {"a": "b"})
    for taken in (0, 1):
        if taken:
            redis_client.xreadgroup("workers", "w", {KEYS.lane(Lane.ONLINE): ">"}, count=1)
            enqueue(redis_client, Request(id=new_id(), model="m", body=b"[{}]"))
        _send(redis_client)
        assert samples("scoreline_waiting", lane="online") == 1
        assert samples("scoreline_scoring", lane="online") == taken
        oldest = samples("scoreline_oldest_seconds", lane="online")
        assert oldest == pytest.approx(0 if taken else 90, abs=20)
        assert samples("scoreline_oldest_unfinished_seconds", lane="online") >= 89
    assert samples("scoreline_processes", state="scoring") == 1
    assert samples("scoreline_serving", model="pima", alias="production", version="3") == 1
    assert samples("scoreline_resident_bytes", host="h") == 1 << 20
    assert worker.seen == []


def test_waiting_is_right_after_an_untaken_request_was_deleted(redis_client: Redis) -> None:
    StubWorker(redis_client)
    _wait(redis_client, age_s=90)
    lane = KEYS.lane(Lane.ONLINE)
    gone = redis_client.xadd(lane, {"a": "b"})
    redis_client.xadd(lane, {"a": "b"})
    redis_client.xdel(lane, gone)
    state = read_state(redis_client, KEYS).lanes[Lane.ONLINE]
    assert (state.waiting, state.scoring) == (2, 0)


def test_a_queue_that_nobody_has_used_has_metrics(samples: Any) -> None:
    assert samples("scoreline_up") == 1
    assert samples("scoreline_waiting", lane="bulk") == 0
    assert samples("scoreline_oldest_seconds", lane="bulk") == 0


def test_a_server_that_is_away_is_said_and_is_no_error(unused_tcp_port: int) -> None:
    made = registry(lambda: Redis(port=unused_tcp_port), KEYS)
    names = [line for line in generate_latest(made).decode().splitlines() if line[0] != "#"]
    assert names == ["scoreline_up 0.0"]


@pytest.mark.parametrize("role", [Role.METRICS, Role.OPERATOR])
def test_users_read_what_they_may(redis_client: Redis, redis_url: str, role: Role) -> None:
    StubWorker(redis_client)
    _send(redis_client)
    _wait(redis_client, age_s=90)
    redis_client.zadd(KEYS.processes, {"gone@h/9": 1})
    words = rights(role, "default").split()
    redis_client.execute_command("ACL", "SETUSER", "reader", "reset", "on", ">word", *words)
    try:
        with Redis.from_url(redis_url, username="reader", password="word") as reader:
            state = read_state(reader, KEYS)
    finally:
        redis_client.acl_deluser("reader")
    lane = state.lanes[Lane.ONLINE]
    assert (lane.waiting, len(state.processes)) == (1, 1)
    assert bool(state.totals) == (role is Role.METRICS)
    assert (lane.oldest_waiting_s is not None) == (role is Role.METRICS)


def _names(text: str) -> set[str]:
    return set(re.findall(r"scoreline_[a-z_]+", text))


async def test_dashboard_alerts_and_docs_name_metrics_that_exist_and_docs_name_all(
    redis_client: Redis, redis_url: str
) -> None:
    _send(redis_client)
    app = build_app(GatewaySettings(redis_url=redis_url))
    async with app.running():
        for _ in range(2):  # the second one has the first one's
            accept = {"accept": "application/openmetrics-text; version=1.0.0"}
            reply = await call(app, "GET", "/metrics", headers=accept)
    assert reply.status == 200
    families = list(text_string_to_metric_families(reply.body.decode()))
    samples = {sample.name for family in families for sample in family.samples}
    dashboard = (DOCS / "grafana" / "scoreline.json").read_text()
    rules = [(DOCS / name).read_text() for name in ("alerts.yaml", "deploy/keda.yaml")]
    assert json.loads(dashboard)["panels"]
    assert _names(dashboard) - samples == set()
    assert [_names(text) - samples for text in rules] == [set(), set()]
    made = {name for name in samples if not name.endswith("_created")}
    listed = _names((DOCS / "metrics.md").read_text())
    of_histograms = ("_bucket", "_sum", "_count")
    assert {name for name in made if not name.endswith(of_histograms)} - listed == set()
    assert {family.name for family in families if family.type == "histogram"} - listed == set()


async def test_a_gateway_counts_by_route_and_never_by_path(redis_url: str) -> None:
    # No worker tells what the model is: that is waited for.
    app = build_app(GatewaySettings(redis_url=redis_url, gateway_timeout_s=0.5))
    async with app.running():
        await call(app, "GET", "/v2/models/pima", b"")
        await call(app, "GET", "/v2/nothing/of/mine")
        text = (await call(app, "GET", "/metrics")).body.decode()
    assert 'route="/v2/models/{model}"' in text
    assert 'scoreline_http_requests_total{method="GET",route="none",status="404"} 1.0' in text
    assert "of/mine" not in text


async def test_what_several_processes_of_gateways_have_answered_adds_up_and_outlives_them(
    redis_client: Redis, redis_url: str
) -> None:
    redis_client.hset(KEYS.http, mapping={"requests|none|GET|404": 5, "seconds|none|0.5": "many"})
    for _ in range(2):
        app = build_app(GatewaySettings(redis_url=redis_url))
        async with app.running():
            await call(app, "GET", "/nothing")
    async with app.running():
        text = (await call(app, "GET", "/metrics")).body.decode()
    assert 'scoreline_http_requests_total{method="GET",route="none",status="404"} 7.0' in text
    assert 'scoreline_http_request_seconds_count{route="none"} 2.0' in text


async def test_a_gateway_that_may_not_add_up_shows_what_it_has_counted_itself(
    redis_client: Redis, redis_url: str
) -> None:
    words = " ".join(rights(role, "default") for role in (Role.CLIENT, Role.METRICS)).split()
    redis_client.execute_command("ACL", "SETUSER", "old", "reset", "on", ">word", *words)
    app = build_app(GatewaySettings(redis_url=redis_url.replace("://", "://old:word@")))
    try:
        async with app.running():
            for count in (1, 2):
                await call(app, "GET", "/nothing")
                text = (await call(app, "GET", "/metrics")).body.decode()
                assert f'route="none",status="404"}} {count}.0' in text
    finally:
        redis_client.acl_deluser("old")
    assert not redis_client.exists(KEYS.http)


@pytest.fixture
def environment(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("SCORELINE_REDIS_URL", redis_url)
    return dict(os.environ)


def test_the_command_answers_until_it_is_told_to_end(
    redis_client: Redis, environment: dict[str, str]
) -> None:
    _send(redis_client)
    command = [str(Path(sys.executable).with_name("scoreline")), "metrics", "--port", "0"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = re.search(r"http://\S+", process.stderr.readline())
        assert url is not None
        with urllib.request.urlopen(url[0], timeout=30) as reply:
            text = reply.read().decode()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert "scoreline_up 1.0" in text


@pytest.mark.parametrize(
    ("arguments", "age_s", "answered_ago_s", "status"),
    [
        ([], 0, None, 0),
        ([], 60, None, 1),
        (["--oldest", "90"], 60, None, 0),
        ([], 60, 1, 1),
        (["--node", "w@h"], 60, 1, 0),  # it works as fast as it can
        (["--node", "w@h"], 60, 50, 1),
        (["--node", "other@h"], 0, None, 3),
    ],
)
def test_health_is_progress(
    redis_client: Redis,
    environment: dict[str, str],
    arguments: list[str],
    age_s: float,
    answered_ago_s: float | None,
    status: int,
) -> None:
    _send(redis_client, answered_at=time.time() - answered_ago_s if answered_ago_s else 0.0)
    StubWorker(redis_client)
    if age_s:
        _wait(redis_client, age_s=age_s)
    done = CliRunner().invoke(health, [*arguments, "--json"])
    assert done.exit_code == status, done.output
    assert bool(json.loads(done.stdout)["problems"]) == bool(status)


def test_health_says_which_release_is_refused_and_fails_for_it_where_asked(
    redis_client: Redis, environment: dict[str, str]
) -> None:
    _send(redis_client, refused="its golden rows differ")
    assert CliRunner().invoke(health, ["--json"]).exit_code == 0
    done = CliRunner().invoke(health, ["--releases"])
    assert done.exit_code == 1
    assert "pima@production: refused: its golden rows differ" in done.output


def test_health_without_a_server_is_3(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setenv("SCORELINE_REDIS_URL", f"redis://127.0.0.1:{unused_tcp_port}")
    assert CliRunner().invoke(health, []).exit_code == 3
