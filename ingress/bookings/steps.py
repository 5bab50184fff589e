"""Bookings over HTTP: requests become commands of the booking's room; what the ledger says becomes answers.

A command is answered 202 as soon as the broker has it. A request that prefers to wait gets the decision itself, if it
comes in time.
"""

from collections.abc import Callable, Iterable
from datetime import date, datetime
from typing import Annotated, Any, ClassVar, Final, TypeVar
from uuid import UUID

import msgspec
from pydantic import ConfigDict, Field, RootModel
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.acceptance import InitBooking, QuickInitBooking, accept_guests, accept_room
from ingress.bookings.ids import BookingIds
from ingress.bookings.rooms import Rooms
from ingress.database import Database, snapshot
from ingress.http.answers import Answer, answer, no_content
from ingress.http.models import Gender, Id, MoneyOut, NoBody, NoQuery, Problems, RefusedBooking, Shown
from ingress.http.preferences import PREFER
from ingress.http.problems import Problem
from ingress.log.commands import IDEMPOTENCY_KEY, IdempotencyKeys, Ids, new_command_id
from ingress.log.owners import Owners
from ingress.operations import Access, Asked, Example, Reply, operation
from ingress.stays import accept_stay, today_at
from ingress.tokens import Caller
from pricing.currencies import decimal
from storage import guests
from storage.reads import bookings
from storage.reads.bookings import BookingRow
from topics.envelope import format_id
from topics.messages.commands import AddGuests, BookingCommand, CancelBooking, RequestPayment, ReserveStay
from topics.messages.events import BookingRejected, BookingReserved, CommandRefused, PaymentDeclined
from topics.messages.message import Message
from topics.messages.values import BookingStatus, Terms

_BOOKING: Final = {"booking_id": "01980000-0000-8000-8000-000000000000"}
_ACCEPTED_HEADERS: Final = {
    "Location": "Where to ask how the booking stands.",
    "Retry-After": "In how many seconds to ask.",
}
_WAITED_HEADERS: Final = {"Preference-Applied": "How long the request may have waited for this."}
_STEERING: Final = (PREFER, IDEMPOTENCY_KEY)
_ABOUT_IT: Final = {"booking_id": "$request.path.booking_id"}
_ABOUT_THE_NEW_ONE: Final = {"booking_id": "$response.body#/id"}
ShownType = TypeVar("ShownType", bound=Shown)
_ITS_STEPS: Final = ("add_guests", "pay", "cancel", "status", "show")


class GuestIds(RootModel[Annotated[list[Id], Field(min_length=1, max_length=200)]]):
    """The ids of the saved guests who will stay: a bare list."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, strict=True)


class PendingStay(Shown):
    """A stay that was asked for and is not decided yet."""

    id: UUID
    booking_status: BookingStatus = BookingStatus.PENDING
    hotel_id: int
    room_id: int
    check_in_date: date
    check_out_date: date
    rooms_count: int


class _QuickPendingStay(msgspec.Struct, frozen=True, kw_only=True):
    """`PendingStay` again, as it is written: it answers the most frequent of all requests."""

    id: UUID
    booking_status: BookingStatus
    hotel_id: int
    room_id: int
    check_in_date: date
    check_out_date: date
    rooms_count: int


class BookingState(Shown):
    """Where a booking stands, and why if it was refused, declined or cancelled."""

    id: UUID
    booking_status: BookingStatus
    reason: str | None = None


class Checkout(BookingState):
    """Where the booking can be paid: Stripe's page, as long as it is open."""

    session_url: str | None


class StayingGuest(Shown):
    """Somebody who stays."""

    id: int
    name: str
    gender: Gender | None
    age: int | None


class BookingShown(BookingState):
    """A booking as its guest sees it. `amount` is what the decision says, in major units."""

    hotel_id: int
    room_id: int
    check_in_date: date
    check_out_date: date
    rooms_count: int
    amount: MoneyOut
    currency: str
    hold_expires_at: datetime | None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    guests: list[StayingGuest]
    session_url: str | None = None


class TimelineEntry(Shown):
    """One event of a booking's history."""

    sequence: int
    type: str
    time: datetime
    event: dict[str, Any]


class BookingWithHistory(BookingShown):
    """A booking with all that happened to it, from the log."""

    timeline: list[TimelineEntry]


class Bookings:
    """Answers everything about bookings."""

    def __init__(
        self,
        *,
        database: Database,
        rooms: Rooms,
        booking_ids: BookingIds,
        keys: IdempotencyKeys,
        owners: Owners,
        hold_seconds: int,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._booking_ids = booking_ids
        self._keys = keys
        self._owners = owners
        self._hold_seconds = hold_seconds

    # Requests that become commands.

    @operation(
        "POST /bookings/init",
        access=Access.USER,
        quick=msgspec.json.Decoder(QuickInitBooking),
        summary="Ask for a stay",
        answers={
            201: Reply(BookingShown, "Reserved: the request waited for it.", _WAITED_HEADERS),
            202: Reply(PendingStay, "Accepted; the room's owner decides.", _ACCEPTED_HEADERS),
            404: Reply(Problems, "The hotel has no such room."),
            409: Reply(RefusedBooking, "Refused: `reason` says why."),
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
        links=dict.fromkeys(_ITS_STEPS, _ABOUT_THE_NEW_ONE),
    )
    async def init(self, asked: Asked[InitBooking, NoQuery]) -> Answer:
        """Ask for a stay: 202 PENDING; who waits (`Prefer: wait=5`) gets 201 with the booking, or 409 with the reason.

        With an `Idempotency-Key` the same request can be sent again, and stays one booking.
        """
        wanted, caller = asked.body, asked.caller
        if "Idempotency-Key" in asked.request.headers:
            ids = await self._keys.ids(
                asked.request, caller.user_id, wanted, lambda: self._fresh_ids(caller), lambda: self._accept(wanted)
            )
        else:
            await self._accept(wanted)
            ids = self._fresh_ids(caller)
        command = ReserveStay(
            room_id=wanted.room_id,
            booking_id=ids.booking_id,
            user_id=caller.user_id,
            hotel_id=wanted.hotel_id,
            check_in=wanted.check_in_date,
            check_out=wanted.check_out_date,
            rooms_count=wanted.rooms_count,
            hold_seconds=self._hold_seconds,
        )
        event = await self._sent(asked, command, ids.command_id)
        if event is None:
            return _accepted(asked, ids.command_id, _pending_stay(ids.booking_id, wanted))
        return await self._decided_stay(event, ids.booking_id, asked)

    @operation(
        "POST /bookings/{booking_id}/addGuests",
        access=Access.USER,
        summary="Name who will stay",
        answers={
            200: Reply(BookingShown, "Named: the request waited for it.", _WAITED_HEADERS),
            202: Reply(BookingState, "Accepted; the room's owner decides.", _ACCEPTED_HEADERS),
            409: Reply(RefusedBooking, "Refused: `reason` says why."),
        },
        example=Example(path=_BOOKING, headers={"Prefer": "wait=5"}, body=[1]),
        headers=_STEERING,
        links=dict.fromkeys(("pay", "cancel", "status"), _ABOUT_IT),
    )
    async def add_guests(self, asked: Asked[GuestIds, NoQuery]) -> Answer:
        """Name who will stay, from the account's saved guests; replaces those named before."""
        caller, guest_ids = asked.caller, asked.body.root
        booking = await self._own(asked)
        facts = await self._rooms.facts(booking.room_id)

        async def accept() -> None:
            accept_guests(guest_ids, facts, booking.rooms_count)
            async with self._database.reading() as connection:
                foreign = await guests.guests_of_others(connection, caller.user_id, guest_ids)
            if foreign:
                raise Problem(404, f"no such guest: {', '.join(map(str, foreign))}")

        ids = await self._keys.ids(asked.request, caller.user_id, asked.body, _ids_about(booking), accept)
        command = AddGuests(
            room_id=booking.room_id,
            booking_id=booking.id,
            user_id=caller.user_id,
            guest_ids=tuple(guest_ids),
        )
        event = await self._sent(asked, command, ids.command_id)
        if event is None:
            return _accepted(asked, str(booking.id), _state(booking))
        _raise_if_refused(event)
        return await self._booking_now(booking.id, 200, asked)

    @operation(
        "POST /bookings/{booking_id}/payments",
        access=Access.USER,
        summary="Ask to pay",
        answers={
            200: Reply(Checkout, "Where to pay: the request waited for it.", _WAITED_HEADERS),
            202: Reply(BookingState, "Accepted; `GET` the booking for its `session_url`.", _ACCEPTED_HEADERS),
            409: Reply(RefusedBooking, "Refused: `reason` says why."),
        },
        example=Example(path=_BOOKING, headers={"Prefer": "wait=5"}),
        headers=_STEERING,
        links=dict.fromkeys(("cancel", "status"), _ABOUT_IT),
    )
    async def pay(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Ask for a page to pay at; a declined card leaves the booking payable until its hold ends."""
        booking, command_id = await self._about(asked)
        command = RequestPayment(room_id=booking.room_id, booking_id=booking.id, user_id=asked.caller.user_id)
        event = await self._sent(asked, command, command_id)
        if event is None:
            return _accepted(asked, str(booking.id), _state(booking))
        _raise_if_refused(event)
        async with self._database.reading() as connection, snapshot(connection):
            now = await bookings.own_booking(connection, booking.id, asked.caller.user_id) or booking
            url = await bookings.open_session_url(connection, booking.id)
        return answer(200, Checkout(**_state_fields(now), session_url=url), _applied(asked))

    @operation(
        "POST /bookings/{booking_id}/cancel",
        access=Access.USER,
        summary="Cancel a booking",
        answers={
            202: Reply(BookingState, "Accepted; the room's owner decides.", _ACCEPTED_HEADERS),
            204: Reply(None, "Cancelled: the request waited for it.", _WAITED_HEADERS),
            409: Reply(RefusedBooking, "Refused: `reason` says why."),
        },
        example=Example(path=_BOOKING, status=202),
        headers=_STEERING,
        links=dict.fromkeys(("status", "show"), _ABOUT_IT),
    )
    async def cancel(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Give the booking up: its nights go back on sale, and what was paid is refunded."""
        booking, command_id = await self._about(asked)
        command = CancelBooking(room_id=booking.room_id, booking_id=booking.id, user_id=asked.caller.user_id)
        event = await self._sent(asked, command, command_id)
        if event is None:
            return _accepted(asked, str(booking.id), _state(booking))
        _raise_if_refused(event)
        return no_content(_applied(asked))

    # Requests that read.

    @operation(
        "GET /bookings/{booking_id}/status",
        access=Access.USER,
        summary="Ask how a booking stands",
        answers={200: BookingState},
        example=Example(path=_BOOKING),
    )
    async def status(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Tell where a booking stands: PENDING until it is decided."""
        booking_id, user_id = asked.path["booking_id"], asked.caller.user_id
        row = await self._database.read(lambda connection: bookings.booking_status(connection, booking_id, user_id))
        if row is None:
            self._must_be_pending(asked)
            return answer(200, _pending(booking_id))
        status, rejection, failure, cancel_reason = row
        return answer(200, BookingState(**told_state(booking_id, status, rejection, failure, cancel_reason)))

    @operation(
        "GET /bookings/{booking_id}",
        access=Access.USER,
        summary="Read a booking",
        answers={200: Reply(BookingWithHistory, "A booking that is not decided yet has `id` and `booking_status`.")},
        example=Example(path=_BOOKING),
    )
    async def show(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Tell all about a booking, its history, and where it can be paid."""
        booking_id = asked.path["booking_id"]

        async def found(connection: AsyncConnection) -> BookingWithHistory | None:
            async with snapshot(connection):
                booking = await bookings.own_booking(connection, booking_id, asked.caller.user_id)
                if booking is None:
                    return None
                fields = await _all_about(connection, booking)
                timeline = await bookings.timeline_of(connection, booking_id)
            return BookingWithHistory(**fields, timeline=_shown(TimelineEntry, timeline))

        booking = await self._database.read(found)
        if booking is None:
            self._must_be_pending(asked)
            return answer(200, _pending(booking_id))
        return answer(200, booking)

    # What they share.

    async def _accept(self, wanted: InitBooking) -> None:
        facts = accept_room(wanted, await self._rooms.facts(wanted.room_id))
        accept_stay(wanted.check_in_date, wanted.check_out_date, today_at(facts.time_zone))

    def _fresh_ids(self, caller: Caller) -> Ids:
        booking_id = self._booking_ids.issue(caller.user_id)
        # A booking is reserved by one command only; so its id can be the command's too.
        return Ids(format_id(booking_id), booking_id)

    async def _sent(self, asked: Asked[Any, NoQuery], command: BookingCommand, command_id: str) -> Message | None:
        return await self._owners.ask(command, command_id, asked.request, wait_seconds=asked.wait_seconds)

    async def _decided_stay(self, event: Message, booking_id: UUID, asked: Asked[InitBooking, NoQuery]) -> Answer:
        _raise_if_refused(event)
        if isinstance(event, BookingReserved):
            return answer(201, _reserved(event), _applied(asked))
        # The command was decided before; what became of the booking is in the ledger.
        return await self._booking_now(booking_id, 201, asked)

    async def _booking_now(self, booking_id: UUID, status: int, asked: Asked[Any, NoQuery]) -> Answer:
        async with self._database.reading() as connection, snapshot(connection):
            booking = await bookings.own_booking(connection, booking_id, asked.caller.user_id)
            if booking is None:
                # Events are published after their transaction: what one told of is there.
                raise LookupError(f"booking {booking_id} was decided and is not in the ledger")
            if booking.status == BookingStatus.REJECTED:
                raise _refused(booking.rejection or "", id=booking_id, booking_status=booking.status)
            return answer(status, BookingShown(**await _all_about(connection, booking)), _applied(asked))

    async def _about(self, asked: Asked[NoBody, NoQuery]) -> tuple[BookingRow, str]:
        """Return the booking that a request without a body is about, and the id of its command."""
        booking = await self._own(asked)
        user_id = asked.caller.user_id
        ids = await self._keys.ids(asked.request, user_id, None, _ids_about(booking), _nothing_to_accept)
        return booking, ids.command_id

    async def _own(self, asked: Asked[Any, NoQuery]) -> BookingRow:
        """Return the caller's booking, whose room is the key of everything that is said about it."""
        async with self._database.reading() as connection:
            booking = await bookings.own_booking(connection, asked.path["booking_id"], asked.caller.user_id)
        if booking is None:
            self._must_be_pending(asked)
            raise Problem(409, "not decided yet, retry", headers={"Retry-After": "1"}, more={"reason": "pending"})
        return booking

    def _must_be_pending(self, asked: Asked[Any, NoQuery]) -> None:
        if not self._booking_ids.was_issued_to(asked.caller.user_id, asked.path["booking_id"]):
            raise Problem(404, "no such booking")


def _pending_stay(booking_id: UUID, wanted: InitBooking) -> _QuickPendingStay:
    return _QuickPendingStay(
        id=booking_id,
        booking_status=BookingStatus.PENDING,
        hotel_id=wanted.hotel_id,
        room_id=wanted.room_id,
        check_in_date=wanted.check_in_date,
        check_out_date=wanted.check_out_date,
        rooms_count=wanted.rooms_count,
    )


async def _nothing_to_accept() -> None:
    """Whether it may be done is for the room's owner to say."""


def _ids_about(booking: BookingRow) -> Callable[[], Ids]:
    return lambda: Ids(new_command_id(), booking.id)


def _accepted(asked: Asked[Any, NoQuery], booking_id: str, body: Shown | _QuickPendingStay) -> Answer:
    return answer(202, body, {"Location": asked.link(f"/bookings/{booking_id}/status"), "Retry-After": "1"})


def _applied(asked: Asked[Any, NoQuery]) -> dict[str, str]:
    return {"Preference-Applied": f"wait={asked.wait_seconds}"}


def _raise_if_refused(event: Message) -> None:
    match event:
        case BookingRejected(booking_id=booking_id, reason=reason):
            raise _refused(reason, id=booking_id, booking_status=BookingStatus.REJECTED)
        case CommandRefused(booking_id=booking_id, reason=reason, booking_status=status):
            raise _refused(reason, id=booking_id, booking_status=status)
        case PaymentDeclined(booking_id=booking_id, failure=failure):
            raise _refused(failure, id=booking_id, booking_status=BookingStatus.PAYMENTS_PENDING)


def _refused(reason: str, **more: object) -> Problem:
    return Problem(409, f"refused: {reason.replace('_', ' ')}", more={"reason": str(reason), **more})


def _pending(booking_id: UUID) -> BookingState:
    return BookingState(id=booking_id, booking_status=BookingStatus.PENDING)


def _state(booking: BookingRow) -> BookingState:
    return BookingState(**_state_fields(booking))


def _state_fields(booking: BookingRow) -> dict[str, Any]:
    return told_state(booking.id, booking.status, booking.rejection, booking.failure, booking.cancel_reason)


def told_state(
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


def _reserved(event: BookingReserved) -> BookingShown:
    at_once = event.terms is Terms.AT_HOTEL
    return BookingShown(
        id=event.booking_id,
        booking_status=BookingStatus.CONFIRMED if at_once else BookingStatus.RESERVED,
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


async def _all_about(connection: AsyncConnection, booking: BookingRow) -> dict[str, Any]:
    """Return the fields of a booking as its guest sees it, but for its history."""
    fields = _state_fields(booking) | {
        "hotel_id": booking.hotel_id,
        "room_id": booking.room_id,
        "check_in_date": booking.check_in,
        "check_out_date": booking.check_out,
        "rooms_count": booking.rooms_count,
        "amount": decimal(booking.amount_minor, booking.currency),
        "currency": booking.currency,
        "hold_expires_at": booking.hold_expires_at,
        "created_at": booking.created_at,
        "updated_at": booking.updated_at,
        "guests": _shown(StayingGuest, await bookings.guests_of(connection, booking.id)),
    }
    url = await bookings.open_session_url(connection, booking.id)
    return fields if url is None else fields | {"session_url": url}


def _shown(model: type[ShownType], rows: Iterable[object]) -> list[ShownType]:
    return [model.model_validate(row) for row in rows]
