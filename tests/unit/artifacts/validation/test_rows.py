"""Rows are what their frame is, also where nobody makes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from scoreline_artifacts import Schema
from scoreline_artifacts.validation import CheckedRows, frame_of_records, rows

TRAINING = pd.DataFrame(
    {
        "a": [1.5, 2.5, 3.5],
        "n": [1, 2, 3],
        "b": [0.5, 1.5, -0.5],
        "s": np.array([1, 2, 3], "float32"),
        "flag": [True, False, True],
        "text": ["x", "y", None],
        "python": pd.array(["x", None, "z"], "string[python]"),
        "object": pd.Series(["u", None, "w"], dtype=object),
        "nothing": pd.Series(["u", np.nan, "w"], dtype=object),
        "group": pd.Categorical(["u", None, "w"], categories=["w", "v", "u"]),
        "level": pd.Categorical([1, 2, 1]),
        "seen": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"]),
        "whole": pd.array([1, None, 3], "Int64"),
    }
)
SCHEMA = Schema.infer(TRAINING)
RECORDS: list[dict[str, Any]] = [
    {
        "a": 0.5, "n": 7, "b": -1, "s": 0.25, "flag": False, "text": "é", "python": "p", "object": "o", "nothing": "q",
        "group": "v", "level": 2, "seen": "2024-05-06T07:08:09", "whole": 4,
    },
    {
        "a": -0.0, "n": 8, "b": 2.5, "s": 1.0, "flag": True, "text": None, "python": None, "object": None,
        "nothing": None, "group": None, "level": 1, "seen": "2024-05-06T07:08:10", "whole": None,
    },
]  # fmt: skip
BAD: dict[str, Any] = RECORDS[0] | {"n": "seven"}


def _checked(*more: Any) -> CheckedRows:
    return frame_of_records([RECORDS[0], *more, RECORDS[1]], SCHEMA).rows


def _as_pandas_makes_it(some: CheckedRows) -> pd.DataFrame:
    """The frame of rows by pandas' own constructor."""
    arrays = {name: rows.whole(array) for name, array in zip(some.names, some._arrays, strict=True)}
    return pd.DataFrame(arrays)


@pytest.mark.parametrize("more", [(), (BAD,)], ids=["good", "with-a-bad-one"])
def test_the_frame_is_that_of_pandas(more: tuple[Any, ...]) -> None:
    want = _as_pandas_makes_it(_checked(*more))
    frame = _checked(*more).frame
    pd.testing.assert_frame_equal(frame, want, check_exact=True)
    pd.testing.assert_series_equal(frame.dtypes, TRAINING.dtypes)
    assert type(frame.index) is type(want.index)


@pytest.mark.parametrize(
    "names", [*TRAINING.columns, ("a", "b"), ("b", "n", "a"), ("text", "a", "object"), ("group",)]
)
def test_columns_that_are_selected_are_those_of_the_frame(names: Any) -> None:
    want = _checked().frame.loc[:, names if isinstance(names, str) else list(names)]
    got = _checked().selected(names)
    if isinstance(names, str):
        pd.testing.assert_series_equal(got, want, check_exact=True)
    else:
        pd.testing.assert_frame_equal(got, want, check_exact=True)
    assert repr(got.to_numpy().tolist()) == repr(want.to_numpy().tolist())


@pytest.mark.parametrize("name", TRAINING.columns)
def test_the_array_of_a_column_is_the_same_with_a_frame_and_without(name: str) -> None:
    place = [*TRAINING.columns].index(name)
    without, with_frame = _checked(), _checked()
    assert len(with_frame.frame) == 2
    got, want = (np.asarray(one.column(place), object) for one in (without, with_frame))
    assert [(type(value), repr(value)) for value in got] == [
        (type(value), repr(value)) for value in want
    ]


def test_some_of_the_rows_are_those_of_the_frame() -> None:
    with_frame = _checked()
    want = with_frame.frame.iloc[[1]].reset_index(drop=True)
    for some in (with_frame, _checked()):
        pd.testing.assert_frame_equal(some.take(np.array([1])).frame, want, check_exact=True)


@pytest.mark.parametrize("is_made", [True, False])
def test_what_a_call_writes_it_reads_and_nobody_else(is_made: bool) -> None:
    checked = _checked()
    if is_made:
        assert len(checked.frame) == 2
    call = checked.for_one_call()
    series, part = call.selected("a"), call.selected(("a", "b"))
    part.iloc[0, 0] = 9.0
    assert call.column(0).tolist() == [0.5, -0.0]
    series.iloc[0] = 9.0
    # A column of a frame is its memory before pandas 3, and a copy since.
    assert call.column(0).tolist() == [9.0 if rows._WRITES_THROUGH else 0.5, -0.0]
    call.frame.iloc[0, 0] = 7.0
    assert call.column(0).tolist() == [7.0, -0.0]
    assert call.selected("a").tolist() == [7.0, -0.0]
    assert checked.column(0).tolist() == [0.5, -0.0]
    assert checked.frame["a"].tolist() == [0.5, -0.0]


def test_no_frame_is_made_where_nobody_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("a frame is made")

    monkeypatch.setattr(rows, "frame_of", refuse)
    checked = frame_of_records([RECORDS[0], BAD], SCHEMA)
    assert len(checked.rows) == 1
    assert checked.rows.column(0).tolist() == [0.5]
    with pytest.raises(AssertionError, match="is made"):
        _ = checked.frame
