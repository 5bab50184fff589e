"""What payments owes Stripe, told again: rows of `checkout_session` and `refund` out of the events about money.

The calls and their parameters are those of `workers.payments.pending_calls`, the same as the first time: a call that
is made once more is the same call to Stripe. What the log does not tell (a session's address, whether Stripe has
carried out a refund) payments learns by making that call, as after any answer that was lost.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from operators.restore.log import envelope_of
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
from workers.payments.pending_calls import calls_for
from workers.runtime.role import Received

#: Stripe ends a session by itself at its `expires_at`; so long after it nothing is left to close.
_STRIPE_IS_LATE_BY: Final = timedelta(hours=1)
_AT_ONCE: Final = 5_000

_ABOUT_MONEY: Final = (
    PaymentRequested,
    CheckoutOpened,
    PaymentDeclined,
    BookingConfirmed,
    BookingCancelled,
    BookingExpired,
    RefundRequested,
    BookingRefunded,
)

_MAKE_ROOM: Final = """
create temporary table told_of_money (
    booking_id uuid, sequence bigint, id text, type text, time timestamptz, log_time timestamptz, correlation text,
    event bytea
) on commit drop
"""
_TOLD: Final = "copy told_of_money from stdin (format binary)"
_TOLD_TYPES: Final = ("uuid", "int8", "text", "text", "timestamptz", "timestamptz", "text", "bytea")


async def make_room(connection: AsyncConnection) -> None:
    """Make a place for the events about money, which lasts as long as the transaction."""
    await connection.execute(_MAKE_ROOM)


async def keep(connection: AsyncConnection, told: Iterable[tuple[Received, Booking | None]]) -> None:
    """Put those events aside that are about money; each comes with the booking after it."""
    rows = [_row(received) for received, booking in told if _is_about_money(received.message, booking)]
    if not rows:
        return
    async with connection.cursor() as cursor, cursor.copy(_TOLD) as copy:
        copy.set_types(_TOLD_TYPES)
        for row in rows:
            await copy.write_row(row)


def _is_about_money(event: Message | None, booking: Booking | None) -> bool:
    if isinstance(event, BookingExpired | BookingCancelled | PaymentDeclined):
        return booking is not None and booking.payment_attempt > 0
    if isinstance(event, BookingConfirmed):
        return event.payment_intent is not None
    return isinstance(event, _ABOUT_MONEY)


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


async def write(connection: AsyncConnection, *, frontend_url: str) -> tuple[int, int]:
    """Write the rows of everything that was kept; return how many sessions and refunds that are."""
    (now,) = await (await connection.execute("select now()")).fetchone() or (None,)
    assert isinstance(now, datetime)
    sessions = refunds = 0
    async for bookings in _bookings(connection):
        accounts = [account(events, frontend_url=frontend_url) for events in bookings]
        sessions += await _copy(
            connection, "checkout_session", [s.row(now) for each in accounts for s in each.sessions.values()]
        )
        refunds += await _copy(connection, "refund", [r.row(now) for each in accounts for r in each.refunds.values()])
    return sessions, refunds


# One booking's money, in memory.


@dataclass
class Session:
    """A session as the events tell it."""

    owed: SessionToOpen
    made: datetime
    status: str = "creating"
    session_id: str | None = None
    told: datetime | None = None

    def row(self, now: datetime) -> dict[str, Any]:
        """Return the row, which is due at once where Stripe must be asked. Pure but for nothing: `now` is given."""
        status, is_due = self._stands(now)
        return {
            **_fields(self.owed),
            "booking_id": self.owed.booking_id,
            "attempt": self.owed.attempt,
            "expires_at": self.owed.expires_at,
            "status": status,
            "session_id": self.session_id,
            "next_attempt_at": now if is_due else None,
            "created_at": self.made,
            "updated_at": self.told or self.made,
        }

    def _stands(self, now: datetime) -> tuple[str, bool]:
        if self.status == "open":
            # The same call again answers with the same session, and so with its address, for as long as it is open.
            return ("creating", True) if now < self.owed.expires_at else ("open", False)
        if self.status == "closing" and now > self.owed.expires_at + _STRIPE_IS_LATE_BY:
            return "expired", False
        return self.status, self.status in {"creating", "closing"}


@dataclass
class Refund:
    """A refund as the events tell it."""

    owed: RefundToMake
    made: datetime
    refund_id: str | None = None
    told: datetime | None = None

    def row(self, now: datetime) -> dict[str, Any]:
        """Return the row, which is due at once where nobody told that the money went back."""
        return {
            **_fields(self.owed),
            "booking_id": self.owed.booking_id,
            "payment_intent": self.owed.payment_intent,
            "amount_minor": self.owed.amount_minor,
            "currency": self.owed.currency,
            "reason": self.owed.reason,
            "status": "creating" if self.refund_id is None else "succeeded",
            "refund_id": self.refund_id,
            "next_attempt_at": now if self.refund_id is None else None,
            "created_at": self.made,
            "updated_at": self.told or self.made,
        }


@dataclass
class Account:
    """What one booking's events make us owe: sessions by attempt, refunds by payment intent."""

    sessions: dict[int, Session] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)

    def hear(self, event: BookingEvent, envelope: Envelope, log_time: datetime, *, frontend_url: str) -> None:
        """Note what an event says of money that came or went, and what it makes us owe."""
        self._note(event, envelope.time)
        for call in calls_for(event, envelope, log_time, frontend_url=frontend_url):
            match call:
                case SessionsToClose():
                    self._close(call, envelope.time)
                case SessionToOpen():
                    self.sessions.setdefault(call.attempt, Session(call, made=log_time))
                case RefundToMake():
                    self.refunds.setdefault(call.payment_intent, Refund(call, made=log_time))

    def _note(self, event: BookingEvent, time: datetime) -> None:
        match event:
            case CheckoutOpened():
                self._move(self.sessions.get(event.attempt), time, status="open", session_id=event.session_id)
            case BookingConfirmed() | RefundRequested():
                # Money came through it.
                self._move(self._session(event.session_id), time, status="complete")
            case BookingCancelled(reason=CancelReason.PAYMENT_CLOSED):
                self._move(self._last(), time, status="expired")
            case PaymentDeclined(failure="session_refused"):
                if (last := self._last()) is not None and last.session_id is None:
                    self._move(last, time, status="failed")
            case BookingRefunded():
                if (refund := self.refunds.get(event.payment_intent)) is not None:
                    refund.refund_id, refund.told = event.refund_id, time

    def _close(self, ending: SessionsToClose, time: datetime) -> None:
        for attempt, session in self.sessions.items():
            if session.status in {"creating", "open"} and (
                ending.before_attempt is None or attempt < ending.before_attempt
            ):
                self._move(session, time, status="closing")

    def _session(self, session_id: str | None) -> Session | None:
        return next((each for each in self.sessions.values() if each.session_id == session_id), None)

    def _last(self) -> Session | None:
        return self.sessions[max(self.sessions)] if self.sessions else None

    def _move(self, session: Session | None, time: datetime, *, status: str, session_id: str | None = None) -> None:
        if session is not None:
            session.status, session.told = status, time
            session.session_id = session_id or session.session_id


def account(told: Iterable[tuple[BookingEvent, Envelope, datetime]], *, frontend_url: str) -> Account:
    """Return what one booking's events, in order and each with the log's time, make us owe; pure."""
    made = Account()
    for event, envelope, log_time in told:
        made.hear(event, envelope, log_time, frontend_url=frontend_url)
    return made


def _fields(owed: SessionToOpen | RefundToMake) -> dict[str, Any]:
    return {
        "room_id": owed.room_id,
        "params": Jsonb(owed.params),
        "idempotency_key": owed.idempotency_key,
        "causation": owed.causation,
        "correlation": owed.correlation,
    }


# What was kept, and what is written.

_Events = list[tuple[BookingEvent, Envelope, datetime]]


async def _bookings(connection: AsyncConnection) -> AsyncIterator[list[_Events]]:
    """Yield the events of some bookings after the other, none of them parted."""
    left: list[tuple[Any, ...]] = []
    async with connection.cursor("told") as cursor:
        await cursor.execute("select * from told_of_money order by booking_id, sequence")
        while rows := await cursor.fetchmany(_AT_ONCE):
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
