"""The restore: one transaction from an empty database to one that the workers go on from.

Reads `booking.events` whole, and of `booking.commands` what the last events came from; writes the ledger, the read
models, what is owed to Stripe and every cursor. On failure nothing of it stands.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from psycopg import AsyncConnection, sql

from operators.restore import log, payments, resume, sequences, target
from operators.restore.described import Described, Named, check_backup
from operators.restore.log import Partition, envelope_of
from operators.restore.retelling import Batch
from operators.restore.target import NotRestored
from storage import cursors, operator_log
from storage.cursors import Cursor, CursorKey
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS, Topic
from topics.envelope import Outgoing
from topics.kafka import admin
from topics.kafka.log_reader import NoSuchTopic, open_reader, partitions_of
from topics.kafka.settings import KafkaSettings
from workers import projections
from workers.decisions import Booking, Night
from workers.decisions.states import IllegalTransition
from workers.payments.consumer import Payments
from workers.payments.settings import PaymentSettings
from workers.reservations.handler import NightKey, Reservations
from workers.runtime.records import fingerprint
from workers.runtime.role import Consumer, PartitionBatch, Received, Stopped

#: How many events are told before the read models are brought up to date with them.
_TOLD_TOGETHER: Final = 20_000
_MAX_FETCH_MS: Final = 20
_EVENTS_FETCH_BYTES: Final = 2 * 2**20
#: Of the commands only a few are asked for, all over the log.
_COMMANDS_FETCH_BYTES: Final = 64 * 2**10

Progress = Callable[[int, int], None]
Bounds = Mapping[TopicPartition, tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What was made: numbers of rows, and what an operator should know of.

    `undecided` commands stand behind the last ones that have events; `unpublished` events were decided and never
    published, and are left for the reservations workers to publish. `described`: what the backup knows of all that the
    log names.
    """

    events: int
    bookings: int
    nights: int
    sessions: int
    refunds: int
    undecided: int
    unpublished: int
    described: tuple[Described, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What there is to restore from: so many records, and what the backup knows of all that they name."""

    records: int
    described: tuple[Described, ...]


async def plan(
    kafka: KafkaSettings, database: DatabaseSettings, *, without_backup: bool = False, progress: Progress | None = None
) -> Plan:
    """Read what there is to restore from, without restoring anything. Takes and raises what `restore` does."""
    async with (
        await target.connect(database) as connection,
        open_reader(kafka, fetch_bytes=_EVENTS_FETCH_BYTES, fetch_wait_ms=_MAX_FETCH_MS) as events,
    ):
        await target.check(connection)
        bounds, named = await _bounds(kafka, events, BOOKING_EVENTS), Named()
        await _check_backup(connection, bounds, without_backup=without_backup)
        partitions = {place.partition: Partition(place.partition, named) for place in bounds}
        async for _ in _heard(events, bounds, partitions, progress):
            pass
        for partition in partitions.values():
            partition.check_whole()
        return Plan(records=_records(bounds), described=await named.described(connection))


async def restore(
    kafka: KafkaSettings,
    database: DatabaseSettings,
    payments: PaymentSettings,
    *,
    who: str,
    without_backup: bool = False,
    progress: Progress | None = None,
) -> Restored:
    """Make ledger, read models and cursors out of `booking.events`.

    Args:
        kafka: where the topics are.
        database: a migrated database with nothing of the ledger in it.
        payments: where guests return to, which is part of what Stripe is asked.
        who: who does this, for the record.
        without_backup: go on although nobody described accounts, hotels or rooms.
        progress: called with the records read and the records to read.

    Raises:
        NotRestored: the database or the log is not fit for it; nothing was written.
        topics.kafka.log_reader.NoSuchTopic: there is no log to restore from.
        aiokafka.errors.KafkaError: the broker cannot be reached.
        psycopg.Error: the database cannot be written.
    """
    async with (
        await target.connect(database) as connection,
        open_reader(kafka, fetch_bytes=_EVENTS_FETCH_BYTES, fetch_wait_ms=_MAX_FETCH_MS) as events,
        open_reader(kafka, fetch_bytes=_COMMANDS_FETCH_BYTES, fetch_wait_ms=_MAX_FETCH_MS) as commands,
    ):
        async with connection.transaction():
            await target.keep_everybody_out(connection)
            await target.check(connection)
            bounds = await _bounds(kafka, events, BOOKING_EVENTS)
            await _check_backup(connection, bounds, without_backup=without_backup)
            restored = await _Restore(kafka, payments, connection, events, commands).all(bounds, progress)
            await operator_log.record(
                connection,
                who=who,
                action="restore",
                target=kafka.topic(BOOKING_EVENTS),
                details={"events": restored.events, "bookings": restored.bookings},
            )
        # Statements of the workers must not be planned for the empty tables of before.
        await connection.execute("analyze")
    return restored


class _Restore:
    """One restore, inside its transaction."""

    def __init__(
        self,
        kafka: KafkaSettings,
        payments: PaymentSettings,
        connection: AsyncConnection,
        events: AIOKafkaConsumer,
        commands: AIOKafkaConsumer,
    ) -> None:
        self._kafka = kafka
        self._connection = connection
        self._events = events
        self._commands = commands
        self._frontend_url = payments.frontend_url
        self._projections: Sequence[Consumer] = projections.build(kafka, DatabaseSettings()).consumers
        self._payments: Consumer = Payments(kafka, payments)
        self._owner = Reservations(kafka)
        self._nights: dict[NightKey, Night] = {}
        self._partitions: dict[int, Partition] = {}
        self._generations: dict[Topic, int] = {}
        self._named = Named()
        self._notes: list[str] = []
        self._undecided = 0
        self._unpublished = 0

    async def all(self, bounds: Bounds, progress: Progress | None) -> Restored:
        await _bounds(self._kafka, self._commands, BOOKING_COMMANDS)
        self._partitions = {place.partition: Partition(place.partition, self._named) for place in bounds}
        await self._begin_lives()
        await payments.make_room(self._connection)
        await self._hear(bounds, progress)
        for partition in self._partitions.values():
            partition.check_whole()
            await self._go_on(partition)
        sessions, refunds = await payments.write(self._connection, frontend_url=self._frontend_url)
        await sequences.go_on_behind_the_log(self._connection)
        return Restored(
            events=sum(partition.sequence for partition in self._partitions.values()),
            bookings=await self._count("booking"),
            nights=await self._count("inventory"),
            sessions=sessions,
            refunds=refunds,
            undecided=self._undecided,
            unpublished=self._unpublished,
            described=await self._named.described(self._connection),
            notes=tuple(self._notes),
        )

    # Events.

    async def _hear(self, bounds: Bounds, progress: Progress | None) -> None:
        waiting: list[Received] = []
        async for told in _heard(self._events, bounds, self._partitions, progress):
            waiting += told
            if len(waiting) >= _TOLD_TOGETHER:
                await self._tell(waiting)
                waiting = []
        await self._tell(waiting)

    async def _tell(self, told: Sequence[Received]) -> None:
        """Bring the ledger up to date with events, and then the read models."""
        batch = Batch(self._nights)
        await batch.load(self._connection, told)
        about = []
        for received in told:
            try:
                about.append((received, batch.tell(received)))
            except (IllegalTransition, KeyError, AssertionError) as error:
                envelope = envelope_of(received)
                raise NotRestored(
                    f"{envelope.type} {envelope.id} cannot have happened after all that stands before it ({error!r})."
                ) from error
        await batch.write(self._connection)
        await self._show(about)

    async def _show(self, told: Sequence[tuple[Received, Booking | None]]) -> None:
        """Bring the read models up to date, and put aside what is about money."""
        runs: dict[int, PartitionBatch] = {}
        for received, _ in told:
            number = received.record.partition
            if number not in runs:
                runs[number] = PartitionBatch(BOOKING_EVENTS, number, _cursor("", "", number, 0))
            runs[number].received.append(received)
        for consumer in self._projections:
            await consumer.handle(self._connection, list(runs.values()))
        await payments.keep(self._connection, told)

    # Cursors.

    async def _begin_lives(self) -> None:
        topics = (BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS)
        ids = await admin.topic_ids(self._kafka, [self._kafka.topic(topic) for topic in topics])
        for topic in topics:
            name = self._kafka.topic(topic)
            if name not in ids:
                raise NoSuchTopic(f"The topic {name} does not exist. Create it: innkeeper topics create.")
            self._generations[topic] = await cursors.generation(self._connection, name, ids[name])

    async def _go_on(self, partition: Partition) -> None:
        """Tell the partition's last decision, and set every cursor of the partition."""
        place = TopicPartition(self._kafka.topic(BOOKING_COMMANDS), partition.number)
        commands = await resume.find(self._commands, place, partition)
        cursor = self._new_cursor(Reservations.name, BOOKING_COMMANDS, partition.number)
        cursor.applied = cursor.published = commands.start - 1
        cursor.sequence = partition.sequence
        missing: Sequence[Outgoing] = ()
        if partition.deciding:
            cursor.last_time = envelope_of(partition.deciding[0]).time
            missing = await self._last_decision(partition, cursor, commands)
        self._undecided += commands.end - cursor.applied - 1
        self._unpublished += len(missing)
        await self._save(cursor, commands.start, missing)
        for consumer in (*self._projections, self._payments):
            await self._save(self._read_to_the_end(consumer, partition), 0, ())
        await self._begin_webhooks(partition.number)

    async def _last_decision(
        self, partition: Partition, cursor: Cursor, commands: resume.Commands
    ) -> Sequence[Outgoing]:
        told = partition.deciding
        missing = await resume.decide_again(self._connection, self._owner, cursor, told, commands)
        if missing is None:
            await self._tell(told)
            if commands.decided:
                resume.behind(cursor, commands.decided[-1])
                self._notes.append(
                    f"partition {partition.number}: its last command would be decided otherwise today;"
                    " what stands on the log was taken."
                )
            return ()
        batch = Batch({})
        await batch.load(self._connection, told)
        await self._show([(received, batch.booking(received)) for received in told])
        if missing:
            # Kept in the outbox: the next worker of the partition publishes it first.
            cursor.published = cursor.applied - 1
        return missing

    def _read_to_the_end(self, consumer: Consumer, partition: Partition) -> Cursor:
        cursor = self._new_cursor(consumer.name, BOOKING_EVENTS, partition.number)
        if partition.last is not None:
            cursor.applied = cursor.published = partition.last.offset
            cursor.last_hash = fingerprint(partition.last)
        cursor.sequence, cursor.last_time = partition.sequence, partition.last_time
        return cursor

    async def _begin_webhooks(self, number: int) -> None:
        """Let payments hear again whatever Stripe told: what took effect already has none a second time."""
        place = TopicPartition(self._kafka.topic(STRIPE_WEBHOOKS), number)
        start = (await self._commands.beginning_offsets([place]))[place]
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


async def _check_backup(connection: AsyncConnection, bounds: Bounds, *, without_backup: bool) -> None:
    if _records(bounds) and not without_backup:
        await check_backup(connection)


async def _heard(
    consumer: AIOKafkaConsumer, bounds: Bounds, partitions: Mapping[int, Partition], progress: Progress | None
) -> AsyncIterator[list[Received]]:
    """Yield the events whose decisions are told to their ends, as the log's records come."""
    heard = 0
    async for found in log.events(consumer, bounds):
        yield [received for number, records in found.items() for received in partitions[number].hear(records)]
        heard += sum(map(len, found.values()))
        if progress is not None:
            progress(heard, _records(bounds))


def _records(bounds: Bounds) -> int:
    return sum(end - start for start, end in bounds.values())


async def _bounds(kafka: KafkaSettings, consumer: AIOKafkaConsumer, topic: Topic) -> Bounds:
    """Return where each partition of a topic begins and ends now.

    Raises:
        NoSuchTopic: there is none of this name.
        NotRestored: it has another number of partitions than we are told.
    """
    name = kafka.topic(topic)
    places = await partitions_of(kafka, name)
    if not places:
        raise NoSuchTopic(f"The topic {name} does not exist: there is nothing to restore from.")
    if len(places) != kafka.topic_partitions:
        raise NotRestored(f"{name} has {len(places)} partitions: set TOPIC_PARTITIONS={len(places)}.")
    starts, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
    return {place: (starts[place], ends[place]) for place in places}


__all__ = ["NotRestored", "Restored", "Stopped", "plan", "restore"]
