"""A plan serves where it was proved and holds; in every other case the pipeline does, and it is said why."""

from __future__ import annotations

import importlib
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from scoreline_artifacts import Schema, golden
from scoreline_artifacts.loading.artifact import planned
from scoreline_artifacts.loading.planned import PlanProof, versions_here
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.packaging.plan_proof import WITHOUT_LIMIT, prove_plan
from scoreline_artifacts.plan import ScoringPlan

# Of scikit-learn's own: SciPy's newer signatures.
pytestmark = pytest.mark.filterwarnings("ignore")

_RANDOM = np.random.default_rng(0)
FRAME = pd.DataFrame({"a": _RANDOM.normal(size=80), "b": _RANDOM.normal(size=80)})
LABELS = np.where(FRAME["a"] > 0.2, "yes", "no")
RECORDS: list[dict[str, Any]] = FRAME.head(6).to_dict("records")


def _pipeline(*steps: Any) -> Pipeline:
    return make_pipeline(*steps, StandardScaler(), LogisticRegression()).fit(FRAME, LABELS)


def _proof(**changes: Any) -> PlanProof:
    proof = PlanProof(nodes=2, rows=80, up_to_rows=64, versions=versions_here())
    return replace(proof, **changes)


def _loaded(proof: PlanProof, pipeline: Any = None, value: Any = None) -> LoadedVersion:
    """A version with its plan, whose golden rows all have this answer, if one is given."""
    loaded = LoadedVersion.of(pipeline or _pipeline(), "m", schema=Schema.infer(FRAME))
    rows = loaded.score_records(RECORDS)
    if value is not None:
        rows = [golden.GoldenRow(row.record, value, row.probabilities) for row in rows]
    return planned(loaded, proof, rows)


def _uses_pipeline(loaded: LoadedVersion, monkeypatch: pytest.MonkeyPatch, count: int = 3) -> bool:
    asked = []
    original = StandardScaler.transform

    def counting(self: Any, X: Any, copy: Any = None) -> Any:
        asked.append(len(X))
        return original(self, X, copy)

    monkeypatch.setattr(StandardScaler, "transform", counting)
    rows = FRAME.head(count).reset_index(drop=True)
    scores = loaded.score(rows)
    monkeypatch.undo()
    assert scores.values.tolist() == loaded.pipeline.predict(rows).tolist()
    return bool(asked)


def test_a_proved_plan_scores_up_to_its_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = _loaded(_proof())
    assert not _uses_pipeline(loaded, monkeypatch)
    assert not _uses_pipeline(loaded, monkeypatch, 64)
    assert _uses_pipeline(loaded, monkeypatch, 65)


@pytest.mark.parametrize(
    "proof",
    [
        _proof(reason="it is not faster"),
        _proof(versions=versions_here() | {"numpy": "1.0"}),
        _proof(versions=versions_here() | {"lightgbm": "1.0"}),
        _proof(versions=versions_here() | {"a-library-that-is-not-here": "1.0"}),
        _proof(versions=versions_here() | {"plan": "0"}),
        _proof(nodes=3),
        _proof(up_to_rows=0),
    ],
    ids=["reason", "library", "library of an end", "library that is away", "code", "nodes", "size"],
)
def test_a_plan_that_was_not_proved_here_does_not_serve(
    proof: PlanProof, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _uses_pipeline(_loaded(proof), monkeypatch)


def test_a_setting_turns_plans_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as changed:
        changed.setenv("SCORELINE_PLAN", "0")
        loaded = _loaded(_proof())
    assert loaded.plan is None


def test_a_plan_that_answers_golden_rows_otherwise_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = _loaded(_proof(), value="another")
    with caplog.at_level(logging.WARNING):
        assert _uses_pipeline(loaded, monkeypatch)
    assert "plan_not_used version=m@1: its pipeline scores" in caplog.text
    assert loaded.plan is not None
    assert "golden row 0" in loaded.plan.reason


def test_what_a_plan_cannot_answer_the_pipeline_answers_or_refuses() -> None:
    loaded = _loaded(_proof())
    rows = FRAME.head(3).copy()
    rows.loc[1, "a"] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        loaded.score(rows)


def test_fields_of_later_releases_are_ignored() -> None:
    proof = _proof()
    later = json.loads(proof.encode()) | {"colour": "red"}
    assert PlanProof.decode(json.dumps(later).encode()) == proof
    assert "cannot be read" in PlanProof.decode(b"[]").unusable()
    assert "cannot be read" in PlanProof.decode(b"{").unusable()


def test_a_plan_needs_no_library_that_another_version_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    proof = _proof()
    assert "lightgbm" not in proof.versions
    importlib.import_module("lightgbm")
    assert proof.unusable() == ""
    assert "lightgbm" in versions_here()


def test_a_plan_is_proved_with_generated_rows() -> None:
    loaded = LoadedVersion.of(_pipeline(), "m", schema=Schema.infer(FRAME))
    proof = prove_plan(loaded, FRAME.head(5), FRAME, 30.0)
    assert proof.reason == ""
    assert proof.rows > 5000
    assert proof.max_error <= 1e-12
    assert proof.up_to_rows in (*range(1, 30_000), WITHOUT_LIMIT)
    assert proof.nodes == 2


def test_a_plan_with_another_answer_is_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = LoadedVersion.of(_pipeline(), "m", schema=Schema.infer(FRAME))
    monkeypatch.setattr(ScoringPlan, "predict", lambda self, frame: np.full(len(frame), "yes"))
    proof = prove_plan(loaded, FRAME.head(5), FRAME, 1.0)
    assert "predict gives" in proof.reason
    assert proof.unusable() == proof.reason


def _refuses(frame: Any) -> Any:
    if (np.abs(np.asarray(frame)) > 10).any():
        raise ValueError("too large")
    return frame


def test_an_error_of_a_called_step_is_that_of_the_pipeline() -> None:
    pipeline = _pipeline(StandardScaler(), FunctionTransformer(_refuses))
    loaded = LoadedVersion.of(pipeline, "m", schema=Schema.infer(FRAME))
    proof = prove_plan(loaded, FRAME.head(5), FRAME, 30.0)
    assert proof.reason == ""
    assert len(proof.opaque) == 1
    assert proof.opaque[0].startswith("functiontransformer → FunctionTransformer(")
    assert Path(__file__).name in proof.opaque[0]
    serving = planned(loaded, proof, loaded.score_records(RECORDS))
    with pytest.raises(ValueError, match="too large"):
        serving.score(FRAME.head(3) * 1000)
