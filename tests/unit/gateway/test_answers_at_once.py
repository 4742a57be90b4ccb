"""Answers as the gateway's server writes them: the same bytes as uvicorn's, in one piece where they are whole."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from scoreline_gateway.server import LimitedProtocol

TWO = (b"content-length", b"2")
START = {"type": "http.response.start", "status": 200}
ANSWERS: dict[str, tuple[list[dict[str, Any]], int]] = {
    "whole": ([START | {"headers": [TWO]}, {"body": b"ok"}], 1),
    "whole, empty": ([START | {"headers": [(b"content-length", b"0")]}, {"body": b""}], 1),
    "refusal": ([START | {"status": 422, "headers": [TWO]}, {"body": b"no"}], 1),
    "in pieces": (
        [START | {"headers": [TWO]}, {"body": b"o", "more_body": True}, {"body": b"k"}],
        3,
    ),
    "stream": ([START | {"headers": []}, {"body": b"o", "more_body": True}, {"body": b"k"}], 3),
    "last of its connection": (
        [START | {"headers": [TWO, (b"connection", b"close")]}, {"body": b"ok"}],
        2,
    ),
    "name in capitals": ([START | {"headers": [(b"Content-Length", b"2")]}, {"body": b"ok"}], 2),
    "header of two lines": (
        [START | {"headers": [TWO, (b"x-a", b"b\r\nx-c: d")]}, {"body": b"ok"}],
        0,
    ),
    "longer than said": ([START | {"headers": [TWO]}, {"body": b"oh no"}], 1),
    "shorter than said": ([START | {"headers": [TWO]}, {"body": b"o"}], 2),
}
"""What an app sends, and in how many pieces it is written."""
REQUESTS = {
    "GET": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD": b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "twice": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2,
    "not again": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
}


class _Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.is_closed = False

    def write(self, data: Any) -> None:
        if data:
            self.pieces.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def answered(
    kind: type[HttpToolsProtocol], request: bytes, messages: list[dict[str, Any]]
) -> _Transport:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send({"type": "http.response.body"} | message)

    config = uvicorn.Config(app, log_config=None, lifespan="off", date_header=False)
    config.load()
    protocol = kind(config, ServerState(), {}, asyncio.get_running_loop())
    transport = _Transport()
    protocol.connection_made(transport)
    protocol.data_received(request)
    await asyncio.gather(*protocol.tasks)
    await asyncio.sleep(0)
    await asyncio.gather(*protocol.tasks)
    protocol.connection_lost(None)
    return transport


@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_is_written_as_uvicorn_writes_it(name: str, request_of: str) -> None:
    messages, _ = ANSWERS[name]
    ours, theirs = [
        await answered(kind, REQUESTS[request_of], messages)
        for kind in (LimitedProtocol, HttpToolsProtocol)
    ]
    assert b"".join(ours.pieces) == b"".join(theirs.pieces)
    assert ours.is_closed == theirs.is_closed


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_that_is_whole_is_written_at_once(name: str) -> None:
    messages, pieces = ANSWERS[name]
    transport = await answered(LimitedProtocol, REQUESTS["GET"], messages)
    assert len(transport.pieces) == pieces


async def test_an_app_that_fails_after_its_head_is_still_answered() -> None:
    ended = await answered(LimitedProtocol, REQUESTS["GET"], [START | {"headers": [TWO]}])
    assert b"".join(ended.pieces).startswith(b"HTTP/1.1 500")
