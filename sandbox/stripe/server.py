"""The stand-in's HTTP server: keys, idempotency, faults and answers around the endpoints."""

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import BasicAuth, hdrs, web

from sandbox.stripe import api, control, dashboard, page
from sandbox.stripe.books import Books, Json, SavedAnswer
from sandbox.stripe.clock import Clock
from sandbox.stripe.faults import REQUEST_FAULTS, Fault, Rule
from sandbox.stripe.forms import decode_form, typed_params
from sandbox.stripe.refused import Refused
from sandbox.stripe.till import API_VERSION, Cause, Settings, Till, new_id
from sandbox.stripe.timers import keep_time, run_due, wait
from sandbox.stripe.webhooks import deliver_webhooks

log = logging.getLogger(__name__)

_KEYS_LIVE_SECONDS = 24 * 60 * 60
_MAX_KEY = 255
_SHUTDOWN_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Running:
    """A stand-in that is serving."""

    url: str
    till: Till

    @property
    def clock(self) -> Clock:
        """The stand-in's clock, to let time pass."""
        return self.till.clock


@asynccontextmanager
async def running_stripe(
    folder: Path,
    settings: Settings | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    clock: Clock | None = None,
) -> AsyncIterator[Running]:
    """Serve the stand-in from this process; `folder` holds its books, port 0 takes a free one."""
    listening = socket.create_server((host, port))
    till = Till(books=Books(folder), settings=settings or Settings(), clock=clock or Clock())
    url = f"http://{host}:{listening.getsockname()[1]}"
    till.url = till.settings.public_url or url
    runner = web.AppRunner(application(till), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    try:
        await runner.setup()
        await web.SockSite(runner, listening).start()
        yield Running(url=url, till=till)
    finally:
        await runner.cleanup()
        listening.close()
        till.books.close()


def application(till: Till) -> web.Application:
    """Make the aiohttp application around an open till, with its two background workers."""
    app = web.Application()
    server = _Server(till)
    for endpoint in api.ENDPOINTS:
        app.router.add_route(endpoint.method, endpoint.path, server.handler(endpoint))
    app.router.add_route("*", "/v1/{rest:.*}", server.handler(None))
    control.add_routes(app, till)
    dashboard.add_routes(app, till)
    page.add_routes(app, till)
    app.on_shutdown.append(server.stop)
    app.cleanup_ctx.append(_in_background(keep_time, till))
    app.cleanup_ctx.append(_in_background(deliver_webhooks, till))
    return app


def _in_background(
    work: Callable[[Till], Coroutine[Any, Any, None]], till: Till
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def context(_: web.Application) -> AsyncIterator[None]:
        async def run() -> None:
            try:
                await work(till)
            except Exception:
                till.stopped.set()
                log.exception("%s ended by a bug", work.__name__)
                raise

        task = asyncio.create_task(run())
        yield
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    return context


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A request as it came in."""

    line: str
    object_id: str
    form: Any
    cause: Cause
    key: str | None

    @property
    def fingerprint(self) -> str:
        """Return the value by which requests under the same idempotency key are compared."""
        return json.dumps([self.line, self.form], sort_keys=True)


class _Server:
    def __init__(self, till: Till) -> None:
        self._till = till
        self._keys_in_use: set[str] = set()
        self._stopping = asyncio.Event()

    def handler(self, endpoint: api.Endpoint | None) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._handle(endpoint, request)

        return handle

    async def stop(self, _: web.Application) -> None:
        """Let go the requests that hang."""
        self._stopping.set()

    async def _handle(self, endpoint: api.Endpoint | None, request: web.Request) -> web.StreamResponse:
        run_due(self._till)
        request_id = new_id("req_", 14)
        faults = self._till.faults.strike(f"{request.method} {request.path}", REQUEST_FAULTS)
        if Fault.HANG in faults:
            await self._stopping.wait()
            return _connection_lost(request)
        if Fault.RESET in faults:
            return _connection_lost(request)
        try:
            answer = await self._answer(endpoint, request, request_id, faults)
        except Refused as refused:
            answer = _refusal(refused)
        if Fault.ANSWER_LOST in faults:
            return _connection_lost(request)
        response = _response(request, request_id, answer)
        return await _cut(request, response) if Fault.ANSWER_CUT in faults else response

    async def _answer(
        self,
        endpoint: api.Endpoint | None,
        request: web.Request,
        request_id: str,
        faults: dict[Fault, Rule],
    ) -> _Answer:
        _check_key(request, self._till.settings)
        if endpoint is None:
            raise Refused(f"Unrecognized request URL ({request.method}: {request.path}).", status=404)
        asked = await _asked(request, request_id)
        with self._key_taken(asked.key):
            if Fault.LATENCY in faults:
                await wait(self._till.faults.cleared, faults[Fault.LATENCY].seconds)
                run_due(self._till)
            return self._once(endpoint, asked, faults.get(Fault.STATUS))

    @contextmanager
    def _key_taken(self, key: str | None) -> Iterator[None]:
        """Refuse a second request while the first with its idempotency key is worked upon."""
        if key is None:
            yield
            return
        if key in self._keys_in_use:
            raise Refused(
                "Another request with this Idempotency-Key is in progress.",
                status=409,
                kind="idempotency_error",
                code="idempotency_key_in_use",
                saved=False,
            )
        self._keys_in_use.add(key)
        try:
            yield
        finally:
            self._keys_in_use.discard(key)

    def _once(self, endpoint: api.Endpoint, asked: _Asked, broken: Rule | None) -> _Answer:
        """Do a request's work and save its answer with it, or replay the answer saved before."""
        till = self._till
        with till.books.transaction():
            if asked.key is not None:
                not_before = till.clock.now() - _KEYS_LIVE_SECONDS
                saved = till.books.saved_answer(asked.key, not_before)
                if saved is not None:
                    return _replay(asked, saved)
            answer = self._work(endpoint, asked, broken)
            if asked.key is not None:
                till.books.save_answer(
                    asked.key,
                    SavedAnswer(
                        request=asked.fingerprint,
                        request_id=asked.cause.request_id or "",
                        status=answer.status,
                        body=answer.body,
                    ),
                    till.clock.now(),
                )
            return answer

    def _work(self, endpoint: api.Endpoint, asked: _Asked, broken: Rule | None) -> _Answer:
        """Give the endpoint's answer; raises a refusal that must not be saved."""
        try:
            if broken is not None:
                raise _broken(broken)
            call = api.Call(
                params=typed_params(asked.form, endpoint.params),
                object_id=asked.object_id,
                cause=asked.cause,
            )
            return _Answer(status=200, body=_dumps(api.answer(self._till, endpoint, call)))
        except Refused as refused:
            if not refused.saved:
                raise
            return _refusal(refused)


def _check_key(request: web.Request, settings: Settings) -> None:
    """Take the API key as a bearer token or as the user name of basic authentication."""
    given = request.headers.get(hdrs.AUTHORIZATION, "")
    scheme, _, key = given.partition(" ")
    if scheme.lower() == "basic":
        try:
            key = BasicAuth.decode(given).login
        except ValueError:
            key = ""
    if not key:
        raise Refused("You did not provide an API key.", status=401, saved=False)
    takes = key == settings.key if settings.key else key.startswith(("sk_test_", "rk_test_"))
    if not takes:
        raise Refused(f"Invalid API Key provided: {key[:8]}...", status=401, saved=False)


async def _asked(request: web.Request, request_id: str) -> _Asked:
    try:
        text = (await request.read()).decode() if request.method == "POST" else ""
    except UnicodeDecodeError:
        raise Refused("The request body is not UTF-8.", saved=False) from None
    pairs = parse_qsl(text or request.query_string, keep_blank_values=True)
    key = request.headers.get("Idempotency-Key") if request.method == "POST" else None
    if key is not None and len(key) > _MAX_KEY:
        raise Refused(
            f"An idempotency key has at most {_MAX_KEY} characters.",
            kind="idempotency_error",
            saved=False,
        )
    return _Asked(
        line=f"{request.method} {request.path}",
        object_id=request.match_info.get("id", ""),
        form=decode_form(pairs),
        cause=Cause(request_id=request_id, idempotency_key=key),
        key=key,
    )


def _replay(asked: _Asked, saved: SavedAnswer) -> _Answer:
    if saved.request != asked.fingerprint:
        raise Refused(
            f"Keys for idempotent requests can only be used with the same parameters and endpoint"
            f" they were first used with. Use another key than '{asked.key}' for another request.",
            kind="idempotency_error",
            saved=False,
        )
    headers = {"Idempotent-Replayed": "true", "Original-Request": saved.request_id}
    return _Answer(status=saved.status, body=saved.body, headers=headers)


def _broken(rule: Rule) -> Refused:
    too_many_requests = 429
    limited = rule.status == too_many_requests
    return Refused(
        "Request rate limit exceeded." if limited else "An unknown error occurred.",
        status=rule.status,
        kind="invalid_request_error" if limited else "api_error",
        code="rate_limit" if limited else None,
        saved=rule.remembered,
    )


def _refusal(refused: Refused) -> _Answer:
    return _Answer(status=refused.status, body=_dumps(refused.body()))


def _dumps(body: Json) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False)


def _response(request: web.Request, request_id: str, answer: _Answer) -> web.Response:
    headers = {
        "Request-Id": request_id,
        "Stripe-Version": request.headers.get("Stripe-Version", API_VERSION),
        **answer.headers,
    }
    if key := request.headers.get("Idempotency-Key"):
        headers["Idempotency-Key"] = key
    return web.Response(status=answer.status, text=answer.body, content_type="application/json", headers=headers)


async def _cut(request: web.Request, whole: web.Response) -> web.StreamResponse:
    """Send the head and half of the body of an answer, and end the connection."""
    body = whole.body
    if not isinstance(body, bytes):
        raise TypeError("the answers of this server are bytes")
    cut = web.StreamResponse(status=whole.status, headers=whole.headers)
    cut.content_length = len(body)
    await cut.prepare(request)
    await cut.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return cut


def _connection_lost(request: web.Request) -> web.Response:
    """Reset the connection, so that the client learns nothing of what was done."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        # Lingering for zero seconds makes the kernel send a reset in place of an orderly end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=500)
