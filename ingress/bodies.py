"""Bodies of requests: read whole, at most 64 KB, and decoded as what the request promises."""

from typing import Final, TypeVar

import msgspec
from aiohttp import web

from ingress.problems import Problem

LARGEST_BODY_BYTES: Final = 64 * 1024
T = TypeVar("T")


async def read(request: web.Request) -> bytes:
    """Return the body.

    Raises:
        aiohttp.web.HTTPRequestEntityTooLarge: it is larger than 64 KB.
    """
    content = request.content
    if content.is_eof():
        # A small body comes together with its headers; then there is nothing to wait for.
        body = content.read_nowait()
        if len(body) > LARGEST_BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(LARGEST_BODY_BYTES)
        return body
    return await request.read()


async def decoded_body(request: web.Request, decoder: msgspec.json.Decoder[T]) -> T:
    """Read the request's body.

    Raises:
        Problem: 400 when it is not JSON, 422 when it is not what the decoder wants.
    """
    return decoded(await read(request), decoder)


def decoded(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Read JSON. Raises as `decoded_body`."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Problem(422, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Problem(400, "the body is not JSON") from None
