"""Values of every kind that callers and databases have: each column takes what it can hold, and the rest costs its row."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest

from scoreline_artifacts import Schema
from scoreline_artifacts.validation import CheckedRecords, frame_of_records
from scoreline_client.protocol.json_records import encode_record, encode_records
from scoreline_tasks.scoring.json_codec import JsonBody, read_records
from tests.support.frames import (
    WAYS,
    by_csv_text,
    by_frame,
    by_json,
    by_table,
    version_with,
)

FLOATS = Schema.infer(pd.DataFrame({"x": [1.5, 2.5]}))
MAYBE_FLOATS = Schema.infer(pd.DataFrame({"x": [1.5, None]}))
INTEGERS = Schema.infer(pd.DataFrame({"x": [1, 2]}))
TEXTS = Schema.infer(pd.DataFrame({"x": ["a", "b"]}))
MOMENTS = Schema.infer(pd.DataFrame({"x": pd.to_datetime(["2024-01-01", None]).as_unit("us")}))
SPANS = Schema.infer(pd.DataFrame({"x": pd.to_timedelta(["1 days", None])}))


def _ask(records: list[Any], schema: Schema) -> CheckedRecords:
    """What a worker makes of the records of `predict_many`."""
    encoded = encode_records(records)
    one_by_one = b"[" + b",".join(map(encode_record, records)) + b"]"
    together, alone = (
        JsonBody([read_records(body)], version_with(schema)).checked
        for body in (encoded.body, one_by_one)
    )
    pd.testing.assert_frame_equal(together.frame, alone.frame, check_exact=True)
    assert together.problems == alone.problems
    return together


def _value(value: Any, schema: Schema) -> Any:
    checked = _ask([{"x": value}], schema)
    assert checked.problems == []
    return checked.frame["x"][0]


def _codes(checked: CheckedRecords) -> list[tuple[int, str]]:
    return [(problem.record, problem.code) for problem in checked.problems]


# Records


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float16(0.1), float(np.float16(0.1))),
        (np.float64(0.1), 0.1),
        (np.longdouble(0.5), 0.5),
        (np.int8(-3), -3.0),
        (np.uint64(2**64 - 1), float(2**64)),
        (np.array(0.25), 0.25),
        (Decimal("0.1"), 0.1),
        (Decimal("12345678901234567890.123"), 12345678901234567890.123),
        (Decimal("1E+3"), 1000.0),
        (Decimal("-1E-400"), 0.0),
        (10**30, 1e30),
        (-(10**300), -1e300),
        (2**53 + 1, float(2**53)),
    ],
    ids=repr,
)
def test_a_number_of_any_kind_is_the_float_that_pandas_makes_of_it(
    value: Any, number: float
) -> None:
    assert _value(value, FLOATS) == number


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (np.int64(2**63 - 1), 2**63 - 1),
        (Decimal("9007199254740993.00"), 2**53 + 1),
        (Decimal("5E+2"), 500),
        (np.float32(5), 5),
    ],
    ids=repr,
)
def test_a_whole_number_of_any_kind_keeps_all_of_its_digits(value: Any, number: int) -> None:
    assert _value(value, INTEGERS) == number


@pytest.mark.parametrize(
    "missing",
    [
        None,
        float("nan"),
        np.float32("nan"),
        pd.NaT,
        pd.NA,
        Decimal("NaN"),
        np.datetime64("NaT"),
        np.timedelta64("NaT"),
    ],
    ids=repr,
)
def test_what_is_missing_is_missing_whatever_it_is_called(missing: Any) -> None:
    assert pd.isna(_value(missing, MAYBE_FLOATS))
    assert pd.isna(_value(missing, MOMENTS))
    assert _codes(_ask([{"x": missing}, {"x": 1}], FLOATS)) == [(0, "E_NULL")]


@pytest.mark.parametrize(
    "infinity", [float("inf"), np.float32("inf"), Decimal("Infinity")], ids=repr
)
def test_infinity_is_not_missing(infinity: Any) -> None:
    assert _codes(_ask([{"x": infinity}, {"x": 1}], MAYBE_FLOATS)) == [(0, "E_NON_FINITE")]


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (pd.Timestamp("2024-01-02 03:04:05.678"), "2024-01-02 03:04:05.678"),
        (datetime(2024, 1, 2, 3), "2024-01-02 03:00"),
        (date(2024, 1, 2), "2024-01-02"),
        (np.datetime64("2024-01-02"), "2024-01-02"),
        (np.datetime64("2024-01"), "2024-01-01"),
        (
            np.datetime64("2024-01-02T03:04:05.000000001", "ns").astype("datetime64[us]"),
            "2024-01-02 03:04:05",
        ),
    ],
    ids=repr,
)
def test_a_point_in_time_of_any_kind(value: Any, moment: str) -> None:
    assert _value(value, MOMENTS) == pd.Timestamp(moment)


def test_nanoseconds_of_a_timestamp_arrive() -> None:
    schema = Schema.infer(pd.DataFrame({"x": pd.to_datetime(["2024-01-01"]).as_unit("ns")}))
    moment = pd.Timestamp("2024-01-02 03:04:05.123456789")
    assert _value(moment, schema) == moment


@pytest.mark.parametrize(
    "zoned",
    [
        datetime(2024, 1, 2, 3, tzinfo=UTC),
        datetime(2024, 7, 2, 3, tzinfo=ZoneInfo("Europe/Berlin")),
        pd.Timestamp("2024-07-02 03:00", tz="Asia/Kolkata"),
    ],
    ids=repr,
)
def test_a_point_in_time_with_a_zone_of_any_kind(zoned: datetime) -> None:
    schema = Schema.infer(pd.DataFrame({"x": pd.to_datetime(["2024-01-01"]).tz_localize("UTC")}))
    assert _value(zoned, schema) == zoned
    assert _codes(_ask([{"x": zoned}], MOMENTS)) == [(0, "E_TYPE")]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (timedelta(days=1, seconds=2), 86_402),
        (timedelta(seconds=-1), -1),
        (pd.Timedelta("1 days 02:03:04.5"), 93_784.5),
        (np.timedelta64(90, "m"), 5400),
        (np.timedelta64(-3, "D"), -259_200),
        ("P1DT2H3M4.5S", 93_784.5),
        ("-PT1.5S", -1.5),
        ("PT36H", 129_600),
        ("1 days 02:03:04.500000", 93_784.5),
        ("-1 days +23:59:59", -1),
        ("-1 day, 23:59:59", -1),
        ("26:00:00", 93_600),
        ("2 days", 172_800),
    ],
    ids=repr,
)
def test_a_span_of_time_of_any_kind(value: Any, seconds: float) -> None:
    assert _value(value, SPANS) == pd.Timedelta(seconds=seconds)
    if isinstance(value, str):
        assert by_csv_text(f'x\n"{value}"\n', SPANS).frame["x"][0] == pd.Timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value", ["", "P", "PT", "1", "1:00", "1 week", "P1Y", "00:60:00", 5, 1.5, True, "1 days,"]
)
def test_what_is_no_span_of_time_is_refused(value: Any) -> None:
    assert _codes(_ask([{"x": value}, {"x": "1 days"}], SPANS)) == [(0, "E_TYPE")]


def test_a_span_finer_than_those_of_training_is_refused() -> None:
    schema = Schema.infer(pd.DataFrame({"x": pd.to_timedelta(["1 days"]).as_unit("s")}))
    assert _codes(_ask([{"x": "00:00:00.5"}, {"x": "PT1S"}], schema)) == [(0, "E_RANGE")]


class Unspeakable:
    """An object that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError


def _endless() -> list[Any]:
    nested: list[Any] = []
    for _ in range(2000):
        nested = [nested]
    return nested


ODD = [
    {1, 2},
    b"bytes",
    object(),
    1 + 2j,
    Unspeakable(),
    "lone \ud800 surrogate",
    10**5000,
    time(12, tzinfo=UTC),
    _endless(),
    pd.Period("2024-01"),
    pd.Interval(0, 1),
    [1, {2}],
    {"a": {3}},
    np.array([1.5, 2.5]),
    pd.Series([1, 2]),
    pd.DataFrame({"a": [1]}),
    float("inf"),
    Path("/tmp"),
    lambda: None,
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_a_value_of_any_kind_costs_nothing_where_it_is_not_needed(odd: Any) -> None:
    checked = _ask([{"x": 1.5, "note": odd}, {"note": None, "x": 2.5}], FLOATS)
    assert checked.problems == []
    assert checked.frame["x"].tolist() == [1.5, 2.5]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_a_value_of_any_kind_costs_its_record_where_it_is_needed(odd: Any) -> None:
    checked = _ask([{"x": odd}, {"x": 2.5}], FLOATS)
    (problem,) = checked.problems
    assert (problem.record, problem.column) == (0, "x")
    assert problem.code in ("E_TYPE", "E_RANGE", "E_NON_FINITE")
    assert checked.frame["x"].tolist() == [2.5]


@pytest.mark.parametrize(
    ("odd", "code", "message"),
    [
        ({1}, "E_TYPE", "column 'x': {1} is a set; expected text"),
        (b"a", "E_TYPE", "column 'x': b'a' is a bytes; expected text"),
        (
            "\ud800",
            "E_ENCODING",
            "column 'x': '\\ud800' cannot be written as UTF-8; expected plain text",
        ),
        (10**30, "E_TYPE", f"column 'x': {10**30} is a whole number; expected text"),
    ],
)
def test_the_error_says_what_the_caller_gave(odd: Any, code: str, message: str) -> None:
    (problem,) = _ask([{"x": odd}], TEXTS).problems
    assert (problem.code, problem.message) == (code, message)


def test_what_stands_for_a_value_is_shown_in_bounds_whoever_wrote_it() -> None:
    forged = {"scoreline:type": "x" * 1000, "scoreline:shown": "\x1b[31m" + "y" * 1000}
    (problem,) = frame_of_records([{"x": forged}], TEXTS).problems
    assert len(problem.message) < 250
    assert problem.value is not None
    assert problem.value.isprintable()


def test_a_key_of_any_kind_costs_nothing() -> None:
    record = {"x": 1.5, 7: 1, (1, 2): 2, None: 3, "lone \ud800 surrogate": 4}
    assert _ask([record], FLOATS).problems == []


def test_a_frames_records_are_as_good_as_the_frame() -> None:
    frame = pd.DataFrame(
        {
            "n": pd.array([1, None], dtype="Int64"),
            "x": [0.1, None],
            "t": ["a", None],
            "d": pd.to_datetime(["2024-01-01", None]),
            "z": pd.to_datetime(["2024-01-01", None]).tz_localize("Europe/Berlin"),
            "s": pd.to_timedelta(["1 days", None]),
            "c": pd.Categorical([1, None]),
        }
    )
    schema = Schema.infer(frame)
    found = by_json(frame, schema)
    assert found.problems == []
    pd.testing.assert_frame_equal(found.frame, frame, check_exact=True)


# Frames


def _mixed(values: list[Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "x": [float(index) for index in range(len(values))],
            "note": pd.Series(values, dtype=object),
        }
    )


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_a_column_of_mixed_objects_costs_a_frame_nothing(odd: Any) -> None:
    checked = by_frame(_mixed([1, "a", odd, None]), FLOATS)
    assert checked.problems == []
    assert checked.frame["x"].tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "column",
    [
        pd.array([0, 1], dtype="Sparse[int]"),
        np.array([1j, 2j]),
        pd.period_range("2024", periods=2, freq="M"),
        pd.interval_range(0, 2),
        pd.Categorical([1, "a"]),
    ],
    ids=lambda column: str(column.dtype),
)
def test_a_column_of_any_type_costs_a_frame_nothing(column: Any) -> None:
    assert by_frame(pd.DataFrame({"x": [1.5, 2.5], "note": column}), FLOATS).problems == []


def test_a_column_of_mixed_objects_that_is_needed_costs_its_odd_rows_only() -> None:
    frame = pd.DataFrame(
        {"x": pd.Series([1.5, "a", 2, None, {1}, 10**30, Decimal("0.1"), True], dtype=object)}
    )
    checked = by_frame(frame, FLOATS)
    assert _codes(checked) == [(1, "E_TYPE"), (3, "E_NULL"), (4, "E_TYPE"), (7, "E_TYPE")]
    assert checked.frame["x"].tolist() == [1.5, 2.0, 1e30, 0.1]


def test_bytes_among_texts_cost_their_rows_only() -> None:
    frame = pd.DataFrame({"x": pd.Series(["a", b"b", "c"], dtype=object)})
    checked = by_frame(frame, TEXTS)
    assert _codes(checked) == [(1, "E_TYPE")]
    assert checked.frame["x"].tolist() == ["a", "c"]


def test_periods_are_no_numbers() -> None:
    frame = pd.DataFrame({"x": pd.period_range("2024", periods=2, freq="M")})
    assert _codes(by_frame(frame, INTEGERS)) == [(0, "E_TYPE"), (1, "E_TYPE")]


# Tables of databases

ZONED = Schema.infer(
    pd.DataFrame({"x": pd.to_datetime(["2024-01-01", None]).tz_localize("Europe/Berlin")})
)


def _column(values: list[Any], kind: Any, schema: Schema) -> CheckedRecords:
    return by_table(pa.table({"x": pa.array(values, kind)}), schema)


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()], ids=str)
def test_days_of_a_table_are_points_in_time(kind: Any) -> None:
    checked = _column([date(2024, 1, 1), None, date(1600, 1, 1)], kind, MOMENTS)
    assert checked.problems == []
    assert checked.frame["x"].tolist()[::2] == [
        pd.Timestamp("2024-01-01"),
        pd.Timestamp("1600-01-01"),
    ]
    assert checked.frame["x"].dtype == MOMENTS.columns[0].dtype


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "+02:00", "America/New_York"])
def test_timestamps_of_a_table_keep_their_moment(unit: Any, zone: str) -> None:
    moment = datetime(2024, 7, 1, 12, 30, tzinfo=UTC)
    checked = _column([moment, None], pa.timestamp(unit, zone), ZONED)
    assert checked.problems == []
    assert checked.frame["x"][0] == moment
    assert checked.frame["x"].dtype == ZONED.columns[0].dtype
    plain = _column([moment.replace(tzinfo=None), None], pa.timestamp(unit), MOMENTS)
    assert plain.frame["x"][0] == pd.Timestamp("2024-07-01 12:30")


def test_timestamps_without_a_zone_are_not_taken_for_some_zones() -> None:
    assert _codes(_column([datetime(2024, 1, 1)], pa.timestamp("us"), ZONED)) == [(0, "E_TYPE")]
    assert _codes(_column([datetime(2024, 1, 1)], pa.timestamp("us", "UTC"), MOMENTS)) == [
        (0, "E_TYPE")
    ]


def test_a_moment_that_the_unit_of_training_does_not_have_costs_its_row() -> None:
    seconds = Schema.infer(pd.DataFrame({"x": pd.to_datetime(["2024-01-01"]).as_unit("s")}))
    half = datetime(2024, 1, 1, 0, 0, 0, 500_000)
    assert _codes(_column([half, datetime(2024, 1, 1)], pa.timestamp("ms"), seconds)) == [
        (0, "E_RANGE")
    ]
    nanoseconds = Schema.infer(pd.DataFrame({"x": pd.to_datetime(["2024-01-01"]).as_unit("ns")}))
    assert _codes(
        _column([datetime(1, 1, 1), datetime(2024, 1, 1)], pa.timestamp("s"), nanoseconds)
    ) == [(0, "E_RANGE")]


@pytest.mark.parametrize("schema", [MOMENTS, TEXTS, FLOATS], ids=["datetime", "text", "number"])
def test_a_moment_that_python_does_not_have_costs_its_row(schema: Schema) -> None:
    array = pa.array([10**12, None], pa.int64()).cast(pa.timestamp("s"))
    checked = by_table(pa.table({"x": array}), schema)
    assert 0 in [problem.record for problem in checked.problems] or schema is MOMENTS


@pytest.mark.parametrize(
    "kind", [pa.decimal128(20, 4), pa.decimal256(60, 4), pa.decimal128(5, 2)], ids=str
)
def test_decimals_of_a_table_are_numbers(kind: Any) -> None:
    checked = _column([Decimal("123.45"), None], kind, MAYBE_FLOATS)
    assert checked.problems == []
    assert checked.frame["x"][0] == 123.45
    assert _codes(_column([Decimal("1.5"), Decimal(7)], kind, INTEGERS)) == [(0, "E_TYPE")]
    assert _codes(_column([Decimal("1.5"), None], kind, FLOATS)) == [(1, "E_NULL")]


def test_every_decimal_is_the_float_that_its_text_is() -> None:
    texts = [f"{number}.{number * 7919 % 10**9:09}" for number in range(1, 10**12, 9_999_999_967)]
    checked = _column([Decimal(text) for text in texts], pa.decimal128(38, 9), FLOATS)
    assert checked.frame["x"].tolist() == list(map(float, texts))


def test_a_whole_decimal_of_a_table_keeps_its_digits() -> None:
    checked = _column([Decimal(2**53 + 1), Decimal(10**25)], pa.decimal128(38, 0), INTEGERS)
    assert _codes(checked) == [(1, "E_RANGE")]
    assert checked.frame["x"].tolist() == [2**53 + 1]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_durations_of_a_table_are_spans_of_time(unit: Any) -> None:
    checked = _column([timedelta(hours=-1), None], pa.duration(unit), SPANS)
    assert checked.problems == []
    assert checked.frame["x"][0] == pd.Timedelta(hours=-1)


@pytest.mark.parametrize(
    "array",
    [
        pa.array([b"a", None]),
        pa.array([[1], None]),
        pa.array([{"a": 1}, None]),
        pa.array([time(1), None]),
        pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int8())),
    ],
    ids=lambda array: str(array.type),
)
@pytest.mark.parametrize(
    "schema",
    [FLOATS, INTEGERS, TEXTS, MOMENTS, SPANS],
    ids=["number", "integer", "text", "datetime", "duration"],
)
def test_values_that_no_column_holds_cost_their_rows(array: Any, schema: Schema) -> None:
    assert _codes(by_table(pa.table({"x": array}), schema))[0] == (0, "E_TYPE")


# Whole numbers of many digits

IDENTIFIERS = [913456789012345678, 913456789012345679, 1234567890123456789]


@pytest.mark.parametrize("way", WAYS)
def test_identifiers_that_training_read_as_floats_are_those_floats(way: str) -> None:
    training = pd.DataFrame({"x": [*map(float, IDENTIFIERS), None]})
    sent = pd.DataFrame({"x": pd.array([*IDENTIFIERS, None], dtype="Int64")})
    checked = WAYS[way](sent, Schema.infer(training))
    assert checked.problems == []
    pd.testing.assert_frame_equal(checked.frame, training, check_exact=True)


@pytest.mark.parametrize("rest", ["", "0.5,1\n", "x,1\n"])
def test_a_files_identifiers_are_those_floats_whatever_stands_beside_them(rest: str) -> None:
    schema = Schema.infer(pd.DataFrame({"x": [1.5], "n": [1]}))
    checked = by_csv_text(
        "x,n\n" + "".join(f"{number},7\n" for number in IDENTIFIERS) + rest, schema
    )
    assert checked.frame["x"].tolist()[:3] == list(map(float, IDENTIFIERS))


@pytest.mark.parametrize("way", WAYS)
def test_whole_numbers_of_an_integer_column_are_never_rounded(way: str) -> None:
    sent = pd.DataFrame({"x": pd.Series([2**63 - 1, 2**53 + 1, 2**63], dtype="uint64")})
    checked = WAYS[way](sent, INTEGERS)
    assert _codes(checked) == [(2, "E_RANGE")]
    assert checked.frame["x"].tolist() == [2**63 - 1, 2**53 + 1]


@pytest.mark.parametrize("text", ["1" + "0" * 309, "1" + "0" * 5000, "-" + "9" * 400])
def test_a_number_beyond_all_floats_is_refused(text: str) -> None:
    assert _codes(by_csv_text(f"x\n{text}\n1.5\n", FLOATS)) == [(0, "E_RANGE")]
    body = orjson.dumps([{"x": "@"}, {"x": 1.5}]).replace(b'"@"', text.encode())
    assert _codes(JsonBody([read_records(body)], version_with(FLOATS)).checked) == [(0, "E_RANGE")]


# Empty texts, and categories of numbers and booleans in text

EMPTY = {
    "few different": ["", "a", "", "a"],
    "all different": ["", "a", "b", "c"],
}


@pytest.mark.parametrize("dtype", ["str", "object", "string", "category"])
@pytest.mark.parametrize("texts", EMPTY.values(), ids=EMPTY)
@pytest.mark.parametrize("way", WAYS)
def test_the_empty_text_is_text_where_training_had_it_and_nothing_missing(
    way: str, texts: list[str], dtype: str
) -> None:
    training = pd.DataFrame({"x": pd.Series(texts, dtype=dtype), "y": [1, 2, 3, 4]})
    checked = WAYS[way](training, Schema.infer(training))
    assert checked.problems == []
    pd.testing.assert_frame_equal(checked.frame, training, check_exact=True)


def test_an_empty_field_is_missing_where_training_had_missing_values() -> None:
    schema = Schema.infer(pd.DataFrame({"x": ["", "a", None], "y": [1, 2, 3]}))
    assert by_csv_text("x,y\n,1\n", schema).frame["x"].isna().tolist() == [True]


def test_an_empty_field_is_refused_where_training_had_neither() -> None:
    schema = Schema.infer(pd.DataFrame({"x": ["b", "a"], "y": [1, 2]}))
    assert _codes(by_csv_text("x,y\n,1\na,1\n", schema)) == [(0, "E_NULL")]


def test_a_declared_null_is_missing_although_training_had_that_text() -> None:
    schema = Schema.infer(pd.DataFrame({"x": ["", "NA"], "y": [1, 2]}))
    checked = by_csv_text("x,y\n,1\nNA,1\n", schema, nulls=("", "NA"))
    assert _codes(checked) == [(1, "E_NULL")]
    assert checked.frame["x"].tolist() == [""]


@pytest.mark.parametrize(
    ("categories", "text", "value"),
    [
        ([1, 2], "1", 1),
        ([1, 2], "1.0", 1),
        ([1, 2], " 2 ", 2),
        ([1, 2], "1e0", 1),
        ([1.0, 2.5], "1", 1.0),
        ([1.0, 2.5], "1.0", 1.0),
        ([1.0, 2.5], "2.50", 2.5),
        ([True, False], "true", True),
        ([True, False], "True", True),
        ([True, False], "FALSE", False),
        (["1", "true"], "1", "1"),
        (["1", "true"], "true", "true"),
        (["1", 1], "1", "1"),
        (["1", 1], "1.0", 1),
        ([10**17 + 1, 5], str(10**17 + 1), 10**17 + 1),
    ],
    ids=str,
)
def test_a_category_is_found_by_its_text(categories: list[Any], text: str, value: Any) -> None:
    schema = Schema.infer(pd.DataFrame({"x": pd.Categorical(categories, categories), "y": [1, 2]}))
    checked = by_csv_text(f'x,y\n"{text}",1\n', schema)
    assert checked.problems == []
    found = checked.frame["x"][0]
    assert (type(found.item() if isinstance(found, np.generic) else found), found) == (
        type(value),
        value,
    )


@pytest.mark.parametrize(
    ("categories", "text"),
    [
        ([1, 2], "3"),
        ([1, 2], "1.5"),
        ([1, 2], "true"),
        ([True, False], "1"),
        (["1", "2"], "1.0"),
        (["true"] * 2, "True"),
    ],
    ids=str,
)
def test_what_is_no_category_is_refused(categories: list[Any], text: str) -> None:
    column = pd.Categorical(categories, list(dict.fromkeys(categories)))
    schema = Schema.infer(pd.DataFrame({"x": column, "y": [1, 2]}))
    assert _codes(by_csv_text(f"x,y\n{text},1\n", schema)) == [(0, "E_CATEGORY")]


# Columns that need not be there

OPTIONAL = Schema.infer(
    pd.DataFrame({"x": [1.5, 2.5], "m": [0.5, 1.5], "t": ["a", "b"]}), optional=["m", "t"]
)
UNUSED = Schema.infer(
    pd.DataFrame(
        {"x": [1.5, 2.5], "n": [1, 2], "t": ["a", "b"], "d": pd.to_datetime(["2024-01-01"] * 2)}
    )
).with_unused(["n", "t", "d"])


@pytest.mark.parametrize("way", WAYS)
def test_an_optional_column_may_be_left_out_and_is_missing_then(way: str) -> None:
    checked = WAYS[way](pd.DataFrame({"x": [3.5, 4.5]}), OPTIONAL)
    assert checked.problems == []
    assert checked.frame["x"].tolist() == [3.5, 4.5]
    assert checked.frame[["m", "t"]].isna().all(axis=None)
    assert checked.frame.dtypes.astype(str).to_dict() == {
        "x": "float64",
        "m": "float64",
        "t": str(pd.Series(["a"]).dtype),
    }


def test_records_that_have_an_optional_column_share_a_call_with_those_that_have_not() -> None:
    checked = _ask(
        [{"x": 1.5}, {"x": 2.5, "m": 7, "t": "c"}, {"x": 1, "m": None}, {"m": 1}], OPTIONAL
    )
    assert _codes(checked) == [(3, "E_MISSING_COLUMN")]
    assert checked.frame["m"].tolist()[1] == 7
    assert checked.frame["m"].isna().tolist() == [True, False, True]


@pytest.mark.parametrize("way", WAYS)
def test_an_optional_columns_values_are_checked_like_any(way: str) -> None:
    sent = pd.DataFrame({"x": [1.5, 2.5], "m": ["seven", "eight"]})
    assert _codes(WAYS[way](sent, OPTIONAL)) == [(0, "E_TYPE"), (1, "E_TYPE")]


@pytest.mark.parametrize("way", WAYS)
def test_whatever_is_in_a_column_that_the_pipeline_throws_away_is_no_error(way: str) -> None:
    for sent in (
        pd.DataFrame({"x": [3.5, 4.5]}),
        pd.DataFrame({"x": [3.5, 4.5], "n": ["many", "few"], "t": [1, 2], "d": [True, False]}),
        pd.DataFrame(
            {"x": [3.5, 4.5], "n": [1.5, None], "t": ["a", None], "d": ["2024-01-01", "today"]}
        ),
    ):
        checked = WAYS[way](sent, UNUSED)
        assert checked.problems == []
        assert checked.frame["x"].tolist() == [3.5, 4.5]
        assert list(checked.frame.columns) == ["x", "n", "t", "d"]
        assert checked.frame.dtypes.astype(str).tolist() == [
            column.dtype for column in UNUSED.columns
        ]


def test_a_column_that_is_demanded_is_still_missed() -> None:
    (problem,) = _ask([{"n": 1}], UNUSED).problems
    assert (problem.code, problem.column) == ("E_MISSING_COLUMN", "x")
