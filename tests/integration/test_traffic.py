"""Recorded traffic of the benchmarks: what is sent again is what was sent, under other names."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from benchmarks import traffic
from redis import Redis

from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_tasks.queue.streams import RequestQueue

pytestmark = pytest.mark.integration

KEYS = Keys("default")
ODD = b'a "quoted" \\ line\r\n\x00\xff'


@pytest.fixture
def recorded(redis_url: str, redis_client: Redis) -> traffic.Traffic:
    """A consumer that reads and writes, and a client that follows releases."""
    others = traffic.clients(redis_client)
    with Redis.from_url(redis_url) as reader, Redis.from_url(redis_url) as follower:
        queue = RequestQueue(reader, KEYS, "simulated-0/17", result_ttl_s=60)
        queue.prepare()
        news = follower.pubsub()
        news.subscribe(KEYS.releases)
        has_begun, is_over = threading.Event(), threading.Event()

        def read() -> None:
            while not is_over.is_set():
                queue.wait(2, 20)
                reader.set("simulated-0", ODD)
                has_begun.set()

        thread = threading.Thread(target=read)
        thread.start()
        try:
            has_begun.wait()
            return traffic.record(redis_client, 1.0, but=others)
        finally:
            is_over.set()
            thread.join()
            news.close()


def test_what_is_sent_again_is_what_was_sent_under_other_names(
    redis_url: str, redis_client: Redis, recorded: traffic.Traffic
) -> None:
    redis_client.flushall()
    RequestQueue(redis_client, KEYS, "", result_ttl_s=60).prepare()
    told: list[str] = []
    replay = traffic.Replay(redis_url, recorded, "simulated", range(2), told.append)
    names = {b"simulat00-0/17", b"simulat01-0/17"}

    def has_all() -> bool:
        consumers: Any = redis_client.xinfo_consumers(KEYS.lane(Lane.ONLINE), GROUP)
        written = [redis_client.get(f"simulat0{copy}-0") for copy in range(2)]
        return {one["name"] for one in consumers} >= names and written == [ODD, ODD]

    while not has_all():
        replay.turn()
    assert told == []
    begun = time.monotonic()
    redis_client.xadd(KEYS.lane(Lane.ONLINE), {"reply_to": "nobody"})
    redis_client.publish(KEYS.releases, "news")
    while not told or replay.told_since(begun) is None:
        replay.turn()
    assert told[0].encode() in names
