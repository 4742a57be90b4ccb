"""A bad row costs only itself."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_tasks.scoring.predict import score_frame
from tests.support.models import Predictor


class Fragile:
    """Raises when any row of the call is negative, as scikit-learn does for a NaN."""

    classes_ = np.array(["no", "yes"])

    def __init__(self) -> None:
        self.calls = 0

    def predict(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        self.calls += 1
        if (frame["x"] < 0).any():
            raise ValueError("negative")
        return np.where(frame["x"] > 10, "yes", "no")

    def predict_proba(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        yes = (self.predict(frame) == "yes").astype(float)
        return np.column_stack([1 - yes, yes])


def _score(values: list[float], pipeline: object | None = None) -> Any:
    loaded = LoadedVersion.of(pipeline or Fragile(), "fragile")
    scores, errors = score_frame(loaded, pd.DataFrame({"x": values}))
    return SimpleNamespace(values=scores.values, probabilities=scores.probabilities, errors=errors)


@given(st.lists(st.integers(-3, 20), max_size=40))
def test_every_row_is_answered_as_if_it_were_alone(values: list[float]) -> None:
    scored = _score(values)
    assert set(scored.errors) == {row for row, value in enumerate(values) if value < 0}
    for row, value in enumerate(values):
        if value >= 0:
            assert scored.values[row] == ("yes" if value > 10 else "no")
            assert scored.probabilities[row].tolist() == ([0, 1] if value > 10 else [1, 0])


def test_one_bad_row_of_many_costs_a_logarithm_of_calls() -> None:
    pipeline = Fragile()
    scored = _score([1.0] * 500 + [-1.0] + [1.0] * 523, pipeline)
    assert list(scored.errors) == [500]
    assert pipeline.calls < 50


def test_the_error_says_what_the_pipeline_said() -> None:
    error = _score([-1.0]).errors[0]
    assert error.code == "E_PREDICT"
    assert "ValueError" in error.message
    assert "negative" in error.message


def test_nan_is_no_answer() -> None:
    inverse = Predictor(
        lambda frame: np.where(frame["x"] == 0, np.nan, 1 / frame["x"].replace(0, 1))
    )
    scored = _score([1.0, 0.0, 2.0], inverse)
    assert {row: error.code for row, error in scored.errors.items()} == {1: "E_MODEL_OUTPUT"}
    assert scored.values[[0, 2]].tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("answers", "bad"),
    [
        ([np.inf, 1.5, "x"], {0, 2}),
        (["a", "b", "c"], set()),
        ([1, np.float32("nan"), None], {1, 2}),
        ([[1.0, 2.0], [1.0, np.nan], ["x", 1]], {1, 2}),
    ],
)
def test_what_is_no_answer_among_objects_costs_its_row(answers: list[Any], bad: set[int]) -> None:
    objects = np.array(answers, dtype=object)
    scored = _score([1.0, 2.0, 3.0], Predictor(lambda _: objects))
    assert set(scored.errors) == bad


def test_an_answer_of_the_wrong_length_is_never_matched_to_records() -> None:
    scored = _score([1.0, 2.0], Predictor(lambda frame: np.zeros(len(frame) + 1)))
    assert {error.code for error in scored.errors.values()} == {"E_MODEL_OUTPUT"}
    assert len(scored.errors) == 2
