"""The read model of a hotel's sales for each night. The projection counts; `storage.reads.reports` reads.

A stay counts with the amount of each of its nights; a booking without amounts by night counts with equal shares of its
amount. The revenue is net: the refunds of the payments, and what lost disputes took of them, are deducted from the
nights in proportion to their amounts. Deductions come from the events alone, because the ledger is ahead of them: its
payments may have refunds already that are behind the position which a worker or a rebuild has reached. They are kept by
the id of the refund or dispute, so that an event which is read again changes nothing.

A stay that was changed counts with its present nights and amounts, the costs of its changes included. Several payments
may pay it, and the refund of a cheaper change is no deduction: it is what the payments sum to above the stay's amount.

Of a stay that ended early the hotel keeps an amount by its policy. The nights before the first free one stay sold and
count with their amounts; the rest of what is kept is a fee, and counts for that first free night. If less is kept than
the amounts of the nights that stay sold, these share it in proportion, and there is no fee. After deductions the hotel
keeps what is left of the payment, and never more than by its policy. Of a stay that is paid at the hotel nothing is
held: guests who leave early have paid for the nights that they stayed, and the rest of the policy's amount is a claim
of the hotel, which is neither revenue nor a fee.

Of a trip its legs count, each as a stay that is paid in advance; the trip itself has no nights.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from pricing.shares import shares_minor
from storage.projections.first_stay import FIRST_STAY
from storage.projections.positioned_event import PositionedEvent
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingRefunded,
    DisputeClosed,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    RefundFailed,
    StayChanged,
)
from topics.messages.sale import AppliedPolicy
from topics.messages.values import DisputeResult

#: The events that change the report; `apply` leaves out all others.
EVENTS_APPLIED: Final[tuple[type[BookingEvent], ...]] = (
    BookingConfirmed,
    BookingCancelled,
    BookingRefunded,
    RefundFailed,
    DisputeClosed,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    StayChanged,
)


class BookingNotInLedger(Exception):
    """An event confirms a booking that the ledger does not have: log and ledger do not belong together."""


class Deduction(NamedTuple):
    """The money of one payment that a refund or a dispute took, in minor units; 0: it did not take it after all."""

    payment_intent: str
    id: str
    amount_minor: int


class End(NamedTuple):
    """The early end of a stay: the policy's amount, and the first night that is on sale again (None: all are).

    `departed`: the guests had arrived.
    """

    kept_minor: int
    freed_from: date | None
    departed: bool = False
    cancelled: bool = False


def _kept_minor(policy: AppliedPolicy | None) -> int:
    return 0 if policy is None else policy.kept_minor


@dataclass(slots=True)
class Changes:
    """The last state of each booking after a batch of events.

    `confirmed` has the payment that pays the booking, if any; `changed` has all changes of a stay in their order, and
    `ended` the stays that ended early.
    """

    confirmed: dict[UUID, str | None] = field(default_factory=dict)
    changed: dict[UUID, list[StayChanged]] = field(default_factory=dict)
    ended: dict[UUID, End] = field(default_factory=dict)
    deductions: dict[UUID, list[Deduction]] = field(default_factory=dict)

    def add(self, event: BookingEvent) -> None:
        """Add an event of `EVENTS_APPLIED`; other kinds change nothing."""
        booking_id = event.booking_id
        match event:
            case BookingConfirmed():
                self.confirmed[booking_id] = event.payment_intent
                self.ended.pop(booking_id, None)
            case StayChanged():
                self.changed.setdefault(booking_id, []).append(event)
            case BookingCancelled():
                self.ended[booking_id] = End(_kept_minor(event.policy), event.freed_from, cancelled=True)
            case GuestsCheckedOut() if event.freed_from is not None:
                self.ended[booking_id] = End(_kept_minor(event.policy), event.freed_from, departed=True)
            case GuestsDidNotArrive():
                self.ended[booking_id] = End(_kept_minor(event.policy), event.freed_from)
            case BookingRefunded():
                self._deduct(booking_id, Deduction(event.payment_intent, event.refund_id, event.amount_minor))
            case RefundFailed():
                self._deduct(booking_id, Deduction(event.payment_intent, event.refund_id, 0))
            case DisputeClosed(result=DisputeResult.LOST):
                self._deduct(booking_id, Deduction(event.payment_intent, event.dispute_id, event.amount_minor))

    def _deduct(self, booking_id: UUID, deduction: Deduction) -> None:
        self.deductions.setdefault(booking_id, []).append(deduction)


async def apply(connection: AsyncConnection, events: Sequence[PositionedEvent]) -> None:
    """Count the bookings that the events confirm, change, end early or deduct from, as `count` does; raises as it."""
    changes = Changes()
    for each in events:
        if isinstance(each.event, EVENTS_APPLIED):
            changes.add(each.event)
    if changes.confirmed or changes.changed or changes.ended or changes.deductions:
        await count(connection, changes)


async def count(connection: AsyncConnection, changes: Changes) -> None:
    """Count bookings that were confirmed, changed, ended early or deducted from, in the caller's transaction.

    The transaction is read committed. To confirm a counted booking or to end an uncounted one changes nothing, nor does
    a deduction that is known, or from a booking that is not counted, or of a payment that does not pay it. A night
    without sales and fees has no row.

    Raises:
        BookingNotInLedger: a confirmed booking is unknown.
    """
    removed = {id_ for id_, end in changes.ended.items() if end.cancelled and not end.kept_minor}
    recounted = (changes.changed.keys() | changes.ended.keys() | changes.deductions.keys()) - removed
    stays = []
    if recounted:
        for stay in await _recount(connection, changes, recounted):
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
    is_removed: bool = False


_RECOUNTED_COLUMNS: Final = _Recounted._fields[:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A stay as it is counted so far, with the changes of this batch.

    `payments` are the amounts of the payments that pay it, by payment intent, once it was changed; empty before.
    """

    booking_id: UUID
    check_in: date
    check_out: date
    rooms_count: int
    amount_minor: int
    night_amounts_minor: Sequence[int] | None
    prepaid: bool
    payment_intent: str | None
    payments: Mapping[str, int]
    deductions: Mapping[str, int]
    kept_minor: int | None
    freed_from: date | None

    @property
    def amounts_minor(self) -> Sequence[int]:
        """The amount of each night; an even share for a stay without amounts by night."""
        return self.night_amounts_minor or shares_minor(self.amount_minor, (1,) * (self.check_out - self.check_in).days)

    @property
    def paying(self) -> Collection[str | None]:
        """The payment intents of the payments that pay the stay."""
        return self.payments.keys() or {self.payment_intent}

    @property
    def surplus_minor(self) -> int:
        """The part of the payments that goes back because changes made the stay cheaper."""
        return max(0, sum(self.payments.values()) - self.amount_minor) if self.payments else 0


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
       coalesce(stay.payment_intent, paying.payment_intent), stay.payments, stay.deductions, stay.kept_minor,
       stay.freed_from
from booking {FIRST_STAY}
left join reported_stay as stay on stay.booking_id = booking.id
left join lateral (
    select payment ->> 'payment_intent' as payment_intent
    from jsonb_array_elements(booking.payments) as payment
    where payment ->> 'state' = 'kept' or payment ? 'retained_minor' limit 1
) as paying on true
where booking.id = any(%b::uuid[]) and booking.legs is null
"""  # noqa: S608 - the join is a constant


async def _recount(connection: AsyncConnection, changes: Changes, booking_ids: set[UUID]) -> list[_Recounted]:
    """Return the stays, counted before or by this batch, whose nights, deductions or end change."""
    found = await connection.execute(_STAYS, (list(booking_ids),))
    stays = []
    async for id_, is_counted, prepaid, *stay, paid_by, payments, deductions, kept_minor, freed_from in found:
        if not is_counted and id_ not in changes.confirmed:
            continue
        check_in, check_out, rooms_count, amount_minor, by_night = stay
        known = _Known(
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
        )
        for change in changes.changed.get(id_, ()):
            known = _changed(known, change)
        paying = known.paying
        of_payments = [each for each in changes.deductions.get(id_, ()) if each.payment_intent in paying]
        end = changes.ended.get(id_)
        if id_ in changes.changed or of_payments or end is not None:
            stays.append(_recounted(known, of_payments, end))
    return stays


def _changed(known: _Known, change: StayChanged) -> _Known:
    """Return the stay after a change."""
    payments = dict(known.payments)
    if not payments and known.prepaid and known.payment_intent is not None:
        payments[known.payment_intent] = change.before.amount_minor
    if change.payment_intent is not None:
        payments[change.payment_intent] = change.extra_minor
    return replace(
        known,
        check_in=change.check_in,
        check_out=change.check_out,
        rooms_count=change.rooms_count,
        amount_minor=change.amount_minor,
        night_amounts_minor=change.night_amounts_minor or None,
        payments=payments,
    )


def _recounted(known: _Known, deductions: Sequence[Deduction], end: End | None) -> _Recounted:
    """Return the stay after the deductions, none of another payment, and after its end, if it has ended."""
    after = {**known.deductions, **{each.id: each.amount_minor for each in deductions}}
    after = {id_: amount_minor for id_, amount_minor in after.items() if amount_minor}
    kept_minor, freed_from = known.kept_minor, known.freed_from
    if end is not None:
        freed_from = end.freed_from or known.check_in
        kept_minor = _held_minor(known, end, freed_from)
    is_removed = end is not None and end.cancelled and not kept_minor
    by_night = _night_deductions_minor(known, sum(after.values()), kept_minor, freed_from)
    return _Recounted(
        booking_id=known.booking_id,
        check_in=known.check_in,
        check_out=known.check_out,
        rooms_count=known.rooms_count,
        amount_minor=known.amount_minor,
        night_amounts_minor=_array(known.night_amounts_minor),
        payment_intent=known.payment_intent,
        payments=_object(known.payments),
        deductions=_object(after),
        night_deductions_minor=_array(by_night),
        kept_minor=kept_minor,
        freed_from=freed_from,
        is_removed=is_removed,
    )


def _array(values: Sequence[int] | None) -> str | None:
    # PostgreSQL has no arrays of arrays of several lengths, so that amounts by night travel as text.
    return None if values is None else f"{{{','.join(map(str, values))}}}"


def _object(values: Mapping[str, int]) -> str | None:
    return msgspec.json.encode(values).decode() if values else None


def _held_minor(known: _Known, end: End, freed_from: date) -> int:
    """Return what the hotel has of a stay that ended early, before deductions."""
    if known.prepaid:
        return end.kept_minor
    return sum(known.amounts_minor[: _sold_count(known, freed_from)]) if end.departed else 0


def _sold_count(known: _Known, freed_from: date) -> int:
    """Return how many nights of the stay stay sold."""
    return min(max(0, (freed_from - known.check_in).days), len(known.amounts_minor))


def _night_deductions_minor(
    known: _Known, deducted_minor: int, kept_minor: int | None, freed_from: date | None
) -> list[int] | None:
    """Return by how much the amount of each night is more than what counts of it; None: all of it counts.

    The nights that were freed share the fee, if there is one.
    """
    amounts = known.amounts_minor
    amount_minor = sum(amounts)
    deducted_minor = max(0, deducted_minor - known.surplus_minor)
    if freed_from is None:
        return list(shares_minor(min(deducted_minor, amount_minor), amounts)) if deducted_minor else None
    count = _sold_count(known, freed_from)
    left_minor = max(0, min(kept_minor or 0, amount_minor - deducted_minor))
    earned_minor = min(left_minor, sum(amounts[:count]))
    counted = (
        *shares_minor(earned_minor, amounts[:count]),
        *shares_minor(left_minor - earned_minor, amounts[count:]),
    )
    return [amount - counts for amount, counts in zip(amounts, counted, strict=True)]


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
_MONEY: Final = "payment_intent, payments, deductions, night_deductions_minor, kept_minor, freed_from"
_COUNT_STAYS: Final = f"""
with named as (
    select * from unnest(%(confirmed)b::uuid[], %(payments_of_confirmed)b::text[]) as named (booking_id, payment_intent)
), recounted as (
    select booking_id, check_in, check_out, rooms_count, amount_minor,
           night_amounts_minor::bigint[] as night_amounts_minor, payment_intent, payments::jsonb, deductions::jsonb,
           night_deductions_minor::bigint[] as night_deductions_minor, kept_minor, freed_from
    from unnest(%(booking_id)b::uuid[], %(check_in)b::date[], %(check_out)b::date[], %(rooms_count)b::int[],
                %(amount_minor)b::bigint[], %(night_amounts_minor)b::text[], %(payment_intent)b::text[],
                %(payments)b::text[], %(deductions)b::text[], %(night_deductions_minor)b::text[],
                %(kept_minor)b::bigint[], %(freed_from)b::date[])
         as recounted (booking_id, {_FACTS}, {_MONEY})
), known as (
    select id as booking_id, hotel_id, currency, named.payment_intent, booking.legs is not null as is_trip,
           coalesce(first_stay.check_in, booking.check_in) as check_in,
           coalesce(first_stay.check_out, booking.check_out) as check_out,
           coalesce(first_stay.rooms_count, booking.rooms_count) as rooms_count,
           coalesce(first_stay.amount_minor, booking.amount_minor) as amount_minor,
           case when earlier_stays is null then booking.night_amounts_minor
                else nullif(first_stay.night_amounts_minor, '{{}}') end as night_amounts_minor
    from booking join named on named.booking_id = booking.id {FIRST_STAY} where id = any(%(confirmed)b::uuid[])
), added as (
    insert into reported_stay (booking_id, hotel_id, currency, {_FACTS}, {_MONEY})
    select booking_id, hotel_id, currency, {_FACTS}, payment_intent, null, null, null, null, null
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
