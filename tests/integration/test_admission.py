"""What a queue takes, what it keeps, and what callers know of a request whose reply got lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from scoreline_client import (
    AsyncClient,
    ClientSettings,
    JobStatus,
    NoAnswer,
    QueueFull,
    ServerUnreachable,
)
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.protocol.messages import Request, new_id
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Entry, Finished
from tests.faults.proxy import Proxy
from tests.support.worker import StubWorker, entry_fields

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

KEYS = Keys("default")
ONLINE = KEYS.lane(Lane.ONLINE)
LIMIT = 100


@pytest.fixture
def queue(redis_client: Redis) -> RequestQueue:
    made = RequestQueue(redis_client, KEYS, "one", result_ttl_s=3600)
    made.prepare()
    return made


@pytest.fixture
def proxy(valkey_server: Any, redis_client: Redis) -> Iterator[Proxy]:
    with Proxy(valkey_server.port, valkey_server.host) as proxy:
        yield proxy


def answered(entry: Entry) -> Finished:
    reply_to = entry.fields.get(b"reply_to", b"").decode()
    return Finished(entry, entry.request_id, reply_to, b"{}")


async def queued_callers(client: AsyncClient, waves: int) -> int:
    """How many of waves of 64 callers each are queued, which share requests."""
    queued = 0
    for _ in range(waves):
        asked = [client.predict("m", {"x": n}, timeout=0.2) for n in range(64)]
        ended = await asyncio.gather(*asked, return_exceptions=True)
        queued += sum(isinstance(one, NoAnswer) for one in ended)
        assert all(isinstance(one, NoAnswer | QueueFull) for one in ended)
    return queued


async def test_the_limit_counts_callers_also_those_who_share_a_request(redis_url: str) -> None:
    settings = ClientSettings(redis_url=redis_url, queue_limit=LIMIT)
    async with AsyncClient(settings=settings) as one, AsyncClient(settings=settings) as other:
        queued = await queued_callers(one, 3) + await queued_callers(other, 1)
        assert queued == LIMIT
        with pytest.raises(QueueFull) as refused:
            await other.submit("m", [{"x": 1}])
        assert refused.value.retry_after_s > 0
        with pytest.raises(QueueFull):
            await other.predict_many("m", [{"x": "y" * 100_000}], timeout=1)


async def test_room_is_there_again_for_as_many_callers_as_were_answered(
    redis_url: str, redis_client: Redis, queue: RequestQueue
) -> None:
    settings = ClientSettings(redis_url=redis_url, queue_limit=LIMIT)
    async with AsyncClient(settings=settings) as client:
        assert await queued_callers(client, 2) == LIMIT
        entries = queue.exchange([], 1)
        queue.finish([answered(entry) for entry in entries])
        assert await queued_callers(client, 2) == 64
        while entries := queue.exchange([], 100):
            queue.finish([answered(entry) for entry in entries])
        assert redis_client.exists(KEYS.callers(Lane.ONLINE)) == 0


def test_a_wait_of_no_time_is_over_at_once(queue: RequestQueue) -> None:
    """To a server, BLOCK 0 is for ever."""
    assert queue.wait(10, block_ms=0) == []


async def test_callers_whom_an_older_worker_answers_do_not_count_for_ever(
    redis_url: str, worker: StubWorker
) -> None:
    """It does not count them down; the count begins anew with an empty lane."""
    settings = ClientSettings(redis_url=redis_url, queue_limit=LIMIT)
    async with AsyncClient(settings=settings) as client:
        for _ in range(3):
            assert await queued_callers(client, 2) == LIMIT
            while worker.step():
                pass


async def test_a_refusal_begins_nobodys_time_anew(redis_url: str) -> None:
    """The callers for whom there is room are sent once more; they had a second attempt with all of their time."""
    settings = ClientSettings(redis_url=redis_url, queue_limit=5)
    async with AsyncClient(settings=settings) as client:
        sent: list[Request] = []
        send = client.transport.send

        def slow_refusal(request: Request, *args: Any, **options: Any) -> asyncio.Future[Any]:
            sent.append(request)
            if len(sent) > 1:
                return send(request, *args, **options)
            refused = asyncio.get_running_loop().create_future()
            error = QueueFull("default", "full", 1.0, room=5)
            asyncio.get_running_loop().call_later(0.5, refused.set_exception, error)
            return refused

        client.transport.send = slow_refusal  # type: ignore[method-assign]
        asked = [client.predict("m", {"x": n}, timeout=1) for n in range(8)]
        ended = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in ended] == 5 * [NoAnswer] + 3 * [QueueFull]
    assert [request.callers for request in sent] == [8, 5]
    assert sent[1].expires_ms <= 500


@pytest.mark.parametrize(
    ("fields", "longest_s"),
    [
        ({"reply_to": "f" * 32, "expires_ms": 5_000}, 65),
        ({"expires_ms": 5_000}, 3600),
        ({"notify": "f" * 32, "expires_ms": 5_000}, 3600),
        ({"reply_to": "f" * 32, "expires_ms": 10**12}, 3600),
        ({"reply_to": "f" * 32, "job": "e" * 32, "expires_ms": 3_600_000}, 60),
    ],
    ids=["caller waits", "job", "job that is waited for", "caller waits long", "chunk"],
)
def test_a_result_stays_until_its_caller_has_given_up(
    queue: RequestQueue, redis_client: Redis, fields: dict[str, Any], longest_s: int
) -> None:
    """Those that nobody reads do not fill the server."""
    request = Request(id=new_id(), model="m", **fields)
    lane = Lane.BULK if "job" in fields else Lane.ONLINE
    redis_client.xadd(KEYS.lane(lane), entry_fields(request))  # type: ignore[arg-type]
    queue.finish([answered(entry) for entry in queue.wait(10, 1)])
    left_ms: Any = redis_client.pttl(KEYS.result(request.id))
    assert longest_s - 5 < left_ms / 1000 <= longest_s
    if client := request.reply_to or request.notify:
        reply_left_ms: Any = redis_client.pttl(KEYS.reply(client))
        assert 0 < reply_left_ms / 1000 <= (60 if request.notify else longest_s)


def test_each_result_of_a_batch_has_its_own_lifetime(
    queue: RequestQueue, redis_client: Redis
) -> None:
    requests = [
        Request(id=new_id(), model="m", reply_to="f" * 32, expires_ms=1000 * seconds)
        for seconds in (1, 100, 10)
    ]
    for request in requests:
        redis_client.xadd(ONLINE, entry_fields(request))  # type: ignore[arg-type]
    queue.finish([answered(entry) for entry in queue.exchange([], 10)])
    left: list[Any] = [redis_client.pttl(KEYS.result(request.id)) for request in requests]
    assert [round(each / 10_000) * 10 for each in left] == [60, 160, 70]


@pytest.mark.parametrize("field", ["callers", "expires_ms"])
@pytest.mark.parametrize("value", ["", "-1", "x", "1e3", "9" * 5000, "9" * 15, "0"])
def test_a_number_that_a_stranger_has_written_harms_nobody(
    queue: RequestQueue, redis_client: Redis, field: str, value: str
) -> None:
    request = Request(id=new_id(), model="m", reply_to="f" * 32)
    fields: Any = entry_fields(request) | {field.encode(): value.encode()}
    redis_client.xadd(ONLINE, fields)
    assert queue.finish([answered(entry) for entry in queue.exchange([], 10)]) == 1
    assert redis_client.pttl(KEYS.result(request.id)) > 0


# A reply that got lost


async def test_a_job_whose_reply_got_lost_is_queued_once(proxy: Proxy, redis_client: Redis) -> None:
    async with AsyncClient(settings=ClientSettings(redis_url=proxy.url)) as client:
        await client.submit("m", [{"x": 0}])
        for after in range(10):
            proxy.drop_reply(b"EVALSHA")
            await client.submit("m", [{"x": after}])
        assert proxy.dropped == 10
    assert redis_client.xlen(ONLINE) == 11


async def test_a_job_that_may_be_accepted_says_so_and_is_queued_once_when_it_is_repeated(
    proxy: Proxy, redis_client: Redis
) -> None:
    async with AsyncClient(settings=ClientSettings(redis_url=proxy.url)) as client:
        await client.submit("m", [{"x": 0}])
        proxy.drop_reply(b"EVALSHA", count=1000)
        with pytest.raises(ServerUnreachable, match="may have been accepted") as caught:
            await client.submit("m", [{"x": 1}], timeout=0.5)
        proxy.heal()
        job_id = caught.value.request_id
        assert job_id is not None
        job = await client.submit("m", [{"x": 1}], job_id=job_id)
        assert (job.id, await job.status()) == (job_id, JobStatus.QUEUED)
    assert redis_client.xlen(ONLINE) == 2


async def test_what_was_never_sent_was_not_accepted(proxy: Proxy) -> None:
    async with AsyncClient(settings=ClientSettings(redis_url=proxy.url)) as client:
        await client.submit("m", [{"x": 0}])
        proxy.refuse()
        # The first may be sent on a connection that was just reset; the second has none.
        for _ in range(2):
            with pytest.raises(ServerUnreachable) as caught:
                await client.predict("m", {"x": 1}, timeout=0.5)
        proxy.heal()
    assert caught.value.request_id is None


async def test_a_request_that_may_be_queued_is_not_refused_by_a_lane_that_is_full_of_it(
    proxy: Proxy, worker: StubWorker
) -> None:
    """Its first attempt has taken the last room, and its reply got lost: its answer is on its way."""
    settings = ClientSettings(redis_url=proxy.url, queue_limit=1)
    async with AsyncClient(settings=settings) as client:
        await client.transport.redis.ping()
        proxy.drop_reply(b"EVALSHA")
        asked = asyncio.create_task(client.predict("m", {"x": 4}, timeout=20))
        while not proxy.dropped:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        assert not asked.done()
        worker.step()
        assert (await asked).value == 8


async def test_a_job_is_cancelled_though_the_reply_got_lost(
    proxy: Proxy, worker: StubWorker
) -> None:
    async with AsyncClient(settings=ClientSettings(redis_url=proxy.url)) as client:
        job = await client.submit("m", [{"x": 0}])
        assert await (await client.submit("m", [{"x": 0}])).cancel()  # its script is there now
        proxy.drop_reply(b"EVALSHA")
        assert await job.cancel()
        assert proxy.dropped == 1
        assert not await job.cancel()


@pytest.mark.parametrize("job_id", ["", "x" * 32, "f" * 31, "F" * 32, "f" * 32 + "\n"])
async def test_an_id_of_ones_own_is_an_id(client: AsyncClient, job_id: str) -> None:
    with pytest.raises(ValueError, match="32 small hexadecimal digits"):
        await client.submit("m", [{"x": 1}], job_id=job_id)
