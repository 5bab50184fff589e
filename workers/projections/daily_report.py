"""What each hotel sold for each night: bookings count once they are confirmed, until they are cancelled."""

from collections.abc import Sequence

from psycopg import AsyncConnection

from storage import daily_report
from topics.catalogue import BOOKING_EVENTS, Topic
from topics.envelope import Outgoing
from topics.events import BookingCancelled, BookingConfirmed
from workers.role import Run


class DailyReport:
    """Counts the nights of confirmed bookings."""

    name = "daily_report"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS,)

    async def handle(self, connection: AsyncConnection, runs: Sequence[Run]) -> Sequence[Sequence[Outgoing]]:
        """Count what the runs confirm and cancel; of a booking that they confirm and cancel, the end is what counts."""
        counts = {
            received.message.booking_id: isinstance(received.message, BookingConfirmed)
            for run in runs
            for received in run.received
            if isinstance(received.message, BookingConfirmed | BookingCancelled)
        }
        await daily_report.count(
            connection,
            confirmed=[booking_id for booking_id, is_confirmed in counts.items() if is_confirmed],
            cancelled=[booking_id for booking_id, is_confirmed in counts.items() if not is_confirmed],
        )
        return [() for _ in runs]

    def forget(self) -> None:
        """Nothing is kept in memory."""
