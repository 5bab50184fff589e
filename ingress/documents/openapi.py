"""The OpenAPI 3.1 document: the table of operations and its models, in the form that tools read."""

import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from ingress.http.models import MAX_ID, InvalidRequest, NoQuery, Problems, RequestHeader
from ingress.http.versions import IF_MATCH
from ingress.operations import SERVICE, V1, Operation, ResponseSpec

Json = dict[str, Any]

_TITLE: Final = "Innkeeper"
_API_DESCRIPTION: Final = """\
Hotel bookings that are decided on a log.

**Commands.** A request that changes a booking or a night is a command: it is answered 202, with the `Location` of its
status, as soon as the log has it. With `Prefer: wait=5` it is answered with the decision itself, if that comes in time.
With an `Idempotency-Key` the same request may be sent again and is done once.

**Unpaid bookings** of one account are limited: a request for one more is answered 429 with their ids. Pay for one of
them, cancel it, or wait until its hold ends. A change of a stay that is held until it is paid is not one of them.

**Money** is a decimal string in major units, with its `currency` beside it.

**Lists** are bare arrays. The next page is in the header `Link: <...>; rel="next"`.

**Failures** are `{"detail": ...}`; a 422 names each field in `errors`. Things of other accounts are not found.

**Versions.** All paths but those of webhooks and health begin with `/v1`. The same paths without it still answer, with
the headers `Deprecation`, `Sunset` and `Link: <...>; rel="successor-version"`. There commands wait as with
`Prefer: wait=10`, a booking that was reserved is answered 200, a PUT changes the fields that are sent and no others, a
sign-up with a known address is answered 400 whatever its password, nights have `book_count` beside `booked_count`, and
bookings that are CHECKED_IN, CHECKED_OUT or NO_SHOW are CONFIRMED.
"""
_TAG_DESCRIPTIONS: Final = {
    "auth": "Making accounts, logging in and out",
    "users": "One's own profile, guests and bookings",
    "hotels": "Finding and reading hotels; needs no account",
    "quotes": "Prices of a stay that hold for some minutes",
    "bookings": "From asking for a stay to its end",
    "trips": "Rooms of several types in one request, all of them or none",
    "admin": "For managers, about their own hotels",
    "ops": "For operators; the role is granted by the command line alone",
    "webhooks": "For Stripe",
    "health": "For probes of the process",
}
_BEARER: Final = "bearerAuth"
_BEARER_SCHEME: Final[Json] = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "The `access_token` of a login, good for half an hour.",
}
_PLACEHOLDER_SCHEMAS: Final[Mapping[str, Json]] = {
    "booking_id": {"type": "string", "format": "uuid"},
    "block_id": {"type": "string", "format": "uuid"},
    "trip_id": {"type": "string", "format": "uuid"},
    "change_id": {"type": "string", "format": "uuid"},
    "document_id": {"type": "string", "format": "uuid"},
    "plan_id": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,39}$"},
    "code": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$"},
}
_AN_ID: Final[Json] = {"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_ID}
_JSON: Final = "application/json"
_MERGE_PATCH: Final = "application/merge-patch+json"
_COMPONENTS: Final = "#/components"

_RESPONSE_HEADERS: Final[Json] = {
    "RateLimit": {
        "description": "How many requests may be sent at once (`r`), and in how many seconds (`t`) all are back.",
        "schema": {"type": "string"},
        "example": '"user";r=19;t=1',
    },
    "RateLimit-Policy": {
        "description": "How many requests (`q`) in how many seconds (`w`).",
        "schema": {"type": "string"},
        "example": '"user";q=100;w=60',
    },
    "Retry-After": {
        "description": "In how many seconds to try again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {
        "description": "`Bearer`: an access token is needed.",
        "required": True,
        "schema": {"type": "string"},
    },
    "X-Request-Id": {
        "description": "The request's own id if it came with one, else one of ours; logs have it.",
        "required": True,
        "schema": {"type": "string", "maxLength": 128},
    },
}
_ON_ALL: Final = ("X-Request-Id",)
_ON_COUNTED: Final = ("RateLimit", "RateLimit-Policy")
#: Headers of an operation's own that its answer never lacks.
_NEVER_LACKING: Final = frozenset({"Location", "Retry-After", "ETag", "Preference-Applied"})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Failure:
    """A failure that many operations may answer, described once."""

    name: str
    description: str
    model: type[Problems] = Problems
    headers: Sequence[str] = field(default=())


_FAILURES: Final[Mapping[int, _Failure]] = {
    400: _Failure(name="NotJson", description="The body is not JSON."),
    401: _Failure(name="Unauthorized", description="Without a good access token.", headers=("WWW-Authenticate",)),
    403: _Failure(name="Forbidden", description="The role for this is missing."),
    404: _Failure(name="NotFound", description="There is no such thing, or it is another account's."),
    408: _Failure(name="TooSlow", description="The body took too long to arrive."),
    412: _Failure(name="ChangedMeanwhile", description="It has another version by now than `If-Match` insists on."),
    413: _Failure(name="TooLarge", description="The body is larger than 64 KB."),
    415: _Failure(name="NotJsonByItsType", description="The body's `Content-Type` is not JSON in UTF-8."),
    422: _Failure(
        name="Invalid",
        description="The operation does not take this request; `errors` names each fault.",
        model=InvalidRequest,
    ),
    429: _Failure(name="TooMany", description="Too many requests.", headers=("Retry-After",)),
    500: _Failure(name="OurFault", description="Our fault; the log has more under this `request_id`."),
    503: _Failure(name="Away", description="A part of ours is away; try again.", headers=("Retry-After",)),
}


def document(rows: Sequence[Operation], public_prefix: str = "") -> Json:
    """Return the OpenAPI document of these operations, in their order, under the present version.

    `public_prefix` is the path in front of all paths that a proxy takes away.
    """
    schemas = _Schemas(rows)
    paths: dict[str, Json] = {}
    for row in rows:
        paths.setdefault(path_of(row), {})[row.method.lower()] = _operation_object(row, schemas)
    tags = {row.tag for row in rows}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": _TITLE,
            "version": "1",
            "description": _API_DESCRIPTION,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": public_prefix or "/"}],
        "tags": [{"name": name, "description": about} for name, about in _TAG_DESCRIPTIONS.items() if name in tags],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {failure.name: _failure(failure, schemas) for failure in _FAILURES.values()},
            "headers": _RESPONSE_HEADERS,
            "securitySchemes": _security_schemes(rows),
        },
    }


def path_of(row: Operation) -> str:
    """Return the path that the document names: under the present version, or bare."""
    return (SERVICE if row.service else V1).prefix + row.path


def failures_of(row: Operation) -> Iterator[int]:
    """Yield the statuses, besides its own, that an operation may answer."""
    if row.reads_body:
        yield from (400, 408, 413, 415)
    if not row.access.is_open:
        yield 401
    if row.access.role is not None:
        yield 403
    if row.placeholders:
        yield 404
    if IF_MATCH in row.headers:
        yield 412
    if row.limited:
        yield 429
    # Any request may have an unknown parameter, and may come while the database is away.
    yield from (422, 500, 503)


def _operation_object(row: Operation, schemas: "_Schemas") -> Json:
    described: Json = {
        "operationId": row.id,
        "tags": [row.tag],
        "summary": row.summary,
        "description": inspect.cleandoc(row.description),
        "security": _security(row),
        "parameters": [*_path_parameters(row), *schemas.query_parameters(row), *_header_parameters(row)],
        "responses": _responses(row, schemas),
    }
    if row.takes_body or row.raw_body:
        described["requestBody"] = _request_body(row, schemas)
    return {name: value for name, value in described.items() if value or name == "security"}


def _security(row: Operation) -> list[Json]:
    if not row.access.is_open:
        return [{_BEARER: []}]
    cookies: list[Json] = [{header.name: []} for header in row.headers if header.is_cookie]
    return cookies if HTTPStatus.UNAUTHORIZED in row.responses or not cookies else [*cookies, {}]


def _security_schemes(rows: Sequence[Operation]) -> Json:
    cookies = {header for row in rows for header in row.headers if header.is_cookie}
    return {_BEARER: _BEARER_SCHEME} | {
        cookie.name: {"type": "apiKey", "in": "cookie", "name": cookie.name, "description": cookie.description}
        for cookie in sorted(cookies, key=lambda cookie: cookie.name)
    }


def _path_parameters(row: Operation) -> Iterator[Json]:
    for name in row.placeholders:
        schema = _PLACEHOLDER_SCHEMAS.get(name, _AN_ID)
        yield _with_example({"name": name, "in": "path", "required": True, "schema": schema}, row.example.path)


def _header_parameters(row: Operation) -> Iterator[Json]:
    for header in row.headers:
        if header.is_cookie:
            continue
        parameter = {
            "name": header.name,
            "in": "header",
            "description": header.description,
            "schema": _header_schema(header),
        }
        yield _with_example(parameter, row.example.headers)


def _header_schema(header: RequestHeader) -> Json:
    schema: Json = {"type": "string", "examples": [header.example]}
    return schema if header.pattern is None else schema | {"pattern": header.pattern}


def _with_example(parameter: Json, examples: Mapping[str, object]) -> Json:
    if parameter["name"] not in examples:
        return parameter
    example = examples[parameter["name"]]
    several = parameter["schema"].get("type") == "array" and not isinstance(example, list)
    return parameter | {"example": [example] if several else example}


def _request_body(row: Operation, schemas: "_Schemas") -> Json:
    schema = {"type": "object"} if row.raw_body else schemas.body(row)
    content = {"schema": schema, "example": row.example.body}
    media = (_JSON, _MERGE_PATCH) if row.method == "PATCH" else (_JSON,)
    return {"required": True, "content": dict.fromkeys(media, content)}


def _responses(row: Operation, schemas: "_Schemas") -> Json:
    own = {status: _response(row, status, spec, schemas) for status, spec in row.responses.items()}
    common = {
        status: {"$ref": f"{_COMPONENTS}/responses/{_FAILURES[status].name}"}
        for status in failures_of(row)
        if status not in own
    }
    return {str(status): described for status, described in sorted((own | common).items())}


def _response(row: Operation, status: int, spec: ResponseSpec, schemas: "_Schemas") -> Json:
    common = _ON_ALL + (_ON_COUNTED if row.limited else ())
    described: Json = {
        "description": spec.description or HTTPStatus(status).phrase,
        "headers": {name: _own_header(name, about) for name, about in spec.headers.items()} | _refs_to_headers(common),
    }
    if spec.model is not None:
        described["content"] = {_JSON: {"schema": schemas.response(row, status)}} | {
            media: {"schema": {"type": "string", "description": about}} for media, about in spec.other_media.items()
        }
    if row.links and status < HTTPStatus.MULTIPLE_CHOICES:
        described["links"] = {target: _link(schemas.rows[target], given) for target, given in row.links.items()}
    return described


def _link(target: Operation, given: Mapping[str, str]) -> Json:
    """Return the link to `target`: values that its path does not name are for its body."""
    parameters = {name: value for name, value in given.items() if name in target.placeholders}
    body = {name: value for name, value in given.items() if name not in target.placeholders}
    link: Json = {"operationId": target.id, "parameters": parameters, "requestBody": body}
    return {name: value for name, value in link.items() if value}


def _own_header(name: str, description: str) -> Json:
    schema = {"type": "integer", "minimum": 0} if name == "Retry-After" else {"type": "string"}
    described: Json = {"description": description, "schema": schema}
    return described | {"required": True} if name in _NEVER_LACKING else described


def _failure(failure: _Failure, schemas: "_Schemas") -> Json:
    return {
        "description": failure.description,
        "headers": _refs_to_headers((*failure.headers, *_ON_ALL, *_ON_COUNTED)),
        "content": {_JSON: {"schema": schemas.failure(failure)}},
    }


def _refs_to_headers(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"{_COMPONENTS}/headers/{name}"} for name in names}


class _WithoutTitles(GenerateJsonSchema):
    """A field is called by its name: `Hotel Id` beside `hotel_id` adds nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - as pydantic calls it
        return False


class _Schemas:
    """The JSON Schemas of everything that operations take and answer; each model is a component, stored once."""

    def __init__(self, rows: Sequence[Operation]) -> None:
        self.rows = {row.id: row for row in rows}
        taken: dict[object, Any] = {("body", row.id): row.body for row in rows if row.takes_body}
        taken |= {("query", row.id): row.query for row in rows if _has_query(row)}
        shown: dict[object, Any] = {
            ("answer", row.id, status): spec.model
            for row in rows
            for status, spec in row.responses.items()
            if spec.model is not None
        }
        shown |= {failure.name: failure.model for failure in _FAILURES.values()}
        schemas, definitions = TypeAdapter.json_schemas(
            [
                *((key, "validation", TypeAdapter(model)) for key, model in taken.items()),
                *((key, "serialization", TypeAdapter(model)) for key, model in shown.items()),
            ],
            ref_template=f"{_COMPONENTS}/schemas/{{model}}",
            schema_generator=_WithoutTitles,
        )
        published = _Published(definitions.get("$defs", {}))
        self._schemas: dict[object, Json] = {key: published.with_names(schema) for (key, _), schema in schemas.items()}
        self.components: Json = published.components()
        # The document describes a query parameter by parameter, so its model is no component.
        names = {row.id: self._schemas["query", row.id]["$ref"].rpartition("/")[2] for row in rows if _has_query(row)}
        self._queries: dict[str, Json] = {row_id: self.components[name] for row_id, name in names.items()}
        for name in set(names.values()):
            del self.components[name]

    def body(self, row: Operation) -> Json:
        """Return the schema of a body that requests bring."""
        return self._schemas["body", row.id]

    def response(self, row: Operation, status: int) -> Json:
        """Return the schema of an answer's body."""
        return self._schemas["answer", row.id, status]

    def failure(self, failure: _Failure) -> Json:
        """Return the schema of a failure."""
        return self._schemas[failure.name]

    def query_parameters(self, row: Operation) -> Iterator[Json]:
        """Yield the parameters of the query."""
        query = self._queries.get(row.id, {})
        for name, field_schema in query.get("properties", {}).items():
            schema = _without_null(field_schema)
            parameter: Json = {"name": name, "in": "query", "required": name in query.get("required", ())}
            if "description" in schema:
                parameter["description"] = schema.pop("description")
            yield _with_example(parameter | {"schema": schema}, row.example.query)


class _Published:
    """Gives models the names under which they are published: their titles, which stay when a class is renamed."""

    def __init__(self, definitions: Mapping[str, Json]) -> None:
        self._definitions = definitions
        titles = Counter(schema.get("title") for schema in definitions.values())
        # Two schemas of one model have the same title; these keep their names, which differ.
        self._names = {
            f"{_COMPONENTS}/schemas/{name}": schema["title"]
            for name, schema in definitions.items()
            if titles[schema.get("title")] == 1 and "title" in schema
        }

    def components(self) -> Json:
        """Return all models by their published names."""
        named = {
            self._names.get(f"{_COMPONENTS}/schemas/{name}", name): self.with_names(schema)
            for name, schema in self._definitions.items()
        }
        return dict(sorted(named.items()))

    def with_names(self, schema: Any) -> Any:
        """Return a schema that refers to models by their published names."""
        if isinstance(schema, dict):
            return {
                key: self._published_ref(value) if key == "$ref" else self.with_names(value)
                for key, value in schema.items()
            }
        return [self.with_names(each) for each in schema] if isinstance(schema, list) else schema

    def _published_ref(self, ref: Any) -> Any:
        return f"{_COMPONENTS}/schemas/{self._names[ref]}" if ref in self._names else self.with_names(ref)


def _has_query(row: Operation) -> bool:
    return row.query is not NoQuery


def _without_null(schema: Json) -> Json:
    """Return the schema of a query's parameter that is given: no text means null."""
    rest = {name: value for name, value in schema.items() if name != "anyOf" and (name, value) != ("default", None)}
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return rest | kinds[0] if len(kinds) == 1 else rest | ({"anyOf": kinds} if kinds else {})
