"""Reports with what their processes have counted, on a real server."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from redis import Redis

from scoreline_client.cli.acl import Role, rights
from scoreline_client.fleet import ProcessReport, read_reports, send_report
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.protocol.totals import MOST_VERSIONS, NOBODY, decode_totals

pytestmark = pytest.mark.integration

KEYS = Keys("default")
REPORT = ProcessReport(
    name="w@h/1", host="h", pid=1, started_at=1.0, reported_at=time.time(), counted=1
)
BATCH = [("pima|3", "online|batches|", 2)]


def _batches(redis: Redis) -> dict[str, int]:
    totals = decode_totals(redis.hgetall(KEYS.totals))
    return {f"{model}@{version}": tally.batches for (model, version, _), tally in totals.items()}


def test_counts_of_all_processes_add_up(redis_client: Redis) -> None:
    assert send_report(redis_client, KEYS, REPORT, BATCH)
    send_report(redis_client, KEYS, replace(REPORT, name="w@h/2"), BATCH)
    send_report(redis_client, KEYS, replace(REPORT, counted=2), BATCH)
    assert _batches(redis_client) == {"pima@3": 6}
    assert [one.name for one in read_reports(redis_client, KEYS)] == ["w@h/1", "w@h/2"]


def test_counts_that_are_sent_again_count_once(redis_client: Redis) -> None:
    for _ in range(2):
        send_report(redis_client, KEYS, REPORT, BATCH)
    assert _batches(redis_client) == {"pima@3": 2}


def test_a_full_server_takes_counts(redis_client: Redis) -> None:
    redis_client.config_set("maxmemory", 1)
    try:
        send_report(redis_client, KEYS, REPORT, BATCH)
    finally:
        redis_client.config_set("maxmemory", 0)
    assert _batches(redis_client) == {"pima@3": 2}


def test_one_more_version_than_there_may_be_counts_as_nobodys_until_another_one_is_idle(
    redis_client: Redis,
) -> None:
    many = [(f"m|{version}", "online|batches|", 1) for version in range(1, MOST_VERSIONS + 3)]
    send_report(redis_client, KEYS, REPORT, many)
    batches = _batches(redis_client)
    assert (len(batches), batches[f"{NOBODY}@{NOBODY}"]) == (MOST_VERSIONS + 1, 2)
    redis_client.hset(KEYS.totals, "seen|m|7", int(time.time()) - 4000)
    send_report(redis_client, KEYS, replace(REPORT, counted=2), many[-1:])
    batches = _batches(redis_client)
    assert "m@7" not in batches
    assert batches[f"m@{MOST_VERSIONS + 2}"] == 1


def test_what_is_no_number_in_the_totals_keeps_no_report_and_no_other_count_from_arriving(
    redis_client: Redis,
) -> None:
    redis_client.hset(KEYS.totals, "pima|3|online|batches|", "many")
    send_report(redis_client, KEYS, REPORT, [*BATCH, ("pima|3", "bulk|batches|", 1)])
    assert decode_totals(redis_client.hgetall(KEYS.totals))["pima", "3", Lane.BULK].batches == 1
    assert len(read_reports(redis_client, KEYS)) == 1


def test_a_worker_with_the_rights_of_an_earlier_release_reports_without_counting(
    redis_client: Redis, redis_url: str
) -> None:
    words = [one for one in rights(Role.WORKER, "default").split("(") if KEYS.totals not in one]
    redis_client.execute_command(
        "ACL", "SETUSER", "old", "reset", "on", ">word", *"(".join(words).split()
    )
    try:
        with Redis.from_url(redis_url, username="old", password="word") as old:
            assert not send_report(old, KEYS, REPORT, BATCH)
        assert len(read_reports(redis_client, KEYS)) == 1
        assert _batches(redis_client) == {}
    finally:
        redis_client.acl_deluser("old")
