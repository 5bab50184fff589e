"""How answers are written: JSON by msgspec, with the headers that every answer of ours has."""

from collections.abc import Mapping
from typing import Final

import msgspec
from aiohttp import web
from multidict import CIMultiDict

_encode: Final = msgspec.json.Encoder().encode
_JSON: Final = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Server": "innkeeper",
}


def answer(status: int, body: object, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer with this body as JSON."""
    # A CIMultiDict is taken as it is; any other mapping would be copied into one.
    all_headers = CIMultiDict(_JSON)
    if headers is not None:
        all_headers.update(headers)
    return web.Response(body=_encode(body), status=status, headers=all_headers)


def no_content(headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer without a body."""
    all_headers = CIMultiDict({"Server": "innkeeper"})
    if headers is not None:
        all_headers.update(headers)
    return web.Response(status=204, headers=all_headers)
