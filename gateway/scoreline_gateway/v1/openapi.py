"""OpenAPI 3.1: of `/v1` as a whole, and of one model with its columns, ranges and categories, as its version has them."""

from __future__ import annotations

from importlib import resources
from importlib.metadata import version as version_of

import orjson
from starlette.requests import Request
from starlette.responses import Response

from scoreline_client.descriptions import ModelDescription
from scoreline_client.schemas import Schema, prediction_schema, record_schema
from scoreline_gateway.access import Right, route
from scoreline_gateway.v1.asking import model_of
from scoreline_gateway.v1.models import described

_WARNING: Schema = {"$ref": "#/components/schemas/Warning"}


def document(model: str | None = None, info: ModelDescription | None = None) -> Schema:
    """The document of one model, or with a parameter in its place of all of them."""
    text = resources.files("scoreline_gateway.v1").joinpath("openapi.json").read_text()
    whole: Schema = orjson.loads(text)
    whole["info"]["version"] = version_of("scoreline")
    schemas = whole["components"]["schemas"]
    schemas["Prediction"] = prediction = prediction_schema(info, _WARNING)
    named = {"model": {"type": "string"}, "version": {"type": "integer"}}
    schemas["Answer"] = {
        "type": "object",
        "properties": named | prediction["properties"],
        "required": [*named, *prediction["required"]],
    }
    if model is not None and info is not None:
        whole["info"] |= {"title": f"Scoreline: {model}", "x-model-version": info.version}
        schemas["Record"] = record_schema(info.columns)
        for path in [path for path in whole["paths"] if "{model}" in path]:
            item = whole["paths"].pop(path)
            del item["parameters"]
            whole["paths"][path.replace("{model}", model)] = item
        del whole["components"]["parameters"]["model"]
    return whole


async def show_document(request: Request) -> Response:  # noqa: ARG001 - the signature of an endpoint
    """The document of all models."""
    return _response(document())


async def show_model_document(request: Request) -> Response:
    """The document of what a reference names now."""
    model = model_of(request)
    return _response(document(model, await described(request, model)))


def _response(body: Schema) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


routes = [
    route("/v1/openapi.json", show_document, right=Right.SCORE),
    route("/v1/models/{model}/openapi.json", show_model_document, right=Right.SCORE),
]
