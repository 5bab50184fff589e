"""Lists that come page by page: each page says where the next one begins, so that new rows shift nothing."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, Generic, TypeVar

import msgspec
from aiohttp import web
from pydantic import Field, TypeAdapter, ValidationError

from ingress.http.bodies import refused_field
from ingress.http.models import Query

MAX_PAGE: Final = 100
#: The headers of a page, as they are documented.
NEXT_PAGE: Final = {"Link": 'The next page, as `<...>; rel="next"`; none after the last.'}
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE)]
#: Where a page begins, as the page before it said; opaque to clients.
PageCursor = Annotated[str, Field(max_length=500)]

T = TypeVar("T")
Row = TypeVar("Row")


class Paged(Query):
    """The query of a list: how many at most, and from where on."""

    limit: Limit = 20
    cursor: PageCursor | None = None


class Cursors(Generic[T]):
    """Writes and reads the cursors of one list. `place` is what its rows are ordered by: a type for pydantic.

    A cursor is not signed: whatever a client makes of it, it only says from where on the caller's own list is read.
    """

    def __init__(self, place: type[T]) -> None:
        self._place = TypeAdapter(place)

    def write(self, place: T) -> str:
        """Return a place in the list as a cursor."""
        return urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()

    def read(self, cursor: str | None) -> T | None:
        """Return the place, None without a cursor.

        Raises:
            Problem: 422 for what is no cursor of this list.
        """
        if cursor is None:
            return None
        try:
            decoded = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
            return self._place.validate_json(decoded, strict=True)
        except (ValidationError, binascii.Error, ValueError):
            raise refused_field("cursor", "is not one that this list gave") from None


def first_page(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], Row | None]:
    """Return a page of `limit` rows and, if more than that were read, its last row: the next page begins after it."""
    page = rows[:limit]
    return page, page[-1] if len(rows) > limit else None


def link_to_next(request: web.Request, last: Row | None, cursor_of: Callable[[Row], str]) -> Mapping[str, str]:
    """Return the headers that name the next page: the same request, from after `last` on; none after the last page."""
    if last is None:
        return {}
    return {"Link": f'<{request.rel_url.update_query(cursor=cursor_of(last))}>; rel="next"'}
