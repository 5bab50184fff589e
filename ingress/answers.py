"""How answers are written: JSON by msgspec, with the headers that every answer of ours has."""

from collections.abc import Mapping
from typing import Final

import msgspec
from aiohttp import web
from multidict import CIMultiDict

_encode: Final = msgspec.json.Encoder().encode
_JSON: Final = CIMultiDict(
    {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Server": "innkeeper",
    }
)
_EMPTY: Final = CIMultiDict({"Server": "innkeeper"})


def answer(status: int, body: object, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer with this body as JSON."""
    # A copy of a CIMultiDict is cheap, and an answer takes one as it is.
    all_headers = _JSON.copy()
    if headers is not None:
        all_headers.update(headers)
    return web.Response(body=_encode(body), status=status, headers=all_headers)


def no_content(headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer without a body."""
    all_headers = _EMPTY.copy()
    if headers is not None:
        all_headers.update(headers)
    return web.Response(status=204, headers=all_headers)
