"""`/ping`, `/health` and `/version`, as MLflow and SageMaker ask for them."""

from __future__ import annotations

from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from scoreline_client.errors import ScorelineError
from scoreline_gateway.access import route


async def is_ready(request: Request) -> bool:
    """Whether requests would be answered: Redis is reached, and a process serves some version."""
    try:
        return any((await request.app.fleet.serving()).values())
    except ScorelineError:
        return False


async def ping(request: Request) -> Response:
    """200 if requests would be answered, else 404."""
    return Response("\n", 200 if await is_ready(request) else 404, media_type="application/json")


async def show_version(request: Request) -> Response:  # noqa: ARG001 - the signature of an endpoint
    """Scoreline's own version, as plain text."""
    return PlainTextResponse(version("scoreline"))


routes = [
    route("/ping", ping, right=None),
    route("/health", ping, right=None),
    route("/version", show_version, right=None),
]
