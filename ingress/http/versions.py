"""Lost updates: an answer shows a row's version as its `ETag`, and a change may insist on it with `If-Match`."""

import re
from typing import Final

from aiohttp import web

from ingress.http.models import RequestHeader
from ingress.http.problems import Problem

#: What an operation that shows a version says of its answer's headers.
ETAG_HEADER: Final = {"ETag": "The version that `If-Match` may insist on."}
IF_MATCH: Final = RequestHeader(
    name="If-Match",
    description="The `ETag` that was read: the change is made to that version or, 412, not at all.",
    example='"v1"',
)
_OURS: Final = re.compile(r'"v(\d{1,9})"', re.ASCII)


def etag(version: int) -> dict[str, str]:
    """Return the header of an answer that shows this version."""
    return {"ETag": f'"v{version}"'}


def expected_version(request: web.Request) -> int | None:
    """Return the version that the request insists on, or None when any will do.

    Raises:
        Problem: 412, for a version that none of ours can be.
    """
    said = request.headers.get("If-Match")
    if said is None or said.strip() == "*":
        return None
    ours = _OURS.fullmatch(said.strip())
    if ours is None:
        raise changed_meanwhile()
    return int(ours[1])


def changed_meanwhile() -> Problem:
    """Return the problem of a change that was made to another version than the present one."""
    return Problem(412, "it was changed meanwhile; read it again", more={"reason": "changed_meanwhile"})
