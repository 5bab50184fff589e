"""One batch of records, applied in one transaction behind the cursors' fence.

Locks the cursors' rows, lets the consumers decide and write, moves the cursors and stores in `outbox` the records
to publish. Reads and writes `log_cursor`, `outbox` and `dead_letter`. It neither retries nor publishes.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from aiokafka import TopicPartition
from psycopg import AsyncConnection

from storage.cursors import Cursor, CursorKey
from storage.ledger import CursorStatements
from topics.catalogue import BOOKING_EVENTS, Topic
from topics.envelope import Outgoing
from topics.failpoints import failpoint
from topics.kafka.records import time_of
from workers.runtime.assignment import Assignment
from workers.runtime.batch_metrics import BatchMetrics
from workers.runtime.cursor_state import CursorState, EventSequence, unread
from workers.runtime.records import dead_letter, fingerprint, read
from workers.runtime.role import Consumer, PartitionBatch, Record, Role, Stopped

log = logging.getLogger(__name__)

#: How many records a consumer may send from one partition to the dead-letter topic in an hour before it stops instead.
MAX_DEAD_LETTERS_AN_HOUR: Final = 10
#: How often in a row the records of a partition may begin beyond its cursor before that is an error.
MAX_OFFSET_GAPS: Final = 5

Batch: TypeAlias = Mapping[TopicPartition, Sequence[Record]]
_OutboxEntry: TypeAlias = tuple[Cursor, Sequence[Outgoing]]


class Fenced(Exception):
    """A cursor is not as this process left it: another worker wrote, or the answer to an own commit was lost."""


class OffsetGap(Exception):
    """Records begin beyond the cursor; the partition must be read again from offset `seek`."""

    def __init__(self, partition: TopicPartition, seek: int) -> None:
        super().__init__(f"{partition.topic}[{partition.partition}] must be read again from {seek}")
        self.partition = partition
        self.seek = seek


class BatchTransaction:
    """Applies batches; `states` has every cursor of the partitions assigned to this process, as it left them."""

    def __init__(
        self,
        role: Role,
        topics: Mapping[str, Topic],
        assignment: Assignment,
        dead_letters: str,
        *,
        metrics: BatchMetrics,
        cursors: CursorStatements,
    ) -> None:
        """`topics` are by name on the broker; `dead_letters` is such a name."""
        self.states: dict[CursorKey, CursorState] = {}
        self._role = role
        self._topics = topics
        self._assignment = assignment
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._cursors = cursors
        self._offset_gaps: Counter[TopicPartition] = Counter()

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Return by partition the first offset that is new to any consumer."""
        offsets: dict[TopicPartition, int] = {}
        for key, state in self.states.items():
            partition = TopicPartition(key.topic, key.partition)
            offsets[partition] = min(state.next_offset, offsets.get(partition, state.next_offset))
        return offsets

    async def commit(self, connection: AsyncConnection, batch: Batch) -> list[Outgoing]:
        """Apply a batch and return the records to publish now that it is committed.

        Raises:
            Fenced: nothing was written; the partitions must be opened again.
            OffsetGap: nothing was written; a partition must be read again.
            Stopped: an operator must decide.
            workers.runtime.role.Unreadable: nothing was written; one record must go to the dead-letter topic.
        """
        outbox: list[_OutboxEntry] = []
        states: dict[CursorKey, CursorState] = {}
        async with connection.transaction():
            locked = await self._lock(connection, batch)
            for consumer in self._role.consumers:
                partition_batches = []
                for key, cursor in locked.items():
                    if key.consumer == consumer.name:
                        partition_batch, states[key] = self._read(
                            cursor, batch[TopicPartition(key.topic, key.partition)]
                        )
                        partition_batches.append(partition_batch)
                outbox += await _handle(connection, consumer, partition_batches)
            for cursor, _ in outbox:
                # A gap that closes may leave `applied` where it was, and its records are not published yet.
                cursor.published = min(cursor.published, cursor.applied - 1)
                states[cursor.key].published = cursor.published
            await self._cursors.save(connection, list(locked.values()), outbox)
            failpoint(f"{self._role.name}.in_batch")
        failpoint(f"{self._role.name}.after_commit")
        for key, state in states.items():
            if state.next_offset > self.states[key].next_offset:
                self._offset_gaps.pop(TopicPartition(key.topic, key.partition), None)
        self.states.update(states)
        return [record for _, records in outbox for record in records]

    async def commit_dead_letter(self, connection: AsyncConnection, record: Record, reason: str) -> list[Outgoing]:
        """Move past one record; return its dead letters, one for each consumer, which must be published.

        Raises:
            Fenced: nothing was written; the partition must be opened again.
            Stopped: too many within an hour; something is wrong with more than a record.
        """
        outbox: list[_OutboxEntry] = []
        async with connection.transaction():
            locked = await self._lock(connection, [TopicPartition(record.topic, record.partition)])
            for key, cursor in locked.items():
                if cursor.applied >= record.offset:
                    # This consumer has moved past it already: the answer to the commit was lost.
                    continue
                count = await self._cursors.record_dead_letter(connection, key, record.offset, reason)
                if count > MAX_DEAD_LETTERS_AN_HOUR:
                    raise Stopped(
                        f"{key.consumer}: {count} dead letters from {key.topic}[{key.partition}] within an hour;"
                        f" the last at offset {record.offset}: {reason}"
                    )
                cursor.published, cursor.applied = cursor.applied, record.offset
                cursor.last_hash = fingerprint(record)
                outbox.append((cursor, [dead_letter(self._dead_letters, key.consumer, record, reason)]))
            await self._cursors.save(connection, list(locked.values()), outbox)
        for key, cursor in locked.items():
            self.states[key] = CursorState(cursor.applied, cursor.published)
        self._metrics.count_dead_letters(cursor.key for cursor, _ in outbox)
        return [record for _, records in outbox for record in records]

    async def mark_published(self, connection: AsyncConnection) -> None:
        """Write into the cursors' rows that the broker has everything that is applied; call it only when it has."""
        behind = {key: state for key, state in self.states.items() if state.published < state.applied}
        async with connection.transaction():
            for key, state in behind.items():
                await self._cursors.mark_published(connection, key, state.applied)
        for state in behind.values():
            state.published = state.applied

    async def _lock(self, connection: AsyncConnection, partitions: Iterable[TopicPartition]) -> dict[CursorKey, Cursor]:
        """Lock the partitions' cursors; until the transaction ends nobody else writes for them.

        Raises:
            Fenced: one of them is not as this process left it.
        """
        locked = await self._cursors.lock(connection, self._assignment.keys(partitions))
        for key, cursor in locked.items():
            if key not in self.states or self.states[key].applied != cursor.applied:
                raise Fenced
        return locked

    def _read(self, cursor: Cursor, records: Sequence[Record]) -> tuple[PartitionBatch, CursorState]:
        """Return the records that are new to the cursor, which is moved past them, and the new state.

        Raises:
            OffsetGap: they begin too late, or some are missing between them.
        """
        state, key = self.states[cursor.key], cursor.key
        batch = PartitionBatch(self._topics[key.topic], key.partition, cursor)
        new = unread(state.next_offset, records)
        if new is None:
            raise self._offset_gap(OffsetGap(TopicPartition(key.topic, key.partition), state.next_offset))
        # Everything applied before this batch is published: the publisher finishes one batch before the next begins.
        cursor.published = cursor.applied
        if not new:
            return batch, CursorState(cursor.applied, cursor.published, state.gap, state.recent)
        gap = None
        if batch.topic is BOOKING_EVENTS:
            sequence = EventSequence(cursor, state)
            for record in new:
                self._receive(batch, record, sequence)
            cursor.sequence = sequence.last
            gap = sequence.gap(new[-1].offset)
        else:
            for record in new:
                self._receive(batch, record, None)
        done = new if gap is None else [record for record in new if record.offset < gap.offset]
        if done:
            cursor.applied = done[-1].offset
            cursor.last_hash = fingerprint(done[-1])
        return batch, CursorState(cursor.applied, cursor.published, gap, state.recent)

    def _receive(self, batch: PartitionBatch, record: Record, sequence: EventSequence | None) -> None:
        """Decode a record and add it to the batch, except an event that is not the next of its sequence."""
        cursor = batch.cursor
        at = time_of(record)
        if cursor.last_time is None or at > cursor.last_time:
            cursor.last_time = at
        received = read(batch.topic, record, cursor.last_time)
        if sequence is None or sequence.is_next(received):
            batch.received.append(self._metrics.begin_span(received) if self._metrics.traces else received)

    def _offset_gap(self, gap: OffsetGap) -> Exception:
        """Count a gap; return it, or the error to raise in its stead after too many in a row."""
        self._offset_gaps[gap.partition] += 1
        log.warning("%s", gap)
        if self._offset_gaps[gap.partition] > MAX_OFFSET_GAPS:
            return Stopped(f"{gap}, {self._offset_gaps[gap.partition]} times in a row: the log has an offset gap")
        return gap


async def _handle(
    connection: AsyncConnection, consumer: Consumer, batches: Sequence[PartitionBatch]
) -> list[_OutboxEntry]:
    """Let the consumer apply its batches; return the records that follow from each."""
    new = [batch for batch in batches if batch.received]
    if not new:
        return []
    outgoing = await consumer.handle(connection, new)
    return [(batch.cursor, records) for batch, records in zip(new, outgoing, strict=True) if records]
