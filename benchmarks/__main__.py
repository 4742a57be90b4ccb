"""`make bench`, or `python -m benchmarks [online|bulk|memory-bulk]`."""

from __future__ import annotations

import argparse
import os
import sys

from rich.console import Console

from benchmarks.stage import ONE_THREAD, stage

NAMES = ("online", "bulk")
MEMORY = "memory-bulk"
BASELINES = {"online": "a Celery task per record", "bulk": "a pandas script"}


def main() -> int:
    """Run the benchmarks that are asked for, print their tables and write their figures."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=main.__doc__)
    parser.add_argument(
        "only", nargs="?", choices=(*NAMES, MEMORY), help="one of them; the first two if left out"
    )
    only = parser.parse_args().only
    # Before numpy is imported in this process: it is one of the sides.
    os.environ.update(ONE_THREAD)
    console = Console(width=None if sys.stdout.isatty() else 100)
    if only == MEMORY:
        return _measure_memory(console)
    for name in (only,) if only else NAMES:
        _run(console, name)
    return 0


def _measure_memory(console: Console) -> int:
    from benchmarks import memory

    with stage() as made:
        os.environ.update(made.where.environment)
        memory.measure(made, console)
    return 0


def _run(console: Console, name: str) -> None:
    from benchmarks import bulk, online, report

    with console.status(f"measuring {name}"), stage() as made:
        os.environ.update(made.where.environment)
        comparisons = {"online": online, "bulk": bulk}[name].measure(made)
    report.show(console, BASELINES[name], comparisons)
    path = report.write(name, BASELINES[name], comparisons)
    console.print(f"figures: {path}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
