"""Columns that callers may leave out: what the pipeline throws away is found out, and what may be missing is declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn_pandas import DataFrameMapper

from scoreline_artifacts import Store, UnsuitableData, golden
from scoreline_artifacts.loading.artifact import load
from scoreline_artifacts.manifest import GOLDEN
from scoreline_training import PublishedVersion, publish

pytestmark = pytest.mark.usefixtures("cheap_publishing")

ROWS = 200
FRAME = pd.DataFrame(
    {
        "id": np.arange(ROWS) + 10**15,
        "x": np.linspace(-3, 3, ROWS),
        "n": np.arange(ROWS) % 7,
        "city": np.where(np.arange(ROWS) % 3, "Bonn", "Kiel"),
        "note": [f"note {row}" for row in range(ROWS)],
    }
)
LABELS = pd.Series(np.where(FRAME["x"] + FRAME["n"] > 2, "high", "low"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path)


def _unused(published: PublishedVersion) -> list[str]:
    return [column.name for column in published.manifest.schema.columns if column.unused]


def _some_columns(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[["x", "n"]]


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.select_dtypes("number").drop(columns="id", errors="ignore")


def _rarely(frame: pd.DataFrame) -> pd.DataFrame:
    """Looks at the note where x is at its end, as no golden row but a training row has it."""
    rare = frame["x"].between(2.9, 2.91)
    if rare.any():
        return frame[["x", "n"]].mask(frame["note"].eq("note 196"), 0)
    return frame[["x", "n"]]


PIPELINES: dict[str, tuple[Any, list[str]]] = {
    "remainder dropped": (
        make_pipeline(
            ColumnTransformer(
                [("numbers", StandardScaler(), ["x", "n"]), ("city", OneHotEncoder(), ["city"])]
            ),
            LogisticRegression(solver="liblinear"),
        ),
        ["id", "note"],
    ),
    "dropped by name": (
        make_pipeline(
            ColumnTransformer([("gone", "drop", ["note", "city"])], remainder=StandardScaler()),
            LogisticRegression(solver="liblinear"),
        ),
        ["note", "city"],
    ),
    "mapper": (
        make_pipeline(
            DataFrameMapper([(["x"], StandardScaler()), ("n", None)]),
            LogisticRegression(solver="liblinear"),
        ),
        ["id", "city", "note"],
    ),
    "function": (
        make_pipeline(FunctionTransformer(_some_columns), LogisticRegression(solver="liblinear")),
        ["id", "city", "note"],
    ),
    "by type": (
        make_pipeline(FunctionTransformer(_numbers), LogisticRegression(solver="liblinear")),
        ["id", "city", "note"],
    ),
    "looked at now and then": (
        make_pipeline(FunctionTransformer(_rarely), LogisticRegression(solver="liblinear")),
        [],
    ),
    "passed through": (
        make_pipeline(
            make_column_transformer(("drop", ["note", "city"]), remainder="passthrough"),
            DecisionTreeClassifier(max_depth=1),
        ),
        ["note", "city"],
    ),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_columns_that_the_pipeline_throws_away_are_found(store: Store, name: str) -> None:
    pipeline, unused = PIPELINES[name]
    published = publish(pipeline.fit(FRAME, LABELS), "sides", FRAME, LABELS, store=store)
    assert sorted(_unused(published)) == sorted(unused)


def test_records_without_them_get_the_answers_of_training(store: Store) -> None:
    pipeline, unused = PIPELINES["remainder dropped"]
    publish(pipeline.fit(FRAME, LABELS), "sides", FRAME, LABELS, store=store)
    answers = load(store, "sides", 1).score_records(FRAME.drop(columns=unused).to_dict("records"))
    assert [answer.value for answer in answers] == pipeline.predict(FRAME).tolist()
    np.testing.assert_array_equal(
        [answer.probabilities for answer in answers], pipeline.predict_proba(FRAME)
    )


@pytest.mark.parametrize(
    "pipeline",
    [DummyClassifier(), HistGradientBoostingClassifier(max_iter=2, max_depth=1)],
    ids=["looks at nothing", "has no use for all"],
)
def test_columns_that_the_estimator_is_given_are_demanded(store: Store, pipeline: Any) -> None:
    frame = FRAME[["x", "n"]].assign(constant=1.0)
    published = publish(pipeline.fit(frame, LABELS), "sides", frame, LABELS, store=store)
    assert _unused(published) == []


# Declared


def _imputed() -> Any:
    return make_pipeline(
        ColumnTransformer(
            [
                ("numbers", SimpleImputer(), ["x", "n"]),
                (
                    "city",
                    make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
                    ["city"],
                ),
            ]
        ),
        LogisticRegression(solver="liblinear"),
    ).fit(FRAME.astype({"n": float}), LABELS)


def test_a_column_that_may_be_missing_is_declared(store: Store) -> None:
    pipeline, frame = _imputed(), FRAME.astype({"n": float, "city": object})
    published = publish(pipeline, "sides", frame, LABELS, store=store, optional=["n", "city"])
    by_name = {column.name: column for column in published.manifest.schema.columns}
    assert [name for name, column in by_name.items() if column.optional] == ["n", "city"]
    assert by_name["n"].nullable
    records = [{"x": 0.5}, {"x": 0.5, "n": None, "city": "Kiel"}, {"x": 0.5, "n": 3, "city": None}]
    answers = load(store, "sides", 1).score_records(records)
    want = pd.DataFrame(
        {
            "x": 0.5,
            "n": [np.nan, np.nan, 3.0],
            "city": pd.Series([np.nan, "Kiel", np.nan], dtype=object),
        }
    )
    np.testing.assert_array_equal(
        [answer.probabilities for answer in answers], pipeline.predict_proba(want)
    )


def test_golden_rows_prove_that_it_may_be_missing(store: Store) -> None:
    publish(
        _imputed(), "sides", FRAME.astype({"n": float}), LABELS, store=store, optional=["n", "city"]
    )
    rows = golden.decode(store.read(store.manifest("sides", 1), GOLDEN))
    assert [[row.record["n"], row.record["city"]].count(None) for row in rows[-3:]] == [1, 1, 2]


def test_one_name_is_a_name(store: Store) -> None:
    frame = FRAME.astype({"n": float})
    published = publish(_imputed(), "sides", frame, LABELS, store=store, optional="n")
    assert [column.name for column in published.manifest.schema.columns if column.optional] == ["n"]


@pytest.mark.parametrize(
    ("optional", "message"),
    [
        ("town", "'town', which is no column"),
        ("n", "'n', whose type int64 cannot hold a missing value; train with 'Int64'"),
        ("x", "cannot score a record without it: ValueError: Input X contains NaN"),
    ],
)
def test_what_cannot_be_left_out_is_refused_with_what_to_do(
    store: Store, optional: str, message: str
) -> None:
    pipeline = make_pipeline(
        FunctionTransformer(_some_columns), LogisticRegression(solver="liblinear")
    ).fit(FRAME, LABELS)
    with pytest.raises(UnsuitableData, match=message):
        publish(pipeline, "sides", FRAME, LABELS, store=store, optional=[optional])
    assert store.models() == []
