"""Each entry of a read gets its own answer, and entries share a call of the pipeline where they may."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.options import CsvChunk
from scoreline_client.protocol.messages import Answer, Codec, ModelRef, Operation, Request, Status
from scoreline_tasks.scoring import batch
from scoreline_tasks.scoring.batch import Batcher
from scoreline_tasks.scoring.limits import Limits
from tests.support.models import Predictor, column_x
from tests.support.scoring import OneVersion, entry_of

SCHEMA = Schema.infer(pd.DataFrame({"x": [1.5, 9.5]}))


def _request(*values: Any, **fields: Any) -> Request:
    body = orjson.dumps([{"x": value} for value in values])
    return Request(**{"id": "1" * 32, "model": "m", "body": body, **fields})


def _answers(loaded: LoadedVersion, *requests: Request) -> list[Answer]:
    """The answers to requests that were read together, in the order of the requests."""
    batcher = Batcher(OneVersion(loaded), Limits(1 << 20, 100))
    entries = [
        entry_of(replace(request, id=f"{at:032x}"), f"1000-{at}".encode())
        for at, request in enumerate(requests)
    ]
    answers = [Answer.decode(one.answer) for one in batcher.answer(entries, 1000)]
    assert batcher.totals.requests == len(requests)
    return sorted(answers, key=lambda answer: answer.id)


@pytest.fixture
def pipeline() -> Predictor:
    return Predictor(column_x)


@pytest.fixture
def loaded(pipeline: Predictor) -> LoadedVersion:
    return LoadedVersion.of(pipeline, "m", 3, SCHEMA)


def test_requests_that_ask_for_the_same_share_a_call(
    loaded: LoadedVersion, pipeline: Predictor
) -> None:
    answers = _answers(loaded, _request(1, 2), _request("x", 3), _request(4))
    assert [one.values for one in answers] == [[1.0, 2.0], [None, 3.0], [4.0]]
    assert [list(one.errors) for one in answers] == [[], ["0"], []]
    assert pipeline.sizes == [4]


def test_requests_that_ask_for_something_else_do_not_share_a_call(
    loaded: LoadedVersion, pipeline: Predictor
) -> None:
    strict, warned = (orjson.dumps({"out_of_range": policy}) for policy in ("error", "warn"))
    answers = _answers(
        loaded, _request(99), _request(99, options=strict), _request(99, options=warned)
    )
    assert [one.values for one in answers] == [[99.0], [None], [99.0]]
    assert answers[1].errors["0"]["code"] == "E_OUT_OF_RANGE"
    assert answers[2].warnings["0"][0]["code"] == "W_OUT_OF_RANGE"
    assert pipeline.sizes == [1, 1]


def test_requests_to_a_version_that_is_not_batchable_never_share_a_call(
    loaded: LoadedVersion, pipeline: Predictor
) -> None:
    _answers(replace(loaded, batchable=False), _request(1, 2), _request(3))
    assert pipeline.sizes == [2, 1]


def test_records_of_different_callers_are_scored_alone_by_a_version_that_is_not_batchable() -> None:
    widths = Predictor(lambda frame: np.ones((len(frame), int(frame["x"].iloc[0]) + 1)))
    loaded = replace(LoadedVersion.of(widths, "m", 3, SCHEMA), batchable=False)
    (answer,) = _answers(loaded, _request(1, "x", 2, apart=True))
    assert answer.values == [[1.0, 1.0], None, [1.0, 1.0, 1.0]]
    assert list(answer.errors) == ["1"]
    assert widths.sizes == [1, 1]


def test_options_that_cannot_be_read_refuse_their_request_alone(loaded: LoadedVersion) -> None:
    good, bad = _answers(loaded, _request(1), _request(1, options=b'{"colour": "red"}'))
    assert good.values == [1.0]
    assert (bad.status, bad.error and bad.error["code"]) == (Status.ERROR, "E_WIRE")


CSV_BODY = CsvChunk(columns=("x",), first_row=1, first_line=2).encode(b"99\n")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"codec": Codec.CSV, "body": CSV_BODY}, "a csv body has its options in its head"),
        (
            {"codec": Codec.CSV, "body": CSV_BODY, "operation": Operation.CHECK},
            "a csv body has its options in its head",
        ),
        ({"operation": Operation.DESCRIBE, "body": b""}, "the operation describe has none"),
        ({"options": b'{"problems":5}'}, "'problems' is for the codecs csv and arrow, not json"),
        ({"options": b'{"outputs":["error"]}'}, "'outputs' is for the codecs csv and arrow"),
    ],
    ids=["csv", "csv that is checked", "describe", "problems with json", "outputs with json"],
)
def test_options_that_would_be_passed_over_are_refused(
    loaded: LoadedVersion, pipeline: Predictor, fields: dict[str, Any], words: str
) -> None:
    options = b'{"out_of_range":"error"}'
    (answer,) = _answers(loaded, _request(1, **{"options": options, **fields}))
    assert answer.error is not None
    assert answer.error["code"] == "E_WIRE"
    assert words in answer.error["message"]
    assert pipeline.sizes == []


@pytest.mark.parametrize(
    "fields",
    [
        {"codec": Codec.CSV, "body": CSV_BODY, "options": b"{}"},
        {"operation": Operation.DESCRIBE, "options": b"{}"},
        {"operation": Operation.CHECK, "options": b'{"problems":5}'},
        {"options": b'{"problems":0,"outputs":null,"first_row":7}'},
    ],
    ids=["csv", "describe", "json that is checked", "defaults"],
)
def test_options_that_ask_for_nothing_else_are_taken(
    loaded: LoadedVersion, fields: dict[str, Any]
) -> None:
    (answer,) = _answers(loaded, _request(1, **fields))
    assert answer.error is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (b"[]", 'options are not a JSON object: "[]"'),
        (b"{", 'options are not JSON: unexpected end of data: line 1 column 2 (char 1): "{"'),
    ],
)
def test_options_that_are_no_object_are_named(
    loaded: LoadedVersion, options: bytes, words: str
) -> None:
    (answer,) = _answers(loaded, _request(1, options=options))
    assert answer.error is not None
    assert answer.error["message"] == words


def test_a_body_that_is_empty_is_told_so(loaded: LoadedVersion) -> None:
    (answer,) = _answers(loaded, _request(body=b""))
    assert answer.error == {
        "code": "E_JSON",
        "message": "the body is empty; expected an array of objects",
    }


def test_what_the_registry_fails_with_is_the_answer_of_its_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def resolve(self, ref: ModelRef, asked_at: float = 0.0) -> LoadedVersion:
            raise OSError("the disk is gone")

    (finished,) = Batcher(Broken(), Limits(100, 100)).answer([entry_of(_request(1))], 1000)
    answer = Answer.decode(finished.answer)
    assert answer.error is not None
    assert answer.error["code"] == "E_INTERNAL"
    assert "request_failed" in caplog.text


def test_an_answer_that_cannot_be_encoded_is_refused_and_ends_nothing(
    loaded: LoadedVersion, caplog: pytest.LogCaptureFixture
) -> None:
    """Values are checked before; this holds for whatever else gets into an answer."""
    unprintable: Any = {1}
    (refused,) = _answers(replace(loaded, version=unprintable), _request(1))
    assert refused.error is not None
    assert refused.error["code"] == "E_INTERNAL"
    assert "batch_failed" in caplog.text


def test_a_description_needs_no_body(loaded: LoadedVersion, pipeline: Predictor) -> None:
    (answer,) = _answers(loaded, Request(id="", model="m", operation=Operation.DESCRIBE))
    assert answer.description is not None
    (column,) = answer.description["columns"]
    assert (column["name"], column["dtype"]) == ("x", "float64")
    assert column["minimum"] < column["maximum"]
    assert "categories" not in column
    assert pipeline.sizes == []


@pytest.mark.parametrize("codec", list(Codec))
def test_a_body_that_is_none_of_its_codec_is_refused(loaded: LoadedVersion, codec: Codec) -> None:
    (answer,) = _answers(loaded, _request(codec=codec, body=b"\xff"))
    assert answer.status is Status.ERROR
    assert answer.error is not None
    assert answer.error["code"] in ("E_ENCODING", "E_ARROW_INVALID", "E_JSON")


def test_the_refusal_of_a_wrong_reply_list_is_stored_under_the_id(loaded: LoadedVersion) -> None:
    good = entry_of(_request(1))
    bad = replace(good, fields={**good.fields, b"reply_to": b"abc"})
    (finished,) = Batcher(OneVersion(loaded), Limits(1 << 20, 1000)).answer([bad], now_ms=0)
    assert (finished.request_id, finished.reply_to) == ("1" * 32, "")
    assert Answer.decode(finished.answer).id == "1" * 32


@pytest.mark.parametrize(
    ("name", "words"),
    [(b"id", 'id "abc" is not 32'), (b"reply_to", 'reply_to "abc" is not 32')],
    ids=["its id", "its caller"],
)
def test_a_request_that_nobody_can_be_told_of_leaves_a_line_now_and_then(
    loaded: LoadedVersion,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: bytes,
    words: str,
) -> None:
    now = 0.0
    monkeypatch.setattr(batch, "_unanswerable", batch.Seldom(10.0, lambda: now))
    good = entry_of(_request(1))
    bad = replace(good, fields={**good.fields, name: b"abc"})
    batcher = Batcher(OneVersion(loaded), Limits(1 << 20, 1000))
    for _ in range(5):
        batcher.answer([bad, good], now_ms=0)
    (line,) = caplog.messages
    assert f"lane=bulk entry={good.id.decode()} left_out=0: {words}" in line
    now = 10.0
    batcher.answer([bad], now_ms=0)
    assert "left_out=4" in caplog.messages[-1]


class Waiting:
    """A clock that goes on while a pipeline is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        clock = SimpleNamespace(monotonic=lambda: self.now_s, perf_counter=lambda: self.now_s)
        monkeypatch.setattr(batch, "time", clock)

    def column_x(self, frame: pd.DataFrame) -> Any:
        """50 ms for each row."""
        self.now_s += 0.05 * len(frame)
        return column_x(frame)


def test_who_can_be_answered_only_too_late_is_refused_and_takes_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = Waiting(monkeypatch)
    pipeline = Predictor(waiting.column_x)
    batcher = Batcher(OneVersion(LoadedVersion.of(pipeline, "m", 3, SCHEMA)), Limits(1 << 20, 100))

    def answer(*waited: tuple[int, str]) -> list[str]:
        entries = [
            entry_of(
                _request(1, id=f"{at:032x}", reply_to=reply_to, expires_ms=1000),
                f"{100_000 - waited_ms}-{at}".encode(),
            )
            for at, (waited_ms, reply_to) in enumerate(waited)
        ]
        answers = [Answer.decode(one.answer) for one in batcher.answer(entries, 100_000)]
        by_id = sorted(answers, key=lambda one: one.id)
        return [str(one.error["code"]) if one.error else "ok" for one in by_id]

    me = "c" * 32
    assert answer((990, me)) == ["ok"]  # nothing is known of the version yet
    assert answer((980, me), (10, me), (980, "")) == ["E_EXPIRED", "ok", "ok"]
    assert batcher.rows_s == pytest.approx(0.15)
    assert pipeline.sizes == [1, 2]
    assert answer((990, me), (400, me)) == ["E_EXPIRED", "ok"]
    assert answer((400, me)) == ["ok"]
