"""The state of dead letters in PostgreSQL: which records are dead letters, and how an operator resolved each.

`dead_letter` has a row for each record that a worker sent to the dead-letter topic; `storage.cursors` inserts it.
`dead_letter_end` has a row for each dead letter that an operator replayed or discarded; this module alone writes it.
Rows of both are deleted when the topic has long lost the dead letter.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

from psycopg import AsyncConnection

Connection: TypeAlias = AsyncConnection[Any]
#: At most so many rows of a table are deleted at a time.
MAX_FORGOTTEN: Final = 1_000


class DeadLetterKey(NamedTuple):
    """A record of the dead-letter topic, by the broker's id of that topic."""

    topic_id: str
    partition: int
    offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """How an operator resolved a dead letter, and when (UTC).

    `ended` is `replayed` or `discarded`. `done_at` None: a replay that began, and is not known to be done.
    """

    ended: str
    who: str
    began_at: datetime
    done_at: datetime | None
    note: str | None


async def resolutions(connection: Connection, topic_id: str) -> dict[tuple[int, int], Resolution]:
    """Return the resolutions of dead letters, by partition and offset. Raises psycopg.Error."""
    rows = await connection.execute(
        'select partition, "offset", ended, who, began_at, done_at, note from dead_letter_end where topic_id = %s',
        (topic_id,),
    )
    return {
        (partition, offset): Resolution(ended=ended, who=who, began_at=began_at, done_at=done_at, note=note)
        async for partition, offset, ended, who, began_at, done_at, note in rows
    }


async def claim_replay(connection: Connection, key: DeadLetterKey, *, who: str, again: bool) -> datetime | None:
    """Store that a replay of the dead letter begins; return the time (UTC), or None where it was resolved already.

    `again`: a replay that began and is not known to be done may be begun once more.
    """
    written = await connection.execute(
        'insert into dead_letter_end (topic_id, partition, "offset", ended, who)'
        " values (%s, %s, %s, 'replayed', %s) on conflict do nothing returning began_at",
        (*key, who),
    )
    row = await written.fetchone()
    if row is None and again:
        written = await connection.execute(
            "update dead_letter_end set who = %s, began_at = now()"
            ' where topic_id = %s and partition = %s and "offset" = %s and done_at is null returning began_at',
            (who, *key),
        )
        row = await written.fetchone()
    return None if row is None else row[0]


async def mark_replayed(connection: Connection, key: DeadLetterKey) -> None:
    """Store that the broker has the replayed record, in the caller's transaction."""
    await connection.execute(
        'update dead_letter_end set done_at = now() where topic_id = %s and partition = %s and "offset" = %s', key
    )


async def discard(connection: Connection, key: DeadLetterKey, *, who: str, note: str) -> bool:
    """Store in the caller's transaction that the dead letter is discarded; False where it was resolved already."""
    written = await connection.execute(
        'insert into dead_letter_end (topic_id, partition, "offset", ended, who, done_at, note)'
        " values (%s, %s, %s, 'discarded', %s, now(), %s) on conflict do nothing",
        (*key, who, note),
    )
    return written.rowcount > 0


@asynccontextmanager
async def locked(connection: Connection, key: DeadLetterKey) -> AsyncIterator[bool]:
    """Keep other operators from the dead letter while the block runs; yield False where another one has it.

    The lock ends with the connection, and so with a process that is killed. The connection is in autocommit.
    """
    name = f"innkeeper.dead_letter {key.topic_id} {key.partition}@{key.offset}"
    row = await (await connection.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", (name,))).fetchone()
    if row is None or not row[0]:
        yield False
        return
    try:
        yield True
    finally:
        if not connection.broken:
            await connection.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (name,))


async def reason_at(
    connection: Connection, *, consumer: str, topic: str, topic_id: str, partition: int, offset: int
) -> str | None:
    """Return why the consumer sent this record to the dead-letter topic; None: it did not. `topic` is the broker's."""
    found = await connection.execute(
        "select d.reason from dead_letter d join topic_generation g on g.id = d.generation and g.broker_id = %s"
        ' where d.consumer = %s and d.topic = %s and d.partition = %s and d."offset" = %s',
        (topic_id, consumer, topic, partition, offset),
    )
    row = await found.fetchone()
    return None if row is None else str(row[0])


async def offsets_of(
    connection: Connection, *, consumer: str, topic: str, topic_id: str
) -> Mapping[int, frozenset[int]]:
    """Return the offsets of the records that the consumer sent to the dead-letter topic, by partition."""
    rows = await connection.execute(
        'select d.partition, array_agg(d."offset") from dead_letter d'
        " join topic_generation g on g.id = d.generation and g.broker_id = %s"
        " where d.consumer = %s and d.topic = %s group by d.partition",
        (topic_id, consumer, topic),
    )
    return {partition: frozenset(offsets) async for partition, offsets in rows}


_FORGET: Final = """
delete from {0} where ctid = any(array(
    select ctid from {0} where {1} < now() - make_interval(days => %s) limit %s
))
"""


async def forget_old(connection: Connection, kept_days: int) -> int:
    """Delete the oldest rows, those of so many days ago; return how many, at most `MAX_FORGOTTEN` of each table.

    A replay that began and is not known to be done is forgotten too: the topic does not have the dead letter any more.
    """
    count = 0
    for table, time in (("dead_letter", "created_at"), ("dead_letter_end", "coalesce(done_at, began_at)")):
        deleted = await connection.execute(_FORGET.format(table, time).encode(), (kept_days, MAX_FORGOTTEN))
        count += deleted.rowcount
    return count
