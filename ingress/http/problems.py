"""Responses that are no success: `{"detail": ...}`, and for a fault of ours nothing else but a request id."""

import itertools
import logging
import re
import secrets
from collections.abc import Mapping
from time import perf_counter
from typing import Final, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ingress.http.responses import Response, json_response
from ingress.http.tracing import client_trace
from ingress.metrics import count_response
from telemetry import metrics
from telemetry.ids import about
from telemetry.traces import TRACEPARENT

log = logging.getLogger(__name__)

REQUEST_ID: Final = "X-Request-Id"
_ACCEPTABLE_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}", re.ASCII)
_process: Final = secrets.token_hex(6)
_count: Final = itertools.count(1)
_DETAILS: Final = {
    404: "not found",
    405: "method not allowed",
    413: "the body is larger than 64 KB",
}
T = TypeVar("T")


class Problem(Exception):
    """A request that gets `{"detail": ...}`; `more` are fields beside the detail."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.more = more or {}

    def response(self) -> Response:
        """Return the response."""
        return json_response(self.status, {"detail": self.detail, **self.more}, self.headers)


class NothingDone(Problem):
    """A request of which nothing was done, because a part is away."""


def existing(row: T | None, name: str) -> T:
    """Return the row that a request names. Raises `Problem` 404 for None; `name` is its kind, such as `hotel`."""
    if row is None:
        raise no_such(name)
    return row


def no_such(name: str) -> Problem:
    """Return the problem of a request that names something that does not exist, or is another account's."""
    return Problem(404, f"no such {name}")


def unavailable(what: str, *, retry_after_seconds: int = 1) -> NothingDone:
    """Return the problem of a part that is away: nothing was done, and the same request may be sent again."""
    return NothingDone(
        503,
        f"{what} is away; nothing was done, try again",
        headers={"Retry-After": str(retry_after_seconds)},
    )


def unanswered(what: str, *, retry_after_seconds: int = 1) -> Problem:
    """Return the problem of a part that did not answer: the request may have arrived all the same."""
    return Problem(
        503,
        f"{what} did not answer in time; try again, with the same Idempotency-Key lest it be done twice",
        headers={"Retry-After": str(retry_after_seconds)},
    )


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every response its request id, and every failure its form."""
    began = perf_counter() if metrics.are_read else 0.0
    request_id = request.headers.get(REQUEST_ID)
    if request_id is None or not _ACCEPTABLE_REQUEST_ID.fullmatch(request_id):
        request_id = f"{_process}-{next(_count):x}"
    about(request_id=request_id)
    client_trace.set(request.headers.get(TRACEPARENT))
    try:
        response = await handler(request)
    except Problem as problem:
        response = problem.response()
    except web.HTTPException as refused:
        response = of_the_framework(refused)
    except Exception as error:  # noqa: BLE001 - it is logged and answered as our fault
        response = _our_fault(error, request, request_id)
    response.headers[REQUEST_ID] = request_id
    if metrics.are_read:
        count_response(handler, response.status, perf_counter() - began)
    return response


def of_the_framework(refused: web.HTTPException) -> Response:
    """Return the response to a request that the framework refuses."""
    detail = _DETAILS.get(refused.status, refused.reason.lower())
    allow = refused.headers.get("Allow")
    return Problem(refused.status, detail, headers={"Allow": allow} if allow else None).response()


def _our_fault(error: Exception, request: web.Request, request_id: str) -> Response:
    if _database_is_away(error):
        log.warning("%s: the database is away: %s", request_id, error.__cause__ or error)
        return unavailable("the database").response()
    log.error("%s: %s %s failed", request_id, request.method, request.path, exc_info=error)
    return Problem(500, "internal error", more={"request_id": request_id}).response()


def _database_is_away(error: Exception) -> bool:
    if isinstance(error, (OperationalError, InterfaceError, PoolTimeout)):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated
