"""The short ways to the server, of callers and of workers: what is sent, cut short or refused there."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis import Redis
from redis.connection import HiredisRespSerializer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from scoreline_client.transport import connection as connection_module
from scoreline_client.transport.connection import ReplyLost, ShortPathRedis, TransportTimes
from scoreline_tasks.queue.streams import Pipeline

pytestmark = pytest.mark.integration


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[ShortPathRedis]:
    async with ShortPathRedis.from_url(redis_url) as opened:
        yield opened


@pytest.fixture
def pipeline(redis_url: str) -> Iterator[Pipeline]:
    with Redis.from_url(redis_url) as connection:
        yield Pipeline(connection)


def test_redis_py_has_the_undocumented_parts_that_the_short_path_uses() -> None:
    pool = ShortPathRedis.from_url("redis://127.0.0.1:1").connection_pool
    connection = pool.make_connection()
    assert connection.socket_timeout is None or connection.socket_timeout > 0
    assert connection.is_connected is False
    assert connection._writer is None
    assert connection._parser._reader is None
    assert not inspect.iscoroutinefunction(pool.get_available_connection)
    for method, arguments in (
        (connection.connect, {}),
        (connection.can_read, {}),
        (connection.send_packed_command, {"command": [b""]}),
        (connection.disconnect, {"nowait": True}),
    ):
        assert inspect.iscoroutinefunction(method)
        inspect.signature(method).bind(**arguments)
    assert (
        b"".join(HiredisRespSerializer().pack("ECHO", b"a")) == b"*2\r\n$4\r\nECHO\r\n$1\r\na\r\n"
    )


async def test_connections_of_a_busy_moment_are_closed_when_they_are_long_idle(
    connection: ShortPathRedis, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(redis_client.client_list())
    await asyncio.gather(*(connection.echo("busy") for _ in range(20)))
    assert len(redis_client.client_list()) == before + 20
    for _ in range(30):
        await connection.echo("quiet")
    assert len(redis_client.client_list()) == before + 20
    monkeypatch.setattr(connection_module, "IDLE_S", 0.0)
    for _ in range(30):
        await connection.echo("quiet")
    # The last was just used, and closed again.
    for _ in range(2000):
        if len(redis_client.client_list()) == before:
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail("connections stay open")
    assert await asyncio.gather(*(connection.echo("busy") for _ in range(20))) == [b"busy"] * 20


async def test_commands_at_the_same_moment_get_each_its_own_reply(
    connection: ShortPathRedis,
) -> None:
    assert await asyncio.gather(*(connection.echo(str(n)) for n in range(20))) == [
        str(n).encode() for n in range(20)
    ]


async def test_commands_one_after_the_other_share_a_connection(connection: ShortPathRedis) -> None:
    assert len({await connection.client_id() for _ in range(3)}) == 1


async def test_a_reply_that_nobody_waits_for_any_more_is_not_the_next_ones(
    connection: ShortPathRedis, redis_client: Redis
) -> None:
    waiting = asyncio.create_task(connection.blpop(["list"], 30))
    while not redis_client.info("clients")["blocked_clients"]:  # type: ignore[index]  # noqa: ASYNC110
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    redis_client.rpush("list", "late")
    assert await connection.echo("mine") == b"mine"


@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 16_385, 3_000_000])
async def test_a_value_of_any_size_is_read_as_it_is(
    connection: ShortPathRedis, redis_client: Redis, size: int
) -> None:
    value = (b"\r\n$7\r\n" * (size // 7 + 1))[:size]
    redis_client.set("key", value)
    found = await asyncio.gather(*(connection.get("key") for _ in range(3)))
    assert found == [value] * 3
    assert await connection.echo("mine") == b"mine"


async def test_what_is_no_value_is_read_as_ever(
    connection: ShortPathRedis, redis_client: Redis
) -> None:
    redis_client.rpush("list", "one")
    await connection.echo("connects")
    assert await connection.get("nothing") is None
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await connection.get("list")
    assert await connection.echo("mine") == b"mine"


async def test_a_reply_that_comes_as_its_caller_goes_is_no_failure(
    connection: ShortPathRedis, redis_client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    redis_client.set("key", "small")
    await connection.echo("connects")
    reading = asyncio.create_task(connection.get("key"))
    await asyncio.sleep(0)
    time.sleep(0.05)  # noqa: ASYNC251 - the reply is there when the loop looks next
    reading.cancel()
    await asyncio.wait([reading])
    assert await connection.echo("mine") == b"mine"
    assert not caplog.records


async def test_a_command_without_a_reply_ends(
    connection: ShortPathRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "times", TransportTimes(command_s=0.01))
    with pytest.raises(ReplyLost, match=r"no reply within 0\.01 s"):
        await connection.blpop(["list"], 30)
    monkeypatch.undo()
    assert await connection.echo("mine") == b"mine"


async def test_a_refused_command_costs_no_connection(connection: ShortPathRedis) -> None:
    before = await connection.client_id()
    with pytest.raises(NoScriptError):
        await connection.evalsha("0" * 40, 0)
    assert await connection.client_id() == before


READ = ("BLMPOP", 30.0, 1, "list", "LEFT", "COUNT", 10)


async def test_a_command_and_the_read_behind_it_are_sent_together_and_answered_one_by_one(
    connection: ShortPathRedis, redis_client: Redis
) -> None:
    first = asyncio.get_running_loop().create_future()
    reading = asyncio.create_task(
        connection.execute_before_read([("ECHO", "first"), ("INCR", "key")], READ, first.set_result)
    )
    assert await first == [b"first", 1]
    assert not reading.done()
    redis_client.rpush("list", "second")
    assert await reading == [b"list", [b"second"]]
    assert await connection.echo("mine") == b"mine"


async def test_a_command_that_is_refused_does_not_end_the_read_behind_it(
    connection: ShortPathRedis, redis_client: Redis
) -> None:
    redis_client.rpush("list", "second")
    taken: list[Any] = []
    commands = [("EVALSHA", "0" * 40, 0), ("INCR", "key")]
    read = await connection.execute_before_read(commands, READ, taken.extend)
    assert read == [b"list", [b"second"]]
    assert [type(each) for each in taken] == [NoScriptError, int]


async def test_a_command_whose_server_is_a_replica_now_is_not_taken_and_ends_the_connection(
    connection: ShortPathRedis, redis_client: Redis
) -> None:
    await connection.echo("connects")
    redis_client.replicaof("127.0.0.1", "1")
    taken: list[Any] = []
    try:
        with pytest.raises(RedisConnectionError, match="read only replica"):
            await connection.execute_before_read([("SET", "key", "1")], READ, taken.append)
    finally:
        redis_client.replicaof("NO", "ONE")
    assert taken == []
    assert await connection.echo("mine") == b"mine"


async def test_a_read_that_loses_its_connection_leaves_the_command_done(
    connection: ShortPathRedis, redis_client: Redis
) -> None:
    own = await connection.client_id()
    taken: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    reading = asyncio.create_task(
        connection.execute_before_read([("INCR", "key")], READ, taken.set_result)
    )
    assert await taken == [1]
    redis_client.client_kill_filter(_id=str(own))
    with pytest.raises(ReplyLost):
        await reading


async def test_a_connection_that_the_server_closed_is_made_anew(
    connection: ShortPathRedis, redis_client: Redis
) -> None:
    redis_client.client_kill_filter(_id=str(await connection.client_id()))
    while (free := connection._free[0]).is_connected and not await free.can_read():  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert await connection.echo("mine") == b"mine"


def test_an_error_stands_in_the_place_of_its_command(pipeline: Pipeline) -> None:
    before, error, after = pipeline.execute([("ECHO", "a"), ("LPOP", "x", "y"), ("ECHO", "b")])
    assert (before, after) == (b"a", b"b")
    assert isinstance(error, ResponseError)


def test_nothing_to_ask_is_not_sent(pipeline: Pipeline) -> None:
    assert pipeline.execute([]) == []


def test_replies_that_were_not_read_are_not_the_next_ones(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.execute([("ECHO", "first")])
    connection = pipeline._own.connection

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as interruption:
        interruption.setattr(connection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pipeline.execute([("ECHO", "lost"), ("ECHO", "lost, too")])
    assert pipeline.execute([("ECHO", "mine")]) == [b"mine"]


def test_a_lost_connection_is_made_anew(pipeline: Pipeline, redis_client: Redis) -> None:
    redis_client.client_kill_filter(_id=str(*pipeline.execute([("CLIENT", "ID")])))
    assert pipeline.execute([("ECHO", "mine")]) == [b"mine"]
