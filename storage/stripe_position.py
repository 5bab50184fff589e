"""How far reconciliation has read Stripe's list of events: the one row of `stripe_position`."""

from datetime import datetime
from typing import NamedTuple

from psycopg import AsyncConnection


class StripePosition(NamedTuple):
    """Of each event made until `events_until` (Stripe's time) the webhook is on the log; `saved_at` is the database's.

    Both are UTC.
    """

    events_until: datetime
    saved_at: datetime


async def read(connection: AsyncConnection) -> StripePosition | None:
    """Return the position; None before it was saved for the first time. Raises psycopg.Error."""
    found = await connection.execute("select events_until, saved_at from stripe_position")
    row = await found.fetchone()
    return None if row is None else StripePosition(*row)


async def save(connection: AsyncConnection, events_until: datetime) -> None:
    """Move the position, which never goes back. Raises psycopg.Error."""
    await connection.execute(
        "insert into stripe_position (events_until) values (%s) on conflict (id) do update"
        " set events_until = greatest(stripe_position.events_until, excluded.events_until), saved_at = now()",
        (events_until,),
    )


async def set_back(connection: AsyncConnection, events_until: datetime) -> None:
    """Set the position back to a time; one that is further back stays. Raises psycopg.Error."""
    await connection.execute(
        "update stripe_position set events_until = least(events_until, %s)",
        (events_until,),
    )
