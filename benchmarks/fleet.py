"""Large fleets on one server: what a process at rest costs, and what becomes of a lone request and of a release.

The processes are simulated, a few dozen in one: each has its own connections, threads and names, and all that it
does is done by the worker's own classes. What they score costs nothing. Celery's own commands are those of a real
worker, which is measured beside them.

A thousand of them need more than the cores of a small machine. They are recorded traffic (`traffic.py`): what a hundred
send at rest, over and over under ten times as many names. What reaches one of them is answered by the worker's own classes.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil
from redis import Redis

from benchmarks import traffic
from benchmarks.measures import Row, alone, at_most, times
from benchmarks.stage import QUEUE, Stage
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client import AsyncClient, Client
from scoreline_client.fleet import announce_release, read_status
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.models.isolated_load import ServedBy
from scoreline_tasks.queue.drain import Wakeups
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.settings import WorkerSettings
from scoreline_tasks.worker.runtime import (
    NEWS_EVERY_S,
    build_runtime,
    build_supervision,
    open_models,
)
from scoreline_tasks.worker.shared import CallTimes, Silence

FLEETS = (10, 100)
COPIES, REPLAYERS = 10, 5
"""Of the traffic of the largest of them, and how many processes send it."""
ALIKE = 0.05
"""By how much of what was recorded the traffic of a copy may differ."""
WORKER_OF = 4
SIMULATORS = 4
"""Real processes that the simulated ones are in."""
CLIENTS, CLIENT_PROCESSES = 1000, 2
SIMULATED = "simulated"
REST_S = 20.0
"""How long a fleet at rest is watched, and recorded."""
SETTLE_S = 3.0
START_S = 150.0
ASK = 100
ASK_EVERY_S = 0.01
RELEASES = 5
POLL_S = 3600.0
"""The simulated processes learn of a release by its news alone, so that the news can be timed."""
NAMES = Keys(QUEUE)


def measure(stage: Stage) -> list[Row]:
    """A real worker, fleets of each size, and clients; each is at rest, is asked, and is told of a release."""
    with Redis.from_url(stage.redis_url) as redis:
        server = psutil.Process(int(redis.info("server")["process_id"]))
        nothing = _watch(redis, server)
        with stage.worker(processes=2):
            rest = _watch(redis, server)
        rows = _rows_of_rest("2 processes of a real worker", rest, nothing, 2 + 1)
        found: list[Asked] = []
        for size in FLEETS:
            others = traffic.clients(redis)
            with _fleet(size) as simulators:
                rest = _watch(redis, server)
                recorded = traffic.record(redis, REST_S, but=others)
                found.append(_ask(stage, redis, simulators))
            rows += _rows_of_rest(f"{size:,} processes", rest, nothing, with_mains(size))
            rows += found[-1].rows(f"{size:,} processes", found[0])
            redis.flushall()
        with _simulated(_replay_workers, COPIES, REPLAYERS, recorded) as simulators:
            replayed = _watch(redis, server)
            found.append(_ask(stage, redis, simulators))
        many = size * COPIES
        rows += _rows_of_rest(f"{many:,} processes", replayed, nothing, COPIES * with_mains(size))
        rows += _rows_of_likeness(rest, replayed, nothing, with_mains(size))
        rows += found[-1].rows(f"{many:,} processes", found[0])
        redis.flushall()
        with _fleet(FLEETS[0]) as simulators:
            before = _watch(redis, server)
            with _simulated(_simulate_clients, CLIENTS, CLIENT_PROCESSES):
                rest = _watch(redis, server)
                asked = _ask(stage, redis, simulators)
            rows += _rows_of_rest(f"{CLIENTS:,} clients", rest, before, CLIENTS, "client")
            rows += asked.rows(f"{FLEETS[0]} processes, {CLIENTS:,} clients", found[0])
    return rows


def with_mains(size: int) -> int:
    """So many simulated processes, and the main processes of their workers."""
    return size + sum(-(-share // WORKER_OF) for share in _shares(size, min(SIMULATORS, size)))


def _shares(size: int, processes: int) -> list[int]:
    """How many each real process simulates."""
    ends = [size * number // processes for number in range(processes + 1)]
    return [end - start for start, end in pairwise(ends)]


@dataclass(frozen=True)
class Rest:
    """What a server did in a second, in which nobody asked for anything."""

    commands: float
    cpu_percent: float
    bytes_in: float
    bytes_out: float
    memory: float
    connections: float


def _watch(redis: Redis, server: psutil.Process) -> Rest:
    time.sleep(SETTLE_S)

    def counters() -> dict[str, float]:
        found: Any = redis.info("everything")
        used = server.cpu_times()
        return {**found, "cpu": used.user + used.system, "at": time.monotonic()}

    before = counters()
    time.sleep(REST_S)
    after = counters()
    seconds = after["at"] - before["at"]

    def rate(name: str) -> float:
        return (after[name] - before[name]) / seconds

    return Rest(
        commands=rate("total_commands_processed"),
        cpu_percent=rate("cpu") * 100,
        bytes_in=rate("total_net_input_bytes"),
        bytes_out=rate("total_net_output_bytes"),
        memory=after["used_memory"],
        connections=after["connected_clients"],
    )


def _rows_of_rest(
    what: str, rest: Rest, nothing: Rest, size: int, one: str = "process"
) -> list[Row]:
    """What each of so many costs at rest, main processes among them, over what was there before."""
    both = rest.bytes_in + rest.bytes_out - nothing.bytes_in - nothing.bytes_out
    goal = at_most(5) if one == "process" else None
    commands = (rest.commands - nothing.commands) / size
    return [
        alone(f"{what}, at rest", f"commands a second and {one}", [commands], goal=goal),
        alone(f"{what}, at rest", "% of a core, server", [rest.cpu_percent]),
        alone(f"{what}, at rest", f"bytes a second and {one}", [both / size]),
        alone(f"{what}, at rest", f"connections a {one}", [(rest.connections - nothing.connections) / size]),
        alone(f"{what}, at rest", f"KiB of the server's memory a {one}", [(rest.memory - nothing.memory) / size / 1024]),
    ]  # fmt: skip


def _rows_of_likeness(recorded: Rest, replayed: Rest, nothing: Rest, size: int) -> list[Row]:
    """That a process whose traffic is replayed costs what one of the recorded ones does.

    Raises:
        AssertionError: it does not.
    """

    def each(rest: Rest, count: int) -> list[float]:
        sent = rest.bytes_in - nothing.bytes_in
        return [(rest.commands - nothing.commands) / count, sent / count]

    before, after = each(recorded, size), each(replayed, size * COPIES)
    # Of the commands, those that scripts run are counted, too, and some of them once for a whole fleet.
    likeness = after[1] / before[1]
    assert abs(likeness - 1) <= ALIKE, f"it sends {likeness:.2f} times as many bytes"
    return [
        times("a replayed process", unit, [other], "recorded", [one])
        for unit, one, other in zip(
            ("commands a second", "bytes sent a second"), before, after, strict=True
        )
    ]


@dataclass(frozen=True)
class Asked:
    """What a fleet does when it is asked something."""

    waits_ms: list[float]
    """Of lone requests."""
    reached_ms: list[float]
    """Until the last process has the news of a release."""
    status_ms: list[float]

    def rows(self, what: str, smallest: Asked) -> list[Row]:
        """The figures beside those of the smallest fleet."""
        of = f"{FLEETS[0]} processes"
        cuts, base = (np.percentile(one.waits_ms, [50, 99]).tolist() for one in (self, smallest))
        return [
            times(f"{what}, a lone request", "p50 in ms", [cuts[0]], of, [base[0]], goal=at_most(2)),
            alone(f"{what}, a lone request", "p99 in ms", [cuts[1]]),
            alone(f"{what}, news of a release", "ms until all have it", self.reached_ms),
            alone(f"{what}, status", "ms", self.status_ms),
        ]  # fmt: skip


def _ask(stage: Stage, redis: Redis, simulators: list[Connection]) -> Asked:
    waits_ms, reached_ms, status_ms = [], [], []
    with Client(stage.redis_url, queue=QUEUE) as client:
        client.predict(SIMULATED, {"x": 1.0}, timeout=30)
        for number in range(ASK):
            time.sleep(ASK_EVERY_S)
            begun = time.perf_counter()
            client.predict(SIMULATED, {"x": float(number)}, timeout=30)
            waits_ms.append((time.perf_counter() - begun) * 1000)
    for _ in range(RELEASES):
        time.sleep(2 * NEWS_EVERY_S)  # each is news by itself
        begun = time.monotonic()
        announce_release(redis, NAMES, SIMULATED)
        for simulator in simulators:
            simulator.send(begun)
        reached_ms.append(max((simulator.recv() - begun) * 1000 for simulator in simulators))
        begun = time.perf_counter()
        read_status(redis, NAMES)
        status_ms.append((time.perf_counter() - begun) * 1000)
    return Asked(waits_ms, reached_ms, status_ms)


@contextmanager
def _fleet(size: int) -> Iterator[list[Connection]]:
    """So many processes that score, in workers of WORKER_OF, and their main processes."""
    with _simulated(_simulate_workers, size, min(SIMULATORS, size)) as simulators:
        yield simulators


@contextmanager
def _simulated(target: Any, size: int, processes: int, *given: Any) -> Iterator[list[Connection]]:
    """Let real processes simulate a share each; gives a connection to each, and ends them."""
    context = multiprocessing.get_context("spawn")
    started: list[tuple[Any, Connection]] = []
    try:
        for number, share in enumerate(_shares(size, processes)):
            here, there = context.Pipe()
            process = context.Process(
                target=target, args=(there, number, share, *given), daemon=True
            )
            process.start()
            started.append((process, here))
        for _, here in started:
            if not here.poll(START_S):
                raise TimeoutError("the simulated processes do not start")
            here.recv()
        yield [here for _, here in started]
    finally:
        for process, _ in started:
            process.kill()
            process.join()


class _Same:
    """A pipeline that costs nothing."""

    def predict(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        return np.asarray(frame["x"])


def _simulate_workers(control: Connection, simulator: int, count: int) -> None:
    """Run the threads of so many processes, and of their main processes, until this process is killed."""
    os.environ["SCORELINE_POLL_S"] = f"{POLL_S:g}"
    settings = WorkerSettings.from_environment()
    told: dict[str, float] = {}
    workers = 0
    times_of_calls, silence = CallTimes(), Silence()
    wakeups = Wakeups(extra_drain=lambda: None)
    models, nursery = open_models(settings, ServedBy.MAIN_THREAD)
    models.add(LoadedVersion.of(_Same(), SIMULATED))
    for number in range(count):
        node = f"{SIMULATED}-{simulator}-{number}"

        def poll(node: str = node) -> bool:
            told[node] = time.monotonic()
            return False

        # A child says of another process that it is its main process; here both are this one.
        runtime = build_runtime(
            settings,
            models,
            nursery,
            node,
            wakeups,
            main_pid=os.getpid() + 1,
            timed=times_of_calls.timed,
            silence=silence,
            poll=None,
        )
        runtime.start()
        if number % WORKER_OF:
            continue  # of a worker one process listens

        def drain(runtime: Any = runtime) -> None:
            while True:
                runtime.drain.serve(settings.slice_s)

        supervision = build_supervision(
            settings, models, nursery, f"{node}-main", poll, lambda: WORKER_OF, silence
        )
        supervision.start()
        threading.Thread(target=drain, daemon=True).start()
        workers += 1
    control.send("ready")
    while True:
        since = control.recv()
        while len(told) < workers or min(told.values()) < since:
            time.sleep(0.001)
        control.send(max(told.values()))


def _replay_workers(
    control: Connection, replayer: int, count: int, recorded: traffic.Traffic
) -> None:
    """Send so many copies of recorded traffic until this process is killed, and answer what comes."""
    settings = WorkerSettings.from_environment()
    models, nursery = open_models(settings, ServedBy.MAIN_THREAD)
    models.add(LoadedVersion.of(_Same(), SIMULATED))
    batcher = nursery.batcher
    assert batcher is not None
    redis = Redis.from_url(settings.redis_url)

    def answer(consumer: str) -> None:
        queue = RequestQueue(redis, NAMES, consumer, result_ttl_s=settings.result_ttl_s)
        queue.finish(batcher.answer(queue.own(), queue.server_time_ms()))

    RequestQueue(redis, NAMES, SIMULATED, result_ttl_s=settings.result_ttl_s).prepare()
    first = replayer * COPIES // REPLAYERS
    replay = traffic.Replay(
        settings.redis_url, recorded, SIMULATED, range(first, first + count), answer
    )
    control.send("ready")
    since: float | None = None
    while True:
        replay.turn()
        if since is None and control.poll():
            since = control.recv()
        told_at = None if since is None else replay.told_since(since)
        if told_at is not None:
            control.send(told_at)
            since = None


def _simulate_clients(control: Connection, _simulator: int, count: int) -> None:
    """Open so many clients, each of which asks once and stays."""

    async def run() -> None:
        clients = [AsyncClient() for _ in range(count)]
        for start in range(0, count, 50):
            some = clients[start : start + 50]
            await asyncio.gather(*(one.predict(SIMULATED, {"x": 1.0}, timeout=60) for one in some))
        control.send("ready")
        await asyncio.Event().wait()

    asyncio.run(run())
