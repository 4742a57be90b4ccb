"""`make bench`, or `python -m benchmarks [NAME]`; `--docs` puts the newest figures into the documentation."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks.stage import ONE_THREAD, Stage, stage
from scoreline_tasks.dev.processes import interruptible

FLEET, PLAN = "fleet", "plan"
NAMES = (
    "online", "separate", "pipelines", "library", "mixed", "bulk", "scale", "start", "growth", "gateway",
)  # fmt: skip
MEMORY, MEMORY_BULK = "memory", "memory-bulk"
INTERRUPTED = 130


def main() -> int:
    """Run the benchmarks that are asked for, print their tables and write their figures."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=main.__doc__)
    parser.add_argument(
        "only",
        nargs="?",
        choices=(*NAMES, FLEET, PLAN, MEMORY, MEMORY_BULK),
        help=f"one of them; all of {', '.join(NAMES)} if left out",
    )
    parser.add_argument(
        "--docs",
        action="store_true",
        help="measure nothing; put the newest figures into docs/performance.md, docs/scaling.md and docs/plans.md",
    )
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    if asked.docs:
        _render(console)
        return 0
    # Before numpy is imported in this process: it is one of the sides.
    os.environ.update(ONE_THREAD)
    try:
        # Also when it is told to stop: servers, workers and folders must not be left behind.
        with interruptible():
            _measure(console, asked.only)
    except KeyboardInterrupt:
        console.print("interrupted; everything that was started is stopped")
        return INTERRUPTED
    return 0


def _measure(console: Console, only: str | None) -> None:
    if only == MEMORY_BULK:
        _run_memory_bulk(console)
    elif only == PLAN:
        _run_plan(console)
    elif only == MEMORY:
        _run_memory(console)
    else:
        _run_all(console, (only,) if only else NAMES)


def _run_all(console: Console, names: tuple[str, ...]) -> None:
    for name in names:
        # Each has its own: what the others released would be loaded by its workers, too.
        with stage() as made:
            os.environ.update(made.where.environment)
            _run(console, name, made)


def _run(console: Console, name: str, made: Stage) -> None:
    from benchmarks import report

    begun = time.monotonic()
    with console.status(f"measuring {name}"):
        rows = importlib.import_module(f"benchmarks.{name}").measure(made)
    seconds = time.monotonic() - begun
    console.print(f"\n[bold]{name}[/bold]")
    report.show(console, rows)
    _say_where(console, report.write(name, rows), f"after {seconds:.0f} s")


def _run_plan(console: Console) -> None:
    from benchmarks import plan, report

    with console.status("measuring plans, some minutes"):
        found = [*plan.measure()]
    plan.show(console, found)
    _say_where(console, report.write_pipelines(PLAN, found))


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


def _render(console: Console) -> None:
    from benchmarks import documentation

    for page, names in (
        (documentation.PAGE, NAMES),
        (documentation.SCALING, (FLEET,)),
        (documentation.PLANS, (PLAN,)),
    ):
        done = documentation.render(names, page)
        console.print(f"{page}: {', '.join(done) or 'nothing, there are no figures yet'}")


def _say_where(console: Console, path: Path, more: str = "") -> None:
    console.print(f"figures: {path} {more}".rstrip(), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
