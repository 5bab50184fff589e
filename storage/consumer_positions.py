"""The offsets that a consumer of ours has applied, read from its cursors in PostgreSQL, and a wait for one of them."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from psycopg import AsyncConnection

_POLL_SECONDS: Final = 0.2

_CURSORS: Final = """
select c.partition, c.applied, c.published
  from log_cursor c join topic_generation g on g.id = c.generation
 where c.consumer = %s and c.topic = %s and g.broker_id = %s
"""

_HAS_WRITTEN: Final = """
select exists (select from log_cursor where consumer = %s and topic = %s and sequence > 0)
"""


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

    `published`: wait also until the broker has all records that followed. `topic` and `topic_id` are the broker's. The
    connection is in autocommit.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + within_seconds
    while True:
        applied = await applied_offsets(connection, consumer, topic, topic_id, published=published)
        if all(applied.get(partition, -1) >= offset for partition, offset in offsets.items()):
            return True
        if clock() >= deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)


async def applied_offsets(
    connection: AsyncConnection[Any], consumer: str, topic: str, topic_id: str, *, published: bool = True
) -> dict[int, int]:
    """Return the last offset that the consumer has applied, for each partition in which it has a cursor.

    `published`: count only offsets whose outgoing records the broker has.
    """
    rows = await (await connection.execute(_CURSORS, (consumer, topic, topic_id))).fetchall()
    return {
        partition: min(applied, acknowledged) if published else applied for partition, applied, acknowledged in rows
    }


async def has_written_events(connection: AsyncConnection[Any], consumer: str, topic: str) -> bool:
    """Return whether the consumer ever wrote an event that followed from the topic, in any of its generations."""
    found = await connection.execute(_HAS_WRITTEN, (consumer, topic))
    row = await found.fetchone()
    return row is not None and bool(row[0])
