"""A gateway under a real uvicorn, in a thread of this process, in front of a fake Scoreline."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from scoreline_client.testing import FakeScoreline
from scoreline_gateway import GatewaySettings, build_app
from scoreline_gateway.app import Gateway
from scoreline_gateway.server import LimitedProtocol


@dataclass(frozen=True)
class Served:
    """A gateway that listens."""

    app: Gateway
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connect(self, timeout_s: float = 30.0) -> socket.socket:
        """Open a connection; a wait of more than `timeout_s` on it is an error."""
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)


class AnnouncedServer(uvicorn.Server):
    """A server that says when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.announced = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.announced.set()


@contextmanager
def serving(scoreline: FakeScoreline, **settings: Any) -> Iterator[Served]:
    """Serve until the end of the block; settings that are not the gateway's are uvicorn's, with `uvicorn_` before."""
    of_server = {name.removeprefix("uvicorn_"): settings.pop(name) for name in list(settings) if name.startswith("uvicorn_")}  # fmt: skip
    app = build_app(GatewaySettings(**settings), connect=lambda _: scoreline.async_client())
    config = uvicorn.Config(app, http=LimitedProtocol, log_config=None, lifespan="on", **of_server)
    server = AnnouncedServer(config)
    listening = socket.create_server(("127.0.0.1", 0))
    run = server.serve([listening])
    thread = threading.Thread(target=lambda: asyncio.run(run), name="gateway", daemon=True)
    thread.start()
    server.announced.wait()
    try:
        yield Served(app, listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next answer on a connection; status 0 where it was closed instead."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65_536)
        if not more:
            return 0, data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    while len(body) < length:
        body += connection.recv(65_536)
    return int(head.split()[1]), body


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A request as it goes over a connection."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body
