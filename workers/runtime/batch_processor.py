"""Carries out runs of the log: fence, transaction, outbox, publication. Knows PostgreSQL and Kafka, not Faust.

Reads `log_cursor` and what the role reads; writes what the role writes, `outbox` and `log_cursor` in one transaction;
then publishes. On failure: a broken dependency gets backoff; data that PostgreSQL refuses is found by deciding one
record at a time and goes to the dead letters; a run for which this machine is too slow is split; anything else is
raised, and the process ends.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

import psycopg
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from psycopg import AsyncConnection

from storage import cursors
from storage.cursors import Cursor, CursorKey
from storage.database import connect_worker
from storage.settings import DatabaseSettings
from telemetry.ids import ids_of
from topics.backoff import Backoff
from topics.catalogue import BOOKING_EVENTS, DEAD_LETTERS, Topic
from topics.envelope import Outgoing
from topics.failpoints import failpoint
from topics.kafka.settings import KafkaSettings
from workers.runtime.batch_metrics import BatchMetrics
from workers.runtime.log_source import Bounds, LogSource
from workers.runtime.publisher import Publisher
from workers.runtime.records import Progress, cannot_be_applied, dead_letter, fingerprint, following, in_sequence, read
from workers.runtime.role import Consumer, PartitionBatch, Record, Role, Stopped, Unreadable

log = logging.getLogger(__name__)

#: How many dead letters a consumer may bury in a partition within an hour before it stops instead.
MAX_DEAD_LETTERS_AN_HOUR: Final = 10
#: How much of the reason a dead letter carries, in characters.
MAX_REASON: Final = 500
#: How long a gap in the events' sequence may stay open.
MAX_GAP_SECONDS: Final = 60.0
#: How often a run may begin beyond the cursor before that is an error.
MAX_OFFSET_GAPS: Final = 5

_TROUBLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # What a process hears that was frozen in the middle of a transaction: its session is gone.
    psycopg.errors.IdleInTransactionSessionTimeout,
    KafkaError,
    OSError,
)
_BROKEN_DATA = (psycopg.DataError, psycopg.IntegrityError, OverflowError)


T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]
OutboxEntry = tuple[Cursor, Sequence[Outgoing]]


class Fenced(Exception):
    """A cursor does not stand where this process left it: somebody else wrote, or an own commit went unheard."""


class TooSlow(Exception):
    """The database ended a transaction of ours that stood still: we were frozen, or the run is too long for us."""


class OffsetGap(Exception):
    """A run begins beyond the cursor; the partition must be read again from `seek`."""

    def __init__(self, place: TopicPartition, seek: int) -> None:
        super().__init__(f"{place.topic}[{place.partition}] must be read again from {seek}")
        self.place = place
        self.seek = seek


class BatchProcessor:
    """The role's work on whatever partitions this process owns at the moment."""

    def __init__(self, role: Role, kafka: KafkaSettings, database: DatabaseSettings, client_id: str) -> None:
        self._role = role
        self._kafka = kafka
        self._database = database
        self._publisher = Publisher(kafka, client_id)
        self._source = LogSource(kafka, client_id)
        self._topics: Mapping[str, Topic] = {kafka.topic(topic): topic for topic in role.topics}
        self._generations: dict[str, int] = {}
        self._progress: dict[CursorKey, Progress] = {}
        self._holes: Counter[TopicPartition] = Counter()
        self._connection: AsyncConnection | None = None
        self._lock = asyncio.Lock()
        self.watch = BatchMetrics(role, self._topics, lambda: self._progress)

    # What the agent calls.

    async def on_assigned(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Make partitions ours: publish what was left unpublished and return the offset to read next, for each.

        Raises:
            Stopped: the log was cut or replaced under a cursor.
        """
        wanted = [place for place in places if place.topic in self._topics]
        async with self._lock:
            self._generations.clear()
            self._progress.clear()
            return await self._patiently(lambda connection: self._on_assigned(connection, wanted))

    async def process(self, batches: Iterable[Sequence[Record]]) -> dict[TopicPartition, int]:
        """Carry out records and return the partitions that must be read again, with the offset to seek to."""
        seeks: dict[TopicPartition, int] = {}
        work = [_merged(batches)]
        async with self._lock:
            if again := self._read_before(work[0]):
                # Read twice, or from a log that was made anew under the same name: the broker knows which.
                seeks |= await self._look_again(again)
                work = _without(again, work)
            while work:
                waiting = work.pop(0)
                try:
                    await self._process(waiting)
                except OffsetGap as hole:
                    self._count_hole(hole)
                    seeks[hole.place] = hole.seek
                    work = _without([hole.place], [waiting, *work])
                except TooSlow as error:
                    # As a whole it would take as long again, and again.
                    work = [*_split(waiting, error), *work]
                except psycopg.errors.CheckViolation:
                    raise
                except (*_BROKEN_DATA, Unreadable) as error:
                    smaller = _split(waiting, error)
                    if len(smaller) == 1:
                        await self._give_up(waiting, error)
                    else:
                        log.warning("a batch cannot be carried out (%s); trying smaller ones", error)
                        work = [*smaller, *work]
        return seeks

    def _read_before(self, waiting: Mapping[TopicPartition, Sequence[Record]]) -> list[TopicPartition]:
        """Return the partitions in which nothing is new to any consumer, which hardly ever happens."""
        positions: dict[TopicPartition, int] = {}
        for key, progress in self._progress.items():
            place = TopicPartition(key.topic, key.partition)
            positions[place] = min(progress.position, positions.get(place, progress.position))
        return [place for place, records in waiting.items() if records[-1].offset <= positions.get(place, -1)]

    async def _look_again(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Ask broker and ledger anew where these partitions stand; return the offset to read next, for each."""
        await self._patiently(self._mark)
        self._generations.clear()
        return await self._patiently(lambda connection: self._on_assigned(connection, places))

    async def mark_published(self) -> None:
        """Note in the ledger what the broker has; called when idle. Stops the role when a gap stays open."""
        for key, progress in self._progress.items():
            if progress.gap is not None and time.monotonic() - progress.gap.since > MAX_GAP_SECONDS:
                raise Stopped(
                    f"{key.consumer}: events are missing in {key.topic}[{key.partition}] before offset"
                    f" {progress.gap.offset}, for more than {MAX_GAP_SECONDS:.0f} s"
                )
        if all(progress.marked for progress in self._progress.values()):
            return
        async with self._lock:
            await self._patiently(self._mark)

    async def on_revoked(self) -> None:
        """Note what the broker has before somebody else goes on, who would otherwise publish it once more."""
        async with self._lock:
            if self._connection is not None:
                try:
                    await self._mark(self._connection)
                except _TROUBLE as error:
                    log.info("what was published last is published again by whoever goes on (%s)", error)
            # A gap is for whoever goes on to wait for; and if that is us, we begin at the cursor again.
            self._progress.clear()

    async def close(self) -> None:
        """Let everything go."""
        await self.on_revoked()
        await self._publisher.close()
        await self._source.close()
        if self._connection is not None:
            await self._connection.close()

    # One transaction.

    async def _process(self, waiting: Mapping[TopicPartition, Sequence[Record]]) -> None:
        """Decide, commit and publish; when a cursor moved behind our back, take its partition over first."""
        self.watch.begins()
        outgoing = await self._at_the_cursor(list(waiting), lambda connection: self._transaction(connection, waiting))
        self.watch.commits()
        await self._publish(outgoing)
        self.watch.published(waiting, outgoing)

    async def _at_the_cursor(self, places: Sequence[TopicPartition], work: Work[list[Outgoing]]) -> list[Outgoing]:
        while True:
            try:
                return await self._patiently(work)
            except Fenced:
                await self._patiently(lambda connection: self._on_assigned(connection, places))

    async def _transaction(
        self, connection: AsyncConnection, waiting: Mapping[TopicPartition, Sequence[Record]]
    ) -> list[Outgoing]:
        try:
            return await self._commit(connection, waiting)
        except psycopg.errors.IdleInTransactionSessionTimeout as error:
            self._forget()
            await self._drop_connection()
            log.warning("the database ended a transaction of ours that stood still; trying smaller ones")
            raise TooSlow from error
        except BaseException:
            self._forget()
            raise

    async def _commit(
        self, connection: AsyncConnection, waiting: Mapping[TopicPartition, Sequence[Record]]
    ) -> list[Outgoing]:
        outbox: list[OutboxEntry] = []
        progress: dict[CursorKey, Progress] = {}
        async with connection.transaction():
            locked = await cursors.lock(connection, self._keys(waiting))
            for key, cursor in locked.items():
                if key not in self._progress or self._progress[key].acked != cursor.applied:
                    raise Fenced
            for consumer in self._role.consumers:
                runs = []
                for key, cursor in locked.items():
                    if key.consumer == consumer.name:
                        run, progress[key] = self._run(cursor, waiting[TopicPartition(key.topic, key.partition)])
                        runs.append(run)
                outbox += await self._handle(connection, consumer, runs)
            await cursors.save(connection, list(locked.values()), outbox)
            failpoint(f"{self._role.name}.in_batch")
        failpoint(f"{self._role.name}.after_commit")
        for key, cursor in locked.items():
            progress[key].acked = cursor.applied
            if progress[key].position > self._progress[key].position:
                self._holes.pop(TopicPartition(key.topic, key.partition), None)
        self._progress.update(progress)
        return [record for _, records in outbox for record in records]

    async def _handle(
        self, connection: AsyncConnection, consumer: Consumer, runs: Sequence[PartitionBatch]
    ) -> list[OutboxEntry]:
        """Let the consumer work; return what each run leads to."""
        fresh = [run for run in runs if run.received]
        if not fresh:
            return []
        led_to = await consumer.handle(connection, fresh)
        return [(run.cursor, records) for run, records in zip(fresh, led_to, strict=True) if records]

    def _run(self, cursor: Cursor, records: Sequence[Record]) -> tuple[PartitionBatch, Progress]:
        """Return the records that are new to the cursor, which is moved past them, and how far we have read.

        Raises:
            OffsetGap: they begin too late, or some are missing between them.
        """
        known = self._progress[cursor.key]
        topic = self._topics[cursor.key.topic]
        run = PartitionBatch(topic, cursor.key.partition, cursor)
        progress = Progress(known.acked, known.position, known.gap, marked=False)
        cursor.published = cursor.applied
        fresh = following(progress.position, records)
        if fresh is None:
            raise OffsetGap(TopicPartition(cursor.key.topic, cursor.key.partition), progress.position + 1)
        if fresh:
            self._read(run, progress, fresh)
            progress.position = fresh[-1].offset
            done = fresh if progress.gap is None else [r for r in fresh if r.offset < progress.gap.offset]
            if done:
                cursor.applied = done[-1].offset
                cursor.last_hash = fingerprint(done[-1])
        return run, progress

    def _read(self, run: PartitionBatch, progress: Progress, records: Sequence[Record]) -> None:
        cursor = run.cursor
        for record in records:
            at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
            if cursor.last_time is None or at > cursor.last_time:
                cursor.last_time = at
            received = read(run.topic, record, cursor.last_time)
            if run.topic is not BOOKING_EVENTS or in_sequence(cursor, progress, received):
                run.received.append(self.watch.traced(received) if self.watch.traces else received)

    # When it does not go smoothly.

    async def _give_up(self, waiting: Mapping[TopicPartition, Sequence[Record]], error: Exception) -> None:
        """Bury the one record that is left of a batch."""
        ((place, (record,)),) = waiting.items()
        if self._topics[place.topic] is BOOKING_EVENTS:
            raise Stopped(cannot_be_applied(record, error)) from error
        reason = str(error).strip().partition("\n")[0].replace("\0", "\\0")[:MAX_REASON]
        await self._publish(
            await self._at_the_cursor([place], lambda connection: self._bury(connection, record, reason))
        )

    async def _bury(self, connection: AsyncConnection, record: Record, reason: str) -> list[Outgoing]:
        """Send a record to the dead letters and move past it.

        Raises:
            Stopped: too many within an hour; something is wrong with more than a record.
        """
        place = TopicPartition(record.topic, record.partition)
        outbox: list[OutboxEntry] = []
        async with connection.transaction():
            locked = await cursors.lock(connection, self._keys([place]))
            for key, cursor in locked.items():
                if key not in self._progress or self._progress[key].acked != cursor.applied:
                    raise Fenced
                if cursor.applied >= record.offset:
                    # It is behind us already: the commit that buried it went unheard.
                    continue
                buried = await cursors.record_dead_letter(connection, key, record.offset, reason)
                if buried > MAX_DEAD_LETTERS_AN_HOUR:
                    raise Stopped(
                        f"{key.consumer}: {buried} dead letters from {key.topic}[{key.partition}] within an hour;"
                        f" the last at offset {record.offset}: {reason}"
                    )
                letter = dead_letter(self._kafka.topic(DEAD_LETTERS), key.consumer, record, reason)
                cursor.published, cursor.applied = cursor.applied, record.offset
                cursor.last_hash = fingerprint(record)
                outbox.append((cursor, [letter]))
            await cursors.save(connection, list(locked.values()), outbox)
        for key, cursor in locked.items():
            self._progress[key] = Progress(cursor.applied, cursor.applied, marked=False)
        self.watch.buried(cursor.key for cursor, _ in outbox)
        ids = ids_of(record.headers)
        log.error("dead letter: %s[%d]@%d: %s", record.topic, record.partition, record.offset, reason, extra=ids)
        return [letter for _, letters in outbox for letter in letters]

    def _count_hole(self, hole: OffsetGap) -> None:
        self._holes[hole.place] += 1
        log.warning("%s", hole)
        if self._holes[hole.place] > MAX_OFFSET_GAPS:
            raise Stopped(f"{hole}, {self._holes[hole.place]} times in a row: the log has a hole")

    async def _publish(self, outgoing: Sequence[Outgoing]) -> None:
        try:
            await self._publisher.publish(outgoing)
        except BaseException:
            self._progress.clear()
            raise
        failpoint(f"{self._role.name}.after_publish")
        if self._role.committed is not None:
            self._role.committed()

    async def _patiently(self, work: Work[T]) -> T:
        """Do the work on the connection; when the database or the broker is away, wait and do it again."""
        backoff = Backoff(f"{self._role.name} waits for the database or the broker")
        while True:
            try:
                if self._connection is None:
                    self._connection = await connect_worker(self._database, f"innkeeper {self._role.name}")
                result = await work(self._connection)
            except _TROUBLE as error:
                await self._drop_connection()
                await backoff.wait(error)
            else:
                backoff.reset()
                return result

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    # Taking partitions over.

    async def _on_assigned(
        self, connection: AsyncConnection, places: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        await self._learn_generations(connection)
        starts = await self._source.bounds(places)
        keys = self._keys(places)
        self._forget()
        unpublished: list[Outgoing] = []
        async with connection.transaction():
            async with connection.pipeline():
                for key in keys:
                    await cursors.create(connection, key, starts[TopicPartition(key.topic, key.partition)].start)
            locked = await cursors.lock(connection, keys)
            for key in locked:
                unpublished += await cursors.unpublished(connection, key)
        # Asked for again: while we waited for the rows their last owner may have gone on, past the log's end of then.
        await self._check_log(await self._source.bounds(places), locked.values())
        await self._publisher.publish(unpublished)
        if unpublished:
            log.info("published %d records that were left behind", len(unpublished))
        async with connection.transaction(), connection.pipeline():
            for key, cursor in locked.items():
                await cursors.mark_published(connection, key, cursor.applied)
        self._progress |= {key: Progress(cursor.applied, cursor.applied) for key, cursor in locked.items()}
        return {
            place: min(c.applied for k, c in locked.items() if (k.topic, k.partition) == place) + 1 for place in places
        }

    def _forget(self) -> None:
        for consumer in self._role.consumers:
            consumer.forget()

    async def _learn_generations(self, connection: AsyncConnection) -> None:
        missing = [topic for topic in self._topics if topic not in self._generations]
        if missing:
            for topic, broker_id in (await self._source.topic_ids(missing)).items():
                self._generations[topic] = await cursors.generation(connection, topic, broker_id)

    async def _check_log(self, bounds: Mapping[TopicPartition, Bounds], locked: Iterable[Cursor]) -> None:
        """Refuse a log that was cut or replaced under a cursor."""
        compare: dict[TopicPartition, Cursor] = {}
        for cursor in locked:
            key = cursor.key
            start, end = bounds[TopicPartition(key.topic, key.partition)]
            if start > cursor.applied + 1 or end < cursor.applied + 1:
                raise Stopped(_not_this_log(cursor, f"the log now goes from {start} to {end - 1}"))
            if cursor.last_hash is not None and start <= cursor.applied:
                compare[TopicPartition(key.topic, key.partition)] = cursor
        found = await self._source.records({place: cursor.applied for place, cursor in compare.items()})
        for place, record in found.items():
            if fingerprint(record) != compare[place].last_hash:
                raise Stopped(_not_this_log(compare[place], "another record stands there now"))

    async def _mark(self, connection: AsyncConnection) -> None:
        pending = {key: progress for key, progress in self._progress.items() if not progress.marked}
        async with connection.transaction():
            for key, progress in pending.items():
                await cursors.mark_published(connection, key, progress.acked)
        for progress in pending.values():
            progress.marked = True

    def _keys(self, places: Iterable[TopicPartition]) -> list[CursorKey]:
        return [
            CursorKey(consumer.name, place.topic, place.partition, self._generations[place.topic])
            for place in places
            for consumer in self._role.consumers
            if self._topics[place.topic] in consumer.topics
        ]


def _merged(batches: Iterable[Sequence[Record]]) -> dict[TopicPartition, Sequence[Record]]:
    merged: dict[TopicPartition, list[Record]] = {}
    for records in batches:
        merged.setdefault(TopicPartition(records[0].topic, records[0].partition), []).extend(records)
    return dict(merged)


def _split(
    waiting: Mapping[TopicPartition, Sequence[Record]], error: Exception
) -> list[dict[TopicPartition, Sequence[Record]]]:
    """Return smaller batches, in order; where the error names no record that fails alone, it is found by halving.

    The same batch alone comes back when it is a single record.
    """
    if isinstance(error, Unreadable):
        bad = error.record
        place = TopicPartition(bad.topic, bad.partition)
        before = [record for record in waiting[place] if record.offset < bad.offset]
        after = [record for record in waiting[place] if record.offset > bad.offset]
        parts: list[dict[TopicPartition, Sequence[Record]]] = [
            {**waiting, place: before},
            {place: [bad]},
            {place: after},
        ]
    elif len(waiting) > 1:
        parts = [{place: records} for place, records in waiting.items()]
    else:
        ((place, records),) = waiting.items()
        middle = len(records) // 2
        parts = [{place: records[:middle]}, {place: records[middle:]}]
    filled = ({place: records for place, records in part.items() if records} for part in parts)
    return [part for part in filled if part]


def _without(
    places: Container[TopicPartition], work: Iterable[Mapping[TopicPartition, Sequence[Record]]]
) -> list[dict[TopicPartition, Sequence[Record]]]:
    """Return the batches without some partitions."""
    less = ({place: records for place, records in waiting.items() if place not in places} for waiting in work)
    return [waiting for waiting in less if waiting]


def _not_this_log(cursor: Cursor, found: str) -> str:
    key = cursor.key
    return (
        f"{key.consumer} has applied {key.topic}[{key.partition}] up to offset {cursor.applied}, but {found}:"
        " the log was cut or replaced under the cursor. If this is the log to go on with, start a new generation:"
        f" innkeeper new-generation {key.topic}"
    )
