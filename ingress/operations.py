"""A row of the table of operations: method and path, allowed callers, input, responses, and an example.

The rows are the methods with `@operation(...)` in each area's `handlers.py`; `application.py` collects them. Routes,
checks, the OpenAPI document and the tests that go through all operations are made from the rows. Every operation is
served under each mount: `/v1`, `/v2`, and without a version for older clients; responses to those name the successor's
address.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import Enum
from functools import cached_property
from typing import Any, Final, Generic, Protocol, TypeVar, get_args, get_type_hints
from uuid import UUID

import msgspec
from aiohttp import web
from pydantic import TypeAdapter

from ingress.http.actors import act_for
from ingress.http.bodies import decode, decode_query, must_be_json, read
from ingress.http.models import MAX_ID, NoBody, NoQuery, RequestHeader
from ingress.http.old_statuses import old_statuses
from ingress.http.preferences import seconds_to_wait
from ingress.http.problems import Problem, no_such
from ingress.tokens import Caller, Tokens
from storage.accounts import MANAGER, OPERATOR

BodyType = TypeVar("BodyType")
QueryType = TypeVar("QueryType")
Method = TypeVar("Method", bound=Callable[..., Awaitable[web.StreamResponse]])

_PLACEHOLDER_PATTERNS: Final = {
    "booking_id": "[0-9a-fA-F-]{36}",
    "trip_id": "[0-9a-fA-F-]{36}",
    "hotel_id": "[0-9]{1,19}",
    "room_id": "[0-9]{1,19}",
    "guest_id": "[0-9]{1,19}",
    "block_id": "[0-9a-fA-F-]{36}",
    "change_id": "[0-9a-fA-F-]{36}",
    "document_id": "[0-9a-fA-F-]{36}",
    "plan_id": "[a-z0-9][a-z0-9_-]{0,39}",
    "code": "[A-Za-z0-9][A-Za-z0-9_-]{0,39}",
}
#: Ids that are UUIDs, with the kinds of the things that they name, and ids that are texts; all others are numbers.
_UUIDS: Final = {
    "booking_id": "booking",
    "trip_id": "trip",
    "block_id": "block",
    "change_id": "change",
    "document_id": "document",
}
_TEXTS: Final = frozenset({"plan_id", "code"})


class Access(Enum):
    """The callers that an operation allows. Every query names its caller too: the rows of others do not exist."""

    ANYBODY = "anybody"
    USER = "logged-in users"
    MANAGER = "hotel managers"
    OPERATOR = "operators"
    SIGNED = "signed requests"

    @property
    def is_open(self) -> bool:
        """Whether it takes no access token."""
        return self in (Access.ANYBODY, Access.SIGNED)

    @property
    def role(self) -> str | None:
        """The role that the caller must have; None: any account will do, or none is needed."""
        return {Access.MANAGER: MANAGER, Access.OPERATOR: OPERATOR}.get(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """A prefix under which all operations are served. `links` is the prefix of the addresses in its responses.

    `wait_seconds`: how long a command waits for its decision when the request has no preference. `replaced` serves
    another operation in the place of the one with this id: the differences of a version of the interface.
    `unversioned`: the mount keeps what clients of the interface without versions expect. `public_prefix` is the path in
    front of `prefix` that a proxy takes away; addresses in responses begin with it.
    """

    prefix: str
    links: str
    wait_seconds: int = 0
    deprecated: bool = False
    unversioned: bool = False
    replaced: Mapping[str, "Operation"] = field(default_factory=dict)
    public_prefix: str = ""

    def behind(self, public_prefix: str) -> "Mount":
        """Return this mount as clients reach it through a proxy that takes `public_prefix` away."""
        return replace(self, links=public_prefix + self.links, public_prefix=public_prefix)


V1: Final = Mount(prefix="/v1", links="/v1")
V2: Final = Mount(prefix="/v2", links="/v2")
UNVERSIONED: Final = Mount(prefix="", links="/v1", wait_seconds=10, deprecated=True, unversioned=True)
#: The mount of operations without versions, such as webhooks and health checks: their bare paths alone.
SERVICE: Final = Mount(prefix="", links="")
MOUNTS: Final = (V1, V2, UNVERSIONED)

_DEPRECATED_SINCE: Final = datetime(2026, 11, 22, tzinfo=UTC)
_SUNSET: Final = datetime(2027, 5, 22, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One request that is answered with `status`. Readers replace its ids and dates with their own."""

    status: int = 200
    path: Mapping[str, object] = field(default_factory=dict)
    query: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """The response with one status: the model of its body, and the rest of its documentation."""

    model: Any = None
    description: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    other_media: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unversioned:
    """How an operation differs on the mount without a version.

    `statuses` gives the status that is answered there instead of another. `by` is the id of the operation of the same
    area that is served in this one's place.
    """

    statuses: Mapping[int, int] = field(default_factory=dict)
    by: str | None = None


class RequestContext(Generic[BodyType, QueryType]):
    """One request of an operation, checked and decoded."""

    __slots__ = ("_caller", "body", "mount", "path", "query", "request")

    def __init__(
        self,
        request: web.Request,
        *,
        mount: Mount,
        caller: Caller | None,
        path: Mapping[str, Any],
        query: QueryType,
        body: BodyType,
    ) -> None:
        self.request = request
        self.mount = mount
        self._caller = caller
        self.path = path
        self.query = query
        self.body = body

    @property
    def caller(self) -> Caller:
        """The account that sent the request; every operation but the open ones has one."""
        assert self._caller is not None
        return self._caller

    @property
    def wait_seconds(self) -> int:
        """How many seconds the request waits for a decision, 0 when it does not wait."""
        preferred = seconds_to_wait(self.request)
        return self.mount.wait_seconds if preferred is None else preferred

    def link(self, path: str) -> str:
        """Return the address of a path under this request's mount, as clients reach it."""
        return self.mount.links + path

    def address_with(self, **query: str | int) -> str:
        """Return this request's own address with other query parameters, as clients reach it."""
        return f"{self.mount.public_prefix}{self.request.rel_url.update_query(query)}"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One row of the table. `call` takes the area's object and the request's context."""

    id: str
    method: str
    path: str
    access: Access
    tag: str
    summary: str
    description: str
    responses: Mapping[int, ResponseSpec]
    example: Example
    limited: bool
    service: bool
    raw_body: bool
    body: Any
    quick: msgspec.json.Decoder[Any] | None
    query: Any
    headers: Sequence[RequestHeader]
    links: Mapping[str, Mapping[str, str]]
    unversioned: Unversioned
    call: Callable[[Any, Any], Awaitable[web.StreamResponse]]

    @cached_property
    def placeholders(self) -> tuple[str, ...]:
        """The names in the path."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))

    @cached_property
    def reads_body(self) -> bool:
        """Whether the body of requests is read at all."""
        return self.method not in ("GET", "HEAD", "DELETE")

    @cached_property
    def takes_body(self) -> bool:
        """Whether requests have a body, which must be JSON."""
        return not self.raw_body and self.body is not NoBody

    def route(self, mount: Mount) -> str:
        """Return the path as aiohttp's router wants it."""
        path = mount.prefix + self.path
        for name in self.placeholders:
            path = path.replace(f"{{{name}}}", f"{{{name}:{_PLACEHOLDER_PATTERNS[name]}}}")
        return path

    def mounts(self) -> Sequence[Mount]:
        """Return the mounts that serve it."""
        return (SERVICE,) if self.service else MOUNTS


def operation(
    route: str,
    *,
    access: Access,
    summary: str,
    responses: Mapping[int, Any],
    example: Example,
    limited: bool = True,
    service: bool = False,
    raw_body: bool = False,
    quick: msgspec.json.Decoder[Any] | None = None,
    headers: Sequence[RequestHeader] = (),
    links: Mapping[str, Mapping[str, str]] | None = None,
    unversioned: Unversioned = Unversioned(),
) -> Callable[[Method], Method]:
    """Make a method an operation. Its one argument declares its input with `RequestContext[Body, Query]`.

    Args:
        route: method and path, such as `GET /hotels/{hotel_id}/info`.
        access: the callers that may use it.
        summary: one line for the documentation.
        responses: by status, models (None: no body, `list[...]`: a bare array) or specs, without the common failures.
        example: a request for the documentation and the tests.
        limited: whether requests count against the rate limits.
        service: whether it has no version.
        raw_body: whether the method reads the body itself.
        quick: decodes the most frequent bodies to an object with the model's fields; the model decodes the rest.
        headers: the headers and cookies that the method reads.
        links: the ids of operations that can follow, with the runtime expressions of OpenAPI for their path and body.
        unversioned: how it differs on the mount without a version.
    """
    method, _, path = route.partition(" ")

    def decorate(function: Method) -> Method:
        body, query = _body_and_query(function)
        row = Operation(
            id=function.__name__,
            method=method,
            path=path,
            access=access,
            tag=path.split("/")[1],
            summary=summary,
            description=(function.__doc__ or "").strip(),
            responses={status: _spec(given) for status, given in responses.items()},
            example=example,
            limited=limited,
            service=service,
            raw_body=raw_body,
            body=body,
            quick=quick,
            query=query,
            headers=headers,
            links=links or {},
            unversioned=unversioned,
            call=function,
        )
        function.__operation__ = row  # type: ignore[attr-defined]
        return function

    return decorate


def _body_and_query(function: Any) -> tuple[Any, Any]:
    context = get_type_hints(function)["context"]
    body, query = get_args(context)
    return body, query


def _spec(given: Any) -> ResponseSpec:
    return given if isinstance(given, ResponseSpec) else ResponseSpec(model=given)


class Limits(Protocol):
    """Counts requests."""

    async def check(self, request: web.Request, caller: Caller | None) -> Mapping[str, str]:
        """Count a request; return the headers with the number of requests that are left. Raises `Problem` 429."""
        ...


def operations_of(area: object) -> Iterator[tuple[object, Operation]]:
    """Yield an area's operations, each with the area, in the order of its source."""
    for name in vars(type(area)):
        row = getattr(getattr(type(area), name), "__operation__", None)
        if isinstance(row, Operation):
            yield area, row


def routes_of(
    areas: Sequence[object], tokens: Tokens, limits: Limits | None, public_prefix: str = ""
) -> Iterator[web.RouteDef]:
    """Yield the routes of all operations under all mounts; `limits` None counts nothing."""
    for area in areas:
        rows = {row.id: row for _, row in operations_of(area)}
        for row in rows.values():
            for mount in row.mounts():
                served = mount.replaced.get(row.id, row)
                if mount.unversioned and row.unversioned.by is not None:
                    served = rows[row.unversioned.by]
                handler = _Handler(area, served, mount.behind(public_prefix), tokens, limits if row.limited else None)
                yield web.route(row.method, row.route(mount), handler.handle)


class _Handler:
    """Answers the requests of one operation under one mount."""

    def __init__(self, area: object, row: Operation, mount: Mount, tokens: Tokens, limits: Limits | None) -> None:
        self._area = area
        self.row = row
        self._mount = mount
        self._tokens = tokens
        self._limits = limits
        self._call = row.call
        self._role = row.access.role
        self._refusal = f"{row.access.value} only"
        self._is_open = row.access.is_open
        self._no_body = NoBody()
        self._no_query = NoQuery()
        self._reads_query = row.query is not NoQuery
        self._takes_body = row.takes_body
        self._quick = row.quick
        self._has_placeholders = bool(row.placeholders)
        self._reads_body = not row.raw_body and row.reads_body
        self._body: TypeAdapter[Any] = TypeAdapter(row.body)
        self._query: TypeAdapter[Any] = TypeAdapter(row.query)
        self.handle = self._answer_deprecated if mount.deprecated else self._answer

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self._limits is None:
            caller = self._caller_of(request)
            self._must_be_allowed(caller)
            return await self._call(self._area, await self._context(request, caller))
        return await self._limited(self._limits, request)

    async def _limited(self, limits: Limits, request: web.Request) -> web.StreamResponse:
        """Count the request before anything else is done with it; one without a valid token counts by its address."""
        refused, caller = None, None
        try:
            caller = self._caller_of(request)
        except Problem as problem:
            refused = problem
        rate_limit_headers = await limits.check(request, caller)
        try:
            if refused is not None:
                raise refused
            self._must_be_allowed(caller)
            response = await self._call(self._area, await self._context(request, caller))
        except Problem as problem:
            response = problem.response()
        response.headers.update(rate_limit_headers)
        return response

    async def _answer_deprecated(self, request: web.Request) -> web.StreamResponse:
        """Answer for a client of the interface without versions, and name the successor's address."""
        try:
            with old_statuses():
                response = await self._answer(request)
        except Problem as problem:
            response = problem.response()
        if (status := self.row.unversioned.statuses.get(response.status)) is not None:
            response.set_status(status)
        response.headers["Deprecation"] = f"@{int(_DEPRECATED_SINCE.timestamp())}"
        response.headers["Sunset"] = format_datetime(_SUNSET, usegmt=True)
        response.headers.add("Link", f'<{self._mount.links}{request.rel_url.raw_path}>; rel="successor-version"')
        return response

    def _caller_of(self, request: web.Request) -> Caller | None:
        return None if self._is_open else self._tokens.caller(request)

    def _must_be_allowed(self, caller: Caller | None) -> None:
        if self._role is not None and (caller is None or self._role not in caller.roles):
            raise Problem(403, self._refusal)

    async def _context(self, request: web.Request, caller: Caller | None) -> RequestContext[Any, Any]:
        act_for(None if caller is None else caller.user_id)
        path = _ids(request.match_info) if self._has_placeholders else request.match_info
        query: Any = self._no_query
        if self._reads_query or "?" in request.raw_path:
            query = decode_query(request.query, self._query)
        body: Any = self._no_body
        if self._reads_body:
            raw = await read(request)
            if raw or self._takes_body:
                must_be_json(request)
                body = self._decode(raw)
        return RequestContext(request, mount=self._mount, caller=caller, path=path, query=query, body=body)

    def _decode(self, raw: bytes) -> Any:
        if self._quick is not None:
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                return self._quick.decode(raw)
        return decode(raw, self._body)


def _ids(found: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the path's ids. Raises `Problem` 404 for an id that nothing can have."""
    return {name: _id(name, text) for name, text in found.items()}


def _id(name: str, text: str) -> UUID | int | str:
    if name in _TEXTS:
        return text
    if name not in _UUIDS:
        return _number(text)
    try:
        return UUID(text)
    except ValueError:
        raise no_such(_UUIDS[name]) from None


def _number(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MAX_ID:
        raise Problem(404, "not found")
    return number
