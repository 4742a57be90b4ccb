"""uvicorn's HTTP protocol with limits that it does not have: on heads of requests, and on callers who read nothing."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scoreline_gateway.access import ENDLESS
from scoreline_gateway.body import WHOLE_BODY

HEAD_BYTES = 1 << 16
"""Bytes that the head of a request may have: its line and its headers."""
HEAD_S = 30.0
"""Seconds that a head may take to arrive, and a new connection to begin one."""


class LimitedProtocol(HttpToolsProtocol):
    """Closes connections whose heads do not end, and those whose callers have stopped reading their answers."""

    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _unread = 0
    _is_beginning = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; a head that is too long is refused."""
        super().data_received(data)
        self._is_beginning = False
        if self._timer is None:
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self._refuse(431, f"the head of a request has more than {HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        """Begin a head."""
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_S, self._give_up)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End a head."""
        self._stop_timer()
        super().on_headers_complete()
        self._is_beginning = True

    def on_message_complete(self) -> None:
        """End a request; a body that came together with its head need not be waited for by the app."""
        super().on_message_complete()
        if self._is_beginning and self.cycle is not None:
            self.scope[WHOLE_BODY] = self.cycle.body  # type: ignore[literal-required]

    def shutdown(self) -> None:
        """End; a stream that its caller would read for ever ends as if the caller had gone."""
        super().shutdown()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and cycle.scope.get(ENDLESS):
            cycle.disconnected = True
            cycle.message_event.set()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; one whose caller still reads is no idle one."""
        unread = self.transport.get_write_buffer_size()
        if unread and (unread < self._unread or not self._unread):
            self._unread = unread
            again = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
            self.timeout_keep_alive_task = again
        elif unread:
            # Closing would wait until all is read.
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if self._head_bytes:
            self._refuse(408, f"the head of the request did not arrive within {HEAD_S:g} s")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        if self.transport.is_closing():
            return
        head = (
            f"HTTP/1.1 {status} \r\ncontent-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(message)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write((head + message).encode())
        self.transport.close()
