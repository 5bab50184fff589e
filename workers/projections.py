"""The projections role: turns `booking.events` into the rows that the ingress reads.

Reads `booking.events`; writes `booking_timeline`, `room_price` and `hotel_min_price`, and publishes nothing. Each
consumer's cursor moves in the transaction of its rows, so a failure leaves neither, and the run comes again. A rebuild
(rows and cursor removed, the whole log read again) gives the same rows.
"""

from collections.abc import Iterator, Sequence

from psycopg import AsyncConnection

from storage import prices, timeline
from storage.settings import DatabaseSettings
from storage.timeline import TimelineRow
from topics.catalogue import BOOKING_EVENTS, Topic
from topics.envelope import Outgoing
from topics.events import BookingEvent, InventoryChanged, InventoryOpened
from topics.settings import KafkaSettings
from workers.role import Received, Role, Run


def build(kafka: KafkaSettings, database: DatabaseSettings) -> Role:  # noqa: ARG001 - every role is built like this
    """Return the role; it needs nothing of its own beyond what the adapter hands it."""
    return Role(name="projections", consumers=(BookingTimeline(), HotelMinPrice()))


class BookingTimeline:
    """Keeps every event of a booking as one row."""

    name = "booking_timeline"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS,)

    async def handle(self, connection: AsyncConnection, runs: Sequence[Run]) -> Sequence[Sequence[Outgoing]]:
        """Append the runs' booking events to the timeline; what happened to a room alone is no part of it."""
        rows = [row for received in _each(runs) if (row := _timeline_row(received)) is not None]
        await timeline.append(connection, rows)
        return [() for _ in runs]

    def forget(self) -> None:
        """Nothing is kept in memory."""


class HotelMinPrice:
    """Keeps the lowest price of each hotel's nights among the rooms that are open for sale."""

    name = "hotel_min_price"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS,)

    async def handle(self, connection: AsyncConnection, runs: Sequence[Run]) -> Sequence[Sequence[Outgoing]]:
        """Apply what the runs say of prices; bookings do not change a price."""
        events = [
            received.message
            for received in _each(runs)
            if isinstance(received.message, InventoryOpened | InventoryChanged)
        ]
        await prices.apply(connection, events)
        return [() for _ in runs]

    def forget(self) -> None:
        """Nothing is kept in memory."""


def _each(runs: Sequence[Run]) -> Iterator[Received]:
    for run in runs:
        yield from run.received


def _timeline_row(received: Received) -> TimelineRow | None:
    envelope, message, record = received.envelope, received.message, received.record
    if envelope is None or not isinstance(message, BookingEvent):
        return None
    return TimelineRow(
        booking_id=message.booking_id,
        sequence=envelope.sequence or 0,  # The adapter stops at an event that has none.
        event_id=envelope.id,
        type=envelope.type,
        time=envelope.time,
        causation=envelope.causation,
        event=(record.value or b"").decode(),
    )
