"""`scoreline up`, from typing it to the first answer; and what the program takes that says no more than its version."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

from benchmarks.measures import Row, alone, at_most
from benchmarks.stage import MODEL, QUEUE, Stage
from scoreline_client import Client
from scoreline_tasks.dev.demo import records
from scoreline_tasks.dev.local_worker import scoreline
from scoreline_tasks.dev.processes import running
from scoreline_tasks.dev.server import HOST, free_port

REPEATS = 5
VERSIONS = 20
GIVE_UP_S = 60.0


def measure(stage: Stage) -> list[Row]:
    """Each time with a server that has no data yet; the model is released already."""
    took = [_start(stage, stage.folder / f"up-{number}") for number in range(REPEATS)]
    versions = [_version(stage) for _ in range(VERSIONS)]
    return [
        alone("scoreline up to the first answer", "s", took, goal=at_most(3.5)),
        alone("scoreline --version", "ms", versions, goal=at_most(120)),
    ]


def _version(stage: Stage) -> float:
    begun = time.perf_counter()
    subprocess.run(
        scoreline("--version"), env=stage.whole_environment, check=True, capture_output=True
    )
    return (time.perf_counter() - begun) * 1000


def _start(stage: Stage, data: Path) -> float:
    port = free_port()
    url = f"redis://{HOST}:{port}/0"
    environment = stage.environment | {"SCORELINE_REDIS_URL": url}
    command = scoreline("up", "--port", str(port), "--data", str(data))
    with (stage.folder / "up.log").open("ab") as log:
        begun = time.perf_counter()
        with running(command, environment, log), Client(url, queue=QUEUE) as client:
            _wait_for_server(port)
            client.predict(MODEL, records(1)[0], timeout=GIVE_UP_S)
            return time.perf_counter() - begun


def _wait_for_server(port: int) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return
