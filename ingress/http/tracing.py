"""The first span of a booking's way: a request, as a part of the trace that its client names, if it names one."""

from aiohttp import web
from aiohttp.typedefs import Handler

from telemetry import traces


@web.middleware
async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Trace a request by its method and the pattern of its path; what stands in it is told to nobody."""
    resource = request.match_info.route.resource
    route = "none" if resource is None else resource.canonical
    attributes = {"http.request.method": request.method, "http.route": route}
    parent = traces.well_formed(request.headers.get(traces.TRACEPARENT))
    with traces.span(f"{request.method} {route}", kind="server", parent=parent, attributes=attributes) as span:
        response = await handler(request)
        if span is not None:
            span.set_attribute("http.response.status_code", response.status)
        return response
