"""Restores the rows of `checkout_session` and `refund` from the events about payments.

The calls and their parameters are those of `workers.payments.pending_calls`, the same as the first time: a call that
is made once more is the same call to Stripe. A session's address and the outcome of a refund are not on the log;
payments gets them by making the call again, as after any lost answer.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from operators.restore.log import envelope_of
from storage import payment_rows
from storage.payments import RefundToMake, SessionsToClose, SessionToOpen
from topics.envelope import Envelope, decode_value, encode_value
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingExpired,
    BookingRefunded,
    CheckoutOpened,
    PaymentDeclined,
    PaymentRequested,
    RefundRequested,
)
from topics.messages.message import Message
from topics.messages.values import CancelReason
from workers.decisions import Booking
from workers.payments.pending_calls import CallContext, calls_for
from workers.payments.steps import SESSION_REFUSED
from workers.runtime.role import Received

#: Stripe ends a session by itself at its `expires_at`; so long after it nothing is left to close.
_STRIPE_IS_LATE_BY: Final = timedelta(hours=1)
_ROWS_IN_BATCH: Final = 5_000

_PAYMENT_EVENTS: Final = (
    PaymentRequested,
    CheckoutOpened,
    PaymentDeclined,
    BookingConfirmed,
    BookingCancelled,
    BookingExpired,
    RefundRequested,
    BookingRefunded,
)

_CREATE: Final = """
create temporary table payment_event (
    booking_id uuid, sequence bigint, id text, type text, time timestamptz, log_time timestamptz, correlation text,
    event bytea
) on commit drop
"""
_COPY: Final = "copy payment_event from stdin (format binary)"
_COLUMN_TYPES: Final = ("uuid", "int8", "text", "text", "timestamptz", "timestamptz", "text", "bytea")


async def create_table(connection: AsyncConnection) -> None:
    """Create the table for the events about payments; it is dropped at the end of the transaction."""
    await connection.execute(_CREATE)


async def save(connection: AsyncConnection, events: Iterable[tuple[Received, Booking | None]]) -> None:
    """Save the events about payments in the table; each comes with its booking after it."""
    rows = [_row(received) for received, booking in events if _is_about_payments(received.message, booking)]
    if not rows:
        return
    async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        copy.set_types(_COLUMN_TYPES)
        for row in rows:
            await copy.write_row(row)


def _is_about_payments(event: Message | None, booking: Booking | None) -> bool:
    if isinstance(event, BookingExpired | BookingCancelled | PaymentDeclined):
        return booking is not None and booking.payment_attempt > 0
    if isinstance(event, BookingConfirmed):
        return event.payment_intent is not None
    return isinstance(event, _PAYMENT_EVENTS)


def _row(received: Received) -> tuple[Any, ...]:
    event, envelope = received.message, envelope_of(received)
    assert isinstance(event, BookingEvent)
    return (
        event.booking_id,
        envelope.sequence,
        envelope.id,
        event.message_type,
        envelope.time,
        received.time,
        envelope.correlation,
        encode_value(event),
    )


async def write(connection: AsyncConnection, *, context: CallContext) -> tuple[int, int]:
    """Write the rows that follow from the saved events; return the numbers of sessions and refunds."""
    (now,) = await (await connection.execute("select now()")).fetchone() or (None,)
    assert isinstance(now, datetime)
    sessions = refunds = 0
    async for bookings in _bookings(connection):
        payments = [payments_of(events, context=context) for events in bookings]
        sessions += await payment_rows.copy_sessions(
            connection, [s.row(now) for each in payments for s in each.sessions.values()]
        )
        refunds += await payment_rows.copy_refunds(
            connection, [r.row(now) for each in payments for r in each.refunds.values()]
        )
    return sessions, refunds


# One booking's payments, in memory.


@dataclass
class Session:
    """A Checkout Session after the events so far. `call` opens it; times are the log's (UTC)."""

    call: SessionToOpen
    created: datetime
    status: str = "creating"
    session_id: str | None = None
    updated: datetime | None = None

    def row(self, now: datetime) -> dict[str, Any]:
        """Return the row; it is due at once where Stripe must be called."""
        status, is_due = self._status_at(now)
        return {
            **_fields(self.call),
            "booking_id": self.call.booking_id,
            "attempt": self.call.attempt,
            "expires_at": self.call.expires_at,
            "status": status,
            "session_id": self.session_id,
            "next_attempt_at": now if is_due else None,
            "created_at": self.created,
            "updated_at": self.updated or self.created,
        }

    def _status_at(self, now: datetime) -> tuple[str, bool]:
        if self.status == "open":
            # While the session is open, Stripe answers the repeated call with the same session and its address.
            return ("creating", True) if now < self.call.expires_at else ("open", False)
        if self.status == "closing" and now > self.call.expires_at + _STRIPE_IS_LATE_BY:
            return "expired", False
        return self.status, self.status in {"creating", "closing"}


@dataclass
class Refund:
    """A refund after the events so far. `call` makes it; times are the log's (UTC)."""

    call: RefundToMake
    created: datetime
    refund_id: str | None = None
    updated: datetime | None = None

    def row(self, now: datetime) -> dict[str, Any]:
        """Return the row; it is due at once where no event records the refund."""
        return {
            **_fields(self.call),
            "booking_id": self.call.booking_id,
            "payment_intent": self.call.payment_intent,
            "amount_minor": self.call.amount_minor,
            "currency": self.call.currency,
            "reason": self.call.reason,
            "status": "creating" if self.refund_id is None else "succeeded",
            "refund_id": self.refund_id,
            "next_attempt_at": now if self.refund_id is None else None,
            "created_at": self.created,
            "updated_at": self.updated or self.created,
        }


@dataclass
class BookingPayments:
    """The calls that follow from one booking's events: sessions by attempt, refunds by payment intent."""

    sessions: dict[int, Session] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)

    def apply(self, event: BookingEvent, envelope: Envelope, log_time: datetime, *, context: CallContext) -> None:
        """Apply one event: update sessions and refunds, and add the calls that follow from it."""
        self._update(event, envelope.time)
        for call in calls_for(event, envelope, log_time, context=context):
            match call:
                case SessionsToClose():
                    self._close(call, envelope.time)
                case SessionToOpen():
                    self.sessions.setdefault(call.attempt, Session(call, created=log_time))
                case RefundToMake():
                    self.refunds.setdefault(call.payment_intent, Refund(call, created=log_time))

    def _update(self, event: BookingEvent, time: datetime) -> None:
        match event:
            case CheckoutOpened():
                self._set(self.sessions.get(event.attempt), time, status="open", session_id=event.session_id)
            case BookingConfirmed() | RefundRequested():
                # A payment was made through this session.
                self._set(self._session(event.session_id), time, status="complete")
            case BookingCancelled(reason=CancelReason.PAYMENT_CLOSED):
                self._set(self._last(), time, status="expired")
            case PaymentDeclined(failure=failure) if failure.startswith(SESSION_REFUSED):
                if (last := self._last()) is not None and last.session_id is None:
                    self._set(last, time, status="failed")
            case BookingRefunded():
                if (refund := self.refunds.get(event.payment_intent)) is not None:
                    refund.refund_id, refund.updated = event.refund_id, time

    def _close(self, ending: SessionsToClose, time: datetime) -> None:
        for attempt, session in self.sessions.items():
            if session.status in {"creating", "open"} and (
                ending.before_attempt is None or attempt < ending.before_attempt
            ):
                self._set(session, time, status="closing")

    def _session(self, session_id: str | None) -> Session | None:
        return next((each for each in self.sessions.values() if each.session_id == session_id), None)

    def _last(self) -> Session | None:
        return self.sessions[max(self.sessions)] if self.sessions else None

    def _set(self, session: Session | None, time: datetime, *, status: str, session_id: str | None = None) -> None:
        if session is not None:
            session.status, session.updated = status, time
            session.session_id = session_id or session.session_id


def payments_of(events: Iterable[tuple[BookingEvent, Envelope, datetime]], *, context: CallContext) -> BookingPayments:
    """Return the payments after one booking's events, which come in order and each with the log's time; pure."""
    payments = BookingPayments()
    for event, envelope, log_time in events:
        payments.apply(event, envelope, log_time, context=context)
    return payments


def _fields(call: SessionToOpen | RefundToMake) -> dict[str, Any]:
    return {
        "room_id": call.room_id,
        "params": Jsonb(call.params),
        "idempotency_key": call.idempotency_key,
        "causation": call.causation,
        "correlation": call.correlation,
    }


# Reading the saved events, and writing the rows.

_Events = list[tuple[BookingEvent, Envelope, datetime]]


async def _bookings(connection: AsyncConnection) -> AsyncIterator[list[_Events]]:
    """Yield the events of some bookings at a time; those of one booking come together."""
    left: list[tuple[Any, ...]] = []
    async with connection.cursor("payment_events") as cursor:
        await cursor.execute("select * from payment_event order by booking_id, sequence")
        while rows := await cursor.fetchmany(_ROWS_IN_BATCH):
            last: UUID = rows[-1][0]
            whole = [*left, *(row for row in rows if row[0] != last)]
            left = [row for row in [*left, *rows] if row[0] == last]
            yield _by_booking([row for row in whole if row[0] != last])
    yield _by_booking(left)


def _by_booking(rows: Sequence[tuple[Any, ...]]) -> list[_Events]:
    return [[_event(row) for row in group] for _, group in groupby(rows, key=lambda row: row[0])]


def _event(row: tuple[Any, ...]) -> tuple[BookingEvent, Envelope, datetime]:
    booking_id, _, id, type, time, log_time, correlation, value = row
    event = decode_value(type, value)
    assert isinstance(event, BookingEvent)
    envelope = Envelope(id=id, type=type, source="", subject=str(booking_id), time=time, correlation=correlation)
    return event, envelope, log_time
