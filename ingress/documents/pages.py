"""The pages for people: the OpenAPI document, and Swagger UI and Redoc that show it; the AsyncAPI document, and ours.

All of it is served from here.
"""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from aiohttp import web

from ingress.documents.events_page import events_page
from ingress.documents.openapi import document
from ingress.http.answers import Answer, gzipped
from ingress.http.problems import Problem
from ingress.operations import Operation
from topics import asyncapi

_OURS: Final = Path(__file__).parent / "assets"
#: The package has these for Django; we take its files alone, and never import it.
_PACKAGE: Final = "drf_spectacular_sidecar"
_THEIRS: Final = (
    "swagger-ui-dist/swagger-ui-bundle.js",
    "swagger-ui-dist/swagger-ui.css",
    "redoc/bundles/redoc.standalone.js",
)
_SCRIPTS_AND_STYLES: Final = ("docs.js", "redoc.js", "redoc.css", "events.css")
_PAGES: Final = ("docs", "redoc")
#: Redoc shows its maker's logo from the maker's server.
_LOGO: Final = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_NO_LOGO: Final = b"data:,"

_MEDIA: Final = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "json": "application/json",
}
#: An asset's address changes with its content; a page's and the document's do not.
_KEEP_ASSETS: Final = "public, max-age=31536000, immutable"
_KEEP_PAGES: Final = "public, no-cache"
#: Both libraries write style elements; Redoc searches in a worker that it makes of its own text.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS: Final = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is sent: as it is, and with gzip."""

    media: str
    body: bytes
    packed: bytes
    tag: str


class Pages:
    """Serves the OpenAPI and the AsyncAPI document, the pages that show them, and what those need.

    All is put together when the first of it is asked for: most processes never are.
    """

    def __init__(self, rows: Sequence[Operation]) -> None:
        self._rows = rows
        self._preparing: asyncio.Task[Mapping[str, _File]] | None = None

    def routes(self) -> Iterator[web.RouteDef]:
        """Yield the routes, which are no operations: what they serve is about those."""
        for path in ("/openapi.json", "/asyncapi.json", "/events", *(f"/{name}" for name in _PAGES)):
            yield web.get(path, self._page)
        yield web.get("/assets/{version:[0-9a-f]{16}}/{name:[a-z.-]+}", self._asset)

    async def _page(self, request: web.Request) -> Answer:
        file = (await self._files())[request.path]
        headers = {"ETag": f'"{file.tag}"', **_PAGE_HEADERS}
        if any(known.value in (file.tag, "*") for known in request.if_none_match or ()):
            return Answer(304, None, headers, keep=_KEEP_PAGES)
        return Answer(200, file.body, headers, media=file.media, packed=file.packed, keep=_KEEP_PAGES)

    async def _asset(self, request: web.Request) -> Answer:
        file = (await self._files()).get(request.path)
        if file is None:
            raise Problem(404, "not found")
        return Answer(200, file.body, None, media=file.media, packed=file.packed, keep=_KEEP_ASSETS)

    async def _files(self) -> Mapping[str, _File]:
        if self._preparing is None:
            self._preparing = asyncio.create_task(asyncio.to_thread(_files, self._rows))
        # It is everybody's: one request that goes away must not end it.
        return await asyncio.shield(self._preparing)


def _files(rows: Sequence[Operation]) -> Mapping[str, _File]:
    """Return everything that is served, by its path."""
    assets = {path.name: path.read_bytes() for path in _asset_paths()}
    assets = {name: content.replace(_LOGO, _NO_LOGO) for name, content in assets.items()}
    root = f"/assets/{_tag(*assets.values())}"
    published = asyncapi.PUBLISHED.read_bytes()
    pages = {f"/{name}": _page(name, root) for name in _PAGES}
    pages["/events"] = events_page(json.loads(published), f"{root}/events.css").encode()
    return (
        {f"{root}/{name}": _file(_MEDIA[name.rpartition(".")[2]], content) for name, content in assets.items()}
        | {path: _file(_MEDIA["html"], content) for path, content in pages.items()}
        | {"/openapi.json": _file(_MEDIA["json"], json.dumps(document(rows)).encode())}
        | {"/asyncapi.json": _file(_MEDIA["json"], published)}
    )


def _asset_paths() -> Iterator[Path]:
    package = find_spec(_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise RuntimeError(f"the package {_PACKAGE}, which has the pages' scripts, is not installed")
    folder = Path(package.submodule_search_locations[0], "static", _PACKAGE)
    yield from (folder / name for name in _THEIRS)
    yield from (_OURS / name for name in _SCRIPTS_AND_STYLES)


def _page(name: str, root: str) -> bytes:
    return (_OURS / f"{name}.html").read_text().replace("{assets}", root).encode()


def _file(media: str, content: bytes) -> _File:
    return _File(media, content, gzipped(content, level=9), _tag(content))


def _tag(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]
