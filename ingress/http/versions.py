"""Lost updates: a response has a row's version as its `ETag`, and a change may insist on it with `If-Match`."""

import re
from typing import Final

from aiohttp import web

from ingress.http.models import RequestHeader
from ingress.http.problems import Problem

#: The documentation of the header, for operations whose responses have it.
ETAG_HEADER: Final = {"ETag": "The version that `If-Match` may insist on."}
IF_MATCH: Final = RequestHeader(
    name="If-Match",
    description="The `ETag` that was read, or several: the change is made to such a version or, 412, not at all.",
    example='"v1"',
)
# Entity tags (RFC 9110, section 8.8.3) may have commas in them. Weak ones are never ours.
_TAG: Final = r'(?:W/)?"[^\x00-\x20"\x7f]*"'
_TAGS: Final = re.compile(rf"[ \t,]*(?:{_TAG}[ \t]*(?:,[ \t,]*|$))+")
_OUR_TAG: Final = re.compile(r'"v(0|[1-9]\d{0,8})"', re.ASCII)


def etag(version: int) -> dict[str, str]:
    """Return the header of a response that has this version."""
    return {"ETag": f'"v{version}"'}


def expected_versions(request: web.Request) -> frozenset[int] | None:
    """Return the versions that the request insists on one of, or None when any will do (RFC 9110, section 13.1.1).

    Raises:
        Problem: 412, when none of the tags can be a version.
    """
    tags_text = ",".join(request.headers.getall("If-Match", ("*",))).strip()
    if tags_text == "*":
        return None
    tags = re.findall(_TAG, tags_text) if _TAGS.fullmatch(tags_text) else ()
    versions = frozenset(int(ours[1]) for ours in map(_OUR_TAG.fullmatch, tags) if ours)
    if not versions:
        raise changed_meanwhile()
    return versions


def must_be_expected(version: int, request: web.Request) -> None:
    """Check that the request does not insist on other versions than this. Raises `Problem` 412."""
    expected = expected_versions(request)
    if expected is not None and version not in expected:
        raise changed_meanwhile()


def changed_meanwhile() -> Problem:
    """Return the problem of a change that was made to another version than the present one."""
    return Problem(412, "it was changed meanwhile; read it again", more={"reason": "changed_meanwhile"})
