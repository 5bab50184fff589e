"""What each night of each room costs, how many rooms are taken, and the lowest price of each hotel's nights."""

from collections.abc import Sequence

from psycopg import AsyncConnection

from storage import room_nights
from storage.room_nights import Told
from topics.catalogue import BOOKING_EVENTS, Topic
from topics.envelope import Outgoing
from topics.events import Event
from workers.role import Run


class RoomNights:
    """Keeps the nights of every room as the events tell them."""

    name = "room_nights"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS,)

    async def handle(self, connection: AsyncConnection, runs: Sequence[Run]) -> Sequence[Sequence[Outgoing]]:
        """Apply the runs to the nights they name; runs of different partitions are of different rooms."""
        told = [
            Told(received.message, run.partition, received.envelope.sequence)
            for run in runs
            for received in run.received
            if isinstance(received.message, Event)
            and received.envelope is not None
            # The adapter stops at an event that has none.
            and received.envelope.sequence is not None
        ]
        await room_nights.apply(connection, told)
        return [() for _ in runs]

    def forget(self) -> None:
        """Nothing is kept in memory."""
