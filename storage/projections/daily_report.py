"""The read model of a hotel's sales for each night. The projection counts; `storage.reads.reports` reads.

A stay counts with the amount of each of its nights; a booking without amounts by night counts with equal shares of its
amount. The revenue is net: refunds that a person made at Stripe, and what lost disputes took, are deducted from the
nights in proportion to their amounts. Deductions come from the events alone, because the ledger is ahead of them: its
payments may have refunds already that are behind the position which a worker or a rebuild has reached. They are kept
by the id of the refund or dispute, so that an event which is read again changes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from pricing.shares import shares_minor
from storage.projections.positioned_event import PositionedEvent
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingRefunded,
    DisputeClosed,
    RefundFailed,
)
from topics.messages.values import DisputeResult

#: The events that change the report; `apply` leaves out all others.
EVENTS_APPLIED: Final[tuple[type[BookingEvent], ...]] = (
    BookingConfirmed,
    BookingCancelled,
    BookingRefunded,
    RefundFailed,
    DisputeClosed,
)


class BookingNotInLedger(Exception):
    """An event confirms a booking that the ledger does not have: log and ledger do not belong together."""


class Deduction(NamedTuple):
    """The money of one payment that a refund or a dispute took, in minor units; 0: it did not take it after all."""

    payment_intent: str
    id: str
    amount_minor: int


@dataclass(slots=True)
class _Changes:
    """The last state of each booking after a batch of events.

    `confirmed` has the payment that pays the booking, if any; a booking is not both confirmed and cancelled.
    """

    confirmed: dict[UUID, str | None] = field(default_factory=dict)
    cancelled: set[UUID] = field(default_factory=set)
    deductions: dict[UUID, list[Deduction]] = field(default_factory=dict)

    def add(self, event: BookingEvent) -> None:
        booking_id = event.booking_id
        match event:
            case BookingConfirmed():
                self.confirmed[booking_id] = event.payment_intent
                self.cancelled.discard(booking_id)
            case BookingCancelled():
                self.confirmed.pop(booking_id, None)
                self.cancelled.add(booking_id)
            case BookingRefunded(by_hand=True):
                self._deduct(booking_id, Deduction(event.payment_intent, event.refund_id, event.amount_minor))
            case RefundFailed():
                self._deduct(booking_id, Deduction(event.payment_intent, event.refund_id, 0))
            case DisputeClosed(result=DisputeResult.LOST):
                self._deduct(booking_id, Deduction(event.payment_intent, event.dispute_id, event.amount_minor))

    def _deduct(self, booking_id: UUID, deduction: Deduction) -> None:
        self.deductions.setdefault(booking_id, []).append(deduction)


async def apply(connection: AsyncConnection, events: Sequence[PositionedEvent]) -> None:
    """Count the bookings that the events confirm, cancel or deduct from, in the caller's transaction.

    Of a booking that they both confirm and cancel, the last event counts; raises as `count`.
    """
    changes = _Changes()
    for each in events:
        if isinstance(each.event, EVENTS_APPLIED):
            changes.add(each.event)
    await count(connection, confirmed=changes.confirmed, cancelled=changes.cancelled, deductions=changes.deductions)


async def count(
    connection: AsyncConnection,
    *,
    confirmed: Mapping[UUID, str | None],
    cancelled: Collection[UUID] = (),
    deductions: Mapping[UUID, Sequence[Deduction]] | None = None,
) -> None:
    """Add the `confirmed` bookings, subtract the `cancelled` ones, and deduct, in the caller's transaction.

    The transaction is read committed. Adding a counted booking or subtracting an uncounted one changes nothing, nor
    does a deduction that is known, or from a booking that is not counted, or of a payment that does not pay it. A night
    without sales has no row.

    Args:
        connection: the caller's.
        confirmed: for each booking the payment intent that pays it, or None if nothing was due in advance.
        cancelled: bookings that are not in `confirmed`.
        deductions: for each booking the money that left again, in the order of the events.

    Raises:
        BookingNotInLedger: a confirmed booking is unknown.
    """
    recounted = {id_: of for id_, of in (deductions or {}).items() if id_ not in cancelled}
    if not confirmed and not cancelled and not recounted:
        return
    stays = await _recount(connection, confirmed, recounted) if recounted else []
    counted = await connection.execute(
        _COUNT_STAYS,
        {
            "confirmed": list(confirmed),
            "payments": list(confirmed.values()),
            "cancelled": list(cancelled),
            "recounted": [stay.booking_id for stay in stays],
            "paid_by": [stay.payment_intent for stay in stays],
            "deductions": [stay.deductions for stay in stays],
            "night_deductions": [stay.night_deductions_minor for stay in stays],
        },
    )
    known, *empty = await counted.fetchone() or (None, None, None)
    if unknown := set(confirmed).difference(known or ()):
        raise BookingNotInLedger(f"confirmed, and not in the ledger: {', '.join(map(str, sorted(unknown)))}")
    if empty[0]:
        await connection.execute(_DROP_EMPTY, empty)


# Deductions.


class _Recounted(NamedTuple):
    """A stay with all its deductions, as PostgreSQL's texts of a JSON object and of an array; None: there are none."""

    booking_id: UUID
    payment_intent: str
    deductions: str | None
    night_deductions_minor: str | None


# A row that 0.1.0 wrote has no payment: it is the one that the ledger keeps. The stay's facts never change.
_STAYS: Final = """
select booking.id, booking.amount_minor, booking.check_out - booking.check_in, booking.night_amounts_minor,
       stay.booking_id is not null, coalesce(stay.payment_intent, kept.payment_intent), stay.deductions
from booking
left join reported_stay as stay on stay.booking_id = booking.id
left join lateral (
    select payment ->> 'payment_intent' as payment_intent
    from jsonb_array_elements(booking.payments) as payment where payment ->> 'state' = 'kept' limit 1
) as kept on true
where booking.id = any(%b::uuid[])
"""


async def _recount(
    connection: AsyncConnection,
    confirmed: Mapping[UUID, str | None],
    deductions: Mapping[UUID, Sequence[Deduction]],
) -> list[_Recounted]:
    """Return the stays, counted before or by this batch, whose deductions change."""
    found = await connection.execute(_STAYS, (list(deductions),))
    stays = []
    async for booking_id, amount_minor, nights, night_amounts_minor, is_counted, payment_intent, known in found:
        if not is_counted and booking_id not in confirmed:
            continue
        paid_by = confirmed.get(booking_id) or payment_intent
        of_payment = [each for each in deductions[booking_id] if each.payment_intent == paid_by]
        if paid_by is None or not of_payment:
            continue
        after = _after(known or {}, of_payment)
        stays.append(_Recounted(booking_id, paid_by, *_columns(after, amount_minor, nights, night_amounts_minor)))
    return stays


def _after(known: Mapping[str, int], deductions: Sequence[Deduction]) -> dict[str, int]:
    """Return the deductions of a stay by refund or dispute, after those of a batch."""
    after = {**known, **{each.id: each.amount_minor for each in deductions}}
    return {id_: amount_minor for id_, amount_minor in after.items() if amount_minor}


def _columns(
    deductions: Mapping[str, int], amount_minor: int, nights: int, night_amounts_minor: Sequence[int] | None
) -> tuple[str | None, str | None]:
    """Return the stay's deductions, and each night's share of them: together the amount of the stay at most."""
    if not deductions:
        return None, None
    amounts = night_amounts_minor or shares_minor(amount_minor, (1,) * nights)
    shares = shares_minor(min(sum(deductions.values()), amount_minor), amounts)
    return msgspec.json.encode(deductions).decode(), f"{{{','.join(map(str, shares))}}}"


# Statements.

# The ledger's facts about a stay never change, and are committed before any event about the stay is published.
# A booking that is counted has a row in `reported_stay`, so no booking is counted twice or subtracted uncounted.
# Nights are written in the order of their key, so workers of one hotel may wait for each other but never deadlock: that
# is why one statement writes all of them. `before` has the rows as they were, because every part of a statement sees
# the tables as they were when it began; a stay that this statement adds is not among them.
_COUNT_STAYS: Final = """
with named as (
    select * from unnest(%(confirmed)b::uuid[], %(payments)b::text[]) as named (booking_id, payment_intent)
), known as (
    select id as booking_id, hotel_id, check_in, check_out, rooms_count, amount_minor, currency, night_amounts_minor,
           named.payment_intent
    from booking join named on named.booking_id = booking.id where id = any(%(confirmed)b::uuid[])
), recounted as (
    select booking_id, payment_intent, deductions::jsonb, night_deductions::bigint[] as night_deductions_minor
    from unnest(%(recounted)b::uuid[], %(paid_by)b::text[], %(deductions)b::text[], %(night_deductions)b::text[])
         as recounted (booking_id, payment_intent, deductions, night_deductions)
), added as (
    insert into reported_stay (booking_id, hotel_id, check_in, check_out, rooms_count, amount_minor, currency,
                               night_amounts_minor, payment_intent, deductions, night_deductions_minor)
    select known.*, recounted.deductions, recounted.night_deductions_minor
    from known left join recounted using (booking_id)
    on conflict (booking_id) do nothing
    returning *
), removed as (
    delete from reported_stay where booking_id = any(%(cancelled)b::uuid[])
    returning *
), before as (
    select stay.* from reported_stay as stay join recounted using (booking_id)
    where booking_id = any(%(recounted)b::uuid[])
), after as (
    update reported_stay as stay
    set payment_intent = recounted.payment_intent, deductions = recounted.deductions,
        night_deductions_minor = recounted.night_deductions_minor
    from recounted
    where stay.booking_id = recounted.booking_id and stay.booking_id = any(%(recounted)b::uuid[])
    returning stay.*
), changed as (
    select *, 1 as sign from added union all select *, -1 from removed
    union all select *, -1 from before union all select *, 1 from after
), spread as (
    select hotel_id, check_in + number as date, currency, sign, number = 0 as arrives, rooms_count,
           coalesce(
               night_amounts_minor[number + 1],
               amount_minor / (check_out - check_in)
               + (number < amount_minor %% (check_out - check_in))::int
           ) - coalesce(night_deductions_minor[number + 1], 0) as revenue_minor
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
select (select array_agg(booking_id) from known), array_agg(hotel_id), array_agg(date) from counted where staying = 0
"""

# This transaction has just written these rows and so holds their locks: no other count can come between.
_DROP_EMPTY: Final = """
delete from daily_report
using unnest(%b::bigint[], %b::date[]) as empty (hotel_id, date)
where (daily_report.hotel_id, daily_report.date) = (empty.hotel_id, empty.date)
"""
