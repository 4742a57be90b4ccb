"""OpenAPI 3.1: of `/v1` as a whole, and of one model with its columns, ranges and categories, as its version has them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.metadata import version as version_of
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from scoreline_client.files.reader import ModelInfo
from scoreline_gateway.access import Right, route
from scoreline_gateway.v1.asking import model_of
from scoreline_gateway.v1.models import described

Schema = dict[str, Any]

TEXT_PATTERN = r"^[^\u0000]*$"
"""A NUL byte is no text for a pipeline."""
_JSON_TYPES: dict[str, Schema] = {
    "integer": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "number": {"type": "number", "minimum": -1.7e308, "maximum": 1.7e308},
    "boolean": {"type": "boolean"},
    "string": {"type": "string", "pattern": TEXT_PATTERN},
    "datetime": {"type": "string", "description": "a point in time, in ISO 8601"},
    "duration": {
        "type": "string",
        "description": "a span of time, in ISO 8601 or as pandas writes it",
    },
}
_BITS = {"float16": 65504.0, "float32": 3.4e38}
_OUTPUT_TYPES = {"number": "number", "boolean": "boolean", "text": "string"}


def column_schema(column: Mapping[str, Any]) -> Schema:
    """What a column takes, of what a worker says of it in answer to `describe`."""
    if column.get("unused"):
        return {"description": "not used: whatever is given is no error"}
    kind, dtype = column["type"], column.get("dtype", "").lower()
    categories = column.get("categories")
    if kind == "category":
        schema: Schema = {"enum": list(categories)} if categories is not None else {}
    else:
        schema = dict(_JSON_TYPES.get(kind, {}))
        if whole := re.match(r"(u?)int(8|16|32|64)", dtype):
            bits = int(whole[2]) - (not whole[1])
            schema |= {"minimum": 0 if whole[1] else -(2**bits), "maximum": 2**bits - 1}
        elif dtype in _BITS:
            schema |= {"minimum": -_BITS[dtype], "maximum": _BITS[dtype]}
        if categories is not None:
            schema["x-training-values"] = list(categories)
    if "minimum" in column:
        schema["x-training-range"] = [column["minimum"], column.get("maximum")]
    if column["nullable"]:
        if "type" in schema:
            schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema


def record_schema(columns: Sequence[Mapping[str, Any]]) -> Schema:
    """A record; columns that the model does not know are passed over."""
    return {
        "type": "object",
        "properties": {column["name"]: column_schema(column) for column in columns},
        "required": [column["name"] for column in columns if not column.get("optional")],
    }


def prediction_schema(info: ModelInfo | None) -> Schema:
    """A prediction with its probabilities; of any model without `info`."""
    classes = [] if info is None else list(info.classes)
    outputs = [] if info is None else list(info.outputs)

    def value(output: Mapping[str, Any]) -> Schema:
        if output.get("classes"):
            return {"enum": list(output["classes"])}
        kind = _OUTPUT_TYPES.get(output.get("type", ""))
        return {"type": kind} if kind else {}

    properties: Schema = {"value": {}}
    if len(outputs) > 1:
        items = list(map(value, outputs))
        properties["value"] = {"type": "array", "prefixItems": items, "minItems": len(items)}
    elif classes:
        properties["value"] = {"enum": classes}
    elif outputs:
        properties["value"] = value(outputs[0])
    properties["probabilities"] = {"type": "object"}
    if classes:
        # As JSON has the keys of an object.
        names = [orjson.dumps(label).decode().strip('"') for label in classes]
        share = {"type": "number", "minimum": 0, "maximum": 1}
        properties["probabilities"]["properties"] = dict.fromkeys(names, share)
    warning = {"$ref": "#/components/schemas/Warning"}
    properties["warnings"] = {"type": "array", "items": warning}
    return {"type": "object", "properties": properties, "required": ["value"]}


def document(model: str | None = None, info: ModelInfo | None = None) -> Schema:
    """The document of one model, or with a parameter in its place of all of them."""
    text = resources.files("scoreline_gateway.v1").joinpath("openapi.json").read_text()
    whole: Schema = orjson.loads(text)
    whole["info"]["version"] = version_of("scoreline")
    schemas = whole["components"]["schemas"]
    schemas["Prediction"] = prediction = prediction_schema(info)
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
