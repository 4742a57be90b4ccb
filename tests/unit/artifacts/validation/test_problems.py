"""What training did not have: found column by column, worth a warning or an error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from scoreline_artifacts import Schema
from scoreline_artifacts.validation import (
    CheckedRecords,
    Hints,
    Rules,
    describe_anomaly,
    frame_of_records,
)

WARN = Rules(unseen="warn", out_of_range="warn")
TRAINING = pd.DataFrame({"n": [1.5, 9.5] * 2, "t": ["red", "blue"] * 2})


def _check(
    records: list[Any], rules: Rules = WARN, training: pd.DataFrame = TRAINING
) -> CheckedRecords:
    return frame_of_records(records, Schema.infer(training), rules=rules)


def _found(checked: CheckedRecords) -> dict[tuple[str, str], list[int]]:
    return {(one.code, one.column): one.records.tolist() for one in checked.anomalies}


def test_findings_name_records_by_their_place_among_bad_ones() -> None:
    records = [5, {"n": 0.5, "t": "red"}, {"n": "x", "t": "green"}, {"n": 2.0, "t": "green"}]
    checked = _check(records)
    assert _found(checked) == {
        ("W_OUT_OF_RANGE", "n"): [1],
        ("W_UNSEEN_CATEGORY", "t"): [3],
    }
    assert checked.indices.tolist() == [1, 3]


def test_nothing_is_looked_for_unless_it_is_asked_for() -> None:
    assert _check([{"n": 0.5, "t": "green"}], Rules()).anomalies == []


def test_one_policy_refuses_and_the_other_warns() -> None:
    records = [{"n": 0.5, "t": "green"}, {"n": 5, "t": "green"}]
    checked = _check(records, Rules(unseen="warn", out_of_range="error"))
    assert [(one.record, one.code) for one in checked.problems] == [(0, "E_OUT_OF_RANGE")]
    assert _found(checked) == {("W_UNSEEN_CATEGORY", "t"): [1]}
    assert len(checked.frame) == 1


@pytest.mark.parametrize("value", [1.5, 9.5])
def test_the_bounds_of_training_are_inside(value: float) -> None:
    assert _check([{"n": value, "t": "red"}]).anomalies == []


@pytest.mark.parametrize("dtype", ["float32", "Int64", "Float64", "int8", "double[pyarrow]"])
def test_ranges_hold_for_every_type_of_number(dtype: str) -> None:
    training = pd.DataFrame({"n": pd.array([2, 9], dtype=dtype)})
    found = _check([{"n": 1}, {"n": 2}, {"n": 10}], training=training)
    assert _found(found) == {("W_OUT_OF_RANGE", "n"): [0, 2]}


def test_bounds_that_a_narrow_float_has_rounded_are_inside() -> None:
    training = pd.DataFrame({"n": np.array([0.1, 0.7], dtype=np.float32)})
    assert _check([{"n": 0.1}, {"n": 0.7}], training=training).anomalies == []


def test_a_missing_value_is_neither_unseen_nor_out_of_range() -> None:
    training = pd.DataFrame({"n": [1.0, None] * 2, "t": ["a", None, "a", None]})
    assert _check([{"n": None, "t": None}], training=training).anomalies == []


@pytest.mark.parametrize("dtype", ["object", "str", "string", "string[pyarrow]"])
def test_texts_are_known_for_every_type_of_text(dtype: str) -> None:
    training = pd.DataFrame({"t": pd.Series(["a", "b"] * 2, dtype=dtype)})
    found = _check([{"t": "a"}, {"t": "c"}], training=training)
    assert _found(found) == {("W_UNSEEN_CATEGORY", "t"): [1]}


def test_texts_that_hardly_come_again_are_not_recorded() -> None:
    names = pd.DataFrame({"t": [f"name {row}" for row in range(100)]})
    assert Schema.infer(names).columns[0].categories is None
    assert _check([{"t": "anybody"}], training=names).anomalies == []


@pytest.mark.parametrize(
    ("value", "hint"),
    [("Red", "'red'"), (" blue ", "'blue'"), ("blu", "'blue'"), ("re\u0301d", "'red'")],
)
def test_the_message_says_what_was_probably_meant(value: str, hint: str) -> None:
    column = Schema.infer(TRAINING).columns[1]
    assert Hints().of(column, value) == f"; the nearest is {hint}"


def test_the_message_says_the_range() -> None:
    column = Schema.infer(TRAINING).columns[0]
    message = describe_anomaly("W_OUT_OF_RANGE", column, 900)
    assert message == "column 'n': 900 is outside of 1.5 to 9.5, the range of training"
