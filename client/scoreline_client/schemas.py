"""JSON Schemas of records and predictions, of what workers say of a version."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from scoreline_client.files.reader import ModelInfo

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TEXT_PATTERN = r"^[^\u0000]*$"
"""A NUL byte is no text for a pipeline."""
_JSON_TYPES: dict[str, Schema] = {
    "integer": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "string": {"type": "string", "pattern": TEXT_PATTERN},
    "datetime": {"type": "string", "description": "a point in time, in ISO 8601"},
    "duration": {
        "type": "string",
        "description": "a span of time, in ISO 8601 or as pandas writes it",
    },
}
_OFFSET = r"[T ].*(Z|[+-]\d{2}(:?\d{2})?)$"
_ZONES: dict[bool, Schema] = {
    True: {
        "pattern": _OFFSET,
        "description": "a point in time, in ISO 8601 with an offset from UTC",
    },
    False: {
        "pattern": f"^(?!.*{_OFFSET})",
        "description": "a point in time, in ISO 8601 without an offset from UTC",
    },
}
_BITS = {"float16": 65504.0, "float32": 3.4e38}
_OUTPUT_TYPES = {"number": "number", "boolean": "boolean", "text": "string"}


def has_zone(column: Mapping[str, Any]) -> bool | None:
    """Whether the times of a column have an offset from UTC: all have, or none may; None where it is not known."""
    dtype = column.get("dtype", "")
    return "," in dtype if dtype.startswith(("datetime64[", "timestamp[")) else None


def column_schema(column: Mapping[str, Any]) -> Schema:
    """The values that a column takes; `column` is as a worker describes it."""
    if column.get("unused"):
        return {"description": "not used: whatever is given is no error"}
    column_type, dtype = column["type"], column.get("dtype", "").lower()
    categories = column.get("categories")
    if column_type == "category":
        schema: Schema = {"enum": list(categories)} if categories is not None else {}
    else:
        schema = dict(_JSON_TYPES.get(column_type, {}))
        if match := re.match(r"(u?)int(8|16|32|64)", dtype):
            bits = int(match[2]) - (not match[1])
            schema |= {"minimum": 0 if match[1] else -(2**bits), "maximum": 2**bits - 1}
        elif dtype in _BITS:
            schema |= {"minimum": -_BITS[dtype], "maximum": _BITS[dtype]}
        elif column_type == "datetime" and (is_zoned := has_zone(column)) is not None:
            schema |= _ZONES[is_zoned]
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


def prediction_schema(info: ModelInfo | None, warning: Schema) -> Schema:
    """A prediction with its probabilities; of any model without `info`. `warning` is the schema of a warning."""
    classes = [] if info is None else list(info.classes)
    outputs = [] if info is None else list(info.outputs)

    def value(output: Mapping[str, Any]) -> Schema:
        if output.get("classes"):
            return {"enum": list(output["classes"])}
        json_type = _OUTPUT_TYPES.get(output.get("type", ""))
        return {"type": json_type} if json_type else {}

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
        # The keys of an object in JSON are text.
        names = [orjson.dumps(label).decode().strip('"') for label in classes]
        share = {"type": "number", "minimum": 0, "maximum": 1}
        properties["probabilities"]["properties"] = dict.fromkeys(names, share)
    properties["warnings"] = {"type": "array", "items": warning}
    return {"type": "object", "properties": properties, "required": ["value"]}
