"""Clients behind sentinels: they follow a fail-over, and know what replicas have."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from scoreline_client import (
    AsyncClient,
    ClientSettings,
    JobStatus,
    NotReplicated,
    ServerUnreachable,
)
from scoreline_client.protocol.keys import Lane
from scoreline_client.settings import SentinelUrl
from scoreline_client.transport.servers import blocking_redis
from scoreline_tasks.celery import sentinel_broker
from tests.support.sentinels import Replicated, replicated, wait_until_promoted
from tests.support.worker import StubWorker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Replicated]:
    with replicated(tmp_path) as servers:
        yield servers


async def test_callers_who_wait_are_answered_across_a_fail_over(servers: Replicated) -> None:
    settings = ClientSettings(redis_url=servers.url, durable_replicas=1)
    async with AsyncClient(settings=settings) as client:
        with blocking_redis(servers.url) as redis, StubWorker(redis).serving():
            assert (await client.predict("m", {"x": 1}, timeout=20)).value == 2
        job = await client.submit("m", [{"x": 4}])
        servers.primary.kill()
        servers.primary.wait()
        asked = asyncio.create_task(client.predict("m", {"x": 2}, timeout=40))
        await asyncio.to_thread(wait_until_promoted, servers)
        with blocking_redis(servers.url) as redis, StubWorker(redis).serving():
            assert (await asked).value == 4
            assert (await job.result(timeout=20))[0].value == 8


async def test_a_job_that_no_replica_has_says_so_and_is_queued_once(servers: Replicated) -> None:
    settings = ClientSettings(redis_url=servers.url, durable_replicas=1)
    async with AsyncClient(settings=settings) as client:
        await client.submit("m", [{"x": 1}])
        os.kill(servers.replica.pid, signal.SIGSTOP)
        with pytest.raises(NotReplicated) as caught:
            await client.submit("m", [{"x": 2}])
        assert (caught.value.replicas, caught.value.wanted) == (0, 1)
        job = client.job(caught.value.job_id)
        assert await job.status() is JobStatus.QUEUED
        os.kill(servers.replica.pid, signal.SIGCONT)
        again = await client.submit("m", [{"x": 2}], job_id=job.id)
        assert again.id == job.id
        lane = client.transport.keys.lane(Lane.ONLINE)
        assert await client.transport.redis.xlen(lane) == 2


async def test_sentinels_that_are_away_are_a_server_that_cannot_be_reached() -> None:
    url = "redis+sentinel://:secret@127.0.0.1:1,127.0.0.1:2/mymaster/0"
    async with AsyncClient(url) as client:
        with pytest.raises(
            ServerUnreachable, match=r"127\.0\.0\.1:1,127\.0\.0\.1:2/mymaster"
        ) as caught:
            await client.predict("m", {"x": 1}, timeout=5)
    assert "secret" not in str(caught.value)


def test_the_broker_has_the_same_sentinels() -> None:
    where = SentinelUrl.parse("redis+sentinel://user:p%40w@one:5,[::1]:6/mymaster/2")
    assert where is not None
    assert sentinel_broker(where) == (
        "sentinel://user:p%40w@one:5/2;sentinel://user:p%40w@[::1]:6/2"
    )
