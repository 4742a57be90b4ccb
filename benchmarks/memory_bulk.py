"""The most memory that a client and each worker process hold while a file of 1 GB is scored."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks.stage import MODEL, Stage
from scoreline_tasks.dev.demo import write_csv
from scoreline_tasks.dev.local_worker import scoreline

FILE_BYTES = 1_000_000_000
PART_ROWS = 1_000_000
LOOK_EVERY_S = 0.1
MEBIBYTE = 1 << 20


@dataclass
class Peaks:
    """The most resident bytes of each process that was looked at, by what it is."""

    most: dict[str, int] = field(default_factory=dict)

    def look(self) -> None:
        """Look at all descendants of this process once."""
        for process in psutil.Process().children(recursive=True):
            try:
                words = " ".join(process.cmdline())
                kind = "client" if "score" in words.split() else "server"
                if "celery" in words:
                    kind = f"worker process {process.pid}"
                resident = process.memory_info().rss
            except psutil.Error:
                continue  # it has just ended
            self.most[kind] = max(self.most.get(kind, 0), resident)


def measure(stage: Stage, console: Console) -> None:
    """Score the file once, and print a line for each process."""
    source = _input()
    peaks = Peaks()
    with stage.worker(), looking(peaks):
        command = [*scoreline("score", MODEL), str(source), str(stage.folder / "out.csv"), "--json"]
        client = psutil.Popen(command, env=stage.whole_environment)
        if client.wait() != 0:
            raise AssertionError("the file was not scored")
    for kind, resident in sorted(peaks.most.items()):
        console.print(f"{kind}: {resident / MEBIBYTE:,.0f} MiB at the most", highlight=False)


@contextmanager
def looking(peaks: Peaks) -> Iterator[None]:
    stopped = threading.Event()

    def look() -> None:
        while not stopped.wait(LOOK_EVERY_S):
            peaks.look()

    thread = threading.Thread(target=look, name="memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _input() -> Path:
    """The same gigabyte for every run; made once, from a million rows over and over."""
    path = Path(tempfile.gettempdir()) / f"scoreline-benchmark-{FILE_BYTES}-bytes.csv"
    if not path.exists():
        part = path.with_suffix(".part")
        write_csv(part, PART_ROWS)
        header, _, rows = part.read_bytes().partition(b"\n")
        with part.open("wb") as file:
            file.write(header + b"\n")
            while file.tell() < FILE_BYTES:
                file.write(rows)
        part.rename(path)
    return path
