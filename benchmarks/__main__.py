"""`make bench`, `make bench-memory`, or `python -m benchmarks [online|bulk|memory|memory-bulk]`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.stage import ONE_THREAD, stage

NAMES = ("online", "bulk")
MEMORY, MEMORY_BULK = "memory", "memory-bulk"
BASELINES = {"online": "a Celery task per record", "bulk": "a pandas script"}


def main() -> int:
    """Run the benchmarks that are asked for, print their tables and write their figures."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=main.__doc__)
    parser.add_argument(
        "only",
        nargs="?",
        choices=(*NAMES, MEMORY, MEMORY_BULK),
        help="one of them; online and bulk if left out",
    )
    only = parser.parse_args().only
    # Before numpy is imported in this process: it is one of the sides.
    os.environ.update(ONE_THREAD)
    console = Console(width=None if sys.stdout.isatty() else 100)
    if only == MEMORY_BULK:
        _run_memory_bulk(console)
        return 0
    if only == MEMORY:
        _run_memory(console)
        return 0
    for name in (only,) if only else NAMES:
        _run(console, name)
    return 0


def _run_memory(console: Console) -> None:
    from benchmarks import memory, report

    with console.status("measuring memory, some minutes"), stage() as made:
        figures = memory.measure(made)
    report.show_memory(console, figures)
    _say_where(console, report.write_memory(figures))


def _run_memory_bulk(console: Console) -> None:
    from benchmarks import memory_bulk

    with stage() as made:
        os.environ.update(made.where.environment)
        memory_bulk.measure(made, console)


def _run(console: Console, name: str) -> None:
    from benchmarks import bulk, online, report

    with console.status(f"measuring {name}"), stage() as made:
        os.environ.update(made.where.environment)
        comparisons = {"online": online, "bulk": bulk}[name].measure(made)
    report.show(console, BASELINES[name], comparisons)
    _say_where(console, report.write(name, BASELINES[name], comparisons))


def _say_where(console: Console, path: Path) -> None:
    console.print(f"figures: {path}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
