"""Bulk jobs share a fleet in turns, and leave nothing behind when they go."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from redis import Redis

from scoreline_client import AsyncClient, ClientSettings
from scoreline_client.errors import RequestRefused
from scoreline_client.fleet import ProcessReport, send_report, withdraw_report
from scoreline_client.protocol.job_progress import JobProgress
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.protocol.messages import Answer, Request, WireError, new_id
from scoreline_client.transport.ordered import REQUESTS_PER_PROCESS, BulkJob, BulkTimes
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Entry
from tests.support.worker import StubWorker, double

KEYS = Keys("default")
BULK = KEYS.lane(Lane.BULK)


@pytest.fixture(autouse=True)
def _two_processes(redis_client: Redis) -> None:
    """A fleet that reports, so that a job's share is known."""
    for pid in (1, 2):
        report = ProcessReport(
            name=f"stub/{pid}", host="here", pid=pid, started_at=0.0, reported_at=2e9
        )
        send_report(redis_client, KEYS, report)


@pytest.fixture
async def other_client(client_settings: ClientSettings) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(settings=client_settings) as client:
        yield client


def _request(client: AsyncClient, body: bytes = b'[{"x":1}]') -> Any:
    def build(job: str) -> Request:
        return Request(
            id=new_id(), model="m", body=body, reply_to=client.transport.client_id, job=job
        )

    return build


async def _score(job: BulkJob, client: AsyncClient, chunks: int) -> None:
    """Keep a window of chunks on their way until all are answered."""
    running: set[asyncio.Task[Answer]] = set()
    for _ in range(chunks):
        while len(running) >= job.window:
            _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        running.add(asyncio.create_task(job.ask(_request(client))))
    await asyncio.gather(*running)


def _answer_next(worker: StubWorker) -> str | None:
    """Answer the first chunk of the lane; returns its job."""
    streams: Any = {BULK: ">"}
    reply: Any = worker.redis.xreadgroup(GROUP, "stub", streams, count=1) or {}
    parts = reply.values() if isinstance(reply, dict) else [one for _, one in reply]
    for part in parts:
        for entry, fields in part[0] if isinstance(reply, dict) else part:
            request = Request.decode(fields)
            worker.answer(Lane.BULK, entry, request, double(request))
            return request.job
    return None


def _left(redis: Redis) -> list[str]:
    """All keys but those of the fleet itself."""
    kept = {*map(KEYS.lane, Lane), KEYS.processes, KEYS.process("stub/1"), KEYS.process("stub/2")}
    names: Any = redis.keys("*")
    return sorted({name.decode() for name in names} - kept)


async def test_ten_jobs_take_turns(
    client: AsyncClient, worker: StubWorker, eventually: Any
) -> None:
    jobs = [BulkJob(client.transport) for _ in range(10)]
    served: list[str] = []
    for job in jobs:
        await job.__aenter__()
    for job in jobs:
        await job._renew()  # now each knows that there are ten
    running = [asyncio.create_task(_score(job, client, 12)) for job in jobs]
    while not all(task.done() for task in running):
        waiting: Any = worker.redis.xlen(BULK)
        assert waiting <= len(jobs)
        if waiting == sum(not task.done() for task in running):
            served += [job for job in [_answer_next(worker)] if job]
        await asyncio.sleep(0)
    for job in jobs:
        await job.__aexit__()
    assert len(served) == 120
    for seen in range(10, len(served) + 1, 10):
        counts = Counter(served[:seen])
        assert max(counts.values()) - min(counts[job.id] for job in jobs) <= 1, seen


async def test_a_job_takes_a_smaller_share_when_others_come(
    client: AsyncClient, worker: StubWorker
) -> None:
    async with BulkJob(client.transport) as first:
        assert first.window == 4
        async with BulkJob(client.transport), BulkJob(client.transport):
            await first._renew()
            assert first.window == 2
        await first._renew()
        assert first.window == 4


def _report(redis: Redis, pid: int, **known: Any) -> None:
    known = {"name": f"stub/{pid}", "host": "here", "started_at": 0.0, "reported_at": 2e9} | known
    send_report(redis, KEYS, ProcessReport(pid=pid, **known))


async def test_a_main_process_does_not_score_and_gives_no_share(
    client: AsyncClient, redis_client: Redis
) -> None:
    _report(redis_client, 9, children=2)
    assert await client.transport.process_count() == 2
    async with BulkJob(client.transport) as job:
        assert job.window == 4
    assert (await client.transport.diagnose()).startswith("2 worker processes")


async def test_a_main_process_without_children_is_no_worker_yet(
    client: AsyncClient, redis_client: Redis
) -> None:
    for pid in (1, 2):
        withdraw_report(redis_client, KEYS, f"stub/{pid}")
    _report(redis_client, 9, children=2)
    assert await client.transport.process_count() == 0
    assert "no worker process is ready" in await client.transport.diagnose()


async def test_a_report_that_cannot_be_read_is_of_a_process_that_is_alive(
    client: AsyncClient, redis_client: Redis
) -> None:
    redis_client.set(KEYS.process("stub/2"), b"{of the year 3000")
    assert await client.transport.process_count() == 2


async def test_a_job_that_is_cancelled_frees_the_queue_at_once(
    client: AsyncClient, other_client: AsyncClient, worker: StubWorker, eventually: Any
) -> None:
    async with BulkJob(other_client.transport) as other:
        kept = asyncio.create_task(other.ask(_request(other_client)))

        async def run() -> None:
            async with BulkJob(client.transport) as job:
                await asyncio.gather(*(job.ask(_request(client)) for _ in range(4)))

        task = asyncio.create_task(run())
        await asyncio.to_thread(eventually, lambda: worker.redis.xlen(BULK) == 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert worker.redis.xlen(BULK) == 1
        assert _answer_next(worker) == other.id
        assert (await kept).values == [2]


async def test_a_job_that_is_done_leaves_nothing_behind(
    client: AsyncClient, worker: StubWorker, redis_client: Redis, eventually: Any
) -> None:
    with worker.serving():
        async with BulkJob(client.transport) as job:
            await _score(job, client, 20)
    await client.close()
    await asyncio.to_thread(eventually, lambda: _left(redis_client) == [])


def _leases(redis: Redis, **ends_in_ms: int) -> None:
    """Leases of jobs, by the server's clock."""
    seconds, microseconds = redis.time()  # type: ignore[misc]
    now_ms = seconds * 1000 + microseconds // 1000
    redis.zadd(KEYS.jobs, {job: now_ms + left_ms for job, left_ms in ends_in_ms.items()})


async def test_what_a_client_that_died_has_left_counts_until_its_lease_is_over(
    client: AsyncClient, redis_client: Redis
) -> None:
    _leases(redis_client, over=-1, alive=10_000)
    assert await client.transport.renew_job("e" * 32, 60_000) == (False, 2)


async def test_a_worker_removes_what_clients_that_died_have_left(redis_client: Redis) -> None:
    queue = RequestQueue(redis_client, KEYS, "w/1", result_ttl_s=60)
    alive = "a" * 32
    _leases(redis_client, dead=-70_000, late=-10_000, **{alive: 10_000})
    chunk = Entry(Lane.BULK, b"1-1", {b"job": alive.encode(), b"wire": b"1", b"id": b"0" * 32})
    assert not queue.look_at(chunk, queue.server_time_ms())[1]
    assert redis_client.zrange(KEYS.jobs, 0, -1) == [b"late", alive.encode()]
    assert 0 < redis_client.pttl(KEYS.jobs) <= 3_600_000  # type: ignore[operator]


async def test_one_callers_lease_is_no_end_of_the_others(
    client: AsyncClient, redis_client: Redis
) -> None:
    await client.transport.renew_job("a" * 32, 60_000)
    await client.transport.renew_job("b" * 32, 3000)
    assert redis_client.pttl(KEYS.jobs) == -1
    assert (await client.transport.renew_job("a" * 32, 60_000))[0]


async def test_no_lease_is_longer_than_a_minute(client: AsyncClient, redis_client: Redis) -> None:
    await client.transport.renew_job("a" * 32, 10**12)
    seconds, _ = redis_client.time()  # type: ignore[misc]
    assert redis_client.zscore(KEYS.jobs, "a" * 32) <= (seconds + 61) * 1000  # type: ignore[operator]


async def test_made_up_jobs_take_nobodys_share(client: AsyncClient, redis_client: Redis) -> None:
    redis_client.zadd(KEYS.jobs, {f"made-up {number}": 9e15 for number in range(1000)})
    async with BulkJob(client.transport) as job:
        assert job.window == 4


async def test_whether_a_request_is_lost_is_known_without_reading_any(
    client: AsyncClient, worker: StubWorker, redis_client: Redis
) -> None:
    """Whatever becomes of it: waiting, handed out, answered, deleted, flushed."""
    transport = client.transport
    requests = [_request(client)("") for _ in range(3)]
    futures = [transport.send(request, Lane.BULK) for request in requests]
    while not all(transport._pending[request.id].entry for request in requests):  # noqa: ASYNC110
        await asyncio.sleep(0.001)

    async def lost() -> list[bool]:
        return [await transport.is_lost(request) for request in requests]

    entries: list[Any] = [transport._pending[request.id].entry for request in requests]
    redis_client.config_resetstat()
    assert await lost() == [False] * 3
    redis_client.xdel(BULK, entries[0])
    redis_client.xreadgroup(GROUP, "stub", {BULK: ">"}, count=1)
    assert await lost() == [True, False, False]
    redis_client.xack(BULK, GROUP, entries[1])
    redis_client.xdel(BULK, *entries[1:])
    redis_client.set(KEYS.result(requests[1].id), b"{}")
    assert await lost() == [True, False, True]
    redis_client.delete(BULK)
    assert await lost() == [True, False, True]
    commands: Any = redis_client.info("commandstats")
    assert "cmdstat_xrange" not in commands
    for future in futures:
        future.cancel()


async def test_chunks_that_were_lost_with_the_lease_are_sent_again(
    client: AsyncClient, worker: StubWorker, redis_client: Redis, eventually: Any
) -> None:
    async with BulkJob(client.transport, BulkTimes(renew_every_s=0.01)) as job:
        asked = asyncio.create_task(job.ask(_request(client)))
        await asyncio.to_thread(eventually, lambda: redis_client.xlen(BULK) == 1)
        redis_client.flushall()
        redis_client.xgroup_create(BULK, GROUP, id="0", mkstream=True)
        await asyncio.to_thread(eventually, lambda: redis_client.xlen(BULK) == 1)
        _answer_next(worker)
        assert (await asked).values == [2]


async def test_a_chunk_of_which_nothing_is_left_is_sent_again(
    client: AsyncClient, worker: StubWorker, redis_client: Redis, eventually: Any
) -> None:
    async with BulkJob(client.transport, BulkTimes(check_after_s=0.02)) as job:
        asked = asyncio.create_task(job.ask(_request(client)))
        await asyncio.to_thread(eventually, lambda: redis_client.xlen(BULK) == 1)
        first = worker.take()
        redis_client.xdel(BULK, first[0][1])
        await asyncio.to_thread(eventually, lambda: redis_client.xlen(BULK) == 1)
        _answer_next(worker)
        assert (await asked).values == [2]


async def test_a_chunk_that_takes_long_is_not_sent_again(
    client: AsyncClient, worker: StubWorker, redis_client: Redis, eventually: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    looks = 0
    is_lost = client.transport.is_lost

    async def look(request: Request) -> bool:
        nonlocal looks
        looks += 1
        return await is_lost(request)

    monkeypatch.setattr(client.transport, "is_lost", look)
    async with BulkJob(client.transport, BulkTimes(check_after_s=0.01)) as job:
        asked = asyncio.create_task(job.ask(_request(client)))
        await asyncio.to_thread(eventually, lambda: looks > 3)
        assert redis_client.xlen(BULK) == 1
        _answer_next(worker)
        assert (await asked).values == [2]


async def test_a_chunk_that_is_refused_is_not_asked_again(
    client: AsyncClient, worker: StubWorker
) -> None:
    from tests.support.worker import refuse

    with worker.serving(refuse("E_INTERNAL", "broken")):
        async with BulkJob(client.transport) as job:
            with pytest.raises(RequestRefused, match="broken"):
                await job.ask(_request(client))
    assert len(worker.seen) == 1


async def test_many_records_are_sent_a_few_requests_at_a_time(
    client: AsyncClient, worker: StubWorker
) -> None:
    most = 0

    def look(request: Request) -> Answer:
        nonlocal most
        waiting: Any = worker.redis.xlen(BULK)
        most = max(most, waiting)
        return double(request)

    with worker.serving(look):
        predictions = await client.predict_many("m", [{"x": number} for number in range(20_500)])
    assert [prediction.value for prediction in predictions] == [
        2 * number for number in range(20_500)
    ]
    share = 2 * REQUESTS_PER_PROCESS
    assert most <= 1 + share, "the first request is no part of the job's share"


async def test_progress_is_gone_with_the_lease_and_costs_nothing_where_it_cannot_be_told(
    client: AsyncClient, redis_client: Redis
) -> None:
    keys = client.transport.keys

    def tell() -> JobProgress:
        return JobProgress(
            host="h",
            source="in.csv",
            model="m",
            version=1,
            rows=5,
            rejected=1,
            percent=None,
            rows_per_s=2.5,
            seconds=2.0,
            seconds_left=None,
        )

    async with BulkJob(client.transport, progress=tell) as job:
        assert JobProgress.decode(redis_client.get(keys.progress(job.id))) == tell()
        assert 0 < redis_client.pttl(keys.progress(job.id)) <= BulkTimes().lease_ms
    redis_client.config_set("maxmemory", 1)
    async with BulkJob(client.transport, progress=tell) as job:
        assert redis_client.get(keys.progress(job.id)) is None
        assert redis_client.zscore(keys.jobs, job.id) is not None


@pytest.mark.parametrize(
    "change",
    [{"rows": -1}, {"percent": 1e300}, {"seconds_left": -5.0}, {"rows": "many"}, {"host": None}],
)
def test_what_is_no_progress_is_refused(change: dict[str, Any]) -> None:
    good = {"host": "h", "source": "s", "model": "m", "version": 1, "rows": 1, "rejected": 0}
    good |= {"percent": 1.0, "rows_per_s": 1.0, "seconds": 1.0, "seconds_left": 1.0}
    assert JobProgress.decode(orjson.dumps(good | {"of a later release": 1})).rows == 1
    with pytest.raises(WireError):
        JobProgress.decode(orjson.dumps(good | change))
