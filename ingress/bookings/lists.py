"""Bookings in lists, page by page, and the cancellation of a booking by its hotel, which finds it in its list."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.hotel_commands import HotelCommands
from ingress.bookings.models import (
    BookingState,
    HotelBooking,
    HotelBookings,
    HotelCancellation,
    OwnBooking,
    OwnBookings,
)
from ingress.bookings.representation import hotel_bookings_out, own_listed_fields
from ingress.bookings.rooms import Rooms
from ingress.database import Database, snapshot
from ingress.http.bodies import refused_field
from ingress.http.models import NoBody, NoQuery, RefusedBooking
from ingress.http.old_statuses import meant_statuses
from ingress.http.paging import NEXT_PAGE, Cursors, first_page, link_to_next
from ingress.http.preferences import PREFER
from ingress.http.problems import existing
from ingress.http.responses import Response, json_response, no_content
from ingress.http.waiting import ACCEPTED, ACCEPTED_HEADERS, WAITED_HEADERS, waited_headers
from ingress.log.commands import Commands
from ingress.log.idempotency import IDEMPOTENCY_KEY, IdempotencyKeys
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from storage import desk_bookings
from storage.reads import reports
from storage.reads.changes import other_rooms
from storage.reads.reports import ByArrival, ByCreation, HotelListedBooking, ListedBooking
from topics.messages.commands import CancelBooking
from topics.messages.values import BookingStatus, CancelReason

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LAST_MICROSECOND: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_arrivals: Final = Cursors(tuple[date, UUID])
_creations: Final = Cursors(tuple[Annotated[int, Field(ge=0, le=_LAST_MICROSECOND)], UUID])


class BookingLists:
    """Lists of bookings from the ledger, page by page: an account's own, newest first, and a hotel's, by arrival."""

    def __init__(self, database: Database, *, rooms: Rooms, keys: IdempotencyKeys, commands: Commands) -> None:
        self._database = database
        self._commands = HotelCommands(database, rooms=rooms, keys=keys, commands=commands)

    @operation(
        "GET /users/myBookings",
        access=Access.USER,
        summary="List one's bookings",
        responses={200: ResponseSpec(list[OwnBooking], "Newest first.", NEXT_PAGE)},
        example=Example(query={"status": "CONFIRMED", "limit": 10}),
    )
    async def my_bookings(self, context: RequestContext[NoBody, OwnBookings]) -> Response:
        """List the account's bookings that are decided, refused ones too."""
        query = context.query
        before = _creations.read(query.cursor)

        async def listed(connection: AsyncConnection) -> tuple[list[OwnBooking], ListedBooking | None]:
            rows = await reports.bookings_of_user(
                connection,
                context.caller.user_id,
                limit=query.limit,
                before=None if before is None else ByCreation(_EPOCH + before[0] * _MICROSECOND, before[1]),
                statuses=meant_statuses(query.status),
            )
            page, last = first_page(rows, query.limit)
            rooms = await other_rooms(connection, [booking.held_change for booking in page])
            return [OwnBooking(**own_listed_fields(booking, rooms)) for booking in page], last

        body, last = await self._database.read(listed)
        return json_response(200, body, link_to_next(context.address_with, last, _creation))

    @operation(
        "GET /admin/hotels/{hotel_id}/bookings",
        access=Access.MANAGER,
        summary="List a hotel's bookings",
        responses={200: ResponseSpec(list[HotelBooking], "By check-in.", NEXT_PAGE)},
        example=Example(
            path={"hotel_id": 1},
            query={"status": "CONFIRMED", "from_date": "2026-12-01", "to_date": "2026-12-31", "limit": 50},
        ),
    )
    async def hotel_bookings(self, context: RequestContext[NoBody, HotelBookings]) -> Response:
        """List the bookings of one's hotel with a night from `from_date` to `to_date`, both included.

        A trip is listed by its legs, which have its id (`trip_id`), and so is a stay that has moved to another room
        type.
        """
        query, hotel_id = context.query, context.path["hotel_id"]
        if query.from_date and query.to_date and query.from_date > query.to_date:
            raise refused_field("from_date", "must not be after to_date")
        after = _arrivals.read(query.cursor)

        async def listed(connection: AsyncConnection) -> tuple[list[HotelBooking], HotelListedBooking | None]:
            async with snapshot(connection):
                existing(await reports.managed_hotel(connection, hotel_id, context.caller.user_id), "hotel")
                rows = await reports.bookings_of_hotel(
                    connection,
                    hotel_id,
                    limit=query.limit,
                    after=None if after is None else ByArrival(*after),
                    statuses=meant_statuses(query.status),
                    first=query.from_date,
                    last=query.to_date,
                    room_id=query.room_id,
                )
                page, last = first_page(rows, query.limit)
                ids = [booking.id for booking in page]
                guests = await reports.guests_of_each(connection, ids)
                contacts = await desk_bookings.contacts_of(connection, ids)
                rooms = await other_rooms(connection, [booking.held_change for booking in page])
            return hotel_bookings_out(page, guests, contacts, rooms), last

        body, last = await self._database.read(listed)
        if any(each.contact is not None and each.booking_status == BookingStatus.REJECTED for each in body):
            async with self._database.writing() as connection:
                await desk_bookings.erase_people_of_rejected(connection, hotel_id)
        return json_response(200, body, link_to_next(context.address_with, last, _arrival))

    @operation(
        "POST /admin/hotels/{hotel_id}/bookings/{booking_id}/cancel",
        access=Access.MANAGER,
        summary="Cancel a guest's booking",
        responses={
            202: ResponseSpec(
                BookingState,
                ACCEPTED,
                {**ACCEPTED_HEADERS, "Location": "The address of the hotel's bookings."},
            ),
            204: ResponseSpec(None, "Cancelled: the request waited for it.", WAITED_HEADERS),
            409: ResponseSpec(RefusedBooking, "Refused: `reason` is the reason."),
        },
        example=Example(
            status=202,
            path={"hotel_id": 1, "booking_id": "01980000-0000-8000-8000-000000000000"},
            body={"reason": "overbooked"},
        ),
        headers=(PREFER, IDEMPOTENCY_KEY),
    )
    async def cancel_for_hotel(self, context: RequestContext[HotelCancellation, NoQuery]) -> Response:
        """Cancel a booking of one's hotel, until check-out; the rest of its payment is refunded in full.

        It may be a leg of a paid trip, or a trip, of which each leg is cancelled then (202).
        """
        fields = {"reason": CancelReason.BY_HOTEL, "hotel_reason": context.body.reason}
        accepted = await self._commands.send(context, CancelBooking, **fields)
        return no_content(waited_headers(context)) if accepted is None else accepted


def _creation(booking: ListedBooking) -> str:
    return _creations.write(((booking.created_at - _EPOCH) // _MICROSECOND, booking.id))


def _arrival(booking: ListedBooking) -> str:
    return _arrivals.write((booking.check_in, booking.id))
