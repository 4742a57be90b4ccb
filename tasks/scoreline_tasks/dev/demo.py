"""`scoreline demo`: the whole story, on a server and in a directory of its own."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from redis import Redis
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scoreline_client.errors import RecordRejected, ScorelineError
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.dev.local_worker import (
    Surroundings,
    local_worker,
    scoreline,
    wait_until_reporting,
)
from scoreline_tasks.dev.processes import running
from scoreline_tasks.dev.sample_rows import records, write_csv
from scoreline_tasks.dev.server import embedded_server

if TYPE_CHECKING:
    from scoreline_tasks.dev.demo_load import Load, Phase

ROWS = 100_000
IN_FLIGHT = 64
PROCESSES = 2
QUIET_S = 1.5
"""Seconds that the load runs before and after the release, to compare with."""
_QUEUE = "demo"
_LOG_LINES = 25


class StepFailed(ScorelineError):
    """Raised when a command of the demo fails; what it printed stands above."""

    def __init__(self, command: str, exit_code: int) -> None:
        super().__init__(f"`{command}` failed with exit code {exit_code}")
        self.command = command
        self.exit_code = exit_code


@dataclass(frozen=True)
class Scene:
    """Where the story takes place."""

    console: Console
    folder: Path
    redis_url: str

    @property
    def where(self) -> Surroundings:
        """What its programs are told."""
        return Surroundings(
            redis_url=self.redis_url,
            artifacts=self.folder / "store",
            queue=_QUEUE,
            own=self.folder,
        )

    def step(self, number: int, title: str) -> None:
        """Announce the next part."""
        self.console.print(f"\n[bold cyan]{number}  {title}[/bold cyan]")

    def command(self, *arguments: str) -> None:
        """Show a `scoreline` command and run it.

        Raises:
            StepFailed: its exit code is not 0.
        """
        shown = "scoreline " + " ".join(arguments)
        self.console.print(f"[dim]$ {escape(shown)}[/dim]", soft_wrap=True)
        self.console.file.flush()
        with running(scoreline(*arguments), self.where.environment) as child:
            if child.wait() != 0:
                raise StepFailed(shown, child.returncode)


def tell(console: Console, rows: int, keep: bool) -> int:
    """Tell the story; gives the exit code: 0 if every request of it was answered.

    Raises:
        ScorelineError: a step failed.
    """
    begun = time.monotonic()
    with _folder(console, keep) as folder, embedded_server(data=folder / "redis") as url:
        console.print(
            f"Everything happens in {folder}, on an embedded Redis server ({url}).",
            highlight=False,
            soft_wrap=True,
        )
        scene = Scene(console, folder, url)
        scene.step(1, "Train on real data, publish, release")
        scene.command("train", "pima", "--promote")
        if not keep:
            console.print("(`scoreline demo --keep` keeps the report, to open it in a browser.)")
        with _worker(scene):
            _score_single_records(scene)
            _score_file(scene, rows)
            load = _release_under_load(scene)
    failed = sum(phase.failures.total() for phase in load.phases)
    _verdict(console, load, failed, time.monotonic() - begun)
    return 1 if failed else 0


@contextmanager
def _folder(console: Console, keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="scoreline-demo-"))
    try:
        yield folder
    finally:
        if keep:
            console.print(f"kept: {folder}", highlight=False, soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _worker(scene: Scene) -> Iterator[None]:
    scene.step(2, f"Start a worker with {PROCESSES} processes")
    scene.console.print(f"[dim]$ celery -A scoreline_tasks worker --concurrency {PROCESSES}[/dim]")
    log = scene.folder / "worker.log"
    try:
        with (
            log.open("wb") as output,
            local_worker(scene.where, concurrency=PROCESSES, output=output) as child,
            Redis.from_url(scene.redis_url) as redis,
        ):
            wait_until_reporting(child, redis, Keys(_QUEUE), processes=PROCESSES, model="pima")
            scene.command("status")
            yield
    except ScorelineError:
        scene.console.print("the end of the worker's log:")
        scene.console.print(escape("\n".join(log.read_text().splitlines()[-_LOG_LINES:])))
        raise


def _score_single_records(scene: Scene) -> None:
    from scoreline_client import Client

    scene.step(3, "Score single records")
    with Client(redis_url=scene.redis_url, queue=_QUEUE) as client:
        for record in records(3, seed=1):
            begun = time.monotonic()
            answer = client.predict("pima", record)
            wait_ms = (time.monotonic() - begun) * 1000
            likely = max(answer.probabilities.values(), default=1.0)
            scene.console.print(
                f"{record}\n  → {answer.value} with probability {likely:.2f}, "
                f"from {answer.model}@{answer.version}, in {wait_ms:.1f} ms",
                soft_wrap=True,
            )
        try:
            client.predict("pima", records(1, seed=2)[0] | {"mass": "heavy"})
        except RecordRejected as error:
            scene.console.print(f"a bad record: [red]{error.code}[/red] {escape(str(error))}")


def _score_file(scene: Scene, rows: int) -> None:
    scene.step(4, f"Score a file of {rows:,} rows")
    source, target = scene.folder / "patients.csv", scene.folder / "scored.csv"
    write_csv(source, rows)
    scene.command("score", "pima", str(source), str(target))
    with target.open() as file:
        for _ in range(3):
            scene.console.print(
                "  " + escape(file.readline().rstrip()), highlight=False, soft_wrap=True
            )


def _release_under_load(scene: Scene) -> Load:
    from scoreline_tasks.dev.demo_load import Load

    scene.step(5, f"Train and release a second version with {IN_FLIGHT} requests in flight")
    load = Load(scene.redis_url, _QUEUE, "pima", IN_FLIGHT)
    load.begin("before")
    with load.running(records(1000, seed=3)):
        load.last(QUIET_S)
        load.begin("training")
        scene.command("train", "pima", "--strength", "0.05")
        load.begin("release")
        scene.command("promote", "pima", "2")
        load.begin("after")
        load.last(QUIET_S)
    return load


def _verdict(console: Console, load: Load, failed: int, seconds: float) -> None:
    console.print(_table(load.phases))
    for phase in load.phases:
        for message, count in phase.failures.most_common(3):
            console.print(f"[red]{count} failed: {escape(message)}[/red]")
    answers = sum(phase.answers for phase in load.phases)
    if not failed:
        console.print(f"[bold green]Nothing failed[/bold green]: {answers:,} requests answered.")
    console.print(f"Everything that was started is stopped. {seconds:.0f} s in all.")


def _table(phases: list[Phase]) -> Table:
    table = Table()
    table.add_column("while")
    versions = sorted({version for phase in phases for version in phase.versions})
    for heading in ("answered", "failed", "per second", "slowest wait"):
        table.add_column(heading, justify="right")
    for version in versions:
        table.add_column(f"pima@{version}", justify="right")
    for phase in phases:
        table.add_row(
            phase.name,
            f"{phase.answers:,}",
            f"{phase.failures.total():,}",
            f"{phase.answers / phase.seconds:,.0f}",
            f"{phase.slowest_s * 1000:.0f} ms",
            *(f"{phase.versions[version]:,}" for version in versions),
        )
    return table
