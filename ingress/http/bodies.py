"""Bodies, read whole and at most 64 KB, and queries; both are decoded to the types of the operation."""

import asyncio
from typing import Any, Final, TypeVar

from aiohttp import web
from multidict import MultiMapping
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from ingress.http.deadlines import suspended
from ingress.http.models import words_of_patterns
from ingress.http.problems import Problem, client_gone

MAX_BODY_BYTES: Final = 64 * 1024
#: How long a body may take to arrive.
BODY_SECONDS: Final = web.AppKey("BODY_SECONDS", float)
_MAX_ERRORS: Final = 10
_JSON_TYPES: Final = ("application/json", "application/merge-patch+json")
T = TypeVar("T")


async def read(request: web.Request) -> bytes:
    """Return the body.

    Raises:
        aiohttp.web.HTTPRequestEntityTooLarge: it is larger than 64 KB.
        Problem: 400 when it ends before its end, 408 when it takes too long.
        NothingDone: the client has hung up since its body came.
    """
    content = request.content
    if content.is_eof():
        # A small body comes together with its headers; then there is nothing to wait for.
        try:
            body = content.read_nowait()
        except ConnectionError:
            raise client_gone() from None
        if len(body) > MAX_BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES)
        return body
    seconds = request.app[BODY_SECONDS]
    try:
        with suspended():
            async with asyncio.timeout(seconds):
                return await request.read()
    except TimeoutError:
        raise Problem(408, f"the body did not arrive within {seconds:g} s") from None
    except (ConnectionError, web.RequestPayloadError):
        raise Problem(400, "the body was cut off") from None


def must_be_json(request: web.Request) -> None:
    """Refuse a body whose `Content-Type` is not JSON.

    Raises:
        Problem: 415.
    """
    content_type = request.headers.get("Content-Type")
    if content_type == "application/json" or content_type is None:
        return
    if request.content_type not in _JSON_TYPES:
        raise Problem(415, "the body must be application/json", headers={"Accept": ", ".join(_JSON_TYPES)})
    if (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        raise Problem(415, "the body must be UTF-8")


def decode(body: bytes, adapter: TypeAdapter[T]) -> T:
    """Read JSON.

    Raises:
        Problem: 400 when it is not JSON, 422 naming each field that the adapter refuses.
    """
    try:
        return adapter.validator.validate_json(body)  # type: ignore[no-any-return]
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False, include_context=False)[0]["type"] == "json_invalid":
            raise Problem(400, "the body is not JSON") from None
        raise _invalid(error) from None


def decode_query(query: MultiMapping[str], adapter: TypeAdapter[T]) -> T:
    """Decode a query; a parameter that is given twice becomes a list.

    Raises:
        Problem: 422 naming each parameter that the adapter refuses.
    """
    given: dict[str, Any] = {}
    for name in query:
        values = query.getall(name)
        given[name] = values if len(values) > 1 else values[0]
    try:
        return adapter.validate_python(given)
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> Problem:
    found = error.errors(include_url=False, include_input=False)[:_MAX_ERRORS]
    errors = [{"field": _field(each["loc"]), "message": _message(each)} for each in found]
    detail = "; ".join(f"{each['field']}: {each['message']}" if each["field"] else each["message"] for each in errors)
    return Problem(422, detail, more={"errors": errors})


def _message(error: ErrorDetails) -> str:
    """Return the fault in words."""
    words = words_of_patterns.get(error.get("ctx", {}).get("pattern", ""))
    return words or error["msg"].removeprefix("Value error, ")


def _field(place: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in place)


def refused_field(field: str, message: str) -> Problem:
    """Return the problem of a field that is wrong beside its neighbours."""
    return Problem(422, f"{field}: {message}", more={"errors": [{"field": field, "message": message}]})
