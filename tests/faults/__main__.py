"""`make faults`, or `python -m tests.faults [NAME ...]`: each fault on real servers and workers, and a table."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import orjson
from benchmarks.report import put_into
from rich.console import Console

from scoreline_tasks.dev.processes import interruptible
from tests.faults.ground import Outcome, forget_settings, ground
from tests.faults.table import FAULTS, Fault, cells, markdown, named, table

RATE = 120.0
ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "faults.json"
PAGE = ROOT / "docs" / "reliability.md"


def main(arguments: list[str]) -> int:
    """Put faults to the test; 1 if any of them broke a promise."""
    names = ", ".join(one.name for one in FAULTS)
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {names}; all of them if left out")
    parser.add_argument(
        "--n", type=int, help="how often each is injected; as in the table if left out"
    )
    parser.add_argument(
        "--brief", action="store_true", help="with the short waits and few times of `make test`"
    )
    parser.add_argument(
        "--docs",
        action="store_true",
        help="inject nothing; put the newest row of each fault into docs/reliability.md",
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--rate", type=float, default=RATE, help="requests a second of the load")
    chosen = parser.parse_args(arguments)
    if chosen.docs:
        PAGE.write_text(put_into(PAGE.read_text(), [markdown(_results())]))
        return 0
    forget_settings()
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(f"seed {chosen.seed}: --seed {chosen.seed} repeats the load")
    rows, broken = [], 0
    with interruptible():
        for fault in named(chosen.names):
            n = chosen.n or (fault.brief if chosen.brief else fault.full)
            if not n:
                continue
            begun = time.monotonic()
            outcome, folder = run(fault, n, chosen.seed, chosen.rate, is_brief=chosen.brief)
            rows.append(cells(fault, outcome))
            failures = fault.failures(outcome)
            broken += bool(failures)
            console.print(table(rows[-1:]), f"took {time.monotonic() - begun:.0f} s")
            for line in [*outcome.notes[:40], *failures[:20]]:
                console.print("   ", line[:2000], highlight=False, markup=False)
            if failures:
                console.print(f"    ledgers and logs are kept in {folder}", highlight=False)
    console.print(table(rows))
    # One run after the other completes the table, or brings it up to date.
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_bytes(orjson.dumps({row[0]: row for row in [*_results(), *rows]}))
    return 1 if broken else 0


def _results() -> list[list[str]]:
    """The newest row of each fault that there is, in the order of the table."""
    found = orjson.loads(RESULTS.read_bytes()) if RESULTS.exists() else {}
    return [found[one.name] for one in FAULTS if one.name in found]


def run(
    fault: Fault, n: int, seed: int, rate: float, *, is_brief: bool = False
) -> tuple[Outcome, Path]:
    """Put one fault to the test on a ground of its own; the folder stays if a promise was broken."""
    path = Path(tempfile.mkdtemp(prefix=f"{fault.name}-"))
    try:
        with ground(seed, rate, is_brief=is_brief, folder=path) as made:
            outcome = fault.run(made, n)
    # One that cannot be carried out is one that failed: the others are still put to the test.
    except Exception:  # noqa: BLE001
        outcome = Outcome(n=n, failures=[traceback.format_exc()])
    if not fault.failures(outcome):
        shutil.rmtree(path, ignore_errors=True)
    return outcome, path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
