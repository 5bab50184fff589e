"""The read model of a hotel's sales for each night. The projection counts; `storage.reads.reports` reads."""

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from psycopg import AsyncConnection

from storage.projections.positioned_event import PositionedEvent
from topics.messages.events import BookingCancelled, BookingConfirmed, BookingEvent

#: The events that change the report; `apply` leaves out all others.
EVENTS_APPLIED: Final[tuple[type[BookingEvent], ...]] = (BookingConfirmed, BookingCancelled)


class BookingNotInLedger(Exception):
    """An event confirms a booking that the ledger does not have: log and ledger do not belong together."""


# The ledger's facts about a stay never change, and are committed before any event about the stay is published.
# A booking that is counted has a row in `reported_stay`, so no booking is counted twice or subtracted uncounted.
# Nights are written in the order of their key, so workers of one hotel may wait for each other but never deadlock.
_COUNT_STAYS = """
with known as (
    select id, hotel_id, check_in, check_out, rooms_count, amount_minor, currency
    from booking where id = any(%(confirmed)b::uuid[])
), added as (
    insert into reported_stay (booking_id, hotel_id, check_in, check_out, rooms_count, amount_minor, currency)
    select * from known
    on conflict (booking_id) do nothing
    returning *
), removed as (
    delete from reported_stay where booking_id = any(%(cancelled)b::uuid[])
    returning *
), changed as (
    select *, 1 as sign from added union all select *, -1 from removed
), spread as (
    select hotel_id, check_in + number as date, currency, sign, number = 0 as arrives, rooms_count,
           amount_minor / (check_out - check_in)
           + (number < amount_minor %% (check_out - check_in))::int as revenue_minor
    from changed cross join lateral generate_series(0, check_out - check_in - 1) as number
), counted as (
    insert into daily_report as report (hotel_id, date, arrivals, staying, nights, revenue_minor, currency)
    select hotel_id, date, coalesce(sum(sign) filter (where arrives), 0), sum(sign), sum(sign * rooms_count),
           sum(sign * revenue_minor), min(currency)
    from spread group by hotel_id, date order by hotel_id, date
    on conflict (hotel_id, date) do update
    set arrivals = report.arrivals + excluded.arrivals, staying = report.staying + excluded.staying,
        nights = report.nights + excluded.nights, revenue_minor = report.revenue_minor + excluded.revenue_minor
    returning hotel_id, date, staying
)
select (select array_agg(id) from known), array_agg(hotel_id), array_agg(date) from counted where staying = 0
"""

# This transaction has just written these rows and so holds their locks: no other count can come between.
_DROP_EMPTY = """
delete from daily_report
using unnest(%b::bigint[], %b::date[]) as empty (hotel_id, date)
where (daily_report.hotel_id, daily_report.date) = (empty.hotel_id, empty.date)
"""


async def apply(connection: AsyncConnection, events: Sequence[PositionedEvent]) -> None:
    """Count the bookings that the events confirm or cancel, in the caller's transaction; raises as `count`.

    Of a booking that they both confirm and cancel, the last event counts.
    """
    counts = {
        event.booking_id: isinstance(event, BookingConfirmed)
        for event in (each.event for each in events)
        if isinstance(event, EVENTS_APPLIED)
    }
    await count(
        connection,
        confirmed=[booking_id for booking_id, is_confirmed in counts.items() if is_confirmed],
        cancelled=[booking_id for booking_id, is_confirmed in counts.items() if not is_confirmed],
    )


async def count(connection: AsyncConnection, *, confirmed: Collection[UUID], cancelled: Collection[UUID]) -> None:
    """Add the `confirmed` bookings and subtract the `cancelled` ones, in the caller's transaction.

    The transaction is read committed. A booking is in one of the two at most. Adding a counted booking or subtracting
    an uncounted one changes nothing. A night without sales has no row.

    Raises:
        BookingNotInLedger: a confirmed booking is unknown.
    """
    if not confirmed and not cancelled:
        return
    counted = await connection.execute(_COUNT_STAYS, {"confirmed": list(confirmed), "cancelled": list(cancelled)})
    known, *empty = await counted.fetchone() or (None, None, None)
    if unknown := set(confirmed).difference(known or ()):
        raise BookingNotInLedger(f"confirmed, and not in the ledger: {', '.join(map(str, sorted(unknown)))}")
    if empty[0]:
        await connection.execute(_DROP_EMPTY, empty)
