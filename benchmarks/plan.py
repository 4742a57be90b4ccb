"""What pipelines dissolve into plans, and how much faster these are: scikit-learn's estimators, and the zoo's projects.

Records in, answers out, as in a worker, in CPU time: the pipeline's, divided by that of what serves in its place.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import all_estimators
from tests.zoo.zoo import PROJECTS, run

from scoreline_artifacts.loading.artifact import load, plan_of
from scoreline_artifacts.loading.planned import PlanProof, ProvenPlan
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.manifest import PLAN
from scoreline_artifacts.packaging.plan_proof import WITHOUT_LIMIT, faster_up_to, prove_plan
from scoreline_artifacts.plan import ScoringPlan
from scoreline_artifacts.plan.ends import OpaqueEnd
from scoreline_artifacts.schema import Schema
from scoreline_artifacts.validation import frame_of_records

SIZES = (1, 64, 10_000)
TRAINED_ROWS = 400
PROOF_S, SIZES_S = 0.5, 8.0
TURNS = {1: 9, 64: 7, 10_000: 3}
HEADINGS = ("pipeline", "plan", "serves up to", *(f"{size:,} rows" for size in SIZES), "why")


@dataclass(frozen=True, kw_only=True)
class Dissolved:
    """What became of one pipeline."""

    what: str
    plan: str
    """`whole`, `steps called`, `end called` or `none`."""
    up_to_rows: int
    """How many rows the plan serves; 0: none."""
    ratios: Sequence[float]
    """How many times faster, by number of rows in `SIZES`."""
    why: str

    def cells(self) -> list[str]:
        """As the table has it."""
        limit = "any" if self.up_to_rows == WITHOUT_LIMIT else f"{self.up_to_rows:,}"
        return [self.what, self.plan, limit, *(f"{one:.1f}" for one in self.ratios), self.why[:90]]


def measure() -> Iterator[Dissolved]:
    """Each estimator behind a StandardScaler, and each project of the zoo."""
    warnings.simplefilter("ignore")
    yield from _estimators()
    yield from _projects()


def _estimators() -> Iterator[Dissolved]:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({f"x{place}": random.normal(size=TRAINED_ROWS) for place in range(8)})
    score = frame["x0"] + frame["x1"] ** 2 + random.normal(size=TRAINED_ROWS)
    for kind, labels in (("classifier", (score > 1).astype(int)), ("regressor", score)):
        for name, estimator in all_estimators(kind):
            try:
                pipeline = make_pipeline(StandardScaler(), estimator()).fit(frame, labels)
            except (TypeError, ValueError):  # it wants another estimator, or other data
                continue
            loaded = LoadedVersion.of(pipeline, name, schema=Schema.infer(frame))
            proof = _proof(loaded, frame)
            yield _dissolved(name, loaded, proof, frame.to_dict("records"))


def _projects() -> Iterator[Dissolved]:
    with tempfile.TemporaryDirectory(prefix="scoreline-zoo-") as folder:
        zoo = run(Path(folder), [*PROJECTS])
        models = zoo.store.models()
        for name, verdict in zoo.verdicts.items():
            model = name.replace("_", "-")
            # Two projects publish versions of one model, which has another name.
            if verdict.problem is None and verdict.missing is None and model in models:
                loaded = load(zoo.store, model, 1)
                manifest = zoo.store.manifest(model, 1)
                proof = PlanProof(reason="it asks for modules that did not travel")
                if PLAN in manifest.files:
                    proof = PlanProof.decode(zoo.store.read(manifest, PLAN))
                yield _dissolved(name, loaded, proof, zoo.note(name)["records"])


def _proof(loaded: LoadedVersion, frame: pd.DataFrame) -> PlanProof:
    """As publishing has it, but for the time that it takes: other programs may hold the processor."""
    proof, plan = prove_plan(loaded, frame.head(32), frame, PROOF_S), plan_of(loaded)
    if isinstance(plan, str) or proof.reason not in ("", "it is not faster"):
        return proof
    fastest = faster_up_to(loaded, plan, frame, time.monotonic() + SIZES_S)
    return replace(proof, reason="" if fastest else "it is not faster", up_to_rows=fastest)


def _dissolved(what: str, loaded: LoadedVersion, proof: PlanProof, records: list[Any]) -> Dissolved:
    plan = plan_of(loaded)
    alone = replace(loaded, plan=None)
    if isinstance(plan, str):
        return Dissolved(what=what, plan="none", up_to_rows=0, ratios=[1.0] * len(SIZES), why=plan)
    served = replace(alone, plan=ProvenPlan(plan, 0 if proof.reason else proof.up_to_rows, what))
    return Dissolved(
        what=what,
        plan=_how_much(plan),
        up_to_rows=0 if proof.reason else proof.up_to_rows,
        ratios=[_ratio(alone, served, records, size) for size in SIZES],
        why=proof.reason or "; ".join(plan.unplanned or plan.opaque),
    )


def _how_much(plan: ScoringPlan) -> str:
    if not plan.opaque:
        return "whole"
    return "end called" if isinstance(plan.end, OpaqueEnd) else "steps called"


def _ratio(alone: LoadedVersion, served: LoadedVersion, records: list[Any], size: int) -> float:
    """CPU time of a pipeline in that of what serves, in turns."""
    given = [records[place % len(records)] for place in range(size)]

    def answer(version: LoadedVersion) -> None:
        version.score(frame_of_records(given, version.schema).rows)

    answer(served)
    turns = [(_cpu(answer, alone), _cpu(answer, served)) for _ in range(TURNS[size])]
    return statistics.median(before / now for before, now in turns)


def _cpu(answer: Callable[[LoadedVersion], None], version: LoadedVersion) -> float:
    begun = time.process_time()
    answer(version)
    return time.process_time() - begun


def show(console: Console, found: Sequence[Dissolved]) -> None:
    """Print the table."""
    table = Table(
        *HEADINGS, caption="times as fast as the pipeline, in CPU time, records in, answers out"
    )
    for one in found:
        table.add_row(*one.cells())
    console.print(table)


def markdown(found: Sequence[Dissolved]) -> str:
    """The table for a document."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|---|---|--:|--:|--:|--:|---|"]
    return "\n".join((*lines, *(f"| {' | '.join(one.cells())} |" for one in found)))
