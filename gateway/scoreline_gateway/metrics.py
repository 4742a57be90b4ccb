"""`/metrics`: the queue's metrics for Prometheus, and how this process answers HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram
from prometheus_client.core import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from scoreline_client.metrics import Collector
from scoreline_client.protocol.keys import Keys
from scoreline_client.protocol.totals import SECONDS
from scoreline_client.transport.servers import blocking_redis
from scoreline_gateway.access import Right, route

if TYPE_CHECKING:
    from scoreline_gateway.app import Gateway

REPLY_S = 5.0
"""Seconds within which Redis has to reply to a scrape."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})


class HttpMetrics:
    """What a process has answered, by the template of the route: no path that a caller chose becomes a label."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "scoreline_http_requests",
            "HTTP requests answered; status 0 for callers who left before.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "scoreline_http_request_seconds",
            "From the head of a request to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def note(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        found = scope.get("route")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        key = (found.path if found is not None else "none", method, status)
        children = self._children.get(key)
        if children is None:
            children = self._requests.labels(*key), self._seconds.labels(key[0])
            self._children[key] = children
        children[0].inc()
        children[1].observe(seconds)


@asynccontextmanager
async def lifespan(gateway: Gateway) -> AsyncIterator[None]:
    """Prepare the collector; the server is not asked before the first scrape."""
    settings = gateway.settings
    redis = blocking_redis(
        settings.redis_url, socket_timeout=REPLY_S, socket_connect_timeout=REPLY_S
    )
    gateway.http_metrics.registry.register(Collector(lambda: redis, Keys(settings.queue)))
    gateway.scraping = asyncio.Lock()
    try:
        yield
    finally:
        await run_in_threadpool(redis.close)


async def scrape(request: Request) -> Response:
    """All metrics, as OpenMetrics for those who accept it, else in Prometheus' own format."""
    gateway = request.app
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    # However many ask at a time, one thread and one connection are busy with it.
    async with gateway.scraping:
        body = await run_in_threadpool(encode, gateway.http_metrics.registry)
    return Response(body, headers={"content-type": content_type})


routes: Sequence[object] = [route("/metrics", scrape, right=Right.METRICS)]
