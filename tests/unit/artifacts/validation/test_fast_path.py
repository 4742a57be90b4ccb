"""The shortest way to a frame says what the way of all records says, or nothing."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scoreline_artifacts.schema import Column, ColumnType, Schema
from scoreline_artifacts.validation import CheckedRecords, Rules, frame_of_records, frames

SCHEMA = Schema(
    (
        Column(name="a", type=ColumnType.INTEGER, dtype="int64", minimum=-5.0, maximum=100.0),
        Column(name="x", type=ColumnType.NUMBER, dtype="float64", minimum=-1.5, maximum=3.5),
        Column(name="b", type=ColumnType.INTEGER, dtype="int64"),
        Column(name="y", type=ColumnType.NUMBER, dtype="float64", nullable=True),
    )
)
LARGE = 2**53
ODD = st.sampled_from(
    [None, True, "1", [], LARGE - 1, LARGE, -LARGE, 2**63, 10**400, float("nan"), float("inf"), 5.0, 5.5, -0.0]
)  # fmt: skip
WHOLE = st.integers(-5, 100) | st.integers(-5, 100).map(float)
NUMBERS = st.floats(-1.5, 3.5) | st.integers(-1, 3)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {"a": WHOLE | ODD, "x": NUMBERS | ODD, "b": WHOLE | ODD, "y": NUMBERS | ODD}
    ),
    min_size=1,
    max_size=4,
)
RULES = st.builds(
    Rules,
    unseen=st.sampled_from(["ignore", "warn", "error"]),
    out_of_range=st.sampled_from(["ignore", "warn", "error"]),
)


def _record(**values: Any) -> dict[str, Any]:
    return {"a": 1, "x": 0.5, "b": 2, "y": 1.5} | values


def _three(records: list[Any], rules: Rules) -> tuple[CheckedRecords, ...]:
    """By the way of few plain records, column by column, and value by value."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "FAST_PATH_RECORDS", 0)
        by_column = frame_of_records(records, SCHEMA, rules=rules)
        patch.setattr(frames, "convert_column", lambda column, values: None)
        by_value = frame_of_records(records, SCHEMA, rules=rules)
    return frame_of_records(records, SCHEMA, rules=rules), by_column, by_value


@given(RECORDS, RULES)
@example([_record(b=LARGE), _record()], Rules())
@example([_record(y=float("nan")), _record(y=1)], Rules())
@example([_record(y=1), _record(y=float("nan"))], Rules())
@example([_record(x=True)], Rules())
@example([_record(b=float(LARGE)), _record(b=1.5)], Rules())
@example([_record(b=2.0**63), _record(b=-1e300)], Rules())
@example([_record(b=float("nan")), _record(b=float("inf"))], Rules())
def test_all_ways_say_the_same(records: list[dict[str, Any]], rules: Rules) -> None:
    *quicker, slow = _three(records, rules)
    for quick in quicker:
        pd.testing.assert_frame_equal(quick.frame, slow.frame, check_exact=True)
        assert quick.problems == slow.problems
        assert list(quick.indices) == list(slow.indices)
        assert [(one.code, one.column, list(one.records)) for one in quick.anomalies] == [
            (one.code, one.column, list(one.records)) for one in slow.anomalies
        ]


@pytest.mark.parametrize(
    ("values", "is_plain"),
    [
        ({}, True),
        ({"x": 3}, True),
        ({"a": 1.0}, True),
        ({"a": 1.5}, False),
        ({"a": 101}, False),
        ({"y": None}, False),
    ],
)
def test_only_the_plainest_records_take_it(values: dict[str, Any], is_plain: bool) -> None:
    columns = {name: [value] for name, value in _record(**values).items()}
    assert (frames.fast_path(columns, 1, SCHEMA) is not None) is is_plain


def test_a_pipeline_may_change_the_frame() -> None:
    first = frame_of_records([_record()], SCHEMA).frame
    first["a"] = 7
    first["new"] = 1
    first.columns.name = "changed"
    first.iloc[0, 1] = 9.0
    again = frame_of_records([_record()], SCHEMA).frame
    assert again.to_dict("records") == [_record()]
    assert again.columns.name is None
