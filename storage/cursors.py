"""The cursors of consumers, which are their fence, and the outbox of records that are not published yet.

Two words for offsets, here and in `workers.runtime`. `applied`: the last offset whose effects are committed.
`published`: the last offset for which the broker has every record that followed from it, as far as the database
knows; never beyond `applied`. After a crash the outbox has what lies between the two.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import msgspec
from psycopg import AsyncConnection

from topics.envelope import Outgoing

_ROWS_FETCHED = 100
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

#: At most so many of the oldest rows of a partition are looked at by each batch: it deletes faster than it inserts, and
#: never reads all that is kept.
_OLDEST = 10
#: So many when a partition is assigned, and when all of it is published: rows of earlier generations, too.
_OLDEST_OF_ALL = 200
_PRUNE = """
    delete from outbox as o
    using unnest(%b::text[], %b::text[], %b::int[], %b::bigint[], %b::bigint[])
          as n (consumer, topic, partition, generation, published)
          cross join lateral (
              select k.last_offset, k.created_at from outbox as k
              where k.consumer = n.consumer and k.topic = n.topic and k.partition = n.partition
                and k.generation = n.generation and k.last_offset <= n.published
              order by k.last_offset limit %s
          ) as oldest
    where o.consumer = n.consumer and o.topic = n.topic and o.partition = n.partition
      and o.generation = n.generation and o.last_offset = oldest.last_offset
      and oldest.created_at <= now() - make_interval(secs => %s)
"""
_PRUNE_ALL = """
    delete from outbox as o
    using (
        select generation, last_offset, created_at from outbox
        where consumer = %(consumer)s and topic = %(topic)s and partition = %(partition)s
          and (generation, last_offset) <= (%(generation)s, %(through)s)
        order by generation, last_offset limit %(limit)s
    ) as oldest
    where o.consumer = %(consumer)s and o.topic = %(topic)s and o.partition = %(partition)s
      and o.generation = oldest.generation and o.last_offset = oldest.last_offset
      and oldest.created_at <= now() - make_interval(secs => %(kept_seconds)s)
"""


# A batch that closes a gap may leave `applied` where it was. The records before it at this offset are published.
_INSERT = """
    insert into outbox (consumer, topic, partition, generation, last_offset, records)
    select * from unnest(%b::text[], %b::text[], %b::int[], %b::bigint[], %b::bigint[], %b::bytea[])
    on conflict (consumer, topic, partition, generation, last_offset)
    do update set records = excluded.records, created_at = excluded.created_at
"""


async def save(
    connection: AsyncConnection, cursors: Sequence[Cursor], outbox: Sequence[tuple[Cursor, Sequence[Outgoing]]]
) -> None:
    """Write the cursors, delete outbox rows that the broker has, the oldest first, and insert the new ones.

    `outbox` has the exact records that follow from each cursor's batch; they are kept until the broker has them, and
    with `OUTBOX_KEPT_HOURS` for so long after that.
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
        await connection.execute(_PRUNE, (*keys, published, _OLDEST, kept_seconds_of(connection)))
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


async def kept(connection: AsyncConnection, consumer: str, topic: str) -> AsyncIterator[tuple[int, datetime, Outgoing]]:
    """Yield each record of the outbox that follows from a topic, with its row's partition and time (UTC), in order.

    The outbox has what is not published, and with `OUTBOX_KEPT_HOURS` what was published lately. The caller is in a
    transaction.
    """
    async with connection.cursor("kept_records") as cursor:
        cursor.itersize = _ROWS_FETCHED
        await cursor.execute(
            "select partition, created_at, records from outbox where consumer = %s and topic = %s"
            " order by partition, generation, last_offset",
            (consumer, topic),
        )
        async for partition, created_at, packed in cursor:
            for fields in _UNPACK.decode(packed):
                yield partition, created_at, Outgoing(*cast("Any", fields))


async def give_up_generations(connection: AsyncConnection, consumer: str, topic: str, before: int) -> None:
    """Note that all that followed from the generations before this one is published."""
    await connection.execute(
        "update log_cursor set published = applied where consumer = %s and topic = %s and generation < %s",
        (consumer, topic, before),
    )


async def mark_published(connection: AsyncConnection, key: CursorKey, through: int) -> None:
    """Store that the broker has everything up to `through`, and everything of earlier generations.

    Deletes the oldest of these rows, a limited number each time.
    """
    parameters = {
        "consumer": key.consumer,
        "topic": key.topic,
        "partition": key.partition,
        "generation": key.generation,
        "through": through,
    }
    await connection.execute(
        """
        update log_cursor set published = applied
        where consumer = %(consumer)s and topic = %(topic)s and partition = %(partition)s
          and (generation < %(generation)s or (generation = %(generation)s and applied = %(through)s))
          and published < applied
        """,
        parameters,
    )
    await connection.execute(
        _PRUNE_ALL, {**parameters, "limit": _OLDEST_OF_ALL, "kept_seconds": kept_seconds_of(connection)}
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


def kept_seconds_of(connection: AsyncConnection) -> float:
    """Return for how long this connection's owner keeps records that are published; 0: not at all."""
    seconds: float = getattr(connection, "outbox_kept_seconds", 0.0)
    return seconds


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
    returning c.generation
"""
_FORGET_AHEAD = """
    delete from outbox
    where consumer = %(consumer)s and topic = %(topic)s and partition = %(partition)s
      and generation = %(generation)s and last_offset > %(applied)s
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
    `topic_id` are the broker's name and id. The outbox loses the records that follow from what is read again: they
    follow once more.
    """
    parameters = {
        "consumer": consumer,
        "topic": topic,
        "topic_id": topic_id,
        "partition": partition,
        "was": was,
        "applied": applied,
        "sequence": sequence,
    }
    changed = await (await connection.execute(_REWIND, parameters)).fetchone()
    if changed is None:
        return False
    await connection.execute(_FORGET_AHEAD, {**parameters, "generation": changed[0]})
    return True
