"""A pipeline gets the frame of training, whatever the way in: values, types, index, columns, and memory of its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline_artifacts import Schema
from scoreline_artifacts.validation import CheckedRecords
from tests.support.frames import WAYS

DAYS = pd.to_datetime(["2024-01-01 00:00:00", "2024-02-29 12:30:00", "1999-12-31 23:59:59"])
SPANS = pd.to_timedelta(["1 days", "-1 days +23:59:59", "00:00:01"])
MIXED = "categories of text and numbers"
"""pandas writes no Parquet file of them."""
TRAINING: dict[str, Any] = {
    **{
        kind: pd.Series([0, 1, 100], dtype=kind)
        for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    },
    "int64 of many digits": pd.Series([2**53 + 1, -(2**63), 2**63 - 1]),
    "uint64 of many digits": pd.Series([0, 1, 2**64 - 1], dtype="uint64"),
    "float16": pd.Series([0.5, 0.1, -3], dtype="float16"),
    "float32": pd.Series([0.1, -0.0, 3.4e38], dtype="float32"),
    "float64": pd.Series([0.1, 1 / 3, -1.7e308]),
    "float64 of whole numbers": pd.Series([1.0, 2.0, -0.0]),
    "float64 of many digits": pd.Series([123456789012345678.0, 2.0**53 + 2, 1e22]),
    "float64 with NaN": pd.Series([0.1, np.nan, 3.0]),
    "float32 with NaN": pd.Series([0.1, np.nan, 3.0], dtype="float32"),
    "bool": pd.Series([True, False, True]),
    "bool as objects with None": pd.Series([True, None, False], dtype=object),
    "bool as objects with NaN": pd.Series([True, np.nan, False], dtype=object),
    **{
        kind: pd.Series([1, None, 100], dtype=kind)
        for kind in (
            "Int8",
            "Int64",
            "UInt16",
            "Float32",
            "Float64",
            "int64[pyarrow]",
            "double[pyarrow]",
        )
    },
    "Int64 of many digits": pd.Series([2**53 + 1, None, 2**63 - 1], dtype="Int64"),
    "Int64 without NA": pd.Series([1, 2, 3], dtype="Int64"),
    "boolean": pd.Series([True, None, False], dtype="boolean"),
    "boolean without NA": pd.Series([True, True, False], dtype="boolean"),
    "bool[pyarrow]": pd.Series([True, None, False], dtype="bool[pyarrow]"),
    "str": pd.Series(["a", "żółw", "NaN"]),
    "str with NaN": pd.Series(["a", None, "null"]),
    "string": pd.Series(["a", None, "7"], dtype="string"),
    "string[python]": pd.Series(["a", None, "7"], dtype="string[python]"),
    "string[pyarrow]": pd.Series(["a", None, "7"], dtype="string[pyarrow]"),
    "text as objects": pd.Series(["a", "b", "true"], dtype=object),
    "text as objects with None": pd.Series(["a", None, "b"], dtype=object),
    "text as objects with NaN": pd.Series(["a", np.nan, "b"], dtype=object),
    "text as objects with NA": pd.Series(["a", pd.NA, "b"], dtype=object),
    "categories of text": pd.Series(pd.Categorical(["a", None, "b"])),
    "categories of text as objects": pd.Series(
        pd.Categorical(["a", None, "b"], categories=pd.Index(["b", "a", "c"], dtype=object))
    ),
    "categories in order": pd.Series(pd.Categorical(["a", "b", "a"], ["b", "a"], ordered=True)),
    "categories of whole numbers": pd.Series(pd.Categorical([3, 1, 2])),
    "categories of small numbers": pd.Series(pd.Categorical(np.array([3, 1, 2], dtype="int8"))),
    "categories of floats": pd.Series(pd.Categorical([1.0, 0.5, None])),
    "categories of booleans": pd.Series(pd.Categorical([True, False, True])),
    MIXED: pd.Series(pd.Categorical(["a", 1, "a"])),
    **{f"datetime64[{unit}]": pd.Series(DAYS.as_unit(unit)) for unit in ("s", "ms", "us", "ns")},
    "datetime with NaT": pd.Series([DAYS[0], pd.NaT, DAYS[2]]),
    "datetime to the nanosecond": pd.Series(
        pd.to_datetime(["2024-01-01 00:00:00.123456789"] * 3).as_unit("ns")
    ),
    "datetime in UTC": pd.Series(DAYS.tz_localize("UTC")),
    "datetime in Berlin": pd.Series(DAYS.as_unit("ms").tz_localize("Europe/Berlin")),
    "datetime in Berlin with NaT": pd.Series([*DAYS.tz_localize("Europe/Berlin")[:2], pd.NaT]),
    "datetime with an offset": pd.Series(DAYS.as_unit("ns").tz_localize("+05:30")),
    "timestamp[us][pyarrow]": pd.Series([DAYS[0], None, DAYS[2]], dtype="timestamp[us][pyarrow]"),
    **{f"timedelta64[{unit}]": pd.Series(SPANS.as_unit(unit)) for unit in ("s", "ms", "us", "ns")},
    "timedelta with NaT": pd.Series([SPANS[0], pd.NaT, SPANS[2]]),
    "timedelta to the nanosecond": pd.Series(pd.to_timedelta([-1, 1, 10**18 + 7], unit="ns")),
    "duration[us][pyarrow]": pd.Series([SPANS[0], None, SPANS[2]], dtype="duration[us][pyarrow]"),
}
ALL = [
    pytest.param(way, kind, id=f"{way}-{kind}")
    for way in WAYS
    for kind in TRAINING
    if (way, kind) != ("parquet", MIXED)
]


def _served(way: str, training: pd.DataFrame) -> pd.DataFrame:
    checked = WAYS[way](training, Schema.infer(training))
    assert checked.problems == []
    return checked.frame


@pytest.mark.parametrize(("way", "kind"), ALL)
def test_a_column_comes_as_it_was_in_training(way: str, kind: str) -> None:
    training = pd.DataFrame({"n": [1, 2, 3], "x": TRAINING[kind]})
    served = _served(way, training)
    pd.testing.assert_frame_equal(served, training, check_exact=True)
    assert served["x"].dtype == training["x"].dtype
    assert type(served.index) is pd.RangeIndex
    for want, got in zip(training["x"], served["x"], strict=True):
        assert type(got) is type(want)
        # What stands for a missing value is told by its text; -0.0 is told from 0.0 by it, too.
        assert str(got) == str(want)


@pytest.mark.parametrize("way", WAYS)
def test_a_bad_row_leaves_its_neighbours_as_they_are(way: str) -> None:
    kinds = [kind for kind in TRAINING if kind != MIXED and not TRAINING[kind].isna().any()]
    training = pd.DataFrame({kind: TRAINING[kind] for kind in kinds} | {"last": ["a", "b", "c"]})
    schema = Schema.infer(training)
    sent = training.assign(last=["a", None, "c"])
    checked = WAYS[way](sent, schema)
    assert [problem.column for problem in checked.problems] == ["last"]
    pd.testing.assert_frame_equal(
        checked.frame, training.iloc[[0, 2]].reset_index(drop=True), check_exact=True
    )


def _is_own_memory(array: Any) -> bool:
    """Whether the memory below a column can be written to."""
    inner = next(
        (getattr(array, name) for name in ("_ndarray", "_data", "_codes") if hasattr(array, name)),
        array,
    )
    if not isinstance(inner, np.ndarray):
        return True  # Arrow's: pandas never writes there, but makes another
    view = inner.view()
    while view.base is not None and isinstance(view.base, np.ndarray):
        view = view.base
    return view.flags.writeable


@pytest.mark.parametrize(("way", "kind"), ALL)
def test_a_column_has_memory_that_can_be_written_to(way: str, kind: str) -> None:
    served = _served(way, pd.DataFrame({"n": [1, 2, 3], "x": TRAINING[kind]}))
    assert _is_own_memory(served["n"].array)
    assert _is_own_memory(served["x"].array)


def _by_iloc(frame: pd.DataFrame) -> Any:
    frame.iloc[0, 0] = 0
    return frame.sum(axis=1)


def _by_loc(frame: pd.DataFrame) -> Any:
    frame.loc[frame["a"] > 1, "b"] = 7
    return frame.sum(axis=1)


def _by_mask(frame: pd.DataFrame) -> Any:
    frame[frame < 2] = 0
    return frame.sum(axis=1)


def _by_numpy(frame: pd.DataFrame) -> Any:
    values = np.asarray(frame)
    values[values < 2] = 0
    return values.sum(axis=1)


def _by_unlocked_view(frame: pd.DataFrame) -> Any:
    values = frame["a"].to_numpy()
    values.flags.writeable = True
    values[0] = 0
    return frame.sum(axis=1)


def _in_place(frame: pd.DataFrame) -> Any:
    frame["c"] = frame["a"] * 2
    frame["a"] += 1
    frame.insert(0, "first", 1)
    del frame["b"]
    return frame.sum(axis=1)


@pytest.mark.parametrize("kind", ["int64", "float64"])
@pytest.mark.parametrize(
    "step", [_by_iloc, _by_loc, _by_mask, _by_numpy, _by_unlocked_view, _in_place]
)
@pytest.mark.parametrize("way", WAYS)
def test_a_step_that_writes_into_its_frame_works(
    way: str, step: Callable[[pd.DataFrame], Any], kind: str
) -> None:
    training = pd.DataFrame({"a": np.array([3, 1, 2], kind), "b": [1.0, 2.0, 3.0]})
    if step is _by_numpy and kind == "float64":
        training["c"] = [1, 2, 3]  # of one type alone numpy has a view in training, too
    served = _served(way, training)
    np.testing.assert_array_equal(step(served), step(training))


@pytest.mark.parametrize("rows", [3, 500])
@pytest.mark.parametrize("way", WAYS)
def test_numbers_lie_in_memory_as_in_training_so_that_sums_are_the_same_to_the_last_bit(
    way: str, rows: int
) -> None:
    rng = np.random.default_rng(0)
    training = pd.DataFrame({f"x{number}": rng.normal(size=rows) for number in range(9)})
    schema = Schema.infer(training)
    bad = training.copy()
    bad.iloc[1, 0] = np.nan
    for sent, want in ((training, training), (bad, training.drop(index=1).reset_index(drop=True))):
        served = WAYS[way](sent, schema).frame
        assert np.asarray(served).flags.writeable is np.asarray(want).flags.writeable
        assert served.sum(axis=1).tolist() == want.sum(axis=1).tolist()
        assert np.asarray(served).sum(axis=1).tolist() == np.asarray(want).sum(axis=1).tolist()


FIRST_MOMENT = datetime(1000 if int(pd.__version__.partition(".")[0]) < 3 else 1, 1, 1)
"""pandas 2 writes the year 999 into CSV with three digits."""
VALUES = st.fixed_dictionaries(
    {
        "n": st.integers(-(2**63), 2**63 - 1),
        "u": st.integers(0, 2**64 - 1),
        "s": st.integers(-128, 127),
        "x": st.floats(allow_nan=False, allow_infinity=False),
        "f": st.floats(width=32, allow_nan=False, allow_infinity=False),
        "m": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "b": st.booleans(),
        "o": st.none() | st.booleans(),
        "t": st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
        "e": st.none() | st.sampled_from(["a", "NA", "1.0"]),
        "c": st.sampled_from([1, 2, 3]),
        "d": st.datetimes(FIRST_MOMENT).map(lambda moment: pd.Timestamp(moment)),
        "p": st.timedeltas(timedelta(days=-100_000), timedelta(days=100_000)),
    }
)
DTYPES = {
    "n": "int64", "u": "uint64", "s": "int8", "x": "float64", "f": "float32", "m": "float64", "i": "Int64",
    "b": "bool", "o": "boolean", "t": "str", "e": "string", "c": "category", "d": "datetime64[us]",
    "p": "timedelta64[us]",
}  # fmt: skip


@given(st.lists(VALUES, min_size=1, max_size=5), st.sampled_from(list(WAYS)))
def test_any_values_come_as_they_were_in_training(rows: list[dict[str, Any]], way: str) -> None:
    columns = {name: [row[name] for row in rows] for name in DTYPES}
    training = pd.DataFrame(
        {name: pd.Series(columns[name], dtype=kind) for name, kind in DTYPES.items()}
    )
    pd.testing.assert_frame_equal(_served(way, training), training, check_exact=True)


# Columns of databases


def _sent_as(way: str, sent: Any, training: Any) -> CheckedRecords:
    return WAYS[way](pd.DataFrame({"x": sent}), Schema.infer(pd.DataFrame({"x": training})))


@pytest.mark.parametrize("way", WAYS)
def test_days_are_points_in_time(way: str) -> None:
    days = pd.Series([date(2024, 1, 1), date(1900, 2, 28)], dtype=object)
    checked = _sent_as(way, days, pd.Series(DAYS))
    assert checked.problems == []
    assert checked.frame["x"].tolist() == [pd.Timestamp("2024-01-01"), pd.Timestamp("1900-02-28")]
