"""JSON Schemas of records and predictions, and pydantic models of records, of what workers say of a version."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Optional

import orjson

from scoreline_client.errors import MissingDependency
from scoreline_client.files.reader import ModelInfo

if TYPE_CHECKING:
    from pydantic import BaseModel

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
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


def prediction_schema(info: ModelInfo | None, warning: Schema) -> Schema:
    """A prediction with its probabilities; of any model without `info`. `warning` is the schema of a warning."""
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
    properties["warnings"] = {"type": "array", "items": warning}
    return {"type": "object", "properties": properties, "required": ["value"]}


def record_class(name: str, columns: Sequence[Mapping[str, Any]]) -> type[BaseModel]:
    """A pydantic model of a record, whose JSON Schema is that of `record_schema`.

    A column that is no name in Python (`Marital Status`) is the alias of a field that is (`Marital_Status`).

    Raises:
        MissingDependency: pydantic is not installed.
    """
    try:
        import pydantic
    except ImportError as error:
        raise MissingDependency("pydantic_model", "pydantic", "pydantic") from error

    class Record(pydantic.BaseModel):
        """A record: a value for each column, and nothing converted that the model would not convert."""

        model_config = pydantic.ConfigDict(
            extra="ignore", populate_by_name=True, protected_namespaces=()
        )

        def to_record(self) -> dict[str, Any]:
            """The record as `predict` takes it: the columns that were given, with values of JSON."""
            return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    fields: dict[str, Any] = {}
    for column in columns:
        field = re.sub(r"\W", "_", column["name"]).strip("_") or "column"
        field = f"column_{field}" if field[0].isdigit() else field
        while field in fields or hasattr(Record, field) or keyword.iskeyword(field):
            field += "_"
        default = None if column.get("optional") or column.get("unused") else ...
        fields[field] = (_annotation(column), pydantic.Field(default, alias=column["name"]))
    return pydantic.create_model(name, __base__=Record, **fields)


def _annotation(column: Mapping[str, Any]) -> Any:
    """The type of a column's field."""
    from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

    def no(*wrong: type) -> BeforeValidator:
        """Of these types pydantic would make what the model refuses."""

        def check(value: Any) -> Any:
            if isinstance(value, wrong):
                raise ValueError(f"{value!r} is of another type than the column: {column['type']}")  # noqa: TRY004 - as pydantic wants it
            return value

        return BeforeValidator(check)

    def known(value: Any) -> Any:
        if not any(value == one and type(value) is type(one) for one in column["categories"]):
            raise ValueError(f"{value!r} is none of the categories")
        return value

    schema = column_schema(column)
    kinds: dict[str, Any] = {
        "integer": Annotated[
            int, no(bool, str, bytes), Field(ge=schema.get("minimum"), le=schema.get("maximum"))
        ],
        "number": Annotated[float, no(bool, str, bytes), Field(allow_inf_nan=False)],
        "boolean": Annotated[bool, Field(strict=True)],
        "string": Annotated[str, Field(strict=True)],
        "datetime": Annotated[datetime, no(bool, int, float)],
        "duration": Annotated[timedelta, no(bool, int, float)],
    }
    kind = kinds.get(column["type"], Any)
    if column.get("unused"):
        kind = Any
    elif column["type"] == "category" and column.get("categories") is not None:
        kind = Annotated[Any, AfterValidator(known)]
    may_be_missing = column["nullable"] or column.get("optional")
    return Annotated[Optional[kind] if may_be_missing else kind, WithJsonSchema(schema)]  # noqa: UP045 - not of a type
