"""Real worker processes on a private server, and a model whose versions can be told apart."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pandas as pd
import psutil
import pytest
from redis import Redis
from sklearn.linear_model import LinearRegression

from scoreline_artifacts import KeyRing, Store, golden
from scoreline_artifacts.manifest import GOLDEN, PIPELINE
from scoreline_artifacts.packaging import pickling
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.store import describe_file
from scoreline_client.cli.acl import HASH, Role, users
from scoreline_client.protocol.keys import Keys
from scoreline_client.settings import ClientSettings
from scoreline_tasks.dev.local_worker import (
    WorkerEnvironment,
    local_worker,
    scoreline,
    wait_until_reporting,
)
from scoreline_tasks.dev.server import embedded_server
from scoreline_training import publish
from tests.support.publishing import no_report

MODEL = "shift"
WORD = "a-word-for-all"

POOLS = [
    "prefork",
    *(pytest.param(pool, marks=pytest.mark.exhaustive) for pool in ("solo", "threads")),
]
"""Celery's pools that serve: the default one, and in exhaustive runs the others."""


def publish_shift(store: Store, shift: float) -> int:
    """Publish a model that answers x + shift.

    The first version is made by publish(). The others are that version with another pipeline and its golden
    rows: a test that publishes twenty has no use for twenty proofs and reports.
    """
    frame = pd.DataFrame({"x": [float(number) for number in range(50)]})
    fitted = LinearRegression().fit(frame, frame["x"] + shift)
    if MODEL not in store.models():
        return publish(fitted, MODEL, frame, store=store, promote=False).version
    like = store.manifest(MODEL, 1)
    records = [row.record for row in golden.decode(store.read(like, GOLDEN))]
    answers = fitted.predict(pd.DataFrame(records))
    files = store.read_all(like) | {
        PIPELINE: pickling.dump(fitted).data,
        GOLDEN: golden.encode(golden.rows_of(records, answers, None)),
    }
    described = {name: describe_file(data) for name, data in files.items()}
    return store.publish(replace(like, files=described), files).version


def publish_evil(store: Store, act: Callable[..., object], *arguments: object) -> int:
    """Publish what calls a function as soon as it is unpickled, past all that publish() proves."""
    like = store.manifest(MODEL, 1)
    files = {
        PIPELINE: pickle.dumps(_Act(act, arguments)),
        GOLDEN: store.read(like, GOLDEN),
    }
    described = {name: describe_file(data) for name, data in files.items()}
    return store.publish(replace(like, files=described), files).version


@dataclass
class _Act:
    function: Callable[..., object]
    arguments: tuple[object, ...]

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.function, self.arguments


@pytest.fixture(autouse=True)
def _without_report() -> Iterator[None]:
    """What the tests themselves publish has no training report: no worker reads it."""
    with no_report():
        yield


@dataclass
class Fleet:
    """A private server, a store, and workers that come and go."""

    url: str
    redis: Redis
    store: Store
    log: Path
    stack: ExitStack

    @property
    def keys(self) -> Keys:
        return Keys("default")

    @property
    def settings(self) -> ClientSettings:
        return ClientSettings(redis_url=self.url)

    @property
    def environment(self) -> dict[str, str]:
        """For programs that are to find this server and this store."""
        where = WorkerEnvironment(redis_url=self.url, artifacts=self.store.root)
        return {**os.environ, **where.environment}

    def scoreline(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the shell and wait for its end."""
        return subprocess.run(
            scoreline(*arguments), env=self.environment, capture_output=True, text=True, check=False
        )

    def start_worker(
        self,
        processes: int = 2,
        *options: str,
        own: Path | None = None,
        model: str | None = MODEL,
    ) -> subprocess.Popen[bytes]:
        """Start a worker, with `own` keys and cache, and wait until that many new processes serve `model` if given."""
        where = WorkerEnvironment(redis_url=self.url, artifacts=self.store.root, own=own)
        output = self.stack.enter_context(self.log.open("ab"))
        worker = self.stack.enter_context(
            local_worker(where, *options, concurrency=processes, output=output)
        )
        # Warm shutdown takes seconds; tests that are about it ask for it themselves.
        self.stack.callback(_kill_if_alive, worker)
        wait_until_reporting(worker, self.redis, self.keys, processes=processes, model=model)
        return worker


@pytest.fixture(scope="session")
def first_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which version 1 is published and not released, and the keys that have signed it."""
    folder = tmp_path_factory.mktemp("first-version")
    publish_shift(Store(folder / "store", KeyRing(folder / "keys")), 1.0)
    return folder


@pytest.fixture
def fleet(
    redis_url: str,
    redis_client: Redis,
    first_version: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Fleet]:
    """A fleet without workers whose store has released version 1, which answers x + 1."""
    monkeypatch.setenv("SCORELINE_REDIS_URL", redis_url)
    shutil.copytree(first_version / "keys", os.environ["SCORELINE_KEYS"])
    store = Store(shutil.copytree(first_version / "store", tmp_path / "store"))
    releases.promote(store, MODEL, 1)
    with ExitStack() as stack:
        yield Fleet(redis_url, redis_client, store, tmp_path / "worker.log", stack)


SETTLED_S = 0.2


def children_of(worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes of a worker's pool that live; throw-away processes lead groups of their own, a moment after their start."""
    children = []
    for child in psutil.Process(worker.pid).children():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            # A process of a worker that has just started may be as young as one that is thrown away.
            time.sleep(max(0.0, child.create_time() + SETTLED_S - time.time()))
            if lives(child) and os.getpgid(child.pid) == worker.pid:
                children.append(child)
    return children


def lives(process: psutil.Process) -> bool:
    """Whether a process has not ended yet."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def kill_child(worker: subprocess.Popen[bytes], place: int) -> Callable[[], bool]:
    """kill -9 for a process of a worker's pool; returns a question: has another taken its place?"""
    victim = children_of(worker)[place]
    victim.kill()
    # During a release there may be more: a successor starts beside the process that it replaces.
    arguments = [str(argument) for argument in cast("Sequence[str]", worker.args)]
    processes = int(arguments[arguments.index("--concurrency") + 1])

    def replaced() -> bool:
        now = children_of(worker)
        return victim not in now and len(now) >= processes

    return replaced


def kill_group(worker: subprocess.Popen[bytes]) -> None:
    """kill -9 for a worker and all of its children at once."""
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def _kill_if_alive(worker: subprocess.Popen[bytes]) -> None:
    if worker.poll() is None:
        kill_group(worker)


def answers(values: list[float], shift: float) -> Any:
    """What version `shift` gives for each value."""
    return pytest.approx([value + shift for value in values])


@pytest.fixture
def is_controlled() -> bool:
    """Whether workers listen to remote control."""
    return False


@pytest.fixture
def guarded(tmp_path: Path, is_controlled: bool) -> Iterator[Callable[[Role], str]]:
    """A server with the printed users and no others; gives the URL of a role."""
    lines = users(list(Role), "default", database=0, remote_control=is_controlled, as_file=True)
    word = "#" + hashlib.sha256(WORD.encode()).hexdigest()
    (tmp_path / "users.acl").write_text("\n".join(lines).replace(HASH, word))
    with embedded_server(options={"aclfile": str(tmp_path / "users.acl")}) as url:
        address = url.partition("://")[2]
        yield lambda role: f"redis://scoreline-default-{role}:{WORD}@{address}"
