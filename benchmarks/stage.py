"""What every benchmark stands on: a server and a store of its own, with the Pima model released."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from scoreline_client.keys import Keys
from scoreline_tasks.children import running
from scoreline_tasks.embedded import embedded_server
from scoreline_tasks.local_worker import (
    Surroundings,
    local_worker,
    scoreline,
    wait_until_reporting,
)

QUEUE = "benchmark"
MODEL = "pima"
PROCESSES = 2
# One thread for every numeric library of every side: the processes are the workers.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


@dataclass(frozen=True)
class Stage:
    """Where a benchmark takes place."""

    folder: Path
    redis_url: str

    @property
    def where(self) -> Surroundings:
        return Surroundings(
            redis_url=self.redis_url,
            artifacts=self.folder / "store",
            queue=QUEUE,
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

    @contextmanager
    def worker(self) -> Iterator[None]:
        """A Scoreline worker that serves the model."""
        with (
            (self.folder / "worker.log").open("wb") as log,
            local_worker(
                self.where, concurrency=PROCESSES, loglevel="WARNING", output=log
            ) as child,
            Redis.from_url(self.redis_url) as redis,
        ):
            wait_until_reporting(child, redis, Keys(QUEUE), processes=PROCESSES, model=MODEL)
            yield


@contextmanager
def stage() -> Iterator[Stage]:
    """Start the server and publish the model; everything is gone at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="scoreline-bench-") as name,
        embedded_server() as url,
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
