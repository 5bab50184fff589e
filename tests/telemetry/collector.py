"""A collector of traces: it receives OTLP over HTTP, as any other does, and keeps the spans."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class ReceivedSpan:
    """A received span; ids are hexadecimal, `parent` is empty for the first of a trace."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: frozenset[str]
    attributes: dict[str, str] = field(hash=False)


@dataclass
class Collector:
    """The spans received so far."""

    url: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        """Keep the spans of one export."""
        exported = ExportTraceServiceRequest.FromString(await request.read())
        for process in exported.resource_spans:
            service = {item.key: item.value.string_value for item in process.resource.attributes}["service.name"]
            for scope in process.scope_spans:
                self.spans += [
                    ReceivedSpan(
                        service,
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        frozenset(link.trace_id.hex() for link in span.links),
                        {item.key: item.value.string_value for item in span.attributes},
                    )
                    for span in scope.spans
                ]
        return web.Response()


@asynccontextmanager
async def open_collector() -> AsyncIterator[Collector]:
    """Receive spans while the block runs."""
    collector = Collector()
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.url = "http://{}:{}".format(*runner.addresses[0])
        yield collector
    finally:
        await runner.cleanup()
