"""Keeps the price of each night of each room, how many rooms are taken, and each hotel's lowest price of a night."""

from collections.abc import Sequence

from psycopg import AsyncConnection

from storage.projections import room_nights
from topics.catalogue import BOOKING_EVENTS, Topic
from topics.envelope import Outgoing
from workers.projections.positioned_events import positioned_events
from workers.runtime.role import PartitionBatch


class RoomNights:
    """Keeps the nights of every room."""

    name = "room_nights"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS,)

    async def handle(
        self, connection: AsyncConnection, batches: Sequence[PartitionBatch]
    ) -> Sequence[Sequence[Outgoing]]:
        """Apply the batches to the nights they name."""
        await room_nights.apply(connection, positioned_events(batches))
        return [() for _ in batches]

    def forget(self) -> None:
        """Nothing is kept in memory."""
