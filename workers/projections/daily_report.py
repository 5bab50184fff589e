"""What each hotel sold for each night: bookings count once they are confirmed, until they are cancelled."""

from collections.abc import Sequence

from psycopg import AsyncConnection

from storage.projections import daily_report
from topics.catalogue import BOOKING_EVENTS, Topic
from topics.envelope import Outgoing
from workers.projections.hearing import heard
from workers.runtime.role import PartitionBatch


class DailyReport:
    """Counts the nights of confirmed bookings."""

    name = "daily_report"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS,)

    async def handle(self, connection: AsyncConnection, runs: Sequence[PartitionBatch]) -> Sequence[Sequence[Outgoing]]:
        """Count what the runs confirm and cancel."""
        await daily_report.fold(connection, heard(runs))
        return [() for _ in runs]

    def forget(self) -> None:
        """Nothing is kept in memory."""
