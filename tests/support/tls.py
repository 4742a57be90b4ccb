"""A TLS server in front of a plain one, which notes what its clients send."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import trustme


class TlsFront:
    """Takes TLS connections on a port of its own, and passes on what they carry."""

    def __init__(
        self, behind: int, certificate: trustme.LeafCert, clients: trustme.CA | None
    ) -> None:
        self.received = bytearray()
        """All that clients have sent, decrypted."""
        self.ports: dict[int, int] = {}
        """In what comes back, the port of one server becomes another's: sentinels name those that have no TLS."""
        self.port = 0
        self._behind = behind
        self._writers: list[asyncio.StreamWriter] = []
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(self._context)
        if clients is not None:
            clients.configure_trust(self._context)
            self._context.verify_mode = ssl.CERT_REQUIRED

    async def run(self, started: threading.Event, stopped: asyncio.Event) -> None:
        """Serve until it is stopped."""
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await stopped.wait()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    with contextlib.suppress(OSError):
                        await task

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_connection("127.0.0.1", self._behind)
        self._writers += [writer, behind[1]]

        async def relay(
            source: asyncio.StreamReader, target: asyncio.StreamWriter, *, noted: bool
        ) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    self.received.extend(data if noted else b"")
                    for old, new in () if noted else self.ports.items():
                        bulk = b"$%d\r\n%d\r\n"
                        data = data.replace(
                            bulk % (len(str(old)), old), bulk % (len(str(new)), new)
                        )
                    target.write(data)
                    await target.drain()
                target.close()

        await asyncio.gather(
            relay(reader, behind[1], noted=True), relay(behind[0], writer, noted=False)
        )


@contextmanager
def tls_front(
    behind: int, certificate: trustme.LeafCert, clients: trustme.CA | None = None
) -> Iterator[TlsFront]:
    """Serve TLS in a thread for as long as the block lasts; `clients` signs the certificates that clients need."""
    front = TlsFront(behind, certificate, clients)
    loop, started, stopped = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    def serve() -> None:
        loop.run_until_complete(front.run(started, stopped))
        loop.run_until_complete(asyncio.sleep(0.02))
        loop.close()

    thread = threading.Thread(target=serve, name="tls-front")
    thread.start()
    try:
        assert started.wait(10)
        yield front
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
