"""Operations on bookings: requests become commands of the booking's room; responses are read from the ledger.

A command is answered 202 as soon as the broker has it. A request that waits is answered with the decision, if it comes
in time.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.acceptance import accept_guests, accept_room
from ingress.bookings.ids import BookingIds
from ingress.bookings.models import (
    BookingOut,
    BookingState,
    BookingWithHistory,
    Checkout,
    GuestIds,
    HotelBooking,
    HotelBookings,
    InitBooking,
    NamedGuest,
    OwnBooking,
    OwnBookings,
    PendingStay,
    QuickInitBooking,
    QuickPendingStay,
    StayingGuest,
    TimelineEntry,
)
from ingress.bookings.rooms import Rooms
from ingress.database import Database, snapshot
from ingress.http.bodies import refused_field
from ingress.http.models import NoBody, NoQuery, OutModel, Problems, RefusedBooking
from ingress.http.paging import NEXT_PAGE, Cursors, first_page, link_to_next
from ingress.http.preferences import PREFER
from ingress.http.problems import Problem, existing, no_such
from ingress.http.responses import Response, json_response, no_content
from ingress.log.commands import Commands, new_command_id
from ingress.log.idempotency import IDEMPOTENCY_KEY, IdempotencyKeys, Ids
from ingress.operations import Access, Example, RequestContext, ResponseSpec, Unversioned, operation
from ingress.stays import accept_stay, today_at
from ingress.tokens import Caller
from pricing.charges import limits_in_words
from pricing.currencies import decimal
from storage import guests
from storage.reads import bookings, reports
from storage.reads.bookings import BookingRow
from storage.reads.reports import ByArrival, ByCreation, ListedBooking
from topics.envelope import format_id
from topics.messages.commands import AddGuests, BookingCommand, CancelBooking, RequestPayment, ReserveStay
from topics.messages.events import BookingRejected, BookingReserved, CommandRefused, PaymentDeclined
from topics.messages.message import Message
from topics.messages.values import BookingStatus, Rejection, Terms

_BOOKING: Final = {"booking_id": "01980000-0000-8000-8000-000000000000"}
_ACCEPTED: Final = "Accepted; the decision follows."
_ACCEPTED_HEADERS: Final = {
    "Location": "The address of the booking's status.",
    "Retry-After": "In how many seconds to ask.",
}
_WAITED_HEADERS: Final = {"Preference-Applied": "How long the request may have waited for this."}
_STEERING: Final = (PREFER, IDEMPOTENCY_KEY)
_SAME_BOOKING: Final = {"booking_id": "$request.path.booking_id"}
_NEW_BOOKING: Final = {"booking_id": "$response.body#/id"}
_AFTER_INIT: Final = ("add_guests", "pay", "cancel", "status", "show")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LAST_MICROSECOND: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_arrivals: Final = Cursors(tuple[date, UUID])
_creations: Final = Cursors(tuple[Annotated[int, Field(ge=0, le=_LAST_MICROSECOND)], UUID])

BodyType = TypeVar("BodyType")
OutType = TypeVar("OutType", bound=OutModel)


class Bookings:
    """The operations of guests on their bookings."""

    def __init__(
        self,
        *,
        database: Database,
        rooms: Rooms,
        booking_ids: BookingIds,
        keys: IdempotencyKeys,
        commands: Commands,
        hold_seconds: int,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._booking_ids = booking_ids
        self._keys = keys
        self._commands = commands
        self._hold_seconds = hold_seconds

    # Requests that become commands.

    @operation(
        "POST /bookings/init",
        access=Access.USER,
        quick=msgspec.json.Decoder(QuickInitBooking),
        summary="Ask for a stay",
        responses={
            201: ResponseSpec(BookingOut, "Reserved: the request waited for it.", _WAITED_HEADERS),
            202: ResponseSpec(PendingStay, _ACCEPTED, _ACCEPTED_HEADERS),
            404: ResponseSpec(Problems, "The hotel has no such room."),
            409: ResponseSpec(RefusedBooking, "Refused: `reason` is the reason."),
        },
        example=Example(
            status=202,
            body={
                "hotel_id": 1,
                "room_id": 1,
                "check_in_date": "2026-12-24",
                "check_out_date": "2026-12-27",
                "rooms_count": 1,
            },
        ),
        headers=_STEERING,
        links=dict.fromkeys(_AFTER_INIT, _NEW_BOOKING),
        unversioned=Unversioned(statuses={201: 200}),
    )
    async def init(self, context: RequestContext[InitBooking, NoQuery]) -> Response:
        """Ask for a stay: 202 PENDING. A request that waits (`Prefer: wait=5`) gets 201 with the booking, or 409.

        With an `Idempotency-Key` the same request can be sent again, and stays one booking.
        """
        stay, caller, wait = context.body, context.caller, context.wait_seconds
        ids = await self._keys.ids(
            context.request, caller.user_id, stay, partial(self._new_ids, caller), partial(self._accept, stay)
        )
        command = ReserveStay(
            room_id=stay.room_id,
            booking_id=ids.booking_id,
            user_id=caller.user_id,
            hotel_id=stay.hotel_id,
            check_in=stay.check_in_date,
            check_out=stay.check_out_date,
            rooms_count=stay.rooms_count,
            hold_seconds=self._hold_seconds,
        )
        event = await self._commands.send_command(command, wait, command_id=ids.command_id)
        if event is None:
            return _accepted_response(context, ids.command_id, _pending_stay(ids.booking_id, caller.user_id, stay))
        return await self._stay_response(event, ids.booking_id, context)

    @operation(
        "POST /bookings/{booking_id}/addGuests",
        access=Access.USER,
        summary="Name the guests who will stay",
        responses={
            200: ResponseSpec(BookingOut, "Named: the request waited for it.", _WAITED_HEADERS),
            202: ResponseSpec(BookingState, _ACCEPTED, _ACCEPTED_HEADERS),
            409: ResponseSpec(RefusedBooking, "Refused: `reason` is the reason."),
        },
        example=Example(path=_BOOKING, headers={"Prefer": "wait=5"}, body=[1]),
        headers=_STEERING,
        links=dict.fromkeys(("pay", "cancel", "status"), _SAME_BOOKING),
    )
    async def add_guests(self, context: RequestContext[GuestIds, NoQuery]) -> Response:
        """Name the guests who will stay, from the account's saved ones; they replace those named before."""
        user_id, guest_ids = context.caller.user_id, context.body.root

        async def accept(booking: BookingRow) -> None:
            accept_guests(guest_ids, await self._rooms.facts(booking.room_id), booking.rooms_count)
            async with self._database.reading() as connection:
                foreign = await guests.guests_of_others(connection, user_id, guest_ids)
            if foreign:
                raise Problem(404, f"no such guest: {', '.join(map(str, foreign))}")

        def command(booking: BookingRow) -> AddGuests:
            return AddGuests(
                room_id=booking.room_id, booking_id=booking.id, user_id=user_id, guest_ids=tuple(guest_ids)
            )

        booking, event = await self._command_about(context, command, accept)
        if event is None:
            return _accepted_response(context, str(booking.id), _state(booking))
        return await self._booking_response(booking.id, 200, context)

    @operation(
        "POST /bookings/{booking_id}/payments",
        access=Access.USER,
        summary="Ask to pay",
        responses={
            200: ResponseSpec(Checkout, "The address to pay at: the request waited for it.", _WAITED_HEADERS),
            202: ResponseSpec(BookingState, "Accepted; `GET` the booking for its `session_url`.", _ACCEPTED_HEADERS),
            409: ResponseSpec(RefusedBooking, "Refused: `reason` is the reason."),
        },
        example=Example(path=_BOOKING, headers={"Prefer": "wait=5"}),
        headers=_STEERING,
        links=dict.fromkeys(("cancel", "status"), _SAME_BOOKING),
    )
    async def pay(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Ask for a page to pay at; a declined card leaves the booking payable until its hold ends."""
        user_id = context.caller.user_id
        booking, event = await self._command_about(
            context, lambda booking: RequestPayment(room_id=booking.room_id, booking_id=booking.id, user_id=user_id)
        )
        if event is None:
            return _accepted_response(context, str(booking.id), _state(booking))
        async with self._database.reading() as connection, snapshot(connection):
            now = await bookings.own_booking(connection, booking.id, user_id) or booking
            url = await bookings.open_session_url(connection, booking.id)
        return json_response(200, Checkout(**_state_of(now), session_url=url), _waited_headers(context))

    @operation(
        "POST /bookings/{booking_id}/cancel",
        access=Access.USER,
        summary="Cancel a booking",
        responses={
            202: ResponseSpec(BookingState, _ACCEPTED, _ACCEPTED_HEADERS),
            204: ResponseSpec(None, "Cancelled: the request waited for it.", _WAITED_HEADERS),
            409: ResponseSpec(RefusedBooking, "Refused: `reason` is the reason."),
        },
        example=Example(path=_BOOKING, status=202),
        headers=_STEERING,
        links=dict.fromkeys(("status", "show"), _SAME_BOOKING),
    )
    async def cancel(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Give the booking up: its nights go back on sale, and its payment is refunded."""
        user_id = context.caller.user_id
        booking, event = await self._command_about(
            context, lambda booking: CancelBooking(room_id=booking.room_id, booking_id=booking.id, user_id=user_id)
        )
        if event is None:
            return _accepted_response(context, str(booking.id), _state(booking))
        return no_content(_waited_headers(context))

    # Requests that read.

    @operation(
        "GET /bookings/{booking_id}/status",
        access=Access.USER,
        summary="Read a booking's status",
        responses={200: BookingState},
        example=Example(path=_BOOKING),
    )
    async def status(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Read a booking's status: PENDING until it is decided."""
        booking_id, user_id = context.path["booking_id"], context.caller.user_id
        row = await self._database.read(lambda connection: bookings.booking_status(connection, booking_id, user_id))
        if row is None:
            self._must_be_pending(context)
            return json_response(200, _pending_state(booking_id))
        status, rejection, failure, cancel_reason = row
        return json_response(200, BookingState(**state_fields(booking_id, status, rejection, failure, cancel_reason)))

    @operation(
        "GET /bookings/{booking_id}",
        access=Access.USER,
        summary="Read a booking",
        responses={
            200: ResponseSpec(
                BookingWithHistory, "A booking that is not decided yet has `id` and `booking_status` alone."
            )
        },
        example=Example(path=_BOOKING),
    )
    async def show(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Read a booking with its history and, while it can be paid, the address to pay at."""
        booking_id = context.path["booking_id"]

        async def found(connection: AsyncConnection) -> BookingWithHistory | None:
            async with snapshot(connection):
                booking = await bookings.own_booking(connection, booking_id, context.caller.user_id)
                if booking is None:
                    return None
                fields = await _booking_fields(connection, booking)
                timeline = await bookings.timeline_of(connection, booking_id)
            return BookingWithHistory(**fields, timeline=_out(TimelineEntry, timeline))

        booking = await self._database.read(found)
        if booking is None:
            self._must_be_pending(context)
            return json_response(200, _pending_state(booking_id))
        return json_response(200, booking)

    # Shared by the operations.

    async def _accept(self, stay: InitBooking) -> None:
        facts = accept_room(stay, await self._rooms.facts(stay.room_id))
        accept_stay(stay.check_in_date, stay.check_out_date, today_at(facts.time_zone))

    def _new_ids(self, caller: Caller) -> Ids:
        booking_id = self._booking_ids.issue(caller.user_id)
        # One command alone reserves a booking, so the booking's id can be the command's too.
        return Ids(format_id(booking_id), booking_id)

    async def _command_about(
        self,
        context: RequestContext[BodyType, NoQuery],
        command: Callable[[BookingRow], BookingCommand],
        accept: Callable[[BookingRow], Awaitable[None]] | None = None,
    ) -> tuple[BookingRow, Message | None]:
        """Send a command about the caller's booking; return the booking and, if the request waited for it, the event.

        Args:
            context: the request.
            command: makes the command.
            accept: raises a problem for a new request that makes no sense.

        Raises:
            Problem: 404 for no booking of the caller's, 409 for one that is not decided yet or a refused command; as
                `IdempotencyKeys.ids` and `Commands.send_command`.
        """
        async with self._database.reading() as connection:
            booking = await bookings.own_booking(connection, context.path["booking_id"], context.caller.user_id)
        if booking is None:
            self._must_be_pending(context)
            raise Problem(409, "not decided yet, retry", headers={"Retry-After": "1"}, more={"reason": "pending"})
        ids = await self._keys.ids(
            context.request,
            context.caller.user_id,
            None if isinstance(context.body, NoBody) else context.body,
            lambda: Ids(new_command_id(), booking.id),
            None if accept is None else lambda: accept(booking),
        )
        event = await self._commands.send_command(command(booking), context.wait_seconds, command_id=ids.command_id)
        _raise_if_refused(event)
        return booking, event

    async def _stay_response(
        self, event: Message, booking_id: UUID, context: RequestContext[InitBooking, NoQuery]
    ) -> Response:
        if isinstance(event, BookingRejected):
            raise await self._rejection(event.reason, booking_id, event.room_id)
        _raise_if_refused(event)
        # Clients without a version expect the row's times, which only the ledger has.
        if isinstance(event, BookingReserved) and not context.mount.unversioned:
            return json_response(201, _reserved_booking(event, context.caller.user_id), _waited_headers(context))
        # The command may also be one that was decided before: the ledger has the booking as it is now.
        return await self._booking_response(booking_id, 201, context)

    async def _booking_response(
        self, booking_id: UUID, status: int, context: RequestContext[BodyType, NoQuery]
    ) -> Response:
        async with self._database.reading() as connection, snapshot(connection):
            booking = await bookings.own_booking(connection, booking_id, context.caller.user_id)
            if booking is None:
                # Events are published after the transaction that wrote the booking.
                raise LookupError(f"booking {booking_id} was decided and is not in the ledger")
            if booking.status == BookingStatus.REJECTED:
                raise await self._rejection(booking.rejection or "", booking_id, booking.room_id)
            return json_response(
                status, BookingOut(**await _booking_fields(connection, booking)), _waited_headers(context)
            )

    async def _rejection(self, reason: str, booking_id: UUID, room_id: int) -> Problem:
        """Return the problem of a stay that was not reserved; if its amount cannot be charged, the limits are in it."""
        problem = _refusal(reason, id=booking_id, booking_status=BookingStatus.REJECTED)
        if reason == Rejection.NOT_CHARGEABLE and (facts := await self._rooms.facts(room_id)) is not None:
            problem.detail += f"; the amount of a stay {limits_in_words(facts.currency)}"
        return problem

    def _must_be_pending(self, context: RequestContext[BodyType, NoQuery]) -> None:
        if not self._booking_ids.was_issued_to(context.caller.user_id, context.path["booking_id"]):
            raise no_such("booking")


class BookingLists:
    """Lists of bookings from the ledger, page by page: an account's own, newest first, and a hotel's, by arrival."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        rows = await self._database.read(
            lambda connection: reports.bookings_of_user(
                connection,
                context.caller.user_id,
                limit=query.limit,
                before=None if before is None else ByCreation(_EPOCH + before[0] * _MICROSECOND, before[1]),
                statuses=query.status,
            )
        )
        page, last = first_page(rows, query.limit)
        body = [OwnBooking(**_listed_fields(booking), hotel_name=booking.hotel_name) for booking in page]
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
        """List the bookings of one's hotel with a night from `from_date` to `to_date`, both included."""
        query, hotel_id = context.query, context.path["hotel_id"]
        if query.from_date and query.to_date and query.from_date > query.to_date:
            raise refused_field("from_date", "must not be after to_date")
        after = _arrivals.read(query.cursor)

        async def listed(connection: AsyncConnection) -> tuple[list[HotelBooking], ListedBooking | None]:
            async with snapshot(connection):
                existing(await reports.managed_hotel(connection, hotel_id, context.caller.user_id), "hotel")
                rows = await reports.bookings_of_hotel(
                    connection,
                    hotel_id,
                    limit=query.limit,
                    after=None if after is None else ByArrival(*after),
                    statuses=query.status,
                    first=query.from_date,
                    last=query.to_date,
                    room_id=query.room_id,
                )
                page, last = first_page(rows, query.limit)
                guests = await reports.guests_of_each(connection, [booking.id for booking in page])
            return _with_guests(page, guests), last

        body, last = await self._database.read(listed)
        return json_response(200, body, link_to_next(context.address_with, last, _arrival))


def _pending_stay(booking_id: UUID, user_id: int, stay: InitBooking) -> QuickPendingStay:
    return QuickPendingStay(
        id=booking_id,
        booking_status=BookingStatus.PENDING,
        user_id=user_id,
        hotel_id=stay.hotel_id,
        room_id=stay.room_id,
        check_in_date=stay.check_in_date,
        check_out_date=stay.check_out_date,
        rooms_count=stay.rooms_count,
    )


def _accepted_response(
    context: RequestContext[BodyType, NoQuery], booking_id: str, body: BookingState | QuickPendingStay
) -> Response:
    headers = {"Location": context.link(f"/bookings/{booking_id}/status"), "Retry-After": "1"}
    return json_response(202, body, headers)


def _waited_headers(context: RequestContext[BodyType, NoQuery]) -> dict[str, str]:
    return {"Preference-Applied": f"wait={context.wait_seconds}"}


def _raise_if_refused(event: Message | None) -> None:
    match event:
        case BookingRejected(booking_id=booking_id, reason=reason):
            raise _refusal(reason, id=booking_id, booking_status=BookingStatus.REJECTED)
        case CommandRefused(booking_id=booking_id, reason=reason, booking_status=status):
            raise _refusal(reason, id=booking_id, booking_status=status)
        case PaymentDeclined(booking_id=booking_id, failure=failure):
            raise _refusal(failure, id=booking_id, booking_status=BookingStatus.PAYMENTS_PENDING)


def _refusal(reason: str, **more: object) -> Problem:
    return Problem(409, f"refused: {reason.replace('_', ' ')}", more={"reason": str(reason), **more})


def _pending_state(booking_id: UUID) -> BookingState:
    return BookingState(id=booking_id, booking_status=BookingStatus.PENDING)


def _state(booking: BookingRow) -> BookingState:
    return BookingState(**_state_of(booking))


def _state_of(booking: BookingRow | ListedBooking) -> dict[str, Any]:
    return state_fields(booking.id, booking.status, booking.rejection, booking.failure, booking.cancel_reason)


def state_fields(
    booking_id: UUID, status: str, rejection: str | None, failure: str | None, cancel_reason: str | None
) -> dict[str, Any]:
    """Return the fields of a `BookingState`."""
    reasons = {
        BookingStatus.REJECTED: rejection,
        BookingStatus.PAYMENTS_PENDING: failure,
        BookingStatus.CANCELLED: cancel_reason,
    }
    reason = reasons.get(BookingStatus(status))
    fields: dict[str, Any] = {"id": booking_id, "booking_status": BookingStatus(status)}
    return fields if reason is None else fields | {"reason": reason}


def _reserved_booking(event: BookingReserved, user_id: int) -> BookingOut:
    at_once = event.terms is Terms.AT_HOTEL
    return BookingOut(
        id=event.booking_id,
        booking_status=BookingStatus.CONFIRMED if at_once else BookingStatus.RESERVED,
        user_id=user_id,
        hotel_id=event.hotel_id,
        room_id=event.room_id,
        check_in_date=event.check_in,
        check_out_date=event.check_out,
        rooms_count=event.rooms_count,
        amount=decimal(event.amount_minor, event.currency),
        currency=event.currency,
        hold_expires_at=event.hold_expires_at,
        guests=[],
    )


async def _booking_fields(connection: AsyncConnection, booking: BookingRow) -> dict[str, Any]:
    """Return the fields of a booking as its guest sees it, without its history."""
    fields = _fields(booking) | {
        "hold_expires_at": booking.hold_expires_at,
        "guests": _out(StayingGuest, await bookings.guests_of(connection, booking.id)),
    }
    url = await bookings.open_session_url(connection, booking.id)
    return fields if url is None else fields | {"session_url": url}


def _fields(booking: BookingRow | ListedBooking) -> dict[str, Any]:
    return _state_of(booking) | {
        "user_id": booking.user_id,
        "hotel_id": booking.hotel_id,
        "room_id": booking.room_id,
        "check_in_date": booking.check_in,
        "check_out_date": booking.check_out,
        "rooms_count": booking.rooms_count,
        "amount": decimal(booking.amount_minor, booking.currency),
        "currency": booking.currency,
        "created_at": booking.created_at,
        "updated_at": booking.updated_at,
    }


def _out(model: type[OutType], rows: Iterable[object]) -> list[OutType]:
    return [model.model_validate(row) for row in rows]


def _with_guests(page: Sequence[ListedBooking], guests: Sequence[reports.NamedGuest]) -> list[HotelBooking]:
    staying: dict[UUID, list[NamedGuest]] = defaultdict(list)
    for guest in guests:
        staying[guest.booking_id].append(NamedGuest(id=guest.id, name=guest.name))
    return [
        HotelBooking(**_listed_fields(booking), hold_expires_at=booking.hold_expires_at, guests=staying[booking.id])
        for booking in page
    ]


def _listed_fields(booking: ListedBooking) -> dict[str, Any]:
    return _fields(booking) | {"room_type": booking.room_type}


def _creation(booking: ListedBooking) -> str:
    return _creations.write(((booking.created_at - _EPOCH) // _MICROSECOND, booking.id))


def _arrival(booking: ListedBooking) -> str:
    return _arrivals.write((booking.check_in, booking.id))
