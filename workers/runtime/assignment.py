"""Opens partitions that are assigned to this process, before it reads their first record.

It makes the cursor rows that are missing and locks all of them, compares the log with them, and publishes commits that
the worker before had not published. Reads and writes `log_cursor`, `topic_generation` and `outbox`.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from psycopg import AsyncConnection

from storage.cursors import Cursor, CursorKey
from storage.ledger import CursorStatements
from topics.catalogue import Topic
from topics.envelope import Outgoing
from topics.kafka.log_reader import OffsetRange, RecordsMissing
from workers.runtime.log import Log, Reader
from workers.runtime.publisher import Publisher
from workers.runtime.records import fingerprint
from workers.runtime.role import Record, Role, Stopped

_MAX_ANSWER_SECONDS: Final = 10

log = logging.getLogger(__name__)


class Assignment:
    """Opens the cursors of a role's consumers."""

    def __init__(
        self, role: Role, topics: Mapping[str, Topic], log: Log, cursors: CursorStatements, publisher: Publisher
    ) -> None:
        """`topics` are those that the role reads, by name on the broker."""
        self._role = role
        self._topics = topics
        self._log = log
        self._cursors = cursors
        self._publisher = publisher
        self._generations: dict[str, int] = {}

    def keys(self, partitions: Iterable[TopicPartition]) -> list[CursorKey]:
        """Return the cursors of some partitions: one for each consumer that reads the topic."""
        return [
            CursorKey(consumer.name, topic, number, self._generations[topic])
            for topic, number in partitions
            for consumer in self._role.consumers
            if self._topics[topic] in consumer.topics
        ]

    def forget_generations(self) -> None:
        """Ask the broker again whether a topic was replaced under the same name."""
        self._generations.clear()

    async def open(self, connection: AsyncConnection, partitions: Sequence[TopicPartition]) -> dict[CursorKey, Cursor]:
        """Return the cursors of newly assigned partitions, once all that followed from applied records is published.

        Raises:
            Stopped: the log was cut or replaced under a cursor.
        """
        await self._learn_generations(connection)
        async with self._log.open_reader() as reader:
            locked, unpublished = await self._lock(connection, reader, partitions)
            # The ranges are read again: while we waited for the rows, the worker before may have applied records that
            # were written after the first time.
            await _check_log(reader, await _ranges(reader, partitions), locked.values())
        await self._publisher.publish(unpublished)
        if unpublished:
            log.info("published %d records that the worker before had committed", len(unpublished))
        async with connection.transaction(), connection.pipeline():
            for key, cursor in locked.items():
                await self._cursors.mark_published(connection, key, cursor.applied)
        return locked

    async def _lock(
        self, connection: AsyncConnection, reader: Reader, partitions: Sequence[TopicPartition]
    ) -> tuple[dict[CursorKey, Cursor], list[Outgoing]]:
        """Make missing cursors and lock all; return them, and their outgoing records that are not published yet."""
        starts = await _ranges(reader, partitions)
        keys = self.keys(partitions)
        unpublished: list[Outgoing] = []
        async with connection.transaction():
            async with connection.pipeline():
                for key in keys:
                    await self._cursors.create(connection, key, starts[TopicPartition(key.topic, key.partition)].first)
            locked = await self._cursors.lock(connection, keys)
            for key in locked:
                unpublished += await self._cursors.unpublished(connection, key)
        return locked, unpublished

    async def _learn_generations(self, connection: AsyncConnection) -> None:
        missing = [topic for topic in self._topics if topic not in self._generations]
        if missing:
            for topic, broker_id in (await self._log.topic_ids(missing)).items():
                self._generations[topic] = await self._cursors.generation(connection, topic, broker_id)


async def _check_log(reader: Reader, ranges: Mapping[TopicPartition, OffsetRange], locked: Iterable[Cursor]) -> None:
    """Refuse a log that was cut or replaced under a cursor."""
    compare: dict[TopicPartition, Cursor] = {}
    for cursor in locked:
        partition = TopicPartition(cursor.key.topic, cursor.key.partition)
        first, end = ranges[partition]
        if first > cursor.applied + 1 or end < cursor.applied + 1:
            raise Stopped(_not_this_log(cursor, f"the log now goes from {first} to {end - 1}"))
        if cursor.last_hash is not None and first <= cursor.applied:
            compare[partition] = cursor
    found = await _records(reader, {partition: cursor.applied for partition, cursor in compare.items()})
    for partition, record in found.items():
        if fingerprint(record) != compare[partition].last_hash:
            raise Stopped(_not_this_log(compare[partition], "another record is there now"))


async def _ranges(reader: Reader, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetRange]:
    async with asyncio.timeout(_MAX_ANSWER_SECONDS):
        return await reader.ranges(partitions)


async def _records(reader: Reader, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Record]:
    """Return the record at each offset, as far as it still exists.

    Raises:
        OffsetOutOfRangeError: the log was cut this moment; a retry reads its ranges again.
    """
    try:
        async with asyncio.timeout(_MAX_ANSWER_SECONDS):
            found = await reader.first_records(offsets.items())
    except RecordsMissing as error:
        raise OffsetOutOfRangeError(str(error)) from error
    return {partition: record for (partition, offset), record in found.items() if record.offset == offset}


def _not_this_log(cursor: Cursor, found: str) -> str:
    key = cursor.key
    return (
        f"{key.consumer} has applied {key.topic}[{key.partition}] up to offset {cursor.applied}, but {found}:"
        " the log was cut or replaced under the cursor. If this is the log to continue with, start a new generation:"
        f" innkeeper new-generation {key.topic}"
    )
