"""Changes of a booking's stay: other dates, another number of rooms, other people, another room type, until check-in.

A request becomes `ChangeStay` or `WithdrawChange`, and the room's worker decides. A dearer change is held until its
guest has paid the difference at `POST /bookings/{booking_id}/payments`. A change that is held does not count among the
account's unpaid bookings (`ingress.bookings.unpaid`), and neither does the leg that holds its stay in another room
type: its booking is paid, has one such change at most, and the account's share of the nights limits its rooms.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeAlias
from uuid import NAMESPACE_OID, UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.acceptance import (
    accept_change,
    accept_change_quote,
    accept_changeable,
    accept_hotel,
    accept_quote_time,
    wanted_stay,
)
from ingress.bookings.change_models import ChangeQuoteOut
from ingress.bookings.change_quotes import ChangePrice
from ingress.bookings.hotel_commands import HotelCommands, bookings_path
from ingress.bookings.ids import BookingIds
from ingress.bookings.models import (
    BookingOut,
    BookingState,
    ChangeAccepted,
    ChangedByHotel,
    ChangedStay,
    ChangeRequest,
)
from ingress.bookings.moves import MovePrice, OtherType, accept_other_type, is_same_move, other_type
from ingress.bookings.own_commands import OwnCommands
from ingress.bookings.reasons import WORDS_OF_MOVES
from ingress.bookings.rejections import Rejections, RequestedStay
from ingress.bookings.representation import changed_by_hotel, refusal, refusal_words, state_of
from ingress.bookings.responses import BookingResponses
from ingress.bookings.rooms import Rooms
from ingress.bookings.sending import STEERING, Context, accepted_response
from ingress.database import Database, snapshot
from ingress.http.deadlines import otherwise
from ingress.http.models import NoBody, NoQuery, Problems, RefusedBooking
from ingress.http.problems import Problem
from ingress.http.responses import Response, json_response, no_content
from ingress.http.waiting import ACCEPTED, WAITED_HEADERS, waited_headers
from ingress.log.commands import Commands
from ingress.log.idempotency import IdempotencyKeys
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from ingress.tokens import ChangeQuote, QuoteTokens
from pricing.changes import WantedStay
from storage.reads import bookings
from storage.reads.bookings import AgreedBooking, RoomFacts
from storage.reads.changes import other_rooms, pending_change
from storage.reads.unpaid import rooms_held_unpaid
from topics.messages.commands import BookingCommand, ChangeStay, WithdrawChange
from topics.messages.events import ChangeEnded, ChangeRejected, CommandRepeated
from topics.messages.message import Message
from topics.messages.sale import Party, QuotedChange, Sale
from topics.messages.values import ChangeEnd, Refusal, Rejection

_BOOKING: Final = {"booking_id": "01980000-0000-8000-8000-000000000000"}
_CHANGE: Final = {**_BOOKING, "change_id": "01980000-0000-5000-8000-000000000001"}
_SAME_BOOKING: Final = {"booking_id": "$request.path.booking_id"}
_MOVE: Final = {"room_id": 1, "rooms_count": 1}
_BODY: Final = {"check_in_date": "2026-12-24", "check_out_date": "2026-12-28"}
_WAITS: Final = {"Prefer": "wait=5"}
_ACCEPTED_HEADERS: Final = {
    "Location": "The address of the booking, or of the hotel's bookings.",
    "Retry-After": "In how many seconds to ask.",
}
_REJECTED: Final = ResponseSpec(RefusedBooking, "Refused: `reason` is the reason; the booking stays as it is.")
_QUOTED: Final = {
    200: ResponseSpec(ChangeQuoteOut, "The price of the change, and a token that holds it for some minutes."),
    409: ResponseSpec(RefusedBooking, "The change is not possible: `reason` is the reason."),
}
_OF_ANOTHER: Final = ResponseSpec(Problems, "The quote was given to another account.")
_WITHDRAWN: Final = {
    202: ResponseSpec(BookingState, ACCEPTED, _ACCEPTED_HEADERS),
    204: ResponseSpec(None, "Withdrawn: the request waited for it.", WAITED_HEADERS),
    409: ResponseSpec(RefusedBooking, "No such change waits for a payment: `reason` is the reason."),
}

ChangeContext: TypeAlias = RequestContext[ChangeRequest, NoQuery]
QuoteContext: TypeAlias = RequestContext[ChangedStay, NoQuery]
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
        quote_tokens: QuoteTokens,
        rejections: Rejections,
        hold_seconds: int,
        account_share_percent: int | None,
        merchant_name: str,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._quote_tokens = quote_tokens
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
            403: _OF_ANOTHER,
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
        on. A request that changes nothing is answered with the booking as it is. A `quote` of the change is decided at
        its price, as long as it is valid and the stay is the one that it was made of.

        With `room_id` the stay moves to another room type, at today's price for all nights: that room holds it first,
        and once it is paid the booking is a trip with one leg there (`legs`), which is not changed again.
        """
        change = await self._change(context, context.caller.user_id)
        booking, event = await self._own.send(context, change.command, change.accept)
        path = f"/bookings/{booking.id}"
        otherwise(lambda: _accepted(context, BookingState(**state_of(booking)), change.id, path))
        if event is None or await self._is_undecided(event, booking, change.id):
            state = await self._own.state_after_wait(context, booking)
            return _accepted(context, state, change.id, path)
        await self._raise_if_rejected(event, change, booking, context.caller.user_id)
        return await self._responses.booking(booking.id, 200, context)

    @operation(
        "POST /bookings/{booking_id}/changes/quote",
        access=Access.USER,
        summary="Quote a change of a stay",
        responses=_QUOTED,
        example=Example(path=_BOOKING, body=_MOVE),
        links={"change_stay": _SAME_BOOKING},
    )
    async def quote_change(self, context: QuoteContext) -> Response:
        """Quote a change: the stay after it, what is paid or refunded, and the costs of a cancellation from then on.

        With the `token` as its `quote`, the change is decided at this price until `good_until`. Nights that stay in the
        booking keep their price. A change to another room type (`room_id`) costs today's price for all nights; its
        quote has no token, and holds no price.
        """
        booking: AgreedBooking = await self._own.booking(context)
        return await self._quote(context, booking, context.caller.user_id, partial(self._own.find, context))

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
            403: _OF_ANOTHER,
            409: _REJECTED,
        },
        example=Example(path={"hotel_id": 1, **_BOOKING}, headers=_WAITS, body=_BODY),
        headers=STEERING,
    )
    async def change_stay_for_hotel(self, context: ChangeContext) -> Response:
        """Change the stay of a guest of one's hotel; the whole difference of a cheaper change is refunded.

        A dearer change is held until the guest pays the difference, unless the stay is paid at the hotel. With
        `room_id` a stay that is paid in advance moves to another room type.
        """
        change = await self._change(context, None)
        booking, event = await self._hotel.send_made(context, change.command, change.accept)
        path = bookings_path(context)
        otherwise(lambda: _accepted(context, BookingState(**state_of(booking)), change.id, path))
        if event is None or await self._is_undecided(event, booking, change.id):
            state = await self._hotel.state_after_wait(context, booking)
            return _accepted(context, state, change.id, path)
        await self._raise_if_rejected(event, change, booking, None)
        async with self._database.reading() as connection, snapshot(connection):
            shown = await changed_by_hotel(connection, await self._hotel.find(connection, context))
        return json_response(200, shown, waited_headers(context))

    @operation(
        "POST /admin/hotels/{hotel_id}/bookings/{booking_id}/changes/quote",
        access=Access.MANAGER,
        summary="Quote a change of a guest's stay",
        responses=_QUOTED,
        example=Example(path={"hotel_id": 1, **_BOOKING}, body=_MOVE),
        links={"change_stay_for_hotel": {"hotel_id": "$request.path.hotel_id", **_SAME_BOOKING}},
    )
    async def quote_change_for_hotel(self, context: QuoteContext) -> Response:
        """Quote a change by the hotel, which costs its guest nothing but the difference of the prices."""
        async with self._database.reading() as connection:
            booking = await self._hotel.find(connection, context)
        return await self._quote(context, booking, None, lambda connection: self._hotel.find(connection, context))

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

    async def _change(self, context: ChangeContext, user_id: int | None) -> "_Change":
        """Return the change that is asked for by a guest, or by a manager (None).

        Raises:
            Problem: as `accept_change_quote`.
        """
        quote = await accept_change_quote(context.body, context.path["booking_id"], user_id, self._quote_tokens)
        return _Change(context.body, quote, user_id, self)

    async def _quote(
        self,
        context: QuoteContext,
        booking: AgreedBooking,
        user_id: int | None,
        find: Callable[[AsyncConnection], Awaitable[AgreedBooking | None]],
    ) -> Response:
        """Quote a change of a booking to its guest, or to a manager (None); `find` reads the booking once more.

        Raises:
            Problem: as `accept` and `ChangePrice.priced`.
        """
        wanted, other = wanted_stay(context.body, booking), other_type(context.body, booking)
        facts = await self.accept(wanted, other, booking, user_id)
        async with self._database.reading() as connection, snapshot(connection):
            # The booking is read again in one snapshot with the nights that a change of it may hold.
            booking = await find(connection) or booking
            nights = facts.room_id, wanted.check_in, wanted.check_out
            room = await bookings.room_for_sale(connection, *nights)
            account_rooms = {} if user_id is None else await rooms_held_unpaid(connection, user_id, *nights)
        price_of = ChangePrice if other is None else partial(MovePrice, other)
        price = price_of(
            booking,
            wanted,
            facts,
            room,
            datetime.now(UTC),
            account_share_percent=None if user_id is None else self._account_share_percent,
            account_rooms=account_rooms,
            by_guest=user_id is not None,
        )
        change, good_until = price.priced(), self._quote_tokens.good_until()
        if other is not None:
            return json_response(200, price.shown(change, room_id=other.room_id))
        token = await self._quote_tokens.issue(price.quote(change, good_until))
        return json_response(200, price.shown(change, good_until=good_until, token=token))

    async def accept(
        self, wanted: WantedStay, other: OtherType | None, booking: AgreedBooking, user_id: int | None
    ) -> RoomFacts:
        """Check a change that is asked for by a guest, or by a manager (None), whose hotel may be closed.

        Returns:
            The facts of the room that the stay is in after the change.

        Raises:
            Problem: as `accept_change` and `accept_changeable`; 404 when the room is no longer described or the hotel
                has no such other room, 409 for a hotel that is not active.
        """
        accept_changeable(booking)
        facts = await self.facts(booking)
        if other is not None:
            facts = accept_other_type(await self._rooms.facts(other.room_id), booking)
        if user_id is not None:
            accept_hotel(facts)
        async with self._database.reading() as connection:
            named_count = len(await bookings.guests_of(connection, booking.id))
        accept_change(wanted, booking, facts, named_count)
        return facts

    async def facts(self, booking: AgreedBooking) -> RoomFacts:
        """Return the facts of the booking's room. Raises `Problem` 404 when it is no longer described."""
        facts = await self._rooms.facts(booking.room_id)
        if facts is None:
            raise Problem(404, "the booking's room is no longer described")
        return facts

    async def command(
        self,
        wanted: WantedStay,
        other: OtherType | None,
        booking: AgreedBooking,
        *,
        change_id: UUID,
        user_id: int | None,
        quoted: QuotedChange | None,
    ) -> ChangeStay:
        """Return the command of a change, at a quoted price or at today's (None).

        A manager (`user_id` None) is not limited to an account's share.
        """
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
            quoted=quoted,
            to_room_id=None if other is None else other.room_id,
            plan_id=None if other is None else other.plan_id,
        )

    async def id_of_held(
        self, wanted: WantedStay, other: OtherType | None, booking: AgreedBooking, quoted: QuotedChange | None
    ) -> UUID | None:
        """Return the id of the change that is held if it is the one that is asked for: it goes on, and is not replaced.

        The same change at another price, that of a quote, is another one.
        """
        change = booking.held_change
        if change is None or (quoted is not None and quoted.amount_minor != change.stay.amount_minor):
            return None
        held, people = change.stay, wanted.party
        if (held.check_in, held.check_out, held.rooms_count) != (wanted.check_in, wanted.check_out, wanted.rooms_count):
            return None
        if people is None and booking.sale is not None and booking.sale.party_binding:
            people = booking.sale.party
        if other is None:
            return change.id if change.to_room_id is None and _same_people(held.sale, people) else None
        async with self._database.reading() as connection:
            rooms = await other_rooms(connection, [change])
        leg = rooms.get(change.id)
        return change.id if leg is not None and is_same_move(change, leg.sale, other, people, booking) else None

    async def _is_undecided(self, event: Message, booking: AgreedBooking, change_id: UUID) -> bool:
        """Return whether the request repeats one whose other room has not answered yet."""
        if not isinstance(event, CommandRepeated):
            return False
        async with self._database.reading() as connection:
            pending = await pending_change(connection, booking.id)
        return pending is not None and pending.id == change_id and pending.is_open

    async def _raise_if_rejected(
        self, event: Message, change: "_Change", booking: AgreedBooking, user_id: int | None
    ) -> None:
        """Raise the problem of a change that does not take place. Raises `Problem` 409, with the reason."""
        if isinstance(event, ChangeEnded):
            reason = Refusal.CHECK_IN_PASSED if event.reason is ChangeEnd.STAY_BEGAN else Refusal.NO_SUCH_CHANGE
            words = refusal_words(reason, for_hotel=user_id is None)
            raise refusal(reason, words=words, id=booking.id, booking_status=booking.status)
        if not isinstance(event, ChangeRejected):
            return
        plan_id = None if booking.sale is None else booking.sale.plan_id
        words, stay, other = (
            None,
            RequestedStay(booking.room_id, event.check_in, event.check_out),
            change.other(booking),
        )
        if other is not None:
            plan_id, stay = other.plan_for(booking.sale), stay._replace(room_id=other.room_id)
            words = WORDS_OF_MOVES.get(Rejection(event.reason))
        raise await self._rejections.problem(
            event.reason, booking.id, user_id, stay, plan_id, booking_status=booking.status, words=words
        )


class _Change:
    """One request for a change: it is checked if it is new, and becomes a command.

    `id` is the change's, which is the same for a repeated request; it is set when the command is made.
    """

    def __init__(
        self, body: ChangeRequest, quote: ChangeQuote | None, user_id: int | None, changes: StayChanges
    ) -> None:
        self._body = body
        self._quote = quote
        self._user_id = user_id
        self._changes = changes
        self.id = UUID(int=0)

    async def accept(self, booking: AgreedBooking) -> None:
        """Check the change. Raises `Problem`, as `StayChanges.accept`; 409 for a quote that has expired."""
        await self._changes.accept(self._wanted(booking), self.other(booking), booking, self._user_id)
        accept_quote_time(None if self._quote is None else self._quote.quoted)

    async def command(self, booking: AgreedBooking, command_id: str) -> BookingCommand:
        """Return the command with this id."""
        quoted = None if self._quote is None else self._quote.quoted
        wanted, other = self._wanted(booking), self.other(booking)
        held_id = await self._changes.id_of_held(wanted, other, booking, quoted)
        self.id = held_id or uuid5(NAMESPACE_OID, f"change:{command_id}")
        return await self._changes.command(
            wanted, other, booking, change_id=self.id, user_id=self._user_id, quoted=quoted
        )

    def other(self, booking: AgreedBooking) -> OtherType | None:
        """Return the other room type that is asked for; None: the stay keeps its own. Raises `Problem` 422."""
        return other_type(self._body, booking)

    def _wanted(self, booking: AgreedBooking) -> WantedStay:
        """Return the stay that is asked for: that of the quote, or the booking's with the fields that are named."""
        quote = self._quote
        if quote is None:
            return wanted_stay(self._body, booking)
        return WantedStay(quote.check_in, quote.check_out, quote.rooms_count, quote.party)


def _same_people(sale: Sale | None, people: Party | None) -> bool:
    """Return whether the stay of a change is sold for these people; None: nobody named them."""
    return sale is None or (not sale.party_binding if people is None else people == sale.party)


def _accepted(context: Context, state: BookingState, change_id: UUID, path: str) -> Response:
    body = ChangeAccepted(**state.model_dump(exclude_unset=True), change_id=change_id)
    return accepted_response(context, body, path)
