"""Jobs: submitted here, fetched there, cancelled or lost on the way."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from redis import Redis

from scoreline_client import (
    AsyncClient,
    Client,
    ClientSettings,
    EmptyRequest,
    JobCancelled,
    JobLost,
    JobStatus,
    NoAnswer,
    PayloadTooLarge,
    QueueFull,
    RequestExpired,
    ServerUnreachable,
    UnknownModel,
    jobs,
)
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.transport.connection import TransportTimes
from tests.support.worker import StubWorker, double, refuse

pytestmark = pytest.mark.integration
KEYS = Keys("default")


def test_a_jobs_result_is_there_when_it_is_scored(sync_client: Client, worker: StubWorker) -> None:
    job = sync_client.submit("pima", [{"x": 1}, {"y": 2}])
    worker.step()
    first, second = job.result()
    assert first.value == 2
    assert second.error is not None
    assert second.error.code == "E_MISSING_COLUMN"


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at results hardly ever, where nothing tells of them."""
    monkeypatch.setattr(jobs, "FIRST_PAUSE_S", 120.0)
    monkeypatch.setattr(jobs, "LONGEST_PAUSE_S", 120.0)


@pytest.mark.usefixtures("seldom")
async def test_who_waits_for_jobs_is_told_of_each(client: AsyncClient, worker: StubWorker) -> None:
    submitted = [await client.submit("pima", [{"x": number}]) for number in range(50)]
    # Some are waited for twice, and some by those who give up.
    waiting = [asyncio.create_task(job.result(60)) for job in (*submitted, *submitted[:10])]
    given_up = [asyncio.create_task(job.result(60)) for job in submitted[:5]]
    await asyncio.sleep(0.05)
    for task in given_up:
        task.cancel()
    with worker.serving():
        results = await asyncio.gather(*waiting)
    assert [one.value for (one,) in results] == [2 * n for n in (*range(50), *range(10))]
    assert client.transport._awaited == {}


@pytest.mark.usefixtures("seldom")
def test_a_result_that_was_told_of_before_anybody_waited_is_there(
    sync_client: Client, worker: StubWorker
) -> None:
    with worker.serving():
        told = sync_client.submit("pima", [{"x": 1}])
        assert sync_client.submit("pima", [{"x": 2}]).result(60)[0].value == 4
        assert told.result(60)[0].value == 2


@pytest.mark.parametrize("release", ["earlier", "lost note"])
def test_where_no_note_comes_the_result_is_looked_at_now_and_then(
    sync_client: Client,
    worker: StubWorker,
    monkeypatch: pytest.MonkeyPatch,
    release: str,
) -> None:
    if release == "earlier":
        read = worker.take
        monkeypatch.setattr(
            worker, "take", lambda: [(*rest, replace(asked, notify="")) for *rest, asked in read()]
        )
    else:
        monkeypatch.setattr(worker.redis, "rpush", lambda *_: 0)
    with worker.serving():
        assert sync_client.submit("pima", [{"x": 1}]).result()[0].value == 2


def test_a_result_can_be_read_again(sync_client: Client, worker: StubWorker) -> None:
    job = sync_client.submit("pima", [{"x": 1}])
    worker.step()
    assert job.result() == job.result()


def test_another_client_attaches_by_the_id(
    sync_client: Client, client_settings: ClientSettings, worker: StubWorker
) -> None:
    job_id = sync_client.submit("pima", [{"x": 4}]).id
    worker.step()
    with Client(settings=client_settings) as other:
        assert [one.value for one in other.job(job_id).result()] == [8]


def test_result_waits_for_the_worker(sync_client: Client, worker: StubWorker) -> None:
    job = sync_client.submit("pima", [{"x": 1}])
    with worker.serving():
        assert job.result(timeout=20)[0].value == 2


def test_a_job_is_queued_then_running_then_done(sync_client: Client, worker: StubWorker) -> None:
    job = sync_client.submit("pima", [{"x": 1}])
    seen = [job.status()]
    ((lane, entry, request),) = worker.take()
    seen.append(job.status())
    worker.answer(lane, entry, request, double(request))
    seen.append(job.status())
    assert seen == [JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.DONE]


def test_a_job_is_queued_before_any_worker_was_ever_there(sync_client: Client) -> None:
    assert sync_client.submit("pima", [{"x": 1}]).status() is JobStatus.QUEUED


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("E_UNKNOWN_MODEL", JobStatus.FAILED, UnknownModel),
        ("E_EXPIRED", JobStatus.EXPIRED, RequestExpired),
    ],
)
def test_a_refused_job_says_why(
    sync_client: Client, worker: StubWorker, code: str, status: JobStatus, error: Any
) -> None:
    job = sync_client.submit("pima", [{"x": 1}])
    worker.step(refuse(code, "because"))
    assert job.status() is status
    with pytest.raises(error, match="because") as refused:
        job.result()
    # Who asks again after NoAnswer must not ask for ever.
    assert not isinstance(refused.value, NoAnswer)


def test_a_waiting_job_that_is_cancelled_is_never_scored(
    sync_client: Client, worker: StubWorker
) -> None:
    job = sync_client.submit("pima", [{"x": 1}])
    assert job.cancel()
    assert worker.step() == 0
    assert job.status() is JobStatus.CANCELLED
    with pytest.raises(JobCancelled):
        job.result()


def test_a_job_that_a_worker_has_is_cancelled_for_its_caller(
    sync_client: Client, worker: StubWorker
) -> None:
    job = sync_client.submit("pima", [{"x": 1}])
    ((lane, entry, request),) = worker.take()
    assert job.cancel()
    worker.answer(lane, entry, request, double(request))
    assert job.status() is JobStatus.CANCELLED


def test_a_job_that_is_cancelled_leaves_no_count_of_attempts_behind(
    sync_client: Client, worker: StubWorker, redis_client: Redis
) -> None:
    job = sync_client.submit("pima", [{"x": 1}])
    worker.take()
    keys = Keys("default")
    redis_client.hset(keys.attempts, job.id, "1")
    assert job.cancel()
    assert redis_client.exists(keys.attempts) == 0


def test_a_job_that_is_done_cannot_be_cancelled(sync_client: Client, worker: StubWorker) -> None:
    job = sync_client.submit("pima", [{"x": 1}])
    worker.step()
    assert not job.cancel()
    assert job.result()[0].value == 2


def test_cancelling_leaves_other_jobs_alone(sync_client: Client, worker: StubWorker) -> None:
    jobs = [sync_client.submit("pima", [{"x": n}]) for n in range(3)]
    jobs[1].cancel()
    worker.step()
    assert [job.status() for job in jobs] == ["done", "cancelled", "done"]


@pytest.mark.parametrize("ask", ["status", "result", "cancel"])
def test_a_job_that_nobody_knows_is_lost(sync_client: Client, ask: str) -> None:
    job = sync_client.job("0" * 32)
    with pytest.raises(JobLost, match="0" * 32):
        getattr(job, ask)()


def test_a_job_is_lost_with_the_servers_data(sync_client: Client, redis_client: Redis) -> None:
    job = sync_client.submit("pima", [{"x": 1}])
    redis_client.flushall()
    with pytest.raises(JobLost):
        job.result(timeout=5)


def test_a_job_whose_result_is_gone_before_its_record_is_lost(
    sync_client: Client, worker: StubWorker, redis_client: Redis
) -> None:
    job = sync_client.submit("pima", [{"x": 1}])
    worker.step()
    redis_client.delete(Keys("default").result(job.id))
    with pytest.raises(JobLost):
        job.status()


def test_no_result_in_time_is_an_error(sync_client: Client) -> None:
    job = sync_client.submit("pima", [{"x": 1}])
    with pytest.raises(NoAnswer):
        job.result(timeout=0.05)


def test_a_value_that_json_has_no_form_for_costs_its_record(
    sync_client: Client, worker: StubWorker
) -> None:
    job = sync_client.submit("pima", [{"x": {1}}, {"x": 2}])
    worker.step()
    bad, good = job.result()
    assert good.value == 4
    assert bad.error is not None


def test_a_job_without_records_is_refused(sync_client: Client) -> None:
    with pytest.raises(EmptyRequest):
        sync_client.submit("pima", [])


def test_a_job_over_the_limit_says_what_to_use(redis_url: str) -> None:
    settings = ClientSettings(redis_url=redis_url, max_request_records=2)
    with Client(settings=settings) as client, pytest.raises(PayloadTooLarge, match="score_file"):
        client.submit("pima", [{"x": n} for n in range(3)])


def test_a_job_keeps_its_time_to_be_scored(sync_client: Client, worker: StubWorker) -> None:
    sync_client.submit("pima", [{"x": 1}], expires=90)
    worker.step()
    assert [(lane, request.expires_ms) for lane, request in worker.seen] == [(Lane.ONLINE, 90_000)]


def test_a_jobs_record_does_not_stay_for_ever(
    sync_client: Client, worker: StubWorker, redis_client: Redis
) -> None:
    job = sync_client.submit("pima", [{"x": 1}], expires=90)
    limit = 90 + sync_client.settings.result_ttl_s
    assert 0 < int(redis_client.ttl(worker.keys.job(job.id))) <= limit  # type: ignore[arg-type]


@pytest.fixture
def nearly_full(redis_client: Redis) -> Iterator[None]:
    """A server whose memory is in use to more than the share from which requests are refused."""
    memory: Any = redis_client.info("memory")
    redis_client.config_set("maxmemory", int(memory["used_memory"] * 1.25))
    yield
    redis_client.config_set("maxmemory", 0)


@pytest.mark.usefixtures("nearly_full")
def test_the_first_job_of_a_client_is_refused_when_the_server_is_nearly_full(
    sync_client: Client, redis_client: Redis
) -> None:
    with pytest.raises(QueueFull, match="MEMORY_LIMIT_PERCENT"):
        sync_client.submit("pima", [{"x": 1}])
    assert redis_client.xlen(KEYS.lane(Lane.ONLINE)) == 0


async def test_jobs_are_accepted_again_when_the_server_has_room(
    client: AsyncClient, redis_client: Redis, nearly_full: None
) -> None:
    client.transport.times = TransportTimes(check_every_s=0.01)
    with pytest.raises(QueueFull):
        await client.submit("pima", [{"x": 1}])
    redis_client.config_set("maxmemory", 0)
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(QueueFull):
                await client.submit("pima", [{"x": 1}])
                return
            await asyncio.sleep(0)


async def test_a_job_whose_server_is_gone_is_an_error_of_ours() -> None:
    async with AsyncClient("redis://127.0.0.1:1/0") as client:
        job = client.job("0" * 32)
        for ask in (job.status, job.result, job.cancel):
            with pytest.raises(ServerUnreachable):
                await ask()


def test_a_job_whose_lane_cannot_be_looked_at_is_an_error_of_ours(
    sync_client: Client, worker: StubWorker, redis_client: Redis
) -> None:
    job = sync_client.submit("pima", [{"x": 1}])
    redis_client.execute_command("ACL", "SETUSER", "default", "-xpending")
    try:
        with pytest.raises(ServerUnreachable, match="xpending"):
            job.status()
    finally:
        redis_client.execute_command("ACL", "SETUSER", "default", "+xpending")


@pytest.mark.parametrize("expires", [math.inf, math.nan, -1.0, 1e300])
async def test_a_job_expires_after_a_number_of_seconds(
    client: AsyncClient, redis_client: Redis, expires: float
) -> None:
    with pytest.raises(ValueError, match="expires"):
        await client.submit("pima", [{"x": 1}], expires=expires)
    assert redis_client.dbsize() == 0


@pytest.mark.parametrize("seconds", [math.inf, math.nan, -1.0])
async def test_a_caller_waits_a_number_of_seconds(client: AsyncClient, seconds: float) -> None:
    records = [{"x": 1}]
    calls = [
        lambda: client.predict("pima", records[0], timeout=seconds),
        lambda: client.predict_many("pima", records, timeout=seconds),
        lambda: client.predict_many("pima", records * 5000, timeout=seconds),
        lambda: client.predict_frame("pima", pd.DataFrame(records), timeout=seconds),
        lambda: client.predict_frame("pima", pd.DataFrame(records * 5000), timeout=seconds),
        lambda: client.job("0" * 32).result(timeout=seconds),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="timeout is"):
            await call()
