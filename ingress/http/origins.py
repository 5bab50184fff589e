"""Cross-origin requests: pages of the named origins may send requests from a browser, with their cookies."""

from collections.abc import Collection
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ingress.http.responses import Response

_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE"
_SENT: Final = "Authorization, Content-Type, Idempotency-Key, If-Match, Prefer, X-Request-Id, traceparent"
_READ: Final = (
    "Content-Disposition, Deprecation, ETag, Link, Location, Preference-Applied, "
    "RateLimit, RateLimit-Policy, Retry-After, Sunset, X-Request-Id"
)
_KEEP_SECONDS: Final = 600


def allow_origins(origins: Collection[str]) -> Middleware:
    """Return the middleware that lets pages of these origins in; responses to other pages have no CORS headers."""

    @web.middleware
    async def allow(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin", "")
        if origin not in origins:
            response = await handler(request)
            response.headers.add("Vary", "Origin")
            return response
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response = _preflight()
        else:
            response = await handler(request)
            response.headers["Access-Control-Expose-Headers"] = _READ
        response.headers.add("Vary", "Origin")
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
        return response

    return allow


def _preflight() -> Response:
    headers = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": _SENT,
        "Access-Control-Max-Age": str(_KEEP_SECONDS),
    }
    return Response(204, None, headers)
