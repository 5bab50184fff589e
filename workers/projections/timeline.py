"""Every event of a booking as one row, in the order of the log."""

from collections.abc import Sequence

from psycopg import AsyncConnection

from storage import timeline
from storage.timeline import TimelineRow
from topics.catalogue import BOOKING_EVENTS, Topic
from topics.envelope import Outgoing
from topics.events import BookingEvent
from workers.role import Received, Run


class BookingTimeline:
    """Keeps every event of a booking as one row."""

    name = "booking_timeline"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS,)

    async def handle(self, connection: AsyncConnection, runs: Sequence[Run]) -> Sequence[Sequence[Outgoing]]:
        """Append the runs' booking events to the timeline; what happened to a room alone is no part of it."""
        rows = [row for run in runs for received in run.received if (row := _timeline_row(received)) is not None]
        await timeline.append(connection, rows)
        return [() for _ in runs]

    def forget(self) -> None:
        """Nothing is kept in memory."""


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
