"""Responses: JSON by msgspec and the headers that all of them have, written in one piece.

aiohttp's own response builds and checks each header of each response, which takes almost half of the time of a small
request. Responses here are complete when they are made, so they write their few bytes themselves.
"""

import re
import time
import zlib
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from pydantic import BaseModel

NO_STORE: Final = "no-store"
_JSON: Final = "application/json"
#: Compressing a smaller body costs more time than it saves.
_WORTH_COMPRESSING_BYTES: Final = 1024
#: The rest of a body that is too slow or too large is not read, so no request can follow it on the connection.
_LAST: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE})
#: gzip is named, and not with a quality of 0, which refuses it (RFC 9110, 12.5.3).
_TAKES_GZIP: Final = re.compile(r"(?:^|,)\s*(?:x-)?gzip\s*(?:$|,|;(?!\s*q=0(?:\.0*)?\s*(?:,|$)))", re.IGNORECASE)
#: zlib's own word for gzip's header and checksum.
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


def encode(body: object) -> bytes:
    """Return JSON. A model's field that was never set is left out."""
    return _encode(body)


def _of_a_model(value: Any) -> msgspec.Raw:
    if isinstance(value, BaseModel):
        return msgspec.Raw(value.__pydantic_serializer__.to_json(value, exclude_unset=True))
    raise TypeError(f"a response cannot contain a {type(value).__name__}")


_encode: Final = msgspec.json.Encoder(enc_hook=_of_a_model).encode


class Response(web.StreamResponse):
    """A whole response. The names and values of `headers` are written as they are, without a check.

    `keep` is its `Cache-Control`: private data is never stored. `packed` is the body with gzip, if it is known.
    """

    def __init__(
        self,
        status: int,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        *,
        media: str = _JSON,
        keep: str = NO_STORE,
        packed: bytes | None = None,
    ) -> None:
        super().__init__(status=status, headers=headers)
        self._whole_body = body
        self._media = media
        self._keep = keep
        self._packed = packed
        self._stays_open = False

    @property
    def keep_alive(self) -> bool:
        """Whether the connection can take another request."""
        return self._stays_open

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the response; wait only while the client does not read it."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._stays_open = request.keep_alive and self.status not in _LAST
        if self._whole_body is not None and len(self._whole_body) >= _WORTH_COMPRESSING_BYTES:
            self._compress(request)
        transport.write(self._head(request) + (b"" if request.method == "HEAD" else self._whole_body or b""))
        await request.writer.drain()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: `prepare` wrote the whole response."""

    def _compress(self, request: web.BaseRequest) -> None:
        assert self._whole_body is not None
        self.headers.add("Vary", "Accept-Encoding")
        if _TAKES_GZIP.search(request.headers.get("Accept-Encoding", "")):
            self._whole_body = self._packed or gzipped(self._whole_body, level=5)
            self.headers["Content-Encoding"] = "gzip"

    def _head(self, request: web.BaseRequest) -> bytes:
        body = self._whole_body
        start = _start_of(self.status, None if body is None else self._media, self._keep)
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        named = "".join([f"{name}: {value}\r\n" for name, value in self.headers.items()])
        if self._stays_open:
            connection = "" if request.version == HttpVersion11 else "Connection: keep-alive\r\n"
        else:
            connection = "Connection: close\r\n"
        return f"{start}{length}Date: {_date(int(time.time()))}\r\n{named}{connection}\r\n".encode("latin-1")


def json_response(
    status: int, body: object, headers: Mapping[str, str] | None = None, *, keep: str = NO_STORE
) -> Response:
    """Return a response with this body (models, rows, or collections of them) as JSON."""
    return Response(status, encode(body), headers, keep=keep)


def gzipped(body: bytes, *, level: int) -> bytes:
    """Return the body as `Content-Encoding: gzip` has it."""
    packing = zlib.compressobj(level=level, wbits=_GZIP_WINDOW)
    return packing.compress(body) + packing.flush()


def no_content(headers: Mapping[str, str] | None = None) -> Response:
    """Return a response without a body."""
    return Response(204, None, headers)


@lru_cache
def _start_of(status: int, media: str | None, keep: str) -> str:
    content = "" if media is None else f"Content-Type: {media}\r\nX-Content-Type-Options: nosniff\r\n"
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{content}Cache-Control: {keep}\r\nServer: innkeeper\r\n"


@lru_cache(1)
def _date(unix_seconds: int) -> str:
    return formatdate(unix_seconds, usegmt=True)
