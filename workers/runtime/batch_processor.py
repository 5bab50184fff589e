"""Processes batches of records: a transaction, then the publication, and what to do when either fails.

Knows PostgreSQL and Kafka, not Faust; docs/one-batch.md draws it.

A broken dependency is retried with backoff. Data that PostgreSQL refuses is found by deciding one record at a time, and
goes to the dead-letter topic. A batch for which this machine is too slow is split. Any other error is raised, and the
process ends.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from typing import Final, TypeVar

import psycopg
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from psycopg import AsyncConnection

from storage.database import connect_worker
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
from workers.runtime.log_source import LogSource
from workers.runtime.publisher import Publisher
from workers.runtime.records import cannot_be_applied
from workers.runtime.role import Record, Role, Stopped, Unreadable

log = logging.getLogger(__name__)

#: How much of the reason a dead letter carries, in characters.
MAX_REASON: Final = 500
#: How long a gap in the events' sequence may stay open.
MAX_GAP_SECONDS: Final = 60.0

_RETRIED = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # The session of a process that was frozen in the middle of a transaction is gone when it wakes.
    psycopg.errors.IdleInTransactionSessionTimeout,
    KafkaError,
    OSError,
)
_BROKEN_DATA = (psycopg.DataError, psycopg.IntegrityError, OverflowError)

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]


class TooSlow(Exception):
    """The database ended a transaction of ours that was idle: we were frozen, or the batch is too long for us."""


class BatchProcessor:
    """The role's work on the partitions that are assigned to this process at the moment."""

    def __init__(self, role: Role, kafka: KafkaSettings, database: DatabaseSettings, client_id: str) -> None:
        self._role = role
        self._database = database
        self._topics: Mapping[str, Topic] = {kafka.topic(topic): topic for topic in role.topics}
        self.metrics = BatchMetrics(role, self._topics, lambda: self._transaction.states)
        self._publisher = Publisher(kafka, client_id)
        self._source = LogSource(kafka, client_id)
        self._assignment = Assignment(role, self._topics, self._source, self._publisher)
        self._transaction = BatchTransaction(
            role, self._topics, self._assignment, kafka.topic(DEAD_LETTERS), self.metrics
        )
        self._connection: AsyncConnection | None = None
        self._lock = asyncio.Lock()

    # The agent and the transport call these.

    async def on_assigned(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Open newly assigned partitions; return the offset to read next, for each.

        Raises:
            Stopped: the log was cut or replaced under a cursor.
        """
        ours = [partition for partition in partitions if partition.topic in self._topics]
        async with self._lock:
            self._assignment.forget_generations()
            self._transaction.states.clear()
            return await self._retried(lambda connection: self._open(connection, ours))

    async def process(self, fetched: Iterable[Sequence[Record]]) -> dict[TopicPartition, int]:
        """Process fetched records; return the partitions that must be read again, with the offset to seek to."""
        seeks: dict[TopicPartition, int] = {}
        work: list[Batch] = [_merged(fetched)]
        async with self._lock:
            if again := self._read_before(work[0]):
                # Either they were fetched twice, or the topic was made anew under its name: the broker knows.
                seeks |= await self._open_again(again)
                work = _without(again, work)
            while work:
                batch = work.pop(0)
                try:
                    await self._process(batch)
                except OffsetGap as gap:
                    seeks[gap.partition] = gap.seek
                    work = _without([gap.partition], [batch, *work])
                except TooSlow as error:
                    # As a whole it would take as long again.
                    work = [*_split(batch, error), *work]
                except psycopg.errors.CheckViolation:
                    raise
                except (*_BROKEN_DATA, Unreadable) as error:
                    smaller = _split(batch, error)
                    if len(smaller) == 1:
                        await self._give_up(batch, error)
                    else:
                        log.warning("a batch cannot be processed (%s); trying smaller ones", error)
                        work = [*smaller, *work]
        return seeks

    async def mark_published(self) -> None:
        """Note in the ledger what the broker has; called when idle.

        Raises:
            Stopped: a gap in the events' sequence stays open.
        """
        states = self._transaction.states
        for key, state in states.items():
            if state.gap is not None and time.monotonic() - state.gap.since > MAX_GAP_SECONDS:
                raise Stopped(
                    f"{key.consumer}: events are missing in {key.topic}[{key.partition}] before offset"
                    f" {state.gap.offset}, for more than {MAX_GAP_SECONDS:.0f} s"
                )
        if all(state.published == state.applied for state in states.values()):
            return
        async with self._lock:
            await self._retried(self._transaction.mark_published)

    async def on_revoked(self) -> None:
        """Note what the broker has, lest the next worker publish it once more, and let all partitions go."""
        async with self._lock:
            if self._connection is not None:
                try:
                    await self._transaction.mark_published(self._connection)
                except _RETRIED as error:
                    log.info("the next worker publishes the last batch again (%s)", error)
            # The next worker waits for what a gap lacks; if that is us, we begin at the cursor again.
            self._transaction.states.clear()

    async def close(self) -> None:
        """Let the partitions go, and close all connections."""
        await self.on_revoked()
        await self._publisher.close()
        await self._source.close()
        if self._connection is not None:
            await self._connection.close()

    # One batch.

    async def _process(self, batch: Batch) -> None:
        """Commit a batch and publish what it leads to."""
        self.metrics.begins()
        outgoing = await self._fenced(list(batch), lambda connection: self._commit(connection, batch))
        self.metrics.commits()
        await self._publish(outgoing)
        self.metrics.published(batch, outgoing)

    async def _fenced(self, partitions: Sequence[TopicPartition], commit: Work[list[Outgoing]]) -> list[Outgoing]:
        """Do a transaction; when a cursor is not where we left it, open its partition again first."""
        while True:
            try:
                return await self._retried(commit)
            except Fenced:
                await self._retried(lambda connection: self._open(connection, partitions))

    async def _commit(self, connection: AsyncConnection, batch: Batch) -> list[Outgoing]:
        try:
            return await self._transaction.commit(connection, batch)
        except psycopg.errors.IdleInTransactionSessionTimeout as error:
            self._forget()
            await self._drop_connection()
            log.warning("the database ended a transaction of ours that was idle; trying smaller ones")
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

    async def _give_up(self, batch: Batch, error: Exception) -> None:
        """Send the one record that is left of a batch to the dead-letter topic."""
        ((partition, (record,)),) = batch.items()
        if self._topics[partition.topic] is BOOKING_EVENTS:
            raise Stopped(cannot_be_applied(record, error)) from error
        reason = str(error).strip().partition("\n")[0].replace("\0", "\\0")[:MAX_REASON]
        dead_letters = await self._fenced(
            [partition], lambda connection: self._transaction.commit_dead_letter(connection, record, reason)
        )
        log.error("dead letter: %s: %s", position_text(record), reason, extra=ids_of(record.headers))
        await self._publish(dead_letters)

    # Partitions.

    def _read_before(self, batch: Batch) -> list[TopicPartition]:
        """Return the partitions in which nothing is new to any consumer, which hardly ever happens."""
        new_from = self._transaction.next_offsets()
        return [partition for partition, records in batch.items() if records[-1].offset < new_from.get(partition, 0)]

    async def _open_again(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Look anew at broker and ledger; return the offset to read next, for each partition."""
        await self._retried(self._transaction.mark_published)
        self._assignment.forget_generations()
        return await self._retried(lambda connection: self._open(connection, partitions))

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

    async def _retried(self, work: Work[T]) -> T:
        """Do the work on the connection; when the database or the broker is away, wait and do it again."""
        backoff = Backoff(f"{self._role.name} waits for the database or the broker")
        while True:
            try:
                if self._connection is None:
                    self._connection = await connect_worker(self._database, f"innkeeper {self._role.name}")
                result = await work(self._connection)
            except _RETRIED as error:
                await self._drop_connection()
                await backoff.wait(error)
            else:
                backoff.reset()
                return result

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _merged(fetched: Iterable[Sequence[Record]]) -> Batch:
    """Return one batch of all that was fetched; the records of a partition stay in order."""
    merged: dict[TopicPartition, list[Record]] = {}
    for records in fetched:
        merged.setdefault(TopicPartition(records[0].topic, records[0].partition), []).extend(records)
    return dict(merged)


def _split(batch: Batch, error: Exception) -> list[Batch]:
    """Return smaller batches, in order; where the error names no record that fails alone, it is found by halving.

    The same batch alone comes back when it is a single record.
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
    """Return the batches without some partitions, and without what is empty."""
    less = (
        {partition: records for partition, records in batch.items() if records and partition not in partitions}
        for batch in batches
    )
    return [batch for batch in less if batch]
