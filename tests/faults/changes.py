"""Faults of releases: damaged versions, news that are lost or repeated, and many at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from scoreline_artifacts.store import releases
from scoreline_client.fleet import announce_release, convergence, read_reports
from tests.faults.ground import Ground, Observed, Outcome
from tests.faults.load import MODEL
from tests.faults.model import publish_version

DAMAGED = (
    "tests/integration/test_damaged_releases.py",
    "tests/unit/artifacts/store/test_refusals.py",
    "tests/unit/artifacts/store/test_system_errors.py",
    "tests/acceptance/test_evil_artifacts.py",
)
IN_A_ROW = 20


def damaged(_: Ground, n: int) -> Outcome:
    """300 versions cut short or with a bit flipped, unsigned, of other keys, linked, hanging; in tests of their own."""
    return _tests(DAMAGED, n, times=300)


def wakeups(_: Ground, n: int) -> Outcome:
    """All that may happen between a worker's processes, messages and watchdog; in a test of its own."""
    return _tests(("tests/faults/test_wakeups.py",), n, times=100)


def _tests(files: tuple[str, ...], n: int, *, times: int) -> Outcome:
    outcome = Outcome(n=0)
    for _ in range(n):
        every = ["-m", "exhaustive or not exhaustive"]
        command = [sys.executable, "-m", "pytest", "-q", *every, *files]
        done = subprocess.run(
            command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
        )
        outcome.notes.append(done.stdout.strip().splitlines()[-1])
        if done.returncode:
            outcome.failures.append(done.stdout[-2000:])
        outcome.n += times
    return outcome


def news_lost(ground: Ground, n: int) -> Outcome:
    """The news of a release are lost, repeated, late, or their channel is cut; all processes move all the same."""
    assert ground.worker.poll() is None
    with ground.load() as load:
        for number in range(n):
            version = publish_version(ground.store)
            if number % 3 == 1:
                ground.redis.client_kill_filter(_type="pubsub")
            since = time.monotonic()
            releases.promote(ground.store, MODEL, version)
            for _ in range(5 if number % 3 == 2 else 0):
                announce_release(ground.redis, ground.keys, MODEL)
            _converges(load, version)
            load.outcome.n += 1
            load.spans.append((since, since, since))
            converged_at = time.monotonic()
            load.outcome.notes.append(f"{converged_at - since:.1f}")
            load.wait(lambda at=converged_at: load.ledger.answers_since(at + 0.2) > 5, "no answers")
            _serves_nothing_older(load, version, converged_at)
    load.outcome.recoveries_s = [float(one) for one in load.outcome.notes]
    load.outcome.notes.clear()
    return load.outcome


def many_releases(ground: Ground, n: int) -> Outcome:
    """20 releases in 10 s; no process keeps more than two versions. The time is that of the slowest answer."""
    assert ground.worker.poll() is None
    spans: list[tuple[float, float]] = []
    with ground.load() as load:
        for _ in range(n):
            # Before: who publishes is another machine's work.
            versions = [publish_version(ground.store) for _ in range(IN_A_ROW)]
            steady = time.monotonic()
            time.sleep(1 if ground.is_brief else 10)
            begun, most = time.monotonic(), 0
            for number, version in enumerate(versions):
                releases.promote(ground.store, MODEL, version)
                announce_release(ground.redis, ground.keys, MODEL)
                most = max(most, _resident(ground))
                time.sleep(max(0.0, begun + (number + 1) * 10 / IN_A_ROW - time.monotonic()))
            _converges(load, version)
            ended = time.monotonic()
            most = max(most, _resident(ground))
            load.wait(lambda at=ended: load.ledger.answers_since(at + 0.2) > 5, "no answers")
            _serves_nothing_older(load, version, ended)
            load.outcome.n += 1
            spans.append((begun, ended))
            if most > 2:
                load.outcome.failures.append(f"{most} versions in a process")
            before, during = (
                sorted(load.ledger.latencies_s(*span)) for span in ((steady, begun), (begun, ended))
            )
            p99 = [some[int(len(some) * 0.99)] * 1000 for some in (before, during) if some]
            load.outcome.notes.append(f"p99 in ms, before and during: {p99}; {most} resident")
    load.outcome.recoveries_s = [max(load.ledger.latencies_s(*span)) for span in spans]
    return load.outcome


def _converges(load: Observed, version: int) -> None:
    """Wait until all processes serve a version."""
    ground = load.ground

    def all_serve() -> bool:
        reports = read_reports(ground.redis, ground.keys)
        serving, refusing, waiting = convergence(reports, MODEL, "production", version)
        if refusing:
            raise AssertionError(f"version {version} is refused: {refusing}")
        return len(serving) >= 2 and not waiting

    load.wait(all_serve, f"version {version} is not served everywhere")


def _serves_nothing_older(load: Observed, version: int, since: float) -> None:
    """Nothing that is asked once all serve a version is answered by an earlier one."""
    load.ledger.read()
    older = {
        one.version
        for one in load.ledger.requests.values()
        if one.at > since and one.values is not None and one.version < version
    }
    if older:
        load.outcome.failures.append(f"versions {sorted(older)} answer after {version}")


def _resident(ground: Ground) -> int:
    """The most versions of the model that a process has in memory."""
    reports = read_reports(ground.redis, ground.keys)
    found = (len(served.resident) for one in reports for served in one.models.values())
    return max(found, default=0)
