"""Requests divided into records, and answers put together again."""

from __future__ import annotations

import orjson
import pytest

from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Status
from scoreline_tasks.queue.bisect import crashed, joined, with_records
from scoreline_tasks.scoring.batch import Entry
from scoreline_tasks.scoring.json_codec import raw_records


def test_records_are_cut_out_as_they_were_written() -> None:
    body = b' [ {"x" : 1e400} ,\n{"x":1, "x":2}, {"x":"\\ud800],["}, null, [1,[2]],12345678901234567890 ] '
    assert raw_records(body) == [
        b'{"x" : 1e400}',
        b'{"x":1, "x":2}',
        b'{"x":"\\ud800],["}',
        b"null",
        b"[1,[2]]",
        b"12345678901234567890",
    ]


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b"[1,", b"[{]", b"\xff[1]", b"[" * 100_000])
def test_what_cannot_be_divided_has_no_records(body: bytes) -> None:
    assert raw_records(body) == []


def test_an_entry_of_some_records_is_otherwise_the_same() -> None:
    entry = Entry(Lane.ONLINE, b"1-0", {b"id": b"a" * 32, b"body": b"[1,2,3]"})
    part = with_records(entry, [b"2", b"3"])
    assert (part.id, part.fields) == (b"1-0", {b"id": b"a" * 32, b"body": b"[2,3]"})


def test_answers_are_joined_at_their_places() -> None:
    told = {"code": "W_OUT_OF_RANGE", "message": "…", "column": "x", "value": "9"}
    error = {"code": "E_TYPE", "message": "…"}
    answers = [
        crashed("i", "it died"),
        Answer(
            id="i", model="m", version=3, records=2, classes=[0, 1], values=[1, None],
            probabilities=[[0.2, 0.8], None], errors={"1": error}, warnings={"0": [told]},
        ),
        Answer(
            id="i", model="m", version=3, records=1, classes=[0, 1], values=[0],
            probabilities=[[0.9, 0.1]],
        ),
    ]  # fmt: skip
    found = joined(answers)
    assert (found.records, found.version, found.classes) == (4, 3, [0, 1])
    assert found.values == [None, 1, None, 0]
    assert found.probabilities == [None, [0.2, 0.8], None, [0.9, 0.1]]
    assert {place: one["code"] for place, one in found.errors.items()} == {
        "0": "E_CRASHED",
        "2": "E_TYPE",
    }
    assert found.warnings == {"1": [told]}
    assert Answer.decode(found.encode()).values == found.values


def test_a_refusal_of_a_part_is_one_of_the_whole() -> None:
    refused = Answer(id="i", status=Status.ERROR, error={"code": "E_EXPIRED", "message": "…"})
    assert joined([Answer(id="i", version=1, records=1, values=[1]), refused]) is refused


def test_joined_records_read_like_the_request() -> None:
    body = orjson.dumps([{"x": n, "text": "a,]b"} for n in range(50)])
    entry = Entry(Lane.ONLINE, b"1-0", {b"body": body})
    assert with_records(entry, raw_records(body)).fields[b"body"] == body
