"""Requests in parts: an entry of some of its records, and one answer out of those to its parts."""

from __future__ import annotations

import orjson

from scoreline_client.protocol.json_records import predictions_of
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Status
from scoreline_tasks.queue.recovery import entry_with_records, merge_answers
from scoreline_tasks.scoring.batch import Entry
from scoreline_tasks.scoring.json_codec import raw_records


def test_an_entry_of_some_records_is_otherwise_the_same() -> None:
    entry = Entry(Lane.ONLINE, b"1-0", {b"id": b"a" * 32, b"body": b"[1,2,3]"})
    part = entry_with_records(entry, [b"2", b"3"])
    assert (part.id, part.fields) == (b"1-0", {b"id": b"a" * 32, b"body": b"[2,3]"})


def test_all_records_together_read_like_the_request() -> None:
    body = orjson.dumps([{"x": n, "text": "a,]b"} for n in range(50)])
    entry = Entry(Lane.ONLINE, b"1-0", {b"body": body})
    assert entry_with_records(entry, raw_records(body)).fields[b"body"] == body


def test_answers_are_merged_in_the_order_of_their_records() -> None:
    warning = {"code": "W_OUT_OF_RANGE", "message": "…", "column": "x", "value": "9"}
    error = {"code": "E_TYPE", "message": "…"}
    answers = [
        Answer(id="i", status=Status.ERROR, error={"code": "E_CRASHED", "message": "it died"}),
        Answer(
            id="i", model="m", version=3, records=2, classes=[0, 1], values=[1, None],
            probabilities=[[0.2, 0.8], None], errors={"1": error}, warnings={"0": [warning]},
        ),
        Answer(
            id="i", model="m", version=3, records=1, classes=[0, 1], values=[0],
            probabilities=[[0.9, 0.1]],
        ),
    ]  # fmt: skip
    merged = merge_answers(answers)
    assert (merged.status, merged.records, merged.version) == (Status.OK, 4, 3)
    assert merged.classes == [0, 1]
    assert merged.values == [None, 1, None, 0]
    assert merged.probabilities == [None, [0.2, 0.8], None, [0.9, 0.1]]
    assert {index: found["code"] for index, found in merged.errors.items()} == {
        "0": "E_CRASHED",
        "2": "E_TYPE",
    }
    assert merged.warnings == {"1": [warning]}
    assert Answer.decode(merged.encode()).values == merged.values


def test_a_part_without_a_prediction_does_not_hide_what_probabilities_are_for() -> None:
    error = {"code": "E_TYPE", "message": "…"}
    parts = [
        Answer(id="i", model="m", version=3, records=1, values=[None], errors={"0": error}),
        Answer(
            id="i", model="m", version=3, records=1, classes=[0, 1], values=[1],
            probabilities=[[0.25, 0.75]],
        ),
    ]  # fmt: skip
    bad, good = predictions_of(merge_answers(parts))
    assert bad.error is not None
    assert good.probabilities == {0: 0.25, 1: 0.75}


def test_records_that_were_all_given_up_are_errors_of_records() -> None:
    crashed = Answer(id="i", status=Status.ERROR, error={"code": "E_CRASHED", "message": "died"})
    merged = merge_answers([crashed, crashed])
    assert (merged.status, merged.error) == (Status.OK, None)
    assert (merged.records, merged.values, list(merged.errors)) == (2, [None, None], ["0", "1"])


def test_a_refusal_of_a_part_is_the_answer_to_the_whole() -> None:
    refused = Answer(id="i", status=Status.ERROR, error={"code": "E_EXPIRED", "message": "…"})
    assert merge_answers([Answer(id="i", version=1, records=1, values=[1]), refused]) is refused
