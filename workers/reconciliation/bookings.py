"""Reads the bookings that payments may be about, with the rows that payments keeps about them.

Those are rows of `checkout_session`, `refund`, `payment_refund` and `payment_dispute`.
"""

from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from workers.decisions.state import Payment, PaymentState, with_sums


@dataclass(frozen=True, kw_only=True)
class SessionRow:
    """A row of `checkout_session`. `is_due`: payments has yet to work on it."""

    status: str
    session_id: str | None
    url: str | None
    payment_intent: str | None
    is_due: bool


@dataclass(frozen=True, kw_only=True)
class RefundRow:
    """A row of `refund`. `amount_minor` is the sum that the payment's refunds must reach."""

    status: str
    refund_id: str | None
    amount_minor: int
    is_due: bool


@dataclass(frozen=True, kw_only=True)
class ObjectRow:
    """A row of `payment_refund` or of `payment_dispute`."""

    payment_intent: str
    amount_minor: int
    status: str
    by_hand: bool = False


@dataclass(frozen=True, kw_only=True)
class Booking:
    """One booking; `payments` is each payment that arrived, by payment intent, by its events.

    `cancels_if_full`: its hotel cancels a booking whose whole payment was refunded by hand. `policy_minor` is the
    amount that is kept by the policy that ended the booking. `awaits_change`: a dearer change of the stay is not paid.
    `is_leg`: its trip has the payment.
    """

    id: UUID
    room_id: int
    status: str
    terms: str
    amount_minor: int
    currency: str
    attempt: int
    session_id: str | None
    created_at: datetime
    cancels_if_full: bool = True
    policy_minor: int | None = None
    awaits_change: bool = False
    is_leg: bool = False
    payments: Mapping[str, Payment]
    sessions: dict[int, SessionRow] = field(default_factory=dict)
    refunds: dict[str, RefundRow] = field(default_factory=dict)
    refund_rows: dict[str, ObjectRow] = field(default_factory=dict)
    dispute_rows: dict[str, ObjectRow] = field(default_factory=dict)

    @property
    def awaits_payment(self) -> bool:
        """Whether the guest may pay the session of the newest attempt: for the stay, or for a dearer change of it."""
        return self.status == "PAYMENTS_PENDING" or self.awaits_change

    @property
    def is_paid_for(self) -> bool:
        """Whether a payment pays the booking, or should."""
        sold = self.status in {"CONFIRMED", "CHECKED_IN", "CHECKED_OUT"} and self.policy_minor is None
        return sold and self.terms == "prepaid" and not self.is_leg

    def due_of(self, payment: Payment) -> int:
        """Return the part of a payment that Stripe must have in the end.

        Of a payment that pays the booking, or of which the policy keeps all that is left: all that was neither refunded
        nor lost in a dispute, and that is not due because the stay became cheaper. Of any other: the rest of a refund
        that an operator closed, and what the policy keeps.
        """
        left = payment.left_minor
        if payment.state is PaymentState.KEPT:
            kept = left - payment.due_minor
            return kept if self.is_paid_for else min(kept, (self.policy_minor or 0) + payment.closed_minor)
        return min(left - payment.due_minor, payment.closed_minor + payment.policy_minor)


_COMPARED_IDS: Final = """
select b.id from booking b
where (%(named)s::uuid is null or b.id = %(named)s) and (%(since)s::timestamptz is null or b.created_at >= %(since)s)
  and (%(named)s::uuid is not null or b.payment_attempt > 0 or b.status = 'CONFIRMED')
order by b.created_at, b.id
"""
_BOOKINGS: Final = """
select b.id, b.room_id, b.status, b.terms, b.amount_minor, b.currency, b.payment_attempt as attempt, b.session_id,
       b.created_at, b.payments, (b.policy->>'kept_minor')::int8 as policy_minor,
       b.pending_change is not null and b.pending_change -> 'is_open' is null as awaits_change,
       b.trip_id is not null as is_leg,
       coalesce(h.on_full_refund, 'cancel') = 'cancel' as cancels_if_full
from booking b left join hotel h on h.id = b.hotel_id
where b.id = any(%(ids)s)
"""
_OF_THESE: Final = "where r.booking_id = any(%(ids)s)"
_SESSIONS: Final = """
select r.booking_id, r.attempt, r.status, r.session_id, r.url, r.payment_intent, r.next_attempt_at is not null as is_due
from checkout_session r
"""
_REFUNDS: Final = """
select r.booking_id, r.payment_intent, r.status, r.refund_id, r.amount_minor, r.next_attempt_at is not null as is_due
from refund r
"""
_REFUND_OBJECTS: Final = """
select r.booking_id, r.refund_id as id, r.payment_intent, r.amount_minor, r.status, r.by_hand
from payment_refund r
"""
_DISPUTE_OBJECTS: Final = """
select r.booking_id, r.dispute_id as id, r.payment_intent, r.amount_minor, r.status
from payment_dispute r
"""
_CLOSED_WITHOUT_BOOKING: Final = """
select r.payment_intent from refund r
where r.booking_id = any(%(ids)s) and r.status = 'closed'
  and not exists (select from booking b where b.id = r.booking_id)
"""
_ONE_MOMENT: Final = "set transaction isolation level repeatable read read only"
_NAMED_IN_ROWS: Final = """
select session_id as id from checkout_session where booking_id = any(%(ids)s)
union all select payment_intent from checkout_session where booking_id = any(%(ids)s)
union all select session_id from booking where id = any(%(ids)s)
union all select payment_intent from refund where booking_id = any(%(ids)s)
union all
select unnest(array[paid ->> 'payment_intent', paid ->> 'session_id'])
from booking cross join lateral jsonb_array_elements(payments) as paid where id = any(%(ids)s)
"""


async def ranges(
    connection: AsyncConnection, size: int, *, since: datetime | None = None, named: UUID | None = None
) -> AsyncGenerator[Mapping[UUID, Booking]]:
    """Yield the bookings that payments may be about, at most so many at a time, by `created_at`.

    Those are the ones made since a time; or the named one. All are of one moment, since one transaction reads them.
    """
    async with connection.transaction():
        await connection.execute(_ONE_MOMENT)
        async with connection.cursor("compared_ids") as cursor:
            await cursor.execute(_COMPARED_IDS, {"since": since, "named": named})
            while found := await cursor.fetchmany(size):
                yield await _read(connection, [id for (id,) in found])


async def read(connection: AsyncConnection, ids: Sequence[UUID]) -> Mapping[UUID, Booking]:
    """Return the bookings with these ids, all of one moment."""
    async with connection.transaction():
        await connection.execute(_ONE_MOMENT)
        return await _read(connection, ids)


async def _read(connection: AsyncConnection, ids: Sequence[UUID]) -> Mapping[UUID, Booking]:
    parameters = {"ids": ids}
    rows: dict[UUID, _Rows] = defaultdict(_Rows)
    async with connection.cursor(row_factory=dict_row) as cursor:
        for row in await (await cursor.execute(_SESSIONS + _OF_THESE, parameters)).fetchall():
            booking_id, attempt = row.pop("booking_id"), row.pop("attempt")
            rows[booking_id].sessions[attempt] = SessionRow(**row)
        for row in await (await cursor.execute(_REFUNDS + _OF_THESE, parameters)).fetchall():
            booking_id, payment = row.pop("booking_id"), row.pop("payment_intent")
            rows[booking_id].refunds[payment] = RefundRow(**row)
        for row in await (await cursor.execute(_REFUND_OBJECTS + _OF_THESE, parameters)).fetchall():
            booking_id, id = row.pop("booking_id"), row.pop("id")
            rows[booking_id].refund_rows[id] = ObjectRow(**row)
        for row in await (await cursor.execute(_DISPUTE_OBJECTS + _OF_THESE, parameters)).fetchall():
            booking_id, id = row.pop("booking_id"), row.pop("id")
            rows[booking_id].dispute_rows[id] = ObjectRow(**row)
        found = await (await cursor.execute(_BOOKINGS, parameters)).fetchall()
    made = {row["id"]: _booking(row, rows.get(row["id"]) or _Rows()) for row in found}
    return {id: made[id] for id in ids if id in made}


async def closed_without_booking(connection: AsyncConnection, ids: Sequence[UUID]) -> frozenset[str]:
    """Return the payments of which an operator closed the refund, of those of these ids that the ledger has not."""
    found = await connection.execute(_CLOSED_WITHOUT_BOOKING, {"ids": ids})
    return frozenset(payment for (payment,) in await found.fetchall())


async def named_in_rows(connection: AsyncConnection, ids: Sequence[UUID]) -> frozenset[str]:
    """Return the ids of Stripe's sessions and payments that rows of these bookings name."""
    found = await connection.execute(_NAMED_IN_ROWS, {"ids": list(ids)})
    return frozenset(id for (id,) in await found.fetchall() if id)


@dataclass
class _Rows:
    sessions: dict[int, SessionRow] = field(default_factory=dict)
    refunds: dict[str, RefundRow] = field(default_factory=dict)
    refund_rows: dict[str, ObjectRow] = field(default_factory=dict)
    dispute_rows: dict[str, ObjectRow] = field(default_factory=dict)


def _booking(row: dict[str, Any], rows: _Rows) -> Booking:
    payments = msgspec.convert(row.pop("payments") or (), tuple[Payment, ...])
    return Booking(
        **row,
        payments={payment.payment_intent: with_sums(payment) for payment in payments},
        sessions=rows.sessions,
        refunds=rows.refunds,
        refund_rows=rows.refund_rows,
        dispute_rows=rows.dispute_rows,
    )
