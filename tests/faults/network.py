"""Faults of the network between the server and those who use it."""

from __future__ import annotations

import time

from tests.faults.ground import Ground, Outcome


def half_open_workers(ground: Ground, n: int) -> Outcome:
    """All connections of a worker fall silent without an end; new ones pass."""
    assert ground.worker.poll() is None
    with ground.load() as load:
        for _ in range(n):
            since = time.monotonic()
            ground.to_workers.stall()
            load.recovers(since)
    ground.change_worker()
    return load.outcome


def half_open_clients(ground: Ground, n: int) -> Outcome:
    """All connections of the clients fall silent without an end; new ones pass."""
    assert ground.worker.poll() is None
    with ground.load() as load:
        for _ in range(n):
            since = time.monotonic()
            ground.to_clients.stall()
            load.recovers(since)
    return load.outcome


def replies_lost(ground: Ground, n: int) -> Outcome:
    """The server does what it is told, and its reply is lost: to a submission, and to a finish."""
    assert ground.worker.poll() is None
    with ground.load() as load:
        for number in range(n):
            proxy = (ground.to_clients, ground.to_workers)[number % 2]
            before = proxy.dropped
            proxy.drop_reply(b"EVALSHA")
            load.wait(lambda proxy=proxy, before=before: proxy.dropped > before, "no command")
            load.recovers()
    return load.outcome


def slow(ground: Ground, n: int) -> Outcome:
    """200 ms more for each round trip, and 1 MB a second, on both sides: no error, no claim of live work."""
    assert ground.worker.poll() is None
    seconds = 5 if ground.is_brief else 30
    with ground.load() as load:
        for _ in range(n):
            for proxy in (ground.to_workers, ground.to_clients):
                proxy.slow(delay_s=0.1, bytes_per_s=1e6)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if ground.most_deliveries() > 1:
                    load.outcome.failures.append("live work was claimed")
                time.sleep(0.1)
            for proxy in (ground.to_workers, ground.to_clients):
                proxy.heal()
            load.recovers()
        load.ledger.read()
        load.outcome.failures += {f"refused: {error}" for error, _ in load.ledger.refusals}
    return load.outcome
