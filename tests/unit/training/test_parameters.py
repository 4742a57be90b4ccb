"""The parameters of steps as a version records them: the same text for the same, bounded, and no reason to fail."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from scoreline_training.parameters import MOST_CHARACTERS, MOST_PARAMETERS, parameters_of


class Odd:
    """A pipeline with parameters that nobody has thought of."""

    def __init__(self, **parameters: object) -> None:
        self._parameters = parameters

    def get_params(self, deep: bool = True) -> dict[str, object]:
        assert deep
        return self._parameters

    def __repr__(self) -> str:
        raise RuntimeError("no text of it")


def test_parameters_have_the_names_that_set_params_takes() -> None:
    pipeline = make_pipeline(
        ColumnTransformer([("numbers", StandardScaler(), ["age"])]),
        FunctionTransformer(np.sqrt),
        LogisticRegression(C=5, class_weight="balanced"),
    )
    found = parameters_of(pipeline)
    assert found["logisticregression__C"] == "5"
    assert found["logisticregression__class_weight"] == "'balanced'"
    assert found["columntransformer__transformers"] == "[('numbers', StandardScaler, ['age'])]"
    assert found["columntransformer__numbers"] == "StandardScaler"
    pipeline.set_params(logisticregression__C=5)
    assert parameters_of(pipeline) == found


def test_the_same_values_have_the_same_text_in_every_process() -> None:
    found = parameters_of(Odd(some={"b", "a"}, thing=object(), rule=len, many=np.arange(3)))
    assert found == {
        "some": "{'a', 'b'}",
        "thing": "<object object>",
        "rule": "builtins.len",
        "many": "[0, 1, 2]",
    }


def test_a_long_value_is_cut_and_still_tells_another_one_apart() -> None:
    one, other = (parameters_of(Odd(v=["x"] * 5000 + [end]))["v"] for end in "ab")
    assert one != other
    assert len(one) < MOST_CHARACTERS + 40


def test_no_more_parameters_are_recorded_than_a_manifest_should_hold() -> None:
    assert len(parameters_of(Odd(**{f"p{at}": at for at in range(2000)}))) == MOST_PARAMETERS


def test_what_is_named_as_a_secret_is_not_recorded() -> None:
    assert parameters_of(Odd(api_key="hunter2", token_pattern="x")) == {"token_pattern": "'x'"}


@pytest.mark.parametrize("pipeline", [object(), Odd(v=float), Odd(v=[Odd()])])
def test_a_pipeline_whose_parameters_have_no_text_is_published_all_the_same(
    pipeline: object,
) -> None:
    assert set(parameters_of(pipeline)) <= {"v"}
