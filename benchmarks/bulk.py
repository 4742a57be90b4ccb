"""A million rows of CSV: Scoreline's score_csv against a plain pandas script."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measures import Comparison, Spread
from benchmarks.stage import MODEL, QUEUE, Stage
from scoreline_client import Client
from scoreline_tasks.sample_rows import write_csv

ROWS = 1_000_000
REPEATS = 7
COMPARED_ROWS = 10_000


def measure(stage: Stage) -> list[Comparison]:
    """One side after the other, in turns; both write to a disk that the input was read from."""
    source = _input()
    ours, theirs = stage.folder / "ours.csv", stage.folder / "theirs.csv"
    ours_s, theirs_s = [], []
    with stage.worker(), Client(stage.redis_url, queue=QUEUE) as client:
        _score_here(client, source, ours)
        for _ in range(REPEATS):
            ours_s.append(_score_here(client, source, ours))
            theirs_s.append(_score_by_script(stage, source, theirs))
    _check_same(ours, theirs)
    rows = f"{ROWS:,} rows"
    return [
        Comparison(f"{rows}: seconds", Spread.of(ours_s), Spread.of(theirs_s), more_is_better=False)
    ]


def _input() -> Path:
    """The same million rows for every run; made once."""
    path = Path(tempfile.gettempdir()) / f"scoreline-benchmark-{ROWS}.csv"
    if not path.exists():
        made = path.with_suffix(".part")
        write_csv(made, ROWS)
        made.rename(path)
    path.read_bytes()  # both sides find it in the page cache
    return path


def _score_here(client: Client, source: Path, target: Path) -> float:
    begun = time.perf_counter()
    summary = client.score_csv(MODEL, source, target)
    seconds = time.perf_counter() - begun
    if (summary.rows, summary.rejected) != (ROWS, 0):
        raise AssertionError(f"{summary.rows} rows, {summary.rejected} rejected")
    return seconds


def _score_by_script(stage: Stage, source: Path, target: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.pandas_script"]
    done = subprocess.run(
        [*command, str(stage.folder / "store"), str(source), str(target)],
        env=stage.whole_environment,
        check=True,
        capture_output=True,
    )
    return float(done.stdout)


def _check_same(ours: Path, theirs: Path) -> None:
    """Both have the same rows and predictions; only how a number is spelled differs (32, 32.0)."""
    with ours.open() as one, theirs.open() as other:
        next(one)
        next(other)
        pairs = zip(one, other, strict=True)
        for number, (mine, yours) in enumerate(itertools.islice(pairs, COMPARED_ROWS), 1):
            if _numbers(mine) != _numbers(yours):
                raise AssertionError(f"row {number} differs: {mine!r} and {yours!r}")
        if sum(1 for _ in one) != sum(1 for _ in other):
            raise AssertionError("the outputs differ in length")


def _numbers(line: str) -> list[float]:
    """The eight columns and the prediction."""
    return [float(field) for field in line.split(",")[:9]]
