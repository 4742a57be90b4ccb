"""What others do to the lanes, and what a lost connection leaves there, costs no request its answer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from scoreline_client import ClientSettings
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.protocol.messages import (
    INLINE_ANSWER_BYTES,
    Answer,
    Request,
    Status,
    new_id,
)
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Entry, Finished
from scoreline_tasks.testing import InProcessWorker
from tests.support.models import Predictor, column_x
from tests.support.worker import enqueue, entry_fields

pytestmark = pytest.mark.integration

KEYS = Keys("default")
ONLINE, BULK = KEYS.lane(Lane.ONLINE), KEYS.lane(Lane.BULK)
TEN_YEARS_MS = 10 * 365 * 86_400_000
CALLER = "a" * 32


@pytest.fixture
def queue(redis_client: Redis) -> RequestQueue:
    queue = RequestQueue(redis_client, KEYS, "one", result_ttl_s=60)
    queue.prepare()
    return queue


@pytest.fixture
def worker(redis_client: Redis) -> InProcessWorker:
    models = {"keep": Predictor(column_x)}
    return InProcessWorker(redis_client, ClientSettings(), models=models)


def request(number: int, **fields: Any) -> Request:
    body = orjson.dumps([{"x": number}])
    return Request(id=new_id(), model="keep", body=body, reply_to=CALLER, **fields)


def answer_to(redis: Redis, asked: Request) -> Answer:
    data = redis.get(KEYS.result(asked.id))
    assert isinstance(data, bytes), "there is no answer"
    return Answer.decode(data)


def step(worker: InProcessWorker) -> int:
    """Answer what waits now, without waiting for more."""
    turns = iter([False])
    return worker._drain.serve(3600, lambda: next(turns, True), linger_ms=1)


def finished(entry: Entry) -> Finished:
    return Finished(entry, entry.request_id, CALLER, b"the answer")


# Ids


@pytest.mark.parametrize("is_largest", [False, True], ids=["ten years ahead", "the largest"])
def test_an_id_that_somebody_chose_ends_neither_a_lane_nor_all_expiry(
    redis_client: Redis,
    worker: InProcessWorker,
    is_largest: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = request(1)
    enqueue(redis_client, before)
    chosen_ms = 2**64 - 1 if is_largest else int(time.time() * 1000) + TEN_YEARS_MS
    chosen: Any = entry_fields(request(2))
    last = f"{chosen_ms}-{2**64 - 1}" if is_largest else f"{chosen_ms}-0"
    redis_client.xadd(ONLINE, chosen, id=last)
    step(worker)  # the id has been delivered from here on
    step(worker)
    late, after = request(3, expires_ms=1), request(4)
    enqueue(redis_client, late)
    enqueue(redis_client, after)
    time.sleep(0.002)
    while step(worker):
        pass
    assert answer_to(redis_client, before).values == [1]
    assert answer_to(redis_client, after).values == [4]
    assert (answer_to(redis_client, late).error or {})["code"] == "E_EXPIRED"
    assert redis_client.xlen(ONLINE) == 0
    assert [record.message.partition(" ")[0] for record in caplog.records] == ["lane_mended"]


def test_a_lane_is_mended_with_all_that_waits_in_it_and_nothing_is_answered_twice(
    redis_client: Redis, worker: InProcessWorker, queue: RequestQueue
) -> None:
    asked = [request(number) for number in range(6)]
    for one in asked[:2]:
        enqueue(redis_client, one)
    in_hand = queue.exchange([], take=2)
    for one in asked[2:4]:
        enqueue(redis_client, one)
    kept = [entry for entry, _ in redis_client.xrange(ONLINE)]  # type: ignore[union-attr]
    poison: Any = entry_fields(asked[4])
    redis_client.xadd(ONLINE, poison, id=f"{int(time.time() * 1000) + TEN_YEARS_MS}-0")
    enqueue(redis_client, asked[5])
    wide: Any = {b"field %d" % number: b"1" for number in range(9000)}
    redis_client.xadd(ONLINE, wide)
    redis_client.xgroup_setid(ONLINE, GROUP, "9999999999999-0")  # as after it was delivered
    queue.begin_slice()
    entries: Any = redis_client.xrange(ONLINE)
    assert [entry for entry, _ in entries][:4] == kept
    assert all(int(entry.partition(b"-")[0]) < time.time() * 1000 + 1000 for entry, _ in entries)
    assert queue.finish([finished(entry) for entry in in_hand]) == 2
    while step(worker):
        pass
    replies: Any = redis_client.lrange(KEYS.reply(CALLER), 0, -1)
    assert len(replies) == 6
    assert redis_client.xlen(ONLINE) == 0


@pytest.mark.parametrize("who_knows", ["this process", "this machine"])
def test_a_clock_that_was_set_back_is_no_reason_to_mend_a_lane(
    redis_client: Redis, queue: RequestQueue, monkeypatch: pytest.MonkeyPatch, who_knows: str
) -> None:
    """The server goes on behind the last id that its clock gave before; a process that saw it, or whose own clock does not
    differ from what the server's was, knows that nobody chose it."""
    set_back_ms = 600_000
    before_ms = int(time.time() * 1000) + set_back_ms
    if who_knows == "this process":
        execute = queue._pipeline.execute
        before: Any = [[b"%d" % (before_ms // 1000), b"0"], 0, 0, None, None]
        monkeypatch.setattr(queue._pipeline, "execute", lambda commands: before)
        queue.begin_slice()
        monkeypatch.setattr(queue._pipeline, "execute", execute)
    else:
        monkeypatch.setattr("scoreline_tasks.queue.streams.time.time", lambda: before_ms / 1000)
    asked: Any = entry_fields(request(1))
    last = redis_client.xadd(ONLINE, asked, id=f"{before_ms}-0")
    assert len(queue.exchange([], take=1)) == 1
    queue.begin_slice()
    assert [entry for entry, _ in redis_client.xrange(ONLINE)] == [last]  # type: ignore[union-attr]
    redis_client.xadd(ONLINE, asked, id=f"{before_ms + 2 * set_back_ms}-0")
    assert len(queue.exchange([], take=1)) == 1
    queue.begin_slice()
    entries: Any = redis_client.xrange(ONLINE)
    assert entries[0][0] == last
    assert int(entries[1][0].partition(b"-")[0]) <= before_ms


def test_a_lane_is_mended_without_a_second_copy_of_it(
    redis_client: Redis, queue: RequestQueue
) -> None:
    body, count = 1 << 20, 48
    chunks: list[Any] = [{b"id": b"%d" % at, b"body": os.urandom(body)} for at in range(count)]
    ids = [redis_client.xadd(BULK, chunk) for chunk in chunks]
    redis_client.xadd(BULK, {"id": "x"}, id=f"{int(time.time() * 1000) + TEN_YEARS_MS}-0")
    redis_client.xgroup_setid(BULK, GROUP, "9999999999999-0")
    redis_client.script_flush()
    memory = redis_client.info("memory")
    queue.begin_slice()
    most = max(memory["used_memory_peak"], memory["used_memory"] + count * body / 2)
    assert redis_client.info("memory")["used_memory_peak"] <= most
    entries: Any = redis_client.xrange(BULK)
    assert entries[:-1] == [*zip(ids, chunks, strict=True)]
    assert entries[-1][1] == {b"id": b"x"}


def test_a_lane_in_order_is_left_alone(redis_client: Redis, queue: RequestQueue) -> None:
    enqueue(redis_client, request(1))
    before = redis_client.xinfo_stream(ONLINE)
    assert abs(queue.begin_slice() - time.time() * 1000) < 60_000
    assert redis_client.xinfo_stream(ONLINE) == before


# Consumers and groups that somebody deletes


@pytest.mark.parametrize("is_group", [False, True], ids=["consumer", "group"])
def test_what_is_in_hand_is_answered_although_its_consumer_was_deleted(
    redis_client: Redis,
    queue: RequestQueue,
    is_group: bool,
) -> None:
    for number in range(16):
        enqueue(redis_client, request(number))
    entries = queue.exchange([], take=16)
    if is_group:
        redis_client.xgroup_destroy(ONLINE, GROUP)
    else:
        redis_client.xgroup_delconsumer(ONLINE, GROUP, "one")
    assert queue.finish([finished(entry) for entry in entries]) == 16
    assert redis_client.llen(KEYS.reply(CALLER)) == 16
    assert redis_client.xlen(ONLINE) == 0
    assert queue.finish([finished(entry) for entry in entries]) == 0


def test_a_lease_is_renewed_although_its_consumer_was_deleted(
    redis_client: Redis, queue: RequestQueue
) -> None:
    enqueue(redis_client, request(1))
    entries = queue.exchange([], take=1)
    redis_client.xgroup_delconsumer(ONLINE, GROUP, "one")
    queue.renew(entries)
    pending: Any = redis_client.xpending(ONLINE, GROUP)
    assert pending["pending"] == 1


def test_requests_that_nobody_has_are_found_and_taken_over(
    redis_client: Redis, queue: RequestQueue
) -> None:
    """Their process is dead, and somebody has deleted its consumer with them."""
    asked = [request(number) for number in range(5)]
    for one in asked[:4]:
        enqueue(redis_client, one)
    dead = RequestQueue(redis_client, KEYS, "dead", result_ttl_s=60)
    dead.exchange([], take=3)
    (held,) = queue.exchange([], take=1)
    redis_client.xgroup_delconsumer(ONLINE, GROUP, "dead")
    enqueue(redis_client, asked[4])
    queue.begin_slice()
    assert queue.look_for_abandoned(lease_ms=5000) == (True, True)
    found = queue.claim(Lane.ONLINE, 5000, 256)
    assert [entry.request_id for entry in found] == [one.id for one in asked[:3]]
    assert queue.own() == [*found, held]
    assert queue.waiting(Lane.ONLINE) == 5


def test_requests_that_nobody_has_are_looked_for_without_the_bodies_of_those_that_somebody_has(
    redis_client: Redis, queue: RequestQueue
) -> None:
    """Each drain looks for them every two seconds, on the server's only thread."""
    big: Any = {b"id": b"1", b"body": bytes(1 << 20)}
    for _ in range(18):
        redis_client.xadd(BULK, big)
    entries: Any = redis_client.xreadgroup(GROUP, "alive", {BULK: ">"}, count=16)
    redis_client.script_flush()
    before = redis_client.info("memory")["used_memory_lua"]
    queue.begin_slice()
    assert redis_client.info("memory")["used_memory_lua"] - before < 1 << 18
    lost = [entry for entry, _ in entries[0][1]][3:9:2]
    redis_client.xack(BULK, GROUP, *lost)
    queue.begin_slice()
    pending: Any = redis_client.xpending_range(BULK, GROUP, "-", "+", 16, consumername="nobody")
    assert [one["message_id"] for one in pending] == lost


# Abandoned behind others


@pytest.mark.parametrize("lane", Lane)
def test_what_is_abandoned_is_found_behind_any_number_of_entries_that_are_not(
    redis_client: Redis, queue: RequestQueue, lane: Lane
) -> None:
    alive = 300
    pipeline: Any = redis_client.pipeline()
    for number in range(alive + 3):
        enqueue(pipeline, request(number), lane)
    pipeline.execute()
    name = KEYS.lane(lane)
    redis_client.xreadgroup(GROUP, "alive", {name: ">"}, count=alive)
    redis_client.xreadgroup(GROUP, "dead", {name: ">"}, count=3)
    pending: Any = redis_client.xpending_range(name, GROUP, "-", "+", 3, consumername="dead")
    ids = [one["message_id"] for one in pending]
    redis_client.xclaim(name, GROUP, "dead", 0, ids, idle=60_000)
    found = []
    while entries := queue.claim(lane, 5000, 1):
        found += entries
    assert [entry.id for entry in found] == ids


# Replies that were lost


def test_what_a_lost_reply_has_brought_is_answered_at_once(
    redis_client: Redis, worker: InProcessWorker
) -> None:
    """It is in this consumer's hands by the server's count, and would wait for its lease to end."""
    asked = [request(1), request(2)]
    enqueue(redis_client, asked[0])
    enqueue(redis_client, asked[1], Lane.BULK)
    for lane in Lane:
        redis_client.xreadgroup(GROUP, "in-process", {KEYS.lane(lane): ">"}, count=1)
    assert step(worker) == 0
    worker._drain.interrupt()
    assert step(worker) == 2
    assert [answer_to(redis_client, one).values for one in asked] == [[1], [2]]
    assert [redis_client.xlen(KEYS.lane(lane)) for lane in Lane] == [0, 0]


def test_what_is_in_hand_is_not_taken_up_twice(
    redis_client: Redis, worker: InProcessWorker
) -> None:
    enqueue(redis_client, request(1))
    drain = worker._drain
    entries = drain._queue.exchange([], take=1)
    drain.interrupt()
    with drain._lease.hold(entries):
        assert step(worker) == 0
    drain.interrupt()
    assert step(worker) == 1


def test_an_answer_of_any_size_is_sent_in_pieces(
    redis_client: Redis, queue: RequestQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time-out of a send is for all of its bytes; a slow line has it for each piece."""
    sent: list[int] = []
    connection = queue._pipeline._pool.get_connection()
    queue._pipeline._own.connection = connection
    send = connection.send_packed_command

    def noting(pieces: Any, **options: Any) -> None:
        sent.extend(len(piece) for piece in pieces)
        send(pieces, **options)

    monkeypatch.setattr(connection, "send_packed_command", noting)
    asked = request(1)
    enqueue(redis_client, asked)
    (entry,) = queue.exchange([], take=1)
    answer = Answer(id=asked.id, status=Status.OK, values=["y" * 3_000_000]).encode()
    assert queue.finish([Finished(entry, asked.id, CALLER, answer)]) == 1
    assert redis_client.get(KEYS.result(asked.id)) == answer
    assert max(sent) <= 1 << 16


def test_a_worker_without_the_rights_to_mend_a_lane_serves_it(
    redis_client: Redis, worker: InProcessWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NoPermissionError("this user has no permissions")

    asked = request(1)
    enqueue(redis_client, asked)
    monkeypatch.setattr(worker._drain._queue._redis, "eval", refuse)
    assert step(worker) == 1
    assert answer_to(redis_client, asked).values == [1]


def test_consumers_of_a_lane_that_is_not_there_yet_are_none(
    redis_client: Redis, queue: RequestQueue
) -> None:
    redis_client.delete(*(KEYS.lane(lane) for lane in Lane))
    assert queue.forget_dead_consumers() == 0


def test_what_was_read_over_a_connection_that_ended_is_answered_at_once(
    redis_client: Redis, worker: InProcessWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands are sent once more over a new connection, where the entries are not new any more."""
    asked = request(1)
    step(worker)
    enqueue(redis_client, asked)
    connection = worker._drain._queue._pipeline._own.connection
    read = connection.read_response

    def lose(**options: Any) -> Any:
        reply = read(**options)
        if reply:
            monkeypatch.undo()
            raise RedisConnectionError("reset by peer")
        return reply

    monkeypatch.setattr(connection, "read_response", lose)
    worker._drain._queue.exchange([], take=1)
    assert worker._drain.is_interrupted
    assert step(worker) == 1
    assert answer_to(redis_client, asked).values == [1]
    assert not worker._drain.is_interrupted


# Answers that the server did not take at once


@pytest.mark.parametrize("trouble", ["its scripts are gone", "it is full", "it is full, and large"])
def test_answers_that_the_server_did_not_take_do_not_wait_for_the_read_that_they_left_with(
    redis_client: Redis,
    queue: RequestQueue,
    trouble: str,
    eventually: Callable[[Callable[[], Any]], Any],
) -> None:
    """As the first answer on a server that has just started: its caller waits for nobody else's request."""
    first, second = request(1), request(2)
    enqueue(redis_client, first)
    (entry,) = queue.exchange([], take=1)
    is_large = trouble.endswith("large")
    text = b"0" * (INLINE_ANSWER_BYTES + 1) if is_large else b"the answer"
    ready = [Finished(entry, first.id, CALLER, text)]
    if trouble == "its scripts are gone":
        redis_client.script_flush()
    else:
        redis_client.config_set("maxmemory", 1)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(queue.wait, 1, block_ms=60_000, finished=ready)
        try:
            eventually(lambda: redis_client.llen(KEYS.reply(CALLER)))
            assert redis_client.get(KEYS.result(first.id)) == text
            assert not reading.done()
        finally:
            redis_client.config_set("maxmemory", 0)
            enqueue(redis_client, second)
        assert [taken.request_id for taken in reading.result()] == [second.id]
