"""What every benchmark stands on: a server and a store of its own, with the Pima model released."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from redis import Redis

from scoreline_artifacts import Store
from scoreline_artifacts.loading.artifact import load
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.dev.local_worker import (
    WorkerEnvironment,
    local_worker,
    scoreline,
    wait_until_reporting,
)
from scoreline_tasks.dev.processes import running
from scoreline_tasks.dev.server import embedded_server

QUEUE = "benchmark"
MODEL = "pima"
PROCESSES = 2
MAX_CLIENTS = "16000"
"""A thousand processes and clients have more than the 10,000 that a server takes by itself."""
READY_S = 180.0
"""Seconds that a worker may take to load all that is released."""
# One thread for every numeric library of every side: the processes are the workers.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


@dataclass(frozen=True)
class Stage:
    """Where a benchmark takes place."""

    folder: Path
    redis_url: str
    queue: str = QUEUE

    @property
    def where(self) -> WorkerEnvironment:
        return WorkerEnvironment(
            redis_url=self.redis_url,
            artifacts=self.folder / "store",
            queue=self.queue,
            own=self.folder,
        )

    @property
    def environment(self) -> dict[str, str]:
        """What every program of either side is told."""
        return self.where.environment | ONE_THREAD

    @property
    def whole_environment(self) -> dict[str, str]:
        """The same, for programs that do not inherit it."""
        return {**os.environ, **self.environment}

    @property
    def store(self) -> Store:
        """The store that the workers read."""
        return Store(self.folder / "store")

    def load(self, model: str = MODEL) -> LoadedVersion:
        """A released model in this process, to be asked without a queue."""
        return load(self.store, model, 1)

    @contextmanager
    def worker(
        self,
        *,
        processes: int = PROCESSES,
        model: str = MODEL,
        settings: Mapping[str, str] | None = None,
    ) -> Iterator[psutil.Process]:
        """A Scoreline worker that serves the model; `settings` are environment variables of its own."""
        with (
            (self.folder / "worker.log").open("ab") as log,
            _environment(settings or {}),
            local_worker(
                self.where, concurrency=processes, loglevel="WARNING", output=log
            ) as child,
            Redis.from_url(self.redis_url) as redis,
        ):
            wait_until_reporting(
                child, redis, Keys(self.queue), processes=processes, model=model, timeout_s=READY_S
            )
            yield psutil.Process(child.pid)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Variables that this process's children inherit inside the block."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def stage() -> Iterator[Stage]:
    """Start the server and publish the model; everything is gone at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="scoreline-bench-") as name,
        embedded_server(options={"maxclients": MAX_CLIENTS}) as url,
    ):
        made = Stage(Path(name), url)
        log = made.folder / "train.log"
        with (
            log.open("wb") as output,
            running(scoreline("train", MODEL, "--promote"), made.environment, output) as child,
        ):
            if child.wait() != 0:
                raise subprocess.CalledProcessError(
                    child.returncode, "scoreline train", log.read_text()
                )
        yield made
