"""Pending calls to Stripe: the rows of `checkout_session` and `refund`, written by the payments workers alone.

A row holds one call with its parameters. `next_attempt_at` is the time from which the call is due, NULL when none is.
A worker that claims a row moves that time ahead (its lease), so that no transaction is open while Stripe is called, and
clears it when the call and its commands are done. The lease of a worker that dies in between runs out. Every later
write names the lease, or moves a state towards its end only: of two workers that claim one row after each other, none
undoes a write of the other.

This module never commits: the consumer writes in its fenced transaction, the caller on connections in autocommit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

OPENING: Final = ("creating", "open", "failed")
ENDING: Final = ("closing", "complete", "expired")


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
    """A payment that must be refunded, with the exact parameters of the call; `amount_minor` in minor units."""

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
class SessionEnded:
    """A session that Stripe reports as over, because it was completed or because it expired."""

    booking_id: UUID
    attempt: int
    session_id: str
    status: Literal["complete", "expired"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RefundChanged:
    """A refund whose status Stripe reports."""

    payment_intent: str
    refund_id: str
    status: Literal["pending", "succeeded", "failed"]
    failure: str | None = None


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
    actor: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DueRefund:
    """A claimed row of `refund`; `lease` and `actor` are as in `DueSession`."""

    payment_intent: str
    booking_id: UUID
    room_id: int
    status: str
    params: dict[str, Any]
    idempotency_key: str
    amount_minor: int
    refund_id: str | None
    causation: str
    correlation: str
    failures: int
    lease: datetime
    actor: str | None = None


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
    """Mark a booking's sessions, open or still to be opened, as to be expired, due at once."""
    await connection.execute(
        "update checkout_session set status = 'closing', next_attempt_at = now(), failures = 0, actor = null,"
        " updated_at = now()"
        " where booking_id = %s and status in ('creating', 'open') and (%s::integer is null or attempt < %s)",
        (ending.booking_id, ending.before_attempt, ending.before_attempt),
    )


async def add_refund(connection: psycopg.AsyncConnection, call: RefundToMake) -> None:
    """Add a payment that must be refunded, due at once; a row that exists already stays as it is."""
    await connection.execute(
        "insert into refund (payment_intent, booking_id, room_id, status, params, idempotency_key, amount_minor,"
        " currency, reason, causation, correlation, next_attempt_at)"
        " values (%s, %s, %s, 'creating', %s, %s, %s, %s, %s, %s, %s, now()) on conflict (payment_intent) do nothing",
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


# Changes that Stripe reports.


async def record(connection: psycopg.AsyncConnection, update: SessionEnded | RefundChanged, *, is_done: bool) -> None:
    """Record a change that Stripe reports, if it moves a row towards its end. `is_done`: no call is due after it."""
    if isinstance(update, SessionEnded):
        await _record_session(connection, update, is_done=is_done)
    else:
        await _record_refund(connection, update, is_done=is_done)


async def _record_session(connection: psycopg.AsyncConnection, update: SessionEnded, *, is_done: bool) -> None:
    """Record the end of a session. Complete wins: a session that was paid never counts as expired."""
    await connection.execute(
        "update checkout_session set status = %(status)s, session_id = %(session_id)s, updated_at = now(),"
        " next_attempt_at = case when %(is_done)s then null else next_attempt_at end"
        " where booking_id = %(booking_id)s and attempt = %(attempt)s"
        " and coalesce(session_id, %(session_id)s) = %(session_id)s"
        " and (status in ('creating', 'open', 'closing') or %(status)s = 'complete')",
        {
            "booking_id": update.booking_id,
            "attempt": update.attempt,
            "session_id": update.session_id,
            "status": update.status,
            "is_done": is_done,
        },
    )


async def _record_refund(connection: psycopg.AsyncConnection, update: RefundChanged, *, is_done: bool) -> None:
    """Record the status of a refund. One that succeeded can still fail; one that failed stays failed."""
    await connection.execute(
        "update refund set status = %(status)s, refund_id = %(refund_id)s, updated_at = now(),"
        " last_error = coalesce(%(failure)s, last_error),"
        " next_attempt_at = case when %(is_done)s then null else next_attempt_at end"
        " where payment_intent = %(payment_intent)s and coalesce(refund_id, %(refund_id)s) = %(refund_id)s"
        " and status = any(case %(status)s when 'pending' then array['creating']"
        " when 'succeeded' then array['creating', 'pending'] else array['creating', 'pending', 'succeeded'] end)",
        {
            "payment_intent": update.payment_intent,
            "refund_id": update.refund_id,
            "status": update.status,
            "failure": update.failure,
            "is_done": is_done,
        },
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
        " s.actor",
        (list(statuses), limit, lease_seconds),
    )
    return await cursor.fetchall()


async def claim_refunds(connection: psycopg.AsyncConnection, *, limit: int, lease_seconds: float) -> list[DueRefund]:
    """Claim at most `limit` due refunds that nobody else has claimed, the longest due first."""
    cursor = connection.cursor(row_factory=class_row(DueRefund))
    await cursor.execute(
        "with due as (select payment_intent from refund where next_attempt_at <= now()"
        " order by next_attempt_at limit %s for update skip locked)"
        " update refund r set next_attempt_at = now() + make_interval(secs => %s) from due"
        " where r.payment_intent = due.payment_intent"
        " returning r.payment_intent, r.booking_id, r.room_id, r.status, r.params, r.idempotency_key, r.amount_minor,"
        " r.refund_id, r.causation, r.correlation, r.failures::integer, r.next_attempt_at as lease,"
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


async def record_refused_refund(connection: psycopg.AsyncConnection, due: DueRefund, reason: str) -> None:
    """Record that Stripe will not make this refund."""
    await connection.execute(
        "update refund set status = 'failed', last_error = %s, updated_at = now()"
        " where payment_intent = %s and status = %s and next_attempt_at = %s",
        (reason, due.payment_intent, due.status, due.lease),
    )


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


async def renew_refund(connection: psycopg.AsyncConnection, due: DueRefund, idempotency_key: str) -> None:
    """Give the call another key, once it is certain that the old one refunded nothing."""
    await connection.execute(
        "update refund set idempotency_key = %s, updated_at = now()"
        " where payment_intent = %s and status = 'creating' and idempotency_key = %s and next_attempt_at = %s",
        (idempotency_key, due.payment_intent, due.idempotency_key, due.lease),
    )


async def try_again(
    connection: psycopg.AsyncConnection, due: DueSession | DueRefund, *, error: str, delay_seconds: float
) -> None:
    """Record a failure and the time at which the row is due again, unless another worker has claimed it meanwhile."""
    await connection.execute(
        f"update {_table(due)} set failures = failures + 1, last_error = %s, updated_at = now(),"  # noqa: S608 - names of ours
        f" next_attempt_at = now() + make_interval(secs => %s) where {_key(due)} and next_attempt_at = %s",
        (error, delay_seconds, *_identity(due), due.lease),
    )


async def mark_done(connection: psycopg.AsyncConnection, due: DueSession | DueRefund) -> None:
    """Mark the row's call as done; a row that got another call meanwhile stays due."""
    await connection.execute(
        f"update {_table(due)} set next_attempt_at = null, failures = 0, actor = null, updated_at = now()"  # noqa: S608 - names of ours
        f" where {_key(due)} and next_attempt_at = %s",
        (*_identity(due), due.lease),
    )


def _table(due: DueSession | DueRefund) -> str:
    return "checkout_session" if isinstance(due, DueSession) else "refund"


def _key(due: DueSession | DueRefund) -> str:
    return "booking_id = %s and attempt = %s" if isinstance(due, DueSession) else "payment_intent = %s"


def _identity(due: DueSession | DueRefund) -> tuple[UUID | int | str, ...]:
    return (due.booking_id, due.attempt) if isinstance(due, DueSession) else (due.payment_intent,)
