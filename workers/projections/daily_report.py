"""Counts each hotel's sales for each night: a booking counts from its confirmation until its cancellation."""

from collections.abc import Sequence

from psycopg import AsyncConnection

from storage.projections import daily_report
from topics.catalogue import BOOKING_EVENTS, Topic
from topics.envelope import Outgoing
from workers.projections.positioned_events import positioned_events
from workers.runtime.role import PartitionBatch


class DailyReport:
    """Counts the nights of confirmed bookings."""

    name = "daily_report"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS,)

    async def handle(
        self, connection: AsyncConnection, batches: Sequence[PartitionBatch]
    ) -> Sequence[Sequence[Outgoing]]:
        """Count the bookings that the batches confirm or cancel."""
        await daily_report.apply(connection, positioned_events(batches))
        return [() for _ in batches]

    def forget(self) -> None:
        """Nothing is kept in memory."""
