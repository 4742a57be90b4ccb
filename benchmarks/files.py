"""Input files of the benchmarks: the same for every run, made once, in the temporary directory."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from scoreline_tasks.dev.demo import write_csv

MILLION = 1_000_000


def cached(name: str, write: Callable[[Path], None]) -> Path:
    """A file that `write` makes if it is not there yet; it is in the page cache afterwards."""
    folder = Path(tempfile.gettempdir()) / f"scoreline-benchmark-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / name
    if not path.exists():
        part = path.with_suffix(".part")
        write(part)
        part.rename(path)
    read_once(path)
    return path


def read_once(path: Path) -> None:
    """Bring a file into the page cache, so that no side reads it from the disk."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 22):
            pass


def million_rows() -> Path:
    """A million rows that look like the Pima data."""
    return cached(f"pima-{MILLION}.csv", lambda path: write_csv(path, MILLION))


def repeated(source: Path, rows: int) -> Path:
    """The rows of a file of a million over and over."""
    if rows == MILLION:
        return source

    def write(path: Path) -> None:
        with path.open("wb") as target, source.open("rb") as file:
            target.write(file.readline())
            start = file.tell()
            for _ in range(rows // MILLION):
                file.seek(start)
                shutil.copyfileobj(file, target, 1 << 20)

    return cached(f"{source.stem}-times-{rows}.csv", write)


def check_same(ours: Path, theirs: Path, columns: int, *, rows: int = 10_000) -> None:
    """Both hold the same predictions; only how a number is spelled differs (32, 32.0)."""
    import pandas as pd

    mine, yours = (pd.read_csv(path, nrows=rows) for path in (ours, theirs))
    kept = [*yours.columns[:columns], "prediction"]
    pd.testing.assert_frame_equal(mine[kept], yours[kept], check_dtype=False)
    if _count_lines(ours) != _count_lines(theirs):
        raise AssertionError("the outputs differ in length")


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        blocks = iter(lambda: file.read(1 << 22), b"")
        return sum(block.count(b"\n") for block in itertools.chain(blocks))
