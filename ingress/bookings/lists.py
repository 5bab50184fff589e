"""Lists of bookings: an account's own, newest first, and a hotel's, by arrival. From the ledger, page by page."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.steps import BookingState, told_state
from ingress.database import Database, snapshot
from ingress.http.answers import Answer, answer
from ingress.http.bodies import refused_field
from ingress.http.models import Day, Id, MoneyOut, NoBody, Several, Shown
from ingress.http.paging import NEXT_PAGE, Cursors, Paged, first_page, link_to_next
from ingress.http.problems import Problem
from ingress.operations import Access, Asked, Example, Reply, operation
from pricing.currencies import decimal
from storage.reads import reports
from storage.reads.reports import ByArrival, ByCreation, ListedBooking
from topics.messages.values import BookingStatus

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LAST_MICROSECOND: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND

Statuses = Annotated[Several[BookingStatus], Field(max_length=len(BookingStatus))]
_arrivals: Final = Cursors(tuple[date, UUID])
_creations: Final = Cursors(tuple[Annotated[int, Field(ge=0, le=_LAST_MICROSECOND)], UUID])


class OwnBookings(Paged):
    """Which of one's bookings; all of them if nothing is said."""

    status: Statuses = Field(default_factory=list)


class HotelBookings(Paged):
    """Which of a hotel's bookings: in one of these states, of this room, with a night between these dates."""

    status: Statuses = Field(default_factory=list)
    from_date: Day | None = None
    to_date: Day | None = None
    room_id: Id | None = None


class BookingListed(BookingState):
    """What every list says of a booking."""

    hotel_id: int
    room_id: int
    room_type: str | None
    check_in_date: date
    check_out_date: date
    rooms_count: int
    amount: MoneyOut
    currency: str
    created_at: datetime


class OwnBooking(BookingListed):
    """A booking in the list of whoever made it."""

    hotel_name: str | None


class NamedGuest(Shown):
    """Somebody who stays; without a name when the account has taken it away."""

    id: int
    name: str | None


class HotelBooking(BookingListed):
    """A booking as the hotel sees it: who comes and when, not how to reach them."""

    hold_expires_at: datetime | None
    updated_at: datetime
    guests: list[NamedGuest]


class BookingLists:
    """Answers with lists of bookings."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @operation(
        "GET /users/myBookings",
        access=Access.USER,
        summary="List one's bookings",
        answers={200: Reply(list[OwnBooking], "Newest first.", NEXT_PAGE)},
        example=Example(query={"status": "CONFIRMED", "limit": 10}),
    )
    async def my_bookings(self, asked: Asked[NoBody, OwnBookings]) -> Answer:
        """Tell the account's bookings that are decided, refused ones too."""
        wanted = asked.query
        before = _creations.read(wanted.cursor)
        rows = await self._database.read(
            lambda connection: reports.bookings_of_user(
                connection,
                asked.caller.user_id,
                limit=wanted.limit,
                before=None if before is None else ByCreation(_EPOCH + before[0] * _MICROSECOND, before[1]),
                statuses=wanted.status,
            )
        )
        page, last = first_page(rows, wanted.limit)
        shown = [OwnBooking(**_listed(booking), hotel_name=booking.hotel_name) for booking in page]
        return answer(200, shown, link_to_next(asked.request, last, _creation))

    @operation(
        "GET /admin/hotels/{hotel_id}/bookings",
        access=Access.MANAGER,
        summary="List a hotel's bookings",
        answers={200: Reply(list[HotelBooking], "By check-in.", NEXT_PAGE)},
        example=Example(
            path={"hotel_id": 1},
            query={"status": "CONFIRMED", "from_date": "2026-12-01", "to_date": "2026-12-31", "limit": 50},
        ),
    )
    async def hotel_bookings(self, asked: Asked[NoBody, HotelBookings]) -> Answer:
        """Tell the bookings of one's hotel with a night from `from_date` to `to_date`, both included."""
        wanted, hotel_id = asked.query, asked.path["hotel_id"]
        if wanted.from_date and wanted.to_date and wanted.from_date > wanted.to_date:
            raise refused_field("from_date", "must not be after to_date")
        after = _arrivals.read(wanted.cursor)

        async def listed(connection: AsyncConnection) -> tuple[list[HotelBooking], ListedBooking | None]:
            async with snapshot(connection):
                if await reports.managed_hotel(connection, hotel_id, asked.caller.user_id) is None:
                    raise Problem(404, "no such hotel")
                rows = await reports.bookings_of_hotel(
                    connection,
                    hotel_id,
                    limit=wanted.limit,
                    after=None if after is None else ByArrival(*after),
                    statuses=wanted.status,
                    first=wanted.from_date,
                    last=wanted.to_date,
                    room_id=wanted.room_id,
                )
                page, last = first_page(rows, wanted.limit)
                guests = await reports.guests_of_each(connection, [booking.id for booking in page])
            return _with_guests(page, guests), last

        shown, last = await self._database.read(listed)
        return answer(200, shown, link_to_next(asked.request, last, _arrival))


def _with_guests(page: Sequence[ListedBooking], guests: Sequence[reports.NamedGuest]) -> list[HotelBooking]:
    staying: dict[UUID, list[NamedGuest]] = defaultdict(list)
    for guest in guests:
        staying[guest.booking_id].append(NamedGuest(id=guest.id, name=guest.name))
    return [
        HotelBooking(
            **_listed(booking),
            hold_expires_at=booking.hold_expires_at,
            updated_at=booking.updated_at,
            guests=staying[booking.id],
        )
        for booking in page
    ]


def _listed(booking: ListedBooking) -> dict[str, Any]:
    state = told_state(booking.id, booking.status, booking.rejection, booking.failure, booking.cancel_reason)
    return state | {
        "hotel_id": booking.hotel_id,
        "room_id": booking.room_id,
        "room_type": booking.room_type,
        "check_in_date": booking.check_in,
        "check_out_date": booking.check_out,
        "rooms_count": booking.rooms_count,
        "amount": decimal(booking.amount_minor, booking.currency),
        "currency": booking.currency,
        "created_at": booking.created_at,
    }


def _creation(booking: ListedBooking) -> str:
    return _creations.write(((booking.created_at - _EPOCH) // _MICROSECOND, booking.id))


def _arrival(booking: ListedBooking) -> str:
    return _arrivals.write((booking.check_in, booking.id))
