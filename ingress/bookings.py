"""Bookings over HTTP: requests become commands of the booking's room; what the ledger says becomes answers.

A command is answered 202 as soon as the broker has it. A request that prefers to wait gets the decision itself, if it
comes in time.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Final
from uuid import UUID

import msgspec
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.acceptance import (
    Id,
    InitBooking,
    accept_guests,
    accept_room,
    accept_stay,
    earliest_check_in,
)
from ingress.answers import Answer, answer, no_content
from ingress.bodies import decoded, decoded_body, read
from ingress.booking_ids import BookingIds
from ingress.broker import Broker
from ingress.commands import Commands, IdempotencyKeys, Ids, new_command_id, seconds_to_wait
from ingress.database import Database
from ingress.hotels import Rooms
from ingress.money import decimal
from ingress.problems import Problem
from ingress.tokens import Caller, Tokens
from ingress.waiters import Waiters
from storage import accounts, reads
from storage.reads import BookingRow
from topics.commands import AddGuests, BookingCommand, CancelBooking, RequestPayment, ReserveStay
from topics.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingRejected,
    BookingReserved,
    CheckoutOpened,
    CommandRefused,
    CommandRepeated,
    GuestsAdded,
    PaymentDeclined,
)
from topics.message import Message
from topics.values import BookingStatus, Terms

_FOLLOW_WITHIN_SECONDS: Final = 2.0
_BOOKING: Final = r"/v1/bookings/{booking_id:[0-9a-fA-F-]{36}}"
_init: Final = msgspec.json.Decoder(InitBooking)
_guest_ids: Final = msgspec.json.Decoder(Annotated[list[Id], msgspec.Meta(min_length=1, max_length=200)])


class _NoBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request that needs none; `{}` and `null` are fine too."""


_no_body: Final = msgspec.json.Decoder(_NoBody | None)


@dataclass(frozen=True, slots=True)
class _Answers:
    """Which events answer a command. `through_others`: by way of what payments does about it."""

    events: tuple[type[Message], ...]
    through_others: bool = False


_ANSWERS: Final[dict[type[BookingCommand], _Answers]] = {
    ReserveStay: _Answers((BookingReserved, BookingRejected, CommandRefused, CommandRepeated)),
    AddGuests: _Answers((GuestsAdded, CommandRefused, CommandRepeated)),
    RequestPayment: _Answers(
        (CheckoutOpened, PaymentDeclined, BookingConfirmed, CommandRefused, CommandRepeated), through_others=True
    ),
    CancelBooking: _Answers((BookingCancelled, CommandRefused, CommandRepeated)),
}


class Bookings:
    """Answers everything about bookings."""

    def __init__(
        self,
        *,
        database: Database,
        tokens: Tokens,
        rooms: Rooms,
        booking_ids: BookingIds,
        keys: IdempotencyKeys,
        commands: Commands,
        broker: Broker,
        waiters: Waiters,
        hold_seconds: int,
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._rooms = rooms
        self._booking_ids = booking_ids
        self._keys = keys
        self._commands = commands
        self._broker = broker
        self._waiters = waiters
        self._hold_seconds = hold_seconds

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [
            web.post("/v1/bookings/init", self.init),
            web.post(_BOOKING + "/addGuests", self.add_guests),
            web.post(_BOOKING + "/payments", self.pay),
            web.post(_BOOKING + "/cancel", self.cancel),
            web.get(_BOOKING + "/status", self.status),
            web.get(_BOOKING, self.show),
        ]

    # Requests that become commands.

    async def init(self, request: web.Request) -> Answer:
        """Ask for a stay: 202 PENDING; who waits gets 201 with the booking, or 409 with the reason."""
        caller = self._tokens.caller(request)
        wanted = await decoded_body(request, _init)
        if "Idempotency-Key" in request.headers:
            ids = await self._keys.ids(
                request, caller.user_id, wanted, lambda: self._fresh_ids(caller), lambda: self._accept(wanted)
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
        event = await self._sent(request, command, ids.command_id)
        if event is None:
            return _accepted(ids.command_id, _pending_stay(ids.booking_id, wanted))
        return await self._decided_stay(event, ids.booking_id, caller, request)

    async def add_guests(self, request: web.Request) -> Answer:
        """Name who will stay: 202; who waits gets 200 with the booking, or 409 with the reason."""
        caller = self._tokens.caller(request)
        guest_ids = await decoded_body(request, _guest_ids)
        booking = await self._own(request, caller)
        facts = await self._rooms.facts(booking.room_id)

        async def accept() -> None:
            accept_guests(guest_ids, facts, booking.rooms_count)
            async with self._database.reading() as connection:
                foreign = await accounts.guests_of_others(connection, caller.user_id, guest_ids)
            if foreign:
                raise Problem(404, f"no such guest: {', '.join(map(str, foreign))}")

        ids = await self._keys.ids(request, caller.user_id, guest_ids, _ids_about(booking), accept)
        command = AddGuests(
            room_id=booking.room_id,
            booking_id=booking.id,
            user_id=caller.user_id,
            guest_ids=tuple(guest_ids),
        )
        event = await self._sent(request, command, ids.command_id)
        if event is None:
            return _accepted(str(booking.id), _status_in_words(booking))
        _raise_if_refused(event)
        return await self._booking_now(booking.id, caller, 200, request)

    async def pay(self, request: web.Request) -> Answer:
        """Ask to pay: 202; who waits gets 200 with where to pay, or 409 with the reason."""
        caller = self._tokens.caller(request)
        booking, command_id = await self._about(request, caller)
        command = RequestPayment(room_id=booking.room_id, booking_id=booking.id, user_id=caller.user_id)
        event = await self._sent(request, command, command_id)
        if event is None:
            return _accepted(str(booking.id), _status_in_words(booking))
        _raise_if_refused(event)
        async with self._database.reading() as connection:
            now = await reads.own_booking(connection, booking.id, caller.user_id) or booking
            url = await reads.open_session_url(connection, booking.id)
        return answer(200, _status_in_words(now) | {"session_url": url}, _applied(request))

    async def cancel(self, request: web.Request) -> Answer:
        """Give the booking up: 202; who waits gets 204, or 409 with the reason."""
        caller = self._tokens.caller(request)
        booking, command_id = await self._about(request, caller)
        command = CancelBooking(room_id=booking.room_id, booking_id=booking.id, user_id=caller.user_id)
        event = await self._sent(request, command, command_id)
        if event is None:
            return _accepted(str(booking.id), _status_in_words(booking))
        _raise_if_refused(event)
        return no_content(_applied(request))

    # Requests that read.

    async def status(self, request: web.Request) -> Answer:
        """Tell where a booking stands: PENDING until the ledger knows it."""
        caller = self._tokens.caller(request)
        booking_id = _booking_id(request)
        async with self._database.reading() as connection:
            row = await reads.booking_status(connection, booking_id, caller.user_id)
        if row is None:
            self._must_be_pending(booking_id, caller)
            return answer(200, _pending_in_words(booking_id))
        return answer(200, _words(booking_id, row.status, row.rejection, row.failure, row.cancel_reason))

    async def show(self, request: web.Request) -> Answer:
        """Tell all about a booking, its history, and where it can be paid."""
        caller = self._tokens.caller(request)
        booking_id = _booking_id(request)
        async with self._database.reading() as connection:
            booking = await reads.own_booking(connection, booking_id, caller.user_id)
            if booking is None:
                self._must_be_pending(booking_id, caller)
                return answer(200, _pending_in_words(booking_id))
            words = await _all_about(connection, booking)
            words["timeline"] = await reads.timeline_of(connection, booking_id)
        return answer(200, words)

    # What they share.

    async def _accept(self, wanted: InitBooking) -> None:
        accept_stay(wanted, earliest_check_in())
        accept_room(wanted, await self._rooms.facts(wanted.room_id))

    def _fresh_ids(self, caller: Caller) -> Ids:
        booking_id = self._booking_ids.issue(caller.user_id)
        # A booking is reserved by one command only; so its id can be the command's too.
        return Ids(str(booking_id), booking_id)

    async def _sent(self, request: web.Request, command: BookingCommand, command_id: str) -> Message | None:
        """Send the command; return its answer if the request waits and it comes in time."""
        record = self._commands.record(command, command_id, request)
        wait_seconds = seconds_to_wait(request)
        if not wait_seconds:
            await self._broker.send(record)
            return None
        deadline = asyncio.get_running_loop().time() + wait_seconds
        answers = _ANSWERS[type(command)]
        with self._waiters.waiting(command_id, answers.events, through_others=answers.through_others) as event:
            await self._waiters.following(min(wait_seconds, _FOLLOW_WITHIN_SECONDS))
            await self._broker.send(record)
            try:
                async with asyncio.timeout_at(deadline):
                    return await event
            except TimeoutError:
                return None

    async def _decided_stay(self, event: Message, booking_id: UUID, caller: Caller, request: web.Request) -> Answer:
        _raise_if_refused(event)
        if isinstance(event, BookingReserved):
            return answer(201, _reserved_in_words(event), _applied(request))
        # The command was decided before; what became of the booking is in the ledger.
        return await self._booking_now(booking_id, caller, 201, request)

    async def _booking_now(self, booking_id: UUID, caller: Caller, status: int, request: web.Request) -> Answer:
        async with self._database.reading() as connection:
            booking = await reads.own_booking(connection, booking_id, caller.user_id)
            if booking is None:
                # Events are published after their transaction: what one told of is there.
                raise LookupError(f"booking {booking_id} was decided and is not in the ledger")
            if booking.status == BookingStatus.REJECTED:
                raise _refused(booking.rejection or "", id=booking_id, booking_status=booking.status)
            return answer(status, await _all_about(connection, booking), _applied(request))

    async def _about(self, request: web.Request, caller: Caller) -> tuple[BookingRow, str]:
        """Return the booking that a request without a body is about, and the id of its command."""
        body = await read(request)
        if body:
            decoded(body, _no_body)
        booking = await self._own(request, caller)
        ids = await self._keys.ids(request, caller.user_id, None, _ids_about(booking), _nothing_to_accept)
        return booking, ids.command_id

    async def _own(self, request: web.Request, caller: Caller) -> BookingRow:
        """Return the caller's booking, whose room is the key of everything that is said about it."""
        booking_id = _booking_id(request)
        async with self._database.reading() as connection:
            booking = await reads.own_booking(connection, booking_id, caller.user_id)
        if booking is None:
            self._must_be_pending(booking_id, caller)
            raise Problem(409, "not decided yet, retry", headers={"Retry-After": "1"}, more={"reason": "pending"})
        return booking

    def _must_be_pending(self, booking_id: UUID, caller: Caller) -> None:
        if not self._booking_ids.was_issued_to(caller.user_id, booking_id):
            raise Problem(404, "no such booking")


class _Pending(msgspec.Struct, frozen=True, kw_only=True):
    """The 202 of a stay that was asked for."""

    id: UUID
    booking_status: BookingStatus = BookingStatus.PENDING
    hotel_id: int
    room_id: int
    check_in_date: date
    check_out_date: date
    rooms_count: int


def _pending_stay(booking_id: UUID, wanted: InitBooking) -> _Pending:
    return _Pending(
        id=booking_id,
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


def _booking_id(request: web.Request) -> UUID:
    try:
        return UUID(request.match_info["booking_id"])
    except ValueError:
        raise Problem(404, "no such booking") from None


def _accepted(booking_id: str, body: object) -> Answer:
    return answer(202, body, {"Location": f"/v1/bookings/{booking_id}/status", "Retry-After": "1"})


def _applied(request: web.Request) -> dict[str, str]:
    return {"Preference-Applied": f"wait={seconds_to_wait(request)}"}


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


def _pending_in_words(booking_id: UUID) -> dict[str, object]:
    return {"id": booking_id, "booking_status": BookingStatus.PENDING}


def _status_in_words(booking: BookingRow) -> dict[str, object]:
    return _words(booking.id, booking.status, booking.rejection, booking.failure, booking.cancel_reason)


def _words(
    booking_id: UUID, status: str, rejection: str | None, failure: str | None, cancel_reason: str | None
) -> dict[str, object]:
    reasons = {
        BookingStatus.REJECTED: rejection,
        BookingStatus.PAYMENTS_PENDING: failure,
        BookingStatus.CANCELLED: cancel_reason,
    }
    reason = reasons.get(BookingStatus(status))
    words: dict[str, object] = {"id": booking_id, "booking_status": status}
    return words if reason is None else words | {"reason": reason}


def _reserved_in_words(event: BookingReserved) -> dict[str, object]:
    at_once = event.terms is Terms.AT_HOTEL
    return {
        "id": event.booking_id,
        "booking_status": BookingStatus.CONFIRMED if at_once else BookingStatus.RESERVED,
        "hotel_id": event.hotel_id,
        "room_id": event.room_id,
        "check_in_date": event.check_in,
        "check_out_date": event.check_out,
        "rooms_count": event.rooms_count,
        "amount": decimal(event.amount_minor, event.currency),
        "currency": event.currency,
        "hold_expires_at": event.hold_expires_at,
        "guests": [],
    }


async def _all_about(connection: AsyncConnection, booking: BookingRow) -> dict[str, object]:
    """Return a booking as its owner sees it, but for its history."""
    words = _status_in_words(booking) | {
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
        "guests": await reads.guests_of(connection, booking.id),
    }
    url = await reads.open_session_url(connection, booking.id)
    return words if url is None else words | {"session_url": url}
