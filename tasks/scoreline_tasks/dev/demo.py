"""`scoreline demo`: the whole story, on a server and in a directory of its own, with made-up rows."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis import Redis
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scoreline_client import AsyncClient, Client
from scoreline_client.errors import RecordRejected, ScorelineError
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.dev.local_worker import (
    WorkerEnvironment,
    local_worker,
    scoreline,
    wait_until_reporting,
)
from scoreline_tasks.dev.processes import running
from scoreline_tasks.dev.server import embedded_server

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ROWS = 100_000
IN_FLIGHT = 64
PROCESSES = 2
QUIET_S = 1.5
"""Seconds that the load runs before and after the release, to compare with."""
_QUEUE = "demo"
_LOG_LINES = 25


class StepFailed(ScorelineError):
    """Raised when a command of the demo fails; its own output stands above."""

    exit_status = 1

    def __init__(self, command: str, exit_code: int) -> None:
        super().__init__(f"`{command}` failed with exit code {exit_code}")
        self.command = command
        self.exit_code = exit_code


@dataclass(frozen=True)
class Demo:
    """One run of the demo: its directory, its server, and the terminal that shows it."""

    console: Console
    folder: Path
    redis_url: str

    @property
    def where(self) -> WorkerEnvironment:
        """The server, store, queue, keys and cache of the programs that it starts."""
        return WorkerEnvironment(
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
        line = "scoreline " + " ".join(arguments)
        self.console.print(f"[dim]$ {escape(line)}[/dim]", soft_wrap=True)
        self.console.file.flush()
        with running(scoreline(*arguments), self.where.environment) as child:
            if child.wait() != 0:
                raise StepFailed(line, child.returncode)

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Run a worker for as long as the block lasts; when it fails, show the end of its log."""
        self.step(2, f"Start a worker with {PROCESSES} processes")
        self.console.print(
            f"[dim]$ celery -A scoreline_tasks worker --concurrency {PROCESSES}[/dim]"
        )
        log = self.folder / "worker.log"
        try:
            with (
                log.open("wb") as output,
                local_worker(self.where, concurrency=PROCESSES, output=output) as child,
                Redis.from_url(self.redis_url) as redis,
            ):
                wait_until_reporting(child, redis, Keys(_QUEUE), processes=PROCESSES, model="pima")
                self.command("status")
                yield
        except ScorelineError:
            self.console.print("the end of the worker's log:")
            self.console.print(escape("\n".join(log.read_text().splitlines()[-_LOG_LINES:])))
            raise

    def score_single_records(self) -> None:
        """Score three records, and send a fourth that is rejected."""
        self.step(3, "Score single records")
        with Client(redis_url=self.redis_url, queue=_QUEUE) as client:
            for record in records(3, seed=1):
                begun = time.monotonic()
                answer = client.predict("pima", record)
                wait_ms = (time.monotonic() - begun) * 1000
                probability = max(answer.probabilities.values(), default=1.0)
                self.console.print(
                    f"{record}\n  → {answer.value} with probability {probability:.2f}, "
                    f"from {answer.model}@{answer.version}, in {wait_ms:.1f} ms",
                    soft_wrap=True,
                )
            try:
                client.predict("pima", records(1, seed=2)[0] | {"mass": "heavy"})
            except RecordRejected as error:
                self.console.print(f"a bad record: [red]{error.code}[/red] {escape(str(error))}")

    def score_file(self, rows: int) -> None:
        """Score a CSV file and show its first lines."""
        self.step(4, f"Score a file of {rows:,} rows")
        source, target = self.folder / "patients.csv", self.folder / "scored.csv"
        write_csv(source, rows)
        self.command("score", "pima", str(source), str(target))
        with target.open() as file:
            for _ in range(3):
                self.console.print(
                    "  " + escape(file.readline().rstrip()), highlight=False, soft_wrap=True
                )

    def release_under_load(self) -> Load:
        """Release a second version while requests are in flight; gives the answers to these."""
        self.step(5, f"Train and release a second version with {IN_FLIGHT} requests in flight")
        load = Load(self.redis_url)
        load.begin("before")
        with load.running(records(1000, seed=3)):
            load.run_on(QUIET_S)
            load.begin("training")
            self.command("train", "pima", "--strength", "0.05")
            load.begin("release")
            self.command("promote", "pima", "2")
            load.begin("after")
            load.run_on(QUIET_S)
        return load


def tell(console: Console, rows: int, keep: bool) -> int:
    """Run the demo; gives the exit code: 0 if every request of it was answered.

    Raises:
        ScorelineError: a step failed.
    """
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="scoreline-demo-"))
    try:
        with embedded_server(data=folder / "redis") as url:
            console.print(
                f"Everything happens in {folder}, on an embedded Redis server ({url}).",
                highlight=False,
                soft_wrap=True,
            )
            demo = Demo(console, folder, url)
            demo.step(1, "Train on real data, publish, release")
            demo.command("train", "pima", "--promote")
            if not keep:
                console.print("(`scoreline demo --keep` keeps the report, to open in a browser.)")
            with demo.worker():
                demo.score_single_records()
                demo.score_file(rows)
                load = demo.release_under_load()
    finally:
        if keep:
            console.print(f"kept: {folder}", highlight=False, soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    failed = sum(phase.failures.total() for phase in load.phases)
    answered = sum(phase.answers for phase in load.phases)
    console.print(load.table())
    for phase in load.phases:
        for message, count in phase.failures.most_common(3):
            console.print(f"[red]{count} failed: {escape(message)}[/red]")
    if not failed:
        console.print(f"[bold green]Nothing failed[/bold green]: {answered:,} requests answered.")
    seconds = time.monotonic() - begun
    console.print(f"Everything that was started is stopped. {seconds:.0f} s in all.")
    return 1 if failed else 0


@dataclass
class Phase:
    """The answers that callers got in a stretch of time."""

    name: str
    versions: Counter[int] = field(default_factory=Counter)
    """Answers by the version that made them."""
    failures: Counter[str] = field(default_factory=Counter)
    """By message."""
    slowest_s: float = 0.0
    """The longest wait of a request that ended in this stretch."""
    begun: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @property
    def answers(self) -> int:
        """How many requests were answered."""
        return self.versions.total()


class Load:
    """Keeps IN_FLIGHT requests of one record each in flight, from a thread of its own."""

    def __init__(self, redis_url: str) -> None:
        self.phases: list[Phase] = []
        self._redis_url = redis_url
        self._ended = threading.Event()

    def begin(self, name: str) -> None:
        """Begin a new phase: requests that end from now on belong to it."""
        self._end_phase()
        self.phases.append(Phase(name))

    def run_on(self, seconds: float) -> None:
        """Let the load run for a while."""
        self._ended.wait(seconds)

    @contextmanager
    def running(self, rows: Sequence[dict[str, Any]]) -> Iterator[None]:
        """Keep requests in flight for as long as the block lasts, and wait for the last answers.

        A phase must have begun.
        """
        thread = threading.Thread(target=lambda: asyncio.run(self._drive(rows)), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self._end_phase()

    def table(self) -> Table:
        """The phases as rows."""
        table = Table()
        table.add_column("while")
        versions = sorted({version for phase in self.phases for version in phase.versions})
        headings = ["answered", "failed", "per second", "slowest wait"]
        for heading in headings + [f"pima@{version}" for version in versions]:
            table.add_column(heading, justify="right")
        for phase in self.phases:
            table.add_row(
                phase.name,
                f"{phase.answers:,}",
                f"{phase.failures.total():,}",
                f"{phase.answers / phase.seconds:,.0f}",
                f"{phase.slowest_s * 1000:.0f} ms",
                *(f"{phase.versions[version]:,}" for version in versions),
            )
        return table

    def _end_phase(self) -> None:
        if self.phases:
            self.phases[-1].seconds = time.monotonic() - self.phases[-1].begun

    async def _drive(self, rows: Sequence[dict[str, Any]]) -> None:
        supply = cycle(rows)
        async with AsyncClient(self._redis_url, queue=_QUEUE) as client:

            async def call() -> None:
                while not self._ended.is_set():
                    begun = time.monotonic()
                    try:
                        answer = await client.predict("pima", next(supply), timeout=10)
                    except ScorelineError as error:
                        self.phases[-1].failures[str(error)] += 1
                    else:
                        self.phases[-1].versions[answer.version] += 1
                    phase = self.phases[-1]
                    phase.slowest_s = max(phase.slowest_s, time.monotonic() - begun)

            await asyncio.gather(*(call() for _ in range(IN_FLIGHT)))


ROWS_AT_ONCE = 100_000


@dataclass(frozen=True)
class SampleColumn:
    """The range, mean and deviation of a column of the Pima Indians Diabetes data."""

    name: str
    lowest: float
    highest: float
    mean: float
    deviation: float
    decimals: int = 0

    def draw(self, random: np.random.Generator, rows: int) -> npt.NDArray[Any]:
        """(rows,) int64, or float64 where the data have decimals."""
        values = random.normal(self.mean, self.deviation, rows).clip(self.lowest, self.highest)
        rounded = values.round(self.decimals)
        return rounded if self.decimals else rounded.astype("int64")


_COLUMNS = (
    SampleColumn("preg", 0, 17, 3.8, 3.4),
    SampleColumn("plas", 0, 199, 120.9, 32.0),
    SampleColumn("pres", 0, 122, 69.1, 19.4),
    SampleColumn("skin", 0, 99, 20.5, 16.0),
    SampleColumn("test", 0, 846, 79.8, 115.2),
    SampleColumn("mass", 0, 67.1, 32.0, 7.9, decimals=1),
    SampleColumn("pedi", 0.078, 2.42, 0.472, 0.331, decimals=3),
    SampleColumn("age", 21, 81, 33.2, 11.8),
)


def records(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows as callers of the client have them: mappings of column name to value."""
    drawn = _draw(rows, seed)
    columns = {name: values.tolist() for name, values in drawn.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def write_csv(path: Path, rows: int, seed: int = 0) -> None:
    """Write a CSV file with a header; the same rows for the same seed."""
    import pyarrow as pa
    from pyarrow import csv

    options = csv.WriteOptions(include_header=False, quoting_style="none")
    schema = pa.table(_draw(1, seed)).schema
    with path.open("wb") as file, csv.CSVWriter(file, schema, write_options=options) as writer:
        file.write(",".join(schema.names).encode() + b"\n")
        for part, start in enumerate(range(0, rows, ROWS_AT_ONCE)):
            writer.write_table(pa.table(_draw(min(ROWS_AT_ONCE, rows - start), seed + part)))


def _draw(rows: int, seed: int) -> dict[str, npt.NDArray[Any]]:
    import numpy as np

    random = np.random.default_rng(seed)
    return {column.name: column.draw(random, rows) for column in _COLUMNS}
