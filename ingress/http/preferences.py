"""The preference of a request (RFC 7240): how long it waits for its decision."""

import re
from typing import Final

from aiohttp import web

from ingress.http.models import RequestHeader

MAX_PREFERRED_WAIT_SECONDS: Final = 30
PREFER: Final = RequestHeader(
    name="Prefer",
    description="`wait=5` waits so many seconds for the decision (RFC 7240), 30 at most; then 202 all the same.",
    example="wait=5",
)
_WAIT: Final = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?:$|[,;])", re.ASCII | re.IGNORECASE)


def seconds_to_wait(request: web.Request) -> int | None:
    """Return how many seconds the request prefers to wait (RFC 7240); None without a preference."""
    prefer = request.headers.getall("Prefer", None)
    if prefer is None:
        return None
    found = _WAIT.search(",".join(prefer))
    return None if found is None else min(int(found[1]), MAX_PREFERRED_WAIT_SECONDS)
