"""Changes of a booking's stay: other dates, another number of rooms, other people, until check-in.

A request becomes `ChangeStay` or `WithdrawChange`, and the room's worker decides. A dearer change is held until its
guest has paid the difference at `POST /bookings/{booking_id}/payments`. A change that is held does not count among the
account's unpaid bookings (`ingress.bookings.unpaid`): its booking is paid, has one such change at most, and
the account's share of the nights limits its rooms.
"""

from datetime import UTC, datetime
from typing import Final, TypeAlias
from uuid import NAMESPACE_OID, UUID, uuid5

from ingress.bookings.acceptance import accept_change, accept_changeable, accept_hotel, wanted_stay
from ingress.bookings.change_quotes import ChangePrice
from ingress.bookings.hotel_commands import HotelCommands, bookings_path
from ingress.bookings.ids import BookingIds
from ingress.bookings.models import (
    BookingOut,
    BookingState,
    ChangeAccepted,
    ChangedByHotel,
    ChangeQuoteOut,
    ChangeRequest,
)
from ingress.bookings.own_commands import OwnCommands
from ingress.bookings.rejections import Rejections
from ingress.bookings.representation import changed_by_hotel
from ingress.bookings.responses import BookingResponses
from ingress.bookings.rooms import Rooms
from ingress.bookings.sending import STEERING, Context, accepted_response
from ingress.database import Database, snapshot
from ingress.http.models import NoBody, NoQuery, RefusedBooking
from ingress.http.problems import Problem
from ingress.http.responses import Response, json_response, no_content
from ingress.http.waiting import ACCEPTED, WAITED_HEADERS, waited_headers
from ingress.log.commands import Commands
from ingress.log.idempotency import IdempotencyKeys
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from pricing.changes import WantedStay
from storage.reads import bookings
from storage.reads.bookings import AgreedBooking, RoomFacts
from storage.reads.unpaid import rooms_held_unpaid
from topics.messages.commands import BookingCommand, ChangeStay, WithdrawChange
from topics.messages.events import ChangeRejected
from topics.messages.message import Message

_BOOKING: Final = {"booking_id": "01980000-0000-8000-8000-000000000000"}
_CHANGE: Final = {**_BOOKING, "change_id": "01980000-0000-5000-8000-000000000001"}
_SAME_BOOKING: Final = {"booking_id": "$request.path.booking_id"}
_BODY: Final = {"check_in_date": "2026-12-24", "check_out_date": "2026-12-28"}
_WAITS: Final = {"Prefer": "wait=5"}
_ACCEPTED_HEADERS: Final = {
    "Location": "The address of the booking, or of the hotel's bookings.",
    "Retry-After": "In how many seconds to ask.",
}
_REJECTED: Final = ResponseSpec(RefusedBooking, "Refused: `reason` is the reason; the booking stays as it is.")
_WITHDRAWN: Final = {
    202: ResponseSpec(BookingState, ACCEPTED, _ACCEPTED_HEADERS),
    204: ResponseSpec(None, "Withdrawn: the request waited for it.", WAITED_HEADERS),
    409: ResponseSpec(RefusedBooking, "No such change waits for a payment: `reason` is the reason."),
}

ChangeContext: TypeAlias = RequestContext[ChangeRequest, NoQuery]
WithdrawContext: TypeAlias = RequestContext[NoBody, NoQuery]


class StayChanges:
    """The operations on changes of stays: of guests about their bookings, and of managers about their hotels'."""

    def __init__(
        self,
        *,
        database: Database,
        rooms: Rooms,
        booking_ids: BookingIds,
        keys: IdempotencyKeys,
        commands: Commands,
        rejections: Rejections,
        hold_seconds: int,
        account_share_percent: int | None,
        merchant_name: str,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._rejections = rejections
        self._hold_seconds = hold_seconds
        self._account_share_percent = account_share_percent
        self._responses = BookingResponses(database, rejections, merchant_name)
        self._own = OwnCommands(database, booking_ids=booking_ids, keys=keys, commands=commands)
        self._hotel = HotelCommands(database, rooms=rooms, keys=keys, commands=commands)

    @operation(
        "POST /bookings/{booking_id}/changes",
        access=Access.USER,
        summary="Change a stay",
        responses={
            200: ResponseSpec(
                BookingOut,
                "Changed, or held until it is paid (`pending_change`, `session_url`): the request waited for it.",
                WAITED_HEADERS,
            ),
            202: ResponseSpec(ChangeAccepted, ACCEPTED, _ACCEPTED_HEADERS),
            409: _REJECTED,
        },
        example=Example(path=_BOOKING, headers=_WAITS, body=_BODY),
        headers=STEERING,
        links=dict.fromkeys(("cancel", "status", "show"), _SAME_BOOKING),
    )
    async def change_stay(self, context: ChangeContext) -> Response:
        """Change dates, rooms or people of a confirmed booking until check-in; fields that are left out stay.

        A cheaper change is refunded by the policy. A dearer one is held while its guest pays the difference at
        `session_url`, and ends if that is not paid in time; a further change replaces it, and the same one again goes
        on. A request that changes nothing is answered with the booking as it is.
        """
        change = _Change(context.body, context.caller.user_id, self)
        booking, event = await self._own.send(context, change.command, change.accept)
        if event is None:
            state = await self._own.state_after_wait(context, booking)
            return _accepted(context, state, change.id, f"/bookings/{booking.id}")
        await self._raise_if_rejected(event, booking, context.caller.user_id)
        return await self._responses.booking(booking.id, 200, context)

    @operation(
        "POST /bookings/{booking_id}/changes/quote",
        access=Access.USER,
        summary="Quote a change of a stay",
        responses={
            200: ResponseSpec(ChangeQuoteOut, "The price of the change, if it is asked for now."),
            409: ResponseSpec(RefusedBooking, "The change is not possible: `reason` is the reason."),
        },
        example=Example(path=_BOOKING, body=_BODY),
        links={"change_stay": _SAME_BOOKING},
    )
    async def quote_change(self, context: ChangeContext) -> Response:
        """Quote a change: the stay after it, what is paid or refunded, and the costs of a cancellation from then on.

        Nothing is decided and no price is held. Nights that stay in the booking keep their price.
        """
        booking = await self._own.booking(context)
        wanted = wanted_stay(context.body, booking)
        await self.accept(wanted, booking, context.caller.user_id)
        async with self._database.reading() as connection, snapshot(connection):
            # The booking is read again in one snapshot with the nights that a change of it may hold.
            booking = await self._own.find(context, connection) or booking
            nights = booking.room_id, wanted.check_in, wanted.check_out
            room = await bookings.room_for_sale(connection, *nights)
            account_rooms = await rooms_held_unpaid(connection, context.caller.user_id, *nights)
        price = ChangePrice(
            booking,
            wanted,
            await self.facts(booking),
            room,
            datetime.now(UTC),
            account_share_percent=self._account_share_percent,
            account_rooms=account_rooms,
        )
        return json_response(200, price.quoted())

    @operation(
        "DELETE /bookings/{booking_id}/changes/{change_id}",
        access=Access.USER,
        summary="Withdraw a change that is not paid",
        responses=_WITHDRAWN,
        example=Example(path=_CHANGE, status=204, headers=_WAITS),
        headers=STEERING,
    )
    async def withdraw_change(self, context: WithdrawContext) -> Response:
        """Give up a change that waits for its payment: its rooms are on sale again, and the booking stays as it is."""
        change_id, user_id = context.path["change_id"], context.caller.user_id

        async def command(booking: AgreedBooking, _: str) -> BookingCommand:
            return WithdrawChange(room_id=booking.room_id, booking_id=booking.id, change_id=change_id, user_id=user_id)

        booking, event = await self._own.send(context, command)
        if event is None:
            state = await self._own.state_after_wait(context, booking)
            return accepted_response(context, state, f"/bookings/{booking.id}")
        return no_content(waited_headers(context))

    @operation(
        "POST /admin/hotels/{hotel_id}/bookings/{booking_id}/changes",
        access=Access.MANAGER,
        summary="Change a guest's stay",
        responses={
            200: ResponseSpec(
                ChangedByHotel, "Changed, or held until its guest pays: the request waited for it.", WAITED_HEADERS
            ),
            202: ResponseSpec(ChangeAccepted, ACCEPTED, _ACCEPTED_HEADERS),
            409: _REJECTED,
        },
        example=Example(path={"hotel_id": 1, **_BOOKING}, headers=_WAITS, body=_BODY),
        headers=STEERING,
    )
    async def change_stay_for_hotel(self, context: ChangeContext) -> Response:
        """Change the stay of a guest of one's hotel; the whole difference of a cheaper change is refunded.

        A dearer change is held until the guest pays the difference, unless the stay is paid at the hotel.
        """
        change = _Change(context.body, None, self)
        booking, event = await self._hotel.send_made(context, change.command, change.accept)
        if event is None:
            state = await self._hotel.state_after_wait(context, booking)
            return _accepted(context, state, change.id, bookings_path(context))
        await self._raise_if_rejected(event, booking, None)
        async with self._database.reading() as connection, snapshot(connection):
            shown = await changed_by_hotel(connection, await self._hotel.find(connection, context))
        return json_response(200, shown, waited_headers(context))

    @operation(
        "DELETE /admin/hotels/{hotel_id}/bookings/{booking_id}/changes/{change_id}",
        access=Access.MANAGER,
        summary="Withdraw a change of a guest's stay that is not paid",
        responses=_WITHDRAWN,
        example=Example(path={"hotel_id": 1, **_CHANGE}, status=204, headers=_WAITS),
        headers=STEERING,
    )
    async def withdraw_change_for_hotel(self, context: WithdrawContext) -> Response:
        """Give up a change that waits for its guest's payment; the booking stays as it is."""
        change_id = context.path["change_id"]

        async def command(booking: AgreedBooking, _: str) -> BookingCommand:
            return WithdrawChange(room_id=booking.room_id, booking_id=booking.id, change_id=change_id)

        booking, event = await self._hotel.send_made(context, command)
        if event is None:
            state = await self._hotel.state_after_wait(context, booking)
            return accepted_response(context, state, bookings_path(context))
        return no_content(waited_headers(context))

    # Shared by the operations.

    async def accept(self, wanted: WantedStay, booking: AgreedBooking, user_id: int | None) -> None:
        """Check a change that is asked for by a guest, or by a manager (None), whose hotel may be closed.

        Raises:
            Problem: as `accept_change` and `accept_changeable`; 404 when the room is no longer described, 409 for a
                hotel that is not active.
        """
        accept_changeable(booking)
        facts = await self.facts(booking)
        if user_id is not None:
            accept_hotel(facts)
        async with self._database.reading() as connection:
            named_count = len(await bookings.guests_of(connection, booking.id))
        accept_change(wanted, booking, facts, named_count)

    async def facts(self, booking: AgreedBooking) -> RoomFacts:
        """Return the facts of the booking's room. Raises `Problem` 404 when it is no longer described."""
        facts = await self._rooms.facts(booking.room_id)
        if facts is None:
            raise Problem(404, "the booking's room is no longer described")
        return facts

    async def command(
        self, wanted: WantedStay, booking: AgreedBooking, change_id: UUID, user_id: int | None
    ) -> ChangeStay:
        """Return the command of a change; a manager (None) is not limited to an account's share."""
        return ChangeStay(
            room_id=booking.room_id,
            booking_id=booking.id,
            change_id=change_id,
            user_id=user_id,
            check_in=wanted.check_in,
            check_out=wanted.check_out,
            rooms_count=wanted.rooms_count,
            party=wanted.party,
            hold_seconds=self._hold_seconds,
            stay_times=(await self.facts(booking)).stay_times,
            account_share_percent=None if user_id is None else self._account_share_percent,
        )

    async def _raise_if_rejected(self, event: Message, booking: AgreedBooking, user_id: int | None) -> None:
        if isinstance(event, ChangeRejected):
            plan_id = None if booking.sale is None else booking.sale.plan_id
            raise await self._rejections.problem(
                event.reason, booking.id, user_id, event, plan_id, booking_status=booking.status
            )


class _Change:
    """One request for a change: it is checked if it is new, and becomes a command.

    `id` is the change's, which is the same for a repeated request; it is set when the command is made.
    """

    def __init__(self, body: ChangeRequest, user_id: int | None, changes: StayChanges) -> None:
        self._body = body
        self._user_id = user_id
        self._changes = changes
        self.id = UUID(int=0)

    async def accept(self, booking: AgreedBooking) -> None:
        """Check the change. Raises `Problem`, as `StayChanges.accept`."""
        await self._changes.accept(wanted_stay(self._body, booking), booking, self._user_id)

    async def command(self, booking: AgreedBooking, command_id: str) -> BookingCommand:
        """Return the command with this id."""
        wanted = wanted_stay(self._body, booking)
        self.id = _id_of_held(wanted, booking) or uuid5(NAMESPACE_OID, f"change:{command_id}")
        return await self._changes.command(wanted, booking, self.id, self._user_id)


def _id_of_held(wanted: WantedStay, booking: AgreedBooking) -> UUID | None:
    """Return the id of the change that is held if it is the one that is asked for: it goes on, and is not replaced."""
    change = booking.held_change
    if change is None:
        return None
    held, sale, people = change.stay, change.stay.sale, wanted.party
    if (held.check_in, held.check_out, held.rooms_count) != (wanted.check_in, wanted.check_out, wanted.rooms_count):
        return None
    if people is None and booking.sale is not None and booking.sale.party_binding:
        people = booking.sale.party
    same_people = sale is None or (not sale.party_binding if people is None else people == sale.party)
    return change.id if same_people else None


def _accepted(context: Context, state: BookingState, change_id: UUID, path: str) -> Response:
    body = ChangeAccepted(**state.model_dump(exclude_unset=True), change_id=change_id)
    return accepted_response(context, body, path)
