"""Keeps every event of a booking as one row, in the order of the log."""

from collections.abc import Sequence

from psycopg import AsyncConnection

from storage.projections import timeline
from topics.catalogue import BOOKING_EVENTS, Topic
from topics.envelope import Outgoing
from workers.projections.positioned_events import positioned_events
from workers.runtime.role import PartitionBatch


class BookingTimeline:
    """Keeps every event of a booking as one row."""

    name = "booking_timeline"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS,)

    async def handle(
        self, connection: AsyncConnection, batches: Sequence[PartitionBatch]
    ) -> Sequence[Sequence[Outgoing]]:
        """Append the batches' booking events to the timeline."""
        await timeline.apply(connection, positioned_events(batches))
        return [() for _ in batches]

    def forget(self) -> None:
        """Nothing is kept in memory."""
