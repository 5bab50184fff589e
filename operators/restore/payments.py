"""Restores the rows of payments from the events: sessions, refunds that are due or were, refunds made, and disputes.

The calls and their parameters are those of `workers.payments.pending_calls`, the same as the first time: a call that
is made once more is the same call to Stripe. A session's address and a refund without an event are not on the log.
Payments gets them from Stripe: it makes the call for a session again, and lists the refunds of a payment before it
makes one.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from operators.restore.log import envelope_of
from operators.restore.target import NotRestored
from storage import installation, payment_rows, payments
from storage.installation import NoInstallation
from storage.payments import PaymentOfSession, RefundToMake, RefundToSettle, SessionsToClose, SessionToOpen, Stay
from topics.envelope import Envelope, decode_value, encode_value
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingExpired,
    BookingRefunded,
    ChangeEnded,
    CheckoutOpened,
    DisputeClosed,
    DisputeOpened,
    PaymentDeclined,
    PaymentRequested,
    RefundClosed,
    RefundFailed,
    RefundRequested,
    StayChanged,
)
from topics.messages.message import Message
from topics.messages.values import CancelReason, ChangeEnd
from workers.booking_rows import payment_of
from workers.decisions import Booking, Payment
from workers.payments.pending_calls import CallContext, calls_for
from workers.payments.refunding import RefundSums, due_in_full, sums_by_ledger
from workers.payments.settings import PaymentSettings
from workers.payments.steps import SESSION_REFUSED
from workers.runtime.role import Received
from workers.stripe.marks import Marks

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
    RefundFailed,
    RefundClosed,
    DisputeOpened,
    DisputeClosed,
    ChangeEnded,
    StayChanged,
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
    if isinstance(event, BookingConfirmed | StayChanged):
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


async def write(connection: AsyncConnection, settings: PaymentSettings) -> tuple[int, int]:
    """Write the rows that follow from the saved events; return the numbers of sessions and refunds.

    Raises:
        NotRestored: the database has no id of an installation.
    """
    (now,) = await (await connection.execute("select now()")).fetchone() or (None,)
    assert isinstance(now, datetime)
    context = await _context(connection, settings)
    sessions = refunds = 0
    async for bookings in _bookings(connection):
        stays = await payments.stays(connection, [events[0][0].booking_id for events in bookings])
        restored = [
            payments_of(events, context=context, stay=stays.get(events[0][0].booking_id)) for events in bookings
        ]
        ledger = await payment_rows.payments_of_bookings(connection, [events[0][0].booking_id for events in bookings])
        known = {payment["payment_intent"]: payment_of(payment) for payment in ledger}
        sessions += await payment_rows.copy_sessions(
            connection, [session.row(now) for each in restored for session in each.sessions.values()]
        )
        refunds += await payment_rows.copy_refunds(
            connection, [row for each in restored for row in each.refund_rows(now, known)]
        )
        await payment_rows.add_payment_refunds(
            connection, [made.row() for each in restored for paid in each.paid.values() for made in paid.made.values()]
        )
        await payment_rows.add_payment_disputes(
            connection,
            [dispute.row() for each in restored for paid in each.paid.values() for dispute in paid.disputes.values()],
        )
    return sessions, refunds


async def _context(connection: AsyncConnection, settings: PaymentSettings) -> CallContext:
    try:
        installation_id = await installation.read(connection)
    except NoInstallation as error:
        raise NotRestored(str(error)) from error
    return CallContext(
        marks=Marks(settings.payment_mark_key.get_secret_value(), installation_id),
        frontend_url=settings.frontend_url,
        locale=settings.checkout_locale,
    )


# One booking's payments, in memory.


@dataclass
class Session:
    """A Checkout Session after the events so far. `call` opens it; times are the log's (UTC)."""

    call: SessionToOpen
    created: datetime
    status: str = "creating"
    session_id: str | None = None
    payment_intent: str | None = None
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
            "payment_intent": self.payment_intent,
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
class RefundMade:
    """A refund at Stripe that events name; amounts in minor units, times are the log's (UTC)."""

    event: BookingRefunded | RefundFailed
    currency: str
    created: datetime
    updated: datetime

    @property
    def has_failed(self) -> bool:
        """Whether the refund failed, before or after it counted as carried out."""
        return isinstance(self.event, RefundFailed)

    def row(self) -> dict[str, Any]:
        """Return the row of `payment_refund`."""
        return {
            "refund_id": self.event.refund_id,
            "payment_intent": self.event.payment_intent,
            "booking_id": self.event.booking_id,
            "amount_minor": self.event.amount_minor,
            "currency": self.currency,
            "status": "failed" if self.has_failed else "succeeded",
            "by_hand": self.event.by_hand,
            "failure": self.event.failure if isinstance(self.event, RefundFailed) else None,
            "created_at": self.created,
            "updated_at": self.updated,
        }


@dataclass
class DisputeMade:
    """A dispute that events name; `amount_minor` in minor units, times are the log's (UTC)."""

    opened: DisputeOpened
    created: datetime
    amount_minor: int
    status: str = "open"
    updated: datetime | None = None

    def row(self) -> dict[str, Any]:
        """Return the row of `payment_dispute`."""
        return {
            "dispute_id": self.opened.dispute_id,
            "payment_intent": self.opened.payment_intent,
            "booking_id": self.opened.booking_id,
            "amount_minor": self.amount_minor,
            "currency": self.opened.currency,
            "status": self.status,
            "reason": self.opened.reason,
            "created_at": self.created,
            "updated_at": self.updated or self.created,
        }


@dataclass
class Paid:
    """The refunds and disputes of one payment, by their ids; `closed`: when an operator closed its refund."""

    currency: str = ""
    made: dict[str, RefundMade] = field(default_factory=dict)
    disputes: dict[str, DisputeMade] = field(default_factory=dict)
    closed: datetime | None = None

    def ours(self) -> list[RefundMade]:
        """Return the refunds that payments made, the oldest first."""
        return sorted((made for made in self.made.values() if not made.event.by_hand), key=lambda made: made.created)


@dataclass
class Refund:
    """The row of a payment of which money must go back. `call` makes the first refund; times are the log's (UTC)."""

    call: RefundToMake
    created: datetime
    updated: datetime | None = None

    def row(self, now: datetime, paid: Paid, sums: RefundSums) -> dict[str, Any]:
        """Return the row; it is due at once while a rest is due."""
        ours = paid.ours()
        changes = [made.updated for made in paid.made.values()]
        changes += [dispute.updated for dispute in paid.disputes.values() if dispute.updated is not None]
        changes += [time for time in (paid.closed, self.updated) if time is not None]
        return {
            **_fields(self.call),
            "booking_id": self.call.booking_id,
            "payment_intent": self.call.payment_intent,
            "amount_minor": sums.target_minor,
            "currency": self.call.currency,
            "reason": self.call.reason,
            "status": sums.status,
            "refund_id": ours[-1].event.refund_id if ours else None,
            "refusals": sum(made.has_failed for made in ours),
            "next_attempt_at": now if sums.rest_minor else None,
            "created_at": self.created,
            "updated_at": max([self.created, *changes]),
        }


@dataclass
class BookingPayments:
    """The rows that follow from one booking's events: sessions by attempt, refunds and payments by payment intent."""

    sessions: dict[int, Session] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    paid: dict[str, Paid] = field(default_factory=dict)

    def refund_rows(self, now: datetime, ledger: Mapping[str, Payment]) -> Iterator[dict[str, Any]]:
        """Yield the rows of `refund`; `ledger` has the payments by their intents, but those of unknown bookings."""
        for intent, refund in self.refunds.items():
            known = ledger.get(intent)
            sums = due_in_full(refund.call.amount_minor) if known is None else sums_by_ledger(known)
            yield refund.row(now, self._paid(intent), sums)

    def apply(
        self, event: BookingEvent, envelope: Envelope, log_time: datetime, *, context: CallContext, stay: Stay | None
    ) -> None:
        """Apply one event: update the rows, and add the calls that follow from it."""
        self._update(event, envelope.time)
        for call in calls_for(event, envelope, log_time, context=context, stay=stay):
            match call:
                case SessionsToClose():
                    self._close(call, envelope.time)
                case SessionToOpen():
                    self.sessions.setdefault(call.attempt, Session(call, created=log_time))
                case RefundToMake():
                    self._add_refund(call, log_time)
                case PaymentOfSession():
                    self._note_payment(call)
                case RefundToSettle():
                    # The row has the ledger's sums.
                    pass

    def _update(self, event: BookingEvent, time: datetime) -> None:
        match event:
            case CheckoutOpened():
                self._set(self.sessions.get(event.attempt), time, status="open", session_id=event.session_id)
            case BookingConfirmed() | RefundRequested():
                # A payment was made through this session.
                self._set(self._session(event.session_id), time, status="complete")
                if event.payment_intent is not None and event.payment_intent not in self.paid:
                    self.paid[event.payment_intent] = Paid(event.currency)
            case StayChanged(payment_intent=str() as intent):
                self._set(self._session(event.session_id), time, status="complete")
                self.paid.setdefault(intent, Paid(event.currency))
            case BookingCancelled(reason=CancelReason.PAYMENT_CLOSED) | ChangeEnded(reason=ChangeEnd.PAYMENT_CLOSED):
                self._set(self._last(), time, status="expired")
            case PaymentDeclined(failure=failure) if failure.startswith(SESSION_REFUSED):
                if (last := self._last()) is not None and last.session_id is None:
                    self._set(last, time, status="failed")
            case BookingRefunded() | RefundFailed() | RefundClosed() | DisputeOpened() | DisputeClosed():
                self._update_payment(event, self._paid(event.payment_intent), time)

    def _update_payment(
        self,
        event: BookingRefunded | RefundFailed | RefundClosed | DisputeOpened | DisputeClosed,
        paid: Paid,
        time: datetime,
    ) -> None:
        match event:
            case BookingRefunded() | RefundFailed():
                known = paid.made.get(event.refund_id)
                created = time if known is None else known.created
                paid.made[event.refund_id] = RefundMade(event, paid.currency, created, time)
            case RefundClosed():
                paid.closed = time
            case DisputeOpened():
                paid.disputes[event.dispute_id] = DisputeMade(event, time, event.amount_minor)
            case DisputeClosed():
                if (dispute := paid.disputes.get(event.dispute_id)) is not None:
                    dispute.status, dispute.amount_minor = event.result.value, event.amount_minor
                    dispute.updated = time

    def _add_refund(self, call: RefundToMake, log_time: datetime) -> None:
        """Add the row of a payment, or let it name the newest request."""
        known = self.refunds.get(call.payment_intent)
        if known is None:
            self.refunds[call.payment_intent] = Refund(call, created=log_time)
        elif call.amount_minor > known.call.amount_minor:
            # The first call's parameters and key stay, as in the row that payments had.
            known.call = replace(
                known.call,
                amount_minor=call.amount_minor,
                reason=call.reason,
                causation=call.causation,
                correlation=call.correlation,
            )
            known.updated = log_time

    def _note_payment(self, paid: PaymentOfSession) -> None:
        if (session := self._session(paid.session_id)) is not None:
            session.payment_intent = session.payment_intent or paid.payment_intent

    def _paid(self, payment_intent: str) -> Paid:
        return self.paid.setdefault(payment_intent, Paid())

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


def payments_of(
    events: Iterable[tuple[BookingEvent, Envelope, datetime]], *, context: CallContext, stay: Stay | None = None
) -> BookingPayments:
    """Return the rows after one booking's events, which come in order and each with the log's time; pure."""
    restored = BookingPayments()
    for event, envelope, log_time in events:
        restored.apply(event, envelope, log_time, context=context, stay=stay)
    return restored


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
        await cursor.execute("select * from payment_event order by booking_id, log_time, sequence")
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
