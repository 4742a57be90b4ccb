"""AsyncClient against a real server, with a worker that does what the test wants."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from scoreline_client import (
    AsyncClient,
    ClientSettings,
    NoAnswer,
    QueueFull,
    RecordRejected,
    ScorelineError,
    ServerUnreachable,
    UnknownModel,
)
from scoreline_client.fleet import ProcessReport, ServedModel, send_report
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.protocol.messages import INLINE_ANSWER_BYTES, Answer, Request, StoredNote
from tests.support.worker import StubWorker, double, refuse

pytestmark = pytest.mark.integration

NOWHERE = "redis://somebody:secret@127.0.0.1:1/0"


async def test_a_record_gets_its_prediction(client: AsyncClient, worker: StubWorker) -> None:
    with worker.serving():
        found = await client.predict("pima", {"x": 21})
    assert (found.value, found.model, found.version) == (42, "pima", 7)


async def test_everyone_gets_their_own_answer(client: AsyncClient, worker: StubWorker) -> None:
    with worker.serving():
        found = await asyncio.gather(*(client.predict("pima", {"x": n}) for n in range(500)))
    assert [one.value for one in found] == [2 * n for n in range(500)]


async def test_callers_of_one_turn_of_the_loop_share_a_request(
    client: AsyncClient, worker: StubWorker, redis_client: Redis
) -> None:
    with worker.serving():
        await client.predict("pima", {"x": 0})
        redis_client.config_resetstat()
        answered = await asyncio.gather(*(client.predict("pima", {"x": n}) for n in range(64)))
    assert [one.value for one in answered] == [2 * n for n in range(64)]
    stats: Any = redis_client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 1
    assert stats["cmdstat_xadd"]["calls"] == 1


async def test_a_client_holds_few_connections(
    client: AsyncClient, worker: StubWorker, redis_client: Redis
) -> None:
    with worker.serving():
        for _ in range(5):
            await asyncio.gather(*(client.predict("pima", {"x": n}) for n in range(200)))
    others = 1  # the test's own
    assert len(redis_client.client_list()) <= others + 4


async def test_a_rejected_record_names_its_column(client: AsyncClient, worker: StubWorker) -> None:
    with worker.serving(), pytest.raises(RecordRejected, match="column 'x' is missing") as caught:
        await client.predict("pima", {"y": 1})
    assert (caught.value.code, caught.value.column) == ("E_MISSING_COLUMN", "x")


async def test_a_socket_of_this_machine_that_is_not_there_is_a_server_that_is_not_there() -> None:
    async with AsyncClient("unix:///no/such.socket") as client:
        with pytest.raises(ServerUnreachable):
            await client.predict("pima", {"x": 1}, timeout=0.1)


async def test_what_is_no_record_is_refused_without_a_server() -> None:
    async with AsyncClient(NOWHERE) as client:
        with pytest.raises(RecordRejected, match="must be a mapping"):
            await client.predict("pima", [1])  # type: ignore[arg-type]


async def test_an_unknown_model_is_raised_as_such(client: AsyncClient, worker: StubWorker) -> None:
    with worker.serving(refuse("E_UNKNOWN_MODEL", "no model 'pina'")), pytest.raises(UnknownModel):
        await client.predict("pina", {"x": 1})


async def test_a_request_expires_when_its_caller_stops_waiting(
    client: AsyncClient, worker: StubWorker
) -> None:
    with worker.serving():
        await client.predict("pima", {"x": 1}, timeout=3.5)
    [(_, request)] = worker.seen
    assert 3000 < request.expires_ms <= 3500, "what is left of the time when the request is sent"


@pytest.mark.parametrize("size", [1, 20_000], ids=["gathered", "sent by itself"])
async def test_a_request_whose_caller_is_cancelled_leaves_the_queue(
    client: AsyncClient, redis_client: Redis, eventually: Callable[..., Any], size: int
) -> None:
    lane = Keys("default").lane(Lane.ONLINE)
    asked = asyncio.create_task(client.predict("pima", {"x": "x" * size}))
    await asyncio.to_thread(eventually, lambda: redis_client.xlen(lane) == 1)
    asked.cancel()
    await asyncio.to_thread(eventually, lambda: redis_client.xlen(lane) == 0)
    with pytest.raises(asyncio.CancelledError):
        await asked


async def test_a_shared_request_stays_while_one_of_its_callers_waits(
    client: AsyncClient, worker: StubWorker, redis_client: Redis, eventually: Callable[..., Any]
) -> None:
    lane = Keys("default").lane(Lane.ONLINE)
    gone, stays = (asyncio.create_task(client.predict("pima", {"x": n})) for n in (1, 2))
    await asyncio.to_thread(eventually, lambda: redis_client.xlen(lane) == 1)
    gone.cancel()
    await asyncio.sleep(0)
    with worker.serving():
        assert (await stays).value == 4
    assert gone.cancelled()


async def test_without_a_worker_it_says_how_to_start_one(client: AsyncClient) -> None:
    with pytest.raises(NoAnswer, match="celery -A scoreline_tasks worker"):
        await client.predict("pima", {"x": 1}, timeout=0.05)


async def test_with_busy_workers_it_says_how_many(
    client: AsyncClient, redis_client: Redis, worker: StubWorker
) -> None:
    now = float(redis_client.time()[0])  # type: ignore[index]
    report = ProcessReport(name="w@h/1", host="h", pid=1, started_at=now, reported_at=now)
    send_report(redis_client, worker.keys, report)
    with pytest.raises(NoAnswer, match="1 worker process"):
        await client.predict("pima", {"x": 1}, timeout=0.05)


async def test_while_the_version_loads_it_says_so(
    client: AsyncClient, redis_client: Redis, worker: StubWorker
) -> None:
    now = float(redis_client.time()[0])  # type: ignore[index]
    models = {"pima@production": ServedModel(serving=None, wanted=3)}
    report = ProcessReport(
        name="w@h/1", host="h", pid=1, started_at=now, reported_at=now, models=models
    )
    send_report(redis_client, worker.keys, report)
    with pytest.raises(NoAnswer, match="version 3 of 'pima' is being loaded"):
        await client.predict("pima", {"x": 1}, timeout=0.05)


async def test_no_answer_is_a_timeout_error(client: AsyncClient) -> None:
    with pytest.raises(TimeoutError):
        await client.predict("pima", {"x": 1}, timeout=0.05)


async def test_an_answer_that_comes_too_late_harms_nobody(
    client: AsyncClient, worker: StubWorker
) -> None:
    with pytest.raises(NoAnswer):
        await client.predict("pima", {"x": 1}, timeout=0.05)
    with worker.serving():
        assert (await client.predict("pima", {"x": 4})).value == 8


async def test_an_unreachable_server_is_named_without_its_password() -> None:
    async with AsyncClient(NOWHERE) as client:
        with pytest.raises(ServerUnreachable, match="at redis://127") as caught:
            await client.predict("pima", {"x": 1}, timeout=1)
    assert "secret" not in str(caught.value)


async def test_over_the_lanes_limit_requests_are_refused(redis_url: str) -> None:
    settings = ClientSettings(redis_url=redis_url, queue_limit=3)
    async with AsyncClient(settings=settings) as client:
        waiting = [client.predict("pima", {"x": n}, timeout=0.3) for n in range(5)]
        ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in ended] == 3 * [NoAnswer] + 2 * [QueueFull]


async def test_a_server_out_of_memory_takes_no_requests(
    client: AsyncClient, worker: StubWorker, redis_client: Redis
) -> None:
    redis_client.config_set("maxmemory", 1)
    with pytest.raises(QueueFull, match="memory"):
        await client.predict("pima", {"x": 1}, timeout=1)


async def test_new_requests_are_refused_before_the_server_is_full(
    client: AsyncClient, worker: StubWorker, redis_client: Redis
) -> None:
    memory: Any = redis_client.info("memory")
    redis_client.config_set("maxmemory", int(memory["used_memory"] * 1.25))

    async def until_refused() -> None:
        while True:
            await client.predict("pima", {"x": 1})

    with worker.serving(), pytest.raises(QueueFull, match="MEMORY_LIMIT_PERCENT") as caught:
        await asyncio.wait_for(until_refused(), 20)
    assert caught.value.retry_after_s > 0


async def test_a_reply_that_got_lost_is_found_where_it_is_stored(
    client: AsyncClient, worker: StubWorker, redis_client: Redis
) -> None:
    def store_only(request: Request) -> None:
        redis_client.set(worker.keys.result(request.id), double(request).encode())

    with worker.serving(store_only):
        assert (await client.predict("pima", {"x": 5}, timeout=15)).value == 10


async def test_cut_connections_cost_no_answer(
    client: AsyncClient, worker: StubWorker, redis_client: Redis
) -> None:
    cut = asyncio.Event()

    async def cutting() -> None:
        while not cut.is_set():
            redis_client.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(0.05)

    with worker.serving():
        await client.predict("pima", {"x": 0})
        task = asyncio.create_task(cutting())
        found = await asyncio.gather(
            *(client.predict("pima", {"x": n}, timeout=15) for n in range(100))
        )
        cut.set()
        await task
    assert [one.value for one in found] == [2 * n for n in range(100)]


async def test_a_large_answer_is_read_where_it_is_stored(
    client: AsyncClient, worker: StubWorker
) -> None:
    text = "y" * INLINE_ANSWER_BYTES
    with worker.serving():
        assert (await client.predict("pima", {"x": text})).value == 2 * text


async def test_a_broken_reply_does_not_stop_the_reading(
    client: AsyncClient, worker: StubWorker, redis_client: Redis
) -> None:
    def respond(request: Request) -> Answer:
        redis_client.rpush(worker.keys.reply(request.reply_to), b"{broken", b"[]", b"")
        note = StoredNote("0" * 32).encode()
        redis_client.rpush(worker.keys.reply(request.reply_to), note)
        return double(request)

    with worker.serving(respond):
        assert (await client.predict("pima", {"x": 2})).value == 4


async def test_an_answer_in_bulk_leaves_nothing_behind(
    client: AsyncClient, worker: StubWorker, redis_client: Redis
) -> None:
    text = "y" * 50
    with worker.serving():
        await client.predict_many("pima", [{"x": text} for _ in range(3000)])
    assert {lane for lane, _ in worker.seen} == {Lane.BULK}
    await client.close()
    assert redis_client.keys(worker.keys.result("*")) == []


async def test_a_cancelled_caller_leaves_the_others_alone(
    client: AsyncClient, worker: StubWorker
) -> None:
    first = asyncio.create_task(client.predict("pima", {"x": 1}))
    second = asyncio.create_task(client.predict("pima", {"x": 2}))
    await asyncio.sleep(0)
    first.cancel()
    with worker.serving():
        assert (await second).value == 4
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_queue_has_answers_of_its_own(redis_url: str, redis_client: Redis) -> None:
    blue, green = (StubWorker(redis_client, queue) for queue in ("blue", "green"))
    async with (
        AsyncClient(redis_url, queue="blue") as one,
        AsyncClient(redis_url, queue="green") as other,
    ):
        with blue.serving(), green.serving():
            await one.predict("pima", {"x": 1})
            await other.predict("pima", {"x": 2})
    assert (len(blue.seen), len(green.seen)) == (1, 1)


async def test_closing_removes_the_clients_reply_list_and_connections(
    client_settings: ClientSettings, worker: StubWorker, redis_client: Redis
) -> None:
    async with AsyncClient(settings=client_settings) as client:
        with worker.serving():
            await client.predict("pima", {"x": 1})
    assert redis_client.keys(worker.keys.reply("*")) == []
    assert len(redis_client.client_list()) == 1


def test_a_client_serves_one_event_loop_after_another(
    client_settings: ClientSettings,
    worker: StubWorker,
    redis_client: Redis,
    eventually: Callable[[Callable[[], Any]], Any],
) -> None:
    client = AsyncClient(settings=client_settings)
    with worker.serving():
        found = [asyncio.run(client.predict("pima", {"x": n}, timeout=20)) for n in range(3)]
        job = asyncio.run(client.submit("pima", [{"x": 7}]))
        assert asyncio.run(job.result(20))[0].value == 14
    assert [one.value for one in found] == [0, 2, 4]
    # No loop that has ended leaves connections behind: there are the test's and the stub's own. One that was being
    # made when its loop ended is closed when it is collected.
    assert eventually(lambda: gc.collect() >= 0 and len(redis_client.client_list()) <= 2)


def test_a_client_serves_event_loops_in_many_threads(
    client_settings: ClientSettings, worker: StubWorker
) -> None:
    client = AsyncClient(settings=client_settings)

    async def ask(n: int) -> Any:
        return [await client.predict("pima", {"x": n}, timeout=20) for _ in range(5)]

    with worker.serving(), ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda n: asyncio.run(ask(n)), range(6)))
    assert [[one.value for one in some] for some in found] == [[2 * n] * 5 for n in range(6)]


@pytest.mark.parametrize("is_used", [False, True], ids=["never used before", "used before"])
def test_children_that_have_inherited_a_client_read_no_answers_of_each_other(
    client_settings: ClientSettings, worker: StubWorker, *, is_used: bool
) -> None:
    client = AsyncClient(settings=client_settings)
    loop = asyncio.new_event_loop()
    with worker.serving():
        if is_used:
            loop.run_until_complete(client.predict("pima", {"x": 0}, timeout=20))
        children = []
        for n in (1, 2):
            child = os.fork()
            if child == 0:
                signal.alarm(40)  # ends a child that hangs
                right = False
                # Whatever happens here, the child must not go on with the tests.
                try:
                    found = asyncio.run(client.predict("pima", {"x": n}, timeout=20))
                    right = found.value == 2 * n
                finally:
                    os._exit(0 if right else 1)
            children.append(child)
        for child in children:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert loop.run_until_complete(client.predict("pima", {"x": 3}, timeout=20)).value == 6
    loop.run_until_complete(client.close())
    loop.close()
    readers = {request.reply_to for _, request in worker.seen}
    assert len(readers) == 3


def test_a_client_that_was_given_a_connection_refuses_another_event_loop(
    client_settings: ClientSettings, worker: StubWorker
) -> None:
    connection = AsyncRedis.from_url(client_settings.redis_url)
    client = AsyncClient(settings=client_settings, connection=connection)
    with worker.serving():
        asyncio.run(client.predict("pima", {"x": 1}, timeout=20))
        with pytest.raises(ScorelineError, match="another event loop"):
            asyncio.run(client.predict("pima", {"x": 1}, timeout=20))
