"""A plan answers as its pipeline does, to the last bits, or says that the pipeline is to be asked."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMModel, LGBMRegressor
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import (
    ColumnTransformer,
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
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
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from scoreline_artifacts.loading.one_call import ClassFrom, class_from
from scoreline_artifacts.packaging.plan_proof import as_requested
from scoreline_artifacts.plan import ScoringPlan, read_plan
from scoreline_artifacts.plan.nodes import Unplanned
from scoreline_artifacts.schema import Schema
from scoreline_artifacts.validation import CheckedRows

try:
    from sklearn_pandas import DataFrameMapper
except ImportError:  # with scikit-learn from 1.7 on
    DataFrameMapper = None

pytestmark = pytest.mark.filterwarnings("ignore")

COUNT = 160
NUMBERS = ["a", "n", "b"]
TEXTS = ["color", "kind"]


def _rows(count: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "a": rng.normal(size=count),
            "n": rng.integers(0, 9, count),
            "b": rng.gamma(2, 3, count),
            "m": rng.normal(size=count),
            "color": rng.choice(["red", "green", "blue"], count),
            "kind": pd.Series(rng.choice(["x", "y"], count), dtype=object),
            "gap": rng.choice(["low", "high"], count),
            "group": pd.Categorical(rng.choice(["u", "v", "w"], count), categories=["u", "v", "w"]),
            "flag": rng.random(count) < 0.5,
            "s": rng.normal(size=count).astype("float32"),
            "whole": pd.array(rng.integers(0, 5, count), "Int64"),
        }
    )
    frame.loc[::7, "m"] = np.nan
    frame.loc[::9, "gap"] = None
    return frame


FRAME = _rows(COUNT, 1)
SCHEMA = Schema.infer(FRAME)
_NOISE = np.random.default_rng(2).normal(scale=0.5, size=COUNT)
_SCORE = FRAME["a"] + FRAME["n"] / 5 - FRAME["b"] / 10 + _NOISE
TWO = np.where(_SCORE.median() < _SCORE, "yes", "no")
THREE = np.digitize(_SCORE, _SCORE.quantile([0.33, 0.66]))


@cache
def _asked() -> dict[str, pd.DataFrame]:
    """Frames to score: like those of training, alone, many, and with what scikit-learn may refuse."""
    fresh = _rows(40, 3)
    frames = {"fresh": fresh, "alone": fresh.iloc[[5]].reset_index(drop=True)}
    bad: dict[str, tuple[str, Any]] = {
        "infinite": ("a", np.inf),
        "below zero": ("b", -50.0),
        "missing number": ("a", np.nan),
        "huge": ("b", 1e300),
        "over float32": ("a", 1e39),
        "zero": ("b", 0.0),
        "unseen text": ("color", "purple"),
        "missing text": ("color", None),
        "unseen object": ("kind", "new"),
        "NaN as text": ("kind", np.nan),
        "None as text": ("kind", None),
        "NA as text": ("kind", pd.NA),
        "number as text": ("kind", 5),
        "missing category": ("group", None),
    }
    for name, (column, value) in bad.items():
        frame = fresh.copy()
        frame.loc[[2, 11], column] = value
        frames[name] = frame.astype(FRAME.dtypes)
    return frames


def _scaled() -> list[Any]:
    return [StandardScaler(), MinMaxScaler(clip=True), MaxAbsScaler(), RobustScaler()]


def add_one(values: Any) -> Any:
    """A step of somebody's own."""
    return values + 1


def written(values: Any) -> Any:
    """A step that writes into what it is given."""
    if isinstance(values, pd.DataFrame):
        values.iloc[:, 0] = 0.0
    else:
        values[:, 0] = 0.0
    return values


@cache
def _frozen() -> Any:
    transformed = TRANSFORMERS["mixed-dense"]().fit_transform(FRAME)
    return LogisticRegression(max_iter=50).fit(transformed, TWO)


def zeroed(frame: Any) -> Any:
    """A step that writes into the whole frame."""
    frame["a"] = 0.0
    return frame[["a", "n"]]


def boxes(values: Any) -> Any:
    """A step that is given objects."""
    assert values.dtype == object
    return values.astype(float)


def adult(column: Any) -> Any:
    """A step that wants a series."""
    return (column >= 4).to_frame()


class Doubled(StandardScaler):  # type: ignore[misc]
    """A class that inherits what is known."""

    def transform(self, X: Any, copy: Any = None) -> Any:
        """Otherwise than its parent."""
        return 2 * super().transform(X)


class Reordered(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Gives a frame whose columns depend on the rows."""

    def fit(self, X: Any, y: Any = None) -> Reordered:
        """Learn nothing."""
        return self

    def transform(self, X: Any) -> Any:
        """The columns backwards, unless one row is asked."""
        return X[["a", "b"]] if len(X) == 1 else X[["b", "a"]]


def _prepared(*, sparse: bool = True, remainder: Any = "drop") -> ColumnTransformer:
    return make_column_transformer(
        (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["m", "n", "a"]),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=sparse), ["color", "group"]),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["kind"]),
        (PCA(2), ["a", "b"]),
        remainder=remainder,
    )


TRANSFORMERS: dict[str, Callable[[], Any]] = {
    **{
        f"{type(scaler).__name__}-of-columns": lambda scaler=scaler: make_column_transformer(
            (scaler, NUMBERS)
        )
        for scaler in _scaled()
    },
    "two-scalers": lambda: make_pipeline(
        make_column_transformer((StandardScaler(), ["a", "m"])),
        MinMaxScaler(clip=True),
        SimpleImputer(strategy="median"),
    ),
    "logarithms": lambda: make_column_transformer(
        (FunctionTransformer(np.log1p), ["b", "n"]), ("passthrough", ["a"])
    ),
    "logarithms-validated": lambda: make_column_transformer(
        (FunctionTransformer(np.log1p, validate=True), ["b", "n"])
    ),
    "identity-validated": lambda: make_column_transformer(
        (FunctionTransformer(validate=True), ["b", "n"]), ("passthrough", ["a"])
    ),
    "exponentials": lambda: make_pipeline(
        make_column_transformer((StandardScaler(), ["a", "b"])), FunctionTransformer(np.exp)
    ),
    "squares-of-integers": lambda: make_column_transformer((FunctionTransformer(np.square), ["n"])),
    "one-hot": lambda: make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["color", "kind", "group", "n"])
    ),
    "one-hot-strict": lambda: make_column_transformer((OneHotEncoder(), ["color", "kind", "gap"])),
    "one-hot-without-first": lambda: make_column_transformer(
        (OneHotEncoder(drop="first", handle_unknown="ignore"), ["color", "kind"]),
        (OneHotEncoder(drop="if_binary", sparse_output=False), ["kind", "group"]),
    ),
    "one-hot-rare": lambda: make_column_transformer(
        (OneHotEncoder(min_frequency=60, handle_unknown="infrequent_if_exist"), ["color"])
    ),
    "ordinal": lambda: make_column_transformer((OrdinalEncoder(encoded_missing_value=9), ["color", "gap", "group"])),
    "ordinal-with-codes": lambda: make_column_transformer(
        (
            OrdinalEncoder(
                handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
            ),
            ["color", "gap", "kind"],
        )
    ),
    "imputed-text": lambda: make_column_transformer(
        (
            make_pipeline(
                SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
            ),
            ["gap", "color"],
        )
    ),
    "imputed-constant": lambda: make_column_transformer(
        (SimpleImputer(strategy="constant", fill_value=0.5), ["m", "a"]),
        (SimpleImputer(strategy="constant", fill_value=3), ["n"]),
    ),
    "bins": lambda: make_column_transformer(
        (KBinsDiscretizer(4, encode="ordinal"), ["a"]),
        (KBinsDiscretizer(3, encode="onehot-dense"), ["a", "b"]),
        (KBinsDiscretizer(3, encode="onehot"), ["n"]),
    ),
    "binarized": lambda: make_column_transformer((Binarizer(threshold=0.2), ["a"])),
    "binarized-integers": lambda: make_column_transformer((Binarizer(threshold=3), ["n"])),
    "products": lambda: make_column_transformer(
        (PolynomialFeatures(3, include_bias=False), NUMBERS),
        (PolynomialFeatures((2, 3), interaction_only=True), NUMBERS),
    ),
    "components": lambda: make_column_transformer(
        (PCA(2, whiten=True), NUMBERS), (TruncatedSVD(2), NUMBERS)
    ),
    "best": lambda: make_pipeline(
        make_column_transformer((StandardScaler(), NUMBERS)), SelectKBest(k=2)
    ),
    "best-of-one-hot": lambda: make_pipeline(
        make_column_transformer((OneHotEncoder(), ["color", "kind"])), SelectKBest(k=2)
    ),
    "union": lambda: make_pipeline(
        make_column_transformer((StandardScaler(), NUMBERS)),
        FeatureUnion(
            [("pca", PCA(2)), ("all", "passthrough"), ("none", "drop")],
            transformer_weights={"pca": 0.5},
        ),
    ),
    "weights": lambda: ColumnTransformer(
        [("a", StandardScaler(), ["a"]), ("c", OneHotEncoder(handle_unknown="ignore"), ["color"])],
        transformer_weights={"a": 3.0, "c": 0.25},
    ),
    "mixed": _prepared,
    "mixed-dense": lambda: _prepared(sparse=False),
    "selected-by-type": lambda: make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="float64", pattern="^[ab]$")),
        (MinMaxScaler(), slice("n", "b")),
        (OneHotEncoder(handle_unknown="ignore"), [False] * 4 + [True] + [False] * 6),
        (StandardScaler(), lambda frame: ["a"]),
        (StandardScaler(), [0, 2]),
    ),
    "rest": lambda: make_pipeline(
        make_column_transformer(("drop", [*TEXTS, "gap", "group", "whole", "m", "s", "flag"]), remainder="passthrough"),
        make_column_transformer((StandardScaler(), [0, 2]), remainder=MinMaxScaler()),
    ),
    "floats-of-32-bits": lambda: make_column_transformer((StandardScaler(), ["s"]), ("passthrough", ["n"])),
    "wider-among-32-bits": lambda: make_column_transformer((StandardScaler(), ["s", "a"])),
    "nullable": lambda: make_column_transformer((StandardScaler(), ["whole"]), (MinMaxScaler(), ["a"])),
    "mapper": lambda: DataFrameMapper(
        [
            ("b", FunctionTransformer(np.log1p)),
            ("n", FunctionTransformer(add_one)),
            (["a", "n"], [StandardScaler(), MinMaxScaler()]),
            ("a", None),
            (["color"], OneHotEncoder(handle_unknown="ignore")),
        ]
    ),
    "mapper-of-frames": lambda: DataFrameMapper(
        [(["a", "n"], StandardScaler()), (["b"], FunctionTransformer(add_one))], input_df=True
    ),
    "own-function": lambda: make_column_transformer(
        (FunctionTransformer(add_one), ["a", "n"]), (StandardScaler(), ["b"])
    ),
    "own-function-between": lambda: make_pipeline(
        make_column_transformer((StandardScaler(), NUMBERS)), FunctionTransformer(add_one), MinMaxScaler()
    ),
    "own-function-of-sparse": lambda: make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["color", "kind"])),
        FunctionTransformer(lambda values: values * 2, accept_sparse=True),
        MaxAbsScaler(),
    ),
    "own-function-of-logarithms": lambda: make_column_transformer(
        (make_pipeline(FunctionTransformer(np.log1p), FunctionTransformer(add_one), StandardScaler()), ["b"])
    ),
    "writes": lambda: make_pipeline(
        make_column_transformer((StandardScaler(), NUMBERS)),
        make_union(FunctionTransformer(written), FunctionTransformer(None), StandardScaler()),
    ),
    "writes-into-the-frame": lambda: make_union(
        make_column_transformer((StandardScaler(), ["a"])),
        FunctionTransformer(zeroed),
        make_column_transformer((StandardScaler(), ["a"]), ("passthrough", ["b"])),
    ),
    "series": lambda: make_column_transformer(
        (FunctionTransformer(adult), "n"), (FunctionTransformer(written), ["a", "b"]), (StandardScaler(), ["a"])
    ),
    "booleans-beside-numbers": lambda: make_pipeline(
        make_column_transformer((OrdinalEncoder(), ["color"]), ("passthrough", ["a", "flag", "n"])),
        StandardScaler(),
    ),
    "booleans-beside-sparse": lambda: make_column_transformer(
        (OneHotEncoder(), ["color"]), ("passthrough", ["flag", "n"]), sparse_threshold=0.9
    ),
    "booleans-for-a-function": lambda: make_pipeline(
        make_column_transformer((MinMaxScaler(), ["a"]), ("passthrough", ["flag", "n"])),
        FunctionTransformer(boxes),
        StandardScaler(),
    ),
    "does-not-copy": lambda: make_pipeline(
        make_column_transformer((StandardScaler(), NUMBERS)),
        make_union(StandardScaler(copy=False), FunctionTransformer(None)),
    ),
    "inherited": lambda: make_column_transformer((Doubled(), NUMBERS), (StandardScaler(), ["a"])),
    "reordered": lambda: make_column_transformer(
        (make_pipeline(Reordered(), StandardScaler()), ["a", "b"]), (StandardScaler(), ["n"])
    ),
    "frames-between": lambda: make_pipeline(
        make_column_transformer((StandardScaler(), NUMBERS)).set_output(transform="pandas"),
        MinMaxScaler(),
        PCA(2),
    ),
}  # fmt: skip

_SMALL = {"n_estimators": 5, "min_child_samples": 5, "verbose": -1}


def _log_loss(truth: Any, scores: Any) -> tuple[Any, Any]:
    """An objective of somebody's own."""
    found = 1 / (1 + np.exp(-scores))
    return found - truth, found * (1 - found)


def _voters(kind: Any, **options: Any) -> Any:
    """Three classifiers of different kinds, one of them behind a scaler."""
    return kind(
        [
            ("line", LogisticRegression(max_iter=50)),
            ("tree", DecisionTreeClassifier(max_depth=4, random_state=0)),
            ("scaled", make_pipeline(StandardScaler(with_mean=False), LogisticRegression())),
        ],
        **options,
    )


_TREE = DecisionTreeClassifier(max_depth=3, random_state=0)
_BAYES = GaussianNB(var_smoothing=1e-3)
"""Not with columns that are almost constant in a sample: its answers would hang on the last bits of a sum."""
_BASES = [
    ("logistic", make_pipeline(StandardScaler(with_mean=False), LogisticRegression())),
    ("tree", _TREE),
]
_SAMME = {"algorithm": "SAMME"} if "algorithm" in AdaBoostClassifier().get_params() else {}

ENDS: dict[str, tuple[Callable[[], Any], Any]] = {
    "logistic": (lambda: LogisticRegression(max_iter=50), TWO),
    "logistic-of-three": (lambda: LogisticRegression(max_iter=50), THREE),
    "logistic-ovr": (lambda: LogisticRegression(solver="liblinear"), THREE),
    "logistic-multinomial": (lambda: LogisticRegression(multi_class="multinomial", max_iter=50), TWO),
    "ridge-classes": (RidgeClassifier, THREE),
    "sgd": (lambda: SGDClassifier(loss="log_loss", random_state=0), THREE),
    "linear-svc": (LinearSVC, TWO),
    "lda": (LinearDiscriminantAnalysis, THREE),
    "svc": (SVC, TWO),
    "bayes": (GaussianNB, TWO),
    "line": (LinearRegression, _SCORE),
    "lasso": (lambda: Lasso(0.5), _SCORE),
    "sgd-line": (lambda: SGDRegressor(random_state=0), _SCORE),
    "lines": (LinearRegression, np.c_[_SCORE, -_SCORE]),
    "tree": (lambda: DecisionTreeClassifier(max_depth=4, random_state=0), THREE),
    "tree-of-numbers": (lambda: DecisionTreeRegressor(max_depth=4, random_state=0), _SCORE),
    "forest": (lambda: RandomForestClassifier(5, random_state=0), TWO),
    "forest-with-threads": (lambda: RandomForestClassifier(5, n_jobs=-1, random_state=0), THREE),
    "forest-of-numbers-with-threads": (lambda: ExtraTreesRegressor(5, n_jobs=2, random_state=0), _SCORE),
    "forest-of-numbers": (lambda: ExtraTreesRegressor(5, random_state=0), _SCORE),
    "boosting": (lambda: GradientBoostingClassifier(n_estimators=4, random_state=0), TWO),
    "boosting-of-three": (lambda: GradientBoostingClassifier(n_estimators=3, random_state=0), THREE),
    "boosting-of-numbers": (lambda: GradientBoostingRegressor(n_estimators=4, random_state=0), _SCORE),
    "boosting-from-an-estimator": (
        lambda: GradientBoostingClassifier(n_estimators=3, init=GaussianNB(), random_state=0), TWO,
    ),
    "hist-boosting": (lambda: HistGradientBoostingClassifier(max_iter=3), TWO),
    "hist-boosting-of-three": (lambda: HistGradientBoostingClassifier(max_iter=3), THREE),
    "hist-boosting-of-numbers": (lambda: HistGradientBoostingRegressor(max_iter=3), _SCORE),
    "hist-boosting-of-counts": (
        lambda: HistGradientBoostingRegressor(max_iter=3, loss="poisson"), np.exp(_SCORE / 9),
    ),
    "lightgbm": (lambda: LGBMClassifier(**_SMALL), TWO),
    "lightgbm-of-three": (lambda: LGBMClassifier(**_SMALL, n_jobs=2), THREE),
    "lightgbm-one-vs-rest": (lambda: LGBMClassifier(**_SMALL, objective="multiclassova"), THREE),
    "lightgbm-of-numbers": (lambda: LGBMRegressor(**_SMALL), _SCORE),
    "lightgbm-of-counts": (lambda: LGBMRegressor(**_SMALL, objective="poisson"), np.exp(_SCORE / 9)),
    "lightgbm-early": (
        lambda: LGBMClassifier(**_SMALL, pred_early_stop=True, pred_early_stop_freq=1, pred_early_stop_margin=0.01), TWO,
    ),
    "lightgbm-by-a-function": (lambda: LGBMClassifier(**_SMALL, objective=_log_loss), TWO),
    "lightgbm-calibrated": (lambda: CalibratedClassifierCV(LGBMClassifier(**_SMALL), cv=2), TWO),
    "votes": (lambda: _voters(VotingClassifier), THREE),
    "votes-of-two": (lambda: _voters(VotingClassifier, weights=[2, 1, 1.5]), TWO),
    "votes-by-probabilities": (lambda: _voters(VotingClassifier, voting="soft", weights=[2, 1, 3]), THREE),
    "votes-by-probabilities-of-two": (lambda: _voters(VotingClassifier, voting="soft"), TWO),
    "mean": (
        lambda: VotingRegressor([("line", LinearRegression()), ("tree", DecisionTreeRegressor(max_depth=3))]), _SCORE,
    ),
    "weighed-mean": (
        lambda: VotingRegressor(
            [("line", make_pipeline(StandardScaler(), Lasso(0.5))), ("tree", DecisionTreeRegressor(max_depth=3))], weights=[1, 3]
        ), _SCORE,
    ),
    "bagged-trees": (lambda: BaggingClassifier(_TREE, n_estimators=8, random_state=0), THREE),
    "bagged-trees-of-some-columns": (
        lambda: BaggingClassifier(
            _TREE, n_estimators=6, max_features=0.6, bootstrap_features=True, random_state=0
        ), TWO,
    ),
    "bagged-votes": (lambda: BaggingClassifier(LinearSVC(), n_estimators=5, random_state=0), TWO),
    "bagged-by-threads": (lambda: BaggingClassifier(LogisticRegression(), 4, n_jobs=2, random_state=0), THREE),
    "bagged-numbers": (lambda: BaggingRegressor(Lasso(0.1), n_estimators=5, random_state=0), _SCORE),
    "bagged-called": (lambda: BaggingClassifier(_BAYES, n_estimators=4, random_state=0), TWO),
    "adaboost": (lambda: AdaBoostClassifier(n_estimators=9, **_SAMME), THREE),
    "adaboost-of-two": (lambda: AdaBoostClassifier(_TREE, n_estimators=7, **_SAMME), TWO),
    "adaboost-called": (lambda: AdaBoostClassifier(_BAYES, n_estimators=4, **_SAMME), TWO),
    "adaboost-numbers": (lambda: AdaBoostRegressor(n_estimators=9, random_state=0), _SCORE),
    "adaboost-lines": (lambda: AdaBoostRegressor(Ridge(), n_estimators=5, random_state=0), _SCORE),
    "outputs": (lambda: MultiOutputRegressor(Lasso(0.1)), np.c_[_SCORE, FRAME["b"]]),
    "outputs-of-classes": (lambda: MultiOutputClassifier(_TREE), np.c_[TWO, THREE.astype(str)]),
    "outputs-called": (lambda: MultiOutputClassifier(_BAYES), np.c_[TWO, THREE.astype(str)]),
    "one-vs-rest": (lambda: OneVsRestClassifier(LogisticRegression()), THREE),
    "one-vs-rest-without-probabilities": (lambda: OneVsRestClassifier(LinearSVC()), THREE),
    "one-vs-rest-of-trees": (lambda: OneVsRestClassifier(_TREE), THREE),
    "one-vs-rest-called": (lambda: OneVsRestClassifier(_BAYES), THREE),
    "one-vs-rest-of-two": (lambda: OneVsRestClassifier(LogisticRegression()), TWO),
    "stacked": (lambda: StackingClassifier(_BASES, cv=2), TWO),
    "stacked-of-three": (lambda: StackingClassifier(_BASES, passthrough=True, cv=2), THREE),
    "stacked-classes": (lambda: StackingClassifier(_BASES, stack_method="predict", cv=2), THREE),
    "stacked-with-scores": (
        lambda: StackingClassifier([("line", LinearSVC()), *_BASES], final_estimator=LinearSVC(), cv=2), THREE,
    ),
    "stacked-on-called": (lambda: StackingClassifier(_BASES, _BAYES, cv=2), TWO),
    "stacked-called": (lambda: StackingClassifier([("bayes", _BAYES), *_BASES], cv=2), TWO),
    "stacked-numbers": (
        lambda: StackingRegressor([("line", Lasso(0.1)), ("tree", DecisionTreeRegressor(max_depth=3))], cv=2), _SCORE,
    ),
    "stacked-numbers-beside": (
        lambda: StackingRegressor([("line", Lasso(0.1))], DecisionTreeRegressor(max_depth=3), cv=2, passthrough=True), _SCORE,
    ),
    "calibrated": (lambda: CalibratedClassifierCV(LinearSVC(), cv=2), TWO),
    "calibrated-by-steps": (
        lambda: CalibratedClassifierCV(LogisticRegression(max_iter=50), method="isotonic", cv=2), THREE,
    ),
    "calibrated-once": (
        lambda: CalibratedClassifierCV(RandomForestClassifier(4, random_state=0), ensemble=False, cv=2), THREE,
    ),
    "calibrated-called": (lambda: CalibratedClassifierCV(GaussianNB(), cv=2), TWO),
    "calibrated-beforehand": (
        lambda: CalibratedClassifierCV(FrozenEstimator(_frozen()), cv=2), TWO,
    ),
    "threshold": (lambda: FixedThresholdClassifier(LogisticRegression(), threshold=0.3), TWO),
    "threshold-of-the-first": (
        lambda: FixedThresholdClassifier(
            LogisticRegression(), threshold=0.4, pos_label="no", response_method="decision_function"
        ),
        TWO,
    ),
    "threshold-auto": (lambda: FixedThresholdClassifier(LinearSVC()), TWO),
    "threshold-tuned": (
        lambda: TunedThresholdClassifierCV(HistGradientBoostingClassifier(max_iter=3), cv=2), TWO,
    ),
    "target": (
        lambda: TransformedTargetRegressor(LinearRegression(), func=np.arcsinh, inverse_func=np.sinh), _SCORE,
    ),
    "grid": (lambda: GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [2, 3]}, cv=2), TWO),
}  # fmt: skip

CALLED = (
    *("svc", "bayes", "calibrated-called", "boosting-from-an-estimator"),
    *("lightgbm-by-a-function", "lightgbm-calibrated", "one-vs-rest-of-two"),
    *(name for name in ENDS if name.endswith("-called")),
)
"""Ends of which nothing is known."""

if "multi_class" not in LogisticRegression().get_params():  # since scikit-learn 1.8
    del ENDS["logistic-ovr"], ENDS["logistic-multinomial"]


def _pairs() -> Iterator[tuple[str, str]]:
    """Each transformer with one end, and each end with one transformer."""
    ends = itertools.cycle(("logistic", "forest", "line", "svc", "boosting"))
    has_mapper = DataFrameMapper is not None
    listed = [name for name in TRANSFORMERS if has_mapper or not name.startswith("mapper")]
    yield from ((transformer, next(ends)) for transformer in listed)
    yield from (("mixed-dense", end) for end in ENDS)


def _fitted(transformer: str, end: str) -> Pipeline:
    make, target = ENDS[end]
    pipeline = make_pipeline(TRANSFORMERS[transformer](), make())
    return pipeline.fit(FRAME, target)


def _answer(scorer: Any, method: str, rows: pd.DataFrame | CheckedRows) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return getattr(scorer, method)(rows.copy() if isinstance(rows, pd.DataFrame) else rows)
        except Exception as error:  # noqa: BLE001 - whatever a pipeline raises
            return error


def _differences(plan: ScoringPlan, pipeline: Any) -> Iterator[str]:
    """Where a plan answers, and not as its pipeline does."""
    for name, frame in _asked().items():
        for method in ("predict", "predict_proba"):
            if not hasattr(pipeline, method):
                continue
            by_frame = _answer(plan, method, frame)
            got = _answer(plan, method, as_requested(frame))
            if repr(by_frame) != repr(got):
                yield f"{name}: {method} says {got!r} without a frame, and {by_frame!r} with it"
            if isinstance(got, Exception):
                continue  # the pipeline is asked
            want = _answer(pipeline, method, frame)
            if isinstance(want, list):  # of several outputs
                got, want = np.concatenate(got, axis=1), np.concatenate(want, axis=1)
            if isinstance(want, Exception):
                yield f"{name}: {method} answers where the pipeline raises {want!r}"
            elif np.asarray(got).dtype != np.asarray(want).dtype or got.shape != want.shape:
                yield f"{name}: {method} gives {got.dtype} of {got.shape}, not {want.dtype} of {want.shape}"
            elif want.dtype.kind != "f" and (got != want).any():
                yield f"{name}: {method} gives other labels"
            elif want.dtype.kind == "f":
                scale = np.maximum(np.abs(want), 1e-300)
                same = (want == got) | (np.isnan(want) & np.isnan(got))
                same |= np.abs(got - want) <= 1e-12 * np.maximum(scale, np.nanmax(np.abs(want)))
                if not same.all():
                    yield f"{name}: {method} is {np.abs(got - want).max()} apart"


@pytest.mark.parametrize(("transformer", "end"), [*_pairs()])
def test_a_plan_answers_as_its_pipeline_or_not_at_all(transformer: str, end: str) -> None:
    pipeline = _fitted(transformer, end)
    plan = read_plan(pipeline, SCHEMA.columns)
    assert isinstance(plan, ScoringPlan), plan
    assert [*_differences(plan, pipeline)] == []
    if transformer == "mixed-dense" and end not in CALLED:
        assert plan.opaque == ()
    # A plan that always leaves it to the pipeline would pass so far.
    if transformer != "reordered":
        for name in ("fresh", "alone"):
            assert len(plan.predict(_asked()[name].copy())) == len(_asked()[name])


def _mirrored(estimators: Sequence[Any]) -> None:
    """Give two fitted classifiers of two classes probabilities that sum up to a tie for every row."""
    first, second = estimators
    if hasattr(first, "coef_"):
        second.coef_, second.intercept_ = -first.coef_, -first.intercept_
    else:
        first.tree_.value[:], second.tree_.value[:] = [0.3, 0.7], [0.7, 0.3]


@pytest.mark.parametrize(
    "make",
    [
        lambda: VotingClassifier(
            [("one", LogisticRegression()), ("two", LogisticRegression())], voting="soft"
        ),
        lambda: BaggingClassifier(LogisticRegression(), 2, random_state=0),
        lambda: RandomForestClassifier(2, n_jobs=2, random_state=0),
    ],
    ids=["votes", "bagged", "forest by threads"],
)
def test_probabilities_that_decide_the_class_are_not_given_where_rounding_may_decide(
    make: Callable[[], Any],
) -> None:
    """The class is the largest of them: nobody calls `predict`, which would find the tie."""
    pipeline = make_pipeline(TRANSFORMERS["mixed-dense"](), make()).fit(FRAME, TWO)
    assert class_from(pipeline) is ClassFrom.PROBABILITIES
    _mirrored(pipeline[-1].estimators_)
    plan = read_plan(pipeline, SCHEMA.columns)
    assert isinstance(plan, ScoringPlan)
    for method in ("predict", "predict_proba"):
        assert isinstance(_answer(plan, method, FRAME), Unplanned)


def test_an_interface_of_lightgbm_that_asks_otherwise_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ask(self: Any, rows: Any) -> Any:
        return self._Booster.score(rows)

    pipeline = _fitted("mixed-dense", "lightgbm")
    monkeypatch.setattr(LGBMModel, "predict", ask)
    plan = read_plan(pipeline, SCHEMA.columns)
    assert isinstance(plan, ScoringPlan)
    assert len(plan.opaque) == 1
