"""Traces with OpenTelemetry, where SCORELINE_TRACES=1 asks for them: from a caller to the batch that answers it.

A batch has many callers, so its span has links to theirs and no parent. Their contexts travel in the entry's field
`trace`, as W3C `traceparent` with commas between, those that are sampled and no others. Only the API of OpenTelemetry
is used; who wants to see traces brings the SDK and an exporter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from scoreline_client.errors import MissingDependency
from scoreline_client.settings import ClientSettings

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_UNTRACED = nullcontext("")
MOST_CALLERS = 8
"""Callers of a shared request whose contexts travel: an entry's fields beside its body are limited."""


class Tracing:
    """Makes the spans of a process."""

    def __init__(self, queue: str) -> None:
        """Use the tracer provider of the program, which may be set later.

        Raises:
            MissingDependency: opentelemetry-api is not installed.
        """
        try:
            from opentelemetry import propagate, trace
        except ImportError as error:
            raise MissingDependency("SCORELINE_TRACES=1", "opentelemetry-api", "otel") from error
        self._trace = trace
        self._propagate = propagate
        self._queue = queue
        self._tracer = trace.get_tracer("scoreline")

    @classmethod
    def of(cls, settings: ClientSettings) -> Tracing | None:
        """As the settings say; None where nothing is traced."""
        return cls(settings.queue) if settings.traces else None

    @contextmanager
    def sending(self, lane: str, model: str) -> Iterator[str]:
        """A span of the caller, from the request to its answer; gives what travels, "" if it is not sampled."""
        name, attributes = self._name_and_attributes("send", lane)
        with self._tracer.start_as_current_span(
            name, kind=self._trace.SpanKind.PRODUCER, attributes={**attributes, "model": model}
        ) as span:
            context = span.get_span_context()
            is_sampled = context.is_valid and context.trace_flags.sampled
            yield f"00-{context.trace_id:032x}-{context.span_id:016x}-01" if is_sampled else ""

    @contextmanager
    def processing(
        self, lane: str, traces: Iterable[bytes], **attributes: str | int
    ) -> Iterator[None]:
        """A span of a batch with links to the callers of its entries, if any of them is sampled."""
        parents = [parent for field in traces if field for parent in field.split(b",")]
        contexts = map(self._context, parents)
        links = [self._trace.Link(context) for context in contexts if context is not None]
        if not links:
            yield
            return
        name, common = self._name_and_attributes("process", lane)
        with self._tracer.start_as_current_span(
            name,
            context=self._trace.set_span_in_context(self._trace.INVALID_SPAN),
            kind=self._trace.SpanKind.CONSUMER,
            links=links,
            attributes={**common, **attributes},
        ):
            yield

    @contextmanager
    def serving(self, method: str, headers: Mapping[str, str]) -> Iterator[Span]:
        """A span of an HTTP request, whose parent is what its headers name."""
        with self._tracer.start_as_current_span(
            method,
            context=self._propagate.extract(headers),
            kind=self._trace.SpanKind.SERVER,
            attributes={"http.request.method": method},
        ) as span:
            yield span

    def _name_and_attributes(self, operation: str, lane: str) -> tuple[str, dict[str, Any]]:
        destination = f"scoreline.{lane}"
        return f"{operation} {destination}", {
            "messaging.system": "redis",
            "messaging.operation.name": operation,
            "messaging.operation.type": operation,
            "messaging.destination.name": destination,
            "scoreline.queue": self._queue,
        }

    def _context(self, traceparent: bytes) -> Any:
        """The context that a caller has sent; None if it is none: anybody may have written it."""
        version, *numbers = traceparent.decode(errors="replace").split("-")
        if version != "00" or [len(number) for number in numbers] != [32, 16, 2]:
            return None
        try:
            trace_id, span_id, flags = (int(number, 16) for number in numbers)
        except ValueError:
            return None
        context = self._trace.SpanContext(
            trace_id, span_id, is_remote=True, trace_flags=self._trace.TraceFlags(flags)
        )
        return context if context.is_valid else None


def traced(tracing: Tracing | None, lane: str, model: str) -> AbstractContextManager[str]:
    """A span around a request, which gives what travels with it; "" where nothing is traced."""
    return _UNTRACED if tracing is None else tracing.sending(lane, model)


def joined(traces: Sequence[str]) -> str:
    """The contexts of callers who share a request, as they travel."""
    return ",".join(traces[:MOST_CALLERS])
