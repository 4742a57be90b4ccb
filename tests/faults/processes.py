"""Faults of processes: workers and clients that are killed, stopped, poisoned, or wrong about the time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from scoreline_client import AsyncClient, Client
from scoreline_client.errors import ScorelineError
from scoreline_client.protocol.json_records import encode_records, predictions_of
from scoreline_client.protocol.keys import Lane
from tests.acceptance.conftest import children_of, kill_group
from tests.faults.ground import Ground, Outcome
from tests.faults.ledger import JOB, Ledger, Writer, stored_results
from tests.faults.load import MODEL
from tests.faults.project import traps

ROWS = 512
BATCH_LIMIT_S = 3.0


def child_killed(ground: Ground, n: int) -> Outcome:
    """kill -9 for a process of the pool that has a batch in hand."""
    worker = ground.worker
    with ground.load() as load:
        for _ in range(n):
            victim = ground.busy_child(worker)
            since = time.monotonic()
            victim.kill()
            load.recovers(since)
    return load.outcome


def only_child_killed(ground: Ground, n: int) -> Outcome:
    """The same for a worker of one process."""
    worker = ground.start_worker(1)
    with ground.only(worker), ground.load() as load:
        for _ in range(n):
            victim = ground.busy_child(worker)
            since = time.monotonic()
            victim.kill()
            load.recovers(since)
    return load.outcome


def group_killed(ground: Ground, n: int) -> Outcome:
    """kill -9 for a worker with all of its processes; the time counts from when another one is ready."""
    victim = ground.worker  # the load begins with a worker
    with ground.load() as load:
        for _ in range(n):
            kill_group(victim)
            victim = ground.worker  # another one, which is ready
            load.recovers()
    return load.outcome


def child_stopped(ground: Ground, n: int) -> Outcome:
    """SIGSTOP for a process with a batch in hand, and SIGCONT when its requests are long another's."""
    worker = ground.worker
    with ground.load() as load:
        for _ in range(n):
            victim = ground.busy_child(worker)
            since = time.monotonic()
            victim.suspend()
            goes_on = threading.Timer(8 if ground.is_brief else 30, _resume, (victim,))
            goes_on.start()
            load.recovers(since)
            goes_on.join()
            # What it finishes now was answered by another: the checker looks for second answers.
            time.sleep(1)
    return load.outcome


def _resume(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):  # a call that takes so long costs its process
        process.resume()


def deployed(ground: Ground, n: int) -> Outcome:
    """Two workers of one name are replaced, one after the other; the time is that of the slowest answer meanwhile.

    In turn, SIGTERM goes to the main process and, as systemd does it, to all processes of the worker.
    """
    workers = [ground.start_worker() for _ in range(2)]
    spans: list[tuple[float, float]] = []
    with ExitStack() as stack:
        stack.enter_context(ground.only(*workers))
        with ground.load() as load:
            for number in range(n):
                begun = time.monotonic()
                workers.append(ground.start_worker())
                stack.enter_context(ground.only(workers[-1]))
                leaving = workers[number]
                if number % 2:
                    os.killpg(leaving.pid, signal.SIGTERM)
                else:
                    leaving.terminate()
                leaving.wait(30)
                time.sleep(1)
                spans.append((begun, time.monotonic()))
                load.outcome.n += 1
        load.outcome.recoveries_s = [max(load.ledger.latencies_s(*span)) for span in spans]
        until = time.monotonic() + 5
        while (parked := _parked(ground)) != 2 and time.monotonic() < until:
            time.sleep(0.05)
        if parked != 2:
            load.outcome.failures.append(f"{parked} drains are parked for 2 workers")
    return load.outcome


def _parked(ground: Ground) -> int:
    """How many connections wait for requests."""
    clients = ground.redis.client_list()
    return sum(one["cmd"] == "xreadgroup" and "b" in one["flags"] for one in clients)


def poisoned(ground: Ground, n: int) -> Outcome:
    """A record that exits, faults or hangs in a native call, among 512 requests and in one of 512 records."""
    kinds = (traps.EXIT, traps.SEGFAULT, traps.NATIVE_LOOP)
    worker = ground.start_worker(settings={"SCORELINE_BATCH_LIMIT_S": f"{BATCH_LIMIT_S:g}"})
    outcome = Outcome(n=0)
    with ground.only(worker):
        for number in range(n):
            _poison(ground, worker, outcome, kinds[number % 3], apart=number % 2 == 0)
    return outcome


def memory_taken(ground: Ground, n: int) -> Outcome:
    """A record that takes 8 GB, where a batch may have 1.5; nobody else notices."""
    worker = ground.start_worker(settings={"SCORELINE_MEMORY_LIMIT_MB": "1500"})
    outcome = Outcome(n=0)
    with ground.only(worker):
        for number in range(n):
            _poison(ground, worker, outcome, traps.MEMORY, apart=number % 2 == 0)
        if worker.poll() is not None:
            outcome.failures.append("the worker has ended")
    return outcome


def _poison(
    ground: Ground,
    worker: subprocess.Popen[bytes],
    outcome: Outcome,
    trap: int,
    *,
    apart: bool,
) -> None:
    """Ask for 512 rows, one of them a trap: all others are answered right, and that one has an error."""
    bad = 137
    records = [{"x": float(row), "trap": float(trap) * (row == bad)} for row in range(ROWS)]
    before = {child.pid for child in children_of(worker)}
    begun = time.monotonic()
    values = asyncio.run(_ask(ground, [[one] for one in records] if apart else [records]))
    outcome.recoveries_s.append(time.monotonic() - begun)
    after = {child.pid for child in children_of(worker)}
    outcome.n += 1
    outcome.verdict.accepted += len(records) if apart else 1
    outcome.notes.append(f"trap {trap}: {len(before - after)} pool processes died, {values[bad]}")
    for row, value in enumerate(values):
        if row == bad:
            if value not in ("E_CRASHED", "E_PREDICT"):
                outcome.verdict.wrong.append(f"the trap {trap} is answered {value}")
        elif value == "NoAnswer":
            outcome.verdict.lost.append(f"row {row} beside trap {trap}")
        elif not isinstance(value, float) or abs(value - row) > 1e-9:
            outcome.verdict.wrong.append(f"row {row} beside trap {trap}: {value}")


async def _ask(ground: Ground, requests: list[list[dict[str, float]]]) -> list[float | str]:
    """The value of each record less the shift of its version, or the code of its error; all are sent at one moment."""
    async with AsyncClient(ground.to_clients.url) as client:

        async def ask(records: list[dict[str, float]]) -> list[float | str]:
            request = client.request(MODEL, encode_records(records).body, 100)
            try:
                answer = await client.transport.ask(request, Lane.ONLINE, 100)
                predictions = predictions_of(answer)
            except ScorelineError as error:
                return [str(getattr(error, "code", type(error).__name__))] * len(records)
            return [one.error.code if one.error else one.value - one.version for one in predictions]

        parts = await asyncio.gather(*map(ask, requests))
        return [value for part in parts for value in part]


def clocks_differ(ground: Ground, n: int) -> Outcome:
    """A worker an hour ahead and one an hour behind; no live work is claimed, dead work is."""
    folder = str(Path(__file__).parent / "clock")
    ahead, behind = (
        # A name each: workers of one name take each other's drains.
        ground.start_worker(
            2,
            *("--hostname", f"{name}@here"),
            settings={"PYTHONPATH": folder, "CLOCK_OFFSET_S": offset},
        )
        for name, offset in (("ahead", "3600"), ("behind", "-3600"))
    )
    with ground.only(ahead, behind), ground.load() as load:
        for number in range(n):
            _watch_deliveries(ground, load.outcome, 1 if ground.is_brief else 10)
            victim = ground.busy_child((ahead, behind)[number % 2])
            since = time.monotonic()
            victim.kill()
            load.recovers(since)
    return load.outcome


def _watch_deliveries(ground: Ground, outcome: Outcome, seconds: float) -> None:
    """No entry in hand of a live process is delivered to another one."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if ground.most_deliveries() > 1:
            outcome.failures.append("live work was claimed")
            return
        time.sleep(0.1)


_CRASHING_CLIENT = """
import os, sys, pathlib
from scoreline_client import Client
from tests.faults.ledger import JOB, Writer
url, path, count = sys.argv[1:]
for number in range(int(count)):
    child = os.fork()
    if not child:
        x = float(number)
        job = Client(url).submit({model!r}, [{{"x": x, "trap": 0.0}}])
        Writer(pathlib.Path(path)).asked(job.id, JOB, [x])
        os._exit(9)
    os.waitpid(child, 0)
"""


def client_crashed(ground: Ground, n: int) -> Outcome:
    """Clients that end between their submission and its answer; another one attaches by the id."""
    assert ground.worker.poll() is None
    ledger = Ledger(ground.folder / f"ledger-crashed-{time.monotonic_ns()}")
    path = ledger.folder / "client.jsonl"
    code = _CRASHING_CLIENT.format(model=MODEL)
    command = [sys.executable, "-c", code, ground.to_clients.url, str(path), str(n)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True)
    ledger.read()
    outcome = Outcome(n=len(ledger.requests))
    writer = Writer(path)
    with Client(ground.to_clients.url) as client:
        for request in [one.id for one in ledger.requests.values() if one.kind == JOB]:
            begun = time.monotonic()
            (prediction,) = client.job(request).result(10)
            outcome.recoveries_s.append(time.monotonic() - begun)
            writer.answered(request, prediction.version, [prediction.value])
    outcome.verdict = ledger.check(stored_results(ground.redis, ground.keys), ground.offline)
    outcome.failures += [f"{name} stays for ever" for name in ground.keys_without_end()]
    return outcome
