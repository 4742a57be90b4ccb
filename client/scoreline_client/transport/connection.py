"""The connection to Redis: a command and its reply, Lua scripts, and Redis's errors as the client's own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from importlib import resources
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from scoreline_client.errors import QueueFull, ScorelineError, ServerUnreachable
from scoreline_client.settings import ClientSettings

_packer = HiredisRespSerializer()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportTimes:
    """How long a client waits for the server, and how often it checks the server and its own requests."""

    connect_s: float = 5.0
    """How long it may take to connect."""
    command_s: float = 15.0
    """How long the reply to a command may take; after that the connection counts as broken."""
    read_block_s: float = 5.0
    """How long one blocking read of the reply list waits for answers."""
    retry_pause_s: float = 0.2
    """Between two attempts of a command that failed with its connection."""
    check_every_s: float = 1.0
    """Between two checks of the server's memory and of overdue answers."""
    overdue_s: float = 2.0
    """After which a request's stored result is looked up: its reply may have been lost on the way."""
    delete_after_s: float = 0.05
    """How long results that were received are gathered before they are deleted together."""
    close_s: float = 0.2
    """How long closing waits for the server, and for tasks that it has cancelled."""
    diagnose_s: float = 0.3
    """How long a caller whose time is up waits for the reason, which the server must give."""
    queue_full_s: float = 1.0
    """What QueueFull tells callers to wait."""


DEFAULT_TIMES = TransportTimes()
MOST_CONNECTIONS = 64
"""Connections of a client; further commands wait for one. redis-py's pool has room for a hundred."""


class ShortPathRedis(redis.asyncio.Redis):
    """redis-py's asyncio client with a shorter path for a command; it never sends a command twice.

    redis-py takes two turns through its pool, a task for the timeout, measurements, and packing in Python
    for each command: half of what a lone request costs a client. Here a command takes a free connection,
    one timer and hiredis. The path uses parts of redis-py that it does not document: `_packer`, the pool's
    `get_connection`, and of a connection `socket_timeout`, `is_connected`, `can_read`,
    `send_packed_command` and `disconnect(nowait=True)`. A test checks that they are there.
    """

    command_s = DEFAULT_TIMES.command_s
    """How long the reply to a command may take."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._free: list[Any] = []
        self._room = asyncio.Semaphore(MOST_CONNECTIONS)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command over a free connection, and read its reply."""
        async with self._room:
            if self._free:
                connection = self._free.pop()
                # The server has closed it meanwhile: sending connects again.
                if connection.is_connected and await connection.can_read():
                    await connection.disconnect(nowait=True)
            else:
                connection = await self.connection_pool.get_connection()  # type: ignore[no-untyped-call]
                # One timer limits the whole command, instead of one for each of its steps.
                connection.socket_timeout = None
            try:
                async with asyncio.timeout(self.command_s):
                    await connection.send_packed_command(_packer.pack(*args))
                    return await self.parse_response(connection, args[0], **options)
            except ResponseError as error:
                # A blocked read ends with UNBLOCKED when its server becomes a replica.
                is_demoted = isinstance(error, ReadOnlyError | MasterDownError)
                if not is_demoted and not str(error).startswith("UNBLOCKED"):
                    raise
                # After a fail-over behind one address a new connection leads to the new primary; those that are
                # free lead to the old one, too, which may answer reads for ever.
                for other in (connection, *self._free):
                    await other.disconnect(nowait=True)
                raise RedisConnectionError(str(error)) from error
            except TimeoutError as error:
                await connection.disconnect(nowait=True)
                raise RedisTimeoutError(f"no reply within {self.command_s:g} s") from error
            # A cancellation, for example: its reply is still to come, and must not be read as the reply to the
            # next command.
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            finally:
                self._free.append(connection)


def open_connection(settings: ClientSettings, times: TransportTimes) -> Any:
    """A connection to the settings' server, which connects with its first command."""
    connection: Any = ShortPathRedis.from_url(
        settings.redis_url,
        socket_timeout=times.command_s,
        socket_connect_timeout=times.connect_s,
        socket_keepalive=True,
        # The dispatcher retries: it keeps a request's id and its deadline.
        retry=Retry(NoBackoff(), 0),
    )
    connection.command_s = times.command_s
    return connection


def load_script(connection: Any, name: str) -> Any:
    """A Lua script of this package, to be called with `keys` and `args`."""
    source = resources.files("scoreline_client.transport").joinpath(name).read_text()
    return connection.register_script(source)


def client_error(
    error: RedisError, settings: ClientSettings, times: TransportTimes
) -> ScorelineError:
    """The client's error for an error of Redis."""
    if isinstance(error, OutOfMemoryError) or "OOM" in str(error):
        return QueueFull(settings.queue, "the server is out of memory", times.queue_full_s)
    return ServerUnreachable(settings.server, str(error) or type(error).__name__)
