"""What a pipeline answers with is found out from its answers: names, types, classes, and how exact they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from scoreline_artifacts import UnsuitableData
from scoreline_artifacts.loading.outputs import find_outputs
from tests.support.models import Predictor

# Of scikit-learn's own: SciPy's newer signatures.
pytestmark = pytest.mark.filterwarnings("ignore")

FRAME = pd.DataFrame({"x": np.linspace(-3, 3, 30), "y": np.linspace(5, 0, 30)})
MARKS = pd.DataFrame({"right": FRAME["x"] > 0, "high": FRAME["y"] > 4}).astype(int)
WORDS = pd.DataFrame(
    {
        "side": np.where(FRAME["x"] > 0, "right", "left"),
        "height": np.where(FRAME["y"] > 4, "high", "low"),
    }
)


@pytest.mark.parametrize(
    ("fit", "labels", "columns"),
    [
        (lambda: LinearRegression(), FRAME["x"], ["prediction"]),
        (lambda: LinearRegression(), FRAME, ["prediction_x", "prediction_y"]),
        (lambda: LinearRegression(), FRAME.to_numpy(), ["prediction_0", "prediction_1"]),
        (lambda: StandardScaler(), None, ["prediction_x", "prediction_y"]),
        (
            lambda: make_column_transformer(
                (OneHotEncoder(), ["x"]), sparse_threshold=1
            ).set_output(),
            None,
            [f"prediction_onehotencoder__x_{x}" for x in FRAME["x"]],
        ),
        (
            lambda: GaussianMixture(2, random_state=0),
            None,
            ["prediction", "probability_0", "probability_1"],
        ),
        (
            lambda: DecisionTreeClassifier(max_depth=2),
            WORDS["side"],
            ["prediction", "probability_left", "probability_right"],
        ),
        (
            lambda: DecisionTreeClassifier(max_depth=2),
            np.full(30, "only"),
            ["prediction", "probability_only"],
        ),
        (
            lambda: ClassifierChain(LogisticRegression()),
            MARKS,
            ["prediction_right", "prediction_high", "probability_right", "probability_high"],
        ),
        (
            lambda: MultiOutputClassifier(LogisticRegression()),
            WORDS,
            [
                "prediction_side",
                "prediction_height",
                "probability_side_left",
                "probability_side_right",
                "probability_height_high",
                "probability_height_low",
            ],
        ),
        (
            lambda: RandomForestClassifier(3, random_state=0),
            MARKS.to_numpy(),
            [
                "prediction_0",
                "prediction_1",
                "probability_0_0",
                "probability_0_1",
                "probability_1_0",
                "probability_1_1",
            ],
        ),
    ],
    ids=[
        "regression",
        "regressions named by their labels",
        "regressions without names",
        "transformer",
        "sparse transformer",
        "mixture",
        "classifier",
        "classifier of one class",
        "chain of labels",
        "classifiers",
        "forest of several outputs",
    ],
)
def test_every_output_has_a_column(fit: Callable[[], Any], labels: Any, columns: list[str]) -> None:
    found = find_outputs(fit().fit(FRAME, labels), FRAME, labels).outputs
    assert [*found.prediction_columns, *found.probability_columns] == columns


def test_columns_that_would_have_the_same_name_are_numbered() -> None:
    labels = pd.DataFrame(
        {
            "a": np.where(FRAME["x"] > 0, "b_c", "d"),
            "a_b": np.where(FRAME["y"] > 4, "c", "d"),
        }
    )
    tree = DecisionTreeClassifier(max_depth=2).fit(FRAME, labels)
    found = find_outputs(tree, FRAME, labels).outputs
    assert found.prediction_columns == ["prediction_0", "prediction_1"]
    assert found.probability_columns[0] == "probability_0_b_c"


@pytest.mark.parametrize(
    ("answer", "types"),
    [
        (lambda frame: frame["x"], ["number"]),
        (lambda frame: frame["x"].astype(int).tolist(), ["number"]),
        (lambda frame: frame["x"] > 0, ["boolean"]),
        (lambda frame: np.where(frame["x"] > 0, "a", "b"), ["text"]),
        (lambda frame: pd.Series(np.where(frame["x"] > 0, "a", "b"), dtype="category"), ["text"]),
        (lambda frame: [[1, "a", True]] * len(frame), ["number", "text", "boolean"]),
        (
            lambda frame: pd.DataFrame({"n": 1, "t": "a", "b": frame["x"] > 0}),
            ["number", "text", "boolean"],
        ),
    ],
)
def test_an_output_has_a_type(answer: Callable[[pd.DataFrame], Any], types: list[str]) -> None:
    assert find_outputs(Predictor(answer), FRAME).outputs.types == types


def test_answers_of_several_types_are_refused_with_the_row() -> None:
    mixed = Predictor(lambda frame: [1 if x < 2.9 else "refer" for x in frame["x"]])
    with pytest.raises(UnsuitableData, match=r"'x': 3.0.* answered 'refer'.*of one type"):
        find_outputs(mixed, FRAME)


class _Shares(Predictor):
    """One class for all, with probabilities of any shape."""

    def __init__(self, shares: Callable[[int], Any]) -> None:
        super().__init__(lambda frame: np.zeros(len(frame), int))
        self._shares = shares

    def predict_proba(self, frame: pd.DataFrame) -> Any:
        return self._shares(len(frame))


def test_probabilities_without_classes_are_named_by_their_place() -> None:
    shares = _Shares(lambda count: np.tile([0.2, 0.8], (count, 1)))
    assert find_outputs(shares, FRAME).outputs.classes == [0, 1]


def test_probabilities_that_belong_to_nothing_are_refused() -> None:
    shares = _Shares(lambda count: [np.tile([0.2, 0.8], (count, 1))] * 2)
    with pytest.raises(UnsuitableData, match="do not belong to them one by one"):
        find_outputs(shares, FRAME)


def test_classes_that_are_not_as_many_as_the_probabilities_are_refused() -> None:
    shares = _Shares(lambda count: np.tile([0.2, 0.8], (count, 1)))
    shares.classes_ = np.array(["a", "b", "c"])  # type: ignore[attr-defined]
    with pytest.raises(UnsuitableData, match="2 probabilities, and classes_ is"):
        find_outputs(shares, FRAME)


def test_a_method_for_probabilities_that_only_raises_gives_none() -> None:
    def none(count: int) -> Any:
        raise NotImplementedError

    assert find_outputs(_Shares(none), FRAME).outputs.probability_columns == []


@pytest.mark.parametrize(
    ("answer", "tolerance"),
    [
        (lambda frame: frame["x"], 1e-9),
        (lambda frame: frame["x"].astype(int), 1e-9),
        (lambda frame: frame["x"].astype(np.float32), 1e-5),
        (lambda frame: frame["x"].astype("Float32"), 1e-5),
        (lambda frame: frame["x"].to_numpy(np.float16), 1e-2),
        (lambda frame: frame.assign(y=frame["y"].astype(np.float32)), 1e-5),
    ],
)
def test_the_coarsest_number_decides_what_rounding_explains(
    answer: Callable[[pd.DataFrame], Any], tolerance: float
) -> None:
    assert find_outputs(Predictor(answer), FRAME).tolerance == tolerance


def test_a_coarse_input_decides_too() -> None:
    found = find_outputs(Predictor(lambda frame: frame["y"]), FRAME.astype({"x": np.float32}))
    assert found.tolerance == 1e-5
