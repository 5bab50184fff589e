"""Rows that managers describe (hotels, rooms): found or 404, locked, compared with If-Match, answered with an ETag."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Generic, Protocol, TypeAlias, TypeVar

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.http.models import MAX_ID, OutModel
from ingress.http.paging import Cursors, Paged, first_page, link_to_next
from ingress.http.problems import existing
from ingress.http.responses import Response, json_response
from ingress.http.versions import etag, must_be_expected
from ingress.operations import RequestContext

AnyContext: TypeAlias = RequestContext[Any, Any]

_ids: Final = Cursors(tuple[Annotated[int, Field(ge=0, le=MAX_ID)]])


class VersionedRow(Protocol):
    """A row whose version counts its changes."""

    @property
    def id(self) -> int:
        """Its id."""
        ...

    @property
    def version(self) -> int:
        """How often it was written."""
        ...


RowType = TypeVar("RowType", bound=VersionedRow)
RowType_co = TypeVar("RowType_co", bound=VersionedRow, covariant=True)
RowType_contra = TypeVar("RowType_contra", bound=VersionedRow, contravariant=True)


class Find(Protocol[RowType_co]):
    """Finds the row that a request's path names among those of its caller."""

    async def __call__(self, connection: AsyncConnection, context: AnyContext, *, lock: bool) -> RowType_co | None:
        """Return the row, None when the caller has none; `lock` holds it until the transaction ends."""
        ...


class Describe(Protocol[RowType_contra]):
    """Makes the response's model of a row."""

    def __call__(self, row: RowType_contra) -> OutModel:
        """Return the model."""
        ...


class Resource(Generic[RowType]):
    """One kind of row that managers describe, which problems call by `name`."""

    def __init__(self, name: str, find: Find[RowType], describe: Describe[RowType]) -> None:
        self._name = name
        self._find = find
        self._describe = describe

    async def find(self, connection: AsyncConnection, context: AnyContext, *, lock: bool = False) -> RowType:
        """Return the caller's row that the path names. Raises `Problem` 404."""
        return existing(await self._find(connection, context, lock=lock), self._name)

    async def lock_to_change(self, connection: AsyncConnection, context: AnyContext) -> RowType:
        """Return the caller's row, locked.

        Raises:
            Problem: 404; 412 when the request insists on another version.
        """
        row = await self.find(connection, context, lock=True)
        must_be_expected(row.version, context.request)
        return row

    def response(self, row: RowType) -> Response:
        """Return the response that has the row and its version."""
        return json_response(200, self._describe(row), etag(row.version))

    def created(self, row: RowType, location: str) -> Response:
        """Return the response to the request that made the row."""
        return json_response(201, self._describe(row), {"Location": location, **etag(row.version)})

    def page(self, context: RequestContext[Any, Paged], rows: Sequence[RowType]) -> Response:
        """Return the response that has a page of rows, which were read by id with one more than the page holds."""
        page, last = first_page(rows, context.query.limit)
        headers: Mapping[str, str] = link_to_next(context.address_with, last, lambda row: _ids.write((row.id,)))
        return json_response(200, [self._describe(row) for row in page], headers)


def after_id(context: RequestContext[Any, Paged]) -> int:
    """Return the id after which the request's page begins. Raises `Problem` 422 for a text that is no cursor."""
    (after,) = _ids.read(context.query.cursor) or (0,)
    return after
