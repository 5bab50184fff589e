"""Puts a booking's explanation together: one query reads the tables, and positions lead to the records."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from msgspec.structs import asdict
from psycopg import AsyncConnection

from operators.explain.awaiting import awaited
from operators.explain.history import BookingHistory, CodeUse, Document, Leg, Request, Stay, StripeObject
from operators.explain.records import envelope_of, open_records
from operators.explain.search import MAX_CLOCK_SKEW, Search, Topics
from operators.explain.snapshot import (
    BookingRow,
    DisputeRow,
    PaymentRefundRow,
    RefundRow,
    SessionRow,
    Snapshot,
    load,
)
from operators.explain.steps import fields_of, steps_of
from storage.database import connect
from storage.settings import DatabaseSettings
from telemetry import traces
from topics.kafka.records import time_of
from topics.kafka.settings import KafkaSettings
from topics.messages.values import BookingStatus, LegState

#: RFC 9562's version of the ids that an ingress makes.
_TIME_IN_IDS: Final = 8
#: The highest bit of a time in milliseconds; an id that follows from an Idempotency-Key has it, and no time.
_NO_TIME: Final = 1 << 47


class NoSuchBooking(Exception):
    """No table and no record of the log has the booking."""


async def explain(kafka: KafkaSettings, database: DatabaseSettings, booking_id: UUID) -> BookingHistory:
    """Return the booking's history.

    Raises:
        NoSuchBooking: neither a table nor the log has it.
        psycopg.Error: the database is away or not migrated.
        aiokafka.errors.KafkaError: the broker is away.
        topics.kafka.admin.TopicsFailed: our topics are not on the broker.
    """
    topics = Topics.of(kafka)
    async with _connecting(database) as connecting, open_records(kafka, topics, booking_id) as records:
        # The log is measured before the tables are read: the tables know nothing of records that came later.
        async with await connecting as connection:
            made = made_at(booking_id)
            snapshot = await load(connection, booking_id, topics, since=None if made is None else made - MAX_CLOCK_SKEW)
        search = Search(topics, records, snapshot)
        await search.find(made)
        return _history(booking_id, search)


@asynccontextmanager
async def _connecting(database: DatabaseSettings) -> AsyncIterator[asyncio.Task[AsyncConnection]]:
    """Connect to the database while the block does other things first; no connection is left open."""
    connecting = asyncio.create_task(connect(database, "innkeeper explain"))
    try:
        yield connecting
    finally:
        connecting.cancel()
        await asyncio.wait([connecting])
        if not connecting.cancelled() and connecting.exception() is None:
            await connecting.result().close()


def made_at(booking_id: UUID) -> datetime | None:
    """Return when an ingress made the id (UTC); None for an id that holds no time.

    An id that was made otherwise holds none, and neither does that of a request with an Idempotency-Key.
    """
    milliseconds = booking_id.int >> 80
    if booking_id.version != _TIME_IN_IDS or milliseconds & _NO_TIME:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _history(booking_id: UUID, search: Search) -> BookingHistory:
    snapshot = search.snapshot
    request = _request(booking_id, search)
    if not (snapshot.booking or snapshot.timeline or request.source or search.dead_letters):
        raise NoSuchBooking(f"No booking {booking_id}: neither the ledger nor the log knows it.")
    steps = steps_of(search, request)
    return BookingHistory(
        booking_id=booking_id,
        status=BookingStatus.PENDING if snapshot.booking is None else snapshot.booking.status,
        request=request,
        stay=None if snapshot.booking is None else _stay(snapshot.booking),
        steps=steps,
        stripe=(
            *map(_session, snapshot.sessions),
            *_payments(snapshot),
            *map(_refund_made, snapshot.payment_refunds),
            *_refunds(snapshot),
            *map(_dispute, snapshot.disputes),
        ),
        awaited=awaited(snapshot, steps, search.behind),
        notes=tuple(dict.fromkeys(search.notes)),
        documents=tuple(Document(**asdict(row)) for row in snapshot.documents),
        code_uses=tuple(CodeUse(**asdict(row)) for row in snapshot.code_uses),
    )


def _request(booking_id: UUID, search: Search) -> Request:
    """Return the request, as far as the first command's envelope describes it."""
    # The commands are in the order of their partitions, and one about a promo code has a partition of its own.
    found = ((envelope_of(each), each) for each in sorted(search.records.of(search.topics.commands), key=time_of))
    first, record = next(((envelope, record) for envelope, record in found if envelope is not None), (None, None))
    booking = search.snapshot.booking
    user_id: int | None = booking.user_id if booking is not None else fields_of(record).get("user_id")
    if first is None:
        return Request(made_at=made_at(booking_id), user_id=user_id, source=None, correlation=None, trace=None)
    traceparent = traces.well_formed(first.traceparent)
    return Request(
        made_at=made_at(booking_id),
        user_id=user_id,
        source=first.source,
        correlation=first.correlation,
        trace=None if traceparent is None else traceparent.split("-")[1],
        actor=first.actor,
        request_id=first.request_id,
    )


def _stay(row: BookingRow) -> Stay:
    return Stay(
        hotel_id=row.hotel_id,
        room_id=row.room_id,
        check_in=row.check_in,
        check_out=row.check_out,
        rooms_count=row.rooms_count,
        amount_minor=row.amount_minor,
        currency=row.currency,
        hold_expires_at=row.hold_expires_at,
        reason=row.rejection or row.cancel_reason or row.failure,
        legs=tuple(map(_leg, row.legs or ())),
        trip_id=row.trip_id,
    )


def _leg(leg: dict[str, Any]) -> Leg:
    return Leg(
        booking_id=UUID(leg["booking_id"]), room_id=leg["room_id"], state=leg.get("state", LegState.REQUESTED.value)
    )


def _session(row: SessionRow) -> StripeObject:
    return StripeObject(
        kind="Checkout Session",
        id=row.session_id,
        status=row.status,
        attempt=row.attempt,
        payment_intent=None,
        created_at=row.created_at,
        updated_at=row.updated_at,
        owed_at=row.next_attempt_at,
        failures=row.failures,
    )


def _payments(snapshot: Snapshot) -> Iterator[StripeObject]:
    """Yield the payments that arrived, as the ledger keeps them with the booking."""
    payments: list[dict[str, Any]] = (snapshot.booking and snapshot.booking.payments) or []
    for payment in payments:
        yield StripeObject(
            kind="Payment Intent",
            id=payment["payment_intent"],
            status=payment["state"],
            attempt=None,
            payment_intent=None,
            created_at=None,
            updated_at=None,
            owed_at=None,
            failures=0,
        )


def _refund_made(row: PaymentRefundRow) -> StripeObject:
    return StripeObject(
        kind="Refund by hand" if row.by_hand else "Refund",
        id=row.refund_id,
        status=row.status,
        attempt=None,
        payment_intent=row.payment_intent,
        created_at=row.created_at,
        updated_at=row.updated_at,
        owed_at=None,
        failures=0,
    )


#: The kind of a payment of which money must go back and that no refund at Stripe shows, by its status.
_REFUND_KINDS: Final = {"creating": "Refund due", "failed": "Refund due", "closed": "Refund closed"}


def _refunds(snapshot: Snapshot) -> Iterator[StripeObject]:
    """Yield the payments of which money must go back, but for those whose refund at Stripe is shown already."""
    shown = {row.refund_id for row in snapshot.payment_refunds}
    for row in snapshot.refunds:
        kind = _REFUND_KINDS.get(row.status, "Refund")
        if kind != "Refund" or row.refund_id not in shown:
            yield _refund(row, kind)


def _refund(row: RefundRow, kind: str) -> StripeObject:
    return StripeObject(
        kind=kind,
        id=row.refund_id if kind == "Refund" else None,
        status=row.status,
        attempt=None,
        payment_intent=row.payment_intent,
        created_at=row.created_at,
        updated_at=row.updated_at,
        owed_at=row.next_attempt_at,
        failures=row.failures,
    )


def _dispute(row: DisputeRow) -> StripeObject:
    return StripeObject(
        kind="Dispute",
        id=row.dispute_id,
        status=row.status,
        attempt=None,
        payment_intent=row.payment_intent,
        created_at=row.created_at,
        updated_at=row.updated_at,
        owed_at=None,
        failures=0,
    )
