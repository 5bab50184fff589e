"""What each night of each room costs and how much of it is left, and the lowest price of each hotel's nights."""

from collections.abc import Sequence

from psycopg import AsyncConnection

from storage import room_nights
from topics.catalogue import BOOKING_EVENTS, Topic
from topics.envelope import Outgoing
from topics.events import InventoryChanged, InventoryOpened
from workers.role import Run


class RoomNights:
    """Keeps the nights of every room as the events tell them."""

    name = "room_nights"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS,)

    async def handle(self, connection: AsyncConnection, runs: Sequence[Run]) -> Sequence[Sequence[Outgoing]]:
        """Apply what the runs say of prices."""
        events = [
            received.message
            for run in runs
            for received in run.received
            if isinstance(received.message, InventoryOpened | InventoryChanged)
        ]
        await room_nights.apply(connection, events)
        return [() for _ in runs]

    def forget(self) -> None:
        """Nothing is kept in memory."""
