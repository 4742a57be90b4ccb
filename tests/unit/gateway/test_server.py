"""A real server, and callers who are slow, hostile, or gone: they cost nobody else, and nobody is left without an answer."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme
from backports import zstd
from redis import Redis

from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.testing import FakeScoreline
from scoreline_client.transport.coalescing import Coalescer
from scoreline_gateway import body, build_app, server
from scoreline_gateway.app import Gateway
from scoreline_gateway.v2 import inference
from tests.support.asgi import call, gateway
from tests.support.http_server import Served, answer_of, post, serving
from tests.support.worker import StubWorker
from tests.unit.gateway.v2.test_inference import INFER, columns

GOOD = orjson.dumps({"inputs": columns()})


@pytest.fixture(scope="module")
def served(scoreline: FakeScoreline) -> Iterator[Served]:
    with serving(scoreline, gateway_body_s=0.5, max_request_bytes=100_000) as one:
        yield one


def is_answered(served: Served) -> bool:
    """Whether an ordinary caller has an answer."""
    with served.connect() as connection:
        connection.sendall(post(INFER, GOOD))
        return answer_of(connection)[0] == 200


def test_a_thousand_idle_connections_keep_nobody_out(served: Served) -> None:
    idle = [served.connect() for _ in range(1000)]
    try:
        for connection in idle[::2]:
            connection.sendall(b"POST /v2/models/pima/infer HTTP/1.1\r\nHost: loc")
        assert is_answered(served)
    finally:
        for connection in idle:
            connection.close()


def test_a_body_that_is_too_large_is_refused_while_it_is_sent(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(post(INFER, b" " * 1_000_000))
        status, told = answer_of(connection)
    assert status == 413
    assert orjson.loads(told)["code"] == "E_TOO_LARGE"


def test_a_body_without_end_is_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "DISCARD_BYTES", 1 << 20)
    head = (
        f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    with served.connect() as connection:
        connection.sendall(head)
        piece = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
        with pytest.raises(OSError, match=r"reset|Broken pipe"):  # noqa: PT012 - some go through
            while True:
                connection.sendall(piece)
    assert is_answered(served)


def test_a_body_that_does_not_arrive_is_waited_for_for_a_while(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(post(INFER, GOOD)[:-10])
        status, told = answer_of(connection)
    assert status == 408
    assert b"did not arrive" in told


def test_a_head_that_does_not_arrive_is_waited_for_for_a_while(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.1)
    with served.connect() as begun, served.connect() as silent:
        begun.sendall(b"GET / HTTP/1.1\r\nX-A: ")
        assert answer_of(begun)[0] == 408
        assert answer_of(silent)[0] == 0


def test_a_head_without_end_is_refused(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 10_000)
        assert answer_of(connection)[0] == 431
    assert is_answered(served)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01",
    ],
)
def test_what_is_no_http_is_answered_and_costs_nobody_else(served: Served, data: bytes) -> None:
    with served.connect() as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert answer_of(connection)[0] in (400, 404, 405)
    assert is_answered(served)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v2/models/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v2/models/%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET //v2/../models HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v2/models/pima HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
        b"GET /v2/models/pima HTTP/1.1\r\nHost: localhost\r\nAuthorization: \xff\r\n\r\n",
        b"POST /models/pima/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: \xff;\xfe=\x80\r\nContent-Length: 0\r\n\r\n",
        b"POST /models/pima/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: a/b; =;;charset*=x''%zz\r\nContent-Length: 0\r\n\r\n",
        b"BREW /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_odd_requests_are_answered_and_leave_the_connection_open(
    served: Served, head: bytes
) -> None:
    with served.connect() as connection:
        connection.sendall(head)
        status, _ = answer_of(connection)
        assert status < 500
        if not head.startswith(
            b"BREW"
        ):  # which is no method, so that the next head is not looked for
            connection.sendall(post(INFER, GOOD))
            assert answer_of(connection)[0] == 200


def test_a_refused_request_leaves_the_connection_open(served: Served) -> None:
    with served.connect() as connection:
        for path in ("/nothing", "/v2/models/nobody/infer", "/version"):
            connection.sendall(post(path, GOOD))
            assert answer_of(connection)[0] in (404, 405)
        connection.sendall(post(INFER, GOOD))
        assert answer_of(connection)[0] == 200


def test_a_caller_who_reads_nothing_costs_nobody_else(
    scoreline: FakeScoreline,
) -> None:
    rows = orjson.dumps({"inputs": columns(20_000)})
    with serving(scoreline, uvicorn_timeout_keep_alive=1) as served, served.connect() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(post(INFER, rows) * 3)
        assert is_answered(served)
        # Its connection ends although it never reads: with a reset, so that nothing more is kept for it.
        while True:
            try:
                deaf.sendall(b" ")
            except OSError:
                break
            time.sleep(0.05)  # what the socket itself tells only when it is written to


@pytest.mark.parametrize("is_many", [False, True])
async def test_a_caller_who_has_gone_is_asked_for_no_more(
    app: Gateway, monkeypatch: pytest.MonkeyPatch, *, is_many: bool
) -> None:
    cancelled = asyncio.Event()
    gone = asyncio.Event()

    async def predict(*_: Any, **__: Any) -> Any:
        gone.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    monkeypatch.setattr(Coalescer, "ask", predict)
    monkeypatch.setattr(app.client, "predict_many", predict)
    reply = await call(app, "POST", INFER, {"inputs": columns(1 + is_many)}, gone=gone)
    assert cancelled.is_set()
    assert reply.status == 0
    assert app.in_flight == app.held == 0


def test_a_dropped_connection_cancels_its_request(
    scoreline: FakeScoreline, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, cancelled = threading.Event(), threading.Event()

    async def predict(*_: Any, **__: Any) -> Any:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    monkeypatch.setattr(Coalescer, "ask", predict)
    with serving(scoreline) as served:
        connection = served.connect()
        connection.sendall(post(INFER, GOOD))
        assert asked.wait(30)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        assert cancelled.wait(30)


async def test_what_should_not_happen_is_answered_and_logged(
    app: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def predict(*_: Any, **__: Any) -> Any:
        raise KeyError("a secret of the inside")

    monkeypatch.setattr(Coalescer, "ask", predict)
    reply = await call(app, "POST", INFER, {"inputs": columns()})
    assert (reply.status, reply.json["code"]) == (500, "E_INTERNAL")
    assert b"secret" not in reply.body
    assert "secret" in caplog.text


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
async def test_packed_bodies_are_read(app: Gateway, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(GOOD[:100]) + pack(GOOD[100:])
    name = "gzip" if pack is gzip.compress else "zstd"
    pieces = (packed[:30], packed[30:31], b"", packed[31:])
    reply = await call(app, "POST", INFER, pieces, headers={"Content-Encoding": name})
    assert reply.status == 200, reply.body


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
async def test_a_small_body_that_unpacks_to_a_large_one_is_refused(
    app: Gateway, pack: Callable[[bytes], bytes]
) -> None:
    name = "gzip" if pack is gzip.compress else "zstd"
    packed = pack(b" " * 40_000_000)
    reply = await call(app, "POST", INFER, packed, headers={"Content-Encoding": name})
    assert reply.status == 413
    assert app.held == 0


@pytest.mark.parametrize(
    ("data", "name", "status"),
    [
        (b"no gzip", "gzip", 400),
        (b"no zstd at all", "zstd", 400),
        (gzip.compress(GOOD)[:-20], "gzip", 400),
        (zstd.compress(GOOD)[:-5], "zstd", 400),
        (GOOD, "br", 415),
        (GOOD, "identity", 200),
    ],
    ids=["no gzip", "no zstd", "gzip cut off", "zstd cut off", "unknown", "not packed"],
)
async def test_a_body_that_is_not_packed_as_it_says_is_refused(
    app: Gateway, data: bytes, name: str, status: int
) -> None:
    reply = await call(app, "POST", INFER, data, headers={"Content-Encoding": name})
    assert reply.status == status


async def test_more_requests_than_may_be_are_refused(
    scoreline: FakeScoreline, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(scoreline, gateway_in_flight=1) as app:
        waits = asyncio.Event()

        async def predict(*_: Any, **__: Any) -> Any:
            await waits.wait()
            raise RuntimeError

        monkeypatch.setattr(Coalescer, "ask", predict)
        first = asyncio.create_task(call(app, "POST", INFER, {"inputs": columns()}))
        await asyncio.sleep(0)
        second = await call(app, "POST", INFER, {"inputs": columns()})
        health = await call(app, "GET", "/v2/health/live")
        waits.set()
        await first
    assert (second.status, second.json["code"]) == (503, "E_BUSY")
    assert second.headers["retry-after"] == "1"
    assert health.status == 200


async def test_more_bytes_than_may_be_held_are_refused(scoreline: FakeScoreline) -> None:
    async with gateway(scoreline, gateway_buffer_mb=1) as app:
        reply = await call(app, "POST", INFER, (b" " * 600_000, b" " * 600_000))
        assert app.held == 0
    assert (reply.status, reply.json["code"]) == (503, "E_BUSY")


def test_a_connection_is_kept_as_long_as_it_is_used_and_closed_when_it_is_not(
    scoreline: FakeScoreline,
) -> None:
    with (
        serving(scoreline, uvicorn_timeout_keep_alive=1) as served,
        served.connect() as used,
        served.connect() as idle,
    ):
        for number in range(4):
            used.sendall(post(INFER, GOOD))
            assert answer_of(used)[0] == 200
            if number == 0:
                idle.sendall(post(INFER, GOOD))
                assert answer_of(idle)[0] == 200
            time.sleep(0.6)
        idle.settimeout(5)
        assert idle.recv(1) == b""
        used.settimeout(5)
        assert used.recv(1) == b""


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models/pima:predict", b"[" + b"{}," * 30_000 + b"{}]"),
        ("/v1/models/pima/jobs", b"[" + b"[]," * 30_000 + b"[]]"),
        (INFER, b'{"inputs":[' + b"[]," * 30_000 + b"[]]}"),
        ("/models/pima/invocations", b'{"inputs":[' + b"{}," * 30_000 + b"{}]}"),
    ],
)
async def test_a_small_body_of_very_many_values_is_refused_before_it_is_decoded(
    scoreline: FakeScoreline, path: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(_: Any) -> Any:
        pytest.fail("it was decoded")

    async with gateway(scoreline, max_request_bytes=100_000) as app:
        with monkeypatch.context() as patched:
            for module, name in (
                (orjson, "loads"),
                (json, "loads"),
                (inference, "read_one_record"),
            ):
                patched.setattr(module, name, decode)
            reply = await call(
                app, "POST", path, body, headers={"Content-Type": "application/json"}
            )
    assert (reply.status, reply.json["code"]) == (413, "E_TOO_LARGE")
    assert app.held == 0


def test_what_was_imported_is_not_looked_through_for_garbage(scoreline: FakeScoreline) -> None:
    gc.unfreeze()
    try:
        with serving(scoreline) as served:
            assert gc.get_freeze_count()
            assert is_answered(served)
    finally:
        gc.unfreeze()


async def test_a_setting_that_is_unusable_keeps_the_server_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCORELINE_GATEWAY_TIMEOUT_S", "long")
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    await build_app()({"type": "lifespan"}, receive, send)
    (failed,) = sent
    assert failed["type"] == "lifespan.startup.failed"
    assert "SCORELINE_GATEWAY_TIMEOUT_S" in failed["message"]


def connected(port: int) -> socket.socket | None:
    """A connection, if somebody listens there."""
    try:
        return socket.create_connection(("127.0.0.1", port), 30)
    except ConnectionRefusedError:
        return None


def test_granian_answers_refuses_streams_and_notices_who_has_gone(
    redis_client: Redis,
    redis_url: str,
    tmp_path: Path,
    eventually: Callable[[Callable[[], Any]], Any],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    granian = [
        Path(sys.executable).with_name("granian"),
        *("--interface", "asgi", "--port", str(port), "scoreline_gateway:app"),
    ]
    environment = {
        **os.environ,
        "SCORELINE_REDIS_URL": redis_url,
        "SCORELINE_GATEWAY_FILES": str(tmp_path / "files"),
    }
    json_type, online = "Content-Type: application/json", Keys("default").lane(Lane.ONLINE)
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(granian, env=environment, stdout=log, stderr=log) as running,
    ):
        try:
            with eventually(lambda: connected(port)) as connection:
                connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                status, told = answer_of(connection)
                assert (status, orjson.loads(told)["name"]) == (200, "scoreline")
                connection.sendall(post(INFER, b"{"))
                assert answer_of(connection)[0] == 400
                # Nobody scores yet: a request ends with its caller.
                with eventually(lambda: connected(port)) as gone:
                    gone.sendall(post("/v1/models/m:predict", b'{"x": 1}', json_type))
                    eventually(lambda: redis_client.xlen(online) == 1)
                left = b'method="POST",route="/v1/models/{model}:predict",status="0"} 1.0'

                def is_noticed() -> bool:
                    connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    return left in answer_of(connection)[1]

                eventually(is_noticed)
                eventually(lambda: redis_client.xlen(online) == 0)
                with StubWorker(redis_client).serving():
                    connection.sendall(post("/v1/models/m:predict", b'{"x": 1}', json_type))
                    status, told = answer_of(connection)
                    assert (status, orjson.loads(told)["value"]) == (200, 2)
                    connection.sendall(post("/v1/models/m:predict", b"{}", json_type))
                    status, told = answer_of(connection)
                    assert (status, orjson.loads(told)["code"]) == (422, "E_MISSING_COLUMN")
                    connection.sendall(post("/v1/models/m/jobs", b'{"x": 1}', json_type))
                    status, told = answer_of(connection)
                    assert status == 202, told
                    path = orjson.loads(told)["links"]["events"]
                    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                    streamed = b""
                    while b"event: end" not in streamed:
                        streamed += connection.recv(65_536)
        finally:
            running.terminate()


def test_tls_and_certificates_of_callers_are_the_servers_options(
    scoreline: FakeScoreline, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("localhost", "caller"):
        certificate = authority.issue_cert(name)
        certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / f"{name}.pem"))
    options = {
        "uvicorn_ssl_certfile": str(tmp_path / "localhost.pem"),
        "uvicorn_ssl_ca_certs": str(tmp_path / "ca.pem"),
        "uvicorn_ssl_cert_reqs": ssl.CERT_REQUIRED,
    }
    trusted = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    anonymous = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    trusted.load_cert_chain(str(tmp_path / "caller.pem"))
    with serving(scoreline, **options) as served:
        with trusted.wrap_socket(served.connect(), server_hostname="localhost") as connection:
            connection.sendall(post(INFER, GOOD))
            assert answer_of(connection)[0] == 200
        with anonymous.wrap_socket(served.connect(), server_hostname="localhost") as connection:
            # In TLS 1.3 the caller learns of it when it reads.
            try:
                connection.sendall(post(INFER, GOOD))
                answered = connection.recv(100)
            except OSError:
                answered = b""
            assert answered == b""
