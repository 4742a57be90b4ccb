"""The live page: one HTML file without a build step, and the stream of what it shows.

The page itself says nothing of the queue. Its stream needs the right `metrics`; with tokens, the page asks for one
and keeps it until its tab is closed.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from scoreline_gateway.access import ENDLESS, Right, route
from scoreline_gateway.errors import HttpCode, HttpRefused
from scoreline_gateway.watch import Watch

MOST_VIEWERS = 200
LONGEST_STREAM_S = 600.0
"""Seconds after which a stream ends and its viewer connects again, with a token that is still good."""


@cache
def page() -> tuple[bytes, str]:
    """The page, and its Content-Security-Policy: nothing runs and nothing is fetched but what is in it."""
    folder = resources.files("scoreline_gateway")
    html = folder.joinpath("page.html").read_text()
    allowed = {}
    for kind, name in (("style", "page.css"), ("script", "page.js")):
        text = folder.joinpath(name).read_text()
        html = html.replace(f"/*{kind}*/", text)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        allowed[kind] = f"{kind}-src 'sha256-{digest}'"
    policy = [
        "default-src 'none'",
        *allowed.values(),
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ]
    return html.encode(), "; ".join(policy)


async def show_page(request: Request) -> Response:  # noqa: ARG001 - the signature of an endpoint
    """The page."""
    html, policy = page()
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }
    return Response(html, headers=headers, media_type="text/html")


async def events(request: Request) -> Response:
    """The queue at a glance every two seconds, as server-sent events.

    Raises:
        HttpRefused: as many watch as may.
    """
    watch: Watch = request.app.watch
    if watch.viewers >= MOST_VIEWERS:
        message = f"{MOST_VIEWERS} viewers watch this process already"
        raise HttpRefused(503, HttpCode.BUSY, message, headers={"Retry-After": "10"})
    request.scope[ENDLESS] = True

    async def stream() -> AsyncGenerator[bytes]:
        ends_at = time.monotonic() + LONGEST_STREAM_S
        async with aclosing(watch.events()) as glances:
            async for glance in glances:
                yield glance
                if time.monotonic() > ends_at:
                    return

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(), headers=headers, media_type="text/event-stream")


routes = [
    route("/", show_page, right=None),
    route("/status/events", events, right=Right.METRICS),
]
