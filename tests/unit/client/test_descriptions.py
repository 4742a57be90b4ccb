"""What a version takes and gives, for applications: columns, JSON Schemas, pydantic models, and the service's state."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any

import jsonschema
import orjson
import pydantic
import pytest
from click.testing import CliRunner

from scoreline_client import (
    Client,
    JobStatus,
    MissingDependency,
    ModelDescription,
    Policy,
    RequestOptions,
    ServerUnreachable,
    SettingsError,
    UnknownModel,
)
from scoreline_client.cli import describe as describe_command
from scoreline_client.cli import job as job_command
from scoreline_client.cli.main import main
from scoreline_client.protocol.keys import Lane
from scoreline_client.testing import FakeModel, FakeScoreline
from tests.support import twins


@pytest.fixture(scope="module")
def scoreline() -> Iterator[FakeScoreline]:
    models = {
        "stay": FakeModel(twins.classifier(), twins.FRAME, twins.LABELS),
        "money-7": FakeModel(twins.regressor(), twins.FRAME, twins.TARGETS),
    }
    with FakeScoreline(models=models) as scoreline:
        yield scoreline


@pytest.fixture(scope="module")
def client(scoreline: FakeScoreline) -> Client:
    return scoreline.client()


@pytest.fixture(scope="module")
def stay(client: Client) -> ModelDescription:
    return client.describe("stay")


def test_a_version_says_what_it_takes_and_gives(stay: ModelDescription) -> None:
    assert (stay.model, stay.version, stay.ref) == ("stay", 1, "stay@1")
    columns = {column["name"]: column for column in stay.columns}
    assert list(columns) == list(twins.FRAME.columns)
    assert columns["visits"] == {
        "name": "visits", "type": "integer", "nullable": False, "dtype": "int64",
        "minimum": 0.0, "maximum": 4.0,
    }  # fmt: skip
    assert columns["income"]["nullable"]
    assert columns["plan"]["categories"] == ["basic", "gold"]
    assert columns["id"]["unused"]
    assert stay.classes == ["leaves", "stays"]
    assert [output["type"] for output in stay.outputs] == ["text"]


async def test_it_is_the_same_with_await(scoreline: FakeScoreline, stay: ModelDescription) -> None:
    async with scoreline.async_client() as client:
        assert await client.describe("stay@1") == stay
        assert (await client.status()).is_served


def test_a_model_that_is_not_there_has_no_description(client: Client) -> None:
    with pytest.raises(UnknownModel, match="nobody"):
        client.describe("nobody")


def test_a_notebook_shows_a_version_as_tables(stay: ModelDescription) -> None:
    assert repr(stay) == "<stay@1: id, income, visits, city, is_member, … 2 more>"
    shown = stay._repr_html_()
    assert "<td>visits</td><td>integer</td><td>required</td><td>0 … 4</td>" in shown
    assert "<td>value</td><td>text</td><td>leaves, stays</td>" in shown


_RECORDS: list[tuple[str, dict[str, Any]]] = [
    ("good", twins.GOOD),
    ("another column", twins.GOOD | {"colour": "red"}),
    ("whatever is not used", twins.GOOD | {"id": [1]}),
    ("missing value", twins.GOOD | {"income": None}),
    ("missing column", {"visits": 3}),
    ("missing value of another", twins.GOOD | {"visits": None}),
    ("text for a number", twins.GOOD | {"income": "1200"}),
    ("a very large number", twins.GOOD | {"income": 1.75e308}),
    ("text for a whole number", twins.GOOD | {"visits": "3"}),
    ("a fraction", twins.GOOD | {"visits": 2.5}),
    ("a whole fraction", twins.GOOD | {"visits": 2.0}),
    ("a boolean for a number", twins.GOOD | {"income": True}),
    ("a number for a boolean", twins.GOOD | {"is_member": 1}),
    ("a number for text", twins.GOOD | {"city": 3}),
    ("no category", twins.GOOD | {"plan": "golden"}),
    ("a number for a date", twins.GOOD | {"since": 3}),
    ("a date with an offset", twins.GOOD | {"since": "2024-02-03T12:30:00Z"}),
    ("a date with another offset", twins.GOOD | {"since": "2024-02-03T12:30:00+02:00"}),
    ("a date", twins.GOOD | {"since": "2024-02-03T12:30:00"}),
]


@pytest.mark.parametrize(("what", "record"), _RECORDS, ids=[what for what, _ in _RECORDS])
def test_schema_and_pydantic_model_refuse_what_the_version_refuses(
    client: Client, stay: ModelDescription, what: str, record: dict[str, Any]
) -> None:
    (answer,) = client.predict_many("stay", [record])
    fits = jsonschema.Draft202012Validator(stay.record_schema()).is_valid(record)
    try:
        made = stay.pydantic_model()(**record)
    except pydantic.ValidationError:
        made = None
    assert fits == (made is not None) == (answer.error is None), answer.error
    if made is not None:
        sent = client.predict("stay", made.to_record())
        assert sent.probabilities == answer.probabilities


def test_a_pydantic_model_shows_frameworks_the_same_schema(stay: ModelDescription) -> None:
    model = stay.pydantic_model()
    assert model.__name__ == "StayRecord"
    shown, told = model.model_json_schema(), stay.record_schema()
    assert shown["required"] == told["required"]
    for name, schema in told["properties"].items():
        assert schema.items() <= shown["properties"][name].items()


def test_a_pydantic_model_takes_pythons_own_times_and_odd_names() -> None:
    columns = [
        {"name": "Marital Status", "type": "string", "nullable": False},
        {"name": "copy", "type": "datetime", "nullable": False},
        {"name": "class", "type": "duration", "nullable": True, "optional": True},
        {"name": "7th", "type": "number", "nullable": True, "optional": True},
    ]
    model = ModelDescription("m", 1, columns, ()).pydantic_model("Row")
    row = model(Marital_Status="single", copy=datetime(2024, 1, 2), class_=timedelta(hours=2))
    assert row.to_record() == {
        "Marital Status": "single", "copy": "2024-01-02T00:00:00", "class": "PT2H"
    }  # fmt: skip
    assert "column_7th" in model.model_fields


def test_times_have_an_offset_where_those_of_training_had_one() -> None:
    columns = [
        {"name": "at", "type": "datetime", "nullable": False, "dtype": "datetime64[us, UTC]"}
    ]
    version = ModelDescription("m", 1, columns, ())
    for text, fits in (("2024-02-03T12:30:00+01:00", True), ("2024-02-03T12:30:00", False)):
        schema = jsonschema.Draft202012Validator(version.record_schema())
        assert schema.is_valid({"at": text}) is fits
        with nullcontext() if fits else pytest.raises(pydantic.ValidationError):
            version.pydantic_model()(at=text)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, "\ud800"])
@pytest.mark.parametrize("column", list(twins.GOOD))
def test_what_json_cannot_hold_goes_on_to_the_service(
    client: Client, stay: ModelDescription, column: str, value: object
) -> None:
    record = twins.GOOD | {column: value}
    sent = stay.pydantic_model()(**record).to_record()
    assert repr(sent[column]) == repr(value)
    (passed,) = client.predict_many("stay", [sent])
    (given,) = client.predict_many("stay", [record])
    assert passed.error == given.error
    assert passed.probabilities == given.probabilities


def test_what_describe_prints_is_read_again(run: Any, stay: ModelDescription) -> None:
    printed = run("describe", "stay", "--json").stdout
    assert ModelDescription.from_json(printed) == stay
    for other in ("{}", "[]", "nonsense", '{"columns": 3}'):
        with pytest.raises(SettingsError, match="scoreline describe MODEL --json"):
            ModelDescription.from_json(other)


def test_a_pydantic_model_names_the_type_that_a_column_has() -> None:
    columns = [{"name": "age", "type": "integer", "nullable": False}]
    model = ModelDescription("m", 1, columns, ()).pydantic_model("Row")
    with pytest.raises(
        pydantic.ValidationError, match="'x' is of another type than the column: integer"
    ):
        model(age="x")


def test_without_pydantic_it_says_what_to_install(
    stay: ModelDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    monkeypatch.delitem(sys.modules, "scoreline_client.record_models", raising=False)
    with pytest.raises(MissingDependency, match=r"scoreline\[pydantic\]"):
        stay.pydantic_model()


@pytest.mark.parametrize("model", ["stay", "money-7"])
def test_predictions_are_what_their_schema_says(client: Client, model: str) -> None:
    asked = RequestOptions(unseen=Policy.WARN)
    prediction = client.predict(model, twins.GOOD | {"city": "Ulm"}, options=asked)
    plain = prediction.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["warnings"][0]["code"] == "W_UNSEEN_CATEGORY"
    jsonschema.validate(plain, client.describe(model).prediction_schema())
    assert "W_UNSEEN_CATEGORY" in prediction._repr_html_()


def test_the_error_of_a_record_is_in_the_dictionary_of_its_prediction(client: Client) -> None:
    (prediction,) = client.predict_many("stay", [{}])
    assert prediction.to_dict()["error"]["code"] == "E_MISSING_COLUMN"
    assert "E_MISSING_COLUMN" in prediction._repr_html_()


def test_the_status_says_who_serves_what(scoreline: FakeScoreline, client: Client) -> None:
    status = client.status()
    assert status.is_served
    assert status.models == {"money-7@production": [1], "stay@production": [1]}
    assert status.waiting == {Lane.ONLINE: 0, Lane.BULK: 0}
    assert [status.serves(each) for each in ("stay", "stay@1", "stay@2", "stay@other", "no")] == [
        True, True, False, False, False
    ]  # fmt: skip
    assert repr(status) == (
        "<queue default: scoring processes 1, waiting requests 0; money-7@production 1, stay@production 1>"
    )
    with scoreline.without_workers():
        assert not client.status().is_served
    with scoreline.down(), pytest.raises(ServerUnreachable):
        client.status(timeout=0.2)


# The commands.


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, scoreline: FakeScoreline) -> Any:
    for module in (describe_command, job_command):
        monkeypatch.setattr(module, "Client", scoreline.client)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(main, arguments)


def test_describe_prints_columns_and_answers(run: Any, stay: ModelDescription) -> None:
    shown = run("describe", "stay")
    assert shown.exit_code == 0
    assert "may be null" in shown.stdout
    assert "leaves, stays" in shown.stdout
    assert orjson.loads(run("describe", "stay", "--json").stdout)["version"] == 1
    assert orjson.loads(run("describe", "stay", "--schema").stdout) == stay.record_schema()
    assert run("describe", "nobody").exit_code == 2
    assert run("describe", "stay", "--schema", "--json").exit_code == 2


def test_a_job_is_shown_by_its_id(run: Any, client: Client) -> None:
    job = client.submit("stay", [twins.GOOD, {}])
    assert repr(job) == f"<job {job.id} of queue default>"
    shown = run("job", job.id, "--wait", "20")
    assert shown.exit_code == 1
    assert f"job {job.id} is done" in shown.stdout
    assert "E_MISSING_COLUMN" in shown.stdout
    told = orjson.loads(run("job", job.id, "--json").stdout)
    assert told["status"] == "done"
    assert [one["error"] is None for one in told["predictions"]] == [True, False]


def test_a_job_can_be_cancelled_by_its_id(
    run: Any, scoreline: FakeScoreline, client: Client
) -> None:
    with scoreline.without_workers():
        job = client.submit("stay", [twins.GOOD])
        assert "is queued" in run("job", job.id).stdout
        cancelled = run("job", job.id, "--cancel")
    assert cancelled.exit_code == 2
    assert "was cancelled" in cancelled.stdout
    assert job.status() is JobStatus.CANCELLED


@pytest.mark.parametrize(
    ("job_id", "words"), [("nonsense", "32 small hexadecimal digits"), ("0" * 32, "knows nothing")]
)
def test_a_job_that_is_not_known_says_so(run: Any, job_id: str, words: str) -> None:
    refused = run("job", job_id)
    assert refused.exit_code == 2
    assert words in refused.stderr
