"""Applies events to the ledger's rows, as `evolve` defines their effects, in a few bulk statements a batch."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final

from psycopg import AsyncConnection

from operators.restore.log import envelope_of
from topics.messages.events import BookingEvent, BookingRejected, BookingReserved, Event
from topics.messages.values import nights_of
from workers.decisions import Booking, Night
from workers.reservations.write_batch import NightKey, WriteBatch
from workers.runtime.role import Received

#: So many nights stay in memory between batches.
MAX_RESTORED_NIGHTS_KEPT: Final = 500_000


class EventBatch:
    """A batch of events, and the bookings and nights that they change."""

    def __init__(self, nights: dict[NightKey, Night | None]) -> None:
        """`nights` is kept from batch to batch: no other process writes meanwhile."""
        if len(nights) > MAX_RESTORED_NIGHTS_KEPT:
            nights.clear()
        self._rows = WriteBatch(nights)

    async def load(self, connection: AsyncConnection, events: Sequence[Received]) -> None:
        """Read the bookings and nights of the events, as far as earlier batches wrote them."""
        messages = [received.message for received in events]
        ids = {event.booking_id for event in messages if isinstance(event, BookingEvent)}
        await self._rows.load_bookings(connection, ids)
        keys = {key for event in messages if isinstance(event, Event) for key in self._keys_of(event)}
        await self._rows.load_nights(connection, keys)

    def apply(self, received: Received) -> Booking | None:
        """Apply one event; return the booking after it, if it is about one.

        Raises:
            workers.decisions.states.IllegalTransition: the event cannot have happened here.
            KeyError: the event changes a night that was never opened.
        """
        event = received.message
        assert isinstance(event, Event)
        id = event.booking_id if isinstance(event, BookingEvent) else None
        state = self._rows.state(id, self._keys_of(event))
        return self._rows.apply(state, event, envelope_of(received).time).booking

    def booking(self, received: Received) -> Booking | None:
        """Return the booking that the event is about, after the events so far."""
        event = received.message
        return self._rows.booking(event.booking_id) if isinstance(event, BookingEvent) else None

    async def write(self, connection: AsyncConnection) -> None:
        """Write everything that is new or changed."""
        await self._rows.write(connection)

    def _keys_of(self, event: Event) -> Iterable[NightKey]:
        return ((event.room_id, day) for day in self._nights_of(event))

    def _nights_of(self, event: Event) -> Sequence[date]:
        """Return the nights at which applying the event may look."""
        if isinstance(event, BookingReserved):
            return nights_of(event.check_in, event.check_out)
        if isinstance(event, BookingEvent):
            booking = self._rows.booking(event.booking_id)
            # The dates of a rejected stay may be anything.
            if booking is None or booking.rejection is not None or isinstance(event, BookingRejected):
                return ()
            return booking.nights()
        changed: Sequence[date] = getattr(event, "nights", ())
        return changed
