"""A log of events for projections, as a worker receives it: by partition, with sequences, in any batches."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from storage.cursors import Cursor, CursorKey
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_EVENTS
from topics.envelope import Envelope, encode_headers, encode_value
from topics.kafka.settings import KafkaSettings
from topics.messages.events import (
    BookingEvent,
    BookingReserved,
    ChangeEnded,
    ChangeHeld,
    Event,
    InventoryChanged,
    InventoryOpened,
    RoomsHeld,
    StayBefore,
    StayChanged,
    night_ranges,
)
from topics.messages.values import ChangeEnd, nights_of
from workers.projections import build
from workers.runtime.role import Consumer, PartitionBatch, Received

FIRST = date(2027, 2, 26)
T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)
# The hotel of each room; rooms of one hotel are in different partitions.
HOTEL_OF = {1: 10, 2: 10, 3: 10, 4: 20}
PARTITIONS = 3

Log = dict[int, list[Received]]


@dataclass
class LogRecord:
    """A record as the Kafka client hands it over."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def night(days: int) -> date:
    return FIRST + timedelta(days=days)


def opened(room_id: int, first: int, end: int, price_minor: int, total_count: int = 5) -> InventoryOpened:
    return InventoryOpened(
        room_id=room_id,
        hotel_id=HOTEL_OF[room_id],
        first_night=night(first),
        end_night=night(end),
        total_count=total_count,
        price_minor=price_minor,
        currency="EUR",
    )


def changed(room_id: int, days: Sequence[int], **values: Any) -> InventoryChanged:
    return InventoryChanged(room_id=room_id, ranges=night_ranges(night(day) for day in days), **values)


def reserved(number: int, room_id: int, first: int, end: int, rooms_count: int = 1, **terms: Any) -> BookingReserved:
    return BookingReserved(
        room_id=room_id,
        booking_id=UUID(int=number),
        user_id=7,
        hotel_id=HOTEL_OF[room_id],
        check_in=night(first),
        check_out=night(end),
        rooms_count=rooms_count,
        amount_minor=1,
        currency="EUR",
        **terms,
    )


def stay_of(event: BookingReserved | StayChanged) -> StayBefore:
    """Return the stay as the event leaves it."""
    return StayBefore(
        check_in=event.check_in,
        check_out=event.check_out,
        rooms_count=event.rooms_count,
        amount_minor=event.amount_minor,
        night_amounts_minor=event.night_amounts_minor,
    )


def stay_changed(
    before: BookingReserved | StayChanged, number: int, first: int, end: int, rooms_count: int = 1, **values: Any
) -> StayChanged:
    """Return change `number` of a stay; `values` may name what it held, its price and its payment."""
    given: dict[str, Any] = {"amount_minor": 1, "currency": "EUR", "night_amounts_minor": (), **values}
    return StayChanged(
        room_id=before.room_id,
        booking_id=before.booking_id,
        change_id=UUID(int=number),
        check_in=night(first),
        check_out=night(end),
        rooms_count=rooms_count,
        before=stay_of(before),
        **given,
    )


def change_held(changed: StayChanged, extra_minor: int = 1) -> ChangeHeld:
    """Return the hold that leads to a change."""
    return ChangeHeld(
        room_id=changed.room_id,
        booking_id=changed.booking_id,
        change_id=changed.change_id,
        check_in=changed.check_in,
        check_out=changed.check_out,
        rooms_count=changed.rooms_count,
        amount_minor=changed.amount_minor,
        extra_minor=extra_minor,
        currency=changed.currency,
        hold_expires_at=T0 + timedelta(days=1),
        night_amounts_minor=changed.night_amounts_minor,
        held=changed.held,
    )


def change_ended(held: ChangeHeld, reason: ChangeEnd = ChangeEnd.EXPIRED) -> ChangeEnded:
    return ChangeEnded(
        room_id=held.room_id, booking_id=held.booking_id, change_id=held.change_id, reason=reason, held=held.held
    )


def rooms_held(before: StayBefore, first: date, end: date, rooms_count: int) -> tuple[RoomsHeld, ...]:
    """Return the rooms that a change of a stay needs beside its own, a range for each night."""
    own = dict.fromkeys(nights_of(before.check_in, before.check_out), before.rooms_count)
    return tuple(
        RoomsHeld(first_night=day, end_night=day + timedelta(days=1), rooms_count=rooms_count - own.get(day, 0))
        for day in nights_of(first, end)
        if rooms_count > own.get(day, 0)
    )


def on_the_log(events: Sequence[Event]) -> Log:
    """Return the batches of the runtime: by partition, in order, with sequences."""
    log: Log = defaultdict(list)
    for number, event in enumerate(events):
        partition = event.key % PARTITIONS
        sequence = len(log[partition]) + 1
        time = T0 + timedelta(seconds=number)
        subject = str(event.booking_id) if isinstance(event, BookingEvent) else event.subject
        envelope = Envelope(
            id=f"command-{number}:0",
            type=event.message_type,
            source="innkeeper/reservations",
            subject=subject,
            time=time,
            causation=f"command-{number}",
            sequence=sequence,
        )
        record = LogRecord(
            BOOKING_EVENTS.name,
            partition,
            sequence - 1,
            int(time.timestamp() * 1000),
            b"%d" % event.key,
            encode_value(event),
            encode_headers(envelope),
        )
        log[partition].append(Received(envelope, event, record, time))
    return log


def in_one_batch(events: Sequence[Event]) -> list[Log]:
    return [on_the_log(events)]


def cut(log: Log, sizes: Sequence[int]) -> list[Log]:
    """Cut every partition into pieces of these sizes, in turn; the pieces of one turn are a batch."""
    waiting = {partition: list(received) for partition, received in log.items()}
    batches = []
    turn = 0
    while any(waiting.values()):
        batch = {}
        for partition, received in waiting.items():
            size = sizes[turn % len(sizes)]
            turn += 1
            if received:
                batch[partition] = received[:size]
                waiting[partition] = received[size:]
        batches.append(batch)
    return batches


def consumers() -> dict[str, Consumer]:
    """Return the role's consumers by name, in the order in which they are called."""
    role = build(KafkaSettings(_env_file=None), DatabaseSettings(_env_file=None))
    return {consumer.name: consumer for consumer in role.consumers}


def partition_batch(consumer: Consumer, partition: int, received: list[Received]) -> PartitionBatch:
    key = CursorKey(consumer.name, BOOKING_EVENTS.name, partition, 1)
    return PartitionBatch(BOOKING_EVENTS, partition, Cursor(key, -1, -1, 0, None, None), received)


async def apply(database: DatabaseSettings, batches: Sequence[Log]) -> None:
    """Apply every batch by all consumers, each in a transaction of its own; the ledger is ahead of the log."""
    async with await AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        for batch in batches:
            await write_ledger(connection, batch)
        for batch in batches:
            async with connection.transaction():
                for consumer in consumers().values():
                    batches_of_it = [partition_batch(consumer, number, received) for number, received in batch.items()]
                    assert all(not outgoing for outgoing in await consumer.handle(connection, batches_of_it))


async def write_ledger(connection: AsyncConnection, batch: Log) -> None:
    """Write the stays of the batch as the ledger has them."""
    for received in itertools.chain(*batch.values()):
        event = received.message
        if isinstance(event, StayChanged):
            await write_change(connection, event)
        if isinstance(event, BookingReserved):
            await connection.execute(
                """
                insert into booking (id, user_id, hotel_id, room_id, check_in, check_out, rooms_count, status, terms,
                                     amount_minor, currency, night_amounts_minor, trip_id, trip_room_id, version,
                                     created_at, updated_at)
                values (%s, %s, %s, %s, %s, %s, %s, 'RESERVED', %s, %s, %s, %s, %s, %s, 1, now(), now())
                on conflict do nothing
                """,
                (
                    event.booking_id,
                    event.user_id,
                    event.hotel_id,
                    event.room_id,
                    event.check_in,
                    event.check_out,
                    event.rooms_count,
                    event.terms,
                    event.amount_minor,
                    event.currency,
                    list(event.night_amounts_minor) or None,
                    event.trip_id,
                    event.trip_room_id,
                ),
            )


async def write_change(connection: AsyncConnection, event: StayChanged) -> None:
    """Write a change into the ledger, unless it has it already; a leg in another room has the stay from then on."""
    earlier = {"change_id": str(event.change_id), "stay": msgspec.to_builtins(event.before)}
    changed = {"change_id": str(event.change_id)}
    leg = {
        "booking_id": str(event.change_id),
        "room_id": event.to_room_id,
        "rooms_count": event.rooms_count,
        "state": "held",
        "amount_minor": event.amount_minor,
    }
    has_moved = event.to_room_id is not None
    await connection.execute(
        """
        update booking set check_in = %s, check_out = %s, rooms_count = %s, amount_minor = %s, night_amounts_minor = %s,
                           earlier_stays = coalesce(earlier_stays, '[]') || %s, legs = %s
        where id = %s and not coalesce(earlier_stays, '[]') @> %s
        """,
        (
            event.check_in,
            event.check_out,
            0 if has_moved else event.rooms_count,
            event.amount_minor,
            list(event.night_amounts_minor) or None,
            Jsonb([earlier]),
            Jsonb([leg]) if has_moved else None,
            event.booking_id,
            Jsonb([changed]),
        ),
    )


async def rows(database: DatabaseSettings, query: str) -> list[tuple[Any, ...]]:
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        return await (await connection.execute(query.encode())).fetchall()
