"""Applies events to the ledger's rows, as `evolve` defines their effects, in a few bulk statements a batch."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from operators.restore.log import envelope_of
from topics.messages.events import (
    BlockReleased,
    BookingEvent,
    BookingRejected,
    BookingReserved,
    ChangeEnded,
    ChangeHeld,
    CodeChanged,
    CodeClaimed,
    CodeEvent,
    CodeReturned,
    DocumentIssued,
    Event,
    NightsBlocked,
    RoomsHeld,
    StayChanged,
)
from topics.messages.values import nights_of
from workers.decisions import Booking, Night, State
from workers.reservations.write_batch import NightKey, UseKey, WriteBatch
from workers.runtime.role import Received

#: The events that change a promo code or a use of one.
_CODE_EVENTS: Final = (CodeChanged, CodeClaimed, CodeReturned)
#: The key of a use for an event that is about no booking.
_NO_BOOKING: Final = UUID(int=0)
#: So many nights stay in memory between batches.
MAX_RESTORED_NIGHTS_KEPT: Final = 500_000


class EventBatch:
    """A batch of events, and the rows of the ledger that they change."""

    def __init__(self, nights: dict[NightKey, Night | None]) -> None:
        """`nights` is kept from batch to batch: no other process writes meanwhile."""
        if len(nights) > MAX_RESTORED_NIGHTS_KEPT:
            nights.clear()
        self._rows = WriteBatch(nights)

    async def load(self, connection: AsyncConnection, events: Sequence[Received]) -> None:
        """Read the rows that the events change, as far as earlier batches wrote them."""
        messages = [received.message for received in events]
        ids = {event.booking_id for event in messages if isinstance(event, BookingEvent)}
        await self._rows.load_bookings(connection, ids)
        # The event that releases a block names its nights, but not its reason.
        released = {(event.room_id, event.block_id) for event in messages if isinstance(event, BlockReleased)}
        await self._rows.load_blocks(connection, released)
        keys = {key for event in messages if isinstance(event, Event) for key in self._keys_of(event)}
        await self._rows.load_nights(connection, keys)
        uses = {_use_key(event) for event in messages if isinstance(event, _CODE_EVENTS)}
        await self._rows.load_codes(connection, uses)
        corrected = {event.corrects_id for event in messages if isinstance(event, DocumentIssued)}
        await self._rows.load_documents(connection, (id for id in corrected if id is not None), ())

    def apply(self, received: Received) -> Booking | None:
        """Apply one event; return the booking after it, if it is about one.

        Raises:
            workers.decisions.states.IllegalTransition: the event cannot have happened here.
            KeyError: the event changes a night that was never opened, or a block, a code or an invoice that was never
                made.
        """
        event = received.message
        assert isinstance(event, Event)
        return self._rows.apply(self._state(event), event, envelope_of(received).time).booking

    def _state(self, event: Event) -> State:
        """Return all that the event changes."""
        if isinstance(event, CodeEvent):
            return self._code_state(event)
        if isinstance(event, DocumentIssued):
            state = self._rows.document_state(event.hotel_id, event.document_id, event.corrects_id)
            if event.corrects_id is not None and state.corrected is None:
                raise KeyError(f"invoice {event.corrects_id} of hotel {event.hotel_id}, which was never issued")
            return state
        id = event.booking_id if isinstance(event, BookingEvent) else None
        state = self._rows.state(id, self._keys_of(event))
        if isinstance(event, BlockReleased):
            block = self._rows.block((event.room_id, event.block_id))
            if block is None:
                raise KeyError(f"block {event.block_id} of room {event.room_id}, which was never made")
            state = msgspec.structs.replace(state, block=block)
        return state

    def _code_state(self, event: CodeEvent) -> State:
        state = self._rows.code_state(_use_key(event), None)
        if isinstance(event, CodeClaimed | CodeReturned) and state.code is None:
            raise KeyError(f"code {event.code_id}, which was never made")
        if isinstance(event, CodeReturned) and state.code_use is None:
            raise KeyError(f"the use of code {event.code_id} by booking {event.booking_id}, which was never granted")
        return state

    def booking(self, received: Received) -> Booking | None:
        """Return the booking that the event is about, after the events so far."""
        event = received.message
        return self._rows.booking(event.booking_id) if isinstance(event, BookingEvent) else None

    async def write(self, connection: AsyncConnection) -> None:
        """Write everything that is new or changed."""
        await self._rows.write(connection)

    def _keys_of(self, event: Event) -> Iterable[NightKey]:
        return ((event.key, day) for day in self._nights_of(event))

    def _nights_of(self, event: Event) -> Sequence[date]:
        """Return the nights at which applying the event may look."""
        if isinstance(event, BookingReserved):
            return nights_of(event.check_in, event.check_out)
        if isinstance(event, NightsBlocked | BlockReleased):
            return nights_of(event.first_night, event.end_night)
        if isinstance(event, BookingEvent):
            booking = self._rows.booking(event.booking_id)
            # The dates of a rejected stay may be anything.
            if booking is None or booking.rejection is not None or isinstance(event, BookingRejected):
                return ()
            return (*booking.nights(), *_nights_of_change(event))
        changed: Sequence[date] = getattr(event, "nights", ())
        return changed


def _nights_of_change(event: Event) -> Sequence[date]:
    """Return the nights beside those of the booking at which an event about a change of the stay looks."""
    if not isinstance(event, ChangeHeld | StayChanged | ChangeEnded):
        return ()
    held = [day for each in event.held for day in _nights_held(each)]
    if isinstance(event, StayChanged) and event.to_room_id is None:
        return (*held, *nights_of(event.check_in, event.check_out))
    return held


def _nights_held(held: RoomsHeld) -> Sequence[date]:
    return nights_of(held.first_night, held.end_night)


def _use_key(event: CodeEvent) -> UseKey:
    """Return the code and the booking of an event; the terms of a code are about no booking."""
    return event.code_id, event.booking_id if isinstance(event, CodeClaimed | CodeReturned) else _NO_BOOKING
