"""A worker's own line to the server: commands sent together, replies as the server gives them.

For a lone request, most of what a worker did beside scoring went into redis-py's pipelines, which serve
everybody: an object for each command, measurements, replies rewritten, a connection taken out of a
pool and looked at. Connecting, trying again, packing and parsing are redis-py's here, too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from redis import Redis
from redis.connection import PythonRespSerializer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

Command = tuple[Any, ...]
_TOGETHER_BYTES = 1 << 16


class Line:
    """One connection for each thread that uses it, out of a client's pool and closed with it."""

    def __init__(self, redis: Redis) -> None:
        self._pool = redis.connection_pool
        self._own = threading.local()

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one go; their replies in order, an error of one in its place.

        Values that are views of memory are sent from where they lie.
        A connection may have been lost since it was used last: then all of them are sent once more,
        over a new one. So each must be one that may arrive twice.

        Raises:
            RedisError: the server cannot be reached.
        """
        if not commands:
            return []
        connection = self._connection()
        try:
            return _ask(connection, commands)
        except RedisConnectionError:
            return _ask(connection, commands)

    def _connection(self) -> Any:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._pool.get_connection()
        return connection


def _ask(connection: Any, commands: Sequence[Command]) -> list[Any]:
    connection.send_packed_command([*_packed(connection, commands)])
    try:
        return [_reply(connection) for _ in commands]
    # Whatever ends this early, a task's time limit for one: the next one must not read these replies.
    except BaseException:
        connection.disconnect()
        raise


def _packed(connection: Any, commands: Sequence[Command]) -> Iterator[bytes | memoryview]:
    small: list[Command] = []
    for command in commands:
        if not any(isinstance(value, memoryview) for value in command):
            small.append(command)
            continue
        yield from connection.pack_commands(small)
        small = []
        # Not hiredis, which makes one piece of all.
        serializer = PythonRespSerializer(_TOGETHER_BYTES, connection.encoder.encode)
        yield from serializer.pack(*command)  # type: ignore[no-untyped-call]
    yield from connection.pack_commands(small)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
