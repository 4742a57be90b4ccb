"""Calls an ASGI app as a server would, without one: a request in, an answer out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from scoreline_client.testing import FakeScoreline
from scoreline_gateway import GatewaySettings, build_app
from scoreline_gateway.app import Gateway


@dataclass(frozen=True)
class Reply:
    """What an app has answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


async def call(
    app: Callable[..., Any],
    method: str,
    path: str,
    body: Any = b"",
    *,
    headers: Mapping[str, str] | None = None,
    query: str = "",
    server: str = "127.0.0.1",
    host: str = "127.0.0.1:8080",
    gone: asyncio.Event | None = None,
    is_stuck: bool = False,
) -> Reply:
    """Send a request with a body: bytes, a tuple of pieces of it, or what becomes JSON. `gone` is set when the caller leaves.

    With `is_stuck`, the end of the body never comes.

    Status 0 means that nothing was answered.
    """
    if not isinstance(body, bytes | tuple):
        body = orjson.dumps(body)
    pieces: Sequence[bytes] = [body] if isinstance(body, bytes) else body
    messages = [
        {"type": "http.request", "body": piece, "more_body": is_stuck or index < len(pieces) - 1}
        for index, piece in enumerate(pieces)
    ]
    sent: list[dict[str, Any]] = []
    gone = gone or asyncio.Event()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    named = {"host": host} | {name.lower(): value for name, value in (headers or {}).items()}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "client": ("127.0.0.1", 50000),
        "server": (server, 8080),
    }
    await app(scope, receive, send)
    if not sent:
        return Reply(0, {}, b"")
    start, *rest = sent
    got = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Reply(start["status"], got, b"".join(each.get("body", b"") for each in rest))


@asynccontextmanager
async def gateway(scoreline: FakeScoreline, **settings: Any) -> AsyncIterator[Gateway]:
    """A running gateway in front of a fake Scoreline."""
    app = build_app(GatewaySettings(**settings), connect=lambda _: scoreline.async_client())
    async with app.running():
        yield app
