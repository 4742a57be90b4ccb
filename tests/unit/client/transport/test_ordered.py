"""Many requests are asked in order and in time, all of one version, by jobs that share the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import cast

import pytest

from scoreline_client import (
    NoAnswer,
    Prediction,
    ServerRefused,
    UnknownModel,
)
from scoreline_client.protocol.messages import Answer, Request, Status, new_id
from scoreline_client.transport.dispatcher import Transport
from scoreline_client.transport.ordered import (
    DEFAULT_TIMES,
    BulkJob,
    BulkTimes,
    answers_in_time,
    in_order,
)
from tests.support.bulk import StubTransport

YES = Prediction("yes", {"no": 0.25, "yes": 0.75}, "threshold", 4)


async def test_requests_are_made_when_there_is_room_for_them() -> None:
    made: list[int] = []
    done = 0

    def items() -> Iterator[int]:
        for item in range(20):
            made.append(item)
            assert len(made) - done <= 4
            yield item

    async def ask(item: int) -> int:
        await asyncio.sleep(0.001 * (item % 3))
        return item * 2

    async for item, answer in in_order(items(), ask, lambda: 3):
        done += 1
        assert answer == item * 2
    assert made == list(range(20))


async def _ask_for(
    items: list[int],
    stub: StubTransport,
    *,
    timeout_s: float = 5.0,
    times: BulkTimes = DEFAULT_TIMES,
) -> list[tuple[int, Answer]]:
    def build(ref: str, item: int, job: str) -> Request:
        return Request(id=new_id(), model=ref, body=str(item).encode(), job=job)

    found = answers_in_time(
        cast("Transport", stub), "threshold", iter(items), build, timeout_s=timeout_s, times=times
    )
    return [pair async for pair in found]


async def test_requests_do_not_wait_to_be_told_the_version() -> None:
    stub = StubTransport(lambda request: Answer(id=request.id, version=4))
    stub.answers_after = 4
    await _ask_for([1, 2, 3, 4], stub)
    assert [request.model for request, _ in stub.sent] == ["threshold"] * 4
    assert [bool(request.job) for request, _ in stub.sent] == [False, True, True, True]


async def test_what_met_another_version_than_the_first_is_asked_again() -> None:
    def respond(request: Request) -> Answer:
        """A release is on its way: those who come later meet the newer version."""
        is_first = request.body == b"1"
        version = 4 if is_first or request.model == "threshold@4" else 5
        return Answer(id=request.id, version=version)

    stub = StubTransport(respond)
    found = await _ask_for([1, 2, 3], stub)
    assert [(item, answer.version) for item, answer in found] == [(1, 4), (2, 4), (3, 4)]
    again = [request.body for request, _ in stub.sent if request.model == "threshold@4"]
    assert sorted(again) == [b"2", b"3"]


async def test_what_is_asked_later_is_asked_of_the_version_that_is_known() -> None:
    stub = StubTransport(lambda request: Answer(id=request.id, version=4))
    stub.processes = 1
    await _ask_for(list(range(10)), stub)
    models = [request.model for request, _ in stub.sent]
    assert models[0] == "threshold"
    assert models[-1] == "threshold@4"


async def test_a_refusal_of_the_first_ends_it_all() -> None:
    error = {"code": "E_UNKNOWN_MODEL", "message": "there is none"}
    stub = StubTransport(lambda request: Answer(id=request.id, status=Status.ERROR, error=error))
    with pytest.raises(UnknownModel):
        await _ask_for([1, 2, 3], stub)
    assert len(stub.ended) == 1


async def _ask_one(refusals: list[str]) -> int:
    """Ask one request of a job of a server that refuses it so often; gives how often it was sent."""

    def respond(request: Request) -> Answer:
        if refusals:
            raise ServerRefused("redis://queue", refusals.pop())
        return Answer(id=request.id, version=4)

    stub = StubTransport(respond)
    async with BulkJob(cast("Transport", stub), BulkTimes(retry_pause_s=0.001)) as job:
        await job.ask(lambda job: Request(id=new_id(), model="threshold", body=b"1", job=job))
    return len(stub.sent)


async def test_a_refusal_of_rights_ends_a_job_at_once_and_names_the_user_that_it_needs() -> None:
    refusals = ["does not permit this to user 'p': no permissions to access a key"] * 2
    with pytest.raises(ServerRefused, match=r"to access a key\. .*the user `client`"):
        await _ask_one(refusals)
    assert len(refusals) == 1


async def test_a_job_waits_for_a_worker_that_loads_the_scripts() -> None:
    refusals = ["does not permit this to user 'c': no permissions to run 'script|load'"] * 2
    assert await _ask_one(refusals) == 3


async def test_a_caller_who_has_waited_long_enough_is_told() -> None:
    def respond(request: Request) -> Answer | None:
        return None if request.body == b"2" else Answer(id=request.id, version=4)

    stub = StubTransport(respond)
    with pytest.raises(NoAnswer, match=r"within 0\.05 s"):
        await _ask_for([1, 2], stub, timeout_s=0.05, times=BulkTimes(check_after_s=0.01))
    assert len(stub.ended) == 1


@pytest.mark.parametrize(
    ("processes", "jobs", "window"), [(2, 1, 4), (2, 2, 2), (2, 3, 2), (2, 10, 1), (0, 1, 1)]
)
async def test_a_jobs_share_is_two_chunks_a_process_among_all_jobs(
    processes: int, jobs: int, window: int
) -> None:
    stub = StubTransport()
    stub.processes, stub.jobs = processes, jobs
    async with BulkJob(cast("Transport", stub)) as job:
        assert job.window == window
