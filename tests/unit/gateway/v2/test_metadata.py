"""What the server and its models say of themselves, and that all answers are as the protocol's own document has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from scoreline_client.fleet import ServedModel
from scoreline_client.testing import FakeScoreline
from scoreline_gateway.app import Gateway
from tests.support.asgi import call, gateway
from tests.support.http_models import report_as_worker
from tests.unit.gateway.v2.test_inference import INFER, columns, visits

# From kserve/open-inference-protocol at d49cc23, under the Apache License 2.0, which its first lines name.
DOCUMENT = yaml.safe_load(Path(__file__).with_name("open_inference_rest.yaml").read_text())


def check(given: Any, schema: str) -> None:
    """Validate an answer against a schema of the protocol's document."""
    components = {"components": DOCUMENT["components"]}
    jsonschema.validate(given, {"$ref": f"#/components/schemas/{schema}"} | components)


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
async def test_the_server_names_its_extensions(app: Gateway, path: str) -> None:
    reply = await call(app, "GET", path)
    check(reply.json, "metadata_server_response")
    assert "binary_tensor_data" in reply.json["extensions"]


@pytest.mark.parametrize("name", ["pima", "visits"])
async def test_a_model_lists_its_columns_and_outputs(app: Gateway, name: str) -> None:
    reply = await call(app, "GET", f"/v2/models/{name}")
    check(reply.json, "metadata_model_response")
    assert reply.json == (await call(app, "GET", f"/v2/models/{name}/versions/3")).json
    assert reply.json["versions"] == ["3"]


async def test_types_of_columns_and_classes_become_datatypes(app: Gateway) -> None:
    given = (await call(app, "GET", "/v2/models/visits")).json
    inputs = {each["name"]: each["datatype"] for each in given["inputs"]}
    assert inputs == {
        "town": "BYTES",
        "since": "BYTES",
        "smokes": "BOOL",
        "weight": "FP64",
        "visits": "INT64",
    }
    assert given["outputs"][0] == {"name": "predict", "datatype": "BYTES", "shape": [-1]}
    assert (await call(app, "GET", "/v2/models/pima")).json["outputs"][0]["datatype"] == "INT64"


async def test_predictions_are_as_the_document_has_them(app: Gateway) -> None:
    check((await call(app, "POST", INFER, {"inputs": columns(2)})).json, "inference_response")
    of_visits = await call(app, "POST", "/v2/models/visits/infer", {"inputs": visits()})
    check(of_visits.json, "inference_response")


async def test_errors_are_as_the_document_has_them(app: Gateway) -> None:
    nobody = await call(app, "GET", "/v2/models/nobody")
    assert nobody.status == 404
    check(nobody.json, "metadata_model_error_response")
    refused = await call(app, "POST", INFER, {"inputs": columns(plas="x")})
    assert refused.status == 400
    check(refused.json, "inference_error_response")


async def test_the_gateway_lives_without_workers_and_is_not_ready(
    app: Gateway, scoreline: FakeScoreline
) -> None:
    with scoreline.without_workers():
        live = await call(app, "GET", "/v2/health/live")
        assert (live.status, live.json) == (200, {"live": True})
        ready = await call(app, "GET", "/v2/health/ready")
    assert (ready.status, ready.json) == (503, {"live": True, "ready": False})


async def test_reports_of_workers_say_what_is_ready(scoreline: FakeScoreline) -> None:
    """The reports of the fake's own worker are not there meanwhile."""
    with scoreline.without_workers():
        report_as_worker(
            scoreline,
            {
                "pima@production": ServedModel(
                    serving=3, wanted=4, refused="its golden rows differ"
                ),
                "fresh@production": ServedModel(serving=None, wanted=1),
            },
        )
        try:
            async with gateway(scoreline) as app:
                assert (await call(app, "GET", "/v2/health/ready")).status == 200
                assert (await call(app, "GET", "/ping")).status == 200
                assert (await call(app, "GET", "/v2/models/pima/ready")).json["ready"] is True
                assert (await call(app, "GET", "/v2/models/pima/versions/3/ready")).status == 200
                fresh = await call(app, "GET", "/v2/models/fresh/ready")
                index = await call(app, "POST", "/v2/repository/index")
        finally:
            report_as_worker(scoreline, {})
    assert (fresh.status, fresh.json["ready"]) == (503, False)
    assert index.json == [
        {"name": "pima", "version": "3", "state": "READY", "reason": ""},
        {"name": "pima", "version": "4", "state": "UNAVAILABLE", "reason": "its golden rows differ"},
    ]  # fmt: skip


async def test_a_model_that_is_not_there_is_not_ready(app: Gateway) -> None:
    assert (await call(app, "GET", "/v2/models/nobody/ready")).status == 404
    assert (await call(app, "GET", "/v2/models/No Body/ready")).status == 404


@pytest.mark.parametrize("what", ["load", "unload"])
async def test_releases_are_not_made_over_http(app: Gateway, what: str) -> None:
    reply = await call(app, "POST", f"/v2/repository/models/pima/{what}")
    assert reply.status == 405
    assert "signs" in reply.json["error"]
