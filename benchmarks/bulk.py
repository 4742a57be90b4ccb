"""Files: Scoreline's score_csv against a plain pandas script, and ten million rows against one million."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import models, program
from benchmarks.files import MILLION, cached, check_same, million_rows, repeated
from benchmarks.measures import Goal, Row, at_least, at_most, times
from benchmarks.memory_bulk import MEBIBYTE, Peaks, looking
from benchmarks.stage import MODEL, QUEUE, Stage
from scoreline_client import Client

if TYPE_CHECKING:
    import pandas as pd

REPEATS = 5
WIDE_ROWS, TEXT_ROWS, MANY_ROWS = 50_000, 200_000, 10 * MILLION
SCRIPT = "a pandas script"


@dataclass(frozen=True)
class ScriptedFile:
    """A file and the model that it is for."""

    what: str
    model: str
    path: Path
    rows: int
    columns: int
    """The first ones of the input, which both outputs must repeat."""
    goal: Goal | None = None
    program_goal: Goal | None = None
    """Of the command line, its start included."""


@dataclass(frozen=True)
class _Long:
    """One run of the `scoreline score` program."""

    rows_per_s: float
    client_mib: float
    worker_mib: float
    """The largest process of the worker."""


def measure(stage: Stage) -> list[Row]:
    """The files against the script; then, with a worker that nobody has asked before, the long one."""
    models.publish_wide(stage)
    models.publish_text(stage)
    with stage.worker(), Client(stage.redis_url, queue=QUEUE) as client:
        rows = [row for file in _files() for row in against_script(stage, client, file)]
    with stage.worker():
        return rows + _long(stage)


def _files() -> list[ScriptedFile]:
    wide = made_rows("wide", WIDE_ROWS, models.wide_rows)
    text = made_rows("text", TEXT_ROWS, models.text_rows)
    return [
        ScriptedFile("8 columns", MODEL, million_rows(), MILLION, 8, at_least(10), at_least(7)),
        ScriptedFile("200 columns", models.WIDE, wide, WIDE_ROWS, models.WIDE_COLUMNS, at_least(8)),
        ScriptedFile("quoted text, TF-IDF", models.TEXT, text, TEXT_ROWS, 3, at_least(4)),
    ]


def made_rows(name: str, rows: int, draw: Callable[..., pd.DataFrame]) -> Path:
    def write(path: Path) -> None:
        models.write_rows(path, draw(rows, seed=1))

    return cached(f"{name}-{rows}.csv", write)


def against_script(stage: Stage, client: Client, file: ScriptedFile) -> list[Row]:
    """One side after the other, in turns; both write to a disk that the input was read from."""
    ours, theirs = stage.folder / "ours.csv", stage.folder / "theirs.csv"
    here: list[float] = []
    command: list[float] = []
    script: list[float] = []
    _score_here(client, file, ours)
    for _ in range(REPEATS):
        here.append(file.rows / _score_here(client, file, ours))
        begun = time.perf_counter()
        program.score(stage, file.path, ours, model=file.model)
        command.append(file.rows / (time.perf_counter() - begun))
        script.append(file.rows / _score_by_script(stage, file, theirs))
    check_same(ours, theirs, file.columns)
    what = f"{file.rows:,} rows, {file.what}"
    typed = f"{what}: scoreline score, its start included"
    return [
        times(what, "rows a second", here, SCRIPT, script, goal=file.goal),
        times(typed, "rows a second", command, SCRIPT, script, goal=file.program_goal),
    ]


def _score_here(client: Client, file: ScriptedFile, target: Path) -> float:
    summary = client.score_csv(file.model, file.path, target)
    if (summary.rows, summary.rejected) != (file.rows, 0):
        raise AssertionError(f"{summary.rows} rows, {summary.rejected} rejected")
    return summary.seconds


def _score_by_script(stage: Stage, file: ScriptedFile, target: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.pandas_script"]
    done = subprocess.run(
        [*command, str(stage.folder / "store"), file.model, str(file.path), str(target)],
        env=stage.whole_environment,
        check=True,
        capture_output=True,
    )
    return float(done.stdout)


def _long(stage: Stage) -> list[Row]:
    """A million rows and ten million, in turns, each by a program of its own."""
    sources = {rows: repeated(million_rows(), rows) for rows in (MILLION, MANY_ROWS)}
    runs: dict[int, list[_Long]] = {MILLION: [], MANY_ROWS: []}
    _run(stage, sources[MILLION])
    for _ in range(REPEATS):
        for rows, source in sources.items():
            runs[rows].append(_run(stage, source))
    few, many = runs[MILLION], runs[MANY_ROWS]

    def compare(what: str, unit: str, figure: Callable[[_Long], float], goal: Goal) -> Row:
        measured, baseline = [figure(one) for one in many], [figure(one) for one in few]
        what = f"{MANY_ROWS:,} rows{what}"
        return times(what, unit, measured, f"{MILLION:,} rows", baseline, goal=goal)

    return [
        compare("", "rows a second", lambda one: one.rows_per_s, at_least(0.9)),
        compare(": client at the most", "MiB", lambda one: one.client_mib, at_most(1.2)),
        compare(": largest child at the most", "MiB", lambda one: one.worker_mib, at_most(1.2)),
    ]


def _run(stage: Stage, source: Path) -> _Long:
    peaks = Peaks()
    target = stage.folder / "long.csv"
    with looking(peaks):
        summary = program.score(stage, source, target)
    target.unlink()
    workers = [most for kind, most in peaks.most.items() if kind.startswith("worker")]
    return _Long(summary["rows_per_s"], peaks.most["client"] / MEBIBYTE, max(workers) / MEBIBYTE)
