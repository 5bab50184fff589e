"""Given, when, then: a scenario about rooms and bookings, in events and commands, with the pure core alone.

    given(OPENED, RESERVED).when(CANCEL, at=NOON).then(CANCELLED)

`given` applies events; `when` decides one command and applies its events; `then` names all of them exactly. A decision
gets the hotel's clock and the account's unpaid rooms as a worker would give them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime
from typing import NamedTuple, Self
from uuid import UUID

from topics.messages.commands import (
    BlockNights,
    BookingCommand,
    ChangeStay,
    ClaimCode,
    CodeCommand,
    Command,
    IssueDocument,
    ReleaseBlock,
    ReserveStay,
    ReturnCode,
)
from topics.messages.events import (
    BlockReleased,
    BookingEvent,
    CodeClaimed,
    CodeEvent,
    CodeReturned,
    DocumentIssued,
    Event,
    NightsBlocked,
)
from topics.messages.sale import SaleTerms
from topics.messages.values import BookingStatus, DocumentKind, nights_of
from workers.decisions import Block, Booking, Night, State, StayClock, decide, evolve, unpaid_rooms
from workers.decisions.state import Code, CodeUse, Document
from workers.reservations.stay_clock import arrival_clock, stay_clock

#: The log's time at which a scenario begins, unless another is given.
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Happened(NamedTuple):
    """One event of a scenario with its command, and the status of the booking before and after it."""

    command: Command
    event: Event
    before: BookingStatus | None
    after: BookingStatus | None


_recorders: ContextVar[tuple[list[Happened], ...]] = ContextVar("_recorders", default=())


@contextmanager
def recorded() -> Iterator[list[Happened]]:
    """Collect all events of the scenarios in the block."""
    events: list[Happened] = []
    token = _recorders.set((*_recorders.get(), events))
    try:
        yield events
    finally:
        _recorders.reset(token)


class Scenario:
    """Rooms, nights and bookings after the events so far."""

    def __init__(self) -> None:
        self.bookings: dict[UUID, Booking] = {}
        self.nights: dict[int, dict[date, Night]] = {}
        self.sale_terms: dict[int, SaleTerms] = {}
        self.blocks: dict[tuple[int, UUID], Block] = {}
        self.documents: dict[UUID, Document] = {}
        self.codes: dict[int, Code] = {}
        self.code_uses: dict[tuple[int, UUID], CodeUse] = {}
        self.now = NOON
        self.answer: tuple[Event, ...] = ()

    def when(self, command: Command, at: datetime | None = None) -> Self:
        """Decide the command at the log's time `at` (None: the time has not moved); its events happen."""
        self.now = at or self.now
        self.answer = decide(self.state(command), command, self.now)
        for event in self.answer:
            before = self._status(event)
            self.happen(event)
            for events in _recorders.get():
                events.append(Happened(command, event, before, self._status(event)))
        return self

    def then(self, *events: Event) -> Self:
        """Exactly this happened, in this order."""
        assert self.answer == events
        return self

    def with_night(self, room_id: int, night: date, **values: object) -> Self:
        """And the night has these values now (`reserved_count=1`)."""
        return self._has(self.nights[room_id][night], values)

    def with_booking(self, booking_id: UUID, **values: object) -> Self:
        """And the booking has these values now (`status=BookingStatus.EXPIRED`)."""
        return self._has(self.bookings[booking_id], values)

    def _has(self, record: object, values: dict[str, object]) -> Self:
        assert {name: getattr(record, name) for name in values} == values
        return self

    def state(self, command: Command) -> State:
        """Return the state for a command: its booking, the nights of its room, and the rest that it depends on."""
        if isinstance(command, CodeCommand):
            return self._code_state(command)
        if isinstance(command, IssueDocument):
            return self._documents_state(command)
        booking = self.bookings.get(command.booking_id) if isinstance(command, BookingCommand) else None
        return State(
            booking,
            dict(self.nights.get(command.key, {})),
            self._clock(booking, command),
            self._account_rooms(command) if isinstance(command, ReserveStay | ChangeStay) else {},
            sale_terms=self.sale_terms.get(command.key),
            block=self._block(command),
        )

    def _documents_state(self, command: IssueDocument) -> State:
        numbers = dict.fromkeys(DocumentKind, 0)
        for each in self.documents.values():
            if each.hotel_id == command.hotel_id:
                numbers[each.kind] = max(numbers[each.kind], each.number)
        of_booking = (each for each in self.documents.values() if each.booking_id == command.booking_id)
        return State(
            None,
            {},
            document=self.documents.get(command.document_id),
            last_numbers=numbers,
            documents=tuple(sorted(of_booking, key=lambda each: (each.kind, each.number))),
        )

    def _code_state(self, message: CodeCommand | CodeEvent) -> State:
        """Return the code of a command or an event, its use by the booking, and the uses by the command's account."""
        booking_id = user_id = None
        if isinstance(message, ClaimCode):
            booking_id, user_id = message.asked.booking_id, message.asked.user_id
        elif isinstance(message, ReturnCode | CodeClaimed | CodeReturned):
            booking_id = message.booking_id
        uses = [use for use in self.code_uses.values() if use.code_id == message.code_id and not use.returned]
        return State(
            None,
            {},
            code=self.codes.get(message.code_id),
            code_use=None if booking_id is None else self.code_uses.get((message.code_id, booking_id)),
            account_uses=0 if user_id is None else sum(use.user_id == user_id for use in uses),
        )

    def _clock(self, booking: Booking | None, command: Command) -> StayClock | None:
        if isinstance(command, ReserveStay):
            return arrival_clock(command, self.now)
        return stay_clock(booking, command, self.now)

    def _block(self, message: Command | Event) -> Block | None:
        if not isinstance(message, BlockNights | ReleaseBlock | NightsBlocked | BlockReleased):
            return None
        return self.blocks.get((message.room_id, message.block_id))

    def _account_rooms(self, command: ReserveStay | ChangeStay) -> dict[date, int]:
        rooms: dict[date, int] = {}
        for booking in self.bookings.values():
            if (booking.user_id, booking.room_id) == (command.user_id, command.room_id):
                for held in unpaid_rooms(booking):
                    for day in nights_of(held.first_night, held.end_night):
                        rooms[day] = rooms.get(day, 0) + held.rooms_count
        return rooms

    def happen(self, event: Event) -> None:
        """Apply one event."""
        if isinstance(event, DocumentIssued):
            named = None if event.corrects_id is None else self.documents[event.corrects_id]
            issued = evolve(State(None, {}, corrected=named), event)
            for document in (issued.document, issued.corrected):
                if document is not None:
                    self.documents[document.id] = document
            return
        if isinstance(event, CodeEvent):
            after = evolve(self._code_state(event), event)
            if after.code is not None:
                self.codes[after.code.id] = after.code
            if after.code_use is not None:
                self.code_uses[after.code_use.code_id, after.code_use.booking_id] = after.code_use
            return
        nights = self.nights.setdefault(event.key, {})
        booking = self.bookings.get(event.booking_id) if isinstance(event, BookingEvent) else None
        after = evolve(State(booking, dict(nights), block=self._block(event)), event)
        nights.update(after.nights)
        if after.sale_terms is not None:
            self.sale_terms[event.key] = after.sale_terms
        if after.block is not None:
            self.blocks[event.key, after.block.id] = after.block
        if after.booking is not None:
            self.bookings[after.booking.id] = after.booking

    def _status(self, event: Event) -> BookingStatus | None:
        booking = self.bookings.get(event.booking_id) if isinstance(event, BookingEvent) else None
        return None if booking is None else booking.status


def given(*events: Event) -> Scenario:
    """Begin a scenario with events that have happened already."""
    scenario = Scenario()
    for event in events:
        scenario.happen(event)
    return scenario
