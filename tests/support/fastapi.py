"""As much of FastAPI as the page on the client uses, made of Starlette and pydantic, where FastAPI itself is not installed.

What it answers to a body that is no record is FastAPI's own: the errors of pydantic, in JSON that knows neither infinity nor NaN.
"""

from __future__ import annotations

import sys
import types
import typing
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pydantic
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would have another client than the one that is installed
    from starlette.testclient import TestClient


class _FastAPI(Starlette):
    def __init__(self, **options: Any) -> None:
        super().__init__(exception_handlers={HTTPException: _explain}, **options)

    def post(self, path: str) -> Callable[[Any], Any]:
        def route(function: Any) -> Any:
            kinds = typing.get_type_hints(function)
            name = next(iter(kinds))
            body = pydantic.create_model("Body", **{name: (kinds[name], ...)})

            async def answer(request: Request) -> JSONResponse:
                try:
                    given = body(**{name: await request.json()})
                except pydantic.ValidationError as error:
                    return JSONResponse(
                        {"detail": error.errors(include_url=False, include_context=False)}, 422
                    )
                return JSONResponse(await function(getattr(given, name)))

            self.add_route(path, answer, methods=["POST"])
            return function

        return route

    def get(self, path: str) -> Callable[[Any], Any]:
        def route(function: Any) -> Any:
            async def answer(_: Request) -> JSONResponse:
                return JSONResponse(await function())

            self.add_route(path, answer, methods=["GET"])
            return function

        return route


async def _explain(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import fastapi` find it."""
    if find_spec("fastapi") is not None:
        return
    module: Any = types.ModuleType("fastapi")
    module.FastAPI, module.HTTPException = _FastAPI, HTTPException
    client: Any = types.ModuleType("fastapi.testclient")
    client.TestClient = TestClient
    monkeypatch.setitem(sys.modules, "fastapi", module)
    monkeypatch.setitem(sys.modules, "fastapi.testclient", client)
