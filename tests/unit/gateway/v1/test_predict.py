"""`POST /v1/models/M:predict`: a record or many, and what is said of those that cannot be scored."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from scoreline_client.testing import FakeScoreline
from scoreline_gateway.app import Gateway
from tests.support.asgi import call, gateway
from tests.support.http_models import PIMA_ROW

JSON = {"Content-Type": "application/json"}


async def predict(app: Gateway, body: Any, model: str = "pima", **more: Any) -> Any:
    headers = JSON | more.pop("headers", {})
    return await call(app, "POST", f"/v1/models/{model}:predict", body, headers=headers, **more)


async def test_a_record_has_its_prediction(app: Gateway) -> None:
    reply = await predict(app, PIMA_ROW)
    assert reply.status == 200
    assert (reply.json["model"], reply.json["version"], reply.json["value"]) == ("pima", 3, 1)
    assert sum(reply.json["probabilities"].values()) == pytest.approx(1)


async def test_many_records_have_theirs_in_order_and_a_bad_one_costs_no_other(app: Gateway) -> None:
    healthy = PIMA_ROW | {"plas": 60, "mass": 20.0}
    reply = await predict(app, [PIMA_ROW, PIMA_ROW | {"plas": "high"}, healthy])
    assert reply.status == 200
    first, second, third = reply.json["predictions"]
    assert (first["value"], third["value"]) == (1, 0)
    assert second["error"]["record"] == 1
    assert (second["error"]["code"], second["error"]["column"]) == ("E_TYPE", "plas")


async def test_a_record_that_cannot_be_scored_is_a_problem_with_column_and_value(
    app: Gateway,
) -> None:
    reply = await predict(app, PIMA_ROW | {"plas": "high"})
    assert (reply.status, reply.headers["content-type"]) == (422, "application/problem+json")
    assert reply.json["type"] == "urn:scoreline:E_TYPE"
    assert (reply.json["code"], reply.json["column"], reply.json["value"]) == (
        "E_TYPE",
        "plas",
        "'high'",
    )


async def test_a_record_that_the_pipeline_fails_for_is_no_failure_of_the_gateway(
    app: Gateway,
) -> None:
    """The logarithm of what is negative is none."""
    reply = await predict(app, dict.fromkeys(PIMA_ROW, -6333))
    assert (reply.status, reply.json["code"]) == (422, "E_PREDICT")


async def test_when_no_record_can_be_scored_the_problem_lists_each(app: Gateway) -> None:
    reply = await predict(app, [{}, PIMA_ROW | {"age": None}])
    assert reply.status == 422
    assert [(one["record"], one["code"]) for one in reply.json["errors"]] == [
        (0, "E_MISSING_COLUMN"),
        (1, "E_NULL"),
    ]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "E_TYPE"),
        (b"{", 400, "E_JSON"),
        (b'{"a": NaN}', 400, "E_JSON"),
        (b'{"a": 1}, {"a": 2}', 400, "E_TYPE"),
        (b'{"a": 1}],[{"a": 2}', 400, "E_JSON"),
        (b"7", 400, "E_TYPE"),
        (b"[]", 400, "E_EMPTY_REQUEST"),
        (b'{"a": 1, "a": 2}', 422, "E_DUPLICATE_KEY"),
        (b"[" * 5000, 400, "E_JSON"),
    ],
)
async def test_a_body_that_is_no_record_is_refused(
    app: Gateway, body: bytes, status: int, code: str
) -> None:
    reply = await predict(app, body)
    assert (reply.status, reply.json["code"]) == (status, code)


async def test_a_body_of_another_type_is_refused(app: Gateway) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = await predict(app, PIMA_ROW, headers=headers)
    assert reply.status == 415
    assert reply.headers["accept"] == "application/json"


async def test_the_depth_that_one_record_may_have_costs_no_other_its_answer(app: Gateway) -> None:
    """A record shares a request with those of others, one level deeper than it came."""
    deep = orjson.dumps(PIMA_ROW)[:-1] + b',"more":' + b"[" * 1023 + b"]" * 1023 + b"}"
    assert orjson.loads(deep)
    reply = await predict(app, deep)
    assert (reply.status, reply.json["code"]) == (400, "E_JSON")


async def test_options_stand_in_the_query(app: Gateway) -> None:
    text = PIMA_ROW | {"plas": "148"}
    assert (await predict(app, text, query="coerce=true")).status == 200
    high = PIMA_ROW | {"plas": 900}
    warned = await predict(app, high, query="out_of_range=warn&timeout=5")
    assert warned.json["warnings"][0]["code"] == "W_OUT_OF_RANGE"
    refused = await predict(app, high, query="out_of_range=error")
    assert (refused.status, refused.json["code"]) == (422, "E_OUT_OF_RANGE")


@pytest.mark.parametrize("query", ["coerce=maybe", "color=red", "timeout=soon", "timeout=0"])
async def test_a_query_that_is_not_known_is_refused(app: Gateway, query: str) -> None:
    reply = await predict(app, PIMA_ROW, query=query)
    assert (reply.status, reply.json["code"]) == (400, "E_BAD_REQUEST")


@pytest.mark.parametrize("model", ["nothing", "pima@9", "pima@candidate", "No Name"])
async def test_a_model_that_is_not_there_is_not_found(app: Gateway, model: str) -> None:
    reply = await predict(app, PIMA_ROW, model)
    assert (reply.status, reply.json["code"]) == (404, "E_UNKNOWN_MODEL")


async def test_a_version_is_asked_by_its_number(app: Gateway) -> None:
    assert (await predict(app, PIMA_ROW, "pima@3")).json["version"] == 3


async def test_a_body_over_the_limit_is_refused(scoreline: FakeScoreline) -> None:
    limit = 100_000
    async with gateway(scoreline, max_request_bytes=limit) as app:
        reply = await predict(app, (b"[", b" " * limit, b"]"))
    assert (reply.status, reply.json["code"]) == (413, "E_TOO_LARGE")


async def test_another_method_is_not_allowed(app: Gateway) -> None:
    reply = await call(app, "GET", "/v1/models/pima:predict")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
