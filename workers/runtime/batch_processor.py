"""Processes batches of records: a transaction, then the publication; either is retried, split or given up.

Knows PostgreSQL and Kafka, not Faust; docs/one-batch.md draws it.

A broken dependency is retried with backoff. A batch for which this machine is too slow is split. A record that cannot
be decoded is cut out of its batch at once. To find a record that PostgreSQL refuses, the batch is split by partition
and then halved until one record is left. A command or webhook of either kind goes to the dead-letter topic. An event of
either kind, a failed check of the database (an oversold night) and any other error are raised, and the process ends.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import psycopg
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from psycopg import AsyncConnection

from storage.database import connect_worker
from storage.failures import reason_of
from storage.ledger import CURSORS, CursorStatements
from storage.settings import DatabaseSettings
from telemetry.ids import ids_of
from topics.backoff import Backoff
from topics.catalogue import BOOKING_EVENTS, DEAD_LETTERS, Topic
from topics.envelope import Outgoing
from topics.failpoints import failpoint
from topics.kafka.positions import position_text
from topics.kafka.settings import KafkaSettings
from workers.runtime.assignment import Assignment
from workers.runtime.batch_metrics import BatchMetrics
from workers.runtime.batch_transaction import Batch, BatchTransaction, Fenced, OffsetGap
from workers.runtime.cursor_state import CursorState
from workers.runtime.log import KafkaLog, Log
from workers.runtime.publisher import Publisher
from workers.runtime.records import cannot_be_applied
from workers.runtime.role import Record, Role, Stopped, Unreadable

log = logging.getLogger(__name__)

#: The length of a dead letter's reason, in characters.
MAX_REASON: Final = 500
#: The time for which a gap in the events' sequence may stay open.
MAX_GAP_SECONDS: Final = 60.0

_SLOW_ERRORS = (
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.QueryCanceled,
    psycopg.errors.TransactionTimeout,
)
_DATA_ERRORS = (psycopg.DataError, psycopg.IntegrityError, OverflowError)

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dependencies:
    """All that a batch processor has of the world beside the records: the log, the cursors and the database."""

    log: Log
    connect: Callable[[], Awaitable[AsyncConnection]]
    cursors: CursorStatements = CURSORS


class TooSlow(Exception):
    """The database ended a long or idle transaction, or a long statement: the batch is too large for this machine."""


class BatchProcessor:
    """The role's work on the partitions that are assigned to this process at the moment."""

    def __init__(self, role: Role, kafka: KafkaSettings, dependencies: Dependencies) -> None:
        self._role = role
        self._connect = dependencies.connect
        self._topics: Mapping[str, Topic] = {kafka.topic(topic): topic for topic in role.topics}
        self.metrics = BatchMetrics(role, self._topics, lambda: self._transaction.states)
        self._publisher = Publisher(dependencies.log)
        self._assignment = Assignment(role, self._topics, dependencies.log, dependencies.cursors, self._publisher)
        self._transaction = BatchTransaction(
            role,
            self._topics,
            self._assignment,
            kafka.topic(DEAD_LETTERS),
            metrics=self.metrics,
            cursors=dependencies.cursors,
        )
        self._connection: AsyncConnection | None = None
        self._lock = asyncio.Lock()

    # The agent and the transport call these.

    async def on_assigned(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Open newly assigned partitions; return the offset to read next, for each.

        Raises:
            Stopped: the log was cut or replaced under a cursor.
        """
        known = [partition for partition in partitions if partition.topic in self._topics]
        async with self._lock:
            self._assignment.forget_generations()
            self._transaction.states.clear()
            return await self._with_retries(lambda connection: self._open(connection, known))

    async def process(self, fetched: Iterable[Sequence[Record]]) -> dict[TopicPartition, int]:
        """Process fetched records; return the partitions that must be read again, with the offset to seek to."""
        seeks: dict[TopicPartition, int] = {}
        work: list[Batch] = [_merge(fetched)]
        async with self._lock:
            if stale := self._partitions_without_new(work[0]):
                # Either they were fetched twice, or the topic was deleted and created again: the broker has its id.
                seeks |= await self._open_again(stale)
                work = _without(stale, work)
            while work:
                batch = work.pop(0)
                try:
                    await self._process(batch)
                except OffsetGap as gap:
                    seeks[gap.partition] = gap.seek
                    work = _without([gap.partition], [batch, *work])
                except TooSlow as error:
                    # The whole batch would take as long again.
                    work = [*_split(batch, error), *work]
                except psycopg.errors.CheckViolation:
                    raise
                except (*_DATA_ERRORS, Unreadable) as error:
                    smaller = _split(batch, error)
                    if len(smaller) == 1:
                        await self._send_to_dead_letters(batch, error)
                    else:
                        log.warning("a batch cannot be processed (%s); trying smaller ones", error)
                        work = [*smaller, *work]
        return seeks

    async def mark_published(self) -> None:
        """Note in the cursors that the broker has everything that is applied; called when idle.

        Raises:
            Stopped: a gap in the events' sequence stays open.
        """
        states = self._transaction.states
        for key, state in states.items():
            if state.gap is not None and asyncio.get_running_loop().time() - state.gap.since > MAX_GAP_SECONDS:
                raise Stopped(
                    f"{key.consumer}: events are missing in {key.topic}[{key.partition}] before offset"
                    f" {state.gap.offset}, for more than {MAX_GAP_SECONDS:.0f} s"
                )
        if all(state.published == state.applied for state in states.values()):
            return
        async with self._lock:
            await self._with_retries(self._transaction.mark_published)

    async def on_revoked(self) -> None:
        """Note applied records as published, so that the next worker does not repeat them; let all partitions go."""
        async with self._lock:
            if self._connection is not None:
                try:
                    await self._transaction.mark_published(self._connection)
                except (psycopg.Error, KafkaError, OSError) as error:
                    _raise_unless_retriable(error)
                    log.info("the next worker publishes the last batch again (%s)", error)
            # The next worker waits for the events that a gap lacks; this process too would begin at the cursor again.
            self._transaction.states.clear()

    async def close(self) -> None:
        """Let the partitions go, and close all connections."""
        await self.on_revoked()
        await self._publisher.close()
        if self._connection is not None:
            await self._connection.close()

    # One batch.

    async def _process(self, batch: Batch) -> None:
        """Commit a batch and publish the records that follow from it."""
        self.metrics.note_begin()
        outgoing = await self._commit_fenced(list(batch), lambda connection: self._commit(connection, batch))
        self.metrics.note_commit()
        await self._publish(outgoing)
        self.metrics.note_published(batch, outgoing)

    async def _commit_fenced(
        self, partitions: Sequence[TopicPartition], commit: Work[list[Outgoing]]
    ) -> list[Outgoing]:
        """Commit a transaction; when a cursor is not as this process left it, open its partition again first."""
        while True:
            try:
                return await self._with_retries(commit)
            except Fenced:
                await self._with_retries(lambda connection: self._open(connection, partitions))

    async def _commit(self, connection: AsyncConnection, batch: Batch) -> list[Outgoing]:
        try:
            return await self._transaction.commit(connection, batch)
        except _SLOW_ERRORS as error:
            self._forget()
            await self._drop_connection()
            log.warning("the database ended the transaction (%s); trying smaller batches", str(error).strip())
            raise TooSlow from error
        except BaseException:
            self._forget()
            raise

    async def _publish(self, outgoing: Sequence[Outgoing]) -> None:
        try:
            await self._publisher.publish(outgoing)
        except BaseException:
            # Nothing newer may be published before it: without states the next batch is fenced.
            self._transaction.states.clear()
            raise
        failpoint(f"{self._role.name}.after_publish")
        if self._role.committed is not None:
            self._role.committed()

    async def _send_to_dead_letters(self, batch: Batch, error: Exception) -> None:
        """Send the one record that is left of a batch to the dead-letter topic."""
        ((partition, (record,)),) = batch.items()
        if self._topics[partition.topic] is BOOKING_EVENTS:
            raise Stopped(cannot_be_applied(record, error)) from error
        reason = str(error).strip().partition("\n")[0].replace("\0", "\\0")[:MAX_REASON]
        dead_letters = await self._commit_fenced(
            [partition], lambda connection: self._transaction.commit_dead_letter(connection, record, reason)
        )
        log.error("dead letter: %s: %s", position_text(record), reason, extra=ids_of(record.headers))
        await self._publish(dead_letters)

    # Partitions.

    def _partitions_without_new(self, batch: Batch) -> list[TopicPartition]:
        """Return the partitions whose records every consumer has applied already, which hardly ever happens."""
        new_from = self._transaction.next_offsets()
        return [partition for partition, records in batch.items() if records[-1].offset < new_from.get(partition, 0)]

    async def _open_again(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Read the topics' ids and the cursors again; return the offset to read next, for each partition."""
        await self._with_retries(self._transaction.mark_published)
        self._assignment.forget_generations()
        return await self._with_retries(lambda connection: self._open(connection, partitions))

    async def _open(
        self, connection: AsyncConnection, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        self._forget()
        opened = await self._assignment.open(connection, partitions)
        self._transaction.states |= {key: CursorState(c.applied, c.applied) for key, c in opened.items()}
        return {
            partition: min(c.applied for key, c in opened.items() if (key.topic, key.partition) == partition) + 1
            for partition in partitions
        }

    def _forget(self) -> None:
        for consumer in self._role.consumers:
            consumer.forget()

    # The database.

    async def _with_retries(self, work: Work[T]) -> T:
        """Do the work on the connection; when the database or the broker cannot be reached, wait and do it again."""
        backoff = Backoff(f"{self._role.name} waits for the database or the broker")
        while True:
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                result = await work(self._connection)
            except (psycopg.Error, KafkaError, OSError) as error:
                _raise_unless_retriable(error)
                await self._drop_connection()
                await backoff.wait(error, reason_of(error))
            else:
                backoff.reset()
                return result

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def dependencies_of(role: Role, kafka: KafkaSettings, database: DatabaseSettings, client_id: str) -> Dependencies:
    """Return the dependencies of a process: the broker, under this client's name, and PostgreSQL."""
    return Dependencies(
        log=KafkaLog(kafka, client_id), connect=lambda: connect_worker(database, f"innkeeper {role.name}")
    )


def _raise_unless_retriable(error: Exception) -> None:
    """Raise an error of the database that trying again does not mend; those of the broker and of sockets pass."""
    if isinstance(error, psycopg.Error) and reason_of(error) is None:
        raise error


def _merge(fetched: Iterable[Sequence[Record]]) -> Batch:
    """Return one batch of all that was fetched; the records of a partition stay in order."""
    batch: dict[TopicPartition, list[Record]] = {}
    for records in fetched:
        batch.setdefault(TopicPartition(records[0].topic, records[0].partition), []).extend(records)
    return dict(batch)


def _split(batch: Batch, error: Exception) -> list[Batch]:
    """Return smaller batches, in order; an error that names no record is searched for by partition, then by halving.

    A batch of a single record is returned as it is.
    """
    if isinstance(error, Unreadable):
        bad = error.record
        partition = TopicPartition(bad.topic, bad.partition)
        before = [record for record in batch[partition] if record.offset < bad.offset]
        after = [record for record in batch[partition] if record.offset > bad.offset]
        parts: list[Batch] = [{**batch, partition: before}, {partition: [bad]}, {partition: after}]
    elif len(batch) > 1:
        parts = [{partition: records} for partition, records in batch.items()]
    else:
        ((partition, records),) = batch.items()
        middle = len(records) // 2
        parts = [{partition: records[:middle]}, {partition: records[middle:]}]
    return _without((), parts)


def _without(partitions: Container[TopicPartition], batches: Iterable[Batch]) -> list[Batch]:
    """Return the batches without some partitions; empty ones are dropped."""
    remaining = (
        {partition: records for partition, records in batch.items() if records and partition not in partitions}
        for batch in batches
    )
    return [batch for batch in remaining if batch]
