"""Opens partitions that are assigned to this process, before it reads their first record.

The cursor rows are made if they are missing, and locked. The log is compared with them. Commits of the
worker before that it did not publish are published. Reads and writes `log_cursor`, `topic_generation` and `outbox`.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

from aiokafka import TopicPartition
from psycopg import AsyncConnection

from storage import cursors
from storage.cursors import Cursor, CursorKey
from topics.catalogue import Topic
from topics.envelope import Outgoing
from workers.runtime.log_source import Bounds, LogSource
from workers.runtime.publisher import Publisher
from workers.runtime.records import fingerprint
from workers.runtime.role import Role, Stopped

log = logging.getLogger(__name__)


class Assignment:
    """The cursors of a role's consumers: their keys, and how each of them begins."""

    def __init__(self, role: Role, topics: Mapping[str, Topic], source: LogSource, publisher: Publisher) -> None:
        """`topics` are those that the role reads, by name on the broker."""
        self._role = role
        self._topics = topics
        self._source = source
        self._publisher = publisher
        self._generations: dict[str, int] = {}

    def keys(self, partitions: Iterable[TopicPartition]) -> list[CursorKey]:
        """Return the cursors of some partitions: one for each consumer that reads the topic."""
        return [
            CursorKey(consumer.name, topic, partition, self._generations[topic])
            for topic, partition in partitions
            for consumer in self._role.consumers
            if self._topics[topic] in consumer.topics
        ]

    def forget_generations(self) -> None:
        """Look anew whether a topic was replaced under the same name."""
        self._generations.clear()

    async def open(self, connection: AsyncConnection, partitions: Sequence[TopicPartition]) -> dict[CursorKey, Cursor]:
        """Return the cursors of newly assigned partitions, with everything published that they say is applied.

        Raises:
            Stopped: the log was cut or replaced under a cursor.
        """
        await self._learn_generations(connection)
        starts = await self._source.bounds(partitions)
        keys = self.keys(partitions)
        unpublished: list[Outgoing] = []
        async with connection.transaction():
            async with connection.pipeline():
                for key in keys:
                    await cursors.create(connection, key, starts[TopicPartition(key.topic, key.partition)].start)
            locked = await cursors.lock(connection, keys)
            for key in locked:
                unpublished += await cursors.unpublished(connection, key)
        # Asked for again: while we waited for the rows, the worker before may have gone on past the end of then.
        await self._check_log(await self._source.bounds(partitions), locked.values())
        await self._publisher.publish(unpublished)
        if unpublished:
            log.info("published %d records that the worker before had committed", len(unpublished))
        async with connection.transaction(), connection.pipeline():
            for key, cursor in locked.items():
                await cursors.mark_published(connection, key, cursor.applied)
        return locked

    async def _learn_generations(self, connection: AsyncConnection) -> None:
        missing = [topic for topic in self._topics if topic not in self._generations]
        if missing:
            for topic, broker_id in (await self._source.topic_ids(missing)).items():
                self._generations[topic] = await cursors.generation(connection, topic, broker_id)

    async def _check_log(self, bounds: Mapping[TopicPartition, Bounds], locked: Iterable[Cursor]) -> None:
        """Refuse a log that was cut or replaced under a cursor."""
        compare: dict[TopicPartition, Cursor] = {}
        for cursor in locked:
            partition = TopicPartition(cursor.key.topic, cursor.key.partition)
            start, end = bounds[partition]
            if start > cursor.applied + 1 or end < cursor.applied + 1:
                raise Stopped(_not_this_log(cursor, f"the log now goes from {start} to {end - 1}"))
            if cursor.last_hash is not None and start <= cursor.applied:
                compare[partition] = cursor
        found = await self._source.records({partition: cursor.applied for partition, cursor in compare.items()})
        for partition, record in found.items():
            if fingerprint(record) != compare[partition].last_hash:
                raise Stopped(_not_this_log(compare[partition], "another record is there now"))


def _not_this_log(cursor: Cursor, found: str) -> str:
    key = cursor.key
    return (
        f"{key.consumer} has applied {key.topic}[{key.partition}] up to offset {cursor.applied}, but {found}:"
        " the log was cut or replaced under the cursor. If this is the log to go on with, start a new generation:"
        f" innkeeper new-generation {key.topic}"
    )
