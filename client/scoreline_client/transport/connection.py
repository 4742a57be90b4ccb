"""The connection to Redis: a command and its reply, Lua scripts, and Redis's errors as the client's own."""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib import resources
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import redis.asyncio
from redis.connection import HiredisRespSerializer
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from scoreline_client.errors import (
    QueueFull,
    ScorelineError,
    ServerRefused,
    ServerUnreachable,
    UntrustedServer,
)
from scoreline_client.settings import ClientSettings, SentinelUrl
from scoreline_client.transport.servers import async_redis

_packer = HiredisRespSerializer()
_TOO_LATE = "no connection within"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportTimes:
    """How long a client waits for the server, and how often it checks the server and its own requests."""

    connect_s: float = 2.0
    """How long it may take to connect, with TLS and the password."""
    command_s: float = 2.0
    """How long a connection may do nothing while a reply is due; after that it counts as broken, and the
    next one has twice the time, up to `longest_command_s`: a server that is slow is not asked ever more."""
    longest_command_s: float = 16.0
    read_block_s: float = 5.0
    """How long one blocking read of the reply list waits for answers."""
    retry_pause_s: float = 0.2
    """Between two attempts of a command that failed with its connection."""
    first_contact_s: float = 2.0
    """How long a client that has never reached its server tries to: a wrong address is to be known soon. One
    that has reached it before tries for as long as its callers wait."""
    check_every_s: float = 1.0
    """Between two checks of the server's memory and of overdue answers."""
    overdue_s: float = 1.5
    """After which a request's stored result is looked up: its reply may have been lost on the way."""
    delete_after_s: float = 0.5
    """How long results that were received are gathered before they are deleted together."""
    delete_stored_after_s: float = 0.05
    """The same for those that were too large for the reply list: the server's memory is to be free again."""
    close_s: float = 0.2
    """How long closing waits for the server, and for tasks that it has cancelled."""
    diagnose_s: float = 0.24
    """How long a caller whose time is up waits for the reason, which the server must give."""
    end_job_s: float = 0.04
    """How long the end of a bulk job waits for its lease and requests to be removed."""
    replicate_s: float = 1.0
    """How long replicas have to confirm that they have a job, where that is asked for."""
    reports_s: float = 5.0
    """How long a look at the fleet may take, with attempts over new connections."""
    queue_full_s: float = 1.0
    """How long QueueFull tells callers to wait."""


DEFAULT_TIMES = TransportTimes()
MOST_CONNECTIONS = 64
"""Connections of a client; further commands wait for one. redis-py's pool has room for a hundred."""
IDLE_S = 60.0
"""A connection that no command has needed for so long is closed: those of a busy moment need not stay."""


SLOW_BYTES_PER_S = 1 << 20
"""A network that is this slow is not taken for a dead one."""
BUFFERED_BYTES = 1 << 22
"""How much of a command the system may have taken that has not been sent yet."""


class ReplyLost(RedisTimeoutError):
    """Raised when a command was sent and its reply did not come: the server may have done it or not."""


class ShortPathRedis(redis.asyncio.Redis):
    """redis-py's asyncio client with a shorter path for a command; it never sends a command twice.

    redis-py takes two turns through its pool, a task for the timeout, measurements, and packing in Python
    for each command: half of what a lone request costs a client. Here a command takes a free connection,
    one timer and hiredis. The path uses parts of redis-py that it does not document: `_packer`, the pool's
    `get_available_connection`, and of a connection `socket_timeout`, `is_connected`, `can_read`, `connect`,
    `send_packed_command`, `disconnect(nowait=True)`, `_writer` and `_parser._reader`. A test checks that
    they are there.
    """

    times = DEFAULT_TIMES
    was_reached = False
    """Whether the server has ever replied."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.connection_pool: Any  # redis-py does not type all of it
        self._free: list[Any] = []
        self._room = asyncio.Semaphore(MOST_CONNECTIONS)
        self._patience_s = 0.0
        """How long to wait for a reply, while that is longer than usual; otherwise 0."""
        self._waiting: set[_Patience] = set()
        """The commands whose replies are waited for now."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command over a free connection, and read its reply."""
        return await self._exchange(args, options)

    async def execute_before_read(
        self,
        commands: Sequence[Sequence[Any]],
        read: Sequence[Any],
        take: Callable[[list[Any]], None],
    ) -> Any:
        """Send commands, and behind them, in the same piece, a read that blocks; returns the reply to the read.

        `take` gets the replies to the commands, some of which may be errors, before the read ends. If this raises before
        `take` was called, the caller repeats the commands as if that error were their reply.
        """
        return await self._exchange(read, {}, commands, take)

    async def _exchange(
        self,
        command: Sequence[Any],
        options: Mapping[str, Any],
        before: Sequence[Sequence[Any]] = (),
        take: Callable[[list[Any]], None] = lambda _: None,
    ) -> Any:
        async with self._room:
            pool = self.connection_pool
            connection = self._free.pop() if self._free else pool.get_available_connection()
            # One timer limits the whole command, instead of one for each of its steps.
            connection.socket_timeout = None
            sent_at: float | None = None
            patience_s = self._patience_s or self.times.command_s
            try:
                # The server has closed it meanwhile.
                if connection.is_connected and await connection.can_read():
                    await connection.disconnect(nowait=True)
                if not connection.is_connected:
                    async with asyncio.timeout(self.times.connect_s):
                        await connection.connect()
                    connection.heard_at = time.monotonic()
                packed = [piece for args in (*before, command) for piece in _packer.pack(*args)]
                # No progress shows while the server blocks, or while the system still sends.
                blocks_s = float(command[1]) if command[0] == "BLMPOP" else 0.0
                at_rest_s = min(sum(map(len, packed)), BUFFERED_BYTES) / SLOW_BYTES_PER_S
                at_rest_s += 0.0 if before else blocks_s
                sent_at = time.monotonic()
                async with _Patience(connection, patience_s, at_rest_s, self._waiting) as patience:
                    await connection.send_packed_command(packed)
                    if before:
                        take([await self._reply(connection, earlier) for earlier in before])
                        patience.begin_anew(blocks_s)
                    reply = await self.parse_response(connection, command[0], **options)
                connection.heard_at = time.monotonic()
            except ResponseError as error:
                self.was_reached, self._patience_s = True, 0.0
                connection.heard_at = time.monotonic()
                if not _is_demotion(error):
                    raise
                # After a fail-over behind one address a new connection leads to the new primary; those that are
                # free lead to the old one, too, which may answer reads for ever.
                await self._drop(connection)
                raise RedisConnectionError(str(error)) from error
            except TimeoutError as error:
                # A firewall or a router on the way may have forgotten the other connections as well.
                await self._drop(connection, silent_since=sent_at or -math.inf)
                if sent_at is None:
                    raise RedisTimeoutError(f"{_TOO_LATE} {self.times.connect_s:g} s") from error
                # Doubled only once for all commands that waited equally long.
                if patience_s >= (self._patience_s or self.times.command_s):
                    self._patience_s = min(2 * patience_s, self.times.longest_command_s)
                raise ReplyLost(f"no reply within {patience_s:g} s") from error
            except RedisConnectionError as error:
                await connection.disconnect(nowait=True)
                # These two errors are replies, which say that nothing was done.
                is_reply = isinstance(error, AuthenticationError | BusyLoadingError)
                if sent_at is not None and not is_reply:
                    raise ReplyLost(str(error)) from error
                raise
            # A cancellation, for example: its reply is still to come, and must not be read as the reply to the
            # next command.
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            else:
                self.was_reached, self._patience_s = True, 0.0
                return reply
            finally:
                self._free.append(connection)
                await self._close_idle()

    async def _reply(self, connection: Any, command: Sequence[Any]) -> Any:
        """The reply to a command, or the error that it is; raises those that end the use of the connection."""
        try:
            reply = await self.parse_response(connection, command[0])
        except ResponseError as error:
            if _is_demotion(error):
                raise
            reply = error
        self.was_reached = True
        return reply

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections, those to sentinels as well."""
        await super().aclose(close_connection_pool)
        sentinel = getattr(self.connection_pool, "sentinel_manager", None)
        if sentinel is not None:
            await sentinel.aclose()

    async def _close_idle(self) -> None:
        # Connections are reused last in, first out: the first open one has been idle the longest.
        for connection in self._free:
            if connection.is_connected:
                if connection.heard_at < time.monotonic() - IDLE_S:
                    await connection.disconnect(nowait=True)
                break

    async def _drop(self, connection: Any, silent_since: float = -math.inf) -> None:
        """Close a connection, all that are free, and those in use on which nothing has come since then."""
        for patience in self._waiting:
            if patience.is_silent_since(silent_since):
                patience.give_up()
        for suspect in (connection, *self._free):
            await suspect.disconnect(nowait=True)


def _is_demotion(error: ResponseError) -> bool:
    """Whether the server has become a replica: a blocked read ends with UNBLOCKED then."""
    return isinstance(error, ReadOnlyError | MasterDownError) or str(error).startswith("UNBLOCKED")


class _Patience:
    """Ends a block with TimeoutError when its connection has sent and received nothing for `still_s`."""

    __slots__ = ("_limit", "_loop", "_progress", "_still_s", "_timer", "_waiting", "connection")

    def __init__(
        self, connection: Any, still_s: float, at_rest_s: float, waiting: set[_Patience]
    ) -> None:
        """`waiting` holds it for as long as the block runs."""
        self.connection = connection
        self._waiting = waiting
        self._still_s = still_s
        self._progress = self._read_progress()
        self._limit = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(still_s + at_rest_s, self._check)

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        self._waiting.add(self)
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._waiting.discard(self)
        self._timer.cancel()
        await self._limit.__aexit__(*error)

    def begin_anew(self, at_rest_s: float) -> None:
        """A reply has come, and the next one is waited for."""
        self.connection.heard_at = time.monotonic()
        self._timer.cancel()
        self._progress = self._read_progress()
        self._timer = self._loop.call_later(self._still_s + at_rest_s, self._check)

    def is_silent_since(self, moment: float) -> bool:
        """Whether nothing has come since then, of its reply or an earlier one, and nothing was sent since the last check."""
        return self.connection.heard_at <= moment and self._read_progress() == self._progress

    def give_up(self) -> None:
        """End the block now."""
        with contextlib.suppress(RuntimeError):  # it has just ended
            self._limit.reschedule(self._loop.time())

    def _check(self) -> None:
        progress = self._read_progress()
        if progress == self._progress:
            self.give_up()
        else:
            self._progress, self.connection.heard_at = progress, time.monotonic()
            self._timer = self._loop.call_later(self._still_s, self._check)

    def _read_progress(self) -> tuple[int, int]:
        """How many bytes are still to be sent, and how many the reader holds, with those left over from earlier replies."""
        writer, reader = self.connection._writer, self.connection._parser._reader
        return (writer.transport.get_write_buffer_size() if writer else 0, reader.len())


def open_connection(settings: ClientSettings, times: TransportTimes) -> Any:
    """A connection to the settings' server, which connects with its first command."""
    connection: Any = async_redis(
        settings.redis_url,
        ShortPathRedis,
        socket_timeout=times.command_s,
        socket_connect_timeout=times.connect_s,
    )
    connection.times = times
    return connection


SCRIPTS = ("submit.lua", "renew_job.lua", "is_lost.lua", "cancel.lua")
"""The Lua scripts of this package. Workers load them (`load_scripts`): callers need no right to load any."""
SCRIPT_TRIES, SCRIPT_PAUSE_S = 7, 0.5
"""How often a caller without that right tries, and how long it waits in between: after a restart of the server
workers load the scripts within seconds."""


class Script:
    """A Lua script of this package on a connection, to be called with `keys` and `args`."""

    def __init__(self, connection: Any, name: str) -> None:
        self._connection = connection
        self._source = script_source(name)
        self._sha = sha1(self._source.encode(), usedforsecurity=False).hexdigest()

    def command(self, keys: Sequence[Any], args: Sequence[Any]) -> tuple[Any, ...]:
        """The command that runs it, where the server has it."""
        return ("EVALSHA", self._sha, len(keys), *keys, *args)

    async def __call__(self, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """Run it; where the server does not have it, load it first or wait until a worker has.

        Raises:
            RedisError: it failed, or this caller may not load it and no worker has.
        """
        for tries_left in reversed(range(SCRIPT_TRIES)):
            with contextlib.suppress(NoScriptError):
                return await self._connection.evalsha(self._sha, len(keys), *keys, *args)
            try:
                self._sha = await self._connection.script_load(self._source)
            except NoPermissionError:
                if not tries_left:
                    raise
                await asyncio.sleep(SCRIPT_PAUSE_S)
        raise NoScriptError(f"{self._sha} is lost again and again")


def script_source(name: str) -> str:
    """The text of a Lua script of this package."""
    return resources.files("scoreline_client.transport").joinpath(name).read_text()


def load_scripts(redis: Any) -> None:
    """Load the scripts that callers run, where the server does not have them, over a blocking connection."""
    sources = list(map(script_source, SCRIPTS))
    hashes = [sha1(source.encode(), usedforsecurity=False).hexdigest() for source in sources]
    for source, is_there in zip(sources, redis.script_exists(*hashes), strict=True):
        if not is_there:
            redis.script_load(source)


def is_distrusted(error: BaseException | None) -> bool:
    """Whether a connection failed because of the server's certificate."""
    return _is_caused_by(error, ssl.SSLCertVerificationError)


def _is_caused_by(error: BaseException | None, *kinds: type[BaseException]) -> bool:
    while error is not None and not isinstance(error, kinds):
        error = error.__cause__ or error.__context__
    return error is not None


def is_final(error: RedisError) -> bool:
    """Whether trying again cannot help: the server refuses the password, or its certificate is not trusted."""
    return isinstance(error, AuthenticationError) or is_distrusted(error)


def client_error(
    error: RedisError, settings: ClientSettings, times: TransportTimes
) -> ScorelineError:
    """The client's error for an error of Redis."""
    if isinstance(error, OutOfMemoryError) or "OOM" in str(error):
        return QueueFull(settings.queue, "the server is out of memory", times.queue_full_s)
    return server_error(error, settings)


def server_error(error: Exception, settings: ClientSettings) -> ServerUnreachable:
    """The client's error for an error of a connection: the server is out of reach, not trusted, or refuses."""
    server, message = settings.server, str(error)
    if is_distrusted(error):
        return UntrustedServer(server, message)
    sentinel = SentinelUrl.parse(settings.redis_url)
    url = urlsplit(settings.redis_url if sentinel is None else sentinel.server)
    options = dict(parse_qsl(url.query))
    user = unquote(url.username or options.get("username") or "default")
    form = "redis://USER:PASSWORD@HOST:PORT/0"
    if "DB index is out of range" in message or "invalid DB index" in message:
        database = url.path.strip("/") or options.get("db", "")
        reason = f"has no database {database}; SCORELINE_REDIS_URL names it behind the port"
    elif isinstance(error, NoPermissionError):
        reason = (
            f"does not permit this to user {user!r}: {message.rstrip('.')}. "
            "`scoreline acl` prints the rights that each kind of program needs"
        )
    elif not isinstance(error, AuthenticationError):
        message = message or type(error).__name__
        # A server without TLS ends the handshake, or never answers it.
        ends = _is_caused_by(error, ssl.SSLError, ConnectionResetError)
        if url.scheme == "rediss" and (ends or _TOO_LATE in message):
            message = f"{message.rstrip('.')}; rediss:// asks for TLS: does the server speak it there? Without TLS it is redis://"
        return ServerUnreachable(server, message)
    elif url.password or "password" in options:
        reason = f"refuses the password of user {user!r}; both stand in SCORELINE_REDIS_URL: {form}"
    else:
        reason = f"wants a password, and SCORELINE_REDIS_URL has none: {form}"
    return ServerRefused(server, reason)
