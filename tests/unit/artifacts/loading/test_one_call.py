"""One call serves for class and probabilities where the estimator's own code proves it, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.feature_selection import RFE
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators

from scoreline_artifacts.loading import one_call
from scoreline_artifacts.loading.one_call import ClassFrom, class_from
from scoreline_artifacts.loading.version import LoadedVersion

# Of scikit-learn's own: SciPy's newer signatures, networks that have not converged.
pytestmark = pytest.mark.filterwarnings("ignore")

GENERATOR = np.random.default_rng(3)
# Whole numbers from few: many rows are alike, and votes and shares are tied.
TRAIN = pd.DataFrame(GENERATOR.integers(0, 4, (120, 3)), columns=["a", "b", "c"]).astype(float)
NEW = pd.concat(
    [
        pd.DataFrame(GENERATOR.integers(0, 4, (300, 3)), columns=["a", "b", "c"]).astype(float),
        pd.DataFrame(GENERATOR.uniform(0, 3, (100, 3)), columns=["a", "b", "c"]),
        pd.DataFrame(np.zeros((3, 3)), columns=["a", "b", "c"]),
    ],
    ignore_index=True,
)
TWO = np.where((TRAIN["a"] + GENERATOR.normal(0, 2, 120)) > 1.5, "yes", "no")
THREE = np.array([7, 8, 9])[(TRAIN["b"] + GENERATOR.integers(0, 2, 120)).clip(0, 2).astype(int)]
LISTED = {
    name.rpartition(".")[2]
    for names in (one_call._SAME_NUMBERS, one_call._GROWING_NUMBERS)
    for name in names
}

CLASSIFIERS = {
    name: kind
    for name, kind in all_estimators(type_filter="classifier")
    if hasattr(kind, "predict_proba")
}


def _made(name: str) -> Any:
    kind: Any = CLASSIFIERS.get(name) or getattr(lightgbm, name)
    tree = DecisionTreeClassifier(max_depth=2, random_state=0)
    parts = [("tree", tree), ("line", LogisticRegression())]
    arguments: dict[str, dict[str, Any]] = {
        "VotingClassifier": {"estimators": parts, "voting": "soft"},
        "StackingClassifier": {"estimators": parts},
        "SGDClassifier": {"loss": "modified_huber", "random_state": 0},
        "SVC": {"probability": True},
        "NuSVC": {"probability": True, "nu": 0.1},
        "LGBMClassifier": {"verbose": -1, "n_jobs": 1, "n_estimators": 5, "min_child_samples": 2},
        "MLPClassifier": {"hidden_layer_sizes": (4,), "max_iter": 200, "random_state": 0},
        "AdaBoostClassifier": {"n_estimators": 4, "random_state": 0},
        "RandomForestClassifier": {"n_estimators": 4, "random_state": 0},
        "BaggingClassifier": {"n_estimators": 4, "random_state": 0},
        "LogisticRegressionCV": {"Cs": 2, "cv": 2},
        "HistGradientBoostingClassifier": {"max_iter": 2, "max_leaf_nodes": 4},
        "GradientBoostingClassifier": {"n_estimators": 4},
        "QuadraticDiscriminantAnalysis": {"reg_param": 0.1},
    }
    return kind(**arguments.get(name, {}))


@pytest.mark.parametrize("labels", [TWO, THREE], ids=["two classes", "three classes"])
@pytest.mark.parametrize("name", sorted(LISTED))
def test_classes_out_of_probabilities_are_those_of_predict(name: str, labels: Any) -> None:
    pipeline = _made(name).fit(TRAIN, labels)
    loaded = LoadedVersion.of(pipeline, "m")
    assert loaded.class_from is not ClassFrom.PREDICT
    scores = loaded.score(NEW)
    assert scores.values.dtype == pipeline.predict(NEW).dtype
    assert scores.values.tolist() == pipeline.predict(NEW).tolist()


def test_a_tie_is_decided_by_predict() -> None:
    # Both classes have a probability of 0.5: scikit-learn takes the second one from a score over zero.
    line = LogisticRegression().fit(TRAIN, TWO)
    line.coef_, line.intercept_ = np.array([[1e-20, 0.0, 0.0]]), np.array([0.0])
    frame = pd.DataFrame({"a": [1.0, -1.0, 0.0], "b": 0.0, "c": 0.0})
    assert line.predict_proba(frame)[:, 0].tolist() == [0.5, 0.5, 0.5]
    scores = LoadedVersion.of(line, "m").score(frame)
    assert scores.values.tolist() == line.predict(frame).tolist() == ["yes", "no", "no"]


class _Subclass(LogisticRegression):  # type: ignore[misc]
    def predict(self, frame: Any) -> Any:
        return np.where(self.predict_proba(frame)[:, 0] > 0.9, "no", "yes")


def _patched() -> Any:
    line = LogisticRegression().fit(TRAIN, TWO)
    line.predict = lambda frame: np.full(len(frame), "refer")
    return line


def _own_objective(truth: Any, score: Any) -> Any:
    share = 1 / (1 + np.exp(-score))
    return share - truth, share * (1 - share)


ASKED: dict[str, Callable[[], Any]] = {
    "subclass": lambda: _Subclass().fit(TRAIN, TWO),
    "patched": _patched,
    "tuned threshold": lambda: TunedThresholdClassifierCV(LogisticRegression()).fit(
        TRAIN, TWO == "yes"
    ),
    "fixed threshold": lambda: FixedThresholdClassifier(GaussianNB(), threshold=0.8).fit(
        TRAIN, TWO
    ),
    "SVC": lambda: SVC(probability=True, random_state=0).fit(TRAIN, THREE),
    "nearest neighbours": lambda: KNeighborsClassifier(4, weights="distance").fit(TRAIN, TWO),
    "one against the rest": lambda: OneVsRestClassifier(GaussianNB()).fit(TRAIN, THREE),
    "threshold inside a pipeline": lambda: make_pipeline(
        StandardScaler(), FixedThresholdClassifier(GaussianNB(), threshold=0.8)
    ).fit(TRAIN, TWO),
    "threshold inside a search": lambda: GridSearchCV(
        FixedThresholdClassifier(GaussianNB()), {"threshold": [0.8]}
    ).fit(TRAIN, TWO),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_decides_another_way_is_asked(name: str) -> None:
    pipeline = ASKED[name]()
    loaded = LoadedVersion.of(pipeline, "m")
    assert loaded.class_from is ClassFrom.PREDICT
    assert loaded.score(NEW).values.tolist() == pipeline.predict(NEW).tolist()


def test_agreement_on_all_training_rows_proves_nothing() -> None:
    generator = np.random.default_rng(0)
    train, new = (
        pd.DataFrame(generator.normal(size=(count, 2)), columns=["x", "y"]) for count in (400, 500)
    )
    labels = (train["x"] + generator.normal(size=400) > 0.3).astype(int)
    neighbours = KNeighborsClassifier(15, weights="distance")
    tuned = TunedThresholdClassifierCV(neighbours).fit(train, labels)

    def likeliest(frame: pd.DataFrame) -> Any:
        return tuned.classes_[tuned.predict_proba(frame).argmax(axis=1)]

    assert (likeliest(train) == tuned.predict(train)).all()
    assert (likeliest(new) != tuned.predict(new)).any()
    assert LoadedVersion.of(tuned, "m").score(new).values.tolist() == tuned.predict(new).tolist()


TRANSPARENT: dict[str, Callable[[], Any]] = {
    "pipeline": lambda: make_pipeline(StandardScaler(), GaussianNB()),
    "pipeline in a pipeline": lambda: make_pipeline(make_pipeline(StandardScaler(), GaussianNB())),
    "search": lambda: GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [1.0, 2.0]}
    ),
    "feature elimination": lambda: RFE(LogisticRegression(), n_features_to_select=2),
    "frozen": lambda: FrozenEstimator(GaussianNB().fit(TRAIN, THREE)),
    "stack": lambda: StackingClassifier(
        [("nb", GaussianNB())], DecisionTreeClassifier(max_depth=2)
    ),
    "calibrated vectors": lambda: CalibratedClassifierCV(SVC()),
    "votes": lambda: VotingClassifier(
        [("nb", GaussianNB()), ("svc", SVC(probability=True))], voting="soft"
    ),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_containers_that_hand_both_calls_on_are_looked_through(name: str) -> None:
    pipeline = TRANSPARENT[name]().fit(TRAIN, THREE)
    loaded = LoadedVersion.of(pipeline, "m")
    assert loaded.class_from is not ClassFrom.PREDICT
    assert loaded.score(NEW).values.tolist() == pipeline.predict(NEW).tolist()


def test_several_labels_of_a_network_are_not_one_class() -> None:
    marks = np.column_stack([TRAIN["a"] > 1, TRAIN["b"] > 1]).astype(int)
    network = MLPClassifier((3,), max_iter=200, random_state=0).fit(TRAIN, marks)
    assert class_from(network) is ClassFrom.PREDICT


def test_scores_of_an_objective_of_ones_own_are_no_probabilities() -> None:
    boosted = lightgbm.LGBMClassifier(
        objective=_own_objective, n_estimators=3, verbose=-1, n_jobs=1
    )
    assert class_from(boosted.fit(TRAIN, (TWO == "yes").astype(int))) is ClassFrom.PREDICT


@pytest.mark.parametrize("pipeline", [None, "passthrough", object(), SGDClassifier])
def test_what_is_no_classifier_is_asked(pipeline: object) -> None:
    assert class_from(pipeline) is ClassFrom.PREDICT


def test_a_step_that_writes_into_its_frame_leaves_the_frame_of_the_other_call() -> None:
    class Doubles(LogisticRegression):  # type: ignore[misc]
        def predict_proba(self, frame: pd.DataFrame) -> Any:
            frame["a"] = frame["a"] * 2
            frame.iloc[0, 1] = 99.0
            return super().predict_proba(frame)

    frame = NEW.head(9).copy()
    pipeline = Doubles().fit(TRAIN, TWO)
    expected = pipeline.predict(frame.copy()).tolist()
    assert LoadedVersion.of(pipeline, "m").score(frame).values.tolist() == expected
    pd.testing.assert_frame_equal(frame, NEW.head(9))
