"""Pydantic models of records, for web frameworks: `client.describe("loans").pydantic_model()`."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Optional

from scoreline_client.errors import MissingDependency
from scoreline_client.schemas import column_schema, has_zone

try:
    import pydantic
except ImportError as error:
    raise MissingDependency("pydantic_model", "pydantic", "pydantic") from error


class _Unsendable(str):
    """Text that stands for a value which JSON cannot hold: the errors of a framework quote it in JSON."""

    __slots__ = ("value",)

    value: float | str


def _sendable(value: Any) -> Any:
    """A value in which _Unsendable stands for infinity, NaN and text that is no UTF-8, at any depth."""
    if (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value)
    ):
        stand_in = _Unsendable(
            value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        )
        stand_in.value = value
        return stand_in
    if isinstance(value, Mapping):
        return {_sendable(name): _sendable(member) for name, member in value.items()}
    return list(map(_sendable, value)) if isinstance(value, list) else value


def _as_given(value: Any, check: pydantic.ValidatorFunctionWrapHandler) -> Any:
    """Leave to the service what JSON cannot hold: it refuses it in words, or takes NaN as a missing value."""
    return value.value if isinstance(value, _Unsendable) else check(value)


class RecordModel(pydantic.BaseModel):
    """A record: a value for each column, and nothing converted that the model would not convert.

    The base of what `pydantic_model` makes, for annotations. Infinity and NaN, which `json.loads` reads, are passed on, and
    `predict` says what is wrong with them: a framework could not put them into its own answer.
    """

    model_config = pydantic.ConfigDict(
        extra="ignore", populate_by_name=True, protected_namespaces=()
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_unsendable(cls, record: Any) -> Any:
        return _sendable(record)

    def to_record(self) -> dict[str, Any]:
        """The record as `predict` takes it: the columns that were given, with values of JSON."""
        fields = type(self).model_fields
        as_given = {
            name
            for name in self.model_fields_set
            if isinstance(_sendable(getattr(self, name)), _Unsendable)
        }
        record = self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=as_given)
        return record | {fields[name].alias or name: getattr(self, name) for name in as_given}


def record_class(name: str, columns: Sequence[Mapping[str, Any]]) -> type[RecordModel]:
    """A pydantic model of a record, whose JSON Schema is that of `record_schema`.

    A column that is no name in Python (`Marital Status`) is the alias of a field that is (`Marital_Status`).
    """
    fields: dict[str, Any] = {}
    for column in columns:
        field = re.sub(r"\W", "_", column["name"]).strip("_") or "column"
        field = f"column_{field}" if field[0].isdigit() else field
        while field in fields or hasattr(RecordModel, field) or keyword.iskeyword(field):
            field += "_"
        default = None if column.get("optional") or column.get("unused") else ...
        fields[field] = (_annotation(column), pydantic.Field(default, alias=column["name"]))
    return pydantic.create_model(name, __base__=RecordModel, **fields)


def _annotation(column: Mapping[str, Any]) -> Any:
    """The type of a column's field."""

    def refusing(*types: type) -> pydantic.BeforeValidator:
        """Refuse values of these types: pydantic would convert them, and the model does not take them."""

        def check(value: Any) -> Any:
            if isinstance(value, types):
                raise ValueError(f"{value!r} is of another type than the column: {column['type']}")  # noqa: TRY004 - as pydantic wants it
            return value

        return pydantic.BeforeValidator(check)

    def in_categories(value: Any) -> Any:
        if not any(
            value == category and type(value) is type(category) for category in column["categories"]
        ):
            raise ValueError(f"{value!r} is none of the categories")
        return value

    schema = column_schema(column)
    times: dict[bool | None, Any] = {
        True: pydantic.AwareDatetime,
        False: pydantic.NaiveDatetime,
        None: datetime,
    }
    value_types: dict[str, Any] = {
        "integer": Annotated[
            int,
            refusing(bool, str, bytes),
            pydantic.Field(ge=schema.get("minimum"), le=schema.get("maximum")),
        ],
        "number": Annotated[float, refusing(bool, str, bytes)],
        "boolean": Annotated[bool, pydantic.Field(strict=True)],
        "string": Annotated[str, pydantic.Field(strict=True)],
        "datetime": Annotated[times[has_zone(column)], refusing(bool, int, float)],
        "duration": Annotated[timedelta, refusing(bool, int, float)],
    }
    value_type = value_types.get(column["type"], Any)
    if column.get("unused"):
        value_type = Any
    elif column["type"] == "category" and column.get("categories") is not None:
        value_type = Annotated[Any, pydantic.AfterValidator(in_categories)]
    # Not a union: `value_type` is no type but a form of one.
    field = Optional[value_type] if column["nullable"] or column.get("optional") else value_type  # noqa: UP045
    return Annotated[field, pydantic.WrapValidator(_as_given), pydantic.WithJsonSchema(schema)]
