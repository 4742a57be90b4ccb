"""A plan as JSON evaluates equal to its pipeline, in numpy and in JavaScript, and is small."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.plan import ScoringPlan, read_plan
from scoreline_artifacts.schema import Schema
from scoreline_training.export.formats import About, Evaluator, Scored
from scoreline_training.export.json_format import FORMAT
from scoreline_training.export.proof import NotProven, prove
from tests.unit.training.export import projects
from tests.unit.training.export.written import (
    CASES,
    FRAME,
    asked,
    fitted,
    largest_error,
    opened,
    plan_of,
)
from tests.unit.training.jobs.test_pima import PUBLISHED

pytestmark = pytest.mark.filterwarnings("ignore")
SCRIPT = Path(__file__).parents[4] / "examples" / "node" / "score_plan.mjs"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
ABOUT = About(model="pima", version=3, manifest_sha256="0" * 64)


def _plan(version: LoadedVersion) -> ScoringPlan:
    assert version.schema is not None
    plan = read_plan(version.pipeline, version.schema.columns)
    assert isinstance(plan, ScoringPlan), plan
    return plan


def _written(version: LoadedVersion) -> bytes:
    plan = _plan(version)
    assert not plan.opaque, plan.opaque
    assert [FORMAT.takes(step) for step in (*plan.nodes, plan.end)] == [None] * (
        len(plan.nodes) + 1
    )
    assert version.schema is not None
    return FORMAT.write(plan, version.schema.columns, ABOUT)


@pytest.fixture(scope="module")
def pima() -> LoadedVersion:
    rows = projects.split()
    return LoadedVersion.of(projects.with_logarithm(), "pima", 3, Schema.infer(rows.X_train))


def test_the_published_table_can_be_read_in_the_file(pima: LoadedVersion) -> None:
    data = _written(pima)
    assert len(data) < 700
    plan = json.loads(data)
    assert [step["op"] for step in plan["steps"]] == [
        "numbers",
        "log1p",
        "numbers",
        "concat",
        "logistic",
    ]
    names = ["log1p(mass)", *plan["steps"][2]["names"]]
    found = dict(zip(names, plan["steps"][-1]["coef"][0], strict=True))
    assert found == pytest.approx(PUBLISHED, rel=0.05)


@pytest.mark.parametrize("case", CASES)
def test_the_evaluator_answers_as_scikit_learn(case: str) -> None:
    pipeline = fitted(case)
    assert largest_error(opened(FORMAT, pipeline), pipeline, asked(300)) < 1e-14


@pytest.mark.parametrize("end", projects.each_end)
@settings(max_examples=3, deadline=None, suppress_health_check=[*HealthCheck])
@given(data=st.data())
def test_what_is_written_evaluates_equal_to_the_pipeline(end: str, data: st.DataObject) -> None:
    version = data.draw(projects.pipelines(end))
    written = _written(version)
    measured = prove(
        "generated", version, _plan(version), FORMAT.open(written), projects.golden_records(),
        tolerance=FORMAT.tolerance, rows=100,
    )  # fmt: skip
    assert measured.rows > 100
    assert measured.answered_alone == 0


def _by_node(path: Path) -> Evaluator:
    """Scores frames with the example in JavaScript."""
    classes = tuple(json.loads(path.read_bytes())["steps"][-1].get("classes", ()))

    def evaluate(frame: pd.DataFrame) -> Scored:
        values = frame.astype(object)
        records = values.where(values.notna(), None).to_dict("records")
        lines = b"".join(orjson.dumps(record) + b"\n" for record in records)
        run = subprocess.run(
            ["node", str(SCRIPT), str(path)], input=lines, capture_output=True, check=True
        )
        answers = [json.loads(line) for line in run.stdout.splitlines()]
        if any("error" in answer for answer in answers):
            raise ValueError("no answer")
        shares = [answer.get("probabilities") for answer in answers]
        return Scored(
            [answer["value"] for answer in answers],
            None if shares[0] is None else np.array(shares),
            classes,
        )

    return evaluate


@needs_node
@pytest.mark.parametrize("end", ["one-vs-rest", "target", "forest", "boosting-exponential"])
@settings(max_examples=1, deadline=None, suppress_health_check=[*HealthCheck])
@given(data=st.data())
def test_javascript_gives_the_same(
    end: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    version = data.draw(projects.pipelines(end))
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    path.write_bytes(_written(version))
    measured = prove(
        "generated", version, _plan(version), _by_node(path), projects.golden_records(),
        tolerance=FORMAT.tolerance, rows=50,
    )  # fmt: skip
    assert measured.answered_alone == 0


@needs_node
def test_javascript_reproduces_the_rows_of_the_data(pima: LoadedVersion, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(_written(pima))
    rows = projects.split().X_test
    answered = _by_node(tmp_path / "plan.json")(rows)
    assert answered.values == pima.pipeline.predict(rows).tolist()
    expected = pima.pipeline.predict_proba(rows)
    assert answered.probabilities == pytest.approx(expected, abs=1e-12)


def test_a_file_of_another_pipeline_is_not_proven(pima: LoadedVersion) -> None:
    data = _written(pima).replace(b"0.0648", b"0.0649")
    rows = projects.split().X_train.head(4).to_dict("records")
    with pytest.raises(NotProven, match="probability differs"):
        prove("pima@3", pima, _plan(pima), FORMAT.open(data), rows, tolerance=1e-9, rows=50)


@pytest.mark.parametrize("by", ["numpy", pytest.param("node", marks=needs_node)])
def test_a_number_is_rounded_to_32_bits_where_its_column_has_them(by: str, tmp_path: Path) -> None:
    frame = FRAME[["short", "a"]]
    # A column of 64 bits beside it: scikit-learn scales columns of 32 bits alone with 32 bits.
    line = make_pipeline(StandardScaler(), LinearRegression()).fit(frame, FRAME["b"])
    version = LoadedVersion.of(line, "short", 1, Schema.infer(frame))
    path = tmp_path / "plan.json"
    path.write_bytes(_written(version))
    evaluator = _by_node(path) if by == "node" else FORMAT.open(path.read_bytes())
    rows = pd.DataFrame({"short": [0.1, 1 / 3], "a": [0.1, 1 / 3]})
    want = line.predict(rows.astype(frame.dtypes))
    assert evaluator(rows).values == pytest.approx(want.tolist(), rel=1e-12)


@pytest.mark.parametrize(
    "transformer",
    [StandardScaler(with_mean=False), RobustScaler(), MaxAbsScaler(), MinMaxScaler(clip=True)],
    ids=lambda one: type(one).__name__,
)
def test_a_target_that_was_scaled_is_scaled_back(transformer: Any) -> None:
    frame = FRAME[["a", "b"]]
    pipeline = TransformedTargetRegressor(LinearRegression(), transformer=transformer)
    pipeline.fit(frame, FRAME["n"])
    assert largest_error(opened(FORMAT, pipeline, Schema.infer(frame)), pipeline, frame) < 1e-14


@pytest.mark.parametrize("by", ["numpy", pytest.param("node", marks=needs_node)])
@pytest.mark.parametrize("missing", [None, np.nan], ids=str)
def test_a_text_that_is_missing_is_filled_as_scikit_learn_fills_it(
    missing: Any, by: str, tmp_path: Path
) -> None:
    # scikit-learn's imputer leaves None where it is.
    texts = ["low", "low", missing, "high", "low", missing]
    frame = pd.DataFrame({"size": pd.Series(texts, dtype=object), "a": range(6)})
    encoder = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    parts = [("size", encoder, ["size"]), ("a", "passthrough", ["a"])]
    line = make_pipeline(ColumnTransformer(parts), LinearRegression())
    line.fit(frame, [1.0, 2.0, 30.0, 4.0, 5.0, 60.0])
    version = LoadedVersion.of(line, "size", 1, Schema.infer(frame))
    path = tmp_path / "plan.json"
    path.write_bytes(_written(version))
    evaluator = _by_node(path) if by == "node" else FORMAT.open(path.read_bytes())
    assert evaluator(frame).values == pytest.approx(line.predict(frame).tolist(), rel=1e-12)


def test_whole_numbers_that_doubles_do_not_tell_apart_are_no_categories() -> None:
    frame = pd.DataFrame({"key": np.resize([2**53, 2**53 + 1], 20)})
    pipeline = make_pipeline(OneHotEncoder(), LinearRegression()).fit(frame, range(20))
    plan = plan_of(pipeline, Schema.infer(frame))
    assert [why[:34] for step in plan.nodes if (why := FORMAT.takes(step))] == [
        "it has whole numbers beyond 2^53 a"
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format": "scoreline-plan/2", "steps": []}',
        b'{"format": "scoreline-plan/1", "steps": [{"op": "system"}]}',
    ],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        FORMAT.open(data)
