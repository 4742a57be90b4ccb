"""What the server and its models are, and whether they are ready: `/v2`, `/v2/health`, `/v2/models/M`, `/v2/repository`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from scoreline_client.errors import NoAnswer, RequestRefused, UnknownModel
from scoreline_client.fleet import served_models
from scoreline_client.protocol.names import is_name
from scoreline_gateway.access import Right, principal_of, route
from scoreline_gateway.errors import HttpCode, HttpRefused
from scoreline_gateway.health import is_ready
from scoreline_gateway.v2.inference import reference

PLATFORM = "scoreline_sklearn"
_DATATYPES = {"integer": "INT64", "number": "FP64", "boolean": "BOOL", "text": "BYTES"}
"""Datatypes of columns and outputs by their type; all others are BYTES."""
_CONTENT_TYPES = {"datetime": "datetime", "number": None, "integer": None, "boolean": None}
"""Content types of columns by their type; all others are text."""


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


async def live(request: Request) -> Response:  # noqa: ARG001 - the signature of an endpoint
    """Whether the gateway runs, whatever is behind it."""
    return _json({"live": True})


async def ready(request: Request) -> Response:
    """Whether requests would be answered: 200 or 503."""
    is_up = await is_ready(request)
    return _json({"live": True, "ready": is_up}, 200 if is_up else 503)


async def server(request: Request) -> Response:  # noqa: ARG001 - the signature of an endpoint
    """Name and version of the server, and the extensions that it has."""
    extensions = ["binary_tensor_data", "model_repository"]
    return _json({"name": "scoreline", "version": version("scoreline"), "extensions": extensions})


async def model(request: Request) -> Response:
    """The inputs and outputs of a model, and the versions that serve."""
    info = await request.app.fleet.describe(reference(request))
    serving = await request.app.fleet.serving()
    versions = {
        number
        for name, numbers in serving.items()
        if name.startswith(f"{info.model}@")
        for number in numbers
    }
    inputs = []
    for column in info.columns:
        kind = column["type"]
        content_type = _CONTENT_TYPES.get(kind, "str")
        inputs.append(
            _tensor(column["name"], _DATATYPES.get(kind, "BYTES"))
            | ({"parameters": {"content_type": content_type}} if content_type else {})
        )
    named_outputs = [output for output in info.outputs if output["name"] is not None]
    classes = info.classes or next((output["classes"] or () for output in info.outputs), ())
    kind = info.outputs[0]["type"] if info.outputs else "number"
    if classes:
        kinds = {type(label) for label in classes}
        kind = {bool: "boolean", int: "integer"}.get(
            kinds.pop() if len(kinds) == 1 else str, "text"
        )
    shape = [-1, len(named_outputs)] if named_outputs else [-1]
    outputs = [{"name": "predict", "datatype": _DATATYPES.get(kind, "BYTES"), "shape": shape}]
    outputs += [_tensor(name, "FP64") for name in info.probability_columns]
    return _json(
        {
            "name": info.model,
            "versions": [str(number) for number in sorted(versions | {info.version})],
            "platform": PLATFORM,
            "inputs": inputs,
            "outputs": outputs,
        }
    )


def _tensor(name: str, datatype: str) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1]}


async def model_ready(request: Request) -> Response:
    """Whether a model, or a version of it, would answer: 200, 404 if there is none, 503 if it does not serve."""
    wanted = reference(request)
    is_served = await request.app.fleet.is_served(wanted)
    reason = "no process serves it yet"
    if is_served is None:
        try:
            await request.app.fleet.describe(wanted)
            is_served = True
        except UnknownModel:
            raise
        except (NoAnswer, RequestRefused) as error:
            reason = str(error)
    if is_served:
        return _json({"name": request.path_params["model"], "ready": True})
    return _json({"name": request.path_params["model"], "ready": False, "error": reason}, 503)


async def index(request: Request) -> Response:
    """The versions that processes serve, and those that they refuse, with the reason."""
    states: dict[tuple[str, str], dict[str, str]] = {}
    for _, models in served_models(await request.app.fleet.reports()):
        for name, served in sorted(models.items()):
            model_name = name.partition("@")[0]
            if served.refused and served.wanted is not None:
                reason = {"state": "UNAVAILABLE", "reason": served.refused}
                states.setdefault((model_name, str(served.wanted)), reason)
            if served.serving is not None:
                states[model_name, str(served.serving)] = {"state": "READY", "reason": ""}
    models_allowed = principal_of(request).models
    return _json(
        [
            {"name": name, "version": number, **state}
            for (name, number), state in sorted(states.items())
            if models_allowed is None or name in models_allowed
        ]
    )


async def load(request: Request) -> Response:
    """Refuse: releases are signed, and no caller makes them."""
    name = request.path_params["model"]
    subject = name if is_name(name) else "a model"
    message = f"{subject} is released by `scoreline promote`, which signs it; it is not loaded or unloaded over HTTP"
    raise HttpRefused(405, HttpCode.METHOD, message, headers={"Allow": ""})


routes = [
    route("/v2/health/live", live, right=None),
    route("/v2/health/ready", ready, right=None),
    route("/v2", server, right=None),
    route("/v2/", server, right=None),
    route("/v2/models/{model}", model, right=Right.SCORE),
    route("/v2/models/{model}/versions/{version}", model, right=Right.SCORE),
    route("/v2/models/{model}/ready", model_ready, right=Right.SCORE),
    route("/v2/models/{model}/versions/{version}/ready", model_ready, right=Right.SCORE),
    route("/v2/repository/index", index, right=Right.SCORE, methods=["POST"]),
    route("/v2/repository/models/{model}/load", load, right=Right.SCORE, methods=["POST"]),
    route("/v2/repository/models/{model}/unload", load, right=Right.SCORE, methods=["POST"]),
]
