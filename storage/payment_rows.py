"""Writes whole rows of `checkout_session` and `refund` for operators' tools: restore (many new ones) and reconcile.

The payments role writes them row by row, with `storage.payments`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection
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
    expires_at: datetime
    is_due: bool


@dataclass(frozen=True, kw_only=True)
class ReconciledRefund:
    """A refund as Stripe has it; `amount_minor` in minor units. `is_due`: payments must send the room a command."""

    booking_id: UUID
    room_id: int
    payment_intent: str
    status: str
    refund_id: str
    amount_minor: int
    currency: str
    failure: str | None
    is_due: bool


_CAUSE: Final = "reconcile"

_ADD_SESSION: Final = """
insert into checkout_session (booking_id, attempt, room_id, status, params, idempotency_key, session_id, url,
                              expires_at, causation, correlation, actor, next_attempt_at)
values (%(booking_id)s, %(attempt)s, %(room_id)s, %(status)s, %(params)s, %(key)s, %(id)s, %(url)s, %(expires_at)s,
        %(cause)s, %(cause)s, case when %(is_due)s then %(actor)s end, case when %(is_due)s then now() end)
on conflict do nothing
"""
_UPDATE_SESSION: Final = """
update checkout_session
set status = %(status)s, session_id = %(id)s, url = %(url)s, updated_at = now(), failures = 0,
    actor = case when %(is_due)s then %(actor)s end, next_attempt_at = case when %(is_due)s then now() end
where booking_id = %(booking_id)s and attempt = %(attempt)s and next_attempt_at is null
  and status = %(was_status)s and session_id is not distinct from %(was_id)s
"""
_ADD_REFUND: Final = """
insert into refund (payment_intent, booking_id, room_id, status, params, idempotency_key, amount_minor, currency,
                    reason, refund_id, causation, correlation, actor, last_error, next_attempt_at)
values (%(payment)s, %(booking_id)s, %(room_id)s, %(status)s, %(params)s, %(key)s, %(amount_minor)s, %(currency)s,
        %(cause)s, %(id)s, %(cause)s, %(cause)s, case when %(is_due)s then %(actor)s end, %(failure)s,
        case when %(is_due)s then now() end)
on conflict do nothing
"""
_UPDATE_REFUND: Final = """
update refund
set status = %(status)s, refund_id = %(id)s, last_error = coalesce(%(failure)s, last_error), updated_at = now(),
    failures = 0, actor = case when %(is_due)s then %(actor)s end,
    next_attempt_at = case when %(is_due)s then now() end
where payment_intent = %(payment)s and next_attempt_at is null
  and status = %(was_status)s and refund_id is not distinct from %(was_id)s
"""


async def save_session(
    connection: AsyncConnection, session: ReconciledSession, before: RowBefore | None, *, actor: str
) -> bool:
    """Insert a session's row (`before` None), or update it if it is still as before; return whether it was written.

    A row that payments has changed meanwhile, or is working on, is left alone: payments has newer facts. `actor` is the
    operator, whom the command to the room names.
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
            "expires_at": session.expires_at,
            "cause": _CAUSE,
            "actor": actor,
            "is_due": session.is_due,
            **_before(before),
        },
    )
    return written.rowcount == 1


async def save_refund(
    connection: AsyncConnection, refund: ReconciledRefund, before: RowBefore | None, *, actor: str
) -> bool:
    """Insert a refund's row (`before` None), or update it if it is still as before; return whether it was written.

    A row that payments has changed meanwhile, or is working on, is left alone: payments has newer facts. `actor` is the
    operator, whom the command to the room names.
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
            "failure": refund.failure,
            "cause": _CAUSE,
            "actor": actor,
            "is_due": refund.is_due,
            **_before(before),
        },
    )
    return written.rowcount == 1


def _before(row: RowBefore | None) -> dict[str, str | None]:
    return {
        "was_status": None if row is None else row.status,
        "was_id": None if row is None else row.stripe_id,
    }
