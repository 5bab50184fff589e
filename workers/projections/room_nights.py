"""What each night of each room costs, how many rooms are taken, and the lowest price of each hotel's nights."""

from collections.abc import Sequence

from psycopg import AsyncConnection

from storage.projections import room_nights
from topics.catalogue import BOOKING_EVENTS, Topic
from topics.envelope import Outgoing
from workers.projections.hearing import heard
from workers.runtime.role import PartitionBatch


class RoomNights:
    """Keeps the nights of every room as the events tell them."""

    name = "room_nights"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS,)

    async def handle(self, connection: AsyncConnection, runs: Sequence[PartitionBatch]) -> Sequence[Sequence[Outgoing]]:
        """Apply the runs to the nights they name."""
        await room_nights.fold(connection, heard(runs))
        return [() for _ in runs]

    def forget(self) -> None:
        """Nothing is kept in memory."""
