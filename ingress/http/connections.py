"""The server's end of connections, for clients that are slow, silent, or speak no HTTP.

A connection on which no whole request arrives is closed, whether its client sends nothing or a byte a second. Bytes
that are no HTTP are answered in the form of every other mistake.
"""

import socket
import sys
from asyncio import BaseTransport
from collections.abc import Coroutine
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from typing_extensions import override

from ingress.http.problems import Problem, of_the_framework

#: How long a connection may be without the head of a next request. Proxies keep theirs for a shorter time (60 s is
#: usual), so that none of them sends on a connection that is just being closed.
IDLE_SECONDS: Final = 75.0
#: How long the rest of a refused body is read and thrown away, so that closing does not overtake the refusal.
LINGERING_SECONDS: Final = 2.0
#: How long a client may read nothing at all of a response.
UNREAD_SECONDS: Final = 30.0


class Runner(web.AppRunner):
    """Runs the application on connections of our kind; a body is not decompressed: packed JSON is no JSON."""

    def __init__(self, app: web.Application, *, drain_seconds: float, idle_seconds: float = IDLE_SECONDS) -> None:
        """Give requests `drain_seconds` to be answered when the server stops."""
        super().__init__(
            app,
            access_log=None,
            shutdown_timeout=drain_seconds,
            keepalive_timeout=idle_seconds,
            lingering_time=LINGERING_SECONDS,
            auto_decompress=False,
        )

    @override
    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        return _Server(server.request_handler, request_factory=server.request_factory, **self._kwargs)


class _Server(web.Server):
    @override
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ()

    @override
    def resume_reading(self, resume_parser: bool = True) -> None:
        """Do nothing when reading was not paused: every read of a body calls this, and most bodies are small."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    @override
    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        # Other kernels have no such clock.
        if sys.platform == "linux" and connection.family in {socket.AF_INET, socket.AF_INET6}:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(UNREAD_SECONDS * 1000))

    @override
    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Give our form also to refusals before any middleware, such as that of an unknown `Expect`."""
        ours = of_the_framework(resp) if isinstance(resp, web.HTTPException) else resp
        return super().finish_response(request, ours, start_time)

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that are no request. They are not logged, because anybody can send them."""
        if status == 400:
            long = isinstance(exc, LineTooLong)
            return Problem(400, "a line of the head is too long" if long else "this is not HTTP").response()
        super().handle_error(request, status, exc, message)
        return Problem(status, "internal error").response()
