"""Rows that make a pipeline raise cost themselves and a bounded number of calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Request, Status, new_id
from scoreline_tasks.scoring.bad_rows import (
    ENOUGH,
    RAISING_CALLS,
    BadRowSearch,
    TooManyBadRows,
)
from scoreline_tasks.scoring.batch import Batcher
from scoreline_tasks.scoring.limits import Limits
from scoreline_tasks.scoring.predict import score_frame
from tests.support.models import Predictor
from tests.support.scoring import OneVersion, entry_of


def _raising_where(condition: Callable[[pd.DataFrame], Any]) -> Predictor:
    """Answers x; raises for a frame with any row where the condition holds."""

    def answer(frame: pd.DataFrame) -> npt.NDArray[Any]:
        if np.asarray(condition(frame)).any():
            raise ValueError("unlucky")
        return np.asarray(frame["x"])

    return Predictor(answer)


def _bad_by_flag() -> Predictor:
    return _raising_where(lambda frame: frame["bad"])


def _frame(bad: Any) -> pd.DataFrame:
    flags = np.asarray(bad, dtype=bool)
    return pd.DataFrame({"x": np.arange(len(flags), dtype=float), "bad": flags})


def _glued(frame: pd.DataFrame) -> pd.DataFrame:
    """A column with an index of its own beside the frame, as people glue them."""
    doubled = pd.DataFrame({"double": frame["x"].to_numpy() * 2})
    return pd.concat([frame, doubled], axis=1)


def test_rows_that_are_tried_apart_have_an_index_of_their_own() -> None:
    def answer(frame: pd.DataFrame) -> npt.NDArray[Any]:
        glued = _glued(frame)
        if (frame["x"] == 13).any():
            raise ValueError("unlucky")
        return (
            LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]).predict(glued[["double"]].to_numpy())
        )

    frame = pd.DataFrame({"x": [1.0, 2.0, 13.0, 4.0, 5.0, 6.0]})
    scores, errors = score_frame(LoadedVersion.of(Predictor(answer), "m"), frame)
    assert list(errors) == [2]
    assert np.delete(scores.values.astype(float), 2) == pytest.approx([2.0, 4.0, 8.0, 10.0, 12.0])


def test_an_index_of_its_own_has_each_row_that_is_scored_alone() -> None:
    indices: list[list[int]] = []

    def answer(frame: pd.DataFrame) -> npt.NDArray[Any]:
        indices.append(frame.index.tolist())
        return np.asarray(frame["x"])

    shy = LoadedVersion.of(Predictor(answer), "m")
    score_frame(shy, pd.DataFrame({"x": [1.0, 2.0, 3.0]}), each_row_alone=True)
    assert indices == [[0], [0], [0]]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_every_good_row_is_answered_and_every_bad_one_has_raised_alone(bad: list[bool]) -> None:
    pipeline = _bad_by_flag()
    scores, errors = score_frame(LoadedVersion.of(pipeline, "m"), _frame(bad))
    assert [row in errors for row in range(len(bad))] == bad
    values = scores.values.tolist()
    assert [value for value, is_bad in zip(values, bad, strict=True) if not is_bad] == [
        float(row) for row, is_bad in enumerate(bad) if not is_bad
    ]
    assert not sum(bad) or pipeline.sizes.count(1) >= 1


def test_a_pipeline_that_writes_into_its_frame_before_it_raises_is_given_the_rows_as_they_were() -> (
    None
):
    def answer(frame: pd.DataFrame) -> npt.NDArray[Any]:
        frame["x"] += 1
        frame.to_numpy()
        if (frame["x"] == 14).any():
            raise ValueError("unlucky")
        return np.asarray(frame["x"])

    def frame() -> pd.DataFrame:
        return pd.DataFrame({"x": [1.0, 2.0, 13.0, 4.0]})

    loaded = LoadedVersion.of(Predictor(answer), "m")
    scores, errors = score_frame(loaded, frame())
    assert list(errors) == [2]
    assert [scores.values[row] for row in (0, 1, 3)] == [2.0, 3.0, 5.0]


def test_the_requests_of_a_batch_are_read_again_for_a_pipeline_that_writes_into_its_frame() -> None:
    def answer(frame: pd.DataFrame) -> npt.NDArray[Any]:
        frame["x"] += 1
        if (frame["x"] == 14).any():
            raise ValueError("unlucky")
        return np.asarray(frame["x"])

    (answered,) = _answers(Predictor(answer), [[{"x": 1.0}, {"x": 13.0}, {"x": 4.0}]])
    assert answered.values == [2.0, None, 5.0]


def _calls(pipeline: Predictor, frame: pd.DataFrame) -> int:
    loaded = LoadedVersion.of(pipeline, "m")
    score_frame(loaded, frame)
    return len(pipeline.sizes)


@pytest.mark.parametrize("place", [0, 9_999, 19_999])
def test_one_bad_row_among_many_takes_two_calls_for_each_halving(place: int) -> None:
    bad = np.zeros(20_000, dtype=bool)
    bad[place] = True
    assert _calls(_bad_by_flag(), _frame(bad)) <= 1 + 2 * 15


def test_bad_rows_with_a_value_in_common_take_a_call_each() -> None:
    quarter = np.array(["Q1", "Q2", "Q3", "Q4"])[np.arange(20_000) % 4].astype(object)
    quarter[::100] = "Q5"
    frame = pd.DataFrame({"quarter": quarter, "x": np.arange(20_000.0)})
    pipeline = _raising_where(lambda frame: frame["quarter"] == "Q5")
    assert _calls(pipeline, frame) <= 200 + 50


def test_a_value_in_common_that_is_not_the_fault_takes_few_calls_more() -> None:
    region = np.array(["north"] * 10_000 + ["south"] * 10_000, dtype=object)
    frame = pd.DataFrame({"region": region, "x": np.arange(20_000.0)})
    pipeline = _raising_where(lambda frame: frame["x"].isin([10_000.0, 15_000.0, 19_999.0]))
    assert _calls(pipeline, frame) <= 3 * 2 * 15 + 3 * 10


def test_scattered_bad_rows_take_a_bounded_number_of_calls() -> None:
    bad = np.zeros(20_000, dtype=bool)
    bad[np.random.default_rng(0).choice(20_000, 100, replace=False)] = True
    assert _calls(_bad_by_flag(), _frame(bad)) <= 100 * 2 * 9 + 200


def test_a_frame_in_which_every_row_raises_is_refused_after_some_of_them() -> None:
    pipeline = _bad_by_flag()
    with pytest.raises(
        TooManyBadRows, match=r"raised for 320 of 320 records.*remaining 19,680.*unlucky"
    ):
        _calls(pipeline, _frame(np.ones(20_000)))
    assert len(pipeline.sizes) <= 2 * ENOUGH + 40


def test_a_frame_in_which_too_many_rows_raise_is_refused() -> None:
    pipeline = _bad_by_flag()
    with pytest.raises(TooManyBadRows):
        _calls(pipeline, _frame(np.arange(20_000) % 2))
    assert len(pipeline.sizes) <= 4 * RAISING_CALLS


def test_an_encoder_that_has_not_seen_a_quarter_refuses_the_file_with_the_reason() -> None:
    train = pd.DataFrame({"quarter": ["Q1", "Q2", "Q3", "Q4"] * 5, "x": np.arange(20.0)})
    encode = make_column_transformer((OneHotEncoder(), ["quarter"]), remainder="passthrough")
    fitted = make_pipeline(encode, LinearRegression()).fit(train, np.arange(20.0))
    rows = pd.DataFrame({"quarter": ["Q5"] * 5_000, "x": np.arange(5_000.0)})
    with pytest.raises(TooManyBadRows, match="Q5"):
        score_frame(LoadedVersion.of(fitted, "m"), rows)


def test_rows_that_are_equal_to_one_that_raised_take_no_call() -> None:
    pipeline = _raising_where(lambda frame: frame["x"].isna())
    frame = pd.DataFrame({"x": [np.nan] * 5_000 + [1.0] * 5_000})
    assert _calls(pipeline, frame) <= 2 * 15


def test_rows_are_equal_only_if_all_of_their_values_are_the_very_same() -> None:
    def answer(frame: pd.DataFrame) -> npt.NDArray[Any]:
        if any(value is None or str(value) == "-0.0" for value in frame["x"]):
            raise ValueError("unlucky")
        return np.zeros(len(frame))

    values = [None, 0.0, -0.0, float("nan"), False, "nan", None, -0.0, 0.0]
    frame = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    _, errors = score_frame(LoadedVersion.of(Predictor(answer), "m"), frame)
    assert sorted(errors) == [0, 2, 6, 7]


def test_a_search_pauses_between_two_calls() -> None:
    pauses: list[int] = []
    pipeline = _bad_by_flag()
    search = BadRowSearch(
        LoadedVersion.of(pipeline, "m").score,
        _frame([False] * 50 + [True] + [False] * 50),
        lambda: pauses.append(len(pipeline.sizes)),
    )
    search.run()
    assert pauses == list(range(len(pipeline.sizes)))


def _answers(pipeline: Any, bodies: list[Any]) -> list[Answer]:
    batcher = Batcher(OneVersion(LoadedVersion.of(pipeline, "m")), Limits(1 << 24, 100_000))
    entries = [
        entry_of(Request(id=new_id(), model="m", body=orjson.dumps(body)), lane=Lane.ONLINE)
        for body in bodies
    ]
    answered = {one.request_id: Answer.decode(one.answer) for one in batcher.answer(entries, 1000)}
    return [answered[entry.request_id] for entry in entries]


def test_a_request_in_which_every_record_raises_is_refused_and_other_requests_of_the_batch_are_answered() -> (
    None
):
    pipeline = _raising_where(lambda frame: frame["x"] > 1000)
    hopeless = [{"x": 2000 + number} for number in range(1000)]
    first, refused, last = _answers(pipeline, [[{"x": 1}], hopeless, [{"x": 2}, {"x": 5000}]])
    assert (first.values, last.values) == ([1], [2, None])
    assert last.errors["1"]["code"] == "E_PREDICT"
    assert refused.status is Status.ERROR
    assert refused.error is not None
    assert refused.error["code"] == "E_PREDICT"
    assert "unlucky" in refused.error["message"]
    assert "unseen" in refused.error["message"]


def test_callers_with_a_record_each_have_an_error_each_however_many_they_are() -> None:
    pipeline = _raising_where(lambda frame: frame["x"] != 7)
    answers = _answers(pipeline, [[{"x": number}] for number in range(600)])
    assert [answer.values for answer in answers] == [
        [7] if number == 7 else [None] for number in range(600)
    ]
    assert all(answer.status is Status.OK for answer in answers)


def test_a_step_may_be_a_function_of_the_whole_frame() -> None:
    train = pd.DataFrame({"x": np.arange(20.0)})
    fitted = make_pipeline(FunctionTransformer(_glued), LinearRegression()).fit(train, train["x"])
    frame = pd.DataFrame({"x": [1.0, np.inf, 3.0]})
    scores, errors = score_frame(LoadedVersion.of(fitted, "m"), frame)
    assert list(errors) == [1]
    assert [round(float(scores.values[row]), 6) for row in (0, 2)] == [1.0, 3.0]


def test_bad_rows_that_stand_together_at_the_beginning_cost_no_good_one_its_answer() -> None:
    """No value is common to them, and among all others there are some more."""
    bad = np.zeros(3000, dtype=bool)
    bad[:300] = bad[320::40] = True
    frame = pd.DataFrame({"x": np.arange(1.0, 3001.0) * np.where(bad, -1, 1)})
    pipeline = _raising_where(lambda rows: rows["x"] < 0)
    scores, errors = score_frame(LoadedVersion.of(pipeline, "m"), frame)
    assert sorted(errors) == np.flatnonzero(bad).tolist()
    assert np.array_equal(scores.values[~bad], frame["x"][~bad])
