"""Fitted pipelines that the formats of other programs must score as scikit-learn does, and how that is held against them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn_pandas import DataFrameMapper

from scoreline_artifacts.plan import ScoringPlan, read_plan
from scoreline_artifacts.schema import Schema
from scoreline_training.export.formats import About, Evaluator, Format
from scoreline_training.jobs.pima.training import FEATURES, load_split

ABOUT = About(model="example", version=3, manifest_sha256="0" * 64)


def rows_of(count: int, seed: int) -> pd.DataFrame:
    """Columns of each kind; `gap`, `kind` and `size` have missing values."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "a": rng.normal(size=count),
            "n": rng.integers(0, 9, count),
            "b": rng.gamma(2, 3, count),
            "gap": rng.normal(size=count),
            "color": rng.choice(["red", "green", "blue"], count),
            "kind": pd.Series(rng.choice(["x", "y"], count), dtype=object),
            "size": rng.choice(["low", "high"], count),
            "group": pd.Categorical(rng.choice(["u", "v"], count), categories=["u", "v"]),
            "flag": rng.random(count) < 0.5,
            "short": rng.normal(size=count).astype("float32"),
        }
    )
    frame.loc[::7, "gap"] = np.nan
    frame.loc[::9, "size"] = None
    frame.loc[::11, "kind"] = None
    return frame


FRAME = rows_of(120, 1)
SCHEMA = Schema.infer(FRAME)
SCORE = FRAME["a"] + FRAME["n"] / 5 - FRAME["b"] / 10 + rows_of(120, 2)["a"] / 2
TWO = np.where(SCORE.median() < SCORE, "yes", "no")
THREE = np.digitize(SCORE, SCORE.quantile([0.33, 0.66]))


def asked(count: int) -> pd.DataFrame:
    """Rows that training did not have, with a color that it did not have either."""
    frame = rows_of(count, 3)
    frame.loc[::5, "color"] = "purple"
    return frame


def _mixed(numbers: Any, end: Any) -> Pipeline:
    """A pipeline of each kind of column with these steps for numbers."""
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
    )
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(drop="first"))
    columns = [
        (
            "numbers",
            make_pipeline(SimpleImputer(add_indicator=True), numbers),
            ["a", "n", "b", "gap"],
        ),
        ("texts", OneHotEncoder(handle_unknown="ignore"), ["color", "kind", "group", "flag", "n"]),
        ("places", codes, ["kind", "size", "n"]),
        ("filled", texts, ["size"]),
        ("short", "passthrough", ["short"]),
        ("flag", "passthrough", ["flag"]),
    ]
    return make_pipeline(ColumnTransformer(columns), end)


def _scaled(end: Any) -> Pipeline:
    return _mixed(StandardScaler(), end)


def _by_functions() -> Pipeline:
    names = [
        "arcsinh",
        "cbrt",
        "cos",
        "cosh",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "rint",
        "sign",
        "sinh",
        "square",
        "tanh",
        "trunc",
    ]
    steps = [(name, FunctionTransformer(getattr(np, name)), ["a"]) for name in names]
    positive = ["log", "log10", "log1p", "log2", "reciprocal", "sqrt"]
    steps += [(name, FunctionTransformer(getattr(np, name)), ["b"]) for name in positive]
    return make_pipeline(ColumnTransformer(steps), Ridge())


def _tree_with_missing() -> Pipeline:
    """A tree of numbers and places that may be missing, which scikit-learn's trees take as they are."""
    parts = [("x", "passthrough", ["gap", "a"]), ("size", OrdinalEncoder(), ["size"])]
    return make_pipeline(
        ColumnTransformer(parts), DecisionTreeClassifier(max_depth=5, random_state=0)
    )


_B = FRAME["b"].to_numpy()
CASES: dict[str, tuple[Callable[[], Pipeline], Any]] = {
    "functions": (_by_functions, _B),
    "clipped": (lambda: _mixed(MinMaxScaler(clip=True), LogisticRegression()), TWO),
    "robust": (lambda: _mixed(make_pipeline(RobustScaler(), MaxAbsScaler()), LogisticRegression()), TWO),
    "bins": (lambda: _mixed(KBinsDiscretizer(3), LogisticRegression()), TWO),
    "places of bins": (lambda: _mixed(KBinsDiscretizer(3, encode="ordinal"), LogisticRegression()), TWO),
    "binarizer": (lambda: _mixed(Binarizer(threshold=0.3), LogisticRegression()), TWO),
    "polynomial": (lambda: _mixed(make_pipeline(StandardScaler(), PolynomialFeatures(3)), LogisticRegression()), TWO),
    "components": (lambda: _mixed(make_pipeline(StandardScaler(), PCA(2, whiten=True)), LogisticRegression()), TWO),
    "liblinear": (lambda: _scaled(LogisticRegression(solver="liblinear")), TWO),
    "multinomial": (lambda: _scaled(LogisticRegression()), THREE),
    "one-vs-rest": (lambda: _scaled(LogisticRegression(solver="liblinear")), THREE),
    "softmax of two": (lambda: _scaled(LogisticRegression(multi_class="multinomial")), TWO),
    "without probabilities": (lambda: _scaled(RidgeClassifier()), THREE),
    "a line between two": (lambda: _scaled(LinearSVC()), TWO),
    "linear": (lambda: _scaled(LinearRegression()), _B),
    "a table of one number": (lambda: _scaled(LinearRegression()), FRAME[["b"]]),
    "target in a table": (lambda: TransformedTargetRegressor(_scaled(Ridge()), transformer=StandardScaler()), FRAME[["b"]]),
    "tree": (lambda: _scaled(DecisionTreeClassifier(random_state=0)), TWO),
    "tree of numbers": (lambda: _scaled(DecisionTreeRegressor(max_depth=4, random_state=0)), _B),
    "tree of one leaf": (lambda: _scaled(DecisionTreeRegressor(min_samples_leaf=100, random_state=0)), _B),
    "tree with missing": (_tree_with_missing, TWO),
    "tree of what is missing": (_tree_with_missing, FRAME["gap"].isna().to_numpy()),
    "forest": (lambda: _scaled(RandomForestClassifier(12, min_samples_leaf=3, random_state=0)), THREE),
    "forest of numbers": (lambda: _scaled(ExtraTreesRegressor(6, random_state=0)), _B),
    "boosting": (lambda: _scaled(GradientBoostingClassifier(n_estimators=8, random_state=0)), TWO),
    "exponential boosting": (lambda: _scaled(GradientBoostingClassifier(n_estimators=8, loss="exponential", random_state=0)), TWO),
    "boosting of three": (lambda: _scaled(GradientBoostingClassifier(n_estimators=5, random_state=0)), THREE),
    "boosting of numbers": (lambda: _scaled(GradientBoostingRegressor(n_estimators=8, random_state=0)), _B),
    "target": (lambda: TransformedTargetRegressor(_scaled(Ridge()), func=np.log1p, inverse_func=np.expm1), _B),
    "scaled target": (lambda: TransformedTargetRegressor(_scaled(Ridge()), transformer=StandardScaler()), _B),
}  # fmt: skip
"""Pipelines and targets by what is special about them."""


@cache
def fitted(case: str) -> Any:
    """A pipeline of these, fitted once."""
    make, target = CASES[case]
    return make().fit(FRAME, target)


def plan_of(pipeline: Any, schema: Schema = SCHEMA) -> ScoringPlan:
    """The plan of a fitted pipeline."""
    plan = read_plan(pipeline, schema.columns)
    assert isinstance(plan, ScoringPlan), plan
    return plan


def opened(format_: Format, pipeline: Any, schema: Schema = SCHEMA) -> Evaluator:
    """What another program answers for a fitted pipeline that was written for it."""
    plan = plan_of(pipeline, schema)
    refused = [why for step in (*plan.nodes, plan.end) if (why := format_.takes(step)) is not None]
    assert refused == []
    return format_.open(format_.write(plan, schema.columns, ABOUT))


def largest_error(evaluator: Evaluator, pipeline: Any, frame: pd.DataFrame) -> float:
    """The largest relative error of a number; labels must be those of the pipeline, and of their types."""
    found, wanted = evaluator(frame), pipeline.predict(frame)
    if wanted.dtype.kind == "f":
        numbers = np.array(found.values)
        wanted = wanted[:, 0] if wanted.shape[1:] == (1,) else wanted
        assert numbers.shape == wanted.shape
        return float((abs(numbers - wanted) / np.maximum(1, abs(wanted))).max())
    assert found.values == wanted.tolist()
    assert found.classes == tuple(pipeline.classes_.tolist())
    if not hasattr(pipeline, "predict_proba"):
        assert found.probabilities is None
        return 0.0
    assert found.probabilities is not None
    return float(abs(found.probabilities - pipeline.predict_proba(frame)).max())


def is_adult(ages: Any) -> Any:
    """A function of somebody's own."""
    return np.asarray(ages) >= 18


def published_pipeline(*more: Any) -> tuple[Pipeline, pd.DataFrame, Schema]:
    """log1p(mass) beside all columns, fitted to the Pima data, its frame and its schema."""
    rows = load_split()
    mapper = DataFrameMapper([(["mass"], FunctionTransformer(np.log1p)), *more, (FEATURES, None)])
    pipeline = make_pipeline(mapper, LogisticRegression(solver="liblinear"))
    return pipeline.fit(rows.X_train, rows.y_train), rows.X_train, Schema.infer(rows.X_train)


def random_like(frame: pd.DataFrame, count: int) -> pd.DataFrame:
    """Rows whose numbers are anywhere between the smallest and the largest of a frame."""
    rng = np.random.default_rng(4)
    columns = {
        name: rng.uniform(column.min(), column.max(), count) for name, column in frame.items()
    }
    return pd.DataFrame(columns).astype(frame.dtypes)
