"""Options and the heads of csv bodies: old bytes stay valid, unknown wishes are refused."""

from typing import Any

import orjson
import pytest

from scoreline_client.errors import SettingsError
from scoreline_client.options import (
    BulkOptions,
    CsvChunk,
    Flag,
    MaxErrors,
    Policy,
    RequestOptions,
    type_hints,
)
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
    date_format="%d.%m.%Y",
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
    plain = Request(id="0" * 32, model="m", options=RequestOptions().encoded_options)
    asking = Request(id="0" * 32, model="m", options=options.encoded_options)
    assert "options" not in plain.encode()
    decoded = Request.decode(entry_fields(asking))
    assert RequestOptions.decode_options(decoded.options) == options


def test_what_a_newer_worker_says_beyond_this_is_passed_over() -> None:
    data = orjson.dumps({"wire": 1, "id": "0" * 32, "status": "ok", "mood": "fine"})
    assert Answer.decode(data).status == "ok"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": ";;"}, "delimiter is ';;'"),
        ({"decimal": ",", "delimiter": ","}, "another character than the delimiter"),
        ({"encoding": "klingon"}, "encoding is 'klingon'"),
        ({"encoding": "rot13"}, "an encoding of text"),
        ({"keep": ("a",), "drop": ("b",)}, "--keep and --drop exclude each other"),
        ({"only_predictions": True, "id": "a"}, "--only-predictions and --id exclude"),
        (
            {"outputs": ("prediction", "prediction")},
            "outputs is 'prediction,prediction'; expected each",
        ),
        ({"outputs": ()}, "outputs is ''; expected names such as"),
        ({"keep": ("a", "b", "a")}, "expected each name once"),
        ({"drop": ("a", "a")}, "expected each name once"),
        ({"resume": True, "restart": True}, "--resume and --restart exclude each other"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        BulkOptions(**options)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x%", "1 %2"])
def test_a_limit_for_errors_is_a_number_or_a_share(text: str) -> None:
    with pytest.raises(SettingsError, match="max_errors"):
        MaxErrors.parse(text)


@pytest.mark.parametrize(
    ("text", "rejected", "rows", "at_end", "stops"),
    [
        ("5", 5, 10, False, False),
        ("5", 6, 10, False, True),
        ("10%", 6, 10, False, False),
        ("10%", 6, 10, True, True),
        ("10%", 101, 1000, False, True),
        ("10%", 100, 1000, True, False),
        ("0", 1, 1, False, True),
    ],
)
def test_a_run_stops_when_more_rows_are_rejected_than_that(
    text: str, rejected: int, rows: int, at_end: bool, stops: bool
) -> None:
    assert MaxErrors.parse(text).exceeded(rejected, rows, at_end=at_end) is stops


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("thousands", "ab"),
        ("decimal", ";"),
        ("comment", "##"),
        ("nulls", "NA"),
        ("unseen", "shout"),
    ],
)
def test_a_files_option_is_checked_where_it_is_given(name: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        BulkOptions(**{name: value})
    assert caught.value.name == name


def test_a_request_has_the_options_of_its_file() -> None:
    options = BulkOptions(decimal=",", thousands=".", nulls=("NA",), coerce=True)
    chunk = options.for_request(CsvChunk, columns=["a"], first_row=1, first_line=2, delimiter=";")
    assert (chunk.decimal, chunk.thousands, chunk.nulls, chunk.coerce) == (",", ".", ("NA",), True)
    assert (chunk.unseen, chunk.delimiter) == (Policy.WARN, ";")


def test_every_option_of_a_file_but_the_outputs_format_has_a_flag() -> None:
    hints = type_hints(BulkOptions)
    without = [
        name
        for name, hint in hints.items()
        if not any(isinstance(extra, Flag) for extra in getattr(hint, "__metadata__", ()))
    ]
    assert without == ["output_format"]


def test_a_column_without_a_name_is_none_to_keep() -> None:
    with pytest.raises(SettingsError, match="id is ''; expected a column's name"):
        BulkOptions(id="")
