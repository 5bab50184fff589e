"""Puts a booking's explanation together: the tables lead to its records, the records to their causes."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import psycopg
from aiokafka import TopicPartition
from aiokafka.partitioner import DefaultPartitioner

from operators.explain.awaiting import awaited
from operators.explain.life import Kind, Life, Request, Stay, StripeObject
from operators.explain.log import open_booking_log
from operators.explain.search import Search, enveloped
from operators.explain.steps import fields_of, steps_of
from operators.explain.told import Row, Told, tell
from storage.settings import CONNECT_SECONDS, DatabaseSettings
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS
from topics.envelope import Envelope
from topics.kafka import admin
from topics.kafka.settings import KafkaSettings
from topics.messages.values import BookingStatus

#: RFC 9562's version of the ids that an ingress makes.
_TIME_IN_IDS: Final = 8


class NoSuchBooking(Exception):
    """No table and no record of the log knows the booking."""


async def explain(kafka: KafkaSettings, database: DatabaseSettings, booking_id: UUID) -> Life:
    """Return the booking's life.

    Raises:
        NoSuchBooking: nothing knows it.
        psycopg.Error: the database is away or not migrated.
        aiokafka.errors.KafkaError: the broker is away.
        topics.kafka.admin.TopicsFailed: our topics are not on the broker.
    """
    names = [kafka.topic(topic) for topic in (BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS)]
    counts = await admin.partition_counts(kafka, names)
    if missing := set(names) - counts.keys():
        raise admin.TopicsFailed(f"No topic by the name of {', '.join(sorted(missing))}.")
    rooms = _Rooms(counts[names[0]])
    places = [TopicPartition(name, number) for number in range(rooms.count) for name in names]
    # The log is measured before the tables are read: what came later, they know nothing of.
    async with open_booking_log(kafka, places, booking_id) as log:
        async with await psycopg.AsyncConnection.connect(
            database.conninfo(), connect_timeout=CONNECT_SECONDS, autocommit=True, application_name="innkeeper-explain"
        ) as connection:
            told = await tell(connection, booking_id, names, since=made_at(booking_id), partition_of=rooms.partition)
        room_id = told.room_id
        numbers = range(rooms.count) if room_id is None else [rooms.partition(room_id)]
        search = Search(kafka, log, told, made_at(booking_id))
        await search.begin()
        await (search.undecided(numbers) if room_id is None else search.whole_life(numbers[0]))
        return _life(booking_id, told, search)


def made_at(booking_id: UUID) -> datetime | None:
    """Return when an ingress made the id (UTC); None for an id that was made otherwise and holds no time."""
    if booking_id.version != _TIME_IN_IDS:
        return None
    return datetime.fromtimestamp((booking_id.int >> 80) / 1000, UTC)


class _Rooms:
    """Which partition a room's records are in: the same of each topic."""

    def __init__(self, count: int) -> None:
        self.count = count

    def partition(self, room_id: int) -> int:
        every = list(range(self.count))
        return int(DefaultPartitioner()(b"%d" % room_id, every, every))


def _life(booking_id: UUID, told: Told, search: Search) -> Life:
    commands = list(enveloped(search.log.found(search.commands)))
    if not (told.booking or told.timeline or commands or search.letters):
        raise NoSuchBooking(f"No booking {booking_id}: neither the ledger nor the log knows it.")
    request = _request(booking_id, told, commands)
    steps = steps_of(told, search, request)
    gone = [step for step in steps if step.kind is Kind.COMMAND and step.place is None]
    if gone:
        search.notes.append(f"commands that are no longer on the log, which keeps them for 7 days: {len(gone)}")
    return Life(
        booking_id=booking_id,
        status=BookingStatus.PENDING if told.booking is None else told.booking["status"],
        request=request,
        stay=None if told.booking is None else _stay(told.booking),
        steps=steps,
        stripe=(*map(_session, told.sessions), *_payments(told), *map(_refund, told.refunds)),
        awaited=awaited(told, steps, search.behind),
        notes=tuple(dict.fromkeys(search.notes)),
    )


def _request(booking_id: UUID, told: Told, commands: Sequence[tuple[Envelope, Any]]) -> Request:
    first, record = commands[0] if commands else (None, None)
    user_id = told.booking["user_id"] if told.booking is not None else fields_of(record).get("user_id")
    trace = None if first is None or first.traceparent is None else first.traceparent.split("-")[1]
    return Request(
        made_at=made_at(booking_id),
        user_id=user_id,
        source=None if first is None else first.source,
        correlation=None if first is None else first.correlation,
        trace=trace,
    )


def _stay(row: Row) -> Stay:
    return Stay(
        **{name: row[name] for name in ("hotel_id", "room_id", "check_in", "check_out", "rooms_count")},
        **{name: row[name] for name in ("amount_minor", "currency", "hold_expires_at")},
        reason=row["rejection"] or row["cancel_reason"] or row["failure"],
    )


def _session(row: Row) -> StripeObject:
    return StripeObject(
        kind="Checkout Session",
        id=row["session_id"],
        status=row["status"],
        attempt=row["attempt"],
        payment_intent=None,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        owed_at=row["next_attempt_at"],
        failures=row["failures"],
    )


def _payments(told: Told) -> Iterator[StripeObject]:
    """Yield the money that arrived, as the room's owner keeps it with the booking."""
    for payment in (told.booking or {}).get("payments") or ():
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


def _refund(row: Row) -> StripeObject:
    return StripeObject(
        kind="Refund",
        id=row["refund_id"],
        status=row["status"],
        attempt=None,
        payment_intent=row["payment_intent"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        owed_at=row["next_attempt_at"],
        failures=row["failures"],
    )
