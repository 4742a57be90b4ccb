"""Raw records to the training frame: nothing is guessed, and a bad record costs only itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline_artifacts import Schema
from scoreline_artifacts.validation import (
    CheckedRecords,
    Problem,
    frame_of_columns,
    frame_of_records,
    shown,
)
from scoreline_client.codes import Code

TRAINING = pd.DataFrame(
    {
        "age": [21, 81],
        "mass": [0.0, 67.1],
        "smokes": [True, False],
        "city": ["Bonn", "Kiel"],
        "group": pd.Categorical(["a", "b"]),
        "seen": pd.to_datetime(["2024-01-01", "2024-01-02"]),
    }
)
SCHEMA = Schema.infer(TRAINING)
GOOD: dict[str, Any] = {
    "age": 50,
    "mass": 33.6,
    "smokes": True,
    "city": "Köln",
    "group": "b",
    "seen": "2024-05-06T07:08:09",
}


def _check(*records: object, training: pd.DataFrame = TRAINING) -> CheckedRecords:
    return frame_of_records(records, Schema.infer(training))


def _problem(record: object, training: pd.DataFrame = TRAINING) -> Problem:
    checked = _check(record, training=training)
    assert len(checked.problems) == 1
    return checked.problems[0]


def _cell(column: str, value: object) -> Problem:
    return _problem({**GOOD, column: value})


def test_the_frame_has_the_columns_order_and_types_of_training() -> None:
    frame = _check(dict(reversed(GOOD.items())), GOOD).frame
    pd.testing.assert_series_equal(frame.dtypes, TRAINING.dtypes)


def test_good_records_keep_their_values() -> None:
    frame = _check(GOOD).frame
    assert frame.drop(columns="seen").iloc[0].to_dict() == {
        name: value for name, value in GOOD.items() if name != "seen"
    }
    assert frame["seen"][0] == pd.Timestamp("2024-05-06 07:08:09")


def test_all_good_is_told_without_places() -> None:
    checked = _check(GOOD, GOOD)
    assert (checked.good, checked.problems) == (None, [])


def test_no_records_make_an_empty_frame_with_the_types_of_training() -> None:
    training = TRAINING[["age", "mass", "city"]]
    frame = _check(training=training).frame
    assert len(frame) == 0
    pd.testing.assert_series_equal(frame.dtypes, training.dtypes)


def test_a_bad_record_does_not_fail_its_neighbours() -> None:
    checked = _check(GOOD, {**GOOD, "age": "old"}, {**GOOD, "age": 7})
    assert checked.good is not None
    assert checked.good.tolist() == [0, 2]
    assert checked.frame["age"].tolist() == [50, 7]
    assert [problem.record for problem in checked.problems] == [1]


def test_extra_keys_are_passed_over() -> None:
    assert _check({**GOOD, "name": ["anything"]}).problems == []


def test_a_bad_record_gets_one_problem_and_it_is_the_first_column() -> None:
    problem = _problem({**GOOD, "mass": "x", "age": "y"})
    assert problem.column == "age"


def test_a_problem_names_column_value_and_what_was_expected() -> None:
    problem = _cell("age", "old")
    assert (problem.column, problem.value) == ("age", "'old'")
    assert problem.message == "column 'age': 'old' is text; expected a whole number"


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("age", True, Code.TYPE),
        ("age", "5", Code.TYPE),
        ("age", 5.5, Code.TYPE),
        ("age", [5], Code.TYPE),
        ("age", {"years": 5}, Code.TYPE),
        ("age", None, Code.NULL),
        ("age", "NaN", Code.NON_FINITE),
        ("age", math.inf, Code.NON_FINITE),
        ("age", 2**63, Code.RANGE),
        ("age", -(2**63) - 1, Code.RANGE),
        ("age", 1e300, Code.RANGE),
        ("mass", False, Code.TYPE),
        ("mass", "33.6", Code.TYPE),
        ("mass", "", Code.TYPE),
        ("mass", [], Code.TYPE),
        ("mass", None, Code.NULL),
        ("mass", math.nan, Code.NON_FINITE),
        ("mass", "Infinity", Code.NON_FINITE),
        ("mass", "-Infinity", Code.NON_FINITE),
        ("mass", 10**400, Code.RANGE),
        ("smokes", 1, Code.TYPE),
        ("smokes", "true", Code.TYPE),
        ("smokes", None, Code.NULL),
        ("city", 7, Code.TYPE),
        ("city", None, Code.NULL),
        ("group", "c", Code.CATEGORY),
        ("group", None, Code.NULL),
        ("seen", "yesterday", Code.TYPE),
        ("seen", 1704067200, Code.TYPE),
        ("seen", None, Code.NULL),
    ],
)
def test_a_value_that_does_not_fit_is_refused(column: str, value: object, code: Code) -> None:
    problem = _cell(column, value)
    assert (problem.code, problem.column) == (code.value, column)


@pytest.mark.parametrize("value", [5, 5.0, -3, 2**63 - 1])
def test_an_integer_column_takes_whole_numbers(value: float) -> None:
    assert _check({**GOOD, "age": value}).frame["age"].tolist() == [value]


@pytest.mark.parametrize("value", [0, 1, -2.5, 2**53, 2**60 + 1, 10**30, 1e300])
def test_a_number_column_takes_finite_numbers_as_the_nearest_float(value: float) -> None:
    assert _check({**GOOD, "mass": value}).frame["mass"].tolist() == [float(value)]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "", "null", "7"])
def test_text_is_never_read_as_something_else(text: str) -> None:
    assert _check({**GOOD, "city": text}).frame["city"].tolist() == [text]


def test_a_number_must_fit_the_small_type_of_training() -> None:
    training = pd.DataFrame({"x": np.array([1, 2], dtype=np.int8)})
    assert _problem({"x": 128}, training).code == Code.RANGE
    assert _check({"x": 127}, training=training).frame["x"].dtype == np.int8


@pytest.mark.parametrize(
    ("training", "value"),
    [
        ([1.5, None], 2.5),
        (["a", None], "b"),
        (pd.Categorical(["a", None]), "a"),
        (pd.array([1, None], dtype="Int64"), 5),
        (pd.to_datetime(["2024-01-01", None]), "2024-01-02"),
    ],
    ids=["number", "string", "category", "integer", "datetime"],
)
def test_what_was_missing_in_training_may_be_missing(training: Any, value: object) -> None:
    checked = _check({"x": None}, {"x": value}, training=pd.DataFrame({"x": training}))
    assert checked.problems == []
    assert checked.frame["x"].isna().tolist() == [True, False]


@pytest.mark.parametrize("record", [None, 7, "age", [1, 2], ["age"], True])
def test_a_record_must_be_a_mapping(record: object) -> None:
    problem = _problem(record)
    assert (problem.code, problem.column) == (Code.TYPE.value, None)
    assert "expected an object" in problem.message


def test_a_missing_column_is_named() -> None:
    problem = _problem({name: value for name, value in GOOD.items() if name != "mass"})
    assert (problem.code, problem.column) == (Code.MISSING_COLUMN.value, "mass")
    assert problem.message.startswith("column 'mass' is missing")


@pytest.mark.parametrize("near", ["Mass", " mass ", "masss"])
def test_a_misspelt_column_is_suggested(near: str) -> None:
    record = {near if name == "mass" else name: value for name, value in GOOD.items()}
    assert "did you mean" in _problem(record).message


def test_without_a_schema_any_mapping_is_taken() -> None:
    checked = frame_of_records([{"x": 1}, "no", {"x": 2}], None)
    assert checked.frame["x"].tolist() == [1, 2]
    assert [(one.record, one.code) for one in checked.problems] == [(1, Code.TYPE.value)]


@pytest.mark.parametrize("value", ["x" * 500, ["x" * 500], "\n\x00" * 200, "é" * 100])
def test_a_shown_value_is_short_and_plain(value: object) -> None:
    text = shown(value)
    assert len(text) <= 80
    assert text.isascii()
    assert text.isprintable()


def test_columns_follow_the_same_rules_as_records() -> None:
    columns = {"x": [1.0, math.inf, 3.0], "n": [1, 2, 3.5]}
    schema = Schema.infer(pd.DataFrame({"x": [1.0], "n": [1]}))
    checked = frame_of_columns(columns, 3, schema)
    assert [(one.record, one.code) for one in checked.problems] == [
        (1, Code.NON_FINITE.value),
        (2, Code.TYPE.value),
    ]
    assert checked.frame.to_dict("list") == {"x": [1.0], "n": [1]}


def test_an_array_with_a_nan_where_none_was_is_refused_in_that_row() -> None:
    schema = Schema.infer(pd.DataFrame({"x": [1.0]}))
    checked = frame_of_columns({"x": np.array([1.0, np.nan])}, 2, schema)
    assert [(one.record, one.code) for one in checked.problems] == [(1, Code.NON_FINITE.value)]


# A value that a column cannot hold is its own record's problem: nothing is raised, nothing is altered.

DATES = pd.to_datetime(["2024-01-01"])


def _codes(training: Any, *cells: object) -> list[tuple[int, str]]:
    checked = _check(*({"x": cell} for cell in cells), training=pd.DataFrame({"x": training}))
    assert len(checked.problems) + len(checked.frame) == len(cells)
    return [(one.record, one.code) for one in checked.problems]


@pytest.mark.parametrize(
    ("training", "cells", "code"),
    [
        (DATES, ("2024-01-01T00:00:00+02:00", "2024-01-01"), Code.TYPE),
        (DATES.tz_localize("UTC"), ("2024-01-01", "2024-01-01T00:00:00Z"), Code.TYPE),
        (DATES.as_unit("ns"), ("0001-01-01", "2024-01-01"), Code.RANGE),
        (DATES.as_unit("s"), ("2024-01-01T00:00:00.5", "2024-01-01"), Code.RANGE),
        (DATES.tz_localize("UTC"), ("0001-01-01T00:00:00+14:00",), Code.RANGE),
        (DATES, ("now", "2024-01-01"), Code.TYPE),
        (["a"], ("\ud800", "ok"), Code.ENCODING),
        (["a"], ("a\0", "ok"), Code.CONTROL_CHAR),
        ([1], (10**5000, 1), Code.RANGE),
        ([1.5], (10**400, 1), Code.RANGE),
        (np.array([1], dtype=np.float32), (1e300, 1.5), Code.RANGE),
        (pd.array([1.5], dtype="Float32"), (1e300, 1.5), Code.RANGE),
        (pd.array([1, 2], dtype="Int8"), (300, 1), Code.RANGE),
        (pd.Categorical([0, 1]), (True, 1), Code.TYPE),
        (pd.Categorical(["a"]), (["a"], "a"), Code.TYPE),
        (pd.Categorical(["a"]), (10**5000, "a"), Code.CATEGORY),
    ],
    ids=[
        "offset in a naive column",
        "no offset in an aware column",
        "before the first nanosecond",
        "finer than the unit",
        "year 0 in UTC",
        "word that pandas would read",
        "lone surrogate",
        "NUL",
        "number of many digits",
        "number beyond all floats",
        "number too large for float32",
        "number too large for Float32",
        "number too large for Int8",
        "boolean for a number's category",
        "list for a category",
        "number of many digits for a category",
    ],
)
def test_a_value_that_a_column_cannot_hold_costs_only_its_record(
    training: Any, cells: tuple[object, ...], code: Code
) -> None:
    assert _codes(training, *cells) == [(0, code.value)]


def test_a_number_that_arrives_as_an_array_must_fit_as_well() -> None:
    schema = Schema.infer(pd.DataFrame({"x": np.array([1], dtype=np.float32)}))
    checked = frame_of_columns({"x": np.array([1.0, 1e300])}, 2, schema)
    assert [(one.record, one.code) for one in checked.problems] == [(1, Code.RANGE.value)]


@pytest.mark.parametrize("dtype", ["Int8", "UInt64", "Int64", "Float32", "Float64"])
def test_a_nullable_number_keeps_its_type(dtype: str) -> None:
    training = pd.DataFrame({"x": pd.array([1, None], dtype=dtype)})
    for cells in ([1, 2], [1, None], [1, "bad"]):
        checked = _check(*({"x": cell} for cell in cells), training=training)
        assert checked.frame["x"].dtype == dtype


@pytest.mark.parametrize("dtype", ["boolean", "object"])
def test_booleans_that_may_be_missing_keep_their_type(dtype: str) -> None:
    training = pd.DataFrame({"x": pd.Series([True, None], dtype=dtype)})
    checked = _check({"x": False}, {"x": None}, training=training)
    assert checked.problems == []
    assert checked.frame["x"].dtype == dtype
    assert checked.frame["x"].isna().tolist() == [False, True]


def test_text_of_python_objects_stays_one_when_a_record_is_bad() -> None:
    training = pd.DataFrame({"x": pd.Series(["a", "b"], dtype=object)})
    checked = _check({"x": 1}, {"x": "a"}, {"x": "b"}, training=training)
    assert checked.frame["x"].dtype == object
    assert checked.frame["x"].tolist() == ["a", "b"]


def test_nanoseconds_of_training_are_not_cut_off() -> None:
    training = pd.DataFrame({"x": DATES.as_unit("ns")})
    text = "2024-01-01T00:00:00.123456789"
    assert _check({"x": text}, training=training).frame["x"][0] == pd.Timestamp(text)


def test_a_time_with_an_offset_is_moved_to_the_zone_of_training() -> None:
    training = pd.DataFrame({"x": DATES.tz_localize("Europe/Berlin")})
    frame = _check({"x": "2024-01-01T00:00:00+00:00"}, training=training).frame
    assert frame["x"].dtype == training["x"].dtype
    assert frame["x"][0] == pd.Timestamp("2024-01-01T01:00:00+01:00")


def test_ordered_categories_stay_ordered() -> None:
    training = pd.DataFrame({"x": pd.Categorical(["a"], ["a", "b"], ordered=True)})
    frame = _check({"x": "a"}, training=training).frame
    assert frame["x"].dtype == training["x"].dtype


def test_a_column_that_is_not_there_fails_every_record() -> None:
    checked = frame_of_columns({"n": [1, 2]}, 2, Schema.infer(pd.DataFrame({"n": [1], "x": [1.5]})))
    assert [(one.record, one.code, one.column) for one in checked.problems] == [
        (0, Code.MISSING_COLUMN.value, "x"),
        (1, Code.MISSING_COLUMN.value, "x"),
    ]
    assert list(checked.frame.columns) == ["n", "x"]


def test_a_value_nested_too_deep_to_be_written_is_shown_by_its_type() -> None:
    nested: list[Any] = []
    for _ in range(100_000):  # 5,000 are enough up to Python 3.11
        nested = [nested]
    assert shown(nested) == "<list>"


_CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.sampled_from([2**60 + 1, 2**63, 10**30]),
    st.floats(),
    st.sampled_from(["a", "b", "5", "NaN", "Infinity", "2024-01-01", ""]),
    st.lists(st.integers(), max_size=1),
)


@given(
    st.lists(st.fixed_dictionaries(dict.fromkeys(["age", "mass", "smokes"], _CELLS)), max_size=8)
)
def test_records_together_are_judged_as_each_alone(records: list[dict[str, Any]]) -> None:
    schema = Schema.infer(TRAINING[["age", "mass", "smokes"]])
    together = frame_of_records(records, schema)
    codes = {one.record: one.code for one in together.problems}
    alone = [frame_of_records([record], schema) for record in records]
    assert codes == {place: one.problems[0].code for place, one in enumerate(alone) if one.problems}
    rows = [one.frame for one in alone if not one.problems]
    if rows:
        pd.testing.assert_frame_equal(together.frame, pd.concat(rows, ignore_index=True))
