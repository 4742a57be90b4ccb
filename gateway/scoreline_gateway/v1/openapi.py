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
"""Of options of files, what is not as the command line says it."""
_OWN_SCHEMAS: dict[str, Schema] = {
    "rename": {"type": "array", "items": {"type": "string", "pattern": "^[^=]+=.+$"}},
    "max_errors": {"type": "string", "pattern": r"^([0-9]+|[0-9]+(\.[0-9]+)?%)$"},
    "compression": {"enum": list(PACKED)},
}
"""Of options that a query has as text."""


def parameter(kind: type[ValueOptions], name: str) -> Schema:
    """An option in the query, as it is declared: what it is for, its values and its default."""
    hint = type_hints(BulkOptions).get(name)
    extras = getattr(hint, "__metadata__", ())
    told = next((extra.help for extra in extras if isinstance(extra, Flag)), "")
    schema = _OWN_SCHEMAS.get(name) or _plain(msgspec.json.schema(type_hints(kind)[name]))
    default = getattr(kind, name, None)
    if default not in (None, ()):
        schema = {**schema, "default": list(default) if isinstance(default, tuple) else default}
    return {"name": name, "in": "query", "description": _HELP.get(name, told), "schema": schema}


def _plain(schema: Schema) -> Schema:
    """The schema of a value that is there, in JSON Schema's regular expressions."""
    named = schema.pop("$defs", {})
    if "$ref" in schema:
        schema = named[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:  # what is not there has no value
        (schema,) = (each for each in schema["anyOf"] if each != {"type": "null"})
    schema = {name: value for name, value in schema.items() if name not in ("title", "description")}
    if "pattern" in schema:
        schema["pattern"] = schema["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    return schema


_WARNING: Schema = {"$ref": "#/components/schemas/Warning"}


def document(model: str | None = None, info: ModelDescription | None = None) -> Schema:
    """The document of one model, or with a parameter in its place of all of them."""
    text = resources.files("scoreline_gateway.v1").joinpath("openapi.json").read_text()
    whole: Schema = orjson.loads(text)
    whole["info"]["version"] = version_of("scoreline")
    schemas, parameters = whole["components"]["schemas"], whole["components"]["parameters"]
    for name in VALUE_OPTIONS:
        parameters[name] = parameter(RequestOptions, name)
    of_file = [parameter(BulkOptions, name) for name in (*FILE_OPTIONS, "compression")]
    whole["paths"]["/v1/models/{model}/score"]["put"]["parameters"] += of_file
    # Workers may be of a newer release, and know more codes.
    of_now = {"enum": sorted({*map(str, Code), *map(str, HttpCode)})}
    schemas["Code"] = {"anyOf": [of_now, {"type": "string", "pattern": "^E_[A-Z_]+$"}]}
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
