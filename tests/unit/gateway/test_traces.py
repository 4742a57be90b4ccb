"""Traces from an HTTP request to the batch that answers it, in memory."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from scoreline_client import AsyncClient, Client, ClientSettings
from scoreline_client.errors import MissingDependency
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import MOST_FIELD_BYTES, Request
from scoreline_client.testing import FakeScoreline
from scoreline_client.tracing import MOST_CALLERS, Tracing, joined
from scoreline_gateway import GatewaySettings, build_app
from scoreline_gateway.app import Gateway
from tests.support.asgi import call
from tests.support.http_models import PIMA_ROW, serve_models
from tests.support.worker import entry_fields
from tests.unit.gateway.v2.test_inference import columns

TRACED = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
UNSAMPLED = TRACED[:-1] + "0"
ASKED = {"dataframe_records": [PIMA_ROW]}
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture(scope="module")
def traced_scoreline() -> Iterator[FakeScoreline]:
    with FakeScoreline() as fake:
        fake.settings = ClientSettings(traces=1)
        worker: Any = fake._worker
        worker._drain._batcher._tracing = Tracing.of(fake.settings)
        serve_models(fake)
        yield fake


@pytest.fixture
async def traced(
    traced_scoreline: FakeScoreline, exporter: InMemorySpanExporter
) -> AsyncIterator[Gateway]:
    exporter.clear()
    app = build_app(GatewaySettings(traces=1), connect=lambda _: traced_scoreline.async_client())
    async with app.running():
        yield app


def _by_name(exporter: InMemorySpanExporter) -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


async def test_a_request_is_traced_from_http_to_its_batch_and_back(
    traced: Gateway, exporter: InMemorySpanExporter
) -> None:
    headers = {**JSON, "traceparent": TRACED}
    await asyncio.gather(
        *(
            call(traced, "POST", "/models/pima/invocations", ASKED, headers=headers)
            for _ in range(2)
        ),
        call(
            traced,
            "POST",
            "/models/pima/invocations",
            ASKED,
            headers={**JSON, "traceparent": UNSAMPLED},
        ),
    )
    spans = _by_name(exporter)
    served = spans["POST /models/{model}/invocations"]
    sent, (batch,) = spans["send scoreline.online"], spans["process scoreline.online"]
    contexts = {span.get_span_context().span_id for span in sent}
    assert {span.parent.span_id for span in served if span.parent} == {0xBBBBBBBBBBBBBBBB}
    assert {span.parent.span_id for span in sent if span.parent} == {
        span.get_span_context().span_id for span in served
    }
    assert batch.parent is None
    assert {link.context.span_id for link in batch.links} == contexts
    assert len(contexts) == 2  # the third caller is not sampled
    assert batch.attributes is not None
    assert (batch.attributes["model"], batch.attributes["version"]) == ("pima", 3)
    assert {(span.attributes or {})["http.response.status_code"] for span in served} == {200}


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/models/pima:predict", PIMA_ROW), ("/v2/models/pima/infer", {"inputs": columns()})],
)
async def test_one_record_is_traced_by_each_way_in(
    traced: Gateway, exporter: InMemorySpanExporter, path: str, body: Any
) -> None:
    headers = {**JSON, "traceparent": TRACED}
    assert (await call(traced, "POST", path, body, headers=headers)).status == 200
    (sent,) = _by_name(exporter)["send scoreline.online"]
    assert sent.get_span_context().trace_id == int(TRACED.split("-")[1], 16)


def test_threads_are_traced_too(
    traced_scoreline: FakeScoreline, exporter: InMemorySpanExporter
) -> None:
    exporter.clear()
    parent = trace.SpanContext(0xA, 0xB, is_remote=True, trace_flags=trace.TraceFlags(1))
    client: Client = traced_scoreline.client()
    with (
        trace.use_span(trace.NonRecordingSpan(parent)),
        pytest.raises(Exception, match=r"preg|plas"),
    ):
        client.predict("pima", {})
    (sent,) = _by_name(exporter)["send scoreline.online"]
    assert sent.get_span_context().trace_id == 0xA
    assert not sent.status.is_ok


async def test_nothing_travels_for_callers_who_are_not_sampled(
    traced_scoreline: FakeScoreline, exporter: InMemorySpanExporter
) -> None:
    exporter.clear()
    unsampled = trace.SpanContext(0xA, 0xB, is_remote=True, trace_flags=trace.TraceFlags(0))
    async with traced_scoreline.async_client() as client:
        with trace.use_span(trace.NonRecordingSpan(unsampled)):
            await client.predict_many("pima", [{}])
    assert exporter.get_finished_spans() == ()


def test_what_travels_is_read_by_workers_that_know_nothing_of_it() -> None:
    request = Request(
        id="f" * 32,
        model="m" * 64 + "@candidate",
        reply_to="f" * 32,
        body=b"[{}]",
        expires_ms=10**9,
        apart=True,
        callers=64,
        job="f" * 32,
        trace=joined([TRACED] * 64),
    )
    fields = entry_fields(request)
    assert fields[b"trace"].count(b",") == MOST_CALLERS - 1
    assert sum(map(len, fields.values())) < MOST_FIELD_BYTES
    assert Request.decode(fields) == request


@pytest.mark.parametrize(
    "field", [b"x", b"00-1-2-3", TRACED.encode()[:-2] + b"zz", b"\xff" * 55, b",,"]
)
def test_contexts_that_are_none_are_passed_over(
    exporter: InMemorySpanExporter, field: bytes
) -> None:
    exporter.clear()
    with Tracing("default").processing(Lane.ONLINE, [field]):
        pass
    assert exporter.get_finished_spans() == ()


def test_without_the_api_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert Tracing.of(ClientSettings()) is None
    with pytest.raises(MissingDependency, match="opentelemetry-api"):
        AsyncClient(settings=ClientSettings(traces=1))
