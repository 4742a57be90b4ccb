"""Opens connections to the server that a URL names: directly, or by asking sentinels which one is the primary now."""

from __future__ import annotations

from typing import Any

import redis.asyncio.sentinel
import redis.exceptions
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from scoreline_client.errors import ServerTooOld
from scoreline_client.settings import SentinelUrl

SENTINEL_S = 0.5
"""How long a sentinel may take to connect or to answer; then the next one is asked."""

# redis-py does not type these.
_Sentinel: Any = redis.sentinel.Sentinel
_AsyncSentinel: Any = redis.asyncio.sentinel.Sentinel
_parse_url: Any = parse_url


def async_redis(url: str, client_class: Any, **options: Any) -> Any:
    """An asyncio client of the class `client_class`, not connected yet, that never retries a command."""
    options |= {"retry": AsyncRetry(NoBackoff(), 0)}
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
    sentinel_url = SentinelUrl.parse(url)
    if sentinel_url is None:
        return client_class.from_url(url, **options)
    server = _server_options(sentinel_url)
    sentinel_kwargs = {**sentinel_options(sentinel_url), "retry": AsyncRetry(NoBackoff(), 0)}
    sentinel = _AsyncSentinel(sentinel_url.sentinels, sentinel_kwargs=sentinel_kwargs, **options)
    return sentinel.master_for(sentinel_url.service, client_class, **server)


def blocking_redis(url: str, **options: Any) -> redis.Redis:
    """A blocking client of a server, not connected yet.

    Raises:
        ValueError: the URL cannot be used.
    """
    sentinel_url = SentinelUrl.parse(url)
    if sentinel_url is None:
        return redis.Redis.from_url(url, **options)
    server = _server_options(sentinel_url)
    sentinel_kwargs = {**sentinel_options(sentinel_url), "retry": Retry(NoBackoff(), 0)}
    is_tls = server.pop("ssl", False)
    sentinel = _Sentinel(sentinel_url.sentinels, sentinel_kwargs=sentinel_kwargs, **options)
    connection_class = _FollowingTlsConnection if is_tls else _FollowingConnection
    client: redis.Redis = sentinel.master_for(
        sentinel_url.service, **server, connection_class=connection_class
    )
    return client


def _server_options(sentinel_url: SentinelUrl) -> dict[str, Any]:
    """User, password, database and options of a URL, without an address."""
    options: dict[str, Any] = _parse_url(sentinel_url.server)
    for address in ("host", "port"):
        options.pop(address, None)
    if options.pop("connection_class", None):
        options["ssl"] = True
    return options


def sentinel_options(sentinel_url: SentinelUrl) -> dict[str, Any]:
    """Options of connections to sentinels: without the server's password, and with TLS where the server has it."""
    server = _server_options(sentinel_url)
    options = {name: value for name, value in server.items() if name.startswith("ssl")}
    return {**options, "socket_timeout": SENTINEL_S, "socket_connect_timeout": SENTINEL_S}


class _FollowingConnection(redis.sentinel.SentinelManagedConnection):
    """Asks for the primary whenever it connects; redis-py's own class does so only when the pool connects it."""

    def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        """Connect to what is the primary now."""
        if not self._sock:
            self.host, self.port = self.connection_pool.get_master_address()
        super().connect_check_health(check_health, retry_socket_connect)

    def _connect_retry(self) -> None:
        self.connect_check_health(self.connection_pool.check_connection, retry_socket_connect=False)


class _FollowingTlsConnection(_FollowingConnection, redis.sentinel.SentinelManagedSSLConnection):
    """The same over TLS."""


OLDEST_SERVER = (7, 0)
"""Scripts declare flags, and several lists are popped in one command, from this release of Redis on."""


def read_version(connection: redis.Redis) -> str | None:
    """The server's name and release, such as `Redis 7.0.15` or `Valkey 9.1.2`; None where it does not say.

    Raises:
        ServerTooOld: it is too old for Scoreline.
        RedisError: the server cannot be reached.
    """
    try:
        info: Any = connection.info("server")
    except redis.exceptions.ResponseError as error:
        if "DB index" in str(error):
            raise
        return None  # its user has no right to ask
    # Valkey gives the release of Redis with which it is compatible.
    compatible = str(info.get("redis_version", ""))
    is_valkey = "valkey_version" in info
    name = f"Valkey {info['valkey_version']}" if is_valkey else f"Redis {compatible}"
    numbers = tuple(int(number) for number in compatible.split(".") if number.isdigit())
    if numbers and numbers < OLDEST_SERVER:
        raise ServerTooOld(name, ".".join(map(str, OLDEST_SERVER)))
    return name if numbers else None


def read_cautions(connection: redis.Redis) -> list[str]:
    """A warning, as a sentence, for each setting of a server that may lose data; none where it does not say.

    Raises:
        RedisError: the server cannot be reached.
    """
    try:
        info: Any = {**connection.info("memory"), **connection.info("persistence")}
    except redis.exceptions.ResponseError:
        return []  # its user has no right to ask
    cautions = []
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        cautions.append(
            f"maxmemory-policy is {policy}: a full server drops requests and answers without a word; set it to noeviction"
        )
    if info.get("aof_enabled", 1) == 0:
        cautions.append(
            "appendonly is off: what was accepted is lost when the server ends; set appendonly yes"
        )
    return cautions


def check_server(url: str) -> tuple[str | None, list[str]]:
    """Refuse a server that is too old; returns its name and release, and warnings about its settings.

    Raises:
        ServerTooOld: it is.
        RedisError: it cannot be reached.
    """
    once = Retry(NoBackoff(), 0)
    with blocking_redis(url, socket_timeout=2, socket_connect_timeout=2, retry=once) as connection:
        return read_version(connection), read_cautions(connection)
