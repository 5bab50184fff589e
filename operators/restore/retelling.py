"""Turns events back into the ledger's rows: what `evolve` makes of them, written in a few bulk statements."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Final
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from operators.restore.log import envelope_of
from storage import bookings, inventory
from topics.messages.events import BookingEvent, BookingRejected, BookingReserved, Event, GuestsAdded, InventoryOpened
from topics.messages.values import nights_of
from workers.decisions import Booking, Night, State, evolve
from workers.reservations.handler import NightKey, _booking, _row
from workers.runtime.role import Received

#: How many nights are remembered between batches.
MAX_NIGHTS_KEPT: Final = 500_000


class Batch:
    """The bookings and nights that some events touch, and what becomes of them.

    `nights` is remembered from batch to batch: nobody else writes meanwhile.
    """

    def __init__(self, nights: dict[NightKey, Night]) -> None:
        if len(nights) > MAX_NIGHTS_KEPT:
            nights.clear()
        self._nights = nights
        self._bookings: dict[UUID, Booking] = {}
        self._created: dict[UUID, datetime] = {}
        self._updated: dict[UUID, datetime] = {}
        self._guests: dict[UUID, Sequence[int]] = {}
        self._opened: set[NightKey] = set()
        self._changed: set[NightKey] = set()

    async def load(self, connection: AsyncConnection, told: Iterable[Received]) -> None:
        """Read the bookings and nights that the events name, as far as earlier batches wrote them."""
        events = [received.message for received in told]
        ids = {event.booking_id for event in events if isinstance(event, BookingEvent)}
        for row in await bookings.load_bookings(connection, ids):
            booking = _booking(row)
            self._bookings[booking.id] = booking
        wanted = {key for event in events if isinstance(event, Event) for key in self._named(event)}
        if wanted := wanted - self._nights.keys():
            for night in await inventory.load_nights(connection, wanted):
                self._nights[night[0], night[1]] = Night(*night[2:])

    def tell(self, received: Received) -> Booking | None:
        """Apply one event; return the booking after it, if it is about one.

        Raises:
            workers.decisions.states.IllegalMove: the event cannot have happened here.
            KeyError: a night that was never opened.
        """
        event, time = received.message, envelope_of(received).time
        assert isinstance(event, Event)
        id = event.booking_id if isinstance(event, BookingEvent) else None
        before = None if id is None else self._bookings.get(id)
        known = self._nights
        nights = {key[1]: night for key in self._named(event) if (night := known.get(key)) is not None}
        after = evolve(State(before, nights), event)
        if after.booking is not None and after.booking is not before:
            self._note(after.booking, event, time)
        for day, night in after.nights.items():
            key = event.room_id, day
            known[key] = night
            (self._opened if isinstance(event, InventoryOpened) else self._changed).add(key)
        return after.booking

    def booking(self, received: Received) -> Booking | None:
        """Return the booking that the event is about, as it was loaded."""
        return self._bookings.get(received.message.booking_id) if isinstance(received.message, BookingEvent) else None

    async def write(self, connection: AsyncConnection) -> None:
        """Write all that is new and all that changed."""
        changed = [id for id in self._updated if id not in self._created]
        await bookings.add_bookings(
            connection,
            [_row(self._bookings[id]) for id in self._created],
            list(self._created.values()),
            updated=[self._updated[id] for id in self._created],
        )
        await inventory.add_nights(connection, self._rows(self._opened))
        if changed:
            await bookings.change_bookings(
                connection, [_row(self._bookings[id]) for id in changed], [self._updated[id] for id in changed]
            )
        if self._guests:
            await bookings.name_guests(connection, self._guests)
        if managed := self._changed - self._opened:
            await inventory.change_nights(connection, self._rows(managed))

    def _note(self, booking: Booking, event: Event, time: datetime) -> None:
        if booking.id not in self._bookings:
            self._created[booking.id] = time
        self._updated[booking.id] = time
        self._bookings[booking.id] = booking
        if isinstance(event, GuestsAdded):
            self._guests[booking.id] = event.guest_ids

    def _named(self, event: Event) -> Iterable[NightKey]:
        return ((event.room_id, day) for day in self._days(event))

    def _days(self, event: Event) -> Sequence[date]:
        """Return the nights that applying the event may look at."""
        if isinstance(event, BookingReserved):
            return nights_of(event.check_in, event.check_out)
        if isinstance(event, BookingEvent):
            booking = self._bookings.get(event.booking_id)
            # Of a stay that is refused the dates may be anything.
            return () if booking is None or isinstance(event, BookingRejected) else _nights(booking)
        changed: Sequence[date] = getattr(event, "nights", ())
        return changed

    def _rows(self, keys: Iterable[NightKey]) -> list[inventory.NightRow]:
        return [(*key, *msgspec.structs.astuple(self._nights[key])) for key in keys]


def _nights(booking: Booking) -> Sequence[date]:
    """Return the nights that a booking had ever taken: none when it was refused."""
    return () if booking.rejection is not None else booking.nights()
