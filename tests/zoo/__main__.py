"""`make zoo`: run the zoo, print its table, and keep it under benchmarks/results."""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from rich.console import Console

from tests.zoo.zoo import PROJECTS, REFUSED, run, table

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
LIBRARIES = ("dill", "numpy", "pandas", "scikit-learn")


def main(names: list[str]) -> int:
    """Run projects, all of them if none is named; 0 when each answers as in training."""
    if unknown := sorted(set(names) - {*PROJECTS, *REFUSED}):
        print(f"no such project: {', '.join(unknown)}; there are: {', '.join(PROJECTS)}")
        return 2
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="scoreline-zoo-") as folder:
        verdicts = list(run(Path(folder), names or [*PROJECTS]).verdicts.values())
    Console().print(table(verdicts))
    good = [one for one in verdicts if one.problem is None and one.missing is None]
    print(f"{len(good)} of {len(verdicts)} in {time.monotonic() - started:.0f} s")
    RESULTS.mkdir(exist_ok=True)
    versions = {"python": platform.python_version()}
    versions |= {one: metadata.version(one) for one in LIBRARIES}
    result = {"versions": versions, "pipelines": [asdict(one) for one in verdicts]}
    path = RESULTS / f"zoo-scikit-learn-{versions['scikit-learn']}.json"
    path.write_text(json.dumps(result, indent=1))
    print(f"written to {path}")
    return 1 if any(one.problem for one in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
