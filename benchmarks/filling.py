"""Fills a log with records of other bookings: a search for one booking must not read all of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from psycopg import AsyncConnection

from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, Topic
from topics.envelope import Envelope, Headers, command_record, encode_headers, encode_value
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ReserveStay
from topics.messages.events import BookingReserved

FILLING_SOURCE: Final = "innkeeper/filling"
_RECORDS_A_BATCH: Final = 500


class Filling:
    """Writes stays and their events into the only partition of each topic, with ids and sequences as real ones have.

    No worker may run: these commands are never decided, and the cursors are moved beyond them.
    """

    def __init__(
        self, kafka: KafkaSettings, producer: AIOKafkaProducer, connection: AsyncConnection[Any], others: ReserveStay
    ) -> None:
        self._kafka = kafka
        self._producer = producer
        self._connection = connection
        self._others = others
        self._reserved = encode_value(
            BookingReserved(
                **{name: getattr(others, name) for name in ("room_id", "booking_id", "hotel_id", "rooms_count")},
                check_in=others.check_in,
                check_out=others.check_out,
                amount_minor=20_000,
                currency="EUR",
            )
        )

    async def write(self, count: int) -> None:
        """Append `count` commands and as many events, and move all cursors beyond them."""
        found = await self._connection.execute("select max(sequence) from log_cursor where consumer = 'reservations'")
        [sequence] = await found.fetchone() or (0,)
        commands = await self._write(BOOKING_COMMANDS, self._command, int(sequence), count)
        events = await self._write(BOOKING_EVENTS, self._event, int(sequence), count)
        for topic, last in ((BOOKING_COMMANDS, commands), (BOOKING_EVENTS, events)):
            await self._connection.execute(
                "update log_cursor set applied = %s, published = %s, sequence = sequence + %s, last_hash = null"
                " where topic = %s",
                (last, last, count, self._kafka.topic(topic)),
            )

    async def _write(
        self, topic: Topic, record: Callable[[int], tuple[bytes, Headers]], sequence: int, count: int
    ) -> int:
        """Append `count` records, numbered from `sequence` + 1 on; return the last one's offset."""
        name, key, end = self._kafka.topic(topic), b"%d" % self._others.room_id, sequence + count + 1
        sent = []
        for first in range(sequence + 1, end, _RECORDS_A_BATCH):
            batch = self._producer.create_batch()
            for number in range(first, min(first + _RECORDS_A_BATCH, end)):
                value, headers = record(number)
                assert batch.append(key=key, value=value, timestamp=None, headers=headers) is not None
            batch.close()
            sent.append((batch.record_count(), await self._producer.send_batch(batch, name, partition=0)))
        *_, (size, last) = sent
        await asyncio.gather(*(written for _, written in sent))
        offset: int = (await last).offset + size - 1
        return offset

    def _command(self, _: int) -> tuple[bytes, Headers]:
        record = command_record("", self._others, id=uuid4().hex, source=FILLING_SOURCE, time=datetime.now(UTC))
        return record.value, record.headers

    def _event(self, sequence: int) -> tuple[bytes, Headers]:
        envelope = Envelope(
            id=f"others:{sequence}",
            type=BookingReserved.message_type,
            source=FILLING_SOURCE,
            subject=str(self._others.booking_id),
            time=datetime.now(UTC),
            causation="others",
            sequence=sequence,
        )
        return self._reserved, encode_headers(envelope)


@asynccontextmanager
async def filling(kafka: KafkaSettings, database: DatabaseSettings, others: ReserveStay) -> AsyncIterator[Filling]:
    """Open a `Filling` that writes stays like `others`."""
    producer = AIOKafkaProducer(**kafka.client_options(), max_batch_size=2**20, linger_ms=0)
    async with await AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        await producer.start()
        try:
            yield Filling(kafka, producer, connection, others)
        finally:
            await producer.stop()
