"""The pages for people: a first page with links, the OpenAPI and AsyncAPI documents, and the pages that show them.

Swagger UI and Redoc show the OpenAPI document. Every asset of theirs is served from here.
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
from ingress.http.deadlines import suspended
from ingress.http.problems import Problem
from ingress.http.responses import Response, gzipped
from ingress.operations import Operation
from topics import asyncapi

_OUR_ASSETS: Final = Path(__file__).parent / "assets"
#: The package has these for Django; we take its files alone, and never import it.
_PACKAGE: Final = "drf_spectacular_sidecar"
_THEIR_ASSETS: Final = (
    "swagger-ui-dist/swagger-ui-bundle.js",
    "swagger-ui-dist/swagger-ui.css",
    "redoc/bundles/redoc.standalone.js",
)
_SCRIPTS_AND_STYLES: Final = ("docs.js", "redoc.js", "redoc.css", "events.css", "home.css")
_PAGES: Final = ("docs", "redoc")
_HOME: Final = "home"
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
    """A file as it is sent, plain and with gzip."""

    media: str
    body: bytes
    packed: bytes
    tag: str


class Pages:
    """Serves the first page, the OpenAPI and the AsyncAPI document, the pages that show them, and their assets.

    The files are made at the first request for one of them: most processes never get any. Their addresses begin with
    `public_prefix`, the path that a proxy takes away.
    """

    def __init__(self, rows: Sequence[Operation], public_prefix: str = "") -> None:
        self._rows = rows
        self._public_prefix = public_prefix
        self._preparing: asyncio.Task[Mapping[str, _File]] | None = None

    def routes(self) -> Iterator[web.RouteDef]:
        """Yield the routes of the pages, which are no operations."""
        for path in ("/", "/openapi.json", "/asyncapi.json", "/events", *(f"/{name}" for name in _PAGES)):
            yield web.get(path, self._page)
        yield web.get("/assets/{version:[0-9a-f]{16}}/{name:[a-z.-]+}", self._asset)

    async def _page(self, request: web.Request) -> Response:
        file = (await self._files())[request.path]
        headers = {"ETag": f'"{file.tag}"', **_PAGE_HEADERS}
        if any(known.value in (file.tag, "*") for known in request.if_none_match or ()):
            return Response(304, None, headers, keep=_KEEP_PAGES)
        return Response(200, file.body, headers, media=file.media, packed=file.packed, keep=_KEEP_PAGES)

    async def _asset(self, request: web.Request) -> Response:
        file = (await self._files()).get(request.path)
        if file is None:
            raise Problem(404, "not found")
        return Response(200, file.body, None, media=file.media, packed=file.packed, keep=_KEEP_ASSETS)

    async def _files(self) -> Mapping[str, _File]:
        if self._preparing is None:
            self._preparing = asyncio.create_task(asyncio.to_thread(_files, self._rows, self._public_prefix))
        # All requests share it: one that is cancelled must not end it. It needs time, and no other part.
        with suspended():
            return await asyncio.shield(self._preparing)


def _files(rows: Sequence[Operation], public_prefix: str) -> Mapping[str, _File]:
    """Return all files that are served, by their paths as the ingress gets them."""
    assets = {path.name: path.read_bytes() for path in _asset_paths()}
    assets = {name: content.replace(_LOGO, _NO_LOGO) for name, content in assets.items()}
    root = f"/assets/{_tag(*assets.values())}"
    published = asyncapi.PUBLISHED.read_bytes()
    pages = {f"/{name}": _page(name, root, public_prefix) for name in _PAGES}
    pages["/"] = _page(_HOME, root, public_prefix)
    pages["/events"] = events_page(json.loads(published), f"{public_prefix}{root}/events.css").encode()
    return (
        {f"{root}/{name}": _file(_MEDIA[name.rpartition(".")[2]], content) for name, content in assets.items()}
        | {path: _file(_MEDIA["html"], content) for path, content in pages.items()}
        | {"/openapi.json": _file(_MEDIA["json"], json.dumps(document(rows, public_prefix)).encode())}
        | {"/asyncapi.json": _file(_MEDIA["json"], published)}
    )


def _asset_paths() -> Iterator[Path]:
    package = find_spec(_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise RuntimeError(f"the package {_PACKAGE}, which has the pages' scripts, is not installed")
    folder = Path(package.submodule_search_locations[0], "static", _PACKAGE)
    yield from (folder / name for name in _THEIR_ASSETS)
    yield from (_OUR_ASSETS / name for name in _SCRIPTS_AND_STYLES)


def _page(name: str, root: str, public_prefix: str) -> bytes:
    page = (_OUR_ASSETS / f"{name}.html").read_text()
    return page.replace("{assets}", public_prefix + root).replace("{prefix}", public_prefix).encode()


def _file(media: str, content: bytes) -> _File:
    return _File(media, content, gzipped(content, level=9), _tag(content))


def _tag(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]
