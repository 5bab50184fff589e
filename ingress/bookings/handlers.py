"""Operations on bookings: requests become commands of the booking's room; responses are read from the ledger.

A command is answered 202 as soon as the broker has it. A request that waits is answered with the decision, if it comes
in time.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar
from uuid import NAMESPACE_OID, UUID, uuid5

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.acceptance import accept_guests, accept_offer, accept_room
from ingress.bookings.ids import BookingIds
from ingress.bookings.models import (
    BookingOut,
    BookingState,
    BookingWithHistory,
    Checkout,
    GuestIds,
    InitBooking,
    PendingStay,
    QuickInitBooking,
    QuickPendingStay,
    TimelineEntry,
)
from ingress.bookings.rejections import Rejections
from ingress.bookings.representation import (
    PAID_AT_HOTEL,
    booking_fields,
    out,
    pending_state,
    raise_if_refused,
    refusal,
    reserved_booking,
    state_fields,
    state_of,
)
from ingress.bookings.rooms import Rooms
from ingress.bookings.sending import (
    ACCEPTED,
    ACCEPTED_HEADERS,
    WAITED_HEADERS,
    BookingCommands,
    Context,
    accepted_response,
    waited_headers,
)
from ingress.bookings.unpaid import TooManyUnpaid, UnpaidCap
from ingress.database import Database, snapshot
from ingress.http.models import NoBody, NoQuery, Problems, RefusedBooking
from ingress.http.old_statuses import shown_status
from ingress.http.preferences import PREFER
from ingress.http.problems import NothingDone, Problem, no_such
from ingress.http.responses import Response, json_response, no_content
from ingress.http.rollout import Rollout
from ingress.log.commands import Commands
from ingress.log.idempotency import IDEMPOTENCY_KEY, IdempotencyKeys, Ids, endpoint_of
from ingress.operations import Access, Example, RequestContext, ResponseSpec, Unversioned, operation
from ingress.stays import accept_stay, today_at
from ingress.tokens import QuoteTokens
from storage import guests
from storage.reads import bookings
from storage.reads.bookings import BookingRow
from topics.envelope import format_id
from topics.messages.commands import (
    AddGuests,
    BookingCommand,
    CancelBooking,
    ChangeGuests,
    RequestPayment,
    ReserveStay,
)
from topics.messages.events import BookingRejected, BookingReserved
from topics.messages.message import Message
from topics.messages.sale import Quoted
from topics.messages.values import SOLD, BookingStatus, Refusal, Rejection, StayTimes, Terms

_BOOKING: Final = {"booking_id": "01980000-0000-8000-8000-000000000000"}
_STEERING: Final = (PREFER, IDEMPOTENCY_KEY)
_SAME_BOOKING: Final = {"booking_id": "$request.path.booking_id"}
_NEW_BOOKING: Final = {"booking_id": "$response.body#/id"}
_AFTER_INIT: Final = ("add_guests", "pay", "cancel", "status", "show")
#: A percentage at which the share of an account is not limited.
_WHOLE_PERCENT: Final = 100
#: The states in which guests can be named; a booking that has left them never returns to them.
_OPEN_TO_NAMES: Final = (BookingStatus.RESERVED, BookingStatus.GUESTS_ADDED)

BodyType = TypeVar("BodyType")


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
        unpaid: UnpaidCap,
        quote_tokens: QuoteTokens,
        hold_seconds: int,
        max_account_share_percent: int,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._booking_ids = booking_ids
        self._keys = keys
        self._commands = commands
        self._rollout = rollout
        self._unpaid = unpaid
        self._quote_tokens = quote_tokens
        self._hold_seconds = hold_seconds
        is_limited = max_account_share_percent < _WHOLE_PERCENT
        self._account_share_percent = max_account_share_percent if is_limited else None
        self._rejections = Rejections(database, rooms, account_share_percent=self._account_share_percent)
        self._sending = BookingCommands(database, keys, commands)

    # Requests that become commands.

    @operation(
        "POST /bookings/init",
        access=Access.USER,
        quick=msgspec.json.Decoder(QuickInitBooking),
        summary="Ask for a stay",
        responses={
            201: ResponseSpec(BookingOut, "Reserved: the request waited for it.", WAITED_HEADERS),
            202: ResponseSpec(PendingStay, ACCEPTED, ACCEPTED_HEADERS),
            404: ResponseSpec(Problems, "The hotel has no such room."),
            403: ResponseSpec(Problems, "The quote was given to another account."),
            409: ResponseSpec(
                RefusedBooking,
                "Refused: `reason` is the reason. If the account itself holds rooms of these nights without paying, "
                "`unpaid_bookings` are its bookings: pay for them, cancel them, or let them end.",
            ),
            429: ResponseSpec(
                TooManyUnpaid,
                "Too many requests, or too many bookings of this account that are not paid: they are named.",
                {"Retry-After": "In how many seconds to try again."},
            ),
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

        With an `Idempotency-Key` the same request can be sent again, and stays one booking. A `quote` of `POST /quotes`
        is decided at its price, as long as it is valid.
        """
        stay, user_id = context.body, context.caller.user_id
        offer = accept_offer(stay, user_id, self._quote_tokens)
        ids = await self._admitted_ids(context, offer.get("quoted"))
        facts = await self._rooms.facts(stay.room_id)
        command = ReserveStay(
            room_id=stay.room_id,
            booking_id=ids.booking_id,
            user_id=user_id,
            hotel_id=stay.hotel_id,
            check_in=stay.check_in_date,
            check_out=stay.check_out_date,
            rooms_count=stay.rooms_count,
            hold_seconds=self._hold_seconds,
            stay_times=None if facts is None else facts.stay_times,
            account_share_percent=self._account_share_percent,
            **offer,
        )
        try:
            event = await self._commands.send_command(command, context.wait_seconds, command_id=ids.command_id)
        except NothingDone:
            self._unpaid.forget(user_id, ids.booking_id)
            raise
        except Problem:
            self._unpaid.unanswered(user_id, ids.booking_id)
            raise
        if event is not None:
            return await self._stay_response(event, ids.booking_id, context)
        pending = _pending_stay(ids.booking_id, user_id, stay)
        return accepted_response(context, await self._status_after_wait(context, pending))

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
        headers=_STEERING,
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
                guest_list_id=_guest_list_id(command_id),
            )
            # Once payment is requested, no guests are named any more: the command is refused, or has named them before.
            if booking.status in _OPEN_TO_NAMES:
                await self._keep_guest_list(booking, message)
            return message

        booking, event = await self._command_about(context, command, partial(self._accept_guests, guest_ids))
        if event is None:
            return await self._accepted(context, booking)
        return await self._booking_response(booking.id, 200, context)

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
        headers=_STEERING,
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
                guest_list_id=_guest_list_id(command_id),
                stay_times=await self._stay_times(booking),
            )
            await self._keep_guest_list(booking, message)
            return message

        booking, event = await self._command_about(context, command, partial(self._accept_other_guests, guest_ids))
        if event is None:
            return await self._accepted(context, booking)
        return await self._booking_response(booking.id, 200, context)

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
        headers=_STEERING,
        links=dict.fromkeys(("cancel", "status"), _SAME_BOOKING),
    )
    async def pay(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Ask for a page to pay at; a declined card leaves the booking payable until its hold ends."""
        user_id = context.caller.user_id

        async def command(booking: BookingRow, _: str) -> RequestPayment:
            if booking.terms is Terms.AT_HOTEL and booking.status in SOLD:
                raise refusal(PAID_AT_HOTEL, id=booking.id, booking_status=booking.status)
            self._rollout.must_be_charged_right(booking.currency)
            return RequestPayment(room_id=booking.room_id, booking_id=booking.id, user_id=user_id)

        booking, event = await self._command_about(context, command)
        if event is None:
            return await self._accepted(context, booking)
        async with self._database.reading() as connection, snapshot(connection):
            now = await bookings.own_booking(connection, booking.id, user_id) or booking
            url = await bookings.open_session_url(connection, booking.id)
        if url is None and now.status == BookingStatus.PAYMENTS_PENDING:
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
        headers=_STEERING,
        links=dict.fromkeys(("status", "show"), _SAME_BOOKING),
    )
    async def cancel(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Give the booking up, until check-in: its nights go back on sale, its payment is refunded by the policy."""
        user_id = context.caller.user_id

        async def command(booking: BookingRow, _: str) -> CancelBooking:
            return CancelBooking(
                room_id=booking.room_id,
                booking_id=booking.id,
                user_id=user_id,
                stay_times=await self._stay_times(booking),
            )

        booking, event = await self._command_about(context, command)
        if event is None:
            return await self._accepted(context, booking)
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
        """Read a booking's status: PENDING until it is decided."""
        booking_id, user_id = context.path["booking_id"], context.caller.user_id
        row = await self._database.read(lambda connection: bookings.booking_status(connection, booking_id, user_id))
        if row is None:
            self._must_be_pending(context)
            return json_response(200, pending_state(booking_id))
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
                fields = await booking_fields(connection, booking)
                timeline = await bookings.timeline_of(connection, booking_id)
            return BookingWithHistory(**fields, timeline=out(TimelineEntry, timeline))

        booking = await self._database.read(found)
        if booking is None:
            self._must_be_pending(context)
            return json_response(200, pending_state(booking_id))
        return json_response(200, booking)

    # Shared by the operations.

    async def _admitted_ids(self, context: RequestContext[InitBooking, NoQuery], quoted: Quoted | None) -> Ids:
        """Return the ids of a request for a stay, which counts as an unpaid booking if it is a new one.

        Raises:
            Problem: as `IdempotencyKeys.ids`; 404, 409 or 422 for a stay that makes no sense, and 409 for a quote that
                has expired; 429 at the account's cap.
        """
        stay, user_id = context.body, context.caller.user_id
        booking_id = self._booking_ids.issue(user_id)
        key = context.request.headers.get(IDEMPOTENCY_KEY.name)
        request_id = (
            booking_id
            if key is None
            else uuid5(NAMESPACE_OID, f"request:{user_id}:{endpoint_of(context.request)}:{key}")
        )
        admitted = False

        async def accept() -> None:
            nonlocal admitted
            facts = accept_room(stay, await self._rooms.facts(stay.room_id))
            accept_stay(stay.check_in_date, stay.check_out_date, today_at(facts.time_zone))
            self._rollout.must_be_charged_right(facts.currency)
            # The log's time decides; this spares a command that would be refused.
            if quoted is not None and quoted.good_until < datetime.now(UTC):
                raise refusal(Rejection.QUOTE_EXPIRED)
            await self._unpaid.admit(user_id, request_id)
            admitted = True

        # One command alone reserves a booking, so the booking's id can be the command's too.
        new_ids = Ids(format_id(booking_id), booking_id)
        ids = None
        try:
            ids = await self._keys.ids(context.request, user_id, stay, lambda: new_ids, accept)
        finally:
            if admitted and ids == new_ids:
                self._unpaid.accepted(user_id, request_id, booking_id)
            elif admitted:
                # The request is refused, or a repeated one, which was counted before.
                self._unpaid.withdraw(user_id, request_id)
        return ids

    async def _accept_guests(self, guest_ids: list[int], booking: BookingRow) -> None:
        accept_guests(guest_ids, await self._rooms.facts(booking.room_id), booking.rooms_count)
        async with self._database.reading() as connection:
            foreign = await guests.guests_of_others(connection, booking.user_id, guest_ids)
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

    async def _command_about(
        self,
        context: RequestContext[BodyType, NoQuery],
        command: Callable[[BookingRow, str], Awaitable[BookingCommand]],
        accept: Callable[[BookingRow], Awaitable[None]] | None = None,
    ) -> tuple[BookingRow, Message | None]:
        """Send a command about the caller's booking; return the booking and, if the request waited for it, the event.

        Args:
            context: the request.
            command: makes the command of this id.
            accept: raises a problem for a new request that makes no sense.

        Raises:
            Problem: 404 for no booking of the caller's, 409 for one that is not decided yet; as `BookingCommands.send`.
        """
        async with self._database.reading() as connection:
            booking = await self._find(context, connection)
        if booking is None:
            self._must_be_pending(context)
            raise Problem(409, "not decided yet, retry", headers={"Retry-After": "1"}, more={"reason": "pending"})
        event = await self._sending.send(
            context, booking, partial(command, booking), None if accept is None else partial(accept, booking)
        )
        return booking, event

    async def _find(self, context: Context, connection: AsyncConnection) -> BookingRow | None:
        return await bookings.own_booking(connection, context.path["booking_id"], context.caller.user_id)

    async def _accepted(self, context: Context, booking: BookingRow) -> Response:
        state = await self._sending.state_after_wait(context, booking, partial(self._find, context))
        return accepted_response(context, state)

    async def _status_after_wait(self, context: Context, pending: QuickPendingStay) -> QuickPendingStay:
        """Return the stay with the status that it has by now, if the request waited for its decision in vain."""
        if not context.wait_seconds:
            return pending
        async with self._database.reading() as connection:
            row = await bookings.booking_status(connection, pending.id, pending.user_id)
        return pending if row is None else msgspec.structs.replace(pending, booking_status=shown_status(row[0]))

    async def _stay_response(
        self, event: Message, booking_id: UUID, context: RequestContext[InitBooking, NoQuery]
    ) -> Response:
        if isinstance(event, BookingRejected):
            user_id, plan_id = context.caller.user_id, context.body.plan_id
            raise await self._rejections.problem(event.reason, booking_id, user_id, event, plan_id)
        raise_if_refused(event)
        # Clients without a version expect the row's times, which only the ledger has.
        is_whole = isinstance(event, BookingReserved) and (event.sale is None or event.stay_times is not None)
        if isinstance(event, BookingReserved) and is_whole and not context.mount.unversioned:
            return json_response(201, reserved_booking(event, context.caller.user_id), waited_headers(context))
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
            if booking.status != BookingStatus.REJECTED:
                shown = BookingOut(**await booking_fields(connection, booking))
                return json_response(status, shown, waited_headers(context))
        # A second connection is taken after the first was given back, lest requests wait for each other's.
        raise await self._rejections.problem(booking.rejection or "", booking_id, booking.user_id, booking)

    def _must_be_pending(self, context: RequestContext[BodyType, NoQuery]) -> None:
        if not self._booking_ids.was_issued_to(context.caller.user_id, context.path["booking_id"]):
            raise no_such("booking")


def _guest_list_id(command_id: str) -> UUID:
    """Return the id of the list of guests that a command names, which is the same for a repeated request."""
    return uuid5(NAMESPACE_OID, f"guest list:{command_id}")


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
