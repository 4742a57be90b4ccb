"""The page on the client: its programs run as they stand."""

from __future__ import annotations

import asyncio
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import scoreline_client
from scoreline_client.testing import FakeModel, FakeScoreline

PAGE = (Path(__file__).parents[3] / "docs" / "client.md").read_text()
PROGRAMS = {
    title: re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for title, text in re.findall(r"^#+ (.*?)\n(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
FRAME = pd.DataFrame({"income": [900.0, 2100.0, 1500.0, 8000.0], "debts": [400, 0, 700, 100]})
GOOD = {"income": 1800.0, "debts": 50}


@pytest.fixture(scope="module")
def loans() -> FakeModel:
    steps = FunctionTransformer(np.log1p), LogisticRegression(solver="liblinear")
    return FakeModel(make_pipeline(*steps).fit(FRAME, [0, 1, 0, 1]), FRAME)


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


class _HTTPException(Exception):
    """As FastAPI's, as far as the page uses it."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def test_fastapi(scoreline: FakeScoreline, monkeypatch: pytest.MonkeyPatch) -> None:
    def route(_: str) -> Any:
        return lambda function: function

    app = types.SimpleNamespace(post=route, get=route)
    module: Any = types.ModuleType("fastapi")
    module.FastAPI, module.HTTPException = lambda **_: app, _HTTPException
    monkeypatch.setitem(sys.modules, "fastapi", module)
    page = _run(PROGRAMS["FastAPI"][0])

    async def ask() -> None:
        async with page["lifespan"](app):
            record = page["LoanRecord"](**GOOD)
            assert (await page["loans"](record))["value"] == 1
            assert (await page["ready"]())["versions"] == {"loans@production": [1]}
            with scoreline.full(), pytest.raises(_HTTPException) as refused:
                await page["loans"](record)
            assert refused.value.status == 503
            with scoreline.without_workers(), pytest.raises(_HTTPException) as gone:
                await page["ready"]()
            assert gone.value.status == 503

    asyncio.run(ask())
