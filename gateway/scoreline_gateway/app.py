"""The ASGI app: routes of all faces, one client for all requests of a process, and an answer to whatever is raised."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from types import ModuleType
from typing import Any

from prometheus_client.core import CollectorRegistry
from starlette.responses import Response
from starlette.routing import Match, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scoreline_client.async_client import AsyncClient
from scoreline_client.errors import UnknownModel
from scoreline_client.tracing import Tracing
from scoreline_gateway import health, invocations, metrics, page
from scoreline_gateway.access import Access
from scoreline_gateway.body import CallerWatch, Receiver
from scoreline_gateway.errors import CallerGone, error_response, problem_of
from scoreline_gateway.fleet import Fleet
from scoreline_gateway.settings import GatewaySettings
from scoreline_gateway.v1 import files, jobs, models, openapi, predict
from scoreline_gateway.v2 import inference, metadata
from scoreline_gateway.watch import Watch

logger = logging.getLogger(__name__)

FACES: tuple[ModuleType, ...] = (
    predict,
    inference,
    invocations,
    jobs,
    files,
    openapi,
    models,
    metadata,
    health,
    metrics,
    page,
)
"""The modules that answer: each has `routes`, and may have `lifespan(gateway)`, an async context manager that is
entered before the first request and left after the last one."""
GARBAGE_OBJECTS = 10_000
"""New objects after which garbage is collected."""
MOST_PATHS, LONGEST_PATH = 1024, 256
"""How many paths have their routes remembered, and up to which length."""


def build_app(
    settings: GatewaySettings | None = None,
    *,
    connect: Callable[[GatewaySettings], AsyncClient] | None = None,
) -> Gateway:
    """An app that has read no setting and opened no connection yet: that is done when its server starts it.

    Without `settings` they come from the environment then; `connect` makes the client, for tests.
    """
    return Gateway(settings, connect or (lambda loaded: AsyncClient(settings=loaded)), FACES)


class Gateway:
    """An ASGI app for one event loop; each process has its own.

    `request.app` is the gateway: its `settings`, `client`, `access`, `fleet` and `watch` are there while it runs.
    """

    settings: GatewaySettings
    client: AsyncClient
    access: Access
    fleet: Fleet
    registry: CollectorRegistry
    scraping: asyncio.Lock
    watch: Watch
    caller_watch: CallerWatch

    def __init__(
        self,
        settings: GatewaySettings | None,
        connect: Callable[[GatewaySettings], AsyncClient],
        faces: Iterable[ModuleType],
    ) -> None:
        self._explicit_settings = settings
        self._connect = connect
        self._faces = tuple(faces)
        self._routes: list[Route] = [route for face in self._faces for route in face.routes]
        self._router = Router(self._routes, redirect_slashes=False)
        self._route_cache: dict[tuple[str, str], tuple[ASGIApp, Scope]] = {}
        """By method and path, the app of the route and what it adds to the scope: callers ask for the same few."""
        self.state: dict[str, Any] = {}
        """State that a face keeps for all of its requests, under its name."""
        self.in_flight = 0
        """Requests that are being answered."""
        self.http_metrics = metrics.HttpMetrics()
        self.tracing: Tracing | None = None
        self.held = 0
        """Bytes of bodies that are held for them."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read the settings, connect, and close the connections in the end.

        Raises:
            SettingsError: a setting or the file of tokens is unusable.
        """
        self.settings = self._explicit_settings or GatewaySettings.from_environment()
        self.access = Access(self.settings)
        self.tracing = Tracing.of(self.settings)
        async with AsyncExitStack() as stack:
            self.client = await stack.enter_async_context(self._connect(self.settings))
            self.fleet = Fleet(self.client, self.settings.gateway_timeout_s)
            self.watch = Watch(self.settings)
            stack.push_async_callback(self.watch.close)
            self.caller_watch = CallerWatch()
            stack.callback(self.caller_watch.close)
            for face in self._faces:
                if hasattr(face, "lifespan"):
                    await stack.enter_async_context(face.lifespan(self))
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; or run from the server's start to its end, for ASGI's scope `lifespan`."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif scope["type"] == "http":
            if self.tracing is None:
                await self._answer(scope, receive, send)
                return
            headers = {
                name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
            }
            with self.tracing.serving(scope["method"], headers) as span:
                status = await self._answer(scope, receive, send)
                span.set_attribute("http.response.status_code", status)
                if (route := scope.get("route")) is not None:
                    span.update_name(f"{scope['method']} {route.path}")
                    span.set_attribute("http.route", route.path)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Answer a request, whatever becomes of it: its connection is not closed without an answer; returns the status."""
        receiver = Receiver(receive)
        is_begun, status, started = False, 0, time.perf_counter()

        async def sending(message: Message) -> None:
            nonlocal is_begun, status
            is_begun = True
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope["app"] = self
        scope["held"] = 0
        self.in_flight += 1
        try:
            await self._app_of(scope)(scope, receiver, sending)
        except CallerGone:
            logger.debug("caller_gone path=%r", scope["path"])
        # Whatever is raised becomes an answer; an error of neither the caller nor the queue is logged with its traceback.
        except Exception as error:
            if is_begun:
                # Half an answer cannot be taken back: the server closes the connection, so that it is seen to be half.
                raise
            response = self._refusal(scope["path"], await self._with_served_models(scope, error))
            # A body that did not arrive in time is not waited for once more.
            if response.status_code == 408 or not await receiver.discard():
                response.headers["connection"] = "close"
            await response(scope, receiver, sending)
        finally:
            self.in_flight -= 1
            self.held -= scope["held"]
            seconds = time.perf_counter() - started
            self.http_metrics.note(scope, status, seconds)
            if logger.isEnabledFor(logging.INFO):
                log_answer(scope, status, seconds)
        return status

    def _app_of(self, scope: Scope) -> ASGIApp:
        """The app that answers a request; what its route says of the request is added to the scope."""
        key = scope["method"], scope["path"]
        entry = self._route_cache.get(key)
        if entry is None:
            for route in self._routes:
                match, child_scope = route.matches(scope)
                if match is Match.FULL:
                    break
            else:
                return self._router  # it says what is wrong
            entry = route.app, {**child_scope, "route": route}
            if len(self._route_cache) == MOST_PATHS:
                self._route_cache.clear()
            if len(scope["path"]) <= LONGEST_PATH:
                self._route_cache[key] = entry
        app, child_scope = entry
        scope.update(child_scope)
        return app

    async def _with_served_models(self, scope: Scope, error: Exception) -> Exception:
        """The error for the caller: one of a model that is not served names those that are."""
        principal, names = scope.get("principal"), scope.get("path_params", {})
        if not isinstance(error, UnknownModel) or principal is None or "model" not in names:
            return error
        reference = "@".join(names[key] for key in ("model", "version") if key in names)
        words = await self.fleet.words_for_unknown(reference, principal.models)
        return error if words is None else UnknownModel(error.code, words)

    def _refusal(self, path: str, error: Exception) -> Response:
        status = problem_of(error).status
        if status == 500:
            logger.error("request_failed path=%r", path, exc_info=error)
        elif status == 503:
            logger.warning("request_refused path=%r: %s", path, error)
        return error_response(path, error)

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        is_started = False
        try:
            async with self.running():
                is_started = True
                if not gc.get_freeze_count():
                    # What was imported stays: to look through it for garbage again and again would hold up requests.
                    gc.collect()
                    gc.freeze()
                    # Requests leave hardly any circles behind: looking for them after every 700 objects finds none.
                    gc.set_threshold(GARBAGE_OBJECTS)
                await send({"type": "lifespan.startup.complete"})
                await receive()
        # The server is told that there is no app, and ends; after the start, that it did not end well.
        except Exception as error:  # noqa: BLE001
            stage = "shutdown" if is_started else "startup"
            logger.error("gateway_%s_failed: %s", stage, error)  # noqa: TRY400 - a setting has no traceback
            await send({"type": f"lifespan.{stage}.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


def log_answer(scope: Scope, status: int, seconds: float) -> None:
    """Log a request and its answer; status 0: its caller left before."""
    route, principal = scope.get("route"), scope.get("principal")
    logger.info(
        "request_answered method=%s route=%s path=%r status=%d seconds=%.6f caller=%s",
        scope["method"],
        "none" if route is None else route.path,
        scope["path"],
        status,
        seconds,
        "-" if principal is None else principal.name,
    )


app = build_app()
"""What `uvicorn scoreline_gateway:app` and any other ASGI server runs."""
