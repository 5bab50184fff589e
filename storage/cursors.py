"""The cursors of consumers, which are their fence, and the outbox of records that are not published yet.

Two words for offsets, here and in `workers.runtime`. `applied`: the last offset whose effects are committed.
`published`: the last offset for which the broker has every record that followed from it, as far as the database
knows; never beyond `applied`. After a crash the outbox has what lies between the two.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import msgspec
from psycopg import AsyncConnection

from topics.envelope import Outgoing

_PACK = msgspec.msgpack.Encoder()
# A dead letter keeps the headers of its record, and a header of a foreign producer may have no value.
_Headers = list[tuple[str, bytes | None]]
_UNPACK = msgspec.msgpack.Decoder(list[tuple[str, bytes, bytes, _Headers, int | None, int | None]])


@dataclass(frozen=True, slots=True)
class CursorKey:
    """A consumer and a partition of one generation of a topic."""

    consumer: str
    topic: str
    partition: int
    generation: int


@dataclass(slots=True)
class Cursor:
    """One row of `log_cursor`. Offsets are -1 before the first record.

    The module explains `applied` and `published`. `sequence`: of the last event written (reservations) or applied (all
    other consumers). `last_time`: the log's time (UTC). `last_hash`: of the record at `applied`; it shows when the log
    was replaced under the cursor.
    """

    key: CursorKey
    applied: int
    published: int
    sequence: int
    last_time: datetime | None
    last_hash: bytes | None


async def generation(connection: AsyncConnection, topic: str, broker_id: str) -> int:
    """Return the topic's present generation; a topic whose broker id differs from last time is a new one."""
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(hashtext('innkeeper.generation'))")
        found = await connection.execute(
            "select id, broker_id from topic_generation where topic = %s order by id desc limit 1", (topic,)
        )
        row = await found.fetchone()
        if row is not None and row[1] == broker_id:
            return int(row[0])
        inserted = await connection.execute(
            "insert into topic_generation (topic, broker_id) values (%s, %s) returning id", (topic, broker_id)
        )
        new = await inserted.fetchone()
        assert new is not None
        return int(new[0])


async def create(connection: AsyncConnection, key: CursorKey, log_start: int) -> None:
    """Make the cursor's row if there is none: at the log's start, with the sequence of the generation before."""
    await connection.execute(
        """
        insert into log_cursor (consumer, topic, partition, generation, applied, published, sequence, last_time)
        select %(consumer)s, %(topic)s, %(partition)s, %(generation)s, %(at)s, %(at)s,
               coalesce(max(sequence), 0), max(last_time)
        from log_cursor
        where consumer = %(consumer)s and topic = %(topic)s and partition = %(partition)s
        on conflict do nothing
        """,
        {
            "consumer": key.consumer,
            "topic": key.topic,
            "partition": key.partition,
            "generation": key.generation,
            "at": log_start - 1,
        },
    )


_LOCK = """
    select consumer, topic, partition, generation, applied, published, sequence, last_time, last_hash
    from log_cursor
    where (consumer, topic, partition, generation) in
          (select * from unnest(%b::text[], %b::text[], %b::int[], %b::bigint[]))
    order by consumer, topic, partition
    for update
"""


async def lock(connection: AsyncConnection, keys: Iterable[CursorKey]) -> dict[CursorKey, Cursor]:
    """Lock the rows, in the same order for all writers; the transaction that locks them is the partitions' only writer.

    Raises:
        KeyError: a row is missing; `create` makes it when a partition is assigned.
    """
    listed = list(keys)
    rows = await (await connection.execute(_LOCK, _columns(listed))).fetchall()
    found = {(cursor := _cursor(row)).key: cursor for row in rows}
    for key in listed:
        if key not in found:
            raise KeyError(key)
    return found


_SAVE = """
    update log_cursor as c
    set applied = n.applied, published = n.published, sequence = n.sequence,
        last_time = n.last_time, last_hash = n.last_hash
    from unnest(%b::text[], %b::text[], %b::int[], %b::bigint[],
                %b::bigint[], %b::bigint[], %b::bigint[], %b::timestamptz[], %b::bytea[])
         as n (consumer, topic, partition, generation, applied, published, sequence, last_time, last_hash)
    where c.consumer = n.consumer and c.topic = n.topic and c.partition = n.partition
      and c.generation = n.generation
"""

_PRUNE = """
    delete from outbox as o
    using unnest(%b::text[], %b::text[], %b::int[], %b::bigint[], %b::bigint[])
          as n (consumer, topic, partition, generation, published)
    where o.consumer = n.consumer and o.topic = n.topic and o.partition = n.partition
      and o.generation = n.generation and o.last_offset <= n.published
"""


_INSERT = """
    insert into outbox (consumer, topic, partition, generation, last_offset, records)
    select * from unnest(%b::text[], %b::text[], %b::int[], %b::bigint[], %b::bigint[], %b::bytea[])
"""


async def save(
    connection: AsyncConnection, cursors: Sequence[Cursor], outbox: Sequence[tuple[Cursor, Sequence[Outgoing]]]
) -> None:
    """Write the cursors, delete the outbox rows that the broker has, and insert the new ones.

    `outbox` has the exact records that follow from each cursor's batch; they are kept until the broker has them.
    """
    keys = _columns([cursor.key for cursor in cursors])
    published = [cursor.published for cursor in cursors]
    async with connection.pipeline():
        await connection.execute(
            _SAVE,
            (
                *keys,
                [cursor.applied for cursor in cursors],
                published,
                [cursor.sequence for cursor in cursors],
                [cursor.last_time for cursor in cursors],
                [cursor.last_hash for cursor in cursors],
            ),
        )
        await connection.execute(_PRUNE, (*keys, published))
        if outbox:
            new = [cursor for cursor, _ in outbox]
            packed = [_PACK.encode(records) for _, records in outbox]
            await connection.execute(
                _INSERT, (*_columns([cursor.key for cursor in new]), [cursor.applied for cursor in new], packed)
            )


async def unpublished(connection: AsyncConnection, key: CursorKey) -> list[Outgoing]:
    """Return the stored records that the broker may not have, in order; those of earlier generations first."""
    rows = await connection.execute(
        """
        select o.records from outbox o
        join log_cursor c using (consumer, topic, partition, generation)
        where o.consumer = %s and o.topic = %s and o.partition = %s and o.generation <= %s
          and o.last_offset > c.published
        order by o.generation, o.last_offset
        """,
        (key.consumer, key.topic, key.partition, key.generation),
    )
    return [Outgoing(*cast("Any", fields)) async for (packed,) in rows for fields in _UNPACK.decode(packed)]


async def mark_published(connection: AsyncConnection, key: CursorKey, through: int) -> None:
    """Store that the broker has everything up to `through`, and everything of earlier generations."""
    parameters = (key.consumer, key.topic, key.partition, key.generation, key.generation, through)
    await connection.execute(
        """
        update log_cursor set published = applied
        where consumer = %s and topic = %s and partition = %s
          and (generation < %s or (generation = %s and applied = %s)) and published < applied
        """,
        parameters,
    )
    await connection.execute(
        """
        delete from outbox where consumer = %s and topic = %s and partition = %s
          and (generation < %s or (generation = %s and last_offset <= %s))
        """,
        parameters,
    )


async def record_dead_letter(connection: AsyncConnection, key: CursorKey, offset: int, reason: str) -> int:
    """Store a dead letter; return how many this consumer sent from this partition within the last hour."""
    await connection.execute(
        'insert into dead_letter (consumer, topic, partition, generation, "offset", reason)'
        " values (%s, %s, %s, %s, %s, %s)",
        (key.consumer, key.topic, key.partition, key.generation, offset, reason),
    )
    found = await connection.execute(
        "select count(*) from dead_letter where consumer = %s and topic = %s and partition = %s"
        " and created_at > now() - interval '1 hour'",
        (key.consumer, key.topic, key.partition),
    )
    row = await found.fetchone()
    assert row is not None
    return int(row[0])


def _columns(keys: Sequence[CursorKey]) -> tuple[list[str], list[str], list[int], list[int]]:
    return (
        [key.consumer for key in keys],
        [key.topic for key in keys],
        [key.partition for key in keys],
        [key.generation for key in keys],
    )


def _cursor(row: tuple[str, str, int, int, int, int, int, datetime | None, bytes | None]) -> Cursor:
    return Cursor(CursorKey(*row[:4]), *row[4:])


_REWIND = """
    update log_cursor c
    set applied = %(applied)s, published = %(applied)s, sequence = %(sequence)s, last_hash = null, last_time = null
    from topic_generation g
    where g.id = c.generation and g.broker_id = %(topic_id)s
      and c.consumer = %(consumer)s and c.topic = %(topic)s and c.partition = %(partition)s and c.applied = %(was)s
"""


async def rewind(
    connection: AsyncConnection,
    *,
    consumer: str,
    topic: str,
    topic_id: str,
    partition: int,
    was: int,
    applied: int,
    sequence: int,
) -> bool:
    """Set a cursor back, in the caller's transaction; False where its `applied` is not `was` any more.

    The row's lock is the fence: a worker that still runs finds its cursor changed, and resumes from there. `topic` and
    `topic_id` are the broker's name and id.
    """
    changed = await connection.execute(
        _REWIND,
        {
            "consumer": consumer,
            "topic": topic,
            "topic_id": topic_id,
            "partition": partition,
            "was": was,
            "applied": applied,
            "sequence": sequence,
        },
    )
    return changed.rowcount == 1
