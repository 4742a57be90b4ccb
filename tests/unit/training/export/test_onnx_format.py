"""A plan as ONNX is answered by onnxruntime as by scikit-learn, and what ONNX cannot say is refused."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from scoreline_artifacts.schema import Schema
from scoreline_client.errors import MissingDependency
from scoreline_training.export.formats import NotExportable
from scoreline_training.export.onnx_format import FORMAT
from tests.unit.training.export.written import (
    ABOUT,
    CASES,
    FRAME,
    SCHEMA,
    TWO,
    asked,
    fitted,
    is_adult,
    largest_error,
    opened,
    plan_of,
    published_pipeline,
    random_like,
)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("case", CASES)
def test_onnxruntime_answers_as_scikit_learn(case: str) -> None:
    pipeline = fitted(case)
    assert (
        largest_error(opened(FORMAT, pipeline), pipeline, asked(2100 if case == "forest" else 300))
        < 1e-14
    )


def test_the_published_pipeline_is_answered_to_the_last_bits() -> None:
    pipeline, frame, schema = published_pipeline()
    rows = random_like(frame, 10_000)
    assert largest_error(opened(FORMAT, pipeline, schema), pipeline, rows) < 2e-15


def test_a_function_of_somebodys_own_is_refused_by_its_name_and_line() -> None:
    pipeline, _, schema = published_pipeline((["age"], FunctionTransformer(is_adult)))
    plan = plan_of(pipeline, schema)
    refused = [step.way for step in plan.nodes if FORMAT.takes(step) is not None]
    assert any("is_adult), written.py:" in way for way in refused)


def test_numbers_beside_a_threshold_go_the_same_way() -> None:
    tree = DecisionTreeClassifier().fit(FRAME[["a"]], TWO)
    splits = tree.tree_.threshold[tree.tree_.feature >= 0]
    near = splits.astype(np.float32)
    up = np.nextafter(near, np.float32(np.inf))
    middle = (near.astype(float) + up.astype(float)) / 2
    numbers = np.concatenate([splits, near, up, middle])
    numbers = np.concatenate(
        [numbers, np.nextafter(numbers, np.inf), np.nextafter(numbers, -np.inf)]
    )
    evaluator = opened(FORMAT, tree, Schema.infer(FRAME[["a"]]))
    assert largest_error(evaluator, tree, pd.DataFrame({"a": numbers})) == 0


def test_several_numbers_a_row() -> None:
    several = Ridge().fit(FRAME[["a", "b"]], FRAME[["n", "b"]])
    evaluator = opened(FORMAT, several, Schema.infer(FRAME[["a", "b"]]))
    assert largest_error(evaluator, several, asked(50)[["a", "b"]]) < 1e-14


@pytest.mark.parametrize(
    "labels", [[True, False], [1.0, 2.0], [3, 10**12]], ids=["truth", "floats", "wholes"]
)
def test_labels_keep_their_types(labels: list[Any]) -> None:
    tree = DecisionTreeClassifier(max_depth=2).fit(
        FRAME[["a"]], np.array(labels)[(TWO == "no").astype(int)]
    )
    found = opened(FORMAT, tree, Schema.infer(FRAME[["a"]]))(asked(50)[["a"]])
    assert set(map(type, found.values)) == {type(labels[0])}
    assert set(found.values) == set(labels)


def test_columns_may_have_the_names_of_outputs() -> None:
    names = {"a": "prediction", "b": "probabilities", "n": "concat_0", "gap": "constant_0"}
    frame = FRAME.dropna().rename(columns=names)[[*names.values()]]
    line = LinearRegression().fit(frame, range(len(frame)))
    assert largest_error(opened(FORMAT, line, Schema.infer(frame)), line, frame) < 1e-12


def test_text_that_is_empty_and_missing_is_refused() -> None:
    frame = FRAME.assign(size=FRAME["size"].where(FRAME["a"] < 1, ""))
    pipeline = make_pipeline(
        ColumnTransformer([("x", OneHotEncoder(handle_unknown="ignore"), ["size", "color"])]),
        LinearRegression(),
    )
    schema = Schema.infer(frame)
    plan = plan_of(pipeline.fit(frame, FRAME["a"]), schema)
    with pytest.raises(NotExportable, match="cannot be missing") as refusal:
        FORMAT.write(plan, schema.columns, ABOUT)
    assert "'size'" in refusal.value.steps[0].way


def test_what_runtimes_have_with_32_bits_only_is_refused() -> None:
    pipeline = make_pipeline(FunctionTransformer(np.arctan), LinearRegression()).fit(
        FRAME[["a"]], FRAME["b"]
    )
    plan = plan_of(pipeline, Schema.infer(FRAME[["a"]]))
    assert [why for step in plan.nodes if (why := FORMAT.takes(step))] == [
        "it calls numpy.arctan, which programs that run ONNX have with 32 bits only"
    ]


def test_columns_without_a_name_and_dates_as_categories_are_refused() -> None:
    frame = pd.DataFrame({"": FRAME["a"], "day": pd.date_range("2020-01-01", periods=len(FRAME))})
    parts = [("x", "passthrough", [""]), ("day", OneHotEncoder(), ["day"])]
    pipeline = make_pipeline(ColumnTransformer(parts), LinearRegression()).fit(frame, FRAME["b"])
    plan = plan_of(pipeline, Schema.infer(frame))
    refused = [why for step in plan.nodes if (why := FORMAT.takes(step))]
    assert {why.partition(" whose name is empty")[0] for why in refused} == {
        "it reads a column",
        f"it has categories of the type {frame['day'].dtype}",
    }


def test_the_same_version_is_the_same_file() -> None:
    plan = plan_of(fitted("boosting"))
    first, second = (FORMAT.write(plan, SCHEMA.columns, ABOUT) for _ in range(2))
    assert first == second


def test_other_bytes_are_no_model() -> None:
    with pytest.raises(ValueError, match="no ONNX model"):
        FORMAT.open(b"something else")


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match=r"scoreline\[onnx\]"):
        FORMAT.open(b"")
    monkeypatch.setitem(sys.modules, "onnx", None)
    pipeline, _, schema = published_pipeline()
    with pytest.raises(MissingDependency, match=r"scoreline\[onnx\]"):
        FORMAT.write(plan_of(pipeline, schema), schema.columns, ABOUT)
