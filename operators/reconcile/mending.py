"""Brings rows of `checkout_session` and `refund` up to what Stripe knows; what the room must hear, payments tells it.

A row that has moved since it was compared is left alone: payments was quicker, and knows more.
"""

from typing import Final

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from operators.reconcile.comparison import Difference, RefundMend, SessionMend

_CAUSE: Final = "reconcile"

_ADD_SESSION: Final = """
insert into checkout_session (booking_id, attempt, room_id, status, params, idempotency_key, session_id, url,
                              expires_at, causation, correlation, next_attempt_at)
values (%(booking_id)s, %(attempt)s, %(room_id)s, %(status)s, %(params)s, %(key)s, %(id)s, %(url)s, %(expires_at)s,
        %(cause)s, %(cause)s, case when %(is_due)s then now() end)
on conflict do nothing
"""
_MOVE_SESSION: Final = """
update checkout_session
set status = %(status)s, session_id = %(id)s, url = %(url)s, updated_at = now(), failures = 0,
    next_attempt_at = case when %(is_due)s then now() end
where booking_id = %(booking_id)s and attempt = %(attempt)s and next_attempt_at is null
  and status = %(was_status)s and session_id is not distinct from %(was_id)s
"""
_ADD_REFUND: Final = """
insert into refund (payment_intent, booking_id, room_id, status, params, idempotency_key, amount_minor, currency,
                    reason, refund_id, causation, correlation, last_error, next_attempt_at)
values (%(payment)s, %(booking_id)s, %(room_id)s, %(status)s, %(params)s, %(key)s, %(amount_minor)s, %(currency)s,
        %(cause)s, %(id)s, %(cause)s, %(cause)s, %(failure)s, case when %(is_due)s then now() end)
on conflict do nothing
"""
_MOVE_REFUND: Final = """
update refund
set status = %(status)s, refund_id = %(id)s, last_error = coalesce(%(failure)s, last_error), updated_at = now(),
    failures = 0, next_attempt_at = case when %(is_due)s then now() end
where payment_intent = %(payment)s and next_attempt_at is null
  and status = %(was_status)s and refund_id is not distinct from %(was_id)s
"""


async def mend(connection: AsyncConnection, difference: Difference) -> bool:
    """Write the row that mends a difference; tell whether it stands now."""
    match difference.row:
        case SessionMend() as row:
            return await _session(connection, row)
        case RefundMend() as row:
            return await _refund(connection, row)
        case None:
            return False


async def _session(connection: AsyncConnection, row: SessionMend) -> bool:
    session, was = row.session, row.was
    metadata = {"booking_id": str(session.booking_id), "room_id": str(session.room_id)}
    written = await connection.execute(
        _ADD_SESSION if was is None else _MOVE_SESSION,
        {
            "booking_id": session.booking_id,
            "attempt": session.attempt,
            "room_id": session.room_id,
            "status": row.status,
            "params": Jsonb({"metadata": metadata}),
            "key": f"{session.booking_id}:checkout:{session.attempt}",
            "id": session.id,
            "url": session.url,
            "expires_at": session.expires_at,
            "cause": _CAUSE,
            "is_due": row.is_due,
            "was_status": was.status if was is not None else None,
            "was_id": was.session_id if was is not None else None,
        },
    )
    return written.rowcount == 1


async def _refund(connection: AsyncConnection, row: RefundMend) -> bool:
    booking, refund, was = row.booking, row.refund, row.was
    written = await connection.execute(
        _ADD_REFUND if was is None else _MOVE_REFUND,
        {
            "payment": refund.payment,
            "booking_id": booking.id,
            "room_id": booking.room_id,
            "status": row.status,
            "params": Jsonb({"payment_intent": refund.payment, "amount": refund.amount_minor}),
            "key": f"{refund.payment}:refund",
            "amount_minor": refund.amount_minor,
            "currency": booking.currency,
            "id": refund.id,
            "failure": refund.failure,
            "cause": _CAUSE,
            "is_due": row.is_due,
            "was_status": was.status if was is not None else None,
            "was_id": was.refund_id if was is not None else None,
        },
    )
    return written.rowcount == 1
