"""Writes whole rows about payments for restore (many new ones), reconciliation and `innkeeper refunds`.

The tables are `checkout_session`, `refund`, `payment_refund` and `payment_dispute`. The payments role writes them row
by row, with `storage.payments`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb


async def copy_sessions(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert new rows of `checkout_session`, given by column, all with the same columns; return their number."""
    return await _copy(connection, "checkout_session", rows)


async def copy_refunds(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert new rows of `refund`, given by column, all with the same columns; return their number."""
    return await _copy(connection, "refund", rows)


async def add_payment_refunds(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of `payment_refund`, given by column, all with the same columns; a known refund stays as it is."""
    await _add(connection, "payment_refund", rows)


async def add_payment_disputes(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of `payment_dispute`, given by column, all with the same columns; a known one stays as it is."""
    await _add(connection, "payment_dispute", rows)


async def _add(connection: AsyncConnection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        names = list(rows[0])
        places = ", ".join(f"%({name})s" for name in names)
        statement = f"insert into {table} ({', '.join(names)}) values ({places}) on conflict do nothing"  # noqa: S608 - names of ours
        async with connection.cursor() as cursor:
            await cursor.executemany(statement.encode(), rows)


async def _copy(connection: AsyncConnection, table: str, rows: Sequence[Mapping[str, Any]]) -> int:
    if rows:
        names = list(rows[0])
        async with (
            connection.cursor() as cursor,
            cursor.copy(f"copy {table} ({', '.join(names)}) from stdin".encode()) as copy,
        ):
            for row in rows:
                await copy.write_row([row[name] for name in names])
    return len(rows)


@dataclass(frozen=True, kw_only=True)
class RowBefore:
    """The status and Stripe's id that a row had when it was compared with Stripe."""

    status: str
    stripe_id: str | None


@dataclass(frozen=True, kw_only=True)
class ReconciledSession:
    """A Checkout Session as Stripe has it. `is_due`: payments must send the room a command about it."""

    booking_id: UUID
    room_id: int
    attempt: int
    status: str
    session_id: str
    url: str | None
    payment_intent: str | None
    expires_at: datetime
    is_due: bool


@dataclass(frozen=True, kw_only=True)
class ReconciledRefund:
    """A refund of a payment as it should be; `amount_minor` is the sum that the payment's refunds must reach.

    `refund_id` is the newest refund that we made. `is_due`: payments must call Stripe until that sum is reached.
    """

    booking_id: UUID
    room_id: int
    payment_intent: str
    status: str
    refund_id: str | None
    amount_minor: int
    currency: str
    is_due: bool


@dataclass(frozen=True, kw_only=True)
class RefundObject:
    """A refund as Stripe has it; `amount_minor` in minor units."""

    refund_id: str
    payment_intent: str
    booking_id: UUID
    amount_minor: int
    currency: str
    status: str
    by_hand: bool
    failure: str | None


@dataclass(frozen=True, kw_only=True)
class DisputeObject:
    """A dispute as Stripe has it; `amount_minor` in minor units, `reason` in Stripe's word."""

    dispute_id: str
    payment_intent: str
    booking_id: UUID
    amount_minor: int
    currency: str
    status: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class OpenRefund:
    """A row of `refund` that is not `succeeded`, with the sums of its payment in minor units. Times are UTC.

    `target_minor` is the sum that all refunds must reach: `refunded_minor` were carried out, lost disputes took
    `lost_minor`, and an operator closed `closed_minor` of it. `next_attempt_at` is the time of the next call to Stripe,
    None if none is due. `tries` counts the calls without success since the last success, `refusals` those that Stripe
    refused and our refunds that failed. `has_booking`: the ledger has the booking.
    """

    payment: str
    booking_id: UUID
    room_id: int
    status: str
    target_minor: int
    refunded_minor: int
    lost_minor: int
    closed_minor: int
    currency: str
    since: datetime
    tries: int
    refusals: int
    has_booking: bool
    next_attempt_at: datetime | None
    last_error: str | None


_CAUSE: Final = "reconcile"

_ADD_SESSION: Final = """
insert into checkout_session (booking_id, attempt, room_id, status, params, idempotency_key, session_id, url,
                              payment_intent, expires_at, causation, correlation, actor, next_attempt_at)
values (%(booking_id)s, %(attempt)s, %(room_id)s, %(status)s, %(params)s, %(key)s, %(id)s, %(url)s, %(payment)s,
        %(expires_at)s, %(cause)s, %(cause)s, case when %(is_due)s then %(actor)s end,
        case when %(is_due)s then now() end)
on conflict do nothing
"""
_UPDATE_SESSION: Final = """
update checkout_session
set status = %(status)s, session_id = %(id)s, url = %(url)s, updated_at = now(), failures = 0,
    payment_intent = coalesce(%(payment)s, payment_intent),
    actor = case when %(is_due)s then %(actor)s end, next_attempt_at = case when %(is_due)s then now() end
where booking_id = %(booking_id)s and attempt = %(attempt)s and next_attempt_at is null
  and status = %(was_status)s and session_id is not distinct from %(was_id)s
"""
_ADD_REFUND: Final = """
insert into refund (payment_intent, booking_id, room_id, status, params, idempotency_key, amount_minor, currency,
                    reason, refund_id, causation, correlation, actor, next_attempt_at)
values (%(payment)s, %(booking_id)s, %(room_id)s, %(status)s, %(params)s, %(key)s, %(amount_minor)s, %(currency)s,
        %(cause)s, %(id)s, %(cause)s, %(cause)s, case when %(is_due)s then %(actor)s end,
        case when %(is_due)s then now() end)
on conflict do nothing
"""
_UPDATE_REFUND: Final = """
update refund
set status = %(status)s, refund_id = %(id)s, amount_minor = %(amount_minor)s, updated_at = now(), failures = 0,
    refusals = (select count(*) from payment_refund made
                where made.payment_intent = refund.payment_intent and made.status = 'failed' and not made.by_hand),
    actor = case when %(is_due)s then %(actor)s end, next_attempt_at = case when %(is_due)s then now() end
where payment_intent = %(payment)s and next_attempt_at is null
  and status = %(was_status)s and refund_id is not distinct from %(was_id)s
"""
# A refund that failed stays failed, and a dispute that was decided stays so: payments may have newer facts.
_SAVE_REFUND_OBJECT: Final = """
insert into payment_refund as known (refund_id, payment_intent, booking_id, amount_minor, currency, status, by_hand,
                                     failure)
values (%(refund_id)s, %(payment_intent)s, %(booking_id)s, %(amount_minor)s, %(currency)s, %(status)s, %(by_hand)s,
        %(failure)s)
on conflict (refund_id) do update
set status = excluded.status, amount_minor = excluded.amount_minor,
    failure = coalesce(excluded.failure, known.failure), updated_at = now()
where known.status <> 'failed'
"""
_SAVE_DISPUTE_OBJECT: Final = """
insert into payment_dispute as known (dispute_id, payment_intent, booking_id, amount_minor, currency, status, reason)
values (%(dispute_id)s, %(payment_intent)s, %(booking_id)s, %(amount_minor)s, %(currency)s, %(status)s, %(reason)s)
on conflict (dispute_id) do update
set status = excluded.status, amount_minor = excluded.amount_minor, updated_at = now()
where known.status = 'open' or known.status = excluded.status
"""
# The sums of the rows that payments works with. The ledger leaves a sum of 0 out.
_OPEN_REFUNDS: Final = """
select r.payment_intent as payment, r.booking_id, r.room_id, r.status, r.amount_minor as target_minor,
       coalesce((select sum(made.amount_minor) from payment_refund made
                 where made.payment_intent = r.payment_intent and made.status = 'succeeded'), 0)::bigint
           as refunded_minor,
       coalesce((select sum(dispute.amount_minor) from payment_dispute dispute
                 where dispute.payment_intent = r.payment_intent and dispute.status = 'lost'), 0)::bigint
           as lost_minor,
       coalesce((paid.value ->> 'closed_minor')::bigint, 0) as closed_minor,
       r.currency, r.created_at as since, r.failures::integer as tries, r.refusals::integer as refusals,
       b.id is not null as has_booking, r.next_attempt_at, r.last_error
from refund r
left join booking b on b.id = r.booking_id
left join lateral (
    select each.value from jsonb_array_elements(b.payments) as each
    where each.value ->> 'payment_intent' = r.payment_intent
) as paid on true
where (%(payment)s::text is null or r.payment_intent = %(payment)s)
  and (r.status in ('creating', 'pending', 'failed') or r.status = 'closed' and %(closed)s)
order by r.created_at, r.payment_intent
"""
# A row that a worker has claimed is due again within its lease anyway.
_RETRY_REFUND: Final = """
update refund set status = 'creating', next_attempt_at = now(), actor = %(actor)s, updated_at = now()
where payment_intent = %(payment)s and status in ('creating', 'failed')
  and (next_attempt_at is null or next_attempt_at > now() + make_interval(secs => %(lease_seconds)s))
"""

# The room refuses to close a refund of a booking that it does not have; the row alone records the end.
_CLOSE_REFUND: Final = """
update refund set status = 'closed', next_attempt_at = null, actor = null, updated_at = now()
where payment_intent = %(payment)s and status in ('creating', 'failed')
  and not exists (select from booking b where b.id = refund.booking_id)
"""


async def save_session(
    connection: AsyncConnection, session: ReconciledSession, before: RowBefore | None, *, actor: str | None
) -> bool:
    """Insert a session's row (`before` None), or update it if it is still as before; return whether it was written.

    A row that payments has changed meanwhile, or is working on, is left alone: payments has newer facts. `actor` is the
    operator, whom the command to the room names; None: nobody asked for it.
    """
    metadata = {"booking_id": str(session.booking_id), "room_id": str(session.room_id)}
    written = await connection.execute(
        _ADD_SESSION if before is None else _UPDATE_SESSION,
        {
            "booking_id": session.booking_id,
            "attempt": session.attempt,
            "room_id": session.room_id,
            "status": session.status,
            "params": Jsonb({"metadata": metadata}),
            "key": f"{session.booking_id}:checkout:{session.attempt}",
            "id": session.session_id,
            "url": session.url,
            "payment": session.payment_intent,
            "expires_at": session.expires_at,
            "cause": _CAUSE,
            "actor": actor,
            "is_due": session.is_due,
            **_before(before),
        },
    )
    return written.rowcount == 1


async def save_refund(
    connection: AsyncConnection, refund: ReconciledRefund, before: RowBefore | None, *, actor: str | None
) -> bool:
    """Insert a refund's row (`before` None), or update it if it is still as before; return whether it was written.

    A row that payments has changed meanwhile, or is working on, is left alone: payments has newer facts. `actor` is the
    operator, whom the command to the room names; None: nobody asked for it.
    """
    written = await connection.execute(
        _ADD_REFUND if before is None else _UPDATE_REFUND,
        {
            "payment": refund.payment_intent,
            "booking_id": refund.booking_id,
            "room_id": refund.room_id,
            "status": refund.status,
            "params": Jsonb({"payment_intent": refund.payment_intent, "amount": refund.amount_minor}),
            "key": f"{refund.payment_intent}:refund",
            "amount_minor": refund.amount_minor,
            "currency": refund.currency,
            "id": refund.refund_id,
            "cause": _CAUSE,
            "actor": actor,
            "is_due": refund.is_due,
            **_before(before),
        },
    )
    return written.rowcount == 1


async def save_refund_object(connection: AsyncConnection, refund: RefundObject) -> bool:
    """Insert or update a refund's row of `payment_refund`; return whether it was written."""
    written = await connection.execute(_SAVE_REFUND_OBJECT, asdict(refund))
    return written.rowcount == 1


async def save_dispute_object(connection: AsyncConnection, dispute: DisputeObject) -> bool:
    """Insert or update a dispute's row of `payment_dispute`; return whether it was written."""
    written = await connection.execute(_SAVE_DISPUTE_OBJECT, asdict(dispute))
    return written.rowcount == 1


async def payments_of_bookings(connection: AsyncConnection, booking_ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """Return the payments of bookings as their rows have them."""
    found = await connection.execute(
        "select paid.value from booking b cross join lateral jsonb_array_elements(b.payments) as paid"
        " where b.id = any(%s)",
        (list(booking_ids),),
    )
    return [row[0] for row in await found.fetchall()]


async def open_refunds(
    connection: AsyncConnection[Any], *, payment: str | None = None, closed: bool = True
) -> list[OpenRefund]:
    """Return the refunds whose money is not back yet, the oldest first; `closed`: also those that were closed."""
    cursor = connection.cursor(row_factory=class_row(OpenRefund))
    await cursor.execute(_OPEN_REFUNDS, {"payment": payment, "closed": closed})
    return await cursor.fetchall()


async def retry_refund(connection: AsyncConnection[Any], payment: str, *, actor: str, lease_seconds: float) -> bool:
    """Make a refund due now that is due later; return whether it was. `lease_seconds`: how long a claim lasts."""
    changed = await connection.execute(
        _RETRY_REFUND, {"payment": payment, "actor": actor, "lease_seconds": lease_seconds}
    )
    return changed.rowcount == 1


async def close_refund_without_booking(connection: AsyncConnection[Any], payment: str) -> bool:
    """Close a refund of a booking that the ledger does not have; return whether it was due and is closed now."""
    changed = await connection.execute(_CLOSE_REFUND, {"payment": payment})
    return changed.rowcount == 1


def _before(row: RowBefore | None) -> dict[str, str | None]:
    return {
        "was_status": None if row is None else row.status,
        "was_id": None if row is None else row.stripe_id,
    }
