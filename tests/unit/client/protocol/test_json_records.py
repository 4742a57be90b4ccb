"""Records to bodies and answers to predictions: what a bad record costs, and what it does not."""

from __future__ import annotations

import datetime
import math
import pickle
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from msgspec.structs import replace

from scoreline_client import (
    Code,
    EmptyRequest,
    PayloadTooLarge,
    Prediction,
    RecordRejected,
    RecordWarning,
    RequestRefused,
    SettingsError,
    UnknownModel,
)
from scoreline_client.protocol.json_records import (
    RECORDS_PER_REQUEST,
    EncodedRecords,
    check_expiry,
    check_model,
    check_records,
    check_size,
    check_timeout,
    encode_record,
    encode_records,
    predictions_of,
    rejected,
    split_records,
)
from scoreline_client.protocol.messages import Answer, Status
from scoreline_client.settings import ClientSettings

SMALL = ClientSettings(max_request_bytes=1024)


def sent(record: Any) -> Any:
    """What a worker reads of a record."""
    return orjson.loads(encode_record(record))


def test_a_record_arrives_as_it_was_given() -> None:
    record = {"n": 6, "x": 33.6, "t": "żółw", "b": True, "missing": None}
    assert sent(record) == record


def test_numbers_of_numpy_arrive_as_numbers() -> None:
    record = {"a": np.float64(1.5), "b": np.int32(3), "c": np.float32(0.5), "d": np.bool_(True)}
    assert sent(record) == {"a": 1.5, "b": 3, "c": 0.5, "d": True}


@pytest.mark.parametrize("nan", [math.nan, np.float64("nan"), np.float32("nan")])
def test_nan_is_sent_as_missing(nan: float) -> None:
    assert sent({"x": nan}) == {"x": None}


@pytest.mark.parametrize("kind", [float, np.float64, np.float32])
@pytest.mark.parametrize(
    ("text", "name"), [("inf", "Infinity"), ("-inf", "-Infinity")], ids=["plus", "minus"]
)
def test_infinity_is_sent_by_name_and_not_as_missing(kind: Any, text: str, name: str) -> None:
    assert sent({"x": kind(text), "y": None}) == {"x": name, "y": None}


def test_text_that_holds_the_word_null_is_left_alone() -> None:
    assert sent({"t": "null", "x": 1}) == {"t": "null", "x": 1}


def test_any_mapping_is_a_record() -> None:
    assert sent(MappingProxyType({"x": 1})) == {"x": 1}


def test_a_date_is_sent_as_text() -> None:
    assert sent({"d": datetime.date(2024, 2, 29)}) == {"d": "2024-02-29"}


def test_a_row_of_a_frame_is_a_record() -> None:
    frame = pd.DataFrame(
        {"x": [1, 2], "city": ["Bern", None], "since": pd.to_datetime("2024-02-29")}
    )
    rows = [row for _, row in frame.iterrows()]
    expected = {"x": 1, "city": "Bern", "since": "2024-02-29T00:00:00"}
    assert sent(rows[0]) == expected
    assert orjson.loads(encode_records(rows).body) == [expected, expected | {"x": 2, "city": None}]


@pytest.mark.parametrize("record", [[1, 2], "x=1", 5, None, {1, 2}])
def test_a_record_that_is_no_mapping_is_refused_at_once(record: Any) -> None:
    with pytest.raises(RecordRejected, match="must be a mapping") as caught:
        encode_record(record)
    assert caught.value.code == Code.TYPE


@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [({1, 2}, "set", "{1, 2}"), (1 + 2j, "complex", "(1+2j)"), (b"a\0", "bytes", "b'a\\x00'")],
    ids=["set", "complex", "bytes"],
)
def test_a_value_that_json_has_no_form_for_is_told_by_type_and_text(
    value: Any, kind: str, shown: str
) -> None:
    assert sent({"x": 1, "age": value}) == {
        "x": 1,
        "age": {"scoreline:type": kind, "scoreline:shown": shown},
    }


def test_a_whole_number_of_many_digits_travels_with_all_of_them() -> None:
    assert encode_record({"x": -(10**30) - 1}) == b'{"x":-1000000000000000000000000000001}'


def test_what_stands_for_a_value_is_cut() -> None:
    assert len(sent({"x": set(range(1000))})["x"]["scoreline:shown"]) <= 80


def test_what_is_no_record_does_not_keep_its_neighbours_from_travelling() -> None:
    encoded = encode_records([{"x": 1}, {2}, {"x": 3}])
    assert orjson.loads(encoded.body) == [{"x": 1}, None, {"x": 3}]
    assert list(encoded.errors) == [1]


@pytest.mark.parametrize("records", [{"x": 1}, "x", b"x", 5, None])
def test_one_thing_where_many_are_expected_is_refused_with_advice(records: Any) -> None:
    with pytest.raises(RequestRefused, match="put a single record into a list"):
        check_records(records)


def test_a_frame_where_records_are_expected_is_refused_with_advice() -> None:
    with pytest.raises(RequestRefused, match="predict_frame"):
        check_records(pd.DataFrame({"x": [1]}))


@pytest.mark.parametrize("value", [None, "3", True, -1, float("nan"), float("inf")])
def test_what_is_no_time_is_an_error_of_scoreline(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"timeout is .* expected a number of seconds"):
        check_timeout(value)
    with pytest.raises(SettingsError, match="expires is"):
        check_expiry(value)
    with pytest.raises(SettingsError, match="expires is 0"):
        check_expiry(0)


def test_a_model_that_is_no_text_is_refused_in_words() -> None:
    with pytest.raises(UnknownModel, match=r"a model is named by text, .* not by 3"):
        check_model(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("records", [[], (), iter([])], ids=["list", "tuple", "iterator"])
def test_no_records_are_refused(records: Iterable[Any]) -> None:
    with pytest.raises(EmptyRequest):
        check_records(records)


@pytest.mark.parametrize("model", ["", "Pima", "../etc", "pima@", "pima@-1", "pima@0", 5, None])
def test_what_cannot_be_a_model_is_refused_at_once(model: Any) -> None:
    with pytest.raises(UnknownModel):
        check_model(model)


@pytest.mark.parametrize("model", ["pima", "pima@3", "pima@candidate", "a.b-c_d"])
def test_a_reference_passes_as_it_is(model: str) -> None:
    assert check_model(model) == model


def test_many_records_travel_in_pieces_that_lose_none() -> None:
    records = [{"x": number} for number in range(2 * RECORDS_PER_REQUEST + 5)]
    pieces = list(split_records(records, ClientSettings()))
    assert [one for piece in pieces for one in orjson.loads(piece.body)] == records
    assert max(piece.count for piece in pieces) <= RECORDS_PER_REQUEST


def test_a_piece_fits_into_a_request() -> None:
    records = [{"text": "x" * 100} for _ in range(200)]
    pieces = list(split_records(records, SMALL))
    assert sum(piece.count for piece in pieces) == 200
    assert all(len(piece.body) <= SMALL.max_request_bytes for piece in pieces)


def test_a_record_over_the_limit_of_a_request_is_refused() -> None:
    with pytest.raises(PayloadTooLarge, match="1024"):
        list(split_records([{"text": "x" * 2000}], SMALL))


def test_a_request_over_the_limit_says_what_to_use() -> None:
    with pytest.raises(PayloadTooLarge, match="use score_csv"):
        check_size(EncodedRecords(b"x" * 2000, 1), SMALL, "use score_csv")


def test_an_answer_becomes_a_prediction() -> None:
    answer = Answer(
        id="i", model="pima", version=3, records=1,
        classes=[0, 1], values=[1], probabilities=[[0.25, 0.75]],
    )  # fmt: skip
    (found,) = predictions_of(answer)
    assert (found.value, found.probabilities) == (1, {0: 0.25, 1: 0.75})
    assert (found.model, found.version, found.error) == ("pima", 3, None)


def test_a_prediction_of_an_answer_is_like_one_made_by_hand() -> None:
    answer = Answer(
        id="i", model="m", version=3, classes=["a", "b"], values=["b"], probabilities=[[0.25, 0.75]]
    )
    (found,) = predictions_of(answer)
    by_hand = Prediction("b", {"a": 0.25, "b": 0.75}, "m", 3)
    assert found == by_hand
    assert repr(found) == repr(by_hand)
    assert pickle.loads(pickle.dumps(found)) == by_hand
    assert replace(found, version=4).version == 4
    with pytest.raises(AttributeError):
        found.value = "a"  # type: ignore[misc]


@pytest.mark.parametrize("classes", [[0, 1], [0, 1, 2]], ids=["two", "three"])
def test_probabilities_are_by_class_whatever_happened_to_a_neighbour(classes: list[int]) -> None:
    share = [0.5, *[0.25] * (len(classes) - 1)]
    error = {"code": "E_TYPE", "message": "text"}
    answer = Answer(
        id="i", model="m", version=1, classes=classes,
        values=[0, None], probabilities=[share, None], errors={"1": error},
    )  # fmt: skip
    good, bad = predictions_of(answer)
    assert good.probabilities == dict(zip(classes, share, strict=True))
    assert bad.error is not None
    assert bad.probabilities == {}


def test_a_pipeline_without_probabilities_gives_none() -> None:
    answer = Answer(id="i", model="m", version=1, records=1, values=[2.5])
    assert predictions_of(answer)[0].probabilities == {}


def test_a_rejected_record_is_raised_with_column_and_value() -> None:
    error = {"code": "E_TYPE", "message": "column 'x': …", "column": "x", "value": "'a'"}
    (found,) = predictions_of(Answer(id="i", records=1, values=[None], errors={"0": error}))
    assert found.error is not None
    raised = rejected(found.error)
    assert (raised.code, raised.column, raised.value) == ("E_TYPE", "x", "'a'")


def test_a_refused_request_is_raised_as_what_it_is() -> None:
    error = {"code": "E_UNKNOWN_MODEL", "message": "no model 'pina'; did you mean 'pima'?"}
    with pytest.raises(UnknownModel, match="did you mean"):
        predictions_of(Answer(id="i", status=Status.ERROR, error=error))


def test_errors_stand_at_their_records_places_wherever_they_come_from() -> None:
    encoded = encode_records([{"x": 1}, {2}, {"y": 3}])
    nulls = {"1": {"code": "E_TYPE", "message": "null is no record"}}
    missing = {"2": {"code": "E_MISSING_COLUMN", "message": "column 'x' is missing"}}
    answer = Answer(id="i", version=1, records=3, values=[2, None, None], errors=nulls | missing)
    found = predictions_of(answer, encoded.errors, first=1000)
    assert [one.value for one in found] == [2, None, None]
    assert [one.error and (one.error.code, one.error.record) for one in found] == [
        None,
        ("E_TYPE", 1001),
        ("E_MISSING_COLUMN", 1002),
    ]
    assert found[1].error is not None
    assert "must be a mapping" in found[1].error.message


def test_warnings_come_with_the_prediction_that_they_are_about() -> None:
    warning = {"code": "W_OUT_OF_RANGE", "message": "…", "column": "age", "value": "900"}
    answer = Answer(id="0" * 32, values=[1, 0], warnings={"1": [warning]})
    first, second = predictions_of(answer)
    assert first.warnings == ()
    assert second.value == 0
    assert second.warnings == (RecordWarning(**warning),)
