"""The trace that a request belongs to: its own span where traces are collected, else the one that its client names."""

from contextvars import ContextVar
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from telemetry import traces

#: The `traceparent` header of the request at hand, unchecked; set for every request, for its task and the task's own.
client_trace: Final[ContextVar[str | None]] = ContextVar("client_trace", default=None)


def traceparent() -> str | None:
    """Return the `traceparent` of the request at hand: that of our own span, or else the client's; None without one."""
    return traces.current() or traces.well_formed(client_trace.get())


@web.middleware
async def trace_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Trace a request by its method and the pattern of its path; the ids in the path are not recorded."""
    resource = request.match_info.route.resource
    route = "none" if resource is None else resource.canonical
    attributes = {"http.request.method": request.method, "http.route": route}
    parent = traces.well_formed(request.headers.get(traces.TRACEPARENT))
    with traces.span(f"{request.method} {route}", kind="server", parent=parent, attributes=attributes) as span:
        response = await handler(request)
        if span is not None:
            span.set_attribute("http.response.status_code", response.status)
        return response
