"""Responses that are no success: `{"detail": ...}`, and for a fault of ours nothing else but a request id."""

import asyncio
import itertools
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Final, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ingress.http.deadlines import Deadline, Deadlines, was_cancelled_by
from ingress.http.responses import Response, json_response
from ingress.http.tracing import client_trace
from ingress.metrics import count_response
from storage.failures import Reason, reason_of
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
#: The state of the database for each reason, as the beginning of a sentence.
_STATES: Final[Mapping[Reason, str]] = {
    Reason.AWAY: "the database is away",
    Reason.FULL: "the database is full",
    Reason.BUSY: "all connections to the database are in use",
    Reason.LOCKED: "another change of the same rows takes long in the database",
    Reason.NO_RIGHT: "a right is missing in the database",
    Reason.READ_ONLY: "the database takes no changes now",
}
NOTHING_DONE: Final = "nothing was done, try again"
_DONE_IN_PART: Final = "it may be done in part, send the same request again"
#: Status of a request whose client did not wait for the response, as nginx counts it; it is sent to nobody.
CLIENT_GONE: Final = 499
#: Returns why the database cannot be used; None for another error. The error None: a request waited for too long.
ReasonOf = Callable[[BaseException | None], Reason | None]
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
    """A request of which nothing was done, because a part is away.

    An earlier step of the request may have been done: the client gets the problem `in_part` then.
    """

    def in_part(self) -> Problem:
        """Return the problem of a request of which an earlier step was done."""
        detail = self.detail.replace(NOTHING_DONE, _DONE_IN_PART)
        return Problem(self.status, detail, headers=self.headers, more=self.more)


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
    return _nothing_done(f"{what} is away", retry_after_seconds)


def refused(state: str) -> NothingDone:
    """Return the problem of a part that refuses its share, for the reason that `state` names: nothing was done."""
    return _nothing_done(state, 2)


def unanswered(what: str, *, retry_after_seconds: int = 1) -> Problem:
    """Return the problem of a part that did not answer: the request may have arrived all the same."""
    return Problem(
        503,
        f"{what} did not answer in time; try again, with the same Idempotency-Key lest it be done twice",
        headers={"Retry-After": str(retry_after_seconds)},
    )


def client_gone() -> NothingDone:
    """Return the problem of a request whose client has hung up: nothing is done for it any more."""
    return NothingDone(CLIENT_GONE, "the client has hung up")


def _nothing_done(state: str, retry_after_seconds: int = 1) -> NothingDone:
    return NothingDone(503, f"{state}; {NOTHING_DONE}", headers={"Retry-After": str(retry_after_seconds)})


def answer_problems_within(deadlines: Deadlines, reason_of: ReasonOf) -> Middleware:
    """Return the middleware that gives every response its request id, every failure its form, and every request a time.

    `reason_of` is that of the database which requests use.
    """

    @web.middleware
    async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = perf_counter() if metrics.are_read else 0.0
        request_id = request.headers.get(REQUEST_ID)
        if request_id is None or not _ACCEPTABLE_REQUEST_ID.fullmatch(request_id):
            request_id = f"{_process}-{next(_count):x}"
        about(request_id=request_id)
        client_trace.set(request.headers.get(TRACEPARENT))
        deadline = deadlines.begin(request)
        try:
            response = await handler(request)
        except NothingDone as problem:
            response = _answer_undone(problem, deadline)
        except Problem as problem:
            response = problem.response()
        except web.HTTPException as refused:
            response = of_the_framework(refused)
        except asyncio.CancelledError:
            if not was_cancelled_by(deadline):
                raise
            response = _too_late(deadline, reason_of, request_id)
        except Exception as error:  # noqa: BLE001 - it is logged and answered as our fault
            response = _our_fault(error, deadline, reason_of, request, request_id)
        finally:
            deadlines.end(deadline)
        response.headers[REQUEST_ID] = request_id
        if metrics.are_read:
            count_response(handler, response.status, perf_counter() - began)
        return response

    return answer_problems


#: For applications without a database.
answer_problems: Final = answer_problems_within(
    Deadlines(5.0), lambda error: None if error is None else reason_of(error)
)


def of_the_framework(refused: web.HTTPException) -> Response:
    """Return the response to a request that the framework refuses."""
    detail = _DETAILS.get(refused.status, refused.reason.lower())
    allow = refused.headers.get("Allow")
    return Problem(refused.status, detail, headers={"Allow": allow} if allow else None).response()


def _our_fault(
    error: Exception, deadline: Deadline, reason_of: ReasonOf, request: web.Request, request_id: str
) -> Response:
    reason = reason_of(error)
    if reason is None:
        log.error("%s: %s %s failed", request_id, request.method, request.path, exc_info=error)
        return Problem(500, "internal error", more={"request_id": request_id}).response()
    log.warning("%s: the database %s: %s", request_id, reason.in_words, error.__cause__ or error)
    return _without_database(reason, deadline)


def _too_late(deadline: Deadline, reason_of: ReasonOf, request_id: str) -> Response:
    """Return the response to a request whose time was over while it waited."""
    if deadline.was_sending:
        log.warning("%s: the broker did not acknowledge a command in the request's time", request_id)
        return unanswered("the broker", retry_after_seconds=2).response()
    reason = reason_of(None) or Reason.AWAY
    log.warning("%s: the database %s: it did not answer in the request's time", request_id, reason.in_words)
    return _without_database(reason, deadline)


def _without_database(reason: Reason, deadline: Deadline) -> Response:
    """Return the response to a request that the database does not serve: an accepted one stays accepted."""
    metrics.DATABASE_FAILURES.add(1, str(reason))
    if deadline.accepted is not None:
        return deadline.accepted()
    if deadline.is_committing:
        return unanswered("the database").response()
    return _answer_undone(_nothing_done(_STATES[reason]), deadline)


def _answer_undone(problem: NothingDone, deadline: Deadline) -> Response:
    """Return the response to a request whose last step was not done."""
    return (problem.in_part() if deadline.has_done else problem).response()
