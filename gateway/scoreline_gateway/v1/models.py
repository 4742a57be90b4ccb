"""`/v1/models`: what is served, which versions, and what a version takes and gives."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from scoreline_client.descriptions import ModelDescription
from scoreline_client.fleet import served_models
from scoreline_gateway.access import Right, principal_of, route
from scoreline_gateway.body import WhileConnected
from scoreline_gateway.v1.asking import model_of


async def described(request: Request, model: str) -> ModelDescription:
    """What a reference names now: its version, its columns and outputs; see Fleet.describe.

    Raises:
        CallerGone: nobody waits for it any more.
    """
    with WhileConnected(request):
        info: ModelDescription = await request.app.fleet.describe(model)
    return info


async def served(request: Request) -> dict[str, dict[str, Any]]:
    """The models that this caller may ask, by name: the versions of each alias, and those in memory."""
    allowed = principal_of(request).models
    by_name: dict[str, dict[str, Any]] = {}
    for _, models in served_models(await request.app.fleet.reports()):
        for reference, of_alias in sorted(models.items()):
            name, _, alias = reference.partition("@")
            if allowed is not None and name not in allowed:
                continue
            model = by_name.setdefault(name, {"aliases": {}, "versions": set()})
            versions = model["aliases"].setdefault(alias, set())
            if of_alias.serving is not None:
                versions.add(of_alias.serving)
                model["versions"].add(of_alias.serving)
            model["versions"].update(of_alias.resident)
    return dict(sorted(by_name.items()))


async def list_models(request: Request) -> Response:
    """The models that are served; an alias has several versions while a release is on its way."""
    models = [{"name": name, **facts} for name, facts in (await served(request)).items()]
    return _json({"models": models})


async def list_versions(request: Request) -> Response:
    """The versions of a model that workers have in memory; others of the store are loaded when they are asked for."""
    model = model_of(request).partition("@")[0]
    facts = (await served(request)).get(model)
    if facts is None:
        await described(request, model)  # raises if there is no such model, else has it loaded
        facts = (await served(request)).get(model, {"versions": (), "aliases": {}})
    versions = [
        {
            "version": version,
            "aliases": [alias for alias, serving in facts["aliases"].items() if version in serving],
        }
        for version in sorted(facts["versions"], reverse=True)
    ]
    return _json({"name": model, "versions": versions})


async def show_model(request: Request) -> Response:
    """A model, or an alias or a version of it: what it takes and gives."""
    if request.path_params["model"].endswith(":predict"):
        raise HTTPException(405, "Method Not Allowed", {"Allow": "POST"})
    info = await described(request, model_of(request))
    return _json(
        {
            "name": info.model,
            "version": info.version,
            "columns": info.columns,
            "outputs": info.outputs,
            "classes": info.classes,
        }
    )


def _json(body: dict[str, Any]) -> Response:
    data = orjson.dumps(body, default=sorted)
    return Response(data, media_type="application/json")


routes = [
    route("/v1/models", list_models, right=Right.SCORE),
    route("/v1/models/{model}", show_model, right=Right.SCORE),
    route("/v1/models/{model}/versions", list_versions, right=Right.SCORE),
]
