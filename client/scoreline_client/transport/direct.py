"""redis-py's asyncio client, with a shorter way for a command to the server and back.

What a command costs there beside itself (two turns through a pool, a task for its timeout, measurements,
packing in Python) is half of what a lone request costs a caller. Everything else is as redis-py has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis.asyncio
from redis.connection import HiredisRespSerializer
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

_packer = HiredisRespSerializer()
_FIRST_BYTES = 1 << 14
"""Values that are smaller are read as all replies are."""
_END = b"\r\n"


class _Value(asyncio.BufferedProtocol):
    """Reads one large value off a connection into the place where it stays.

    Otherwise each of its bytes is copied five times. Any other reply goes to the connection's own
    protocol, as if this one had never been there.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._usual = transport.get_protocol()
        self._done: asyncio.Future[bytearray | None] = asyncio.get_running_loop().create_future()
        self._data = bytearray(_FIRST_BYTES)
        self._filled = 0
        self._is_begun = False
        transport.set_protocol(self)

    async def read(self) -> bytearray | None:
        """The value; None if the reply is for the usual protocol."""
        value = await self._done
        if value is not None:
            del value[-len(_END) :]
        return value

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return memoryview(self._data)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if not self._is_begun:
            self._begin()
        elif self._filled == len(self._data):
            self._end(self._data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()
        self._usual.connection_lost(exc)

    def eof_received(self) -> bool | None:
        self.leave()
        done: bool | None = self._usual.eof_received()
        return done

    def leave(self) -> None:
        """Give the connection back to its usual protocol, with what was received for it."""
        if not self._done.done():
            self._end(None)

    def _begin(self) -> None:
        head, end, rest = bytes(self._data[: self._filled]).partition(_END)
        if head[:1] == b"$" and not end and self._filled < len(self._data):
            return  # the length has not come as a whole
        size = int(head[1:]) if head[:1] == b"$" and end else 0
        if size < _FIRST_BYTES:
            self._end(None)
            return
        self._is_begun = True
        self._data = bytearray(size + len(_END))
        self._data[: len(rest)] = rest
        self._filled = len(rest)

    def _end(self, value: bytearray | None) -> None:
        self._transport.set_protocol(self._usual)
        if value is None and self._filled and not self._is_begun:
            self._usual.data_received(bytes(self._data[: self._filled]))
        # Who waited may have been sent away in this very turn of the loop.
        if not self._done.done():
            self._done.set_result(value)


@contextmanager
def _reading_value(connection: Any, command: str) -> Iterator[_Value | None]:
    """Whatever the reply to a GET is, it is read without copies; nothing else is like that."""
    if command != "GET" or not connection.is_connected:
        yield None
        return
    value = _Value(connection._writer.transport)
    try:
        yield value
    finally:
        value.leave()


class DirectRedis(redis.asyncio.Redis):
    """Keeps its connections, and never sends a command twice."""

    timeout_s = 15.0
    """Seconds within which the reply to any command comes, or the connection is taken for dead."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._free: list[Any] = []

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command over a connection that is free, and read its reply."""
        connection = await self._take()
        try:
            async with asyncio.timeout(self.timeout_s):
                with _reading_value(connection, args[0]) as value:
                    await connection.send_packed_command(_packer.pack(*args))
                    if value is not None and (found := await value.read()) is not None:
                        return found
                return await self.parse_response(connection, args[0], **options)
        except ResponseError:
            raise
        except TimeoutError as error:
            await connection.disconnect(nowait=True)
            raise RedisTimeoutError(f"no reply within {self.timeout_s:g} s") from error
        # A cancellation, for one: the reply that is still to come is nobody else's.
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            self._free.append(connection)

    async def _take(self) -> Any:
        if not self._free:
            connection = await self.connection_pool.get_connection()  # type: ignore[no-untyped-call]
            # The time of a whole command is limited, which takes one timer, and not each step.
            connection.socket_timeout = None
            return connection
        connection = self._free.pop()
        # Closed by the server meanwhile: sending connects anew.
        if connection.is_connected and await connection.can_read():
            await connection.disconnect(nowait=True)
        return connection
