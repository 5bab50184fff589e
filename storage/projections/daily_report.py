"""The read model of a hotel's sales for each night. The projection counts; `storage.reads.reports` reads.

A stay counts with the amount of each of its nights; a booking without amounts by night counts with equal shares of its
amount. The revenue is net: the refunds of the payments, and what lost disputes took of them, are deducted from the
nights in proportion to their amounts. Deductions come from the events alone, because the ledger is ahead of them: its
payments may have refunds already that are behind the position which a worker or a rebuild has reached. They are kept by
the id of the refund or dispute, so that an event which is read again changes nothing.

A stay that was changed counts with its present nights and amounts, the costs of its changes included. Several payments
may pay it, and the refund of a cheaper change is no deduction: it is what the payments sum to above the stay's amount.
If an operator closed that refund it is gone, too, and what leaves by hand after that is a deduction.

Of a stay that ended early the hotel keeps an amount by its policy. The nights before the first free one stay sold and
count with their amounts; the rest of what is kept is a fee, and counts for that first free night. If less is kept than
the amounts of the nights that stay sold, these share it in proportion, and there is no fee. After deductions the hotel
keeps what is left of the payment, and never more than by its policy. Of a stay that is paid at the hotel nothing is
held: guests who leave early have paid for the nights that they stayed, and the rest of the policy's amount is a claim
of the hotel, which is neither revenue nor a fee.

Of a trip its legs count, each as a stay that is paid in advance; the trip itself has no nights. Money that leaves
the trip's payment and was not due to the guest is deducted from its legs, in proportion to what is kept of each
(`storage.projections.reported_trips`). A booking that moved to another room type counts until then as any stay, and as
a trip of one leg from then on.

Taxes and fees that a hotel collects itself are no revenue. The amount of a prepaid stay does not contain them; from
that of a stay which is paid at the hotel they are subtracted before it counts.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from storage.projections import reported_trips
from storage.projections.counted_stay import (
    KnownStay,
    changed_stay,
    deducted_minor,
    held_minor,
    money_left,
    night_deductions_minor,
    without_taxes,
)
from storage.projections.first_stay import FIRST_STAY
from storage.projections.positioned_event import PositionedEvent
from storage.projections.report_changes import EVENTS_APPLIED, Changes, Deduction, End
from storage.projections.reported_trips import LegDeductions, StayMoney

__all__ = ["EVENTS_APPLIED", "BookingNotInLedger", "apply", "count"]


class BookingNotInLedger(Exception):
    """An event confirms a booking that the ledger does not have: log and ledger do not belong together."""


async def apply(connection: AsyncConnection, events: Sequence[PositionedEvent]) -> None:
    """Count the bookings that the events confirm, change, end early or deduct from, as `count` does; raises as it."""
    changes = Changes()
    for each in events:
        if isinstance(each.event, EVENTS_APPLIED):
            changes.add(each.event, each.envelope.id)
    if changes.booking_ids:
        await count(connection, changes)


async def count(connection: AsyncConnection, changes: Changes) -> None:
    """Count bookings that were confirmed, changed, ended early or deducted from, in the caller's transaction.

    The transaction is read committed. To confirm a counted booking or to end an uncounted one changes nothing, nor does
    a deduction that is known, or from a booking that is not counted, or of a payment that does not pay it. A night
    without sales and fees has no row.

    Raises:
        BookingNotInLedger: a confirmed booking is unknown.
    """
    removed = {
        id_ for id_, end in changes.ended.items() if end.cancelled and not end.kept_minor
    } | changes.new_trips.keys()
    legs, taxed = await _other_money(connection, changes)
    changed = changes.changed.keys() | changes.ended.keys() | taxed | legs.changed
    recounted = (changed | changes.deductions.keys()) - removed
    stays = []
    if recounted:
        for stay in await _recount(connection, changes, recounted, changed, legs.minor):
            if stay.is_removed:
                removed.add(stay.booking_id)
            else:
                stays.append(stay)
    confirmed = {id_: payment for id_, payment in changes.confirmed.items() if id_ not in removed}
    if not confirmed and not removed and not stays:
        return
    columns = zip(*(stay[:-1] for stay in stays), strict=True) if stays else ((),) * len(_RECOUNTED_COLUMNS)
    counted = await connection.execute(
        _COUNT_STAYS,
        {
            "confirmed": list(confirmed),
            "payments_of_confirmed": list(confirmed.values()),
            "cancelled": list(removed),
            **{name: list(column) for name, column in zip(_RECOUNTED_COLUMNS, columns, strict=True)},
        },
    )
    known, *empty = await counted.fetchone() or (None, None, None)
    if unknown := set(confirmed).difference(known or ()):
        raise BookingNotInLedger(f"confirmed, and not in the ledger: {', '.join(map(str, sorted(unknown)))}")
    if empty[0]:
        await connection.execute(_DROP_EMPTY, empty)


# Stays whose money is not in their own events and amounts alone.

_OTHER_MONEY: Final = """
select id, coalesce(trip_id, case when legs is not null then id end), legs is not null and earlier_stays is not null
from booking
where id = any(%b::uuid[])
  and (trip_id is not null or legs is not null
       or terms = 'at_hotel' and (sale ->> 'at_hotel_taxes_minor' is not null or earlier_stays is not null))
"""


async def _other_money(connection: AsyncConnection, changes: Changes) -> tuple[LegDeductions, set[UUID]]:
    """Return what left of the amounts of legs, and the confirmed stays of which taxes at the hotel may be deducted."""
    rows = await connection.execute(_OTHER_MONEY, (list(changes.booking_ids),))
    # A booking that is confirmed is no trip yet if it moves to another room later.
    found = [(id_, trip_id) async for id_, trip_id, was_stay in rows if not (was_stay and id_ in changes.confirmed)]
    taxed = {id_ for id_, trip_id in found if trip_id is None and id_ in changes.confirmed}
    of_trips = {id_: trip_id for id_, trip_id in found if trip_id is not None}
    if not of_trips and not changes.new_trips:
        return LegDeductions(), taxed
    new_trips = await _money_of_new_trips(connection, changes)
    return await reported_trips.apply(connection, changes, of_trips, new_trips), taxed


async def _money_of_new_trips(connection: AsyncConnection, changes: Changes) -> dict[UUID, StayMoney]:
    """Return the payments of the stays that become trips, and what had left them."""
    found = {}
    for known in await _known_stays(connection, changes, changes.new_trips.keys(), {}):
        left = money_left(known, changes.new_trips[known.booking_id])
        found[known.booking_id] = StayMoney(
            payments=known.payments,
            refunds=left.refunds,
            deductions={id_: minor for id_, minor in left.deductions.items() if id_ not in left.refunds},
            closings=left.closings,
        )
    return found


# Stays whose money or whose nights change.


class _Recounted(NamedTuple):
    """A stay with its deductions and its end; lists and objects are PostgreSQL's texts of them; None: none."""

    booking_id: UUID
    check_in: date
    check_out: date
    rooms_count: int
    amount_minor: int
    night_amounts_minor: str | None
    payment_intent: str | None
    payments: str | None
    deductions: str | None
    night_deductions_minor: str | None
    kept_minor: int | None
    freed_from: date | None
    refunds: str | None
    closings: str | None
    is_removed: bool = False


_RECOUNTED_COLUMNS: Final = _Recounted._fields[:-1]


# A stay that is counted already has its own facts, as far as the events have come; one that is not has those of the
# ledger before any change. A row that 0.1.0 wrote has no payment: it is the one that the ledger keeps, or of which the
# hotel keeps a part.
_STAYS: Final = f"""
select booking.id, stay.booking_id is not null, booking.terms = 'prepaid',
       coalesce(stay.check_in, first_stay.check_in, booking.check_in),
       coalesce(stay.check_out, first_stay.check_out, booking.check_out),
       coalesce(stay.rooms_count, first_stay.rooms_count, booking.rooms_count),
       coalesce(stay.amount_minor, first_stay.amount_minor, booking.amount_minor),
       case when stay.booking_id is not null then stay.night_amounts_minor
            when booking.earlier_stays is not null then nullif(first_stay.night_amounts_minor, '{{}}')
            else booking.night_amounts_minor end,
       case when stay.booking_id is not null then 0
            when booking.earlier_stays is not null then (first_stay.sale ->> 'at_hotel_taxes_minor')::bigint
            else (booking.sale ->> 'at_hotel_taxes_minor')::bigint end,
       coalesce(stay.payment_intent, paying.payment_intent), stay.payments, stay.deductions, stay.kept_minor,
       stay.freed_from, stay.refunds, stay.closings
from booking {FIRST_STAY}
left join reported_stay as stay on stay.booking_id = booking.id
left join lateral (
    select payment ->> 'payment_intent' as payment_intent
    from jsonb_array_elements(booking.payments) as payment
    where payment ->> 'state' = 'kept' or payment ? 'retained_minor' limit 1
) as paying on true
where booking.id = any(%b::uuid[]) and (booking.legs is null or booking.earlier_stays is not null)
"""  # noqa: S608 - the join is a constant


async def _recount(
    connection: AsyncConnection,
    changes: Changes,
    booking_ids: Collection[UUID],
    changed: Collection[UUID],
    leg_deductions_minor: Mapping[UUID, int],
) -> list[_Recounted]:
    """Return the stays, counted before or by this batch, whose nights, deductions or end change.

    Of bookings that are not among the `changed`, those whose payments have deductions change.
    """
    stays = []
    for known in await _known_stays(connection, changes, booking_ids, leg_deductions_minor):
        paying = known.paying
        of_payments = [each for each in changes.deductions.get(known.booking_id, ()) if each.payment_intent in paying]
        if known.booking_id in changed or of_payments:
            stays.append(_recounted(known, of_payments, changes.ended.get(known.booking_id)))
    return stays


async def _known_stays(
    connection: AsyncConnection,
    changes: Changes,
    booking_ids: Collection[UUID],
    leg_deductions_minor: Mapping[UUID, int],
) -> list[KnownStay]:
    """Return the stays that were counted before, or are by this batch, with their changes in this batch."""
    found = await connection.execute(_STAYS, (list(booking_ids),))
    stays = []
    async for (
        id_,
        is_counted,
        prepaid,
        *stay,
        taxes_minor,
        paid_by,
        payments,
        deductions,
        kept_minor,
        freed_from,
        refunds,
        closings,
    ) in found:
        if not is_counted and id_ not in changes.confirmed:
            continue
        check_in, check_out, rooms_count, amount_minor, by_night = stay
        known = KnownStay(
            booking_id=id_,
            check_in=check_in,
            check_out=check_out,
            rooms_count=rooms_count,
            amount_minor=amount_minor,
            night_amounts_minor=by_night,
            prepaid=prepaid,
            payment_intent=changes.confirmed.get(id_) or paid_by,
            payments=payments or {},
            deductions=deductions or {},
            kept_minor=kept_minor,
            freed_from=freed_from,
            refunds=refunds or {},
            closings=closings or {},
            leg_deducted_minor=leg_deductions_minor.get(id_, 0),
        )
        known = without_taxes(known, taxes_minor or 0)
        for change in changes.changed.get(id_, ()):
            known = changed_stay(known, change)
        stays.append(known)
    return stays


def _recounted(known: KnownStay, deductions: Sequence[Deduction], end: End | None) -> _Recounted:
    """Return the stay after the deductions, none of another payment, and after its end, if it has ended."""
    left = money_left(known, deductions)
    kept_minor, freed_from = known.kept_minor, known.freed_from
    if end is not None:
        freed_from = end.freed_from or known.check_in
        kept_minor = held_minor(known, end, freed_from)
    is_removed = end is not None and end.cancelled and not kept_minor
    by_night = night_deductions_minor(known, deducted_minor(known, left, kept_minor), kept_minor, freed_from)
    return _Recounted(
        booking_id=known.booking_id,
        check_in=known.check_in,
        check_out=known.check_out,
        rooms_count=known.rooms_count,
        amount_minor=known.amount_minor,
        night_amounts_minor=_array(known.night_amounts_minor),
        payment_intent=known.payment_intent,
        payments=_object(known.payments),
        deductions=_object(left.deductions),
        night_deductions_minor=_array(by_night),
        kept_minor=kept_minor,
        freed_from=freed_from,
        refunds=_object(left.refunds),
        closings=_object(left.closings),
        is_removed=is_removed,
    )


def _array(values: Sequence[int] | None) -> str | None:
    # PostgreSQL has no arrays of arrays of several lengths, so that amounts by night travel as text.
    return None if values is None else f"{{{','.join(map(str, values))}}}"


def _object(values: Mapping[str, int]) -> str | None:
    return msgspec.json.encode(values).decode() if values else None


# Statements.


# A booking is committed to the ledger before any event about it is published. A confirmation counts the stay from
# before any change, and a change replaces it. A booking that is counted has a row in `reported_stay`, so no booking is
# counted twice or subtracted uncounted.
# Of a stay that ended early, what counts of the freed nights is the fee of the first of them.
# Nights are written in the order of their key, so workers of one hotel may wait for each other but never deadlock: that
# is why one statement writes all of them. `before` has the rows as they were, because every part of a statement sees
# the tables as they were when it began; a stay that this statement adds is not among them.
def _of(table: str, columns: str) -> str:
    return ", ".join(f"{table}.{name}" for name in columns.split(", "))


_FACTS: Final = "check_in, check_out, rooms_count, amount_minor, night_amounts_minor"
_MONEY: Final = (
    "payment_intent, payments, deductions, night_deductions_minor, kept_minor, freed_from, refunds, closings"
)
_COUNT_STAYS: Final = f"""
with named as (
    select * from unnest(%(confirmed)b::uuid[], %(payments_of_confirmed)b::text[]) as named (booking_id, payment_intent)
), recounted as (
    select booking_id, check_in, check_out, rooms_count, amount_minor,
           night_amounts_minor::bigint[] as night_amounts_minor, payment_intent, payments::jsonb, deductions::jsonb,
           night_deductions_minor::bigint[] as night_deductions_minor, kept_minor, freed_from, refunds::jsonb,
           closings::jsonb
    from unnest(%(booking_id)b::uuid[], %(check_in)b::date[], %(check_out)b::date[], %(rooms_count)b::int[],
                %(amount_minor)b::bigint[], %(night_amounts_minor)b::text[], %(payment_intent)b::text[],
                %(payments)b::text[], %(deductions)b::text[], %(night_deductions_minor)b::text[],
                %(kept_minor)b::bigint[], %(freed_from)b::date[], %(refunds)b::text[], %(closings)b::text[])
         as recounted (booking_id, {_FACTS}, {_MONEY})
), known as (
    select id as booking_id, hotel_id, currency, named.payment_intent,
           booking.legs is not null and booking.earlier_stays is null as is_trip,
           coalesce(first_stay.check_in, booking.check_in) as check_in,
           coalesce(first_stay.check_out, booking.check_out) as check_out,
           coalesce(first_stay.rooms_count, booking.rooms_count) as rooms_count,
           coalesce(first_stay.amount_minor, booking.amount_minor) as amount_minor,
           case when earlier_stays is null then booking.night_amounts_minor
                else nullif(first_stay.night_amounts_minor, '{{}}') end as night_amounts_minor
    from booking join named on named.booking_id = booking.id {FIRST_STAY} where id = any(%(confirmed)b::uuid[])
), added as (
    insert into reported_stay (booking_id, hotel_id, currency, {_FACTS}, {_MONEY})
    select booking_id, hotel_id, currency, {_FACTS}, payment_intent, null, null, null, null, null, null, null
    from known where not is_trip and booking_id not in (select booking_id from recounted)
    union all
    select booking_id, hotel_id, currency, {_of("recounted", _FACTS)}, {_of("recounted", _MONEY)}
    from known join recounted using (booking_id)
    on conflict (booking_id) do nothing
    returning *
), removed as (
    delete from reported_stay where booking_id = any(%(cancelled)b::uuid[])
    returning *
), before as (
    select stay.* from reported_stay as stay join recounted using (booking_id)
    where booking_id = any(%(booking_id)b::uuid[])
), after as (
    update reported_stay as stay set ({_FACTS}, {_MONEY}) = ({_of("recounted", _FACTS)}, {_of("recounted", _MONEY)})
    from recounted
    where stay.booking_id = recounted.booking_id and stay.booking_id = any(%(booking_id)b::uuid[])
    returning stay.*
), changed as (
    select *, 1 as sign from added union all select *, -1 from removed
    union all select *, -1 from before union all select *, 1 from after
), spread as (
    select hotel_id, least(check_in + number, freed_from) as date, currency, sign, number = 0 as arrives, rooms_count,
           freed_from is null or check_in + number < freed_from as is_sold,
           coalesce(
               night_amounts_minor[number + 1],
               amount_minor / (check_out - check_in)
               + (number < amount_minor %% (check_out - check_in))::int
           ) - coalesce(night_deductions_minor[number + 1], 0) as net_minor
    from changed cross join lateral generate_series(0, check_out - check_in - 1) as number
), counted as (
    insert into daily_report as report (hotel_id, date, arrivals, staying, nights, revenue_minor, fees_minor, currency)
    select hotel_id, date, coalesce(sum(sign) filter (where is_sold and arrives), 0),
           coalesce(sum(sign) filter (where is_sold), 0), coalesce(sum(sign * rooms_count) filter (where is_sold), 0),
           coalesce(sum(sign * net_minor) filter (where is_sold), 0),
           coalesce(sum(sign * net_minor) filter (where not is_sold), 0), min(currency)
    from spread where is_sold or net_minor <> 0 group by hotel_id, date order by hotel_id, date
    on conflict (hotel_id, date) do update
    set arrivals = report.arrivals + excluded.arrivals, staying = report.staying + excluded.staying,
        nights = report.nights + excluded.nights, revenue_minor = report.revenue_minor + excluded.revenue_minor,
        fees_minor = report.fees_minor + excluded.fees_minor
    returning hotel_id, date, staying, fees_minor
)
select (select array_agg(booking_id) from known), array_agg(hotel_id), array_agg(date)
from counted where staying = 0 and fees_minor = 0
"""  # noqa: S608 - the columns are constants

# This transaction has just written these rows and so holds their locks: no other count can come between.
_DROP_EMPTY: Final = """
delete from daily_report
using unnest(%b::bigint[], %b::date[]) as empty (hotel_id, date)
where (daily_report.hotel_id, daily_report.date) = (empty.hotel_id, empty.date)
"""
