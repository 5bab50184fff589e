"""The restore: one transaction from an empty database to one from which the workers resume.

Reads all of `booking.events`, and from `booking.commands` the commands of the last events; writes the ledger, the read
models, pending Stripe calls and every cursor. After a failure the database is as before.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aiokafka import TopicPartition
from psycopg import AsyncConnection, sql

from operators.restore import coordination, payments, resume, sequences, target
from operators.restore.apply import EventBatch
from operators.restore.backup_check import BackupCheck, NamedIds, require_backup, require_installation
from operators.restore.log import Mark, Partition, envelope_of
from operators.restore.target import NotRestored
from storage import cursors, lost_log, operator_log
from storage.cursors import Cursor, CursorKey
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS, Topic
from topics.envelope import Outgoing
from topics.kafka import admin
from topics.kafka.log_reader import LogReader, NoSuchTopic, OffsetRange, partitions_of
from topics.kafka.replaced_events import EventsReplaced, Replacements, find_replaced
from topics.kafka.settings import KafkaSettings
from workers import projections
from workers.coordination.consumer import Coordination
from workers.decisions import Booking, Night
from workers.decisions.states import IllegalTransition
from workers.payments.consumer import Payments
from workers.payments.settings import PaymentSettings
from workers.reservations.handler import Reservations
from workers.reservations.write_batch import NightKey
from workers.runtime.records import fingerprint
from workers.runtime.role import Consumer, PartitionBatch, Received, Stopped

#: So many events are applied to the ledger, and then to the read models, at a time.
_RESTORED_EVENTS_IN_BATCH: Final = 20_000
_MAX_FETCH_MS: Final = 20
_EVENTS_FETCH_BYTES: Final = 2 * 2**20
#: Only a few commands are read, all over the log.
_COMMANDS_FETCH_BYTES: Final = 64 * 2**10

Progress = Callable[[int, int], None]
Ranges = Mapping[TopicPartition, OffsetRange]


@dataclass(frozen=True, kw_only=True)
class Restored:
    """The outcome of a restore: numbers of rows, and notes for the operator.

    Attributes:
        events: events of the log.
        bookings: rows of `booking`.
        nights: rows of `inventory`.
        sessions: rows of `checkout_session`.
        refunds: rows of `refund`.
        undecided: commands behind the last ones that have events; the reservations workers decide them.
        unpublished: events that were decided and never published; the reservations workers publish them.
        backup_check: the check of the backup against the ids that the log names.
        notes: sentences about anything unusual.
    """

    events: int
    bookings: int
    nights: int
    sessions: int
    refunds: int
    undecided: int
    unpublished: int
    backup_check: tuple[BackupCheck, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The input of a restore: the number of records, and the check of the backup against the ids they name."""

    records: int
    backup_check: tuple[BackupCheck, ...]


async def plan(
    kafka: KafkaSettings, database: DatabaseSettings, *, without_backup: bool = False, progress: Progress | None = None
) -> Plan:
    """Read the log and check the backup, without restoring anything. Takes and raises what `restore` does."""
    async with (
        await target.connect(database) as connection,
        LogReader(kafka, fetch_bytes=_EVENTS_FETCH_BYTES, fetch_wait_ms=_MAX_FETCH_MS) as events,
    ):
        await target.check(connection, with_ingress=True)
        ranges, named = await _ranges(kafka, events, BOOKING_EVENTS), NamedIds(connection)
        await _require_whole(kafka)
        await require_backup_of(connection, without_backup=without_backup or not _count(ranges))
        await named.create_tables()
        partitions = await _read(events, ranges, named, progress)
        for partition in partitions.values():
            partition.require_no_gap()
        return Plan(records=_count(ranges), backup_check=await named.check())


@dataclass(frozen=True, kw_only=True)
class PutBack:
    """A log whose events were put back from files; `newest` is the time at which it got the newest (UTC)."""

    newest: datetime | None


async def restore(
    kafka: KafkaSettings,
    database: DatabaseSettings,
    payments: PaymentSettings,
    *,
    operator: str,
    without_backup: bool = False,
    put_back: PutBack | None = None,
    progress: Progress | None = None,
) -> Restored:
    """Write the ledger, read models and cursors from `booking.events`.

    Args:
        kafka: where the topics are.
        database: a migrated database whose ledger is empty.
        payments: the settings that are parameters of Stripe calls: the mark's key, the address to which guests return.
        operator: the operator's name, for the operator log.
        without_backup: restore although there are no accounts, hotels or rooms.
        put_back: the log was lost too, and was filled from files: its commands are lost.
        progress: called with the records read and the records to read.

    Raises:
        NotRestored: the database or the log cannot be used for it; nothing was written.
        topics.kafka.log_reader.NoSuchTopic: there is no log to restore from.
        aiokafka.errors.KafkaError: the broker cannot be reached.
        psycopg.Error: the database cannot be written.
    """
    async with (
        await target.connect(database) as connection,
        LogReader(kafka, fetch_bytes=_EVENTS_FETCH_BYTES, fetch_wait_ms=_MAX_FETCH_MS) as events,
        LogReader(kafka, fetch_bytes=_COMMANDS_FETCH_BYTES, fetch_wait_ms=_MAX_FETCH_MS) as commands,
        # The caller that put the events back keeps others out itself.
        target.alone(connection) if put_back is None else nullcontext(),
    ):
        replaced: Replacements = {}
        restored = None
        while restored is None:
            try:
                async with connection.transaction():
                    await target.lock_tables(connection)
                    await target.check(connection, with_ingress=put_back is None)
                    ranges = await _ranges(kafka, events, BOOKING_EVENTS)
                    if put_back is None:
                        await _require_whole(kafka)
                    await require_backup_of(connection, without_backup=without_backup or not _count(ranges))
                    run = _Restore(kafka, payments, connection, events, commands, put_back=put_back)
                    restored = await run.run(ranges, replaced, progress)
                    details = {"events": restored.events, "bookings": restored.bookings}
                    if put_back is not None and not run.found_commands:
                        _require_empty(await _ranges(kafka, commands, BOOKING_COMMANDS))
                        details |= lost_log.MARK
                        await lost_log.forget_requests(connection)
                    await operator_log.record(
                        connection, who=operator, action="restore", target=kafka.topic(BOOKING_EVENTS), details=details
                    )
            except EventsReplaced:
                replaced = await find_replaced(events, ranges)
        # The workers' statements must not be planned for empty tables.
        await connection.execute("analyze")
    return restored


class _Restore:
    """One restore, inside its transaction."""

    def __init__(
        self,
        kafka: KafkaSettings,
        payments: PaymentSettings,
        connection: AsyncConnection,
        events: LogReader,
        commands: LogReader,
        *,
        put_back: PutBack | None,
    ) -> None:
        self._put_back = put_back
        self._kafka = kafka
        self._connection = connection
        self._events = events
        self._commands = commands
        self._settings = payments
        self._projections: Sequence[Consumer] = projections.build(kafka, DatabaseSettings()).consumers
        self._payments: Consumer = Payments(kafka, payments)
        self._coordination: Consumer = Coordination(kafka)
        self._reservations = Reservations(kafka)
        self._nights: dict[NightKey, Night | None] = {}
        self._partitions: dict[int, Partition] = {}
        self._generations: dict[Topic, int] = {}
        self._named = NamedIds(connection)
        self._notes: list[str] = []
        self._undecided = 0
        self._unpublished = 0
        # Whether the log has a command of which it has the events.
        self.found_commands = False

    async def run(self, ranges: Ranges, replaced: Replacements, progress: Progress | None) -> Restored:
        await _ranges(self._kafka, self._commands, BOOKING_COMMANDS)
        self._partitions = {
            each.partition: Partition(each.partition, self._named, replaced.get(each.partition, ())) for each in ranges
        }
        self._notes += [
            f"booking.events[{number}]: {each}, and were applied."
            for number, found in replaced.items()
            for each in found
        ]
        await self._begin_generations()
        await self._named.create_tables()
        await payments.create_table(self._connection)
        await self._apply_all(ranges, progress)
        for partition in self._partitions.values():
            partition.require_no_gap()
            await self._resume(partition)
        await self._resume_coordination()
        sessions, refunds = await payments.write(self._connection, self._settings)
        await sequences.continue_after_the_log(self._connection, last_action=self._named.last_action)
        return Restored(
            events=sum(partition.sequence for partition in self._partitions.values()),
            bookings=await self._count("booking"),
            nights=await self._count("inventory"),
            sessions=sessions,
            refunds=refunds,
            undecided=self._undecided,
            unpublished=self._unpublished,
            backup_check=await self._named.check(),
            notes=tuple(self._notes),
        )

    # Events.

    async def _apply_all(self, ranges: Ranges, progress: Progress | None) -> None:
        waiting: list[Received] = []
        async for events in _events(self._events, ranges, self._partitions, progress):
            waiting += events
            if len(waiting) >= _RESTORED_EVENTS_IN_BATCH:
                await self._apply(waiting)
                waiting = []
        await self._apply(waiting)

    async def _apply(self, events: Sequence[Received]) -> None:
        """Apply events to the ledger, and then to the read models."""
        batch = EventBatch(self._nights)
        await batch.load(self._connection, events)
        applied = []
        for received in events:
            try:
                applied.append((received, batch.apply(received)))
            except (IllegalTransition, KeyError, AssertionError) as error:
                envelope = envelope_of(received)
                raise NotRestored(
                    f"{envelope.type} {envelope.id} cannot have happened after the events before it ({error!r})."
                ) from error
        await batch.write(self._connection)
        await self._project(applied)
        await self._named.save()

    async def _project(self, events: Sequence[tuple[Received, Booking | None]]) -> None:
        """Apply events, each with its booking after it, to the read models, and save those about payments."""
        batches: dict[int, PartitionBatch] = {}
        for received, _ in events:
            number = received.record.partition
            if number not in batches:
                batches[number] = PartitionBatch(BOOKING_EVENTS, number, _cursor("", "", number, 0))
            batches[number].received.append(received)
        for consumer in self._projections:
            await consumer.handle(self._connection, list(batches.values()))
        await payments.save(self._connection, events)

    # Cursors.

    async def _begin_generations(self) -> None:
        topics = (BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS)
        ids = await admin.topic_ids(self._kafka, [self._kafka.topic(topic) for topic in topics])
        for topic in topics:
            name = self._kafka.topic(topic)
            if name not in ids:
                raise NoSuchTopic(f"The topic {name} does not exist. Create it: innkeeper topics create.")
            self._generations[topic] = await cursors.generation(self._connection, name, ids[name])

    async def _resume(self, partition: Partition) -> None:
        """Apply the partition's last decision, and set every cursor of the partition."""
        of_commands = TopicPartition(self._kafka.topic(BOOKING_COMMANDS), partition.number)
        commands = await resume.find(self._commands, of_commands, partition.last_decision)
        self.found_commands |= bool(commands.decided)
        cursor = self._new_cursor(Reservations.name, BOOKING_COMMANDS, partition.number)
        cursor.applied = cursor.published = commands.range.first - 1
        cursor.sequence = partition.sequence
        missing: Sequence[Outgoing] = ()
        if partition.last_decision:
            cursor.last_time = envelope_of(partition.last_decision[0]).time
            missing = await self._last_decision(partition, cursor, commands)
        self._undecided += commands.range.end - cursor.applied - 1
        self._unpublished += len(missing)
        await self._save(cursor, commands.range.first, missing)
        for consumer in (*self._projections, self._payments):
            await self._save(self._read_to_the_end(consumer, partition), 0, ())
        await self._begin_webhooks(partition.number)

    async def _last_decision(
        self, partition: Partition, cursor: Cursor, commands: resume.Commands
    ) -> Sequence[Outgoing]:
        events = partition.last_decision
        missing = await resume.decide_again(self._connection, self._reservations, cursor, events, commands)
        if missing is None:
            await self._apply(events)
            if commands.decided:
                resume.move_behind(cursor, commands.decided[-1])
                self._notes.append(
                    f"partition {partition.number}: this version decides its last command differently;"
                    " the events of the log were applied."
                )
            return ()
        batch = EventBatch({})
        await batch.load(self._connection, events)
        await self._project([(received, batch.booking(received)) for received in events])
        if missing:
            # They are in the outbox: the next worker of the partition publishes them first.
            cursor.published = cursor.applied - 1
        return missing

    def _read_to_the_end(self, consumer: Consumer, partition: Partition) -> Cursor:
        cursor = self._new_cursor(consumer.name, BOOKING_EVENTS, partition.number)
        if partition.last is not None:
            cursor.applied = cursor.published = partition.last.offset
            cursor.last_hash = fingerprint(partition.last)
        cursor.sequence, cursor.last_time = partition.sequence, partition.last_time
        return cursor

    async def _resume_coordination(self) -> None:
        """Let coordination read again the events whose commands the log may lack; the others follow once more."""
        topic = self._kafka.topic(BOOKING_COMMANDS)
        ranges = await self._events.ranges([TopicPartition(topic, number) for number in self._partitions])
        newest = await coordination.followed(self._events, ranges, self._kafka.topic(BOOKING_EVENTS))
        (now,) = await (await self._connection.execute("select now()")).fetchone() or (None,)
        if self._put_back is not None:
            # The days without a system do not count: coordination followed nothing in them.
            now = self._put_back.newest or now
        for partition in self._partitions.values():
            place = coordination.place(partition.marks, newest.get(partition.number), now)
            await self._save(self._behind(self._coordination, partition.number, place), 0, ())

    def _behind(self, consumer: Consumer, number: int, place: Mark) -> Cursor:
        cursor = self._new_cursor(consumer.name, BOOKING_EVENTS, number)
        cursor.applied = cursor.published = place.offset
        cursor.sequence, cursor.last_time, cursor.last_hash = place.sequence, place.time, place.fingerprint
        return cursor

    async def _begin_webhooks(self, number: int) -> None:
        """Let payments process all webhooks again: a webhook that had its effect has none a second time."""
        partition = TopicPartition(self._kafka.topic(STRIPE_WEBHOOKS), number)
        start = (await self._commands.ranges([partition]))[partition].first
        cursor = self._new_cursor(self._payments.name, STRIPE_WEBHOOKS, number)
        await cursors.create(self._connection, cursor.key, start)

    async def _save(self, cursor: Cursor, log_start: int, unpublished: Sequence[Outgoing]) -> None:
        await cursors.create(self._connection, cursor.key, log_start)
        await cursors.save(self._connection, [cursor], [(cursor, unpublished)] if unpublished else [])

    def _new_cursor(self, consumer: str, topic: Topic, number: int) -> Cursor:
        return _cursor(consumer, self._kafka.topic(topic), number, self._generations[topic])

    async def _count(self, table: str) -> int:
        found = await self._connection.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(table)))
        return int((await found.fetchone() or (0,))[0])


def _cursor(consumer: str, topic: str, number: int, generation: int) -> Cursor:
    """Return a cursor before its first record."""
    return Cursor(CursorKey(consumer, topic, number, generation), -1, -1, 0, None, None)


async def require_backup_of(connection: AsyncConnection, *, without_backup: bool) -> None:
    """Refuse a database without the id of its installation and, unless `without_backup`, one without a backup.

    Raises:
        NotRestored: the text has what is missing.
    """
    await require_installation(connection)
    if not without_backup:
        await require_backup(connection)


async def _read(
    reader: LogReader, ranges: Ranges, named: NamedIds, progress: Progress | None
) -> Mapping[int, Partition]:
    """Read all events without applying them; the ids that they name are added to `named`."""
    replaced: Replacements = {}
    while True:
        partitions = {
            each.partition: Partition(each.partition, named, replaced.get(each.partition, ())) for each in ranges
        }
        try:
            async for _ in _events(reader, ranges, partitions, progress):
                await named.save()
        except EventsReplaced:
            replaced = await find_replaced(reader, ranges)
        else:
            return partitions


async def _events(
    reader: LogReader, ranges: Ranges, partitions: Mapping[int, Partition], progress: Progress | None
) -> AsyncIterator[list[Received]]:
    """Yield the events of complete decisions, as the log's records come.

    Raises:
        NotRestored: the beginning of the log is gone.
    """
    for partition, (first, _) in ranges.items():
        if first > 0:
            raise NotRestored(
                f"{partition.topic}[{partition.partition}] begins at offset {first}: the events before it are gone,"
                " and the ledger cannot be restored without them."
            )
    reader.assign({partition: first for partition, (first, _) in ranges.items()})
    read = 0
    async with aclosing(reader.batches({partition: end for partition, (_, end) in ranges.items()})) as batches:
        async for batch in batches:
            yield [
                event
                for partition, records in batch.items()
                for event in partitions[partition.partition].decode(records)
            ]
            read += sum(map(len, batch.values()))
            if progress is not None:
                progress(read, _count(ranges))


def _count(ranges: Ranges) -> int:
    return sum(end - first for first, end in ranges.values())


async def _require_whole(kafka: KafkaSettings) -> None:
    """Refuse a log that an interrupted restore has only begun to fill."""
    if not kafka.topic_create_time and await admin.keeps_times(kafka, BOOKING_EVENTS):
        raise NotRestored(
            f"{kafka.topic(BOOKING_EVENTS)} is not whole: a restore that fills it was interrupted. Call that one again,"
            " with --from-export or --from-ledger as before."
        )


def _require_empty(commands: Ranges) -> None:
    """Refuse commands that no event of the files follows from: they were sent after the log was lost."""
    if count := _count(commands):
        name = next(iter(commands)).topic
        raise NotRestored(
            f"{name} has {count} commands, and none of them led to the last events of the files: an ingress has sent"
            f" them since the log was lost. Stop every ingress, delete {name}, and create it anew: innkeeper topics"
            " create."
        )


async def _ranges(kafka: KafkaSettings, reader: LogReader, topic: Topic) -> Ranges:
    """Return the present offsets of each partition of a topic.

    Raises:
        NoSuchTopic: the broker has no topic of this name.
        NotRestored: the topic has another number of partitions than the settings.
    """
    name = kafka.topic(topic)
    partitions = await partitions_of(kafka, name)
    if not partitions:
        raise NoSuchTopic(f"The topic {name} does not exist: there is nothing to restore from.")
    if len(partitions) != kafka.topic_partitions:
        raise NotRestored(f"{name} has {len(partitions)} partitions: set TOPIC_PARTITIONS={len(partitions)}.")
    return await reader.ranges(partitions)


__all__ = ["NotRestored", "PutBack", "Restored", "Stopped", "plan", "restore"]
