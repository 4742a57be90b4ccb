"""The page on the client: its programs run as they stand."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import scoreline_client
from scoreline_client.cli import describe as describe_command
from scoreline_client.cli.main import main
from scoreline_client.protocol.json_records import raise_refusal
from scoreline_client.protocol.messages import Answer, Status
from scoreline_client.testing import FakeModel, FakeScoreline
from tests.support import fastapi

PAGE = (Path(__file__).parents[3] / "docs" / "client.md").read_text()
PROGRAMS = {
    title: re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for title, text in re.findall(r"^#+ (.*?)\n(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
FRAME = pd.DataFrame({"income": [900.0, 2100.0, 1500.0, 8000.0], "debts": [400, 0, 700, 100]})
GOOD = {"income": 1800.0, "debts": 50}


def _loans() -> FakeModel:
    steps = FunctionTransformer(np.log1p), LogisticRegression(solver="liblinear")
    return FakeModel(make_pipeline(*steps).fit(FRAME, [0, 1, 0, 1]), FRAME)


@pytest.fixture(scope="module")
def loans() -> FakeModel:
    return _loans()


@pytest.fixture
def scoreline(loans: FakeModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeScoreline]:
    """A fake that the clients of the page's programs ask."""
    with FakeScoreline(models={"loans": loans}) as scoreline:
        monkeypatch.setattr(scoreline_client, "Client", scoreline.client)
        monkeypatch.setattr(scoreline_client, "AsyncClient", scoreline.async_client)
        yield scoreline


def _run(program: str, **given: Any) -> dict[str, Any]:
    names = {"__name__": "page", **given}
    exec(program, names)
    return names


@pytest.mark.usefixtures("scoreline")
def test_the_first_program(capsys: pytest.CaptureFixture[str]) -> None:
    _run(PROGRAMS["The client"][0])
    assert capsys.readouterr().out.startswith("1 {0: ")


def test_what_a_model_takes(scoreline: FakeScoreline) -> None:
    _run(PROGRAMS["What a model takes"][0], client=scoreline.client())


def test_in_tests(loans: FakeModel) -> None:
    program = PROGRAMS["Tests"][0] + '    assert client.status().serves("loans")\n'
    _run(program, pipeline=loans.pipeline, X_train=FRAME)


def test_flask(scoreline: FakeScoreline) -> None:
    asked = _run(PROGRAMS["Flask, Django"][0])["app"].test_client()
    answer = asked.post("/loans", json=GOOD)
    assert (answer.status_code, answer.json["value"]) == (200, 1)
    rejected = asked.post("/loans", json={"debts": 50})
    assert (rejected.status_code, rejected.json["column"]) == (422, "income")
    with scoreline.full():
        assert asked.post("/loans", json=GOOD).status_code == 503


def _application(title: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
    """The program of a section as the module `app`, with what the model takes saved beside it."""
    with FakeScoreline() as scoreline:
        scoreline.add("loans", _loans())
        monkeypatch.setattr(describe_command, "Client", scoreline.client)
        saved = CliRunner().invoke(main, ["describe", "loans", "--json"]).stdout
    (folder / "loans.json").write_text(saved)
    module = types.ModuleType("app")
    module.__file__ = str(folder / "app.py")
    monkeypatch.setitem(sys.modules, "app", module)
    exec(PROGRAMS[title][0], module.__dict__)
    return module


@pytest.fixture
def fastapi_app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The page's program, imported where no service runs."""
    fastapi.install(monkeypatch)
    monkeypatch.setenv("SCORELINE_REDIS_URL", "redis://127.0.0.1:1/0")
    return _application("FastAPI", monkeypatch, tmp_path)


@pytest.fixture
def asked(
    fastapi_app: Any, scoreline: FakeScoreline, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """An HTTP client of it; what the application does not handle is answered by 500."""
    from fastapi.testclient import TestClient  # type: ignore[import-not-found,unused-ignore]

    monkeypatch.setattr(fastapi_app, "scoreline", scoreline.async_client())
    with TestClient(fastapi_app.app, raise_server_exceptions=False) as asked:
        yield asked


def test_fastapi(asked: Any, scoreline: FakeScoreline) -> None:
    assert asked.post("/loans", json=GOOD).json()["value"] == 1
    assert asked.get("/ready").json() == {"versions": {"loans@production": [1]}}
    with scoreline.full():
        assert asked.post("/loans", json=GOOD).status_code == 503
    with scoreline.without_workers():
        assert asked.get("/ready").status_code == 503


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('{"income": 1e999, "debts": 50}', "E_NON_FINITE"),
        ('{"income": -Infinity, "debts": 50}', "E_NON_FINITE"),
        ('{"income": NaN, "debts": 50}', "E_NULL"),
        ('{"income": 1, "debts": Infinity}', "E_NON_FINITE"),
        ('{"income": 1, "debts": NaN}', "E_NULL"),
        ('{"income": "\\ud800", "debts": 1}', "E_TYPE"),
    ],
)
def test_what_json_cannot_hold_is_refused_in_fastapi_by_the_words_of_the_service(
    asked: Any, body: str, code: str
) -> None:
    answer = asked.post("/loans", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]["code"]) == (422, code)


@pytest.mark.parametrize(
    "body",
    [
        '{"income": [1e999], "debts": 50}', '{"debts": Infinity}', '{"x": NaN}', "[NaN]", "NaN", '"\\ud800"',
        '{"income": "x", "debts": "y", "\\ud800": 1}', '{"income": 1' + 400 * "0" + ', "debts": "x"}',
    ],
)  # fmt: skip
def test_a_body_that_is_no_record_is_refused_by_fastapi_whatever_is_in_it(
    asked: Any, body: str
) -> None:
    answer = asked.post("/loans", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422


def test_a_request_that_expires_is_told_by_fastapi_as_no_answer(
    asked: Any, fastapi_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def expires(*_: Any, **__: Any) -> Any:
        raise_refusal(Answer(id="0" * 32, status=Status.ERROR, error={"code": "E_EXPIRED"}))

    monkeypatch.setattr(fastapi_app.scoreline, "predict", expires)
    assert asked.post("/loans", json=GOOD).status_code == 503


def test_the_tests_of_applications(
    loans: FakeModel, monkeypatch: pytest.MonkeyPatch, fastapi_app: Any, tmp_path: Path
) -> None:
    given = {"FakeScoreline": FakeScoreline, "FakeModel": FakeModel}
    names = _run(PROGRAMS["Tests"][1], pipeline=loans.pipeline, X_train=FRAME, **given)
    names["test_a_loan_is_answered_by_fastapi"](monkeypatch)
    names["app"] = _application("Flask, Django", monkeypatch, tmp_path)
    exec(PROGRAMS["Tests"][2], names)
    names["test_a_loan_is_answered_by_flask"](monkeypatch)
