"""Every event of a booking as one row, in the order of the log."""

from collections.abc import Sequence

from psycopg import AsyncConnection

from storage.projections import timeline
from topics.catalogue import BOOKING_EVENTS, Topic
from topics.envelope import Outgoing
from workers.projections.hearing import heard
from workers.runtime.role import PartitionBatch


class BookingTimeline:
    """Keeps every event of a booking as one row."""

    name = "booking_timeline"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS,)

    async def handle(self, connection: AsyncConnection, runs: Sequence[PartitionBatch]) -> Sequence[Sequence[Outgoing]]:
        """Append the runs' booking events to the timeline."""
        await timeline.fold(connection, heard(runs))
        return [() for _ in runs]

    def forget(self) -> None:
        """Nothing is kept in memory."""
