"""Where faults are put to the test: a server that can be killed, a store, real workers, and a proxy on each side."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from redis import Redis
from redis.exceptions import ResponseError

from scoreline_artifacts import KeyRing, Store
from scoreline_artifacts.store import releases
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_tasks.dev.server import HOST, free_port, server_process
from tests.acceptance.conftest import Fleet, children_of
from tests.faults.ledger import SLOW_S, Ledger, Verdict, chunked, stored_results
from tests.faults.load import MODEL, running_load
from tests.faults.model import offline, publish_version
from tests.faults.proxy import Proxy

GIVE_UP_S, BRIEF_GIVE_UP_S = 120.0, 40.0
"""Seconds after which a service that has not come back counts as gone."""


@dataclass
class Outcome:
    """What became of a fault that was put to the test `n` times."""

    n: int
    verdict: Verdict = field(default_factory=Verdict)
    recoveries_s: list[float] = field(default_factory=list)
    """Seconds from each fault until no answer was held up any more."""
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """What is neither an answer nor a time, and was not as promised."""


@dataclass
class Ground:
    """A server, a store, and workers. The workers and the clients reach the server through a proxy each."""

    folder: Path
    stack: ExitStack
    seed: int
    rate: float
    is_brief: bool = False
    """Whether waits are short: for few repetitions, in the tests."""
    port: int = field(default_factory=free_port)
    server: subprocess.Popen[bytes] | None = None
    loads: int = 0
    _serving: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.keys = Keys("default")
        self.url = f"redis://{HOST}:{self.port}/0"
        self.redis: Any = self.stack.enter_context(Redis.from_url(self.url, socket_timeout=60))
        self.server_stack = self.stack.enter_context(ExitStack())
        self.start_server()
        self.to_clients = self.stack.enter_context(Proxy(self.port))
        self.to_workers = self.stack.enter_context(Proxy(self.port))
        self.store = Store(self.folder / "store", KeyRing(self.folder / "keys"))
        releases.promote(self.store, MODEL, publish_version(self.store))
        self.offline = offline(self.store)
        self.fleet = Fleet(
            self.to_workers.url, self.redis, self.store, self.folder / "worker.log", self.stack
        )

    @property
    def give_up_s(self) -> float:
        """How long something is waited for that ought to come."""
        return BRIEF_GIVE_UP_S if self.is_brief else GIVE_UP_S

    # The server

    def start_server(self, **options: str) -> None:
        """Start the server on the data that it has."""
        settings = {"enable-debug-command": "local", **options}
        server = server_process(self.port, self.folder / "redis", settings)
        self.server = self.server_stack.enter_context(server)

    def kill_server(self) -> None:
        """kill -9."""
        assert self.server is not None
        self.server.kill()
        self.server.wait()

    # Workers

    def start_worker(
        self, processes: int = 2, *options: str, settings: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a worker that trusts this ground's keys; `settings` are environment variables of its own."""
        with environment(settings or {}):
            return self.fleet.start_worker(processes, *options, own=self.folder)

    @property
    def worker(self) -> subprocess.Popen[bytes]:
        """A worker of two processes that faults share; started anew where one has ended it."""
        if self._serving is None or self._serving.poll() is not None:
            self._serving = self.start_worker()
        return self._serving

    @contextmanager
    def only(self, *workers: subprocess.Popen[bytes]) -> Iterator[None]:
        """Let these workers serve alone, and end them afterwards."""
        if self._serving is not None and self._serving not in workers:
            stop(self._serving)
            self._serving = None
        try:
            yield
        finally:
            for worker in workers:
                stop(worker)

    def busy_child(self, worker: subprocess.Popen[bytes]) -> psutil.Process:
        """A process of a worker that has requests in hand just now."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            children = {child.pid: child for child in children_of(worker)}
            for consumer in self.redis.xinfo_consumers(self.keys.lane(Lane.ONLINE), GROUP):
                pid = int(consumer["name"].rpartition(b"/")[2])
                if consumer["pending"] and pid in children:
                    return children[pid]
        raise AssertionError("no process has had a request in hand for 30 s")

    def most_deliveries(self) -> int:
        """How often the entry in hand was delivered that was delivered most often."""
        found = [0]
        for lane in Lane:
            with suppress(ResponseError):  # a group that is not there yet, or no more
                pending = self.redis.xpending_range(self.keys.lane(lane), GROUP, "-", "+", 1000)
                found += [one["times_delivered"] for one in pending]
        return max(found)

    def keys_without_end(self) -> list[str]:
        """Keys of the queue, besides those of the fleet, that would stay for ever."""
        lanes = map(self.keys.lane, Lane)
        own = {*lanes, self.keys.processes, self.keys.dead, self.keys.jobs, self.keys.totals}
        names = (name.decode() for name in self.redis.scan_iter("scoreline:{*"))
        return [name for name in names if name not in own and self.redis.pttl(name) == -1]

    def forget_results(self) -> None:
        """Remove the results and records of jobs, which would stay for an hour."""
        for pattern in (self.keys.result("*"), self.keys.job("*")):
            for part in chunked(self.redis.scan_iter(pattern, count=1000)):
                self.redis.unlink(*part)

    def change_worker(self) -> None:
        """End the shared worker: the next fault is not to suffer from this one."""
        if self._serving is not None:
            stop(self._serving)

    # Load and time

    @contextmanager
    def load(
        self,
        *,
        allowed: Sequence[str] = (),
        url: str | None = None,
        prefix: Sequence[str] = (),
    ) -> Iterator[Observed]:
        """Load the queue for as long as the block lasts; what came of it is complete after the block.

        `allowed` are errors that the fault is expected to bring. `prefix` stands before the clients' command.
        """
        self.loads += 1
        ledger = Ledger(self.folder / f"ledger-{self.loads}")
        observed = Observed(self, ledger)
        seed = self.seed * 1000 + self.loads
        with running_load(
            url or self.to_clients.url,
            ledger.folder,
            seed=seed,
            rate=self.rate,
            processes=1 if self.is_brief else 2,
            prefix=prefix,
        ):
            observed.wait(lambda: ledger.answers_since(0) > 20, "the load does not begin")
            yield observed
        # What is still queued or in somebody's hands is not lost yet.
        until = time.monotonic() + self.give_up_s
        while any(map(self.redis.xlen, map(self.keys.lane, Lane))) and time.monotonic() < until:
            time.sleep(0.05)
        observed.outcome.verdict = ledger.check(
            stored_results(self.redis, self.keys), self.offline, allowed=allowed
        )
        observed.outcome.recoveries_s = [ledger.recovery_s(*span) for span in observed.spans]


@dataclass
class Observed:
    """A load, and the faults that it has met."""

    ground: Ground
    ledger: Ledger
    spans: list[tuple[float, float, float]] = field(default_factory=list)
    """Of each fault: when it began or ended, and between when what was asked is counted."""

    def __post_init__(self) -> None:
        self.outcome = Outcome(n=0)

    def recovers(self, since: float | None = None, *, of: float = 0.0) -> None:
        """Count a fault that began, or ended, just now, and wait until nothing is held up any more.

        `of` is the moment before which requests do not count, for what a fault has taken away.
        """
        since = since or time.monotonic()
        self.outcome.n += 1

        def is_calm() -> bool:
            now = time.monotonic()
            enough = self.ledger.answers_since(max(since + SLOW_S, now - SLOW_S)) > 3
            return enough and not self.ledger.open_between(of, now - SLOW_S)

        try:
            self.wait(is_calm, "requests are held up for ever")
        except AssertionError as error:
            self.outcome.failures.append(str(error))
        self.spans.append((since, of, time.monotonic()))

    def wait(self, question: Callable[[], object], complaint: str) -> None:
        """Ask until the answer is true."""
        deadline = time.monotonic() + self.ground.give_up_s
        while not question():
            if time.monotonic() > deadline:
                raise AssertionError(f"{complaint} ({self.ground.give_up_s:g} s)")
            time.sleep(0.05)


def forget_settings() -> None:
    """A developer's own settings must reach neither workers nor clients, and least of all their server."""
    for name in [name for name in os.environ if name.startswith("SCORELINE_")]:
        del os.environ[name]


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Variables that this process's children inherit inside the block."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def ground(
    seed: int, rate: float, *, is_brief: bool = False, folder: Path | None = None
) -> Iterator[Ground]:
    """A ground of its own, which is gone at the end, unless it has a folder."""
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        with environment(keys_and_cache(folder)):
            yield Ground(folder, stack, seed, rate, is_brief)


def keys_and_cache(folder: Path) -> dict[str, str]:
    """The settings of what runs on a ground: neither keys nor cache of whoever runs it."""
    return {"SCORELINE_KEYS": str(folder / "keys"), "SCORELINE_CACHE": str(folder / "cache")}


def stop(worker: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL for the group of one that does not end."""
    if worker.poll() is None:
        worker.terminate()
        try:
            worker.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
