"""Reads the bookings that payments may be about, with their rows of `checkout_session` and `refund`."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import dict_row


@dataclass(frozen=True, kw_only=True)
class SessionRow:
    """A row of `checkout_session`. `is_due`: payments has yet to work on it."""

    status: str
    session_id: str | None
    url: str | None
    is_due: bool


@dataclass(frozen=True, kw_only=True)
class RefundRow:
    """A row of `refund`."""

    status: str
    refund_id: str | None
    is_due: bool


@dataclass(frozen=True, kw_only=True)
class Booking:
    """One booking; `payments` is the state of each payment by payment intent, as the ledger has it."""

    id: UUID
    room_id: int
    status: str
    terms: str
    amount_minor: int
    currency: str
    attempt: int
    session_id: str | None
    created_at: datetime
    payments: dict[str, str]
    sessions: dict[int, SessionRow] = field(default_factory=dict)
    refunds: dict[str, RefundRow] = field(default_factory=dict)

    @property
    def due_minor(self) -> int:
        """The net amount that Stripe must have for it in the end."""
        return self.amount_minor if self.status == "CONFIRMED" and self.terms == "prepaid" else 0


_BOOKINGS: Final = """
select id, room_id, status, terms, amount_minor, currency, payment_attempt as attempt, session_id, created_at, payments
from booking
where (%(ids)s::uuid[] is null or id = any(%(ids)s)) and (%(since)s::timestamptz is null or created_at >= %(since)s)
  and (%(ids)s::uuid[] is not null or payment_attempt > 0 or status = 'CONFIRMED')
"""
_SESSIONS: Final = """
select booking_id, attempt, status, session_id, url, next_attempt_at is not null as is_due from checkout_session
where %(ids)s::uuid[] is null or booking_id = any(%(ids)s)
"""
_REFUNDS: Final = """
select booking_id, payment_intent, status, refund_id, next_attempt_at is not null as is_due from refund
where %(ids)s::uuid[] is null or booking_id = any(%(ids)s)
"""


async def read(
    connection: AsyncConnection, *, since: datetime | None = None, ids: Iterable[UUID] | None = None
) -> dict[UUID, Booking]:
    """Return the bookings that payments may be about: those made since a time, or those with these ids."""
    parameters = {"ids": None if ids is None else list(ids), "since": since}
    sessions: dict[UUID, dict[int, SessionRow]] = defaultdict(dict)
    refunds: dict[UUID, dict[str, RefundRow]] = defaultdict(dict)
    async with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("set transaction isolation level repeatable read read only")
        await cursor.execute(_SESSIONS, parameters)
        for row in await cursor.fetchall():
            booking_id, attempt = row.pop("booking_id"), row.pop("attempt")
            sessions[booking_id][attempt] = SessionRow(**row)
        await cursor.execute(_REFUNDS, parameters)
        for row in await cursor.fetchall():
            booking_id, payment = row.pop("booking_id"), row.pop("payment_intent")
            refunds[booking_id][payment] = RefundRow(**row)
        await cursor.execute(_BOOKINGS, parameters)
        found = await cursor.fetchall()
    return {row["id"]: _booking(row, sessions, refunds) for row in found}


def _booking(
    row: dict[str, Any], sessions: dict[UUID, dict[int, SessionRow]], refunds: dict[UUID, dict[str, RefundRow]]
) -> Booking:
    payments = {paid["payment_intent"]: str(paid["state"]) for paid in row.pop("payments") or ()}
    return Booking(**row, payments=payments, sessions=sessions.get(row["id"], {}), refunds=refunds.get(row["id"], {}))
