"""The rows about one booking at one moment: one query, and so one snapshot of the database."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from topics.kafka.positions import LogPosition

#: How many dead letters are read, of whichever booking they are.
_MAX_DEAD_LETTERS_LOADED: Final = 500


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row, with its columns' names. Times are UTC, amounts in minor units."""


class BookingRow(Row, frozen=True, kw_only=True):
    """The ledger's row of the booking."""

    user_id: int | None
    hotel_id: int
    room_id: int
    check_in: date
    check_out: date
    rooms_count: int
    status: str
    amount_minor: int
    currency: str
    rejection: str | None
    failure: str | None
    cancel_reason: str | None
    payments: list[dict[str, Any]] | None
    pending_change: dict[str, Any] | None
    legs: list[dict[str, Any]] | None
    trip_id: UUID | None
    hold_expires_at: datetime | None
    created_at: datetime


class TimelineRow(Row, frozen=True, kw_only=True):
    """One event, with its position and its command's."""

    sequence: int
    event_id: str
    type: str
    time: datetime
    causation: str | None
    event: dict[str, Any]
    topic: str | None
    partition: int | None
    offset: int | None
    causation_topic: str | None
    causation_partition: int | None
    causation_offset: int | None

    @property
    def position(self) -> LogPosition | None:
        """The event's position; None in a row from before positions were kept."""
        return _position(self.topic, self.partition, self.offset)

    @property
    def causation_position(self) -> LogPosition | None:
        """The position of the event's command; None where the event does not name it."""
        return _position(self.causation_topic, self.causation_partition, self.causation_offset)


class SessionRow(Row, frozen=True, kw_only=True):
    """A Checkout Session. `next_attempt_at`: a call to Stripe is due then."""

    attempt: int
    session_id: str | None
    status: str
    created_at: datetime
    updated_at: datetime
    next_attempt_at: datetime | None
    failures: int


class RefundRow(Row, frozen=True, kw_only=True):
    """A payment of which money must go back. `next_attempt_at`: a call to Stripe is due then.

    `failures` counts the calls without success, `refusals` those that Stripe refused and our refunds that failed.
    """

    payment_intent: str
    refund_id: str | None
    status: str
    created_at: datetime
    updated_at: datetime
    next_attempt_at: datetime | None
    failures: int
    refusals: int


class PaymentRefundRow(Row, frozen=True, kw_only=True):
    """A refund at Stripe. `by_hand`: a person made it there; `failure` is Stripe's word for why it failed."""

    refund_id: str
    payment_intent: str
    status: str
    by_hand: bool
    failure: str | None
    created_at: datetime
    updated_at: datetime


class DisputeRow(Row, frozen=True, kw_only=True):
    """A dispute at Stripe."""

    dispute_id: str
    payment_intent: str
    status: str
    created_at: datetime
    updated_at: datetime


class DocumentRow(Row, frozen=True, kw_only=True):
    """An invoice or a credit note about the booking; `corrects_id` is the invoice that a credit note corrects."""

    id: UUID
    kind: str
    number: int
    reason: str
    amount_minor: int
    currency: str
    corrects_id: UUID | None
    issued_at: datetime


class CodeUseRow(Row, frozen=True, kw_only=True):
    """The use of a promo code by the booking; `code` is its text, `returned`: the booking gave the use back."""

    code_id: int
    code: str
    returned: bool


class CursorRow(Row, frozen=True, kw_only=True):
    """The newest cursor of a consumer in a partition. `applied` -1: nothing yet; `sequence` is the last event's."""

    consumer: str
    topic: str
    partition: int
    applied: int
    sequence: int


class PauseRow(Row, frozen=True, kw_only=True):
    """A role that an operator paused."""

    role: str
    who: str


class DeadLetterRow(Row, frozen=True, kw_only=True):
    """A record that a worker could not read; of any booking."""

    consumer: str
    topic: str
    partition: int
    offset: int
    reason: str
    created_at: datetime

    @property
    def position(self) -> LogPosition:
        """The record's position."""
        return LogPosition(self.topic, self.partition, self.offset)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The rows. `now` is the database's time; `dead_letters` are of any booking, since this one was made."""

    now: datetime
    booking: BookingRow | None
    timeline: tuple[TimelineRow, ...]
    sessions: tuple[SessionRow, ...]
    refunds: tuple[RefundRow, ...]
    payment_refunds: tuple[PaymentRefundRow, ...]
    disputes: tuple[DisputeRow, ...]
    documents: tuple[DocumentRow, ...]
    code_uses: tuple[CodeUseRow, ...]
    cursors: tuple[CursorRow, ...]
    paused: tuple[PauseRow, ...]
    dead_letters: tuple[DeadLetterRow, ...]

    @property
    def room_id(self) -> int | None:
        """The booking's room, None where no table has the booking."""
        if self.booking is not None:
            return self.booking.room_id
        return int(self.timeline[0].event["room_id"]) if self.timeline else None

    def cursor(self, consumer: str, topic: str, partition: int) -> CursorRow | None:
        """Return a consumer's cursor in a partition, None where it has none."""
        key = (consumer, topic, partition)
        return next((each for each in self.cursors if (each.consumer, each.topic, each.partition) == key), None)


_DECODER: Final = msgspec.json.Decoder(Snapshot)

# One statement sees one snapshot, and its one value is decoded at once.
_SELECT: Final = """
select jsonb_build_object(
    'now', now(),
    'booking', (
        select to_jsonb(found) from (
            select user_id, hotel_id, room_id, check_in, check_out, rooms_count, status, amount_minor, currency,
                   rejection, failure, cancel_reason, payments, pending_change, legs, trip_id, hold_expires_at,
                   created_at
            from booking where id = %(booking)s
        ) found
    ),
    'timeline', (
        select coalesce(jsonb_agg(to_jsonb(found) order by found.time, found.partition, found.sequence), '[]') from (
            select sequence, event_id, type, time, causation, event,
                   topic, partition, "offset", causation_topic, causation_partition, causation_offset
            from booking_timeline where booking_id = %(booking)s
        ) found
    ),
    'sessions', (
        select coalesce(jsonb_agg(to_jsonb(found) order by found.attempt), '[]') from (
            select attempt, session_id, status, created_at, updated_at, next_attempt_at, failures
            from checkout_session where booking_id = %(booking)s
        ) found
    ),
    'refunds', (
        select coalesce(jsonb_agg(to_jsonb(found) order by found.created_at, found.payment_intent), '[]') from (
            select payment_intent, refund_id, status, created_at, updated_at, next_attempt_at, failures, refusals
            from refund where booking_id = %(booking)s
        ) found
    ),
    'payment_refunds', (
        select coalesce(jsonb_agg(to_jsonb(found) order by found.created_at, found.refund_id), '[]') from (
            select refund_id, payment_intent, status, by_hand, failure, created_at, updated_at
            from payment_refund where booking_id = %(booking)s
        ) found
    ),
    'disputes', (
        select coalesce(jsonb_agg(to_jsonb(found) order by found.created_at, found.dispute_id), '[]') from (
            select dispute_id, payment_intent, status, created_at, updated_at
            from payment_dispute where booking_id = %(booking)s
        ) found
    ),
    'documents', (
        select coalesce(jsonb_agg(to_jsonb(found) order by found.issued_at, found.number), '[]') from (
            select id, kind, number, reason, amount_minor, currency, corrects_id, issued_at
            from hotel_document where booking_id = %(booking)s
        ) found
    ),
    'code_uses', (
        select coalesce(jsonb_agg(to_jsonb(found) order by found.code_id), '[]') from (
            select used.code_id, code.terms ->> 'code' as code, used.returned
            from promo_code_use used join promo_code code on code.id = used.code_id
            where used.booking_id = %(booking)s
        ) found
    ),
    'cursors', (
        select coalesce(jsonb_agg(to_jsonb(found)), '[]') from (
            select distinct on (consumer, topic, partition) consumer, topic, partition, applied, sequence
            from log_cursor where topic = any(%(topics)s) order by consumer, topic, partition, generation desc
        ) found
    ),
    'paused', (select coalesce(jsonb_agg(jsonb_build_object('role', role, 'who', who)), '[]') from paused_role),
    'dead_letters', (
        select coalesce(jsonb_agg(to_jsonb(found) order by found.created_at), '[]') from (
            select consumer, topic, partition, "offset", reason, created_at
            from dead_letter
            where topic = any(%(topics)s)
              and created_at >= coalesce(%(since)s, (select created_at from booking where id = %(booking)s))
            order by created_at limit %(limit)s
        ) found
    )
)::text
"""


async def load(
    connection: AsyncConnection, booking_id: UUID, topics: Sequence[str], *, since: datetime | None
) -> Snapshot:
    """Read everything; `topics` are names on the broker, and dead letters are read from `since` on (UTC).

    `since` None reads them from the booking's own time on.

    Raises:
        psycopg.Error: the database is away or not migrated.
    """
    parameters = {
        "booking": booking_id,
        "topics": list(topics),
        "since": since,
        "limit": _MAX_DEAD_LETTERS_LOADED,
    }
    row = await (await connection.execute(_SELECT, parameters)).fetchone()
    assert row is not None
    return _DECODER.decode(row[0])


def _position(topic: str | None, partition: int | None, offset: int | None) -> LogPosition | None:
    if topic is None or partition is None or offset is None:
        return None
    return LogPosition(topic, partition, offset)
