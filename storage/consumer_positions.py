"""The offsets that consumers of ours have applied, read from their cursors in PostgreSQL, and a wait for them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import class_row

_CURSOR_POLL_SECONDS: Final = 0.2

_APPLIED_OFFSETS: Final = """
select c.partition, c.applied, c.published
  from log_cursor c join topic_generation g on g.id = c.generation
 where c.consumer = %s and c.topic = %s and g.broker_id = %s
"""

_HAS_WRITTEN: Final = """
select exists (select from log_cursor where consumer = %s and topic = %s and sequence > 0)
"""


# The newest generation of each topic that a consumer has read, and the last offset that it applied.
_NEWEST_CURSORS: Final = """
select distinct on (c.consumer, c.topic, c.partition)
       c.consumer, c.topic, c.partition, c.applied, c.last_time, coalesce(g.broker_id, '') as broker_id
  from log_cursor c left join topic_generation g on g.id = c.generation
 where c.topic = any(%s)
 order by c.consumer, c.topic, c.partition, c.generation desc
"""

_SEQUENCES: Final = """
select consumer, topic, partition, max(sequence) as sequence, max(last_time) as last_time
  from log_cursor where topic = any(%s) group by consumer, topic, partition order by consumer, topic, partition
"""

_BROKER_IDS: Final = "select distinct on (topic) topic, broker_id from topic_generation order by topic, id desc"


@dataclass(frozen=True, kw_only=True, slots=True)
class LastEvent:
    """The sequence of the last event that a consumer wrote or applied, and the log's time there (UTC).

    `topic` is the topic that it reads, by its name on the broker; all generations of the topic count.
    """

    consumer: str
    topic: str
    partition: int
    sequence: int
    last_time: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class NewestCursor:
    """A consumer's cursor in the newest generation of a topic that it has read.

    `topic` is the topic's name on the broker and `broker_id` the broker's id of that generation. `applied` is the last
    offset that took effect (-1: none), `last_time` the log's time there (UTC).
    """

    consumer: str
    topic: str
    partition: int
    applied: int
    last_time: datetime | None
    broker_id: str


async def newest_cursors(connection: AsyncConnection[Any], topics: Sequence[str]) -> list[NewestCursor]:
    """Return every consumer's newest cursors in these topics, in order of their keys. Raises psycopg.Error."""
    cursor = connection.cursor(row_factory=class_row(NewestCursor))
    return await (await cursor.execute(_NEWEST_CURSORS, (list(topics),))).fetchall()


async def last_events(connection: AsyncConnection[Any], topics: Sequence[str]) -> list[LastEvent]:
    """Return how far every consumer has come in these topics, in order of their keys. Raises psycopg.Error."""
    cursor = connection.cursor(row_factory=class_row(LastEvent))
    return await (await cursor.execute(_SEQUENCES, (list(topics),))).fetchall()


async def broker_ids(connection: AsyncConnection[Any]) -> dict[str, str]:
    """Return the broker's id of the newest generation of each topic that was ever read. Raises psycopg.Error."""
    return dict(await (await connection.execute(_BROKER_IDS)).fetchall())


async def wait_for_consumer(
    connection: AsyncConnection[Any],
    consumer: str,
    topic: str,
    topic_id: str,
    offsets: Mapping[int, int],
    *,
    within_seconds: float,
    published: bool = True,
) -> bool:
    """Wait until the consumer has applied each partition's offset; return whether it has.

    `published`: wait also until the broker has all records that followed. `topic` and `topic_id` are the broker's name
    and id. `offsets` are by partition. The connection is in autocommit.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + within_seconds
    while True:
        applied = await applied_offsets(connection, consumer, topic, topic_id, published=published)
        if all(applied.get(partition, -1) >= offset for partition, offset in offsets.items()):
            return True
        if clock() >= deadline:
            return False
        await asyncio.sleep(_CURSOR_POLL_SECONDS)


async def applied_offsets(
    connection: AsyncConnection[Any], consumer: str, topic: str, topic_id: str, *, published: bool = True
) -> dict[int, int]:
    """Return the last offset that the consumer has applied, for each partition in which it has a cursor.

    `published`: count only offsets whose outgoing records the broker has.
    """
    rows = await (await connection.execute(_APPLIED_OFFSETS, (consumer, topic, topic_id))).fetchall()
    return {
        partition: min(applied, acknowledged) if published else applied for partition, applied, acknowledged in rows
    }


async def has_written_events(connection: AsyncConnection[Any], consumer: str, topic: str) -> bool:
    """Return whether the consumer ever wrote an event that followed from the topic, in any of its generations."""
    found = await connection.execute(_HAS_WRITTEN, (consumer, topic))
    row = await found.fetchone()
    return row is not None and bool(row[0])
