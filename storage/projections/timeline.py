"""The read model of a booking's whole history: projections append its rows, `storage.reads.bookings` reads them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection

from storage.projections.positioned_event import Heard
from topics.messages.events import EVENTS, BookingEvent, Event

#: The events that the timeline is made of.
TAKES: Final[tuple[type[Event], ...]] = tuple(kind for kind in EVENTS if issubclass(kind, BookingEvent))


class TimelineRow(NamedTuple):
    """One event of a booking. `sequence` orders them, `time` is the log's (UTC), `event` its data as JSON text."""

    booking_id: UUID
    sequence: int
    event_id: str
    type: str
    time: datetime
    causation: str | None
    event: str


# Arrays go over in binary form (%b): as text they cost the worker fourteen times as much.
# A row that stands already is the same event: the log never changes what it said.
_APPEND = """
insert into booking_timeline (booking_id, sequence, event_id, type, time, causation, event)
select booking_id, sequence, event_id, type, time, causation, event::jsonb
from unnest(%b::uuid[], %b::bigint[], %b::text[], %b::text[], %b::timestamptz[], %b::text[], %b::text[])
    as appended (booking_id, sequence, event_id, type, time, causation, event)
on conflict (booking_id, sequence) do nothing
"""


async def fold(connection: AsyncConnection, heard: Sequence[Heard]) -> None:
    """Append the events of bookings, in the caller's transaction; what happened to a room alone is no part of it."""
    await append(connection, [_row(one, one.event) for one in heard if isinstance(one.event, BookingEvent)])


def _row(heard: Heard, event: BookingEvent) -> TimelineRow:
    envelope = heard.envelope
    return TimelineRow(
        booking_id=event.booking_id,
        sequence=heard.sequence,
        event_id=envelope.id,
        type=envelope.type,
        time=envelope.time,
        causation=envelope.causation,
        event=heard.value.decode(),
    )


async def append(connection: AsyncConnection, rows: Sequence[TimelineRow]) -> None:
    """Write rows in the caller's transaction, all in one statement; a row that is there already stays."""
    if not rows:
        return
    columns = [list(column) for column in zip(*rows, strict=True)]
    await connection.execute(_APPEND, columns)
