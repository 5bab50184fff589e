"""Pending calls to Stripe (`checkout_session` and `refund`), and the refunds and disputes that Stripe reports.

The payments workers write them, and operators' tools by `storage.payment_rows`.

A row holds one call with its parameters. `next_attempt_at` is the time from which the call is due, NULL when none is.
A worker that claims a row moves that time ahead (its lease), so that no transaction is open while Stripe is called, and
clears it when the call and its commands are done. The lease of a worker that dies in between runs out. Every later
write names the lease, or moves a state towards its end only: of two workers that claim one row after each other, none
undoes a write of the other.

A row of `refund` has a target: the sum that all refunds of the payment must reach. The refunds themselves, ours and
those made by hand, are rows of `payment_refund`; disputes, open and ended, are rows of `payment_dispute`. The amount
that is due is the ledger's: the target follows it, up and down.

This module never commits: the consumer writes in its fenced transaction, the caller on connections in autocommit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import TupleRow, args_row, class_row
from psycopg.types.json import Jsonb

from topics.messages.sale import Sale

TO_OPEN: Final = ("creating",)
TO_CLOSE: Final = ("closing", "complete")
"""Statuses of sessions whose next step is a call to Stripe: a session is opened, or it is closed or read."""
ANSWERED: Final = ("open", "failed", "expired")
"""Statuses of sessions whose answer is recorded: a due row has no call left, only its commands."""
OPENING: Final = (*TO_OPEN, "open", "failed")
ENDING: Final = (*TO_CLOSE, "expired")
LEASE_SECONDS: Final = 30.0
"""A worker keeps a claimed row at most so long: longer than its work, so that it gives the row up before another
claims it."""
FAILING_FROM: Final = 5
"""So many refusals and failed refunds in a row make a refund one that an operator should look at."""
REOPENED_AFTER: Final = timedelta(days=1)
"""The time in which an operator can close the refunds that 0.1.0 gave up, before payments makes them."""
UNATTRIBUTED_FOR: Final = timedelta(days=7)
"""The time for which an object is kept whose payment is not known: Stripe repeats a webhook for three days."""
MAX_UNATTRIBUTED: Final = 10_000
LOOKED_AT_AFTER: Final = timedelta(hours=12)
"""A refund that pends is looked at again after this time: the webhook about its end may be lost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionToOpen:
    """A Checkout Session that must be opened, with the exact parameters of the call."""

    booking_id: UUID
    attempt: int
    room_id: int
    params: dict[str, Any]
    idempotency_key: str
    expires_at: datetime
    causation: str
    correlation: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionsToClose:
    """Sessions of a booking that must not be paid any more: those below `before_attempt` (None: all of them)."""

    booking_id: UUID
    before_attempt: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RefundToMake:
    """A payment of which money must go back, with the parameters of the first call.

    `amount_minor` (minor units) is the target: the sum that all refunds of the payment must reach.
    """

    payment_intent: str
    booking_id: UUID
    room_id: int
    params: dict[str, Any]
    idempotency_key: str
    amount_minor: int
    currency: str
    reason: str
    causation: str
    correlation: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RefundToSettle:
    """The payment of a refund whose due amount changed in the ledger without a new request."""

    payment_intent: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PaymentOfSession:
    """The payment that was made through a session of a booking."""

    booking_id: UUID
    session_id: str
    payment_intent: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionEnded:
    """A session that Stripe reports as over, because it was completed or because it expired."""

    booking_id: UUID
    attempt: int
    session_id: str
    status: Literal["complete", "expired"]
    payment_intent: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RefundReported:
    """The state of a refund at Stripe; `by_hand`: a person made it. `amount_minor` in minor units."""

    refund_id: str
    payment_intent: str
    booking_id: UUID
    amount_minor: int
    currency: str
    status: Literal["pending", "succeeded", "failed"]
    by_hand: bool = False
    failure: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DisputeReported:
    """The state of a dispute at Stripe; `amount_minor` in minor units, `reason` in Stripe's word."""

    dispute_id: str
    payment_intent: str
    booking_id: UUID
    amount_minor: int
    currency: str
    status: Literal["open", "won", "lost"]
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UnattributedObject:
    """A refund by hand or a dispute whose payment is not known yet, with the fields that payments reads."""

    object_id: str
    state: str
    kind: Literal["refund", "dispute"]
    payment_intent: str
    fields: dict[str, Any]


class BookingOfPayment(NamedTuple):
    """The booking of a session or a payment of ours, its room, and the payment attempt (0: not known)."""

    booking_id: UUID
    room_id: int
    attempt: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StayChange:
    """The stay that a change makes of another one, once it is paid in payment attempt `attempt`.

    `room_type` is that of the other room, if the change is to one.
    """

    attempt: int
    room_type: str | None = None
    check_in: date
    check_out: date
    rooms_count: int
    sale: Sale | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Stay:
    """The words about a booking for the payment page; `check_out` is not a night.

    `time_zone` (IANA) is that of the hotel when the stay was booked. `sale` is None for a booking without sale terms.
    `amount_minor` is the price of the stay. `change` is a dearer change of the stay that waits for its payment.
    `legs` are those of a trip, each with the words of its own room; its rooms are those of all of them.
    """

    hotel: str
    room_type: str
    check_in: date
    check_out: date
    rooms_count: int
    time_zone: str = "UTC"
    sale: Sale | None = None
    amount_minor: int = 0
    change: StayChange | None = None
    legs: tuple["Stay", ...] = ()


class RefundSeen(NamedTuple):
    """A refund that Stripe reported, with its present status; `amount_minor` in minor units."""

    refund_id: str
    amount_minor: int
    status: str
    by_hand: bool


class LostDispute(NamedTuple):
    """A dispute that Stripe reported as lost; `amount_minor` in minor units."""

    dispute_id: str
    amount_minor: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RefundRow:
    """A row of `refund`, what Stripe reported of its payment, and the payment by the ledger.

    `target_minor` is the row's, in minor units. `ledger` is the payment as the booking's row has it; None: the ledger
    does not know it. `refusals` counts our refunds that failed and the calls that Stripe refused.
    """

    status: str
    idempotency_key: str
    refusals: int
    target_minor: int
    seen: tuple[RefundSeen, ...] = ()
    lost: tuple[LostDispute, ...] = ()
    ledger: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RefundFigures:
    """The figures of all refunds and disputes: `due`, `pending` and `failing` rows.

    `oldest_pending_seconds` is of the refund that has been on its way at Stripe for the longest time, ours or by hand.
    """

    due: int
    pending: int
    failing: int
    oldest_due_seconds: float
    oldest_pending_seconds: float
    disputes_open: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DueSession:
    """A claimed row of `checkout_session`; `lease` is the time until which it is the claimant's.

    `actor` is the operator who made the row due; None: no person did.
    """

    booking_id: UUID
    attempt: int
    room_id: int
    status: str
    params: dict[str, Any]
    idempotency_key: str
    session_id: str | None
    causation: str
    correlation: str
    failures: int
    created_at: datetime
    lease: datetime
    last_error: str | None = None
    actor: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DueRefund:
    """A claimed row of `refund`; `lease` and `actor` are as in `DueSession`, `amount_minor` is the target.

    `failures` counts calls without success since the last success; calls that got no answer are among them.
    """

    payment_intent: str
    booking_id: UUID
    room_id: int
    status: str
    params: dict[str, Any]
    idempotency_key: str
    amount_minor: int
    currency: str
    refund_id: str | None
    causation: str
    correlation: str
    failures: int
    lease: datetime
    actor: str | None = None


#: How many of our refunds of a payment failed; in a statement that updates its row of `refund`.
_FAILED_COUNT: Final = (
    "(select count(*) from payment_refund p where p.payment_intent = refund.payment_intent and p.status = 'failed'"
    " and not p.by_hand)"
)

# Calls that events lead to.


async def add_session(connection: psycopg.AsyncConnection, call: SessionToOpen) -> None:
    """Add a session that must be opened, due at once; a row that exists already stays as it is."""
    await connection.execute(
        "insert into checkout_session (booking_id, attempt, room_id, status, params, idempotency_key, expires_at,"
        " causation, correlation, next_attempt_at) values (%s, %s, %s, 'creating', %s, %s, %s, %s, %s, now())"
        " on conflict (booking_id, attempt) do nothing",
        (
            call.booking_id,
            call.attempt,
            call.room_id,
            Jsonb(call.params),
            call.idempotency_key,
            call.expires_at,
            call.causation,
            call.correlation,
        ),
    )


async def close_sessions(connection: psycopg.AsyncConnection, ending: SessionsToClose) -> None:
    """Mark a booking's sessions, open or still to be opened, as to be expired, due at once.

    The session by which the guest can pay a change of the stay stays open: the event that ended the earlier ones may be
    read again after the change was asked for.
    """
    await connection.execute(
        "update checkout_session set status = 'closing', next_attempt_at = now(), failures = 0, actor = null,"
        " updated_at = now()"
        " where booking_id = %s and status in ('creating', 'open') and (%s::integer is null or attempt < %s)"
        " and not exists (select from booking b where b.id = checkout_session.booking_id"
        " and (b.pending_change ->> 'attempt')::integer = checkout_session.attempt)",
        (ending.booking_id, ending.before_attempt, ending.before_attempt),
    )


async def add_refund(connection: psycopg.AsyncConnection, call: RefundToMake) -> None:
    """Add a payment of which money must go back, due at once; a row that exists changes only if its target grows.

    A row that 0.1.0 gave up stays so until `reopen_failed_refunds`, also if its target grows.
    """
    await connection.execute(
        "insert into refund (payment_intent, booking_id, room_id, status, params, idempotency_key, amount_minor,"  # noqa: S608 - a constant
        " currency, reason, causation, correlation, next_attempt_at)"
        " values (%s, %s, %s, 'creating', %s, %s, %s, %s, %s, %s, %s, now())"
        " on conflict (payment_intent) do update set amount_minor = excluded.amount_minor, reason = excluded.reason,"
        " causation = excluded.causation, correlation = excluded.correlation, failures = 0, actor = null,"
        f" refusals = {_FAILED_COUNT}, updated_at = now(),"
        " status = case refund.status when 'failed' then 'failed' else 'creating' end,"
        " next_attempt_at = case refund.status when 'failed' then null::timestamptz else now() end"
        " where refund.amount_minor < excluded.amount_minor",
        (
            call.payment_intent,
            call.booking_id,
            call.room_id,
            Jsonb(call.params),
            call.idempotency_key,
            call.amount_minor,
            call.currency,
            call.reason,
            call.causation,
            call.correlation,
        ),
    )


async def note_payment(connection: psycopg.AsyncConnection, paid: PaymentOfSession) -> None:
    """Note the payment of a session, by which refunds made by hand and disputes find their booking.

    A guest can pay a session whose row has another one by now: the call got another key. The newest row of the booking
    that has no payment then gets it.
    """
    await connection.execute(
        "update checkout_session set payment_intent = %(payment)s"
        " where (booking_id, attempt) = (select booking_id, attempt from checkout_session"
        " where booking_id = %(booking_id)s and payment_intent is null"
        " order by coalesce(session_id = %(session_id)s, false) desc, attempt desc limit 1)"
        " and not exists (select from checkout_session"
        " where booking_id = %(booking_id)s and payment_intent = %(payment)s)",
        {"payment": paid.payment_intent, "booking_id": paid.booking_id, "session_id": paid.session_id},
    )


# Bookings of Stripe's objects.


async def booking_of_session(connection: psycopg.AsyncConnection, session_id: str) -> BookingOfPayment | None:
    """Return the booking that has this session."""
    cursor = connection.cursor(row_factory=args_row(BookingOfPayment))
    await cursor.execute(
        "select booking_id, room_id, attempt from checkout_session where session_id = %s", (session_id,)
    )
    return await cursor.fetchone()


async def booking_of_attempt(
    connection: psycopg.AsyncConnection, booking_id: UUID, attempt: int, mark: str | None
) -> BookingOfPayment | None:
    """Return the booking of an attempt that has not ended, if its call has this mark (None: 0.1.0 made the call)."""
    cursor = connection.cursor(row_factory=args_row(BookingOfPayment))
    await cursor.execute(
        "select booking_id, room_id, attempt from checkout_session where booking_id = %s and attempt = %s"
        " and status in ('creating', 'open', 'closing') and params #>> '{metadata,mark}' is not distinct from %s",
        (booking_id, attempt, mark),
    )
    return await cursor.fetchone()


async def booking_of_payment(
    connection: psycopg.AsyncConnection, payment_intent: str | None
) -> BookingOfPayment | None:
    """Return the booking that was paid, or is refunded, by this payment."""
    if payment_intent is None:
        return None
    cursor = connection.cursor(row_factory=args_row(BookingOfPayment))
    await cursor.execute(
        "select booking_id, room_id, attempt from checkout_session where payment_intent = %(id)s"
        " union all select booking_id, room_id, 0 from refund where payment_intent = %(id)s limit 1",
        {"id": payment_intent},
    )
    return await cursor.fetchone()


async def is_by_hand(connection: psycopg.AsyncConnection, refund_id: str) -> bool | None:
    """Return whether a known refund was made by hand; None for one that is not known."""
    cursor = await connection.execute("select by_hand from payment_refund where refund_id = %s", (refund_id,))
    row = await cursor.fetchone()
    return None if row is None else bool(row[0])


async def cancels_if_full(connection: psycopg.AsyncConnection, room_id: int) -> bool:
    """Return whether the room's hotel wants a booking cancelled once all of its payment went back by hand."""
    cursor = await connection.execute(
        "select h.on_full_refund = 'cancel' from room r join hotel h on h.id = r.hotel_id where r.id = %s", (room_id,)
    )
    row = await cursor.fetchone()
    return row is None or bool(row[0])


#: The legs of a trip are bookings of their own; its row has the place of each.
_STAYS: Final = """
select h.name as hotel, r.type as room_type, b.check_in, b.check_out, b.rooms_count, b.sale, b.id,
       coalesce(b.stay_times->>'time_zone', h.time_zone), b.amount_minor,
       b.pending_change || jsonb_build_object('room_type', other.type, 'moved_sale', moved.sale),
       array(select (leg.value ->> 'booking_id')::uuid
             from jsonb_array_elements(b.legs) with ordinality as leg (value, place) order by place)
from booking b join room r on r.id = b.room_id join hotel h on h.id = r.hotel_id
left join room other on other.id = (b.pending_change ->> 'to_room_id')::bigint
left join booking moved on moved.id = (b.pending_change ->> 'id')::uuid
where b.id = any(%(ids)s)
or b.id in (select (leg.value ->> 'booking_id')::uuid
            from booking trip cross join lateral jsonb_array_elements(trip.legs) as leg where trip.id = any(%(ids)s))
"""


async def stays(connection: psycopg.AsyncConnection, booking_ids: Sequence[UUID]) -> dict[UUID, Stay]:
    """Return the words about bookings for their payment pages, as far as the bookings and their hotels are there."""
    rows = await (await connection.execute(_STAYS, {"ids": list(booking_ids)})).fetchall()
    found, legs_of = {}, {}
    for hotel, room_type, check_in, check_out, rooms_count, sale, id, time_zone, amount_minor, change, legs in rows:
        found[id] = Stay(
            hotel=hotel,
            room_type=room_type,
            check_in=check_in,
            check_out=check_out,
            rooms_count=rooms_count,
            time_zone=time_zone,
            sale=None if sale is None else msgspec.convert(sale, Sale),
            amount_minor=amount_minor,
            change=None if change is None else _stay_change(change),
        )
        legs_of[id] = legs
    return {id: _with_legs(found[id], [found.get(leg) for leg in legs_of[id]]) for id in booking_ids if id in found}


def _with_legs(stay: Stay, legs: Sequence[Stay | None]) -> Stay:
    """Return a trip with its legs, if all of them are there; any other stay has none."""
    known = tuple(leg for leg in legs if leg is not None)
    if not known or len(known) < len(legs):
        return stay
    return replace(stay, legs=known, rooms_count=sum(leg.rooms_count for leg in known))


def _stay_change(change: dict[str, Any]) -> StayChange:
    """Return a pending change of the ledger; one whose payment was not requested yet has attempt 0.

    The leg in another room has the conditions of a change to it (`moved_sale`).
    """
    stay, attempt = change["stay"], change.get("attempt", 0)
    sale = change["moved_sale"] or stay.get("sale")
    return msgspec.convert({**stay, "attempt": attempt, "room_type": change["room_type"], "sale": sale}, StayChange)


# Changes that Stripe reports.


async def record_session(connection: psycopg.AsyncConnection, update: SessionEnded, *, is_done: bool) -> None:
    """Record the end of a session, if it moves the row towards its end. `is_done`: no call is due after it.

    Complete wins: a session that was paid never counts as expired.
    """
    await connection.execute(
        "update checkout_session set status = %(status)s, session_id = %(session_id)s, updated_at = now(),"
        " payment_intent = coalesce(%(payment_intent)s, payment_intent),"
        " next_attempt_at = case when %(is_done)s then null else next_attempt_at end"
        " where booking_id = %(booking_id)s and attempt = %(attempt)s"
        " and coalesce(session_id, %(session_id)s) = %(session_id)s"
        " and (status in ('creating', 'open', 'closing') or %(status)s = 'complete')",
        {
            "booking_id": update.booking_id,
            "attempt": update.attempt,
            "session_id": update.session_id,
            "status": update.status,
            "payment_intent": update.payment_intent,
            "is_done": is_done,
        },
    )
    if update.payment_intent is not None:
        paid = PaymentOfSession(
            booking_id=update.booking_id, session_id=update.session_id, payment_intent=update.payment_intent
        )
        await note_payment(connection, paid)


async def record_refund(connection: psycopg.AsyncConnection, update: RefundReported) -> bool:
    """Record the state of a refund. One that succeeded can still fail; one that failed stays failed.

    Returns:
        Whether the refund failed, and was not known to have failed before.
    """
    recorded = await connection.execute(
        "insert into payment_refund as known (refund_id, payment_intent, booking_id, amount_minor, currency, status,"
        " by_hand, failure) values (%s, %s, %s, %s, %s, %s, %s, %s)"
        " on conflict (refund_id) do update set status = excluded.status, failure = excluded.failure,"
        " updated_at = now() where known.status = 'pending' and excluded.status <> 'pending'"
        " or known.status = 'succeeded' and excluded.status = 'failed' returning 1",
        (
            update.refund_id,
            update.payment_intent,
            update.booking_id,
            update.amount_minor,
            update.currency,
            update.status,
            update.by_hand,
            update.failure,
        ),
    )
    if update.status != "failed" or await recorded.fetchone() is None:
        return False
    if not update.by_hand:
        await connection.execute(
            "update refund set refusals = refusals + 1 where payment_intent = %s", (update.payment_intent,)
        )
    return True


async def record_dispute(connection: psycopg.AsyncConnection, update: DisputeReported) -> None:
    """Record the state of a dispute; one that has ended stays as it is."""
    await connection.execute(
        "insert into payment_dispute as known (dispute_id, payment_intent, booking_id, amount_minor, currency, status,"
        " reason) values (%s, %s, %s, %s, %s, %s, %s)"
        " on conflict (dispute_id) do update set status = excluded.status, amount_minor = excluded.amount_minor,"
        " updated_at = now() where known.status = 'open'",
        (
            update.dispute_id,
            update.payment_intent,
            update.booking_id,
            update.amount_minor,
            update.currency,
            update.status,
            update.reason,
        ),
    )


_REFUND_ROW: Final = """
select r.status, r.idempotency_key, r.refusals::integer, r.amount_minor,
    (select coalesce(jsonb_agg(jsonb_build_array(p.refund_id, p.amount_minor, p.status, p.by_hand)), '[]')
     from payment_refund p where p.payment_intent = r.payment_intent),
    (select coalesce(jsonb_agg(jsonb_build_array(d.dispute_id, d.amount_minor)), '[]')
     from payment_dispute d where d.payment_intent = r.payment_intent and d.status = 'lost'),
    (select paid.value from booking b cross join lateral jsonb_array_elements(b.payments) as paid
     where b.id = r.booking_id and paid.value ->> 'payment_intent' = r.payment_intent)
from refund r where r.payment_intent = %s
"""


async def lock_refund(connection: psycopg.AsyncConnection, payment_intent: str) -> RefundRow | None:
    """Lock a row of `refund` and return it with its payment; None if nothing of the payment must go back."""
    # A statement that waited for the lock would still read the other tables as they were when it began.
    await connection.execute("select from refund where payment_intent = %s for update", (payment_intent,))
    row = await (await connection.execute(_REFUND_ROW, (payment_intent,))).fetchone()
    if row is None:
        return None
    status, idempotency_key, refusals, target_minor, seen, lost, ledger = row
    return RefundRow(
        status=status,
        idempotency_key=idempotency_key,
        refusals=refusals,
        target_minor=target_minor,
        seen=tuple(RefundSeen(*each) for each in seen),
        lost=tuple(LostDispute(*each) for each in lost),
        ledger=ledger,
    )


async def settle_refund(
    connection: psycopg.AsyncConnection,
    payment_intent: str,
    status: str,
    *,
    target_minor: int,
    due_in_seconds: float | None,
    keeps_due_time: bool,
    idempotency_key: str | None = None,
) -> None:
    """Write a refund's status and target (minor units) after its payment's sums changed.

    `due_in_seconds` is the time until the next call, None: no call is due. With `keeps_due_time` that time stays as it
    is, but a refund that is due never stays without one. `idempotency_key` replaces the row's key.
    """
    await connection.execute(
        "update refund set status = %(status)s, amount_minor = %(target_minor)s, updated_at = now(),"
        " idempotency_key = coalesce(%(key)s, idempotency_key),"
        " refund_id = coalesce((select refund_id from payment_refund p where p.payment_intent = %(id)s"
        " and not p.by_hand order by created_at desc, (status = 'failed') limit 1), refund_id),"
        " last_error = coalesce((select failure from payment_refund p where p.payment_intent = %(id)s"
        " and not p.by_hand and p.status = 'failed' order by updated_at desc limit 1), last_error),"
        " next_attempt_at ="
        " case when %(keep)s and (next_attempt_at is not null or %(status)s <> 'creating') then next_attempt_at"
        " else now() + make_interval(secs => %(seconds)s) end"
        " where payment_intent = %(id)s",
        {
            "id": payment_intent,
            "status": status,
            "target_minor": target_minor,
            "key": idempotency_key,
            "keep": keeps_due_time,
            "seconds": due_in_seconds,
        },
    )


async def ledger_payment(
    connection: psycopg.AsyncConnection, booking_id: UUID, payment_intent: str
) -> dict[str, Any] | None:
    """Return a payment as the booking's row has it; None if the ledger does not know it."""
    cursor = await connection.execute(
        "select paid.value from booking b cross join lateral jsonb_array_elements(b.payments) as paid"
        " where b.id = %s and paid.value ->> 'payment_intent' = %s",
        (booking_id, payment_intent),
    )
    row = await cursor.fetchone()
    return None if row is None else row[0]


# Objects that are reported before their payment is known.


async def keep_unattributed(connection: psycopg.AsyncConnection, kept: UnattributedObject) -> None:
    """Keep an object for a week, unless `MAX_UNATTRIBUTED` are kept already: the account may be shared."""
    await connection.execute(
        "insert into unattributed_object (object_id, state, kind, payment_intent, fields) select %s, %s, %s, %s, %s"
        " where (select count(*) from unattributed_object) < %s on conflict do nothing",
        (kept.object_id, kept.state, kept.kind, kept.payment_intent, Jsonb(kept.fields), MAX_UNATTRIBUTED),
    )


async def attributable(connection: psycopg.AsyncConnection) -> list[UnattributedObject]:
    """Return the kept objects whose payment is known by now, in the order in which they came; forget old ones."""
    await connection.execute("delete from unattributed_object where created_at < now() - %s", (UNATTRIBUTED_FOR,))
    cursor = connection.cursor(row_factory=class_row(UnattributedObject))
    await cursor.execute(
        "select object_id, state, kind, payment_intent, fields from unattributed_object u"
        " where exists (select from checkout_session s where s.payment_intent = u.payment_intent)"
        " or exists (select from refund r where r.payment_intent = u.payment_intent) order by created_at"
    )
    return await cursor.fetchall()


async def forget_unattributed(connection: psycopg.AsyncConnection, kept: UnattributedObject) -> None:
    """Forget an object whose effect is recorded and sent."""
    await connection.execute(
        "delete from unattributed_object where object_id = %s and state = %s", (kept.object_id, kept.state)
    )


# Claims and results of the caller.


async def claim_sessions(
    connection: psycopg.AsyncConnection, statuses: Sequence[str], *, limit: int, lease_seconds: float
) -> list[DueSession]:
    """Claim at most `limit` due rows in one of `statuses` that nobody else has claimed, the longest due first."""
    cursor = connection.cursor(row_factory=class_row(DueSession))
    await cursor.execute(
        "with due as (select booking_id, attempt from checkout_session"
        " where next_attempt_at <= now() and status = any(%s)"
        " order by next_attempt_at limit %s for update skip locked)"
        " update checkout_session s set next_attempt_at = now() + make_interval(secs => %s) from due"
        " where s.booking_id = due.booking_id and s.attempt = due.attempt"
        " returning s.booking_id, s.attempt, s.room_id, s.status, s.params, s.idempotency_key, s.session_id,"
        " s.causation, s.correlation, s.failures::integer, s.created_at, s.next_attempt_at as lease,"
        " s.last_error, s.actor",
        (list(statuses), limit, lease_seconds),
    )
    return await cursor.fetchall()


async def claim_refunds(connection: psycopg.AsyncConnection, *, limit: int, lease_seconds: float) -> list[DueRefund]:
    """Claim at most `limit` due refunds that nobody else has claimed, the longest due first.

    A row that 0.1.0 gave up is never due, also if that worker died before it cleared the row's time.
    """
    cursor = connection.cursor(row_factory=class_row(DueRefund))
    await cursor.execute(
        "with due as (select payment_intent from refund where next_attempt_at <= now() and status <> 'failed'"
        " order by next_attempt_at limit %s for update skip locked)"
        " update refund r set next_attempt_at = now() + make_interval(secs => %s) from due"
        " where r.payment_intent = due.payment_intent"
        " returning r.payment_intent, r.booking_id, r.room_id, r.status, r.params, r.idempotency_key, r.amount_minor,"
        " r.currency, r.refund_id, r.causation, r.correlation, r.failures::integer, r.next_attempt_at as lease,"
        " r.actor",
        (limit, lease_seconds),
    )
    return await cursor.fetchall()


async def record_opened(
    connection: psycopg.AsyncConnection, due: DueSession, *, session_id: str, url: str | None
) -> str | None:
    """Record the session that Stripe opened under the row's key; one that has ended meanwhile stays ended.

    Returns:
        The row's status now; None when the row has another session or key, and no row has this session.
    """
    cursor = await connection.execute(
        "update checkout_session set session_id = %s, url = %s, updated_at = now(),"
        " status = case status when 'creating' then 'open' else status end"
        " where booking_id = %s and attempt = %s and idempotency_key = %s and coalesce(session_id, %s) = %s"
        " returning status",
        (session_id, url, due.booking_id, due.attempt, due.idempotency_key, session_id, session_id),
    )
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


async def record_refused_session(connection: psycopg.AsyncConnection, due: DueSession, reason: str) -> str | None:
    """Record that Stripe will never open this session, or knows of none to close.

    Returns:
        `failed` if the room must get a command about it, `expired` if the session was to be closed anyway; None when
        another worker has claimed the row meanwhile.
    """
    cursor = await connection.execute(
        "update checkout_session set status = case status when 'creating' then 'failed' else 'expired' end,"
        " last_error = %s, updated_at = now()"
        " where booking_id = %s and attempt = %s and status = %s and status in ('creating', 'closing')"
        " and next_attempt_at = %s returning status",
        (reason, due.booking_id, due.attempt, due.status, due.lease),
    )
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


async def renew_session(connection: psycopg.AsyncConnection, due: DueSession, call: SessionToOpen) -> None:
    """Replace the call by one under another key, once it is certain that the old one opened nothing."""
    await connection.execute(
        "update checkout_session set params = %s, idempotency_key = %s, expires_at = %s, updated_at = now()"
        " where booking_id = %s and attempt = %s and status = 'creating' and idempotency_key = %s"
        " and next_attempt_at = %s",
        (
            Jsonb(call.params),
            call.idempotency_key,
            call.expires_at,
            due.booking_id,
            due.attempt,
            due.idempotency_key,
            due.lease,
        ),
    )


async def fix_refund_call(
    connection: psycopg.AsyncConnection, due: DueRefund, *, params: dict[str, Any], idempotency_key: str
) -> bool:
    """Fix the exact call before it is made, so that a repeated call is the same call.

    Returns:
        Whether the row is still the claimant's: only then may the call be made.
    """
    fixed = await connection.execute(
        "update refund set params = %s, idempotency_key = %s, updated_at = now()"
        " where payment_intent = %s and status not in ('succeeded', 'closed') and next_attempt_at = %s",
        (Jsonb(params), idempotency_key, due.payment_intent, due.lease),
    )
    return fixed.rowcount == 1


async def try_again(
    connection: psycopg.AsyncConnection,
    due: DueSession | DueRefund,
    *,
    error: str,
    delay_seconds: float,
    is_refused: bool = False,
) -> None:
    """Record a failure and the time at which the row is due again, unless another worker has claimed it meanwhile.

    `is_refused`: Stripe refused the call of a refund. A call that got no answer is no refusal.
    """
    refused = " refusals = refusals + 1," if is_refused else ""
    await connection.execute(
        f"update {_table(due)} set failures = failures + 1,{refused} last_error = %s, updated_at = now(),"  # noqa: S608 - names of ours
        f" next_attempt_at = now() + make_interval(secs => %s) where {_key(due)} and next_attempt_at = %s",
        (error, delay_seconds, *_identity(due), due.lease),
    )


async def give_back(connection: psycopg.AsyncConnection, due: DueSession | DueRefund) -> None:
    """Make a claimed row due now, as if it had not been claimed: its call was not made."""
    await connection.execute(
        f"update {_table(due)} set next_attempt_at = now() where {_key(due)} and next_attempt_at = %s",  # noqa: S608 - names of ours
        (*_identity(due), due.lease),
    )


async def mark_done(connection: psycopg.AsyncConnection, due: DueSession | DueRefund) -> None:
    """Mark the row's call as done; a row that got another call meanwhile stays due."""
    refusals = f" refusals = {_FAILED_COUNT}," if isinstance(due, DueRefund) else ""
    await connection.execute(
        f"update {_table(due)} set next_attempt_at = null, failures = 0,{refusals} actor = null, updated_at = now()"  # noqa: S608 - names of ours
        f" where {_key(due)} and next_attempt_at = %s",
        (*_identity(due), due.lease),
    )


# Care for all rows.

NOTED_AT_ONCE: Final = 5_000
"""Sessions of one batch of `note_payments_of_sessions`."""

#: Notes the payments of the next batch of sessions behind a key, and returns the batch's last key; no row at the end.
_NOTE_PAYMENTS: Final = """
with batch as materialized (
    select booking_id, attempt, session_id from checkout_session
    where payment_intent is null and status = 'complete' and (booking_id, attempt) > (%s, %s)
    order by booking_id, attempt limit %s
), noted as (
    update checkout_session s set payment_intent = paid.value ->> 'payment_intent'
    from batch, booking b cross join lateral jsonb_array_elements(b.payments) as paid
    where b.id = batch.booking_id and paid.value ->> 'session_id' = batch.session_id
    and s.booking_id = batch.booking_id and s.attempt = batch.attempt
    and s.payment_intent is null and s.status = 'complete'
)
select booking_id, attempt from batch order by booking_id desc, attempt desc limit 1
"""


async def note_payments_of_sessions(connection: psycopg.AsyncConnection) -> None:
    """Note the payments of complete sessions that lack theirs: 0.1.0 does not write them.

    Each batch of sessions is a transaction of its own on a connection in autocommit, so that no row is locked for long.
    """
    after: TupleRow | None = (UUID(int=0), 0)
    while after is not None:
        cursor = await connection.execute(_NOTE_PAYMENTS, (*after, NOTED_AT_ONCE))
        after = await cursor.fetchone()


async def reopen_failed_refunds(connection: psycopg.AsyncConnection) -> int:
    """Make refunds that 0.1.0 gave up due again after `REOPENED_AFTER`; return how many.

    Call it only when no process of 0.1.0 runs any more: until then an operator cannot close them.
    """
    reopened = await connection.execute(
        "update refund set status = 'creating', failures = 0, next_attempt_at = now() + %s, updated_at = now()"
        " where status = 'failed'",
        (REOPENED_AFTER,),
    )
    return reopened.rowcount


async def look_at_pending_refunds(connection: psycopg.AsyncConnection) -> None:
    """Make refunds due that have pended for `LOOKED_AT_AFTER`: the caller lists them and refunds nothing."""
    await connection.execute(
        "update refund set next_attempt_at = now()"
        " where status = 'pending' and next_attempt_at is null and updated_at < now() - %s",
        (LOOKED_AT_AFTER,),
    )


async def refund_figures(connection: psycopg.AsyncConnection) -> RefundFigures:
    """Return the figures of refunds and disputes; a refund is failing from `FAILING_FROM` refusals on."""
    cursor = connection.cursor(row_factory=class_row(RefundFigures))
    await cursor.execute(
        "select count(*) filter (where status <> 'pending')::integer as due,"
        " count(*) filter (where status = 'pending')::integer as pending,"
        " count(*) filter (where status <> 'pending' and refusals >= %s)::integer as failing,"
        " coalesce(extract(epoch from now() - min(created_at) filter (where status <> 'pending')), 0)::float8"
        " as oldest_due_seconds,"
        " coalesce(extract(epoch from now() - (select min(created_at) from payment_refund where status = 'pending')),"
        " 0)::float8 as oldest_pending_seconds,"
        " (select count(*) from payment_dispute where status = 'open')::integer as disputes_open"
        " from refund where status in ('creating', 'pending', 'failed')",
        (FAILING_FROM,),
    )
    figures = await cursor.fetchone()
    assert figures is not None, "a query without groups has one row"
    return figures


def _table(due: DueSession | DueRefund) -> str:
    return "checkout_session" if isinstance(due, DueSession) else "refund"


def _key(due: DueSession | DueRefund) -> str:
    return "booking_id = %s and attempt = %s" if isinstance(due, DueSession) else "payment_intent = %s"


def _identity(due: DueSession | DueRefund) -> tuple[UUID | int | str, ...]:
    return (due.booking_id, due.attempt) if isinstance(due, DueSession) else (due.payment_intent,)
