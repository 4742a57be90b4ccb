"""`/invocations` as MLflow's and SageMaker's callers send it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scoreline_client.testing import FakeScoreline
from scoreline_gateway.app import Gateway
from tests.support.asgi import call, gateway
from tests.support.http_models import PIMA_ROW, VISITS, VISITS_CLASSES

JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv; charset=UTF-8"}
PATH = "/models/pima/invocations"
NAMES, VALUES = list(PIMA_ROW), list(PIMA_ROW.values())


@pytest.mark.parametrize(
    "given",
    [
        {"dataframe_split": {"index": [0, 1], "columns": NAMES, "data": [VALUES, VALUES]}},
        {"dataframe_records": [PIMA_ROW, PIMA_ROW]},
        {"instances": [PIMA_ROW, PIMA_ROW]},
        {"instances": [VALUES, VALUES]},
        {"inputs": {name: [value, value] for name, value in PIMA_ROW.items()}},
        {"inputs": {name: [[value], [value]] for name, value in PIMA_ROW.items()}},
        {"inputs": [VALUES, VALUES], "params": {}},
        {"dataframe_split": {"columns": NAMES, "data": [VALUES, VALUES]}, "params": None},
    ],
)
async def test_all_forms_of_a_frame_are_read(app: Gateway, given: Any) -> None:
    reply = await call(app, "POST", PATH, given, headers=JSON)
    assert reply.status == 200, reply.body
    assert reply.json == {"predictions": [1, 1]}


async def test_a_frame_with_text_dates_and_missing_numbers_arrives(app: Gateway) -> None:
    # As MLflow's client writes a frame: NaN as such, dates as text.
    frame = VISITS.assign(since=VISITS["since"].astype(str))
    given = json.dumps({"dataframe_split": frame.to_dict(orient="split")}).encode()
    assert b"NaN" in given
    reply = await call(app, "POST", "/models/visits/invocations", given, headers=JSON)
    assert reply.json == {"predictions": VISITS_CLASSES}


async def test_csv_is_read_and_written(app: Gateway) -> None:
    text = VISITS.to_csv(index=False).encode()
    reply = await call(app, "POST", "/models/visits/invocations", text, headers=CSV)
    assert reply.json == {"predictions": VISITS_CLASSES}
    headers = CSV | {"Accept": "text/csv"}
    reply = await call(app, "POST", "/models/visits/invocations", text, headers=headers)
    assert reply.headers["content-type"].startswith("text/csv")
    assert reply.body.decode().split() == VISITS_CLASSES


async def test_the_default_model_is_a_setting(scoreline: FakeScoreline) -> None:
    given = {"instances": [PIMA_ROW]}
    async with gateway(scoreline) as app:
        without = await call(app, "POST", "/invocations", given, headers=JSON)
    async with gateway(scoreline, gateway_model="pima@3") as app:
        with_one = await call(app, "POST", "/invocations", given, headers=JSON)
    assert without.status == 404
    assert "SCORELINE_GATEWAY_MODEL" in without.json["message"]
    assert with_one.json == {"predictions": [1]}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([VALUES], "one of"),
        ({}, "one of"),
        ({"inputs": [VALUES], "instances": [VALUES]}, "one of"),
        ({"inputs": [VALUES], "params": []}, None),
        ({"inputs": [VALUES], "params": [1]}, "params"),
        ({"inputs": 5}, "`inputs`"),
        ({"instances": {"preg": [1]}}, "`instances`"),
        ({"instances": []}, "no records"),
        ({"instances": [VALUES[:-1]]}, "7 values"),
        ({"instances": [VALUES, PIMA_ROW]}, "row 1"),
        ({"inputs": {"preg": [1], "plas": [1, 2]}}, "lengths"),
        ({"dataframe_split": [VALUES]}, "`dataframe_split`"),
        ({"dataframe_split": {"data": [VALUES]}}, "`dataframe_split`"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "twice"),
        (
            {"dataframe_split": {"columns": ["a"], "data": [5]}},
            "row 0 has a number; expected a list of 1",
        ),
        ({"dataframe_records": [PIMA_ROW | {"age": "old"}]}, "age"),
        ({"dataframe_records": [5]}, "mapping"),
        (
            {"dataframe_records": [PIMA_ROW], "params": {"coerce": 5}},
            "option coerce is 5; expected true or false",
        ),
    ],
)
async def test_what_is_no_frame_is_refused_as_mlflow_does(
    app: Gateway, given: Any, said: str | None
) -> None:
    reply = await call(app, "POST", PATH, given, headers=JSON)
    if said is None:
        assert reply.status == 200
    else:
        assert (reply.status, reply.json["error_code"]) == (400, "BAD_REQUEST")
        assert said in reply.json["message"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("preg,preg\n1,2\n", "E_DUPLICATE_COLUMN"),
        ("preg,plas\n1\n", "E_FIELD_COUNT"),
        ('preg,plas\n"1,2\n', "E_QUOTE"),
        ("plas\n1\n", "E_MISSING_COLUMN"),
        ("", "E_EMPTY_REQUEST"),
    ],
)
async def test_bad_csv_is_refused(app: Gateway, text: str, code: str) -> None:
    reply = await call(app, "POST", PATH, text.encode(), headers=CSV)
    assert (reply.status, reply.json["code"]) == (400, code)


async def test_csv_that_is_not_utf_8_is_refused(app: Gateway) -> None:
    reply = await call(app, "POST", PATH, b"pr\xe9g\n1\n", headers=CSV)
    assert (reply.status, reply.json["code"]) == (400, "E_ENCODING")


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "application/json; charset=latin-1",
        "application/json; version=2",
        "x" * 500,
    ],
)
async def test_other_content_types_are_refused(app: Gateway, kind: str) -> None:
    reply = await call(app, "POST", PATH, {"instances": [PIMA_ROW]}, headers={"Content-Type": kind})
    assert reply.status == 415


MANY = 2_000_000
"""A body of 6 MB, which would become 400 MB and more."""


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        (b"x\n" + b"1\n" * MANY, CSV),
        (b"x\r" + b"1\r" * MANY, CSV),
        (b'{"instances":[' + b"{}," * MANY + b"{}]}", JSON),
        (b'{"inputs":[' + b"[]," * 2 * MANY + b"[]]}", JSON),
    ],
    ids=["lines", "lines of old Macs", "records", "rows"],
)
async def test_a_body_that_would_become_many_objects_is_refused_before_there_are_any(
    app: Gateway, text: bytes, headers: dict[str, str]
) -> None:
    reply = await call(app, "POST", PATH, text, headers=headers)
    assert (reply.status, reply.json["code"]) == (413, "E_TOO_LARGE")
    assert app.held == 0


async def test_half_a_character_is_refused_in_words_that_can_be_sent(app: Gateway) -> None:
    given = b'{"instances":[{"\\ud800":1}]}'
    reply = await call(app, "POST", PATH, given, headers=JSON)
    assert (reply.status, reply.json["code"]) == (400, "E_JSON")
