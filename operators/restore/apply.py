"""Applies events to the ledger's rows, as `evolve` defines their effects, in a few bulk statements a batch."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final

import msgspec
from psycopg import AsyncConnection

from operators.restore.log import envelope_of
from topics.messages.events import (
    BlockReleased,
    BookingEvent,
    BookingRejected,
    BookingReserved,
    Event,
    NightsBlocked,
)
from topics.messages.values import nights_of
from workers.decisions import Booking, Night
from workers.reservations.write_batch import NightKey, WriteBatch
from workers.runtime.role import Received

#: So many nights stay in memory between batches.
MAX_RESTORED_NIGHTS_KEPT: Final = 500_000


class EventBatch:
    """A batch of events, and the bookings, nights, blocks and sale terms that they change."""

    def __init__(self, nights: dict[NightKey, Night | None]) -> None:
        """`nights` is kept from batch to batch: no other process writes meanwhile."""
        if len(nights) > MAX_RESTORED_NIGHTS_KEPT:
            nights.clear()
        self._rows = WriteBatch(nights)

    async def load(self, connection: AsyncConnection, events: Sequence[Received]) -> None:
        """Read the bookings, blocks and nights of the events, as far as earlier batches wrote them."""
        messages = [received.message for received in events]
        ids = {event.booking_id for event in messages if isinstance(event, BookingEvent)}
        await self._rows.load_bookings(connection, ids)
        # The event that releases a block names its nights, but not its reason.
        released = {(event.room_id, event.block_id) for event in messages if isinstance(event, BlockReleased)}
        await self._rows.load_blocks(connection, released)
        keys = {key for event in messages if isinstance(event, Event) for key in self._keys_of(event)}
        await self._rows.load_nights(connection, keys)

    def apply(self, received: Received) -> Booking | None:
        """Apply one event; return the booking after it, if it is about one.

        Raises:
            workers.decisions.states.IllegalTransition: the event cannot have happened here.
            KeyError: the event changes a night that was never opened, or releases a block that was never made.
        """
        event = received.message
        assert isinstance(event, Event)
        id = event.booking_id if isinstance(event, BookingEvent) else None
        state = self._rows.state(id, self._keys_of(event))
        if isinstance(event, BlockReleased):
            block = self._rows.block((event.room_id, event.block_id))
            if block is None:
                raise KeyError(f"block {event.block_id} of room {event.room_id}, which was never made")
            state = msgspec.structs.replace(state, block=block)
        return self._rows.apply(state, event, envelope_of(received).time).booking

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
            return booking.nights()
        changed: Sequence[date] = getattr(event, "nights", ())
        return changed
