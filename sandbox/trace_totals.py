"""The outcome of the replayed trace, counted from the database and never by the driver that sent it."""

from typing import Any

import psycopg
from psycopg.rows import dict_row

_TOTALS = """
select count(*) filter (where rejection = 'no_nights') as refused_no_night,
       count(*) filter (where rejection = 'negative_rate') as refused_negative_rate,
       count(*) filter (where rejection = 'sold_out') as sold_out,
       count(*) filter (where status <> 'REJECTED') as reserved,
       count(*) filter (where status = 'CANCELLED') as cancelled,
       count(*) filter (where status = 'CONFIRMED') as kept,
       coalesce(sum(amount_minor) filter (where status = 'CONFIRMED'), 0)::bigint as revenue_minor,
       (select coalesce(max(booked_count), 0) from inventory) as fullest_night,
       coalesce(sum((check_out - check_in) * rooms_count) filter (where status = 'CONFIRMED'), 0)::bigint
           as room_nights
from booking
"""


async def totals(connection: psycopg.AsyncConnection[Any]) -> dict[str, int]:
    """Return the totals of all bookings in the ledger.

    `reserved` counts every stay that was ever reserved, `kept` those that were not cancelled, `revenue_minor`
    (cents) and `room_nights` those of the kept; `fullest_night` is the most rooms booked on one night.
    """
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_TOTALS)
        (row,) = await cursor.fetchall()
    return dict(row)
