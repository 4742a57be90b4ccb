"""Jobs: submitted here, fetched there, cancelled or lost on the way."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from scoreline_client import (
    Client,
    ClientSettings,
    EmptyRequest,
    JobCancelled,
    JobLost,
    JobStatus,
    NoAnswer,
    PayloadTooLarge,
    RequestExpired,
    UnknownModel,
)
from scoreline_client.protocol.keys import Lane
from tests.support.stub_worker import StubWorker, double, refuse

pytestmark = pytest.mark.integration


def test_a_jobs_result_is_there_when_it_is_scored(sync_client: Client, worker: StubWorker) -> None:
    job = sync_client.submit("pima", [{"x": 1}, {"y": 2}])
    worker.step()
    first, second = job.result()
    assert first.value == 2
    assert second.error is not None
    assert second.error.code == "E_MISSING_COLUMN"


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
    with pytest.raises(error, match="because"):
        job.result()


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


def test_no_result_in_time_is_an_error(sync_client: Client) -> None:
    job = sync_client.submit("pima", [{"x": 1}])
    with pytest.raises(NoAnswer):
        job.result(timeout=0.05)


def test_a_record_that_cannot_travel_costs_only_itself(
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
    with Client(settings=settings) as client, pytest.raises(PayloadTooLarge, match="score_csv"):
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
