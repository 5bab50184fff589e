"""How far each consumer is behind the log: its cursor in PostgreSQL against the end of each partition.

The offsets that a group commits to Kafka are only a hint, and may be too old; the cursor is the truth.
"""

from collections.abc import AsyncIterator, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final, TypeAlias

import psycopg
from aiokafka import TopicPartition

from storage import pauses, process_names
from storage.consumer_positions import NewestCursor, newest_cursors
from storage.database import connect
from storage.settings import DatabaseSettings
from topics.catalogue import Service
from topics.consumers import CONSUMERS
from topics.kafka import admin
from topics.kafka.admin import Member
from topics.kafka.log_reader import LogReader, OffsetRange
from topics.kafka.records import time_of
from topics.kafka.settings import KafkaSettings

Connection: TypeAlias = psycopg.AsyncConnection[Any]
#: Only the first of the records that wait is read; the broker sends it whole, however large it is.
_FIRST_RECORD_FETCH_BYTES: Final = 16 * 1024
_LAG_RETRY_MS: Final = 10
#: A cursor that does not move for so long while a record waits is still; a batch takes less.
_STILL_SECONDS: Final = 1.0
_LAG_CONNECT_SECONDS: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Lag:
    """How far one consumer has come in one partition.

    `applied` is the last offset that took effect (-1: none), `end` the offset that the next record will get, `lag` the
    number of records between, `seconds` how long the first of those has waited (0 when there is none). `last_time` is
    the log's time (UTC) at `applied`, `seen_at` the time of this measurement. `started`: the consumer has a cursor for
    this generation of the topic. `paused`: an operator paused its role. `owner` is the process that reads the
    partition, and `host` its host; None: no process does. `role` None: no role of ours has this cursor.

    Two measurements are needed for the rest; `with_rates` sets it. `rate` is offsets applied a second, and
    `caught_up_seconds` the time until nothing waits, if as many records come in as now; None: not known, or never.
    `still_seconds` is how long the cursor has not moved while a record waited; None: it moves, or nothing waits. A
    process that hangs remains a member of its group for a while, so its partitions have an `owner`.
    """

    consumer: str
    topic: str
    partition: int
    applied: int
    end: int
    lag: int
    last_time: datetime | None
    seen_at: datetime
    seconds: float = 0.0
    started: bool = True
    paused: bool = False
    role: str | None = None
    owner: str | None = None
    host: str | None = None
    processes: int | None = None
    rate: float | None = None
    caught_up_seconds: float | None = None
    still_seconds: float | None = None

    @property
    def is_still(self) -> bool:
        """Whether the cursor has not moved for longer than a batch takes, while a record waited."""
        return self.still_seconds is not None and self.still_seconds >= _STILL_SECONDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """All partitions of one topic for one consumer: `lag` and `rate` are sums, `seconds` and the rest the worst.

    `members` are the processes that read them; `behind`, `stalled`, `unassigned` and `not_started` count partitions.
    """

    consumer: str
    topic: str
    role: str | None
    lag: int
    seconds: float
    rate: float | None
    caught_up_seconds: float | None
    paused: bool
    members: tuple[str, ...]
    partitions: int
    behind: int
    stalled: int
    unassigned: int
    not_started: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Measurement:
    """The broker's bounds of partitions, ids of topics and members of groups, and the roles that are paused.

    `processes` has the number of processes that run with the name of a role's member.
    """

    ends: Mapping[TopicPartition, OffsetRange]
    ids: Mapping[str, str]
    members: Mapping[Service, Mapping[TopicPartition, Member]]
    paused: Container[str]
    processes: Mapping[tuple[Service, str], int]


async def lags(kafka: KafkaSettings, database: DatabaseSettings | Connection) -> list[Lag]:
    """Return the lag of every consumer, whether or not it ever ran, for all partitions of its topics.

    A partition without a cursor, or whose topic was created anew since, counts from the start of the log.

    Raises:
        psycopg.Error: the database cannot be reached or is not migrated.
        TopicsFailed: the broker does not allow a request about a group.
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    names = sorted({kafka.topic(topic) for each in CONSUMERS for topic in each.topics})
    async with admin.open_admin(kafka) as broker:
        states = await broker.describe(names)
        members = {role: await broker.members(kafka.group(role)) for role in {each.role for each in CONSUMERS}}
    async with LogReader(kafka, fetch_bytes=_FIRST_RECORD_FETCH_BYTES, retry_ms=_LAG_RETRY_MS) as reader:
        # The ends are read first, so that records that come meanwhile do not count as behind.
        ends = await reader.ranges(
            TopicPartition(name, number) for name, state in states.items() for number in range(state.partitions)
        )
        async with _connected(database) as connection:
            cursors = await newest_cursors(connection, names)
            paused = {pause.role for pause in await pauses.list_pauses(connection)}
            processes = await _count_processes(connection, members)
        ids = {name: state.id for name, state in states.items()}
        measured = _Measurement(ends=ends, ids=ids, members=members, paused=paused, processes=processes)
        return await _with_seconds(kafka, reader, list(_compare(kafka, measured, cursors)))


def with_rates(before: Iterable[Lag], after: Iterable[Lag]) -> list[Lag]:
    """Return the later lags, with the rates since the earlier ones."""
    earlier = {(lag.consumer, lag.topic, lag.partition): lag for lag in before}
    return [_with_rate(earlier.get((lag.consumer, lag.topic, lag.partition)), lag) for lag in after]


def totals(found: Iterable[Lag]) -> list[Total]:
    """Return one line for each consumer and topic, in the order of the lags."""
    return [_total(list(each)) for _, each in groupby(found, key=lambda lag: (lag.consumer, lag.topic))]


@asynccontextmanager
async def _connected(database: DatabaseSettings | Connection) -> AsyncIterator[Connection]:
    if not isinstance(database, DatabaseSettings):
        yield database
        return
    async with await connect(database, "innkeeper lag", connect_seconds=_LAG_CONNECT_SECONDS) as connection:
        yield connection


async def _count_processes(
    connection: Connection, members: Mapping[Service, Mapping[TopicPartition, Member]]
) -> dict[tuple[Service, str], int]:
    found: dict[tuple[Service, str], int] = {}
    for role, assigned in members.items():
        names = {member.name for member in assigned.values()}
        found |= {(role, name): count for name, count in (await process_names.count(connection, role, names)).items()}
    return found


def _compare(kafka: KafkaSettings, measured: _Measurement, cursors: Iterable[NewestCursor]) -> Iterator[Lag]:
    """Yield our consumers in the order of `CONSUMERS`, with or without a cursor, and then cursors of others."""
    known = {(cursor.consumer, cursor.topic, cursor.partition): cursor for cursor in cursors}
    roles: dict[tuple[str, str], Service | None] = {
        (consumer.name, kafka.topic(topic)): consumer.role for consumer in CONSUMERS for topic in consumer.topics
    }
    roles |= dict.fromkeys(sorted({(consumer, topic) for consumer, topic, _ in known} - roles.keys()))
    for (consumer, topic), role in roles.items():
        for partition, (start, end) in sorted(measured.ends.items()):
            if partition.topic != topic:
                continue
            cursor = known.get((consumer, topic, partition.partition))
            current = cursor if cursor is not None and cursor.broker_id == measured.ids[topic] else None
            applied = -1 if current is None else current.applied
            member = None if role is None else measured.members[role].get(partition)
            yield Lag(
                consumer=consumer,
                topic=topic,
                partition=partition.partition,
                applied=applied,
                end=end,
                lag=max(0, end - max(applied + 1, start)),
                last_time=None if current is None else current.last_time,
                seen_at=datetime.now(UTC),
                started=current is not None,
                paused=role in measured.paused,
                role=role,
                owner=None if member is None else member.name,
                host=None if member is None else member.host,
                processes=None if role is None or member is None else measured.processes[role, member.name] or None,
            )


async def _with_seconds(kafka: KafkaSettings, reader: LogReader, found: list[Lag]) -> list[Lag]:
    """Return the lags with how long the first record that waits has waited.

    A topic of a replayed trace has the trace's times: there the newest record's time is taken for now.
    """
    behind = [lag for lag in found if lag.lag]
    newest = [(_partition(lag), lag.end - 1) for lag in behind if kafka.topic_create_time]
    records = await reader.first_records([*((_partition(lag), lag.end - lag.lag) for lag in behind), *newest])

    def seconds(lag: Lag) -> float:
        waits_since = time_of(records[_partition(lag), lag.end - lag.lag])
        now = time_of(records[_partition(lag), lag.end - 1]) if newest else lag.seen_at
        return max(0.0, (now - waits_since).total_seconds())

    return [replace(lag, seconds=seconds(lag)) if lag.lag else lag for lag in found]


def _partition(lag: Lag) -> TopicPartition:
    return TopicPartition(lag.topic, lag.partition)


def _with_rate(before: Lag | None, lag: Lag) -> Lag:
    if before is None or (elapsed := (lag.seen_at - before.seen_at).total_seconds()) <= 0:
        return lag
    rate = max(0, lag.applied - before.applied) / elapsed
    gained = rate - max(0, lag.end - before.end) / elapsed
    if lag.lag == 0:
        caught_up_seconds: float | None = 0.0
    else:
        caught_up_seconds = round(lag.lag / gained, 1) if gained > 0 else None
    still_seconds = None
    if before.lag and lag.lag and lag.applied == before.applied:
        still_seconds = round((before.still_seconds or 0.0) + elapsed, 1)
    return replace(lag, rate=round(rate, 1), caught_up_seconds=caught_up_seconds, still_seconds=still_seconds)


def _total(found: Sequence[Lag]) -> Total:
    first = found[0]
    rates = [lag.rate for lag in found if lag.rate is not None]
    caught_up = [lag.caught_up_seconds for lag in found if lag.caught_up_seconds is not None]
    return Total(
        consumer=first.consumer,
        topic=first.topic,
        role=first.role,
        lag=sum(lag.lag for lag in found),
        seconds=max(lag.seconds for lag in found),
        rate=round(sum(rates), 1) if rates else None,
        caught_up_seconds=max(caught_up) if len(caught_up) == len(found) else None,
        paused=first.paused,
        members=tuple(sorted({lag.owner for lag in found if lag.owner is not None})),
        partitions=len(found),
        behind=sum(lag.lag > 0 for lag in found),
        stalled=sum(lag.is_still for lag in found),
        unassigned=sum(lag.owner is None for lag in found),
        not_started=sum(not lag.started for lag in found),
    )
