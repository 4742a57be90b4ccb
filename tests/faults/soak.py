"""`make soak`: hours in half an hour. Load, files, releases, kills, clients that come and go; everything stays flat.

`python -m tests.faults.soak [MINUTES]`. It samples the memory (PSS), file descriptors and threads of every kind of
process and what the server holds, and prints the slope of each with the interval in which it is by 95 %.
"""

from __future__ import annotations

import csv
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
from rich.console import Console
from rich.table import Table

from scoreline_artifacts.store import releases
from scoreline_client.errors import ScorelineError
from scoreline_client.fleet import announce_release, read_reports
from scoreline_tasks.dev.local_worker import scoreline
from scoreline_tasks.dev.processes import interruptible
from tests.faults.ground import Ground, Observed, environment, forget_settings, ground
from tests.faults.load import MODEL
from tests.faults.model import publish_version

MINUTES = 30.0
RATE = 120.0
SAMPLE_S = 5.0
RELEASE_S, KILL_S, VISIT_S = 60.0, 20.0, 10.0
FILE_ROWS = 20_000
RESULT_TTL_S = 60
"""Results stay a minute, so that the server is in a steady state after one."""
WARM_UP_S = 240.0
"""What is no steady state yet: the records of jobs stay three minutes."""
_MIB = 1 << 20
_VISIT = f"""
from scoreline_client import Client
with Client() as client:
    for x in range(20):
        assert abs(client.predict({MODEL!r}, {{"x": float(x), "trap": 0.0}}, timeout=20).value - x) > 0.5
"""

LIMITS = {
    "main process, MiB": 6.0,
    "process of the pool, MiB": 6.0,
    "client, MiB": 6.0,
    "server, MiB": 6.0,
    "server, MiB in use": 3.0,
    "server, keys": 200.0,
    "main process, files": 4.0,
    "process of the pool, files": 4.0,
    "client, files": 4.0,
    "server, files": 8.0,
    "main process, threads": 2.0,
    "process of the pool, threads": 2.0,
    "client, threads": 2.0,
}
"""By how much each may grow in an hour; what grows more for certain fails."""


@dataclass(frozen=True)
class Slope:
    """How much something grows in an hour, by least squares, and the half of its interval of 95 %."""

    per_hour: float
    half: float
    mean: float

    @classmethod
    def of(cls, at_s: Sequence[float], values: Sequence[float]) -> Slope:
        """The slope of values over time; without a limit to its interval where there are too few."""
        if len(values) < 3 or min(at_s) == max(at_s):
            return cls(0.0, math.inf, statistics.fmean(values) if values else math.nan)
        fitted = statistics.linear_regression(at_s, values)
        rest = [v - fitted.intercept - fitted.slope * t for t, v in zip(at_s, values, strict=True)]
        middle = statistics.fmean(at_s)
        spread = sum((t - middle) ** 2 for t in at_s)
        error = math.sqrt(sum(r * r for r in rest) / (len(rest) - 2) / spread)
        return cls(fitted.slope * 3600, 1.96 * error * 3600, statistics.fmean(values))


class Samples:
    """What was seen over time, by what it is."""

    def __init__(self) -> None:
        self.found: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def take(self, ground: Ground) -> None:
        """Look at all processes and at the server once."""
        now = time.monotonic()
        reports = read_reports(ground.redis, ground.keys)
        pool = [one.pid for one in reports if one.scores]
        assert ground.server is not None
        kinds = {
            "main process": [ground.worker.pid],
            "process of the pool": pool,
            "client": [p.pid for p in psutil.Process().children() if _is_load(p)],
            "server": [ground.server.pid],
        }
        for kind, pids in kinds.items():
            seen = [one for one in map(_look_at, pids) if one]
            for name, values in zip(
                ("MiB", "files", "threads"), zip(*seen, strict=True), strict=False
            ):
                # Of a process that is just being forked not everything is there yet.
                self.found[f"{kind}, {name}"].append((now, statistics.median(values)))
        memory = ground.redis.info("memory")["used_memory"]
        self.found["server, MiB in use"].append((now, memory / _MIB))
        self.found["server, keys"].append((now, ground.redis.dbsize()))

    def slopes(self) -> dict[str, Slope]:
        """The slope of each, after the warm-up."""
        slopes = {}
        for name in LIMITS:
            some = self.found[name]
            some = [one for one in some if one[0] > some[0][0] + WARM_UP_S]
            slopes[name] = Slope.of([at for at, _ in some], [value for _, value in some])
        return slopes


def _look_at(pid: int) -> tuple[float, int, int] | None:
    try:
        process = psutil.Process(pid)
        return process.memory_full_info().pss / _MIB, process.num_fds(), process.num_threads()
    except psutil.Error:
        return None  # it was killed just now


def _is_load(process: psutil.Process) -> bool:
    try:
        return "tests.faults.load" in process.cmdline()
    except psutil.Error:
        return False


@dataclass
class Soak:
    """A run."""

    ground: Ground
    load: Observed
    until: float
    dice: random.Random
    counts: dict[str, int]
    failures: list[str]

    def every(self, seconds: float, what: str, work: Callable[[], None]) -> threading.Thread:
        """Do something again and again, in a thread, until the end."""

        def run() -> None:
            due = time.monotonic() + seconds
            while due < self.until:
                time.sleep(max(0.0, due - time.monotonic()))
                due = max(due + seconds, time.monotonic())
                try:
                    work()
                    self.counts[what] += 1
                # One that fails is a finding; the others go on.
                except Exception as error:  # noqa: BLE001
                    self.failures.append(f"{what}: {error!r}")

        thread = threading.Thread(target=run, name=what)
        thread.start()
        return thread

    def release(self) -> None:
        """Publish and release the next version."""
        releases.promote(self.ground.store, MODEL, publish_version(self.ground.store))
        announce_release(self.ground.redis, self.ground.keys, MODEL)

    def kill(self) -> None:
        """kill -9 for one of the processes that score."""
        reports = read_reports(self.ground.redis, self.ground.keys)
        victims = [one.pid for one in reports if one.scores]
        if victims:
            os.kill(self.dice.choice(victims), signal.SIGKILL)

    def visit(self) -> None:
        """A client that comes, asks and goes."""
        self._run([sys.executable, "-c", _VISIT])

    def score(self) -> None:
        """Score a file, all rows of which are good."""
        source, target = self.ground.folder / "rows.csv", self.ground.folder / "scored.csv"
        target.unlink(missing_ok=True)
        self._run(scoreline("score", MODEL, str(source), str(target)))

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ScorelineError(f"exit code {done.returncode}: {done.stderr[-500:]}")


def soak(minutes: float, seed: int, console: Console) -> int:
    """Run for so long; 1 if anything was lost, wrong or twice, or grows."""
    settings = {"SCORELINE_RESULT_TTL_S": str(RESULT_TTL_S)}
    with environment(settings), ground(seed, RATE) as made:
        with (made.folder / "rows.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["x", "trap"])
            rows.writerows([x, 0] for x in range(FILE_ROWS))
        samples = Samples()
        assert made.worker.poll() is None
        with _reaches(made), made.load() as load:
            until = time.monotonic() + minutes * 60
            run = Soak(made, load, until, random.Random(seed), defaultdict(int), [])
            threads = [
                run.every(RELEASE_S, "releases", run.release),
                run.every(KILL_S, "kills", run.kill),
                run.every(VISIT_S, "visits", run.visit),
                run.every(1.0, "files", run.score),
            ]
            while time.monotonic() < until:
                time.sleep(SAMPLE_S)
                samples.take(made)
            for thread in threads:
                thread.join()
        verdict = load.outcome.verdict
        console.print(
            f"{verdict.accepted:,} requests, {dict(run.counts)}; found: {verdict}", highlight=False
        )
        growing = _show(console, samples.slopes())
        for failure in run.failures[:20]:
            console.print(failure, highlight=False, markup=False)
        return int(bool(growing or run.failures or verdict.lost or verdict.twice or verdict.wrong))


@contextmanager
def _reaches(made: Ground) -> Iterator[None]:
    """Let programs that are started find the server and the store."""
    where = {
        "SCORELINE_REDIS_URL": made.to_clients.url,
        "SCORELINE_ARTIFACTS": str(made.store.root),
    }
    with environment(where):
        yield


def _show(console: Console, slopes: dict[str, Slope]) -> list[str]:
    shown = Table("", "mean", "in an hour", "95 %", "limit", "")
    growing = []
    for name, slope in slopes.items():
        is_growing = slope.per_hour - slope.half > LIMITS[name]
        growing += [name] if is_growing else []
        shown.add_row(
            name, f"{slope.mean:.1f}", f"{slope.per_hour:+.2f}", f"± {slope.half:.2f}",
            f"{LIMITS[name]:g}", "grows" if is_growing else "flat",
        )  # fmt: skip
    console.print(shown)
    return growing


def main(arguments: list[str]) -> int:
    """Run it for as many minutes as the first argument or SOAK_MINUTES says."""
    minutes = float(arguments[0] if arguments else os.environ.get("SOAK_MINUTES", MINUTES))
    seed = int(os.environ.get("SOAK_SEED", random.randrange(1_000_000)))
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(f"seed {seed}, {minutes:g} minutes")
    forget_settings()
    with interruptible():
        return soak(minutes, seed, console)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
