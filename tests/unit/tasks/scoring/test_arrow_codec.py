"""A frame in Arrow comes back as answers in Arrow; what is no Arrow is refused, not followed."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_tasks.scoring.predict import CodecResult
from tests.support.models import Classifier
from tests.support.scoring import score_arrow

SCHEMA = Schema.infer(pd.DataFrame({"a": [1.5], "b": [1]}))


MODEL = Classifier(lambda frame: frame["a"] + frame["b"] > 5)


def _stream(table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _score(body: bytes) -> CodecResult:
    return score_arrow(body, LoadedVersion.of(MODEL, "sum", 1, SCHEMA))


def _answers(table: Any) -> dict[str, list[Any]]:
    result: dict[str, list[Any]] = (
        pa.ipc.open_stream(_score(_stream(table)).body).read_all().to_pydict()
    )
    return result


def _refused(body: bytes) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        _score(body)
    return caught.value


def test_rows_are_answered_in_order() -> None:
    assert _answers(pa.table({"a": [1.0, 9.0], "b": [1, 1]})) == {
        "prediction": ["no", "yes"],
        "probability_no": [0.25, 0.25],
        "probability_yes": [0.75, 0.75],
        "error": [None, None],
    }


def test_a_bad_row_costs_only_itself() -> None:
    answers = _answers(pa.table({"a": [9.0, None, float("nan"), 9.0], "b": [1, 1, 1, 1]}))
    assert answers["prediction"] == ["yes", None, None, "yes"]
    assert answers["probability_yes"] == [0.75, None, None, 0.75]
    assert [error and error.split(":")[0] for error in answers["error"]] == [
        None,
        Code.NULL,
        Code.NON_FINITE,
        None,
    ]


def test_rejected_rows_are_counted_by_code() -> None:
    result = _score(_stream(pa.table({"a": [9.0, None, None], "b": [1, 1, 1]})))
    assert (result.records, result.rejected) == (3, {Code.NULL: 2})


def test_further_columns_and_another_order_are_fine() -> None:
    assert _answers(pa.table({"b": [1], "id": ["x"], "a": [9.0]}))["prediction"] == ["yes"]


@pytest.mark.parametrize("kind", [pa.int8(), pa.int32(), pa.uint64(), pa.float32()])
def test_narrower_numbers_are_numbers(kind: Any) -> None:
    table = pa.table({"a": pa.array([9], kind), "b": pa.array([1], pa.int16())})
    assert _answers(table)["error"] == [None]


def test_text_is_no_number() -> None:
    assert _answers(pa.table({"a": ["9.0"], "b": [1]}))["error"][0].startswith(Code.TYPE)


def test_months_of_which_pyarrow_knows_nothing_are_no_number() -> None:
    months = pa.array([pa.MonthDayNano([1, 1, 1])] * 2).dictionary_encode()
    body = _stream(pa.table({"a": [1.5, 1.5], "b": months}))
    unit = b"\xca\xff\xff\xff\0\0%s\0"  # in the schema: 2, and 0 is the type that pyarrow has no class for
    body = body.replace(unit % b"\2", unit % b"\0")
    assert "month_interval" in str(pa.ipc.open_stream(body).schema)
    assert _score(body).rejected == {"E_TYPE": 2}


def test_a_missing_column_is_refused_by_name() -> None:
    problem = _refused(_stream(pa.table({"b": [1]})))
    assert (problem.code, problem.column) == (Code.MISSING_COLUMN, "a")


def test_a_column_that_is_there_twice_is_refused() -> None:
    table = pa.Table.from_arrays([pa.array([1.0]), pa.array([1]), pa.array([2.0])], ["a", "b", "a"])
    problem = _refused(_stream(table))
    assert (problem.code, problem.column) == (Code.DUPLICATE_COLUMN, "a")


def test_a_frame_without_rows_is_refused() -> None:
    table = pa.table({"a": pa.array([], pa.float64()), "b": pa.array([], pa.int64())})
    assert _refused(_stream(table)).code == Code.EMPTY_REQUEST


@pytest.mark.parametrize(
    ("text", "code"), [("1,2", Code.ARROW_INVALID), ("{", Code.JSON), ("", Code.JSON)]
)
def test_a_text_that_is_not_the_json_of_one_value_is_refused(text: str, code: Code) -> None:
    field = pa.field("a", pa.string(), metadata={"scoreline:type": "json"})
    schema = pa.schema([field, pa.field("b", pa.int64())])
    table = pa.table([pa.array(["1.5", text]), pa.array([1, 1])], schema=schema)
    assert _refused(_stream(table)).code == code


@pytest.mark.parametrize("body", [b"", b"no arrow", b"\xff\xff\xff\xff\x10\0\0\0", b"\0" * 64])
def test_bytes_that_are_no_arrow_are_refused(body: bytes) -> None:
    assert _refused(body).code == Code.ARROW_INVALID


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_stream_that_was_cut_off_is_refused(share: float) -> None:
    body = _stream(pa.table({"a": [9.0] * 100, "b": [1] * 100}))
    assert _refused(body[: int(len(body) * share)]).code == Code.ARROW_INVALID


def test_text_whose_offsets_lead_out_of_the_buffer_is_refused() -> None:
    body = _stream(pa.table({"a": ["abc"], "b": [1]}))
    offsets = np.array([0, 3], np.int32).tobytes()
    head, found, tail = body.rpartition(offsets)
    assert found
    assert tail.startswith(b"abc")
    damaged = head + np.array([0, 1_000_000_000], np.int32).tobytes() + tail
    assert _refused(damaged).code == Code.ARROW_INVALID
