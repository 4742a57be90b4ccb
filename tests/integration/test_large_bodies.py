"""Requests and answers too large for scripts: they go past them, and nothing else is different."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from redis import Redis

from scoreline_client import AsyncClient, ClientSettings, QueueFull
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.protocol.messages import Answer, Request, StoredNote, new_id
from scoreline_client.transport.dispatcher import LARGE_BYTES
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Finished
from tests.support.worker import StubWorker, enqueue

pytestmark = pytest.mark.integration

KEYS = Keys("default")
CALLER = "a" * 32
LARGE = Answer(id="0" * 32, version=1, values=["y" * LARGE_BYTES]).encode()


@pytest.fixture
def queue(redis_client: Redis) -> RequestQueue:
    queue = RequestQueue(redis_client, KEYS, "one", result_ttl_s=60)
    queue.prepare()
    return queue


def taken(redis: Redis, queue: RequestQueue) -> Finished:
    """A request that was read, and its large answer."""
    enqueue(redis, Request(id=new_id(), model="m", reply_to=CALLER))
    (entry,) = queue.exchange([], take=1)
    return Finished(entry, entry.fields[b"id"].decode(), CALLER, LARGE)


async def test_large_requests_do_not_travel_through_a_script(
    client: AsyncClient, worker: StubWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which would copy them; it only says how much room there is."""
    submit, given = client.transport._submit_script, []

    def noted(*, keys: list[str], args: list[Any]) -> Any:
        given.extend(args)
        return submit(keys=keys, args=args)

    records = [{"x": n, "text": "y" * LARGE_BYTES} for n in range(3)]
    with worker.serving():
        await client.predict("pima", {"x": 1})
        monkeypatch.setattr(client.transport, "_submit_script", noted)
        found = await asyncio.gather(*(client.predict("pima", one) for one in records))
    assert [one.value for one in found] == [0, 2, 4]
    assert len(given) == 3 * 2
    assert all(isinstance(one, int) for one in given)


async def test_large_requests_count_against_the_lanes_limit(redis_url: str) -> None:
    settings = ClientSettings(redis_url=redis_url, queue_limit=1)
    async with AsyncClient(settings=settings) as client:
        record = {"text": "y" * LARGE_BYTES}
        first = asyncio.ensure_future(client.predict("pima", record, timeout=30))
        await asyncio.sleep(0)
        while not await client.transport.redis.xlen(KEYS.lane(Lane.ONLINE)):
            assert not first.done()
        with pytest.raises(QueueFull):
            await client.predict("pima", record, timeout=1)
        first.cancel()


def test_a_large_answer_is_stored_and_its_caller_told(
    redis_client: Redis, queue: RequestQueue
) -> None:
    one = taken(redis_client, queue)
    queue.exchange([one], take=0)
    assert redis_client.get(KEYS.result(one.request_id)) == LARGE
    (note,) = redis_client.lrange(KEYS.reply(CALLER), 0, -1)  # type: ignore[misc]
    assert orjson.loads(note) == orjson.loads(StoredNote(one.request_id).encode())
    assert redis_client.xlen(KEYS.lane(Lane.ONLINE)) == 0


def test_a_large_answer_does_not_replace_the_first(
    redis_client: Redis, queue: RequestQueue
) -> None:
    one = taken(redis_client, queue)
    redis_client.set(KEYS.result(one.request_id), b"the first")
    queue.finish([one])
    assert redis_client.get(KEYS.result(one.request_id)) == b"the first"


def test_a_full_server_still_takes_a_large_answer(redis_client: Redis, queue: RequestQueue) -> None:
    one = taken(redis_client, queue)
    redis_client.config_set("maxmemory", 1)
    try:
        assert queue.finish([one]) == 1
    finally:
        redis_client.config_set("maxmemory", 0)
    assert redis_client.get(KEYS.result(one.request_id)) == LARGE
