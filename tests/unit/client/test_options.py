"""Options and the heads of csv bodies: old bytes stay valid, unknown wishes are refused."""

from typing import Any

import orjson
import pytest

from scoreline_client.options import CsvChunk, Policy, RequestOptions
from scoreline_client.protocol.messages import Answer, Request, WireError
from tests.support.worker import entry_fields

VERSION_1 = b'{"columns":["id","a"],"first_row":8,"first_line":9,"delimiter":";"}\n1;2\n'
EVERYTHING = CsvChunk(
    columns=["a"],
    first_row=3,
    first_line=9,
    delimiter="\t",
    quote="'",
    comment="#",
    encoding="cp1252",
    decimal=",",
    thousands=".",
    nulls=["", "NA"],
    strict=True,
    coerce=True,
    unseen=Policy.WARN,
    out_of_range=Policy.ERROR,
    outputs=["prediction", "probability_1", "error"],
    problems=100,
    columns_out=[0],
    excel_safe=True,
)


def _head(**changes: Any) -> bytes:
    head = {"columns": ["a"], "first_row": 1, "first_line": 2} | changes
    return orjson.dumps(head) + b"\n1\n"


def test_the_head_of_the_first_callers_is_still_read() -> None:
    chunk, rows = CsvChunk.decode(VERSION_1)
    assert chunk == CsvChunk(columns=["id", "a"], first_row=8, first_line=9, delimiter=";")
    assert bytes(rows) == b"1;2\n"


def test_every_field_of_a_head_arrives() -> None:
    assert CsvChunk.decode(EVERYTHING.encode(b"1\n"))[0] == EVERYTHING


def test_a_head_says_only_what_is_not_the_default() -> None:
    body = CsvChunk(columns=["a"], first_row=1, first_line=2).encode(b"")
    assert orjson.loads(body) == {"columns": ["a"], "first_row": 1, "first_line": 2}


def test_a_wish_that_is_not_known_is_refused_and_not_forgotten() -> None:
    with pytest.raises(WireError, match="'shiny' is not known to this worker"):
        CsvChunk.decode(_head(shiny=True))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("delimiter", ",,"),
        ("delimiter", "\n"),
        ("first_row", "1"),
        ("first_line", -1),
        ("nulls", "NA"),
        ("decimal", ";"),
        ("thousands", "1"),
        ("unseen", "shout"),
        ("outputs", ["prediction", "colour"]),
        ("columns_out", [True]),
        ("columns", [1]),
        ("strict", 1),
    ],
)
def test_a_field_that_is_unusable_is_named(name: str, value: Any) -> None:
    with pytest.raises(WireError, match=f"{name} is .*; expected "):
        CsvChunk.decode(_head(**{name: value}))


def test_a_head_without_its_columns_is_refused() -> None:
    with pytest.raises(WireError, match="'columns' is missing"):
        CsvChunk.decode(b'{"first_row":1,"first_line":2}\n')


def test_options_travel_in_a_field_of_the_entry_only_when_something_is_asked() -> None:
    options = RequestOptions(coerce=True, unseen=Policy.ERROR)
    plain = Request(id="0" * 32, model="m", options=RequestOptions().encode_options())
    asking = Request(id="0" * 32, model="m", options=options.encode_options())
    assert "options" not in plain.encode()
    decoded = Request.decode(entry_fields(asking))
    assert RequestOptions.decode_options(decoded.options) == options


def test_what_a_newer_worker_says_beyond_this_is_passed_over() -> None:
    data = orjson.dumps({"wire": 1, "id": "0" * 32, "status": "ok", "mood": "fine"})
    assert Answer.decode(data).status == "ok"
