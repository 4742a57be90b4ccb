"""A queue at a glance, read from a real server in which workers have counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from redis import Redis

from scoreline_client.cli.main import main
from scoreline_client.fleet import ProcessReport, ServedModel, send_report
from scoreline_client.overview import Overview, Times, read_jobs
from scoreline_client.protocol.job_progress import JobProgress
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.protocol.totals import Totals
from tests.support.worker import StubWorker

pytestmark = pytest.mark.integration

KEYS = Keys("default")


def report(number: int, **known: Any) -> ProcessReport:
    told = {
        "name": f"w@h/{number}",
        "host": "h",
        "pid": number,
        "started_at": 1.0,
        "reported_at": 2.0,
    }
    return ProcessReport(**(told | known))


def count(redis: Redis, totals: Totals, number: int) -> None:
    """Let a process report what it has counted since its last report."""
    send_report(redis, KEYS, report(1, counted=number), totals.take())


def score(totals: Totals, waited_ms: int, scored_us: int, version: str = "3") -> None:
    totals.add_batch(
        ("pima", version, Lane.ONLINE),
        waited_ms=[waited_ms],
        scored_us=scored_us,
        busy_us=scored_us,
        records=4,
        rejected=Counter({("E_TYPE", "plas"): 1}),
    )


def test_rates_and_times_are_those_between_two_readings(redis_client: Redis) -> None:
    totals, overview = Totals(), Overview(redis_client, KEYS)
    score(totals, 5000, 5_000_000)
    count(redis_client, totals, 1)
    first = overview.look()
    assert (first.window_s, first.busy_share) == (0, None)
    assert first.versions[0].records_per_s == 0
    for _ in range(99):
        score(totals, 3, 20_000)
    score(totals, 900, 20_000)
    count(redis_client, totals, 2)
    second = overview.look()
    (version,) = second.versions
    assert version.records_per_s * second.window_s == pytest.approx(400)
    assert version.requests_per_s * second.window_s == pytest.approx(100)
    assert version.rejected_share == pytest.approx(0.25)
    assert version.waited == Times(p50_s=0.004, p99_s=0.004)
    assert version.scored == Times(p50_s=0.032, p99_s=0.032)
    assert version.records == 404
    (error,) = second.errors
    assert (error.code, error.column) == ("E_TYPE", "plas")
    assert (error.records, error.requests, error.recent) == (101, 0, 100)


def test_a_server_that_was_emptied_begins_a_new_window_and_no_rate_is_negative(
    redis_client: Redis,
) -> None:
    totals, overview = Totals(), Overview(redis_client, KEYS)
    for number in range(1, 3):
        score(totals, 1, 1000)
        count(redis_client, totals, number)
        overview.look()
    redis_client.flushall()
    assert overview.look().window_s == 0
    score(totals, 1, 1000)
    count(redis_client, totals, 3)
    glance = overview.look()
    assert glance.versions[0].records_per_s > 0
    assert glance.busy_share is not None
    assert glance.busy_share >= 0


def test_releases_and_workers_are_as_they_reported_themselves(redis_client: Redis) -> None:
    served = ServedModel(serving=1, wanted=2, refused="it faults", resident=[1, 7])
    send_report(redis_client, KEYS, report(1, children=2, models={"m@production": served}))
    child = ServedModel(serving=1, wanted=1, resident=[1])
    for number in (2, 3):
        send_report(
            redis_client, KEYS, report(number, parent="w@h/1", models={"m@production": child})
        )
    glance = Overview(redis_client, KEYS).look()
    (release,) = glance.releases
    assert (release.name, release.serving, release.wanted) == ("m@production", 1, 2)
    assert (release.processes, release.refused) == (2, "it faults")
    assert [(one.is_main, one.versions) for one in glance.workers] == [
        (True, ["m@1", "m@7"]),
        (False, ["m@1"]),
        (False, ["m@1"]),
    ]


def test_jobs_are_those_with_a_lease_and_what_cannot_be_read_of_them_is_left_out(
    redis_client: Redis,
) -> None:
    now_ms = redis_client.time()[0] * 1000
    progress = JobProgress(
        host="h",
        source="in.csv",
        owner="shop",
        model="m",
        version=1,
        rows=5,
        rejected=1,
        percent=50.0,
        rows_per_s=2.5,
        seconds=2.0,
        seconds_left=2.0,
    )
    leases = {
        "a" * 32: now_ms + 15_000,
        "b" * 32: now_ms + 15_000,
        "c" * 32: now_ms - 5000,
        "d" * 32: 9e15,
    }
    redis_client.zadd(KEYS.jobs, leases)
    redis_client.set(KEYS.progress("a" * 32), b"{" * 100_000)
    redis_client.set(KEYS.progress("b" * 32), progress.encode())
    jobs = read_jobs(redis_client, KEYS)
    assert [(job.id, job.progress) for job in jobs] == [("b" * 8, progress), ("a" * 8, None)]


def test_dead_letters_are_read_again_only_when_there_may_be_others(redis_client: Redis) -> None:
    overview = Overview(redis_client, KEYS)
    for number in range(7):
        redis_client.xadd(
            KEYS.dead, {"model": "m", "reason": f"it died {number}", "body": b"x" * 100}
        )
    glance = overview.look()
    assert glance.dead == 7
    assert [one.reason for one in glance.letters][:2] == ["it died 6", "it died 5"]
    assert all(one.fields == {} for one in glance.letters)
    redis_client.config_resetstat()
    overview.look()
    assert "cmdstat_xrevrange" not in redis_client.info("commandstats")


def test_status_tells_a_pattern_that_no_model_fits(
    redis_client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("SCORELINE_REDIS_URL", redis_url)
    served = ServedModel(serving=1, wanted=1, resident=[1])
    send_report(redis_client, KEYS, report(2, models={"m@production": served}, only="m,lons"))
    with pytest.raises(SystemExit):
        main(["status"])
    assert "caution: no released model fits lons (SCORELINE_MODELS)" in capsys.readouterr().out


def test_status_waits_for_the_first_report_of_a_worker_that_reads(
    redis_client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("SCORELINE_REDIS_URL", redis_url)
    served = ServedModel(serving=1, wanted=1, resident=[1])
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        send_report(redis_client, KEYS, report(2, models={"m@production": served}))

    monkeypatch.setattr("scoreline_client.cli.status.time.sleep", sleep)
    with pytest.raises(SystemExit) as nobody:
        main(["status"])
    assert (nobody.value.code, waits) == (3, [])
    assert "no worker is alive" in capsys.readouterr().out
    with StubWorker(redis_client).serving(), pytest.raises(SystemExit) as served_now:
        main(["status"])
    assert (served_now.value.code, len(waits)) == (0, 1)
    assert "m@production" in capsys.readouterr().out
