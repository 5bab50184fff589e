"""The rows about the money of one booking at one moment: one query, and so one snapshot of the database."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from pricing.movements import Movement, Movements
from topics.envelope import decode_value
from topics.messages.events import (
    BookingCancelled,
    BookingEvent,
    ChangeRejected,
    CommandRefused,
    CommandRepeated,
    DisputeOpened,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    RefundClosed,
    RefundFailed,
)
from topics.messages.values import RefundReason
from workers.decisions.state import Payment, with_sums

_UNCOUNTED: Final = frozenset({CommandRefused.message_type, CommandRepeated.message_type, ChangeRejected.message_type})


class MovementRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A movement with its event.

    `reason` is why a refund failed or was closed, why a payment is disputed, or how a stay ended whose money is kept.
    """

    sequence: int
    event_id: str
    time: datetime
    movement: Movement
    reason: str | None


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `booking_timeline`."""

    sequence: int
    event_id: str
    type: str
    time: datetime
    event: msgspec.Raw


class BookingRow(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger's row. `version` counts the booking's events, but for answers that change nothing."""

    status: str
    currency: str
    version: int
    payments: tuple[Payment, ...] | None


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `checkout_session` whose payment is known."""

    session_id: str | None
    payment_intent: str


class RefundRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `refund`: `refund_id` is the newest refund at Stripe that we made."""

    payment_intent: str
    refund_id: str | None
    status: str


class ObjectRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `payment_refund` or `payment_dispute`."""

    id: str
    payment_intent: str
    amount_minor: int
    status: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The rows; `booking` is None if the ledger does not have it."""

    booking: BookingRow | None
    timeline: tuple[EventRow, ...]
    sessions: tuple[SessionRow, ...]
    refunds: tuple[RefundRow, ...]
    refund_objects: tuple[ObjectRow, ...]
    disputes: tuple[ObjectRow, ...]

    @property
    def payments(self) -> dict[str, Payment]:
        """The payments of the ledger by payment intent; one of 0.1.0 with the sums that it implies."""
        found = (self.booking and self.booking.payments) or ()
        return {payment.payment_intent: with_sums(payment) for payment in found}

    @property
    def events_missing(self) -> int:
        """How many events of the ledger's booking are not in the timeline yet."""
        counted = sum(row.type not in _UNCOUNTED for row in self.timeline)
        return 0 if self.booking is None else max(0, self.booking.version - counted)

    def movements(self) -> Iterator[MovementRecord]:
        """Yield the movements of the timeline, in the order of the log's time."""
        movements = Movements()
        for row in self.timeline:
            event = decode_value(row.type, bytes(row.event))
            assert isinstance(event, BookingEvent), "the timeline has events of bookings alone"
            movement = movements.of(event)
            if movement is not None:
                yield MovementRecord(
                    sequence=row.sequence,
                    event_id=row.event_id,
                    time=row.time,
                    movement=movement,
                    reason=_reason(event),
                )


def _reason(event: BookingEvent) -> str | None:
    match event:
        case RefundFailed(failure=reason) | RefundClosed(reason=reason) | DisputeOpened(reason=reason):
            return str(reason)
        case BookingCancelled():
            return str(RefundReason.BOOKING_CANCELLED)
        case GuestsCheckedOut():
            return str(RefundReason.EARLY_DEPARTURE)
        case GuestsDidNotArrive():
            return str(RefundReason.NO_SHOW)
        case _:
            return None


# One statement sees one snapshot, and its one value is decoded at once.
_SELECT: Final = """
select jsonb_build_object(
    'booking', (
        select to_jsonb(found) from (
            select status, currency, version, payments from booking where id = %(id)s
        ) found
    ),
    'timeline', (
        select coalesce(jsonb_agg(to_jsonb(found) order by found.time, found.partition, found.sequence), '[]') from (
            select partition, sequence, event_id, type, time, event from booking_timeline where booking_id = %(id)s
        ) found
    ),
    'sessions', (
        select coalesce(jsonb_agg(to_jsonb(found) order by found.attempt), '[]') from (
            select attempt, session_id, payment_intent from checkout_session
            where booking_id = %(id)s and payment_intent is not null
        ) found
    ),
    'refunds', (
        select coalesce(jsonb_agg(to_jsonb(found) order by found.payment_intent), '[]') from (
            select payment_intent, refund_id, status from refund where booking_id = %(id)s
        ) found
    ),
    'refund_objects', (
        select coalesce(jsonb_agg(to_jsonb(found) order by found.created_at, found.id), '[]') from (
            select refund_id as id, payment_intent, amount_minor, status, created_at
            from payment_refund where booking_id = %(id)s
        ) found
    ),
    'disputes', (
        select coalesce(jsonb_agg(to_jsonb(found) order by found.created_at, found.id), '[]') from (
            select dispute_id as id, payment_intent, amount_minor, status, created_at
            from payment_dispute where booking_id = %(id)s
        ) found
    )
)::text
"""
_DECODER: Final = msgspec.json.Decoder(Snapshot)


async def load(connection: AsyncConnection[Any], booking_id: UUID) -> Snapshot:
    """Read everything. Raises psycopg.Error."""
    row = await (await connection.execute(_SELECT, {"id": booking_id})).fetchone()
    assert row is not None
    return _DECODER.decode(row[0])
