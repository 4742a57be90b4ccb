"""Sends commands to the server together, with less work for each than redis-py's own pipelines.

For a lone request, most of a worker's work beside scoring went into redis-py's pipelines: an object for each
command, measurements, rewritten replies, a connection taken out of a pool and checked. Connecting, retries,
packing and parsing are still redis-py's.
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
_BUFFER_BYTES = 1 << 16


class Pipeline:
    """One connection for each thread that uses it, out of a client's pool and closed with it."""

    def __init__(self, redis: Redis) -> None:
        self._pool = redis.connection_pool
        self._own = threading.local()

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one go; returns their replies in order, an error as its command's reply.

        Views of memory are sent without a copy. The connection may have been lost since its last use: then
        all commands are sent once more over a new one. So each must be one that may arrive twice.

        Raises:
            RedisError: the server cannot be reached.
        """
        if not commands:
            return []
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._pool.get_connection()
        try:
            return _send_and_read(connection, commands)
        except RedisConnectionError:
            return _send_and_read(connection, commands)


def _send_and_read(connection: Any, commands: Sequence[Command]) -> list[Any]:
    connection.send_packed_command([*_packed(connection, commands)])
    replies: list[Any] = []
    try:
        while len(replies) < len(commands):
            try:
                replies.append(connection.read_response())
            except ResponseError as error:
                replies.append(error)
    # Whatever ends this early, such as a task's time limit: no later read may take these replies.
    except BaseException:
        connection.disconnect()
        raise
    return replies


def _packed(connection: Any, commands: Sequence[Command]) -> Iterator[bytes | memoryview]:
    small: list[Command] = []
    for command in commands:
        if not any(isinstance(value, memoryview) for value in command):
            small.append(command)
            continue
        yield from connection.pack_commands(small)
        small = []
        # Not hiredis, which copies everything into one piece.
        serializer = PythonRespSerializer(_BUFFER_BYTES, connection.encoder.encode)
        yield from serializer.pack(*command)  # type: ignore[no-untyped-call]
    yield from connection.pack_commands(small)
