"""How far each consumer is behind the log: its cursor in PostgreSQL against the end of each partition.

Kafka's own committed offsets are a hint and may lie; the cursor is the truth. It is read with plain SQL, because the
language of the log must not import the storage that keeps it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import psycopg
from aiokafka import TopicPartition
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from topics import admin
from topics.catalogue import CATALOGUE
from topics.reading import end_offsets
from topics.settings import KafkaSettings


class DatabaseAddress(BaseSettings):
    """Where the cursors are; the same variable as everybody's."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    database_url: SecretStr = Field(
        default=SecretStr("postgresql://innkeeper:innkeeper@127.0.0.1:5432/innkeeper"),
        description="PostgreSQL, as postgresql://user:password@host:port/name.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Lag:
    """How far one consumer has come in one partition.

    `applied` is the last offset that took effect (-1: none), `end` the offset that the next record will get, `lag` the
    number of records between. `last_time` is the log's time (UTC) at `applied`.
    """

    consumer: str
    topic: str
    partition: int
    applied: int
    end: int
    lag: int
    last_time: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cursor:
    consumer: str
    topic: str
    partition: int
    applied: int
    last_time: datetime | None
    broker_id: str


# The newest life of each topic that a consumer has met, with what it has applied of it.
_CURSORS = """
select distinct on (c.consumer, c.topic, c.partition)
       c.consumer, c.topic, c.partition, c.applied, c.last_time, coalesce(i.broker_id, '')
  from log_cursor c left join topic_incarnation i on i.id = c.incarnation
 where c.topic = any(%s)
 order by c.consumer, c.topic, c.partition, c.incarnation desc
"""


async def lags(kafka: KafkaSettings, database: DatabaseAddress) -> list[Lag]:
    """Return the lag of every consumer that has a cursor, for all partitions of its topics.

    A partition without a cursor, or whose topic was made anew since, counts from the start of the log.

    Raises:
        psycopg.Error: the database cannot be reached or is not migrated.
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    names = [kafka.topic(topic) for topic in CATALOGUE]
    cursors = await _cursors(database, names)
    ends = await end_offsets(kafka, names)
    ids = await admin.topic_ids(kafka, names)
    return list(_compare(cursors, ends, ids))


async def _cursors(database: DatabaseAddress, names: list[str]) -> list[_Cursor]:
    address = database.database_url.get_secret_value()
    async with await psycopg.AsyncConnection.connect(address, connect_timeout=10) as connection:
        rows = await (await connection.execute(_CURSORS, (names,))).fetchall()
    return [
        _Cursor(consumer=consumer, topic=topic, partition=partition, applied=applied, last_time=time, broker_id=life)
        for consumer, topic, partition, applied, time, life in rows
    ]


def _compare(cursors: list[_Cursor], ends: dict[TopicPartition, tuple[int, int]], ids: dict[str, str]) -> Iterator[Lag]:
    known = {(cursor.consumer, cursor.topic, cursor.partition): cursor for cursor in cursors}
    for consumer, topic in sorted({(cursor.consumer, cursor.topic) for cursor in cursors}):
        for place, (start, end) in sorted(ends.items()):
            if place.topic != topic:
                continue
            cursor = known.get((consumer, topic, place.partition))
            current = cursor if cursor is not None and cursor.broker_id == ids.get(topic) else None
            applied = -1 if current is None else current.applied
            yield Lag(
                consumer=consumer,
                topic=topic,
                partition=place.partition,
                applied=applied,
                end=end,
                lag=max(0, end - max(applied + 1, start)),
                last_time=None if current is None else current.last_time,
            )
