"""uvicorn's HTTP protocol with limits that it does not have: on heads of requests, and on callers who read nothing.

An answer that is whole is written at once, which uvicorn does in two pieces: each is a system call.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from scoreline_gateway.access import ENDLESS
from scoreline_gateway.body import WHOLE_BODY

if TYPE_CHECKING:
    from uvicorn._types import (
        ASGI3Application,
        ASGIReceiveCallable,
        ASGISendCallable,
        ASGISendEvent,
        HTTPResponseBodyEvent,
        HTTPResponseStartEvent,
        Scope,
    )

HEAD_BYTES = 1 << 16
"""Bytes that the head of a request may have: its line and its headers."""
HEAD_S = 30.0
"""Seconds that a head may take to arrive, and a new connection to begin one."""


class LimitedProtocol(HttpToolsProtocol):
    """Closes connections whose heads do not end, and those whose callers have stopped reading their answers."""

    _timer: asyncio.TimerHandle | None = None
    _is_in_head = False
    _head_bytes = 0
    _unread = 0
    _idle_since: float | None = None
    _is_beginning = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._stop_timer()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; a head that is too long is refused."""
        super().data_received(data)
        self._is_beginning = False
        if not self._is_in_head:
            self._head_bytes = 0
            return
        # Most heads come whole, and need no timer.
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_S, self._give_up)
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self._refuse(431, f"the head of a request has more than {HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End a head."""
        self._is_in_head = False
        self._stop_timer()
        super().on_headers_complete()
        self._is_beginning = True

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        super()._start_asgi_task(cycle, _Answer(cycle, app))

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

    def on_response_complete(self) -> None:
        """End an answer; the timer of an idle connection is made once, where uvicorn makes one after each answer."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_whether_idle(self.timeout_keep_alive)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def _look_whether_idle(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            after_s, self.timeout_keep_alive_handler
        )

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; one whose caller still reads is no idle one."""
        now = self.loop.time()
        idle_s = 0.0 if self._idle_since is None else now - self._idle_since
        if idle_s < self.timeout_keep_alive:
            self._look_whether_idle(self.timeout_keep_alive - idle_s)
            return
        unread = self.transport.get_write_buffer_size()
        if unread and (unread < self._unread or not self._unread):
            self._unread = unread
            self._look_whether_idle(self.timeout_keep_alive)
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


class _Answer:
    """An app whose answer is kept until the first of its body is there, and written at once if that is all."""

    __slots__ = ("_app", "_cycle", "_head", "_send")

    def __init__(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._cycle = cycle
        self._app = app
        self._head: HTTPResponseStartEvent | None = None

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Have the app answer."""
        self._send = send
        await self._app(scope, receive, self._keep)

    async def _keep(self, message: ASGISendEvent) -> None:
        head, self._head = self._head, None
        if head is not None:
            if message["type"] == "http.response.body" and self._write(head, message):
                return
            await self._send(head)
        # The body of an answer that says its length is not far: the head of a stream goes at once.
        elif message["type"] == "http.response.start" and any(
            name == b"content-length" for name, _ in message["headers"]
        ):
            self._head = message
            return
        await self._send(message)

    def _write(self, head: HTTPResponseStartEvent, message: HTTPResponseBodyEvent) -> bool:
        """Write an answer; False if it needs anything that uvicorn does besides."""
        cycle = self._cycle
        if (
            message.get("more_body")
            or not cycle.keep_alive
            or cycle.disconnected
            or cycle.flow.write_paused
            or cycle.scope["method"] == "HEAD"
        ):
            return False
        body: bytes = message.get("body", b"")
        headers = [*cycle.default_headers, *head["headers"]]
        lines = [name + b": " + value for name, value in headers]
        # The line of the status, and an empty one before the body.
        data = b"\r\n".join((STATUS_LINE[head["status"]][:-2], *lines, b"", body))
        size = len(data) - len(body)
        # uvicorn says what is wrong with a line break in a header or a wrong content-length, and handles `connection`.
        if (
            data.count(b"\n", 0, size) != len(lines) + 2
            or data.count(b"\r", 0, size) != len(lines) + 2
            or b"content-length: %d" % len(body) not in lines
            or data.find(b"\nconnection:", 0, size) >= 0
        ):
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(data)
        cycle.message_event.set()
        cycle.on_response()
        return True
