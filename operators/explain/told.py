"""What the tables say of one booking, at one moment: the ledger, the timeline, what is owed to Stripe, the cursors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from storage import pauses

Row = dict[str, Any]

_MAX_LETTERS: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """How far a consumer has come in a partition; `sequence` is the last event's, -1 of `applied` is nothing yet."""

    applied: int
    sequence: int


@dataclass(frozen=True, kw_only=True)
class Told:
    """The rows. `now` is the database's time; `reached` goes by (consumer, topic on the broker, partition).

    `letters` are dead letters of the room's partition, or of all where no table knows the room: of any booking.
    `actions` are the replays of operators since then, of whatever.
    """

    now: datetime
    booking: Row | None
    timeline: Sequence[Row]
    sessions: Sequence[Row]
    refunds: Sequence[Row]
    letters: Sequence[Row]
    actions: Sequence[Row]
    reached: dict[tuple[str, str, int], Reached]
    paused: dict[str, str]

    @property
    def room_id(self) -> int | None:
        """The booking's room, None when no table knows the booking."""
        if self.booking is not None:
            return int(self.booking["room_id"])
        return int(self.timeline[0]["event"]["room_id"]) if self.timeline else None


_BOOKING: Final = """
    select id, user_id, hotel_id, room_id, check_in, check_out, rooms_count, status, terms, amount_minor, currency,
           rejection, failure, cancel_reason, payments, hold_expires_at, created_at, updated_at
    from booking where id = %s
"""
_TIMELINE: Final = """
    select sequence, event_id, type, time, causation, event
    from booking_timeline where booking_id = %s order by sequence
"""
_SESSIONS: Final = """
    select attempt, session_id, status, expires_at, created_at, updated_at, next_attempt_at, failures
    from checkout_session where booking_id = %s order by attempt
"""
_REFUNDS: Final = """
    select payment_intent, refund_id, status, amount_minor, created_at, updated_at, next_attempt_at, failures
    from refund where booking_id = %s order by created_at, payment_intent
"""
# The newest life of each topic that a consumer has met.
_CURSORS: Final = """
    select distinct on (consumer, topic, partition) consumer, topic, partition, applied, sequence
    from log_cursor where topic = any(%s) order by consumer, topic, partition, generation desc
"""
_LETTERS: Final = """
    select consumer, topic, partition, "offset", reason, created_at from dead_letter
    where topic = any(%s) and created_at >= %s and coalesce(partition = %s::int, true) order by created_at limit %s
"""
_ACTIONS: Final = """
    select at, who, action, target, details from operator_action
    where at >= %s and (
        action in ('replay', 'replay ended') and target = any(%s)
        or action = 'dead-letters replay'
           and exists (select from unnest(%s::text[]) as place where starts_with(details ->> 'stands_at', place))
    ) order by id
"""


async def tell(
    connection: AsyncConnection,
    booking_id: UUID,
    topics: Sequence[str],
    *,
    since: datetime | None,
    partition_of: Callable[[int], int],
) -> Told:
    """Read everything in one snapshot; `topics` are names on the broker, dead letters count from `since` on (UTC).

    Raises:
        psycopg.Error: the database is away or not migrated.
    """
    async with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("set transaction isolation level repeatable read read only")

        async def rows(query: str, *parameters: object) -> list[Row]:
            return await (await cursor.execute(query.encode(), parameters)).fetchall()

        [clock] = await rows("select now() as now")
        bookings = await rows(_BOOKING, booking_id)
        timeline = await rows(_TIMELINE, booking_id)
        since = since or (bookings[0]["created_at"] if bookings else None)
        told = Told(
            now=clock["now"],
            booking=bookings[0] if bookings else None,
            timeline=timeline,
            sessions=await rows(_SESSIONS, booking_id),
            refunds=await rows(_REFUNDS, booking_id),
            letters=[],
            actions=[],
            reached={
                (row["consumer"], row["topic"], row["partition"]): Reached(
                    applied=row["applied"], sequence=row["sequence"]
                )
                for row in await rows(_CURSORS, list(topics))
            },
            paused={pause.role: pause.who for pause in await pauses.listed(connection)},
        )
        if since is None:
            return told
        partition = None if told.room_id is None else partition_of(told.room_id)
        return replace(
            told,
            letters=await rows(_LETTERS, list(topics), since, partition, _MAX_LETTERS),
            actions=await rows(_ACTIONS, since, list(topics), [_at(topic, partition) for topic in topics]),
        )


def _at(topic: str, partition: int | None) -> str:
    """Return what places in a partition begin with, or in any."""
    return f"{topic}[" if partition is None else f"{topic}[{partition}]@"
