"""OpenAPI 3.1: of `/v1` as a whole, and of one model with its columns, ranges and categories, as its version has them."""

from __future__ import annotations

from importlib import resources
from importlib.metadata import version as version_of

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

from scoreline_client.codes import Code
from scoreline_client.descriptions import ModelDescription
from scoreline_client.options import (
    BulkOptions,
    Flag,
    RequestOptions,
    ValueOptions,
    type_hints,
)
from scoreline_client.schemas import Schema, prediction_schema, record_schema
from scoreline_gateway.access import Right, route
from scoreline_gateway.errors import HttpCode
from scoreline_gateway.v1.asking import FILE_OPTIONS, PACKED, VALUE_OPTIONS, model_of
from scoreline_gateway.v1.models import described

_HELP = {
    "input_format": "Of the body, where neither Content-Type nor its first bytes tell.",
    "output_format": "Of the result, by default that of the body; CSV and Parquet become each other.",
    "delimiter": "Between columns, such as ; or tab; by default found out.",
    "drop": "The input's columns that the result does not have.",
    "id": "The one column of the input that the result has, before the answers.",
    "only_predictions": "The result has none of the input's columns.",
    "compression": "Of the result.",
}
"""Descriptions of options of files that differ from the command line's."""
_OWN_SCHEMAS: dict[str, Schema] = {
    "rename": {"type": "array", "items": {"type": "string", "pattern": "^[^=]+=.+$"}},
    "max_errors": {"type": "string", "pattern": r"^([0-9]+|[0-9]+(\.[0-9]+)?%)$"},
    "compression": {"enum": list(PACKED)},
}
"""Schemas of options that a query has as text."""


def parameter(kind: type[ValueOptions], name: str) -> Schema:
    """An option in the query, as it is declared: what it is for, its values and its default."""
    hint = type_hints(BulkOptions).get(name)
    extras = getattr(hint, "__metadata__", ())
    help_text = next((extra.help for extra in extras if isinstance(extra, Flag)), "")
    schema = _OWN_SCHEMAS.get(name) or _plain(msgspec.json.schema(type_hints(kind)[name]))
    default = getattr(kind, name, None)
    if default not in (None, ()):
        schema = {**schema, "default": list(default) if isinstance(default, tuple) else default}
    return {
        "name": name,
        "in": "query",
        "description": _HELP.get(name, help_text),
        "schema": schema,
    }


def _plain(schema: Schema) -> Schema:
    """The schema of a value that is not null, with the regular expressions of JSON Schema."""
    named = schema.pop("$defs", {})
    if "$ref" in schema:
        schema = named[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:  # a parameter that is left out has no value
        (schema,) = (choice for choice in schema["anyOf"] if choice != {"type": "null"})
    schema = {name: value for name, value in schema.items() if name not in ("title", "description")}
    if "pattern" in schema:
        schema["pattern"] = schema["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    return schema


_WARNING: Schema = {"$ref": "#/components/schemas/Warning"}


def document(model: str | None = None, info: ModelDescription | None = None) -> Schema:
    """The document of one model; without one, of all models, with the model as a parameter."""
    text = resources.files("scoreline_gateway.v1").joinpath("openapi.json").read_text()
    spec: Schema = orjson.loads(text)
    spec["info"]["version"] = version_of("scoreline")
    schemas, parameters = spec["components"]["schemas"], spec["components"]["parameters"]
    for name in VALUE_OPTIONS:
        parameters[name] = parameter(RequestOptions, name)
    file_parameters = [parameter(BulkOptions, name) for name in (*FILE_OPTIONS, "compression")]
    spec["paths"]["/v1/models/{model}/score"]["put"]["parameters"] += file_parameters
    # Workers of a newer release may answer with further codes.
    current_codes = {"enum": sorted({*map(str, Code), *map(str, HttpCode)})}
    schemas["Code"] = {"anyOf": [current_codes, {"type": "string", "pattern": "^E_[A-Z_]+$"}]}
    schemas["Prediction"] = prediction = prediction_schema(info, _WARNING)
    named = {"model": {"type": "string"}, "version": {"type": "integer"}}
    schemas["Answer"] = {
        "type": "object",
        "properties": named | prediction["properties"],
        "required": [*named, *prediction["required"]],
    }
    if model is not None and info is not None:
        spec["info"] |= {"title": f"Scoreline: {model}", "x-model-version": info.version}
        schemas["Record"] = record_schema(info.columns)
        for path in [path for path in spec["paths"] if "{model}" in path]:
            item = spec["paths"].pop(path)
            del item["parameters"]
            spec["paths"][path.replace("{model}", model)] = item
        del spec["components"]["parameters"]["model"]
    return spec


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
