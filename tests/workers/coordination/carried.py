"""Rooms, a promo code and a trip through them: coordination carries each event on, with the pure core alone.

    Hotel().send(ASK).send(PAY).events(BookingConfirmed)

Every command of coordination is decided twice, as after a death before its cursor was saved. Coordination reads the
ledger after all events of a command, and so it reads bookings that are newer than most events.
"""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Self, TypeVar
from uuid import UUID

from msgspec.structs import replace

from tests.support.scenario import NOON, Scenario
from tests.workers.decisions.words import ADA, HOTEL, LIST, OPEN, ROOM, TIMES, but, march
from tests.workers.decisions.words_of_codes import CODE_TERMS, SPRING
from tests.workers.decisions.words_of_sale import SET_TERMS
from topics.envelope import Envelope
from topics.messages.commands import (
    AddGuests,
    ClaimCode,
    Command,
    ConfirmPayment,
    RequestPayment,
    ReserveTrip,
    SetCode,
)
from topics.messages.events import BookingEvent, DocumentIssued, Event
from topics.messages.sale import CodeTerms, LegRequest
from topics.messages.values import BookingStatus, DocumentKind
from workers.coordination import codes, documents, trips
from workers.decisions import Booking

AnEvent = TypeVar("AnEvent", bound=Event)

TRIP, FIRST, SECOND, THIRD = UUID(int=20), UUID(int=21), UUID(int=22), UUID(int=23)
LEGS = {FIRST: ROOM, SECOND: ROOM + 1, THIRD: ROOM + 2}
#: The trip of Ada: three rooms of three types for the nights of 10 and 11 March, 200.00 each.
ASK = ReserveTrip(
    room_id=ROOM,
    booking_id=TRIP,
    user_id=ADA,
    hotel_id=HOTEL,
    check_in=march(10),
    check_out=march(12),
    legs=tuple(LegRequest(booking_id=id, room_id=room_id) for id, room_id in LEGS.items()),
    stay_times=TIMES,
)
CLAIM = ClaimCode(code_id=SPRING, trip=ASK)
CODE = replace(CODE_TERMS, max_uses=1, room_ids=(), first_night=None, end_night=None)
NAME = AddGuests(room_id=ROOM, booking_id=TRIP, user_id=ADA, guest_ids=(1, 2), guest_list_id=LIST)
ASK_TO_PAY = RequestPayment(room_id=ROOM, booking_id=TRIP, user_id=ADA)
PAY = ConfirmPayment(
    room_id=ROOM,
    booking_id=TRIP,
    session_id="cs_1",
    payment_intent="pi_1",
    amount_minor=600_00,
    currency="EUR",
    attempt=1,
)
AFTER_DEADLINE = NOON + timedelta(hours=1)


class Hotel:
    """A hotel with three rooms on sale, and a promo code of one use."""

    def __init__(self, code: CodeTerms = CODE, rooms: Sequence[int] = tuple(LEGS.values())) -> None:
        self.rooms = Scenario()
        self.log: list[Event] = []
        self._commands = 0
        for room_id in rooms:
            self.send(but(OPEN, room_id=room_id), but(SET_TERMS, room_id=room_id))
        self.send(SetCode(code_id=SPRING, hotel_id=HOTEL, terms=code))

    def send(self, *commands: Command, at: datetime | None = None) -> Self:
        """Decide commands at a time, and then all that follows."""
        for command in commands:
            waiting: deque[Command] = deque([command])
            while waiting:
                waiting.extend(self._decided(waiting.popleft(), at))
        return self

    def pay(self, amount_minor: int = 600_00) -> Self:
        """Name the guests of the trip, and pay it."""
        return self.send(NAME, ASK_TO_PAY, but(PAY, amount_minor=amount_minor))

    def _decided(self, command: Command, at: datetime | None) -> list[Command]:
        self._commands += 1
        events = self.rooms.when(command, at=at).answer
        self.log += events
        followed: list[Command] = []
        for number, event in enumerate(events):
            id = f"command-{self._commands}:{number}"
            envelope = Envelope(id=id, type=event.message_type, source="a test", subject="", time=NOON)
            sent = [self._follow(each.WITH_BOOKING, each.commands_for, event, envelope) for each in _PARTS]
            followed += [again for commands in sent for _, command in commands for again in (command, command)]
        return followed

    def _follow(
        self,
        with_booking: tuple[type[BookingEvent], ...],
        commands_for: "Callable[[object, Envelope, Booking | None], tuple[tuple[str, Command], ...]]",
        event: Event,
        envelope: Envelope,
    ) -> tuple[tuple[str, Command], ...]:
        booking = self.rooms.bookings.get(event.booking_id) if isinstance(event, with_booking) else None
        return commands_for(event, envelope, booking)

    def events(self, kind: type[AnEvent]) -> list[AnEvent]:
        """Return the events of a type so far."""
        return [event for event in self.log if isinstance(event, kind)]

    def status(self, booking_id: UUID = TRIP) -> BookingStatus:
        """Return the status of a booking."""
        return self.rooms.bookings[booking_id].status

    def statuses(self) -> list[BookingStatus | None]:
        """Return the statuses of the trip and of its legs."""
        found = [self.rooms.bookings.get(id) for id in (TRIP, *LEGS)]
        return [None if booking is None else booking.status for booking in found]

    def taken(self) -> int:
        """Return the rooms that are held or booked, summed over all nights."""
        nights = [night for nights in self.rooms.nights.values() for night in nights.values()]
        return sum(night.reserved_count + night.booked_count for night in nights)

    def net_minor(self, booking_id: UUID) -> int:
        """Return the sum of the invoices of a booking less its credit notes."""
        issued = [event for event in self.events(DocumentIssued) if event.booking_id == booking_id]
        return sum(each.amount_minor if each.kind is DocumentKind.INVOICE else -each.amount_minor for each in issued)


_PARTS = (codes, documents, trips)
