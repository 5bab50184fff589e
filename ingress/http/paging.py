"""Lists in pages: each page names the row after which the next one begins, so that new rows shift nothing."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, Generic, TypeVar

import msgspec
from pydantic import Field, TypeAdapter, ValidationError

from ingress.http.bodies import refused_field
from ingress.http.models import Query

MAX_PAGE: Final = 100
#: The headers of a page, as they are documented.
NEXT_PAGE: Final = {"Link": 'The next page, as `<...>; rel="next"`; none after the last.'}
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE)]
#: The position at which a page begins, taken from the page before it; opaque to clients.
PageCursor = Annotated[str, Field(max_length=500)]

T = TypeVar("T")
Row = TypeVar("Row")


class Paged(Query):
    """The query of a list: the largest number of rows, and the position after which they begin."""

    limit: Limit = 20
    cursor: PageCursor | None = None


class Cursors(Generic[T]):
    """Writes and reads the cursors of one list. `position` is the type, for pydantic, that its rows are ordered by.

    A cursor is not signed: a client that changes it gets only another position in its own list.
    """

    def __init__(self, position: type[T]) -> None:
        self._position = TypeAdapter(position)

    def write(self, position: T) -> str:
        """Return a position in the list as a cursor."""
        return urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()

    def read(self, cursor: str | None) -> T | None:
        """Return the position, None without a cursor.

        Raises:
            Problem: 422 for a text that is no cursor of this list.
        """
        if cursor is None:
            return None
        try:
            decoded = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
            return self._position.validate_json(decoded, strict=True)
        except (ValidationError, binascii.Error, ValueError):
            raise refused_field("cursor", "is not one that this list gave") from None


def first_page(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], Row | None]:
    """Return a page of `limit` rows and, if more than that were read, its last row: the next page begins after it."""
    page = rows[:limit]
    return page, page[-1] if len(rows) > limit else None


def link_to_next(
    address_with: Callable[..., str], last: Row | None, cursor_of: Callable[[Row], str]
) -> Mapping[str, str]:
    """Return the headers that name the next page, none after the last page.

    `address_with` returns the request's address with another query; the next page begins after `last`.
    """
    if last is None:
        return {}
    return {"Link": f'<{address_with(cursor=cursor_of(last))}>; rel="next"'}
