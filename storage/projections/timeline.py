"""The read model of a booking's whole history: projections append its rows, `storage.reads.bookings` reads them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection

from storage.projections.positioned_event import PositionedEvent
from topics.kafka.positions import LogPosition
from topics.messages.events import EVENTS, BookingEvent

#: The events that the timeline has rows of; `apply` leaves out all others.
EVENTS_APPLIED: Final[tuple[type[BookingEvent], ...]] = tuple(kind for kind in EVENTS if issubclass(kind, BookingEvent))


class TimelineRow(NamedTuple):
    """One event of a booking, in the order of the table's columns.

    `sequence` orders the rows of a partition, `time` is the log's (UTC), and `event` is the event's data as JSON text.
    `topic`, `partition` and `offset` are the event's position on the log. The last three are its command's position;
    they are None where the event's header does not name it.
    """

    booking_id: UUID
    sequence: int
    event_id: str
    type: str
    time: datetime
    causation: str | None
    event: str
    topic: str
    partition: int
    offset: int
    causation_topic: str | None
    causation_partition: int | None
    causation_offset: int | None


# Arrays travel in binary form (%b): encoding them as text costs the worker fourteen times as much.
# A row that exists is the same event, because the log never changes; so a conflict is no update. No key is named: a
# table that was made for 0.1.0 has the one without the partition, until it is rebuilt.
_APPEND = """
insert into booking_timeline (booking_id, sequence, event_id, type, time, causation, event,
                              topic, partition, "offset", causation_topic, causation_partition, causation_offset)
select booking_id, sequence, event_id, type, time, causation, event::jsonb,
       topic, partition, "offset", causation_topic, causation_partition, causation_offset
from unnest(%b::uuid[], %b::bigint[], %b::text[], %b::text[], %b::timestamptz[], %b::text[], %b::text[],
            %b::text[], %b::int[], %b::bigint[], %b::text[], %b::int[], %b::bigint[])
    as appended (booking_id, sequence, event_id, type, time, causation, event,
                 topic, partition, "offset", causation_topic, causation_partition, causation_offset)
on conflict do nothing
"""
_NO_POSITION: Final = (None, None, None)


async def apply(connection: AsyncConnection, events: Sequence[PositionedEvent]) -> None:
    """Append the events of bookings, in the caller's transaction; events about a room alone are left out."""
    await append(connection, [_row(each, each.event) for each in events if isinstance(each.event, EVENTS_APPLIED)])


def _row(positioned: PositionedEvent, event: BookingEvent) -> TimelineRow:
    envelope = positioned.envelope
    return TimelineRow(
        event.booking_id,
        positioned.sequence,
        envelope.id,
        envelope.type,
        envelope.time,
        envelope.causation,
        positioned.value.decode(),
        positioned.topic,
        positioned.partition,
        positioned.offset,
        *_position(envelope.causation_position),
    )


def _position(written: str | None) -> LogPosition | tuple[None, None, None]:
    """Return the position that a header names; a header that names none must not stop the read model."""
    if written is None:
        return _NO_POSITION
    try:
        return LogPosition.parse(written)
    except ValueError:
        return _NO_POSITION


async def append(connection: AsyncConnection, rows: Sequence[TimelineRow]) -> None:
    """Insert rows in the caller's transaction, all in one statement; rows that exist are not changed."""
    if not rows:
        return
    columns = [list(column) for column in zip(*rows, strict=True)]
    await connection.execute(_APPEND, columns)
