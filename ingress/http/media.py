"""The media of responses that a client can choose among, by its `Accept` header (RFC 9110, 12.5.1)."""

import re
from collections.abc import Sequence
from typing import Final

from aiohttp import hdrs, web

CSV: Final = "text/csv"
HTML: Final = "text/html"
_JSON: Final = "application/json"
_QUALITY: Final = re.compile(r";\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", re.IGNORECASE)


def prefers_csv(request: web.Request) -> bool:
    """Whether CSV is preferred to JSON, or as much and named more exactly."""
    return _is_preferred(request, CSV)


def prefers_html(request: web.Request) -> bool:
    """Whether a page is preferred to JSON, or as much and named more exactly."""
    return _is_preferred(request, HTML)


def _is_preferred(request: web.Request, media: str) -> bool:
    accepted = [each for header in request.headers.getall(hdrs.ACCEPT, ()) for each in header.split(",")]
    return _preference(accepted, media) > _preference(accepted, _JSON)


def _preference(accepted: Sequence[str], media: str) -> tuple[float, int]:
    """Return the quality of a medium, from the range that names it most exactly, and how exactly that range does."""
    names = {media: 2, media.partition("/")[0] + "/*": 1, "*/*": 0}
    exactness, quality = -1, 0.0
    for each in accepted:
        name = each.partition(";")[0].strip().lower()
        if names.get(name, -1) > exactness:
            found = _QUALITY.search(each)
            exactness, quality = names[name], float(found[1]) if found else 1.0
    # A medium with a quality of 0 is refused, however exactly it is named.
    return quality, exactness if quality else -1
