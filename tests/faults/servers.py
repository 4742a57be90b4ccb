"""Faults of the server: it is killed, full, flushed, busy, loses its last second, or another takes its place."""

from __future__ import annotations

import multiprocessing
import threading
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from redis import Redis

from scoreline_client import Client
from scoreline_client.errors import QueueFull, ScorelineError
from scoreline_client.protocol.keys import GROUP, Lane
from scoreline_client.protocol.messages import Answer
from scoreline_tasks.dev.server import HOST, free_port, server_process
from tests.faults.ground import Ground, Outcome
from tests.faults.ledger import JOB, Ledger, Writer, stored_results
from tests.faults.load import MODEL

PRODUCERS = 4
MEGABYTE = 1_000_000
REFUSED_WITHIN_S, ALONE_EVERY_S = 0.05, 0.02


def server_killed(ground: Ground, n: int, down_s: float = 1.0) -> Outcome:
    """kill -9 for the server, which starts again on its append-only file."""
    assert ground.worker.poll() is None
    with ground.load() as load:
        for _ in range(n):
            ground.kill_server()
            time.sleep(down_s)
            ground.start_server()
            load.recovers()
    return load.outcome


def server_away_for_long(ground: Ground, n: int) -> Outcome:
    """The same, and it is away for 45 s."""
    return server_killed(ground, n, down_s=45.0)


def power_lost(ground: Ground, n: int) -> Outcome:
    """The last second of the append-only file never reached the disk; the loss is counted in seconds.

    A model: the file is cut to the length that it had a second before the end.
    """
    outcome = Outcome(n=n)
    for number in range(n):
        with ExitStack() as stack:
            port, data = free_port(), ground.folder / f"power-{number}"
            server = stack.enter_context(server_process(port, data, {}))
            accepted = _accept(port, data, 3 if ground.is_brief else 10)
            server.kill()
            server.wait()
            ended_at, ids, lengths = accepted
            (file,) = data.glob("appendonlydir/*.incr.aof")
            then = max(length for at, length in lengths if at <= ended_at - 1)
            with file.open("r+b") as opened:
                opened.truncate(then)
            again = free_port()
            stack.enter_context(server_process(again, data, {"aof-load-truncated": "yes"}))
            redis = stack.enter_context(Redis(port=again))
            jobs = redis.mget([ground.keys.job(one) for one in ids])
        gone = [at for at, job in zip(ids.values(), jobs, strict=True) if job is None]
        outcome.verdict.accepted += len(ids)
        outcome.verdict.lost += [f"{ended_at - at:.2f} s before the end" for at in gone]
        outcome.recoveries_s.append(ended_at - min(gone, default=ended_at))
    return outcome


def _accept(
    port: int, data: Path, seconds: float
) -> tuple[float, dict[str, float], list[tuple[float, int]]]:
    """Submit jobs for a while; returns the end, when each was accepted, and the file's length over time."""
    ids: dict[str, float] = {}
    lengths: list[tuple[float, int]] = []
    with Client(f"redis://{HOST}:{port}/0") as client:
        begun = time.monotonic()
        for number in count():
            job = client.submit(MODEL, [{"x": float(number), "trap": 0.0}])
            now = time.monotonic()
            ids[job.id] = now
            (file,) = data.glob("appendonlydir/*.incr.aof")
            lengths.append((now, file.stat().st_size))
            if now - begun > seconds:
                return now, ids, lengths
    raise AssertionError


def connections_killed(ground: Ground, n: int) -> Outcome:
    """CLIENT KILL of all connections 50 times in 10 s; CLIENT PAUSE and DEBUG SLEEP for 10 s."""
    assert ground.worker.poll() is None
    kills, silence_s = (10, 1.5) if ground.is_brief else (50, 10.0)
    with ground.load() as load:
        for _ in range(n):
            for _ in range(kills):
                for kind in ("normal", "pubsub"):
                    ground.redis.client_kill_filter(_type=kind, skipme=True)
                time.sleep(0.2)
            load.recovers()
            ground.redis.client_pause(int(silence_s * 1000))
            time.sleep(silence_s)
            load.recovers()
            ground.redis.execute_command("DEBUG", "SLEEP", silence_s)
            load.recovers()
    return load.outcome


def full(ground: Ground, n: int) -> Outcome:
    """Producers without a brake fill a server: a refusal is quick, and what is accepted is answered.

    How quick is measured by a caller in a process of its own: the threads of producers wait for each other.
    """
    assert ground.worker.poll() is None
    outcome = Outcome(n=n)
    room, seconds = (MEGABYTE, 4.0) if ground.is_brief else (32 * MEGABYTE, 60.0)
    for _ in range(n):
        ground.forget_results()
        used = int(ground.redis.info("memory")["used_memory"])
        ground.redis.config_set("maxmemory", used + room)
        now = time.monotonic_ns()
        ledger, of_alone = (Ledger(ground.folder / f"{name}-{now}") for name in ("full", "alone"))
        alone = multiprocessing.get_context("spawn").Process(
            target=_ask_alone, args=(ground.to_clients.url, of_alone.folder, seconds), daemon=True
        )
        try:
            alone.start()
            _produce(ground, ledger.folder, seconds)
            alone.join()
            ended_at, lanes = time.monotonic(), [ground.keys.lane(lane) for lane in Lane]
            while any(ground.redis.xlen(lane) for lane in lanes):
                if time.monotonic() - ended_at > 60:
                    outcome.failures.append("the queue does not become empty")
                    break
                time.sleep(0.05)
            outcome.recoveries_s.append(time.monotonic() - ended_at)
        finally:
            ground.redis.config_set("maxmemory", 0)
        if not _collect(ground, ledger, outcome, "producers"):
            outcome.failures.append("nothing was refused")
        slowest_s = _collect(ground, of_alone, outcome, "a caller beside them")
        if slowest_s > REFUSED_WITHIN_S and not ground.is_brief:
            outcome.failures.append(f"a refusal took {slowest_s * 1000:.0f} ms")
        ground.forget_results()
    return outcome


def _ask_alone(url: str, folder: Path, seconds: float) -> None:
    """Submit a job some fifty times a second, and write down what becomes of it."""
    writer, x = Writer(folder / "alone.jsonl"), PRODUCERS * 1e6
    with Client(url) as client:
        until = time.monotonic() + seconds
        while (begun := time.monotonic()) < until:
            x += 1
            try:
                job = client.submit(MODEL, [{"x": x, "trap": 0.0}])
            except ScorelineError as error:
                writer.refused(type(error).__name__, time.monotonic() - begun)
            else:
                writer.asked(job.id, JOB, [x])
            time.sleep(ALONE_EVERY_S)


def _produce(ground: Ground, folder: Path, seconds: float) -> None:
    until = time.monotonic() + seconds

    def produce(number: int) -> None:
        writer = Writer(folder / f"producer-{number}.jsonl")
        with Client(ground.to_clients.url) as client:
            x = number * 1e6
            while (begun := time.monotonic()) < until:
                x += 16
                xs = [x + row for row in range(16)]
                try:
                    job = client.submit(MODEL, [{"x": one, "trap": 0.0} for one in xs])
                except ScorelineError as error:
                    writer.refused(type(error).__name__, time.monotonic() - begun)
                else:
                    writer.asked(job.id, JOB, xs)

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(PRODUCERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _collect(ground: Ground, ledger: Ledger, outcome: Outcome, whose: str) -> float:
    """Take the results of all accepted jobs from the server, and check them; returns the slowest refusal in seconds, 0 without any."""
    ledger.read()
    read, writer = stored_results(ground.redis, ground.keys), Writer(ledger.folder / "read.jsonl")
    for request, data in zip(ledger.requests, read(list(ledger.requests)), strict=True):
        if data is not None and (answer := Answer.decode(data)).version:
            writer.answered(request, answer.version, answer.values)
    found = ledger.check(read, ground.offline)
    verdict = outcome.verdict
    verdict.accepted += found.accepted
    verdict.lost += found.lost
    verdict.twice += found.twice
    verdict.wrong += found.wrong
    verdict.late += found.late
    took = sorted(took_s for _, took_s in ledger.refusals)
    outcome.failures += {error for error, _ in ledger.refusals if error != QueueFull.__name__}
    if not took:
        return 0.0
    p99, most = took[int(len(took) * 0.99)], took[-1]
    told = f"{len(took)} refused, p99 {p99 * 1000:.0f} ms, max {most * 1000:.0f} ms"
    outcome.notes.append(f"{whose}: {told}")
    return most


def flushed(ground: Ground, n: int) -> Outcome:
    """FLUSHALL, XGROUP DESTROY, and DELCONSUMER of a process that has requests in hand."""
    worker = ground.worker
    lane = ground.keys.lane(Lane.ONLINE)
    flushed_at = 0.0
    with ground.load(allowed=["JobLost"]) as load:
        for _ in range(n):
            ground.redis.xgroup_destroy(lane, GROUP)
            load.recovers()
            victim = ground.busy_child(worker)
            for consumer in ground.redis.xinfo_consumers(lane, GROUP):
                if consumer["name"].endswith(b"/%d" % victim.pid):
                    ground.redis.xgroup_delconsumer(lane, GROUP, consumer["name"])
            load.recovers()
        ground.redis.flushall()
        flushed_at = time.monotonic()
        load.recovers(of=flushed_at)
    requests = load.ledger.requests
    lost = load.outcome.verdict.lost
    gone = [one for one in lost if requests[one.split()[0]].at < flushed_at]
    load.outcome.verdict.lost = [one for one in lost if one not in gone]
    load.outcome.notes.append(f"{len(gone)} lists went with FLUSHALL, of {len(requests)} requests")
    return load.outcome


def replica_promoted(ground: Ground, n: int) -> Outcome:
    """A replica takes the primary's place behind the same address, there and back; the loss is counted."""
    assert ground.worker.poll() is None
    other_port = free_port()
    with (
        server_process(other_port, ground.folder / f"replica-{other_port}", {}),
        Redis(port=other_port) as other,
        ground.load() as load,
    ):
        servers = [(ground.port, ground.redis), (other_port, other)]
        for _ in range(2 * max(1, n // 2)):
            (old_port, old), (new_port, new) = servers
            new.replicaof(HOST, old_port)
            load.wait(lambda new=new: _is_in_step(new), "the replica does not follow")
            new.replicaof("NO", "ONE")
            for proxy in (ground.to_clients, ground.to_workers):
                proxy.lead_to(new_port)
            old.replicaof(HOST, new_port)
            load.recovers()
            servers.reverse()
    ground.change_worker()
    return load.outcome


def _is_in_step(replica: Redis) -> bool:
    found = replica.info("replication")
    return found["role"] == "slave" and found["master_link_status"] == "up"
