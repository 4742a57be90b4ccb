"""An answer stays a small multiple of its request, also if every record is wrong."""

from __future__ import annotations

from typing import Any

import orjson
import pandas as pd
import pytest

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.errors import RequestRefused
from scoreline_client.options import CsvChunk, Policy, RequestOptions
from scoreline_client.protocol.json_records import predictions_of, raise_refusal
from scoreline_client.protocol.messages import (
    INLINE_ANSWER_BYTES,
    Answer,
    Codec,
    Request,
)
from scoreline_tasks.scoring.batch import Batcher, Entry
from scoreline_tasks.scoring.limits import Limits
from tests.support.models import Classifier
from tests.support.scoring import OneVersion, entry_of

TOWNS = Schema.infer(pd.DataFrame({"x": [1.5, 2], "town": ["Ulm", "Ulm"]}))


def _answered(request: Request, *, grouped: bool = True) -> bytes:
    entry = entry_of(request)
    if not grouped:
        entry = Entry(entry.lane, entry.id, {**entry.fields, b"grouped_errors": b"0"})
    loaded = LoadedVersion.of(Classifier(), "m", 1, TOWNS)
    (finished,) = Batcher(OneVersion(loaded), Limits()).answer([entry], 1000)
    return finished.answer


def _records(record: bytes, count: int) -> Request:
    return Request(id="0" * 32, model="m", body=b"[" + b",".join([record] * count) + b"]")


def test_every_record_of_a_large_request_has_its_error_in_a_small_answer() -> None:
    request = _records(b"{}", 100_000)
    data = _answered(request)
    assert len(data) < 10 * len(request.body)  # 29 times as much, each told in full
    predictions = predictions_of(Answer.decode(data))
    assert len(predictions) == 100_000
    assert {each.error.code for each in predictions if each.error} == {"E_MISSING_COLUMN"}
    last = predictions[-1].error
    assert last is not None
    assert (last.record, last.column) == (99_999, "x")
    assert last.message == "like record 0: column 'x' is missing"


def test_a_caller_who_reads_no_groups_gets_a_short_error_for_each_record() -> None:
    request = _records(b'{"x":true,"town":"Ulm"}', 5000)
    answer = orjson.loads(_answered(request, grouped=False))
    assert len(answer["errors"]) == 5000
    assert "more_errors" not in answer
    assert answer["errors"]["0"]["value"] == "True"
    assert answer["errors"]["4999"] == {"code": "E_TYPE", "message": "like record 0"}


def test_a_caller_who_reads_no_groups_is_refused_where_even_short_errors_are_too_much() -> None:
    request = _records(b"{}", 100_000)
    data = _answered(request, grouped=False)
    assert len(data) < INLINE_ANSWER_BYTES
    with pytest.raises(RequestRefused, match="column 'x' is missing") as caught:
        raise_refusal(Answer.decode(data))
    assert caught.value.code == "E_TOO_LARGE"


def test_a_few_errors_are_told_in_full() -> None:
    answer = orjson.loads(_answered(_records(b"{}", 500)))
    assert {error["message"] for error in answer["errors"].values()} == {"column 'x' is missing"}


@pytest.mark.parametrize("problems", [0, 100_000])
def test_every_row_of_a_file_has_its_error_in_a_small_answer(problems: int) -> None:
    head = CsvChunk(columns=["x", "town"], first_row=11, first_line=12, problems=problems)
    body = head.encode(b"a,Ulm\n" * 50_000)
    data = _answered(Request(id="0" * 32, model="m", codec=Codec.CSV, body=body))
    assert len(data) < 15 * len(body)
    answer = Answer.decode(data)
    assert [problem["row"] for problem in answer.problems] == [*range(11, 11 + problems)][:50_000]
    assert {problem["line"] - problem["row"] for problem in answer.problems} <= {1}
    assert {problem["code"] for problem in answer.problems} <= {"E_TYPE"}
    lines = bytes(answer.body).splitlines()
    assert len(lines) == 50_000
    assert lines[-1].endswith(b",E_TYPE: like row 11")


def test_warnings_are_shortened_too() -> None:
    options = RequestOptions(unseen=Policy.WARN).encoded_options
    request = Request(
        id="0" * 32,
        model="m",
        body=_records(b'{"x":1,"town":"M"}', 50_000).body,
        options=options,
    )
    answer: dict[str, Any] = orjson.loads(_answered(request))
    assert len(answer["warnings"]) == 50_000
    assert answer["warnings"]["49999"][0]["message"] == ""


@pytest.mark.parametrize("field", ["operation", "codec", "apart", "model", "job", "reply_to"])
def test_a_field_of_a_megabyte_is_refused_in_a_few_words(field: str) -> None:
    entry = entry_of(_records(b"{}", 1))
    entry = Entry(entry.lane, entry.id, {**entry.fields, field.encode(): b"\xff" * (1 << 20)})
    loaded = LoadedVersion.of(Classifier(), "m", 1, TOWNS)
    (finished,) = Batcher(OneVersion(loaded), Limits()).answer([entry], 1000)
    assert (
        Answer.decode(finished.answer).error
        == {
            "code": "E_WIRE",
            "message": "the fields beside body and options have over 1024 bytes",
        }
        or field == "reply_to"
    )
    assert len(finished.answer) < 1000
