"""`make parity`: hold what every way in answers against training, for hundreds of pipelines; prints a table."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from tests.parity.cases import SMALL, cases
from tests.parity.suite import (
    POOLS,
    Outcome,
    ask_here,
    ask_workers,
    published,
    settings_of_worker,
    table,
    totals,
    train,
)

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
WORKER_GROUPS = (
    "truth",
    "shapes",
    "odd-answers",
    "rows",
    "settings",
    "generated-00",
    "generated-07",
)
"""The groups that real workers are asked about as well."""


def main(arguments: Sequence[str]) -> int:
    """Run the suite; 0 when every answer is that of training."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the pipelines' names; by default all")
    parser.add_argument("--small", action="store_true", help="the pipelines of `make test` alone")
    parser.add_argument(
        "--workers",
        default=",".join(["here", *POOLS]),
        help="which to ask: here, and pools of real ones",
    )
    parser.add_argument("--whole", action="store_true", help="lines for what is right, too")
    parser.add_argument("--json", type=Path, help="write what was found here")
    parser.add_argument("--keep", type=Path, help="a folder for stores, logs and notes")
    chosen = parser.parse_args(arguments)
    wanted = [
        case
        for case in cases()
        if (not chosen.small or case.name in SMALL)
        and (not chosen.names or any(part in case.name for part in chosen.names))
    ]
    # Of overflows in rows unlike those of training, which are asked about on purpose.
    warnings.simplefilter("ignore")
    console = Console(width=260)
    out = chosen.keep or Path(tempfile.mkdtemp(prefix="scoreline-parity-"))
    started = time.monotonic()
    try:
        truths = train(out, wanted)
        console.print(f"{len(truths)} pipelines trained in {time.monotonic() - started:.0f} s")
        verdicts = [published(case, truths[case.name]) for case in wanted]
        with settings_of_worker(out):
            workers = chosen.workers.split(",")
            if "here" in workers:
                verdicts += ask_here(out, list(truths.values()))
                console.print(f"asked in this process after {time.monotonic() - started:.0f} s")
            pools = [pool for pool in workers if pool in POOLS]
            some = [one for one in truths.values() if one.group in WORKER_GROUPS]
            verdicts += ask_workers(out, some, pools, console.print)
    finally:
        if chosen.keep is None:
            shutil.rmtree(out, ignore_errors=True)
    outcome = Outcome(truths=truths, verdicts=verdicts)
    console.print(table(outcome, whole=chosen.whole), totals(outcome))
    failing = {one.case for one in outcome.wrong}
    console.print(
        f"{len(truths)} pipelines, {len(truths) - len(failing)} of them right in every way in, "
        f"{sum(one.rows for one in verdicts)} answers, in {time.monotonic() - started:.0f} s"
    )
    target = chosen.json or RESULTS / "parity.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps([asdict(one) for one in verdicts], indent=1))
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
