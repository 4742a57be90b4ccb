"""A TCP proxy before a server, whose faults are switched on and off while clients talk through it."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Self, TypeVar

from scoreline_tasks.dev.server import HOST, free_port

_T = TypeVar("_T")
_CHUNK_BYTES = 1 << 16
_CHUNKS_ON_THE_WAY = 64
_RST = struct.pack("ii", 1, 0)
"""SO_LINGER for a close that is a reset."""


class Way(Enum):
    """A direction of a connection."""

    COMMANDS = auto()
    """From the client to the server."""
    REPLIES = auto()
    """From the server to the client."""


BOTH = frozenset(Way)


class Proxy:
    """Passes bytes between clients and one server, and does to them what a network does.

    It runs in a thread of its own; each method returns when its fault is in force. A fault holds until
    `heal()`, and several may hold at once.
    """

    def __init__(self, port: int, host: str = HOST, *, listen: int | None = None) -> None:
        """Stand before the server on `host` and `port`, on a free port unless `listen` says which."""
        self.port = listen or free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        self.dropped = 0
        """Replies that were dropped."""
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._links: set[_Link] = set()
        self._listener: asyncio.Server | None = None
        self.delay_s = 0.0
        self.bytes_per_s = 0.0
        self._stalls_new = False
        self._drop_after: bytes | None = None
        self._drops_left = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def lead_to(self, port: int) -> None:
        """Lead new connections to another server, as an address that has moved; those there are stay."""

        async def lead() -> None:
            self._target = (self._target[0], port)

        self._do(lead())

    def heal(self) -> None:
        """End all faults. What `stall` has cut stays so; what it has held back goes on its way."""

        async def heal() -> None:
            self.delay_s = self.bytes_per_s = 0.0
            self._stalls_new, self._drops_left = False, 0
            for link in self._links:
                if not link.is_dead:
                    for gate in link.flows.values():
                        gate.set()
            if self._listener is None:
                await self._listen()

        self._do(heal())

    def slow(self, *, delay_s: float = 0.0, bytes_per_s: float = 0.0) -> None:
        """Delay what goes each way by `delay_s`, and let through `bytes_per_s` a connection and way."""

        async def slow() -> None:
            self.delay_s, self.bytes_per_s = delay_s, bytes_per_s

        self._do(slow())

    def reset(self) -> int:
        """End all connections with a reset; returns how many."""

        async def reset() -> int:
            links = list(self._links)
            for link in links:
                link.abort(link.client, link.server)
            return len(links)

        return self._do(reset())

    def refuse(self) -> None:
        """Reset all connections, and refuse new ones."""

        async def refuse() -> None:
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            for link in list(self._links):
                link.abort(link.client, link.server)

        self._do(refuse())

    def stall(
        self, *, ways: frozenset[Way] = BOTH, is_lost: bool = True, new: bool = False
    ) -> None:
        """Let nothing through on these ways of all connections, and end none.

        With `is_lost` these connections stay half-open for ever, as when the other machine is gone; without,
        `heal()` delivers what was sent meanwhile, as after a partition. With `new`, connections that
        are made from now on connect, and hear nothing either.
        """

        async def stall() -> None:
            self._stalls_new = new
            for link in self._links:
                link.is_dead |= is_lost
                for way in ways:
                    link.flows[way].clear()

        self._do(stall())

    def drop_reply(self, after: bytes, count: int = 1) -> None:
        """Let the next `count` commands that hold these bytes reach the server, and drop their replies.

        Their connections are reset then, so that the server has done what the client does not know of.
        """

        async def drop() -> None:
            self._drop_after, self._drops_left = after, count

        self._do(drop())

    @property
    def connections(self) -> int:
        """Connections that are open, the stalled ones among them."""
        return len(self._links)

    # On the loop

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, HOST, self.port)

    async def _stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for link in list(self._links):
            link.abort(link.client, link.server)
        # A task that ends may cancel others, which are to end, too.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        if self._stalls_new:
            for gate in link.flows.values():
                gate.clear()
        try:
            # Cancelled at the proxy's end.
            with suppress(OSError, asyncio.CancelledError):
                await link.flows[Way.COMMANDS].wait()
                server_reader, link.server = await asyncio.open_connection(*self._target)
                await asyncio.gather(
                    self._pass_on(link, Way.COMMANDS, reader, link.server),
                    self._pass_on(link, Way.REPLIES, server_reader, writer),
                )
        finally:
            self._links.discard(link)
            link.abort(link.client, link.server)

    async def _pass_on(
        self,
        link: _Link,
        way: Way,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Pass on what comes one way, until either side ends the connection."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_ON_THE_WAY)
        sending = asyncio.create_task(self._send(link, way, on_the_way, writer))
        try:
            while data := await reader.read(_CHUNK_BYTES):
                await link.flows[way].wait()
                if way is Way.COMMANDS and self._drops_left and (self._drop_after or b"") in data:
                    self._drops_left -= 1
                    link.drops = True
                elif way is Way.REPLIES and link.drops:
                    self.dropped += 1
                    # The server reads all that was sent to it, whatever becomes of its client.
                    link.abort(link.client)
                    link.close()
                    return
                await on_the_way.put((self._loop.time() + self.delay_s, data))
            await on_the_way.put((self._loop.time() + self.delay_s, b""))
            await sending
            link.close()
        finally:
            sending.cancel()

    async def _send(
        self,
        link: _Link,
        way: Way,
        on_the_way: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
    ) -> None:
        while True:
            due, data = await on_the_way.get()
            await asyncio.sleep(due - self._loop.time())
            await link.flows[way].wait()
            if not data:
                return
            writer.write(data)
            with suppress(OSError):
                await writer.drain()
            if self.bytes_per_s:
                await asyncio.sleep(len(data) / self.bytes_per_s)


class _Link:
    """A client's connection and the one that was made for it."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.is_dead = False
        self.drops = False
        """Whether the next reply is dropped, and the connection with it."""
        self.flows = {way: asyncio.Event() for way in Way}
        for gate in self.flows.values():
            gate.set()

    def close(self) -> None:
        """End both sides in order: what was sent arrives."""
        for writer in (self.client, self.server):
            if writer is not None:
                writer.close()

    def abort(self, *writers: asyncio.StreamWriter | None) -> None:
        """End these sides with a reset; what is held back is lost."""
        for writer in writers:
            if writer is not None and not writer.is_closing():
                with suppress(OSError):
                    own: socket.socket = writer.get_extra_info("socket")
                    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
                writer.transport.abort()
        for gate in self.flows.values():
            gate.set()
