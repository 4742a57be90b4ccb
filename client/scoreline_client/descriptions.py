"""What a version takes and gives, as a worker describes it, which has it in memory: an application has no artifact store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import orjson

from scoreline_client.errors import SettingsError
from scoreline_client.files.reader import ModelInfo
from scoreline_client.protocol.json_records import check_model, raise_refusal
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Operation, Request, new_id
from scoreline_client.schemas import DIALECT, Schema, prediction_schema, record_schema
from scoreline_client.shown import html_table

if TYPE_CHECKING:
    from scoreline_client.record_models import RecordModel
    from scoreline_client.transport.dispatcher import Transport

MOST_SHOWN = 5
"""Columns of a version, and values of a column, that are listed for people."""
_TEXT: Schema = {"type": "string"}
_WARNING: Schema = {
    "type": "object",
    "properties": {"code": _TEXT, "message": _TEXT, "column": _TEXT, "value": _TEXT},
    "required": ["code", "message", "column", "value"],
}


@dataclass(frozen=True, slots=True)
class ModelDescription(ModelInfo):
    """A version of a model: its number, the columns that it takes, and what it answers with.

    Each of `columns` has `name`, `type` (`integer`, `number`, `boolean`, `string`, `category`, `datetime` or `duration`),
    `nullable`, `dtype`, which is its type in pandas, `optional` where it may be left out, `unused` where whatever is given
    for it is no error, and where training had them `minimum`, `maximum` and `categories`. Each of `outputs` has `name`
    (None for a single one), `type` (`number`, `boolean` or `text`) and `classes` of its own, or None.
    """

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelDescription:
        """Read what `scoreline describe MODEL --json` printed, for a program that starts without the service.

        Raises:
            SettingsError: the text is something else.
        """
        try:
            values = orjson.loads(text)
            description = cls(*(values[field.name] for field in fields(cls)))
            description.record_schema()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            expected = "what `scoreline describe MODEL --json` prints"
            raise SettingsError("description", str(text)[:80], expected) from error
        return description

    def record_schema(self) -> Schema:
        """A JSON Schema of a record. Columns that the version does not know are no error, neither there nor here."""
        return {"$schema": DIALECT, "title": self.ref, **record_schema(self.columns)}

    def prediction_schema(self) -> Schema:
        """A JSON Schema of what `Prediction.to_dict` gives for a record that is not rejected."""
        schema = {"$schema": DIALECT, "title": self.ref, **prediction_schema(self, _WARNING)}
        identity = {"model": {"const": self.model}, "version": {"const": self.version}}
        schema["properties"] = identity | schema["properties"] | {"error": {"type": "null"}}
        return schema

    def pydantic_model(self, name: str | None = None) -> type[RecordModel]:
        """A pydantic model of a record, a field for each column, of a name such as `LoansRecord` if none is given.

        A column that is no name in Python (`Marital Status`) is the alias of a field that is (`Marital_Status`).
        `to_record()` of an instance is what `predict` takes.

        Raises:
            MissingDependency: pydantic is not installed.
        """
        # Imported here, since pydantic is optional.
        from scoreline_client.record_models import record_class

        words = re.sub("[^a-z0-9]", " ", self.model).title().replace(" ", "")
        return record_class(name or f"{words}Record", self.columns)

    def rows(self) -> list[tuple[str, ...]]:
        """Name, type, presence in a record, and values of each column, for people."""
        return [
            (column["name"], column["type"], _presence(column), _values(column))
            for column in self.columns
        ]

    def answers(self) -> list[tuple[str, ...]]:
        """Name, type and classes of each output, for people."""
        outputs = self.outputs or ({"name": None, "type": None, "classes": None},)
        return [
            (
                "value" if output["name"] is None else str(output["name"]),
                output["type"] or "",
                ", ".join(
                    map(str, output["classes"] or (self.classes if len(outputs) == 1 else ()))
                ),
            )
            for output in outputs
        ]

    def __repr__(self) -> str:
        names = [column["name"] for column in self.columns]
        more = f", … {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
        return f"<{self.ref}: {', '.join(names[:MOST_SHOWN])}{more}>"

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        return html_table(self.ref, ("column", "type", "in a record", "values"), self.rows()) + (
            html_table("answers", ("output", "type", "classes"), self.answers())
        )


def _presence(column: Mapping[str, Any]) -> str:
    if column.get("unused"):
        return "not used"
    if column.get("optional"):
        return "may be left out"
    return "may be null" if column["nullable"] else "required"


def _values(column: Mapping[str, Any]) -> str:
    if (categories := column.get("categories")) is not None:
        return ", ".join(map(str, categories[:MOST_SHOWN])) + " …" * (len(categories) > MOST_SHOWN)
    return f"{column['minimum']:g} … {column['maximum']:g}" if "minimum" in column else ""


async def describe(transport: Transport, model: str, timeout_s: float) -> ModelDescription:
    """The version that a reference names now, as a worker describes it.

    Raises:
        UnknownModel: there is no such version.
        NoAnswer, QueueFull, ServerUnreachable: as for `predict`.
    """
    request = Request(
        id=new_id(),
        model=check_model(model),
        operation=Operation.DESCRIBE,
        reply_to=transport.client_id,
        expires_ms=max(1, round(timeout_s * 1000)),
    )
    answer = await transport.ask(request, Lane.ONLINE, timeout_s)
    raise_refusal(answer)
    description = answer.description or {}
    outputs = description.get("outputs", {})
    return ModelDescription(
        answer.model,
        answer.version,
        description.get("columns", ()),
        outputs.get("classes") or (),
        outputs.get("each") or (),
    )
