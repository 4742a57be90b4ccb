"""What is published of the wire format for other languages is held against the codecs: test vectors and JSON Schema."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scoreline_artifacts.schema import ColumnType
from scoreline_client.fleet import ProcessReport
from scoreline_client.options import CsvChunk, RequestOptions
from scoreline_client.protocol.messages import (
    Answer,
    Codec,
    ModelRef,
    Operation,
    Request,
    Status,
    StoredNote,
    WireError,
    decode_reply,
)
from tests.support.worker import entry_fields

FOLDER = Path(__file__).parents[4] / "docs" / "wire"
VECTORS = json.loads((FOLDER / "vectors.json").read_text())
SCHEMA = json.loads((FOLDER / "schema.json").read_text())
DEFINED = SCHEMA["$defs"]

Vector = dict[str, Any]


def _fits(message: object, name: str) -> bool:
    schema = {"$schema": SCHEMA["$schema"], "$defs": DEFINED, "$ref": f"#/$defs/{name}"}
    return bool(jsonschema.Draft202012Validator(schema).is_valid(message))


def _plain(value: object) -> object:
    return bytes(value).decode() if isinstance(value, bytes | memoryview) else value


def each(part: str) -> Any:
    return pytest.mark.parametrize("vector", VECTORS[part], ids=lambda vector: vector["what"])


@each("requests")
def test_a_request_is_read_as_its_vector_says(vector: Vector) -> None:
    given = {name.encode(): text.encode() for name, text in vector["fields"].items()}
    if refused := vector.get("refused"):
        with pytest.raises(WireError) as error:
            Request.decode(given)
        assert (error.value.code, error.value.message) == (refused["code"], refused["message"])
        assert not _fits(vector["fields"], "entry")
        return
    request = Request.decode(given)
    read = {name: _plain(getattr(request, name)) for name in vector["means"]}
    assert read == vector["means"]
    # What the client in Python writes means the same.
    assert Request.decode(entry_fields(request)) == request
    assert _fits(vector["fields"], "entry")
    if vector["means"]["options"]:
        assert _fits(json.loads(vector["means"]["options"]), "options")
    if request.codec is Codec.JSON and request.body:
        assert _fits(json.loads(request.body), "records")
    if request.codec is Codec.CSV:
        assert _fits(json.loads(request.body.partition(b"\n")[0]), "csv_head")


@each("answers")
def test_an_answer_is_read_as_its_vector_says(vector: Vector) -> None:
    data = vector["bytes"].encode()
    answer = decode_reply(data)
    head = json.loads(data.partition(b"\n")[0])
    assert _fits(head, "stored_note" if isinstance(answer, StoredNote) else "answer")
    if isinstance(answer, StoredNote):
        assert vector["means"] == {"stored": True, "id": answer.id}
        assert json.loads(answer.encode()) == head
        return
    assert {name: _plain(getattr(answer, name)) for name in vector["means"]} == vector["means"]
    again = Answer.decode(answer.encode())
    assert {name: _plain(getattr(again, name)) for name in vector["means"]} == vector["means"]


REFERENCES = """
loans loans@candidate loans@3 loans@123456789 loans@3a
loans@1234567890 loans@12345678901 loans@0 loans@ Loans
"""


@pytest.mark.parametrize("reference", [*REFERENCES.split(), "a" * 64, "a" * 65])
def test_the_schema_admits_the_models_that_a_worker_does(reference: str) -> None:
    try:
        ModelRef.parse(reference)
        is_known = True
    except WireError:
        is_known = False
    entry = {"wire": "1", "id": "0" * 32, "model": reference}
    assert _fits(entry, "entry") is is_known


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("delimiter", ";;"),
        ("delimiter", "\n"),
        ("delimiter", "\t"),
        ("decimal", "'"),
        ("quote", ""),
        ("first_row", -1),
        ("columns_out", [0, 2]),
        ("unseen", "warn"),
        ("colour", 1),
    ],
)
def test_the_schema_admits_the_heads_of_csv_bodies_that_a_worker_does(
    name: str, value: object
) -> None:
    head = {"columns": ["a"], "first_row": 1, "first_line": 2, name: value}
    try:
        CsvChunk.decode(json.dumps(head).encode() + b"\n1\n")
        is_known = True
    except WireError:
        is_known = False
    assert _fits(head, "csv_head") is is_known


def test_the_vector_of_every_field_has_every_field() -> None:
    (vector,) = (one for one in VECTORS["requests"] if one["what"] == "every field")
    assert vector["fields"].keys() == DEFINED["entry"]["properties"].keys()


def test_every_vector_is_different() -> None:
    whats = [vector["what"] for part in ("requests", "answers") for vector in VECTORS[part]]
    assert len(set(whats)) == len(whats)


def test_the_schema_has_every_field_and_every_value() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    entry, answer = DEFINED["entry"]["properties"], DEFINED["answer"]["properties"]
    assert entry.keys() == {"wire", *(field.name for field in fields(Request))}
    assert answer.keys() == {"wire", *(field.name for field in fields(Answer))} - {"body"}
    assert DEFINED["options"]["properties"].keys() == {
        field.name for field in fields(RequestOptions)
    }
    assert DEFINED["csv_head"]["properties"].keys() == {field.name for field in fields(CsvChunk)}
    assert entry["operation"]["enum"] == [each.value for each in Operation]
    assert entry["codec"]["enum"] == [each.value for each in Codec]
    assert answer["status"]["enum"] == [each.value for each in Status]
    assert set(DEFINED["column"]["properties"]["type"]["enum"]) == {
        each.value for each in ColumnType
    }
    known = {field.name for field in fields(ProcessReport)}
    assert DEFINED["process"]["properties"].keys() <= known
