"""What is served, and the OpenAPI document of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scoreline_client.fleet import ProcessReport, ServedModel, send_report, withdraw_report
from scoreline_client.protocol.keys import Keys
from scoreline_client.schemas import column_schema
from scoreline_client.testing import FakeScoreline
from scoreline_gateway.app import Gateway
from scoreline_gateway.v1.asking import FILE_OPTIONS, VALUE_OPTIONS
from tests.support.asgi import call
from tests.support.http_models import PIMA_ROW

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def _reports(scoreline: FakeScoreline) -> Iterator[None]:
    """Two processes, of which one is on its way from version 2 to 3."""
    redis, keys = scoreline._redis, Keys("default")
    for name, serving in (("a/1", 3), ("a/2", 2)):
        models = {"pima@production": ServedModel(serving=serving, wanted=3, resident=[serving, 1])}
        now = time.time()
        report = ProcessReport(
            name=name, host="a", pid=1, started_at=now, reported_at=now, models=models
        )
        send_report(redis, keys, report)
    yield
    for name in ("a/1", "a/2"):  # and not the fake's own, which comes again only after a while
        withdraw_report(redis, keys, name)


@pytest.mark.usefixtures("_reports")
async def test_models_and_versions_are_listed(app: Gateway) -> None:
    pima = {"name": "pima", "aliases": {"production": [2, 3]}, "versions": [1, 2, 3]}
    assert pima in (await call(app, "GET", "/v1/models")).json["models"]
    assert (await call(app, "GET", "/v1/models/pima/versions")).json["versions"] == [
        {"version": 3, "aliases": ["production"]},
        {"version": 2, "aliases": ["production"]},
        {"version": 1, "aliases": []},
    ]


async def test_a_model_says_what_it_takes_and_gives(app: Gateway) -> None:
    reply = (await call(app, "GET", "/v1/models/visits")).json
    assert (reply["name"], reply["version"]) == ("visits", 3)
    assert reply["classes"] == ["long", "short", "unknown"]
    assert (await call(app, "GET", "/v1/models/nothing")).status == 404


async def test_the_document_of_a_model_has_its_columns(app: Gateway) -> None:
    whole = (await call(app, "GET", "/v1/models/visits@3/openapi.json")).json
    assert whole["openapi"] == "3.1.0"
    assert "post" in whole["paths"]["/v1/models/visits@3:predict"]
    record = whole["components"]["schemas"]["Record"]
    assert set(record["required"]) == {"town", "since", "smokes", "weight", "visits"}
    assert record["properties"]["weight"]["type"] == ["number", "null"]
    assert record["properties"]["weight"]["x-training-range"] == [64.0, 80.25]
    assert record["properties"]["smokes"] == {"type": "boolean"}
    answer = whole["components"]["schemas"]["Answer"]["properties"]
    assert answer["value"] == {"enum": ["long", "short", "unknown"]}


async def test_the_document_of_all_models_has_the_model_as_a_parameter(app: Gateway) -> None:
    whole = (await call(app, "GET", "/v1/openapi.json")).json
    assert whole["paths"]["/v1/models/{model}:predict"]["parameters"]


def routes(app: Gateway) -> set[tuple[str, str]]:
    """Path and method of every route of /v1."""
    return {
        (route.path, method.lower())
        for route in app._router.routes
        if route.path.startswith("/v1/")
        for method in route.methods - {"HEAD"}
    }


async def test_the_document_has_every_route(app: Gateway) -> None:
    whole = (await call(app, "GET", "/v1/openapi.json")).json
    described = {
        (path, method)
        for path, item in whole["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert routes(app) == described


async def test_the_document_has_every_option_as_it_is_declared(app: Gateway) -> None:
    whole = (await call(app, "GET", "/v1/openapi.json")).json
    described = whole["paths"]["/v1/models/{model}/score"]["put"]["parameters"]
    of_file = {each["name"]: each for each in described if each.get("in") == "query"}
    assert of_file.keys() == {*FILE_OPTIONS, "compression"}
    assert all(each["description"] for each in of_file.values())
    schemas = {name: each["schema"] for name, each in of_file.items()}
    assert schemas["decimal"] == {"enum": [",", "."], "default": "."}
    assert schemas["strict"] == {"type": "boolean", "default": False}
    assert schemas["unseen"] == {"enum": ["error", "ignore", "warn"], "default": "warn"}
    assert schemas["drop"] == {"type": "array", "items": {"type": "string"}}
    assert schemas["delimiter"]["pattern"].startswith("^[")
    of_records = whole["components"]["parameters"]
    assert of_records.keys() > set(VALUE_OPTIONS)
    assert of_records["unseen"]["schema"]["default"] == "ignore"


def test_the_page_has_every_option_of_files() -> None:
    listed = re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs/http.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted((*FILE_OPTIONS, "compression"))


@pytest.mark.parametrize(
    "key",
    ['"order 7"', "order-7", '"a\\"b\\\\"', f'"{"x" * 255}"', f'"{"x" * 256}"', '""', "a b", '"a', "ä"],
)  # fmt: skip
async def test_the_document_permits_the_keys_that_are_taken(app: Gateway, key: str) -> None:
    whole = (await call(app, "GET", "/v1/openapi.json")).json
    pattern = whole["components"]["parameters"]["key"]["schema"]["pattern"]
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    reply = await call(app, "POST", "/v1/models/pima/jobs", PIMA_ROW, headers=headers)
    assert (reply.status == 202) == (re.search(pattern, key) is not None)


def test_a_category_is_one_of_its_values() -> None:
    column = {"name": "c", "type": "category", "nullable": True, "categories": ["a", "b"]}
    assert column_schema(column) == {"enum": ["a", "b", None]}


def test_text_may_be_other_than_that_of_training() -> None:
    column = {"name": "t", "type": "string", "nullable": False, "categories": ["a", "b"]}
    schema = column_schema(column)
    assert (schema["type"], schema["x-training-values"]) == ("string", ["a", "b"])


def test_what_the_model_does_not_use_may_be_anything() -> None:
    assert "type" not in column_schema({"name": "n", "type": "number", "unused": True})


@pytest.mark.parametrize(("dtype", "most"), [("int8", 127), ("UInt8", 255), ("int64", 2**63 - 1)])
def test_a_whole_number_fits_its_type(dtype: str, most: int) -> None:
    column = {"name": "n", "type": "integer", "nullable": False, "dtype": dtype}
    assert column_schema(column)["maximum"] == most


def test_a_worker_of_an_earlier_release_tells_less() -> None:
    column = {"name": "n", "type": "number", "nullable": False}
    assert column_schema(column)["type"] == "number"


async def test_answers_are_what_the_document_says(app: Gateway) -> None:
    whole = (await call(app, "GET", "/v1/models/pima/openapi.json")).json
    headers = {"Content-Type": "application/json"}

    def check(answer: Any, name: str) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": whole["components"]}
        jsonschema.validate(answer, schema, jsonschema.Draft202012Validator)

    for method, path, body, name in (
        ("POST", "/v1/models/pima:predict", PIMA_ROW, "Answer"),
        ("POST", "/v1/models/pima:predict", [PIMA_ROW, {}], "Answers"),
        ("POST", "/v1/models/pima:predict", {}, "Problem"),
        ("POST", "/v1/models/pima:predict", [{}], "Problem"),
        ("POST", "/v1/models/pima/jobs", PIMA_ROW, "Job"),
        ("GET", "/v1/nothing", b"", "Problem"),
    ):
        check((await call(app, method, path, body, headers=headers)).json, name)
    check(PIMA_ROW, "Record")
    for wrong in ({}, PIMA_ROW | {"plas": "high"}, PIMA_ROW | {"age": None}):
        with pytest.raises(jsonschema.ValidationError):
            check(wrong, "Record")
