"""The OpenTelemetry SDK as `traces` uses it; imported only if a collector is set."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

from telemetry.traces import Attributes, Kind, traceparent_of, well_formed

_SPAN_KINDS: Final[dict[Kind, SpanKind]] = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "internal": SpanKind.INTERNAL,
}
_EXPORT_SECONDS: Final = 10


def exporting_to(endpoint: str) -> SpanProcessor:
    """Return a processor that sends spans in batches, by OTLP over HTTP, from a thread, or drops them."""
    address = f"{endpoint.rstrip('/')}/v1/traces"
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=address, timeout=_EXPORT_SECONDS))


class Tracing:
    """Begins and ends spans of one process."""

    def __init__(self, processor: SpanProcessor, ratio: float, part: str, name: str) -> None:
        resource = Resource.create({"service.name": f"innkeeper-{part}", "service.instance.id": name})
        self.provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(ratio)))
        self.provider.add_span_processor(processor)
        self._tracer = self.provider.get_tracer("innkeeper")

    def current(self) -> str | None:
        """Return the `traceparent` of the span that we are in."""
        span = trace.get_current_span()
        return traceparent_of(span) if span.get_span_context().is_valid else None

    @contextmanager
    def inside(self, name: str, kind: Kind, parent: str | None, attributes: Attributes) -> Iterator[Span]:
        """Trace the block."""
        # A span without a parent belongs to the span that we are in, if there is one.
        with self._tracer.start_as_current_span(
            name, context=_context(parent), kind=_SPAN_KINDS[kind], attributes=dict(attributes)
        ) as span:
            yield span

    def begin(self, name: str, parent: str, attributes: Attributes) -> Span:
        """Begin a span that `end_together` ends."""
        return self._tracer.start_span(
            name, context=_context(parent), kind=SpanKind.CONSUMER, attributes=dict(attributes)
        )

    def end_together(self, name: str, began_ns: int, spans: Sequence[Span]) -> None:
        """End spans, and record the work that they had in common as one span."""
        links = [Link(span.get_span_context()) for span in spans]
        common = self._tracer.start_span(name, context=Context(), links=links, start_time=began_ns)
        for span in spans:
            span.add_link(common.get_span_context())
            span.end()
        common.end()


def _context(parent: str | None) -> Context | None:
    """Return a `traceparent` as a context; None (the present context) for none, and for one that is not well formed."""
    if well_formed(parent) is None or parent is None:
        return None
    _, trace_id, span_id, flags = parent.split("-")
    remote = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return trace.set_span_in_context(NonRecordingSpan(remote), Context())
