"""The zoo: what people really put into pipelines, published, carried away and asked elsewhere."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from scoreline_artifacts import Store
from scoreline_artifacts.store.signing import KeyRing
from tests.zoo.loader import Verdict

FOLDER = Path(__file__).parent


def _folders(name: str) -> dict[str, Path]:
    return {one.name: one for one in sorted((FOLDER / name).iterdir()) if one.is_dir()}


PROJECTS = _folders("projects")
"""Pipelines that travel."""
REFUSED = _folders("refused")
"""Pipelines that cannot travel, and must not be published."""
PROCESSES = 2
CAPTION = "publish s: the proof in the clean room and the report included"
STORE, KEYS = "store", "keys"


@dataclass(frozen=True, slots=True)
class Zoo:
    """What a run has left behind."""

    out: Path
    """The projects' logs and notes, and the store."""
    verdicts: dict[str, Verdict]
    """By project."""

    @property
    def store(self) -> Store:
        """Where the projects were published, for those who trust them."""
        return Store(self.out / STORE, KeyRing(self.out / KEYS))

    def note(self, project: str) -> dict[str, Any]:
        """What training has written down of a project."""
        note: dict[str, Any] = pickle.loads((self.out / f"{project}.pickle").read_bytes())
        return note

    def log(self, project: str) -> str:
        """What a project's process has printed."""
        return (self.out / f"{project}.log").read_text(errors="replace")


def run(
    out: Path, names: Sequence[str] = (*PROJECTS, *REFUSED), *, with_report: bool = True
) -> Zoo:
    """Train and publish each project, delete it, load it in a new process, and compare."""
    elsewhere = out / "elsewhere"
    elsewhere.mkdir(parents=True, exist_ok=True)
    projects = [(PROJECTS | REFUSED)[name] for name in names]
    _python(out, elsewhere, FOLDER / "trainer.py", out, PROCESSES, int(with_report), *projects)
    _python(out, elsewhere, "-I", FOLDER / "loader.py", out)
    found = [Verdict(**one) for one in json.loads((out / "verdicts.json").read_text())]
    return Zoo(out, {one.project: one for one in found})


def _python(out: Path, cwd: Path, *arguments: object) -> None:
    command = [sys.executable, *map(str, arguments)]
    subprocess.run(command, cwd=cwd, env=environment(out), check=True)


def environment(out: Path) -> dict[str, str]:
    """Of training and of loading: nothing of ours from outside, and no threads that reorder sums."""
    ours = {name: value for name, value in os.environ.items() if not _is_foreign(name)}
    return ours | {
        "SCORELINE_ARTIFACTS": str(out / STORE),
        "SCORELINE_KEYS": str(out / KEYS),
        "SCORELINE_CACHE": str(out / "cache"),
        "SCORELINE_REDIS_URL": "redis://127.0.0.1:1/0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _is_foreign(name: str) -> bool:
    # Tests prove plans with fewer rows than publishing does by itself.
    is_ours = name.startswith("SCORELINE_") and name != "SCORELINE_PLAN_PROOF_S"
    return is_ours or name.startswith("PYTEST_") or name == "PYTHONPATH"


def table(verdicts: Sequence[Verdict]) -> Table:
    """For people: one line for each project."""
    made = Table(
        "pipeline", "bytes", "publish s", "load ms", "parity", title="the zoo", caption=CAPTION
    )
    for one in verdicts:
        if one.missing:
            made.add_row(one.project, "", "", "", f"{one.missing} is not installed")
            continue
        parity = f"{one.equal}/{one.rows}" + ("" if one.batchable else ", one by one")
        made.add_row(
            one.project,
            f"{one.size_bytes:,}",
            f"{one.publish_s:.2f}",
            f"{one.load_ms:.1f}",
            one.problem or parity,
        )
    return made
