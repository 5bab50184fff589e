"""Operations on bookings that exist: requests become commands of the room; responses are read from the ledger.

A command is answered 202 as soon as the broker has it. A request that waits is answered with the decision, if it comes
in time.
"""

from collections.abc import Iterable
from functools import partial
from typing import Final
from uuid import NAMESPACE_OID, UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.acceptance import accept_guests
from ingress.bookings.ids import BookingIds
from ingress.bookings.models import (
    BookingOut,
    BookingState,
    BookingWithHistory,
    Checkout,
    GuestIds,
    TimelineEntry,
)
from ingress.bookings.own_commands import OwnCommands
from ingress.bookings.reasons import PAID_AT_HOTEL
from ingress.bookings.rejections import Rejections
from ingress.bookings.representation import (
    booking_fields,
    out,
    refusal,
    state_fields,
    state_of,
)
from ingress.bookings.responses import BookingResponses
from ingress.bookings.rooms import Rooms
from ingress.bookings.sending import STEERING, accepted_response
from ingress.bookings.undecided import not_decided
from ingress.database import Database, snapshot
from ingress.http.models import NoBody, NoQuery, RefusedBooking
from ingress.http.problems import Problem, no_such
from ingress.http.responses import Response, json_response, no_content
from ingress.http.rollout import Rollout
from ingress.http.waiting import ACCEPTED, ACCEPTED_HEADERS, WAITED_HEADERS, waited_headers
from ingress.log.commands import Commands
from ingress.log.idempotency import IdempotencyKeys
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from storage import guests
from storage.reads import bookings
from storage.reads.bookings import BookingRow
from topics.messages.commands import (
    AddGuests,
    CancelBooking,
    ChangeGuests,
    RequestPayment,
)
from topics.messages.events import TripCancelRequested
from topics.messages.values import SOLD, BookingStatus, Refusal, StayTimes, Terms

_BOOKING: Final = {"booking_id": "01980000-0000-8000-8000-000000000000"}
_SAME_BOOKING: Final = {"booking_id": "$request.path.booking_id"}
#: The states in which guests can be named; a booking that has left them never returns to them.
_OPEN_TO_NAMES: Final = (BookingStatus.RESERVED, BookingStatus.GUESTS_ADDED)


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
        rollout: Rollout,
        rejections: Rejections,
        merchant_name: str,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._rollout = rollout
        self._responses = BookingResponses(database, rejections, merchant_name)
        self._merchant_name = merchant_name
        self._own = OwnCommands(database, booking_ids=booking_ids, keys=keys, commands=commands)

    # Requests that become commands.

    @operation(
        "POST /bookings/{booking_id}/addGuests",
        access=Access.USER,
        summary="Name the guests who will stay",
        responses={
            200: ResponseSpec(BookingOut, "Named: the request waited for it.", WAITED_HEADERS),
            202: ResponseSpec(BookingState, ACCEPTED, ACCEPTED_HEADERS),
            409: ResponseSpec(RefusedBooking, "Refused: `reason` is the reason."),
        },
        example=Example(path=_BOOKING, headers={"Prefer": "wait=5"}, body=[1]),
        headers=STEERING,
        links=dict.fromkeys(("pay", "cancel", "status"), _SAME_BOOKING),
    )
    async def add_guests(self, context: RequestContext[GuestIds, NoQuery]) -> Response:
        """Name the guests who will stay, from the account's saved ones; they replace those named before."""
        user_id, guest_ids = context.caller.user_id, context.body.root

        async def command(booking: BookingRow, command_id: str) -> AddGuests:
            message = AddGuests(
                room_id=booking.room_id,
                booking_id=booking.id,
                user_id=user_id,
                guest_ids=tuple(guest_ids),
                guest_list_id=_guest_list_id(command_id, guest_ids),
            )
            # Once payment is requested, no guests are named any more: the command is refused, or has named them before.
            if booking.status in _OPEN_TO_NAMES:
                await self._keep_guest_list(booking, message)
            return message

        booking, event = await self._own.send(context, command, partial(self._accept_guests, guest_ids))
        if event is None:
            return await self._own.accepted(context, booking)
        return await self._responses.booking(booking.id, 200, context)

    @operation(
        "PUT /bookings/{booking_id}/guests",
        access=Access.USER,
        summary="Change the guests of a paid stay",
        responses={
            200: ResponseSpec(BookingOut, "Changed: the request waited for it.", WAITED_HEADERS),
            202: ResponseSpec(BookingState, ACCEPTED, ACCEPTED_HEADERS),
            409: ResponseSpec(RefusedBooking, "Refused: `reason` is the reason."),
        },
        example=Example(path=_BOOKING, headers={"Prefer": "wait=5"}, body=[1]),
        headers=STEERING,
        links=dict.fromkeys(("cancel", "status", "show"), _SAME_BOOKING),
    )
    async def change_guests(self, context: RequestContext[GuestIds, NoQuery]) -> Response:
        """Name other guests for a confirmed booking, until check-in; the hotel sees their names as they are now."""
        user_id, guest_ids = context.caller.user_id, context.body.root

        async def command(booking: BookingRow, command_id: str) -> ChangeGuests:
            message = ChangeGuests(
                room_id=booking.room_id,
                booking_id=booking.id,
                user_id=user_id,
                guest_ids=tuple(guest_ids),
                guest_list_id=_guest_list_id(command_id, guest_ids),
                stay_times=await self._stay_times(booking),
            )
            await self._keep_guest_list(booking, message)
            return message

        booking, event = await self._own.send(context, command, partial(self._accept_other_guests, guest_ids))
        if event is None:
            return await self._own.accepted(context, booking)
        return await self._responses.booking(booking.id, 200, context)

    @operation(
        "POST /bookings/{booking_id}/payments",
        access=Access.USER,
        summary="Ask to pay",
        responses={
            200: ResponseSpec(Checkout, "The address to pay at: the request waited for it.", WAITED_HEADERS),
            202: ResponseSpec(BookingState, "Accepted; `GET` the booking for its `session_url`.", ACCEPTED_HEADERS),
            409: ResponseSpec(RefusedBooking, "Refused: `reason` is the reason."),
        },
        example=Example(path=_BOOKING, headers={"Prefer": "wait=5"}),
        headers=STEERING,
        links=dict.fromkeys(("cancel", "status"), _SAME_BOOKING),
    )
    async def pay(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Ask for a page to pay at; a declined card leaves the booking payable until its hold ends.

        Of a confirmed booking with a `pending_change` it is the page for what the change costs more.
        """
        user_id = context.caller.user_id

        async def command(booking: BookingRow, _: str) -> RequestPayment:
            if booking.terms is Terms.AT_HOTEL and booking.status in SOLD:
                raise refusal(PAID_AT_HOTEL, id=booking.id, booking_status=booking.status)
            self._rollout.must_be_charged_right(booking.currency)
            return RequestPayment(room_id=booking.room_id, booking_id=booking.id, user_id=user_id)

        booking, event = await self._own.send(context, command)
        if event is None:
            return await self._own.accepted(context, booking)
        async with self._database.reading() as connection, snapshot(connection):
            now = await bookings.own_booking(connection, booking.id, user_id) or booking
            url = await bookings.open_session_url(connection, booking.id)
        if url is None and (now.status == BookingStatus.PAYMENTS_PENDING or now.pending_change is not None):
            # The command repeats one whose page is not opened yet.
            return accepted_response(context, BookingState(**state_of(now)))
        return json_response(200, Checkout(**state_of(now), session_url=url), waited_headers(context))

    @operation(
        "POST /bookings/{booking_id}/cancel",
        access=Access.USER,
        summary="Cancel a booking",
        responses={
            202: ResponseSpec(BookingState, ACCEPTED, ACCEPTED_HEADERS),
            204: ResponseSpec(None, "Cancelled: the request waited for it.", WAITED_HEADERS),
            409: ResponseSpec(RefusedBooking, "Refused: `reason` is the reason."),
        },
        example=Example(path=_BOOKING, status=202),
        headers=STEERING,
        links=dict.fromkeys(("status", "show"), _SAME_BOOKING),
    )
    async def cancel(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Give the booking up, until check-in: its nights go back on sale, its payment is refunded by the policy.

        The legs of a paid trip are cancelled one by one, each by its own policy, and the trip with the last of them:
        202 until then.
        """
        user_id = context.caller.user_id

        async def command(booking: BookingRow, _: str) -> CancelBooking:
            return CancelBooking(
                room_id=booking.room_id,
                booking_id=booking.id,
                user_id=user_id,
                stay_times=await self._stay_times(booking),
            )

        booking, event = await self._own.send(context, command)
        if event is None or isinstance(event, TripCancelRequested):
            return await self._own.accepted(context, booking)
        return no_content(waited_headers(context))

    # Requests that read.

    @operation(
        "GET /bookings/{booking_id}/status",
        access=Access.USER,
        summary="Read a booking's status",
        responses={200: BookingState},
        example=Example(path=_BOOKING),
    )
    async def status(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Read a booking's status: PENDING until it is decided, REJECTED (`lost`) if the system lost the request."""
        booking_id, user_id = context.path["booking_id"], context.caller.user_id
        row = await self._database.read(lambda connection: bookings.booking_status(connection, booking_id, user_id))
        if row is None:
            return json_response(200, await self._own.undecided.state(context.caller.user_id, booking_id))
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
                fields = await booking_fields(connection, booking, self._merchant_name)
                timeline = await bookings.timeline_of(connection, booking_id)
            return BookingWithHistory(**fields, timeline=out(TimelineEntry, timeline))

        booking = await self._database.read(found)
        if booking is None:
            return json_response(200, await self._own.undecided.state(context.caller.user_id, booking_id))
        return json_response(200, booking)

    # Shared by the operations.

    async def _accept_guests(self, guest_ids: list[int], booking: BookingRow) -> None:
        if booking.status == BookingStatus.RESERVING:
            raise not_decided()
        async with self._database.reading() as connection:
            foreign = await guests.guests_of_others(connection, booking.user_id, guest_ids)
            stays = list((await bookings.own_legs(connection, booking)).values()) if booking.legs else [booking]
        accept_guests(guest_ids, [(stay, await self._rooms.facts(stay.room_id)) for stay in stays])
        if foreign:
            raise Problem(404, f"no such guest: {', '.join(map(str, foreign))}")

    async def _accept_other_guests(self, guest_ids: list[int], booking: BookingRow) -> None:
        if booking.status != BookingStatus.CONFIRMED:
            raise refusal(Refusal.WRONG_STATUS, id=booking.id, booking_status=booking.status)
        await self._accept_guests(guest_ids, booking)

    async def _keep_guest_list(self, booking: BookingRow, command: AddGuests | ChangeGuests) -> None:
        """Store the names of the command's guests as they are now, unless a repeated request stored them before.

        Raises:
            Problem: 404 for a guest who was deleted meanwhile; 503 if workers run that do not know the command.
        """
        self._rollout.must_be_decidable(command)
        assert command.guest_list_id is not None
        async with self._database.writing() as connection:
            is_kept = await guests.keep_guest_list(
                connection,
                command.guest_list_id,
                booking_id=booking.id,
                user_id=booking.user_id,
                guest_ids=command.guest_ids,
            )
        if not is_kept:
            raise no_such("guest")

    async def _stay_times(self, booking: BookingRow) -> StayTimes | None:
        """Return the hotel's times now, which count for a booking that has none of its own."""
        facts = await self._rooms.facts(booking.room_id)
        return None if facts is None else facts.stay_times


def _guest_list_id(command_id: str, guest_ids: Iterable[int]) -> UUID:
    """Return the id of the list of guests that a command names, which is the same for a repeated request.

    Another request with the same Idempotency-Key, whose row was lost, has another list.
    """
    return uuid5(NAMESPACE_OID, f"guest list:{command_id}:{','.join(map(str, sorted(set(guest_ids))))}")
