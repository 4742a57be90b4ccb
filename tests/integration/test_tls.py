"""TLS: each connection, of callers, workers and Celery, verifies the server before it says anything."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from kombu import Connection
from redis import Redis
from redis.exceptions import RedisError

from scoreline_client import (
    AsyncClient,
    Client,
    ClientSettings,
    ScorelineError,
    ServerUnreachable,
)
from scoreline_client.errors import UntrustedServer
from scoreline_client.transport.connection import TransportTimes
from scoreline_client.transport.dispatcher import Transport
from scoreline_client.transport.servers import blocking_redis
from scoreline_tasks.celery import configuration
from scoreline_tasks.settings import WorkerSettings
from scoreline_tasks.worker.runtime import Connections
from scoreline_tasks.worker.shared import Silence
from tests.support.sentinels import SERVICE, replicated
from tests.support.tls import tls_front
from tests.support.worker import StubWorker

pytestmark = pytest.mark.integration

NAME = "localhost"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def password(redis_client: Redis) -> Iterator[str]:
    """The password of the user `app`."""
    word = secrets.token_hex(8)
    redis_client.acl_setuser("app", enabled=True, passwords=[f"+{word}"], keys=["*"], categories=["+@all"], channels=["*"])  # fmt: skip
    yield word
    redis_client.acl_deluser("app")


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> Path:
    """The file of the authority's certificate."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def _predict(url: str) -> Any:
    with Client(url) as client:
        return client.predict("pima", {"x": 1.0}, timeout=10).value


def _predict_async(url: str) -> Any:
    async def predict() -> Any:
        async with AsyncClient(url) as client:
            return (await client.predict("pima", {"x": 1.0}, timeout=10)).value

    return asyncio.run(predict())


def _work(url: str) -> Any:
    with closing(Connections(WorkerSettings(redis_url=url), Silence()).open()) as redis:
        return redis.ping()


def _broker(url: str) -> Any:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SCORELINE_REDIS_URL", url)
        settings = configuration()
    with Connection(
        settings["broker_url"],
        ssl=settings["broker_use_ssl"],
        transport_options=settings["broker_transport_options"],
    ) as connection:
        return connection.channel().client.ping()


WAYS: list[Callable[[str], Any]] = [_predict, _predict_async, _work, _broker]
each_way = pytest.mark.parametrize("connect", WAYS, ids=lambda way: way.__name__.strip("_"))


@each_way
def test_a_private_authority_is_named_in_the_url(
    connect: Callable[[str], Any], authority: trustme.CA, trusted: Path, password: str,
    valkey_server: Any, worker: StubWorker,
) -> None:  # fmt: skip
    with tls_front(valkey_server.port, authority.issue_cert(NAME)) as front, worker.serving():
        assert connect(f"rediss://app:{password}@{NAME}:{front.port}/0?ssl_ca_certs={trusted}")
    assert password.encode() in front.received


def _expired(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert(NAME, not_after=datetime.now(UTC) - timedelta(days=1))


IMPOSTORS: dict[str, Callable[[trustme.CA], trustme.LeafCert]] = {
    "certificate of another authority": lambda _: trustme.CA().issue_cert(NAME),
    "certificate for another name": lambda authority: authority.issue_cert("queue.internal"),
    "certificate that is out of date": _expired,
}


@pytest.mark.parametrize(
    "connect",
    [way if way is _predict else pytest.param(way, marks=pytest.mark.exhaustive) for way in WAYS],
    ids=lambda way: way.__name__.strip("_"),
)
def test_sentinels_and_the_primary_that_they_name_are_verified(
    connect: Callable[[str], Any], authority: trustme.CA, trusted: Path, tmp_path: Path
) -> None:
    certificate, others = (ca.issue_cert(NAME, "127.0.0.1") for ca in (authority, trustme.CA()))
    with ExitStack() as stack:
        servers = stack.enter_context(replicated(tmp_path))
        stack.enter_context(StubWorker(stack.enter_context(blocking_redis(servers.url))).serving())
        sentinel, primary, false_sentinel, false_primary = (
            stack.enter_context(tls_front(port, shown))
            for shown in (certificate, others)
            for port in (servers.sentinel_port, servers.primary_port)
        )
        url = f"rediss+sentinel://{NAME}:{{}}/{SERVICE}/0?ssl_ca_certs={trusted}"
        sentinel.ports = {servers.primary_port: primary.port}
        assert connect(url.format(sentinel.port))
        assert sentinel.received
        assert primary.received
        with pytest.raises((ScorelineError, RedisError, OSError)):
            connect(url.format(false_sentinel.port))
        sentinel.ports = {servers.primary_port: false_primary.port}
        with pytest.raises((ScorelineError, RedisError, OSError)):
            connect(url.format(sentinel.port))
    assert false_sentinel.received == false_primary.received == b""


@each_way
@pytest.mark.parametrize("impostor", IMPOSTORS)
def test_a_server_that_is_not_the_one_it_should_be_gets_no_password(
    connect: Callable[[str], Any], impostor: str, authority: trustme.CA, trusted: Path,
    password: str, valkey_server: Any, redis_client: Redis,
) -> None:  # fmt: skip
    with tls_front(valkey_server.port, IMPOSTORS[impostor](authority)) as front:
        url = f"rediss://app:{password}@{NAME}:{front.port}/0?ssl_ca_certs={trusted}"
        with pytest.raises((ScorelineError, RedisError, OSError)) as refused:
            connect(url)
    assert front.received == b""
    assert password not in str(refused.value)
    if connect in (_predict, _predict_async):
        assert isinstance(refused.value, UntrustedServer)
        assert "certificate" in str(refused.value)


@each_way
def test_an_authority_that_is_not_named_is_not_trusted(
    connect: Callable[[str], Any], authority: trustme.CA, password: str, valkey_server: Any,
    redis_client: Redis,
) -> None:  # fmt: skip
    refused = pytest.raises((ScorelineError, RedisError, OSError))
    with tls_front(valkey_server.port, authority.issue_cert(NAME)) as front, refused:
        connect(f"rediss://app:{password}@{NAME}:{front.port}/0")
    assert front.received == b""


@each_way
def test_a_client_shows_its_own_certificate_where_the_url_names_one(
    connect: Callable[[str], Any], authority: trustme.CA, trusted: Path, password: str,
    valkey_server: Any, worker: StubWorker, tmp_path: Path,
) -> None:  # fmt: skip
    own = authority.issue_cert("app.internal")
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "app.pem"))
    own.private_key_pem.write_to_path(str(tmp_path / "app.key"))
    shown = f"&ssl_certfile={tmp_path / 'app.pem'}&ssl_keyfile={tmp_path / 'app.key'}"
    certificate = authority.issue_cert(NAME)
    with tls_front(valkey_server.port, certificate, authority) as front, worker.serving():
        url = f"rediss://app:{password}@{NAME}:{front.port}/0?ssl_ca_certs={trusted}"
        assert connect(url + shown)
        front.received.clear()
        with pytest.raises((ScorelineError, RedisError, OSError)):
            connect(url)
    assert front.received == b""


@pytest.mark.parametrize(
    "answer", [None, b"", b"-ERR Protocol error\r\n"], ids=["mute", "end", "error"]
)
def test_a_server_that_speaks_no_tls_is_told_by_what_its_url_asks_for(answer: bytes | None) -> None:
    async def ask() -> None:
        async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            if answer is None:
                await reader.read()  # until the client gives up
            else:
                writer.write(answer)
            writer.close()

        async with await asyncio.start_server(respond, "127.0.0.1") as server:
            port = server.sockets[0].getsockname()[1]
            times = TransportTimes(connect_s=0.2, first_contact_s=0)
            for url, is_told in (
                (f"rediss://:p@127.0.0.1:{port}/0", True),
                ("rediss://:p@127.0.0.1:1/0", False),
            ):
                transport = Transport(ClientSettings(redis_url=url), times=times)
                with pytest.raises(ServerUnreachable) as refused:
                    await transport.repeat(transport.redis.ping, 5.0)
                assert ("rediss:// asks for TLS" in str(refused.value)) is is_told
                await transport.close()

    asyncio.run(ask())
