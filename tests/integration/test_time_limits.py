"""The time that callers give is kept in every state of the network, and half-open connections cost little."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pandas as pd
import pytest
from redis import Redis

from scoreline_client import (
    AsyncClient,
    Client,
    ClientSettings,
    NoAnswer,
    ScorelineError,
    ServerUnreachable,
)
from scoreline_client.transport.connection import ReplyLost, TransportTimes, open_connection
from tests.faults.proxy import Proxy, Way
from tests.support.worker import StubWorker, double

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

LIMIT_S = 0.5
FAR_TOO_LATE_S = 2.5
"""Callers are told within 0.3 s after their time; a busy machine takes longer, and what waits for a time of its
own takes seconds more."""

RECORD = {"x": 1}
MANY = [RECORD] * 3000
FRAME = pd.DataFrame({"x": range(5000)})

Calls = dict[str, Callable[[], Awaitable[Any]]]


def calls_of(client: AsyncClient, job_id: str, limit_s: float) -> Calls:
    """Every public call that waits for the server, with a time limit."""
    job = client.job(job_id)
    return {
        "predict": partial(client.predict, "m", RECORD, timeout=limit_s),
        "predict_many": partial(client.predict_many, "m", [RECORD] * 2, timeout=limit_s),
        "predict_many in parts": partial(client.predict_many, "m", MANY, timeout=limit_s),
        "predict_frame": partial(client.predict_frame, "m", FRAME[:10], timeout=limit_s),
        "predict_frame in parts": partial(client.predict_frame, "m", FRAME, timeout=limit_s),
        "submit": partial(client.submit, "m", [RECORD], timeout=limit_s),
        "status": partial(job.status, timeout=limit_s),
        "result": partial(job.result, timeout=limit_s),
        "cancel": partial(job.cancel, timeout=limit_s),
    }


async def late_calls(calls: Calls) -> dict[str, str]:
    """The calls that took far too long, or ended with an error that is not Scoreline's, and how."""
    found: dict[str, str] = {}

    async def time_it(name: str, call: Callable[[], Awaitable[Any]]) -> None:
        began = time.monotonic()
        ended = "an answer"
        try:
            async with asyncio.timeout(30):
                await call()
        except ScorelineError as error:
            ended = type(error).__name__
        except Exception as error:  # noqa: BLE001 - it is what the test looks for
            found[name] = repr(error)
        took_s = time.monotonic() - began
        if took_s > FAR_TOO_LATE_S:
            found[name] = f"{ended} after {took_s:.1f} s"

    await asyncio.gather(*(time_it(name, call) for name, call in calls.items()))
    return found


@pytest.fixture
def proxy(valkey_server: Any, redis_client: Redis) -> Iterator[Proxy]:
    with Proxy(valkey_server.port, valkey_server.host) as proxy:
        yield proxy


STATES: dict[str, Callable[[Proxy], object]] = {
    "well": lambda _: None,
    "refused": lambda proxy: proxy.refuse(),
    "reset": lambda proxy: proxy.reset(),
    "half-open": lambda proxy: proxy.stall(),
    "half-open, new ones too": lambda proxy: proxy.stall(new=True),
    "no replies": lambda proxy: proxy.stall(ways=frozenset({Way.REPLIES}), is_lost=False),
    "slow": lambda proxy: proxy.slow(delay_s=0.4),
    "narrow": lambda proxy: proxy.slow(bytes_per_s=300),
}


COLD = ["refused", "half-open, new ones too", "slow"]


@pytest.mark.parametrize(
    ("state", "is_warm"),
    [*((state, True) for state in STATES), *((state, False) for state in COLD)],
)
async def test_time_limits_are_kept(proxy: Proxy, state: str, is_warm: bool) -> None:
    settings = ClientSettings(redis_url=proxy.url, max_request_records=1000)
    async with AsyncClient(settings=settings) as client:
        job_id = "0" * 32
        if is_warm:
            job_id = (await client.submit("m", [RECORD])).id
            with pytest.raises(NoAnswer):
                await client.predict("m", RECORD, timeout=0.05)
        STATES[state](proxy)
        assert await late_calls(calls_of(client, job_id, LIMIT_S)) == {}
        proxy.heal()


def test_threads_are_told_in_time(proxy: Proxy) -> None:
    """The calls of a client for threads, while its event loop has nothing to tell them."""
    with Client(settings=ClientSettings(redis_url=proxy.url)) as client:
        job = client.submit("m", [RECORD])
        proxy.stall(new=True)
        calls: list[Callable[[], Any]] = [
            partial(client.predict, "m", RECORD, timeout=LIMIT_S),
            partial(client.predict_many, "m", MANY, timeout=LIMIT_S),
            partial(client.submit, "m", [RECORD], timeout=LIMIT_S),
            partial(job.result, timeout=LIMIT_S),
            partial(job.cancel, timeout=LIMIT_S),
        ]
        for call in calls:
            began = time.monotonic()
            with pytest.raises(ScorelineError):
                call()
            assert time.monotonic() - began < FAR_TOO_LATE_S, call
        proxy.heal()


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_time_limits_are_kept_by_a_server_that_never_says_anything(scheme: str) -> None:
    """Also where TLS is spoken to a port that does not, which is as silent."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        settings = ClientSettings(redis_url=f"{scheme}://127.0.0.1:{server.getsockname()[1]}/0")
        async with AsyncClient(settings=settings) as client:
            assert await late_calls(calls_of(client, "0" * 32, LIMIT_S)) == {}
        with Client(settings=settings) as threads:
            began = time.monotonic()
            with pytest.raises(ScorelineError):
                await asyncio.to_thread(threads.predict, "m", RECORD, timeout=LIMIT_S)
            assert time.monotonic() - began < FAR_TOO_LATE_S


def test_an_iterator_that_takes_its_time_holds_up_no_other_caller(
    client_settings: ClientSettings, worker: StubWorker
) -> None:
    begun, enough = threading.Event(), threading.Event()

    def slow_records() -> Iterator[dict[str, int]]:
        begun.set()
        enough.wait(30)
        yield RECORD

    with worker.serving(), Client(settings=client_settings) as client:
        thread = threading.Thread(target=lambda: client.predict_many("m", slow_records()))
        thread.start()
        begun.wait(10)
        try:
            assert client.predict("m", RECORD, timeout=20).value == 2
        finally:
            enough.set()
            thread.join()


# Servers that connect, and say nothing or not enough


@asynccontextmanager
async def listening(replies: int) -> AsyncIterator[int]:
    """A server that answers what it reads with "+OK", so many times, and then nothing more."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(replies):
            is_hello = b"HELLO" in await reader.read(1 << 16)
            writer.write(b"%1\r\n+proto\r\n:3\r\n" if is_hello else b"+OK\r\n")
        await ended.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        ended.set()
        await asyncio.sleep(0.01)  # they are closed


@pytest.mark.parametrize(
    ("start", "replies"),
    [("redis://", 0), ("redis://:secret@", 1), ("redis://:secret@", 2), ("rediss://", 0)],
    ids=["at first", "after the password", "later", "for TLS"],
)
async def test_time_limits_are_kept_while_a_client_connects(start: str, replies: int) -> None:
    async with listening(replies) as port:
        settings = ClientSettings(redis_url=f"{start}127.0.0.1:{port}/0")
        async with AsyncClient(settings=settings) as client:
            calls = calls_of(client, "0" * 32, 0.1)
            some = {name: calls[name] for name in ("predict", "submit", "result")}
            assert await late_calls(some) == {}


async def test_time_limits_are_kept_where_nobody_takes_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        queued = [socket.socket() for _ in range(3)]
        for one in queued:
            one.setblocking(False)
            one.connect_ex(address)
        async with AsyncClient(f"redis://127.0.0.1:{address[1]}/0") as client:
            assert await late_calls(calls_of(client, "0" * 32, LIMIT_S)) == {}
        for one in queued:
            one.close()


async def test_time_limits_are_kept_where_no_name_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait_for_ever(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", wait_for_ever)
    async with AsyncClient("redis://:pw@redis.invalid:6379/0") as client:
        assert await late_calls(calls_of(client, "0" * 32, LIMIT_S)) == {}


async def test_an_address_where_nothing_ever_answered_is_told_of_soon() -> None:
    async with AsyncClient("redis://127.0.0.1:1/0") as client:
        for call in (
            partial(client.predict, "m", RECORD, timeout=600),
            partial(client.submit, "m", [RECORD], timeout=600),
            partial(client.job("0" * 32).result, timeout=600),
        ):
            async with asyncio.timeout(20):
                with pytest.raises(ServerUnreachable, match="Is it running"):
                    await call()


async def test_a_server_that_was_there_is_waited_for_as_long_as_the_caller_waits(
    proxy: Proxy, worker: StubWorker
) -> None:
    """It gave up after ten attempts, some two seconds."""
    async with AsyncClient(settings=ClientSettings(redis_url=proxy.url)) as client:
        with worker.serving():
            await client.predict("m", RECORD, timeout=20)
            job = await client.submit("m", [RECORD])
            proxy.refuse()
            asked: list[Any] = [
                client.predict("m", RECORD, timeout=30),
                client.predict_many("m", MANY, timeout=30),
                job.result(timeout=30),
                client.submit("m", [RECORD], timeout=30),
            ]
            waiting = asyncio.gather(*asked)
            await asyncio.sleep(4)
            proxy.heal()
            one, many, result, later = await waiting
            assert (one.value, len(many), result[0].value) == (2, 3000, 2)
            assert (await later.result(timeout=20))[0].value == 2


async def test_half_open_connections_cost_no_caller_an_answer(
    proxy: Proxy, worker: StubWorker
) -> None:
    """With their default time limits. The server knows nothing of it, and goes on answering the dead reader."""
    async with AsyncClient(settings=ClientSettings(redis_url=proxy.url)) as client:
        with worker.serving():
            for _ in range(2):
                await asyncio.gather(*(client.predict("m", {"x": n}) for n in range(3)))
                job = await client.submit("m", [RECORD])
                proxy.stall()
                asked: list[Any] = [
                    client.predict("m", RECORD),
                    client.predict_many("m", MANY),
                    job.result(timeout=5),
                    job.status(),
                    client.submit("m", [RECORD]),
                ]
                one, many, result, _, _ = await asyncio.gather(*asked)
                assert (one.value, len(many), result[0].value) == (2, 3000, 2)


async def test_one_silent_connection_tells_of_all_that_are(proxy: Proxy) -> None:
    """Else a command that began a moment before the first was given up would wait as long once more."""
    times = TransportTimes(command_s=1.0)
    connection = open_connection(ClientSettings(redis_url=proxy.url), times)
    try:
        await asyncio.gather(*[connection.ping() for _ in range(3)])
        proxy.stall()
        reading = asyncio.create_task(connection.blmpop(30, 1, "nothing", direction="LEFT"))
        first = asyncio.create_task(connection.ping())
        await asyncio.sleep(0.8)
        later = asyncio.create_task(connection.ping())
        with pytest.raises(ReplyLost):
            await first
        # Neither waits for a time of its own.
        await asyncio.wait([later, reading], timeout=0.1)
        assert later.done()
        assert reading.done()
        assert isinstance(later.exception(), ReplyLost)
        assert isinstance(reading.exception(), ReplyLost)
        assert await connection.ping()
    finally:
        await connection.aclose()


async def test_only_the_readers_connection_half_open_costs_no_caller_an_answer(
    proxy: Proxy, worker: StubWorker, redis_client: Redis
) -> None:
    async with AsyncClient(settings=ClientSettings(redis_url=proxy.url)) as client:
        with worker.serving(double):
            await client.predict("m", RECORD)
            proxy.stall()
            # All but the reader's connection are made anew.
            for connection in client.transport.redis._free:
                await connection.disconnect(nowait=True)
            for _ in range(3):
                assert (await client.predict("m", RECORD)).value == 2
