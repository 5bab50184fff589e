"""The holds that are over, for the expiry timer."""

from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection

BATCH: Final = 1000


class DueHold(NamedTuple):
    """An unpaid booking or change of one whose hold is over by the database's clock; `deadline` is UTC."""

    deadline: datetime
    booking_id: UUID
    room_id: int


FIRST: Final = DueHold(datetime.min.replace(tzinfo=UTC), UUID(int=0), 0)
"""A value that sorts before every hold."""


# The index `booking_hold` is on (status, hold_expires_at), of the rows that have a deadline.
_DUE_HOLDS: Final = """
    select hold_expires_at, id, room_id from booking
    where status in ('RESERVING', 'RESERVED', 'GUESTS_ADDED', 'PAYMENTS_PENDING', 'CONFIRMED')
    and hold_expires_at between %s and now() - make_interval(secs => %s)
    and (hold_expires_at, id) > (%s, %s)
    order by hold_expires_at, id limit %s
"""


_COUNTED: Final = """
    select count(*), count(*) filter (where over_seconds > %s), greatest(coalesce(max(over_seconds), 0), 0)
    from (select extract(epoch from now() - hold_expires_at) as over_seconds from booking
          where status in ('RESERVING', 'RESERVED', 'GUESTS_ADDED', 'PAYMENTS_PENDING', 'CONFIRMED')
          and hold_expires_at is not null) as hold
"""


async def due_holds(connection: AsyncConnection, after: DueHold, margin_seconds: float) -> list[DueHold]:
    """Return at most `BATCH` holds that were over `margin_seconds` ago, by deadline and booking, following `after`."""
    found = await connection.execute(
        _DUE_HOLDS, (after.deadline, margin_seconds, after.deadline, after.booking_id, BATCH)
    )
    return [DueHold(*row) for row in await found.fetchall()]


async def count_holds(connection: AsyncConnection, *, margin_seconds: float) -> tuple[int, int, float]:
    """Return the numbers of holds and of those over for `margin_seconds`, and the age of the oldest (seconds)."""
    found = await connection.execute(_COUNTED, (margin_seconds,))
    row = await found.fetchone()
    assert row is not None, "counting always returns"
    live, overdue, oldest_seconds = row
    return live, overdue, float(oldest_seconds)
