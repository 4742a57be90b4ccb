"""Pipelines that are exported in tests: the two of the Pima data, and generated ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.ensemble import GradientBoostingRegressor as BoostedRegressor
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn_pandas import DataFrameMapper

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_training.jobs.pima.training import FEATURES, Split, load_split
from tests.unit.training.export.written import FRAME, SCHEMA, SCORE, THREE, TWO


def split() -> Split:
    """The rows of the Pima data."""
    return load_split()


def with_logarithm() -> Pipeline:
    """log1p(mass) beside all columns, and a logistic regression."""
    mapper = DataFrameMapper([(["mass"], FunctionTransformer(np.log1p)), (FEATURES, None)])
    rows = split()
    return make_pipeline(mapper, LogisticRegression(solver="liblinear")).fit(
        rows.X_train, rows.y_train
    )


def with_transformer(transformer: Any) -> Pipeline:
    """The same with one more transformer, of the age."""
    mapper = DataFrameMapper(
        [(["mass"], FunctionTransformer(np.log1p)), (["age"], transformer), (FEATURES, None)]
    )
    rows = split()
    return make_pipeline(mapper, LogisticRegression(solver="liblinear")).fit(
        rows.X_train, rows.y_train
    )


_TARGETS = {"two": TWO, "three": THREE, "number": SCORE.to_numpy()}

_NUMBERS: dict[str, Any] = {
    "scaled": StandardScaler,
    "clipped": lambda: MinMaxScaler(clip=True),
    "robust": RobustScaler,
    "binned": lambda: KBinsDiscretizer(3, encode="onehot-dense", quantile_method="averaged_inverted_cdf")
    if hasattr(KBinsDiscretizer(), "quantile_method")
    else KBinsDiscretizer(3, encode="onehot-dense"),
    "products": lambda: PolynomialFeatures(3),
    "components": lambda: make_pipeline(StandardScaler(), PCA(1, whiten=True)),
    "arctan": lambda: FunctionTransformer(np.arctan),
    "passed": lambda: "passthrough",
}  # fmt: skip
_TEXTS: dict[str, Any] = {
    "one-hot": lambda: OneHotEncoder(handle_unknown="ignore"),
    "one-hot-strict": lambda: OneHotEncoder(drop="first", sparse_output=False),
    "places": lambda: OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
    ),
}
_ENDS: dict[str, tuple[str, Any]] = {
    "logistic": ("two", lambda: LogisticRegression(max_iter=30)),
    "logistic-of-three": ("three", lambda: LogisticRegression(max_iter=30)),
    "one-vs-rest": ("three", lambda: LogisticRegression(solver="liblinear")),
    "without-probabilities": ("three", RidgeClassifier),
    "line": ("number", LinearRegression),
    "target": (
        "number",
        lambda: TransformedTargetRegressor(
            LinearRegression(), func=np.arcsinh, inverse_func=np.sinh
        ),
    ),
    "scaled-target": (
        "number",
        lambda: TransformedTargetRegressor(LinearRegression(), transformer=StandardScaler()),
    ),
    "tree": ("three", lambda: DecisionTreeClassifier(max_depth=4, random_state=0)),
    "tree-of-numbers": ("number", lambda: DecisionTreeRegressor(max_depth=4, random_state=0)),
    "forest": ("two", lambda: RandomForestClassifier(4, max_depth=4, random_state=0)),
    "boosting": ("two", lambda: GradientBoostingClassifier(n_estimators=4, random_state=0)),
    "boosting-exponential": (
        "two",
        lambda: GradientBoostingClassifier(loss="exponential", n_estimators=4, random_state=0),
    ),
    "boosting-of-three": (
        "three",
        lambda: GradientBoostingClassifier(n_estimators=3, random_state=0),
    ),
    "boosting-of-numbers": ("number", lambda: BoostedRegressor(n_estimators=4, random_state=0)),
}
each_end = sorted(_ENDS)


@st.composite
def pipelines(draw: st.DrawFn, end: str) -> LoadedVersion:
    """A fitted pipeline of columns, transformers and this end, as a version that scores."""
    parts: list[Any] = [
        (
            f"numbers{place}",
            _NUMBERS[draw(st.sampled_from(sorted(_NUMBERS)))](),
            draw(st.lists(st.sampled_from(["a", "b", "n"]), min_size=1, max_size=3, unique=True)),
        )
        for place in range(draw(st.integers(1, 2)))
    ]
    if draw(st.booleans()):
        imputer = SimpleImputer(strategy="median", add_indicator=draw(st.booleans()))
        parts.append(("gap", make_pipeline(imputer, StandardScaler()), ["gap", "a"]))
    if draw(st.booleans()):
        parts.append(("above", Binarizer(threshold=3), ["n"]))
    encoder = _TEXTS[draw(st.sampled_from(sorted(_TEXTS)))]()
    names = draw(
        st.lists(st.sampled_from(["color", "size", "group", "flag", "n"]), max_size=3, unique=True)
    )
    if names:
        parts.append(("texts", encoder, names))
    steps: list[Any] = [ColumnTransformer(parts)]
    if draw(st.booleans()):
        # Of a sparse array it is not planned.
        steps = [ColumnTransformer(parts, sparse_threshold=0), SelectKBest(k=1)]
    target, make = _ENDS[end]
    pipeline = make_pipeline(*steps, make()).fit(FRAME, _TARGETS[target])
    return LoadedVersion.of(pipeline, "generated", 1, SCHEMA)


def golden_records() -> list[dict[str, Any]]:
    """Rows of training as records."""
    values = FRAME.head(8).astype(object)
    return list(values.where(values.notna(), None).to_dict("records"))
