"""`/metrics`: the queue's metrics for Prometheus, and how its gateways answer HTTP.

What the processes of all gateways have answered adds up in one hash in Redis, as what workers have scored does: each
adds to it every two seconds, before it answers a scrape, and when it ends.

| field                               | counts                                                                    |
|-------------------------------------|---------------------------------------------------------------------------|
| `requests|<route>|<method>|<status>` | requests answered                                                        |
| `seconds|<route>|<bound>`           | requests that took up to so long, and over the bound before; `sum`: microseconds |
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from redis.exceptions import NoPermissionError, RedisError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from scoreline_client.metrics import Collector
from scoreline_client.protocol.keys import Keys
from scoreline_client.protocol.totals import SECONDS
from scoreline_client.transport.dispatcher import Transport
from scoreline_client.transport.servers import blocking_redis
from scoreline_gateway.access import Right, route

if TYPE_CHECKING:
    from scoreline_gateway.app import Gateway

logger = logging.getLogger(__name__)

REPLY_S = 5.0
"""Seconds within which Redis has to reply to a scrape."""
EVERY_S = 2.0
"""Seconds between two additions to the hash; a process that is killed takes as much along."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_BOUNDS = [*map(str, SECONDS), "inf"]


class HttpMetrics:
    """What gateways have answered, by the template of the route: no path that a caller chose becomes a label."""

    def __init__(self) -> None:
        self.scraped: Counter[str] = Counter()
        """The fields that a scrape shows."""
        self._noted: dict[tuple[str, str, int, int], list[float]] = {}
        """Answers and their seconds by route, method, status and index of the bound, since the last look at `_counts`."""
        self._counts: Counter[str] = Counter()
        """What this process has not added to the hash yet."""
        self._may_add = True

    def note(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request that was answered; status 0 for callers who left before."""
        matched = scope.get("route")
        path = matched.path if matched is not None else "none"
        noted = path, scope["method"], status, bisect_left(SECONDS, seconds)
        counted = self._noted.get(noted)
        if counted is None:
            counted = self._noted[noted] = [0, 0.0]
        counted[0] += 1
        counted[1] += seconds

    def _count(self) -> None:
        """Turn the noted answers into counts."""
        noted, self._noted = self._noted, {}
        for (path, method, status, bound), (answers, seconds) in noted.items():
            label = method if method in _METHODS else "other"
            self._counts[f"requests|{path}|{label}|{status}"] += int(answers)
            self._counts[f"seconds|{path}|{_BOUNDS[bound]}"] += int(answers)
            self._counts[f"seconds|{path}|sum"] += int(seconds * 1e6)

    async def add_up(self, transport: Transport) -> Counter[str]:
        """Add what was counted to the hash; returns what all processes have counted.

        Without the right to do so, that is what this process has. Counts whose reply is lost are added once more.

        Raises:
            RedisError: the server cannot be reached; what was counted is added next time.
        """
        name = transport.keys.http
        self._count()
        if not self._may_add:
            return Counter(self._counts)
        pending, self._counts = self._counts, Counter()
        pipeline = transport.redis.pipeline(transaction=False)
        for field, number in pending.items():
            pipeline.hincrby(name, field, number)
        pipeline.hgetall(name)
        try:
            *replies, stored = await pipeline.execute(raise_on_error=False)
        except BaseException:
            self._counts += pending
            raise
        for reply, (field, number) in zip(replies, pending.items(), strict=True):
            # A field that is no number is nobody's count; an addition that is refused for another reason is repeated.
            if isinstance(reply, RedisError) and "not an integer" not in str(reply):
                self._counts[field] += number
        if isinstance(stored, NoPermissionError):
            self._may_add = False
            logger.warning(
                "http_not_counted: %s; each process counts for itself. `scoreline acl gateway` prints the rights",
                stored,
            )
            return Counter(self._counts)
        if isinstance(stored, RedisError):
            raise stored
        decoded = {field.decode(errors="replace"): number for field, number in stored.items()}
        return Counter(
            {field: int(number) for field, number in decoded.items() if number.isdigit()}
        )

    def collect(self) -> Iterator[Metric]:
        """The metrics of HTTP, from the fields of the scrape."""
        requests = CounterMetricFamily(
            "scoreline_http_requests",
            "HTTP requests answered; status 0 for callers who left before.",
            labels=["route", "method", "status"],
        )
        seconds = HistogramMetricFamily(
            "scoreline_http_request_seconds",
            "From the head of a request to the end of its answer.",
            labels=["route"],
        )
        buckets: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for field, number in self.scraped.items():
            kind, *labels = field.split("|")
            if kind == "requests" and len(labels) == 3:
                requests.add_metric(labels, number)
            elif kind == "seconds" and len(labels) == 2:
                buckets[labels[0]][labels[1]] = number
        for path, counts in buckets.items():
            counted = accumulate(counts[bound] for bound in _BOUNDS)
            bounds = [*_BOUNDS[:-1], "+Inf"]
            pairs = [(bound, float(count)) for bound, count in zip(bounds, counted, strict=True)]
            seconds.add_metric([path], pairs, counts["sum"] / 1e6)
        yield requests
        yield seconds

    def describe(self) -> Iterable[Metric]:
        """No metrics: which ones there are is only known at a scrape."""
        return ()


@asynccontextmanager
async def lifespan(gateway: Gateway) -> AsyncIterator[None]:
    """Add the counts to the hash every two seconds; the queue's metrics are only read at a scrape."""
    settings, http_metrics = gateway.settings, gateway.http_metrics
    redis = blocking_redis(
        settings.redis_url, socket_timeout=REPLY_S, socket_connect_timeout=REPLY_S
    )
    gateway.registry = CollectorRegistry()
    gateway.registry.register(Collector(lambda: redis, Keys(settings.queue)))
    gateway.registry.register(http_metrics)
    gateway.scraping = asyncio.Lock()

    is_over = asyncio.Event()

    async def add_up() -> None:
        is_last = False
        while not is_last:
            with suppress(TimeoutError):
                await asyncio.wait_for(is_over.wait(), EVERY_S)
            is_last = is_over.is_set()
            with suppress(RedisError, OSError):  # whoever asks for a prediction says why it is away
                await http_metrics.add_up(gateway.client.transport)

    adding = asyncio.create_task(add_up())
    try:
        yield
    finally:
        is_over.set()
        await asyncio.wait([adding], timeout=REPLY_S)
        adding.cancel()
        await run_in_threadpool(redis.close)


async def scrape(request: Request) -> Response:
    """All metrics, as OpenMetrics for those who accept it, else in Prometheus' own format."""
    gateway: Gateway = request.app
    http_metrics = gateway.http_metrics
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    # However many scrapes there are at a time, one thread and one connection are busy with them.
    async with gateway.scraping:
        http_metrics.scraped = Counter()
        with suppress(RedisError, OSError):  # scoreline_up says so
            http_metrics.scraped = await http_metrics.add_up(gateway.client.transport)
        body = await run_in_threadpool(encode, gateway.registry)
    return Response(body, headers={"content-type": content_type})


routes: Sequence[object] = [route("/metrics", scrape, right=Right.METRICS)]
