"""Loads every published project in a process that never saw one, and compares answers bit for bit.

    python -I loader.py OUT

OUT is where `trainer.py` wrote; the store is the one that SCORELINE_ARTIFACTS names. All versions are
loaded before the first is asked, so that each of them has all the others beside it.
"""

from __future__ import annotations

import json
import pickle
import struct
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scoreline_artifacts import Store
from scoreline_artifacts.loading.artifact import load
from scoreline_artifacts.loading.version import LoadedVersion


@dataclass(kw_only=True)
class Verdict:
    """What became of one project."""

    project: str
    model: str
    version: int
    batchable: bool
    size_bytes: int
    publish_s: float
    load_ms: float = 0.0
    rows: int
    equal: int = 0
    """Rows whose answers are those of training to the last bit."""
    missing: str | None
    """A library that is not installed here."""
    problem: str | None
    """Why it did not work; None when all is well."""


def main(out: Path) -> None:
    """Load all, ask all, write the verdicts as JSON."""
    notes = [pickle.loads(path.read_bytes()) for path in sorted(out.glob("*.pickle"))]
    before = set(sys.modules)
    verdicts = [_verdict(note) for note in notes]
    loaded = [_load(verdict) for verdict in verdicts]
    for note, verdict, version in zip(notes, verdicts, loaded, strict=True):
        if version is not None:
            _judge(note, verdict, version)
    left = _left_behind(notes, before)
    for verdict in verdicts:
        verdict.problem = verdict.problem or left
    (out / "verdicts.json").write_text(json.dumps([asdict(one) for one in verdicts], indent=1))


def _verdict(note: dict[str, Any]) -> Verdict:
    return Verdict(
        project=note["project"],
        model=note["model"],
        version=note["version"],
        batchable=note["batchable"],
        size_bytes=note["size_bytes"],
        publish_s=note["publish_s"],
        rows=len(note["records"]),
        missing=note["missing"],
        problem=None if note["missing"] else note["error"],
    )


def _load(verdict: Verdict) -> LoadedVersion | None:
    if verdict.problem or verdict.missing:
        return None
    started = time.perf_counter()
    try:
        return load(Store.from_environment(), verdict.model, verdict.version)
    # Whatever loading raises is this project's row in the table.
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        verdict.problem = f"load: {type(error).__name__}: {error}"
        return None
    finally:
        verdict.load_ms = (time.perf_counter() - started) * 1000


def _judge(note: dict[str, Any], verdict: Verdict, loaded: LoadedVersion) -> None:
    try:
        verdict.equal = _count_equal(note, loaded)
        if verdict.equal < verdict.rows:
            verdict.problem = f"{verdict.rows - verdict.equal} answers differ from training"
        elif loaded.batchable and not _frame_is_equal(note, loaded):
            verdict.problem = "the raw rows as a frame are answered otherwise than in training"
        elif note["has_classes"] and not loaded.has_probabilities:
            verdict.problem = "there are probabilities in training and none here"
    # Whatever scoring raises is this project's row in the table.
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        verdict.problem = f"score: {type(error).__name__}: {error}"


def _count_equal(note: dict[str, Any], loaded: LoadedVersion) -> int:
    """Raw records, together or, for what is not batchable, one by one."""
    records = note["records"]
    requests = [records] if loaded.batchable else [[record] for record in records]
    rows = [row for request in requests for row in loaded.score_records(request)]
    same = _same(note["values"], [row.value for row in rows])
    if loaded.has_probabilities:
        alike = _same(_side_by_side(note["probabilities"]), [row.probabilities for row in rows])
        same = [one and other for one, other in zip(same, alike, strict=True)]
    return sum(same)


def _side_by_side(probabilities: Any) -> Any:
    """Those of several outputs, a table for each, as columns of one table."""
    return np.hstack(probabilities) if isinstance(probabilities, list) else probabilities


def _same(expected: Any, found: list[Any]) -> list[bool]:
    if expected.ndim == 2 and expected.shape[1] == 1:
        expected = expected[:, 0]
    return [bits(one) == bits(other) for one, other in zip(expected.tolist(), found, strict=True)]


def bits(answer: Any) -> Any:
    """A float as its bytes; -0.0 is not 0.0 here, 1 is not True, and NaN is NaN."""
    if isinstance(answer, list):
        return [bits(one) for one in answer]
    return struct.pack(">d", answer) if isinstance(answer, float) else (type(answer), answer)


def _frame_is_equal(note: dict[str, Any], loaded: LoadedVersion) -> bool:
    scores = loaded.score(note["rows"])
    same = all(_same(note["values"], scores.values.tolist()))
    if scores.probabilities is not None:
        same = same and np.array_equal(scores.probabilities, _side_by_side(note["probabilities"]))
    return same


def _left_behind(notes: list[dict[str, Any]], before: set[str]) -> str | None:
    """Traces of the projects in this process, where everybody can see them."""
    local = {name for note in notes for name in note["local_modules"]} - before
    if found := sorted(local & set(sys.modules)):
        return f"sys.modules shows modules of training: {found}"
    if found := [one for one in sys.path if "projects" in Path(one).parts]:
        return f"sys.path shows folders of training: {found}"
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
