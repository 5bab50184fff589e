"""Waits until a consumer of ours has carried out what an operator put on the log, by its cursor in PostgreSQL."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from psycopg import AsyncConnection

from topics.catalogue import BOOKING_COMMANDS, STRIPE_WEBHOOKS

#: Whose work it is to carry out what stands on a topic: the name of its cursor.
CARRIED_OUT_BY: Final = {BOOKING_COMMANDS.name: "reservations", STRIPE_WEBHOOKS.name: "payments"}

_POLL_SECONDS: Final = 0.2

_STANDS: Final = """
select c.partition, c.applied, c.published
  from log_cursor c join topic_incarnation i on i.id = c.incarnation
 where c.consumer = %s and c.topic = %s and i.broker_id = %s
"""


async def until_carried_out(
    connection: AsyncConnection[Any],
    consumer: str,
    topic: str,
    topic_id: str,
    offsets: Mapping[int, int],
    *,
    within_seconds: float,
) -> bool:
    """Wait until the consumer has applied each partition's offset and published all that follows; tell whether it has.

    `topic` and `topic_id` are the broker's. The connection is in autocommit.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + within_seconds
    while True:
        if not await behind(connection, consumer, topic, topic_id, offsets):
            return True
        if clock() >= deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)


async def behind(
    connection: AsyncConnection[Any], consumer: str, topic: str, topic_id: str, offsets: Mapping[int, int]
) -> dict[int, int]:
    """Return those of the offsets, by partition, that the consumer has not carried out yet."""
    rows = await (await connection.execute(_STANDS, (consumer, topic, topic_id))).fetchall()
    carried_out = {partition: min(applied, published) for partition, applied, published in rows}
    return {partition: offset for partition, offset in offsets.items() if carried_out.get(partition, -1) < offset}
