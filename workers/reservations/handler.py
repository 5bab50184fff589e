"""Decides every command about a room: the middle of a booking's way, from command to event.

Reads the bookings and nights that a batch names; writes bookings, guests and inventory; publishes the events of
each command, one at least. On failure nothing of the batch stands, and the adapter decides what happens next.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from uuid import UUID

import msgspec
from aiokafka.partitioner import murmur2
from psycopg import AsyncConnection

from storage import bookings, inventory
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, Topic
from topics.envelope import Envelope, Outgoing, encode_headers, encode_value, format_id
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import BookingCommand, ChangeInventory, Command, OpenInventory, ReserveStay
from topics.messages.events import BookingEvent, Event, GuestsAdded, InventoryOpened
from topics.messages.upcasting import written_as_older
from topics.messages.values import MAX_NIGHTS, BookingStatus, CancelReason, Rejection, Terms, nights_of
from workers.decisions import Booking, Night, Payment, State, decide, evolve
from workers.runtime.role import PartitionBatch, Received, Role, Unreadable

SOURCE = "innkeeper/reservations"
#: How many nights a process remembers between batches.
MAX_NIGHTS_KEPT = 100_000

NightKey = tuple[int, date]


def build(kafka: KafkaSettings, _: DatabaseSettings) -> Role:
    """Return the role."""
    return Role("reservations", (Reservations(kafka),))


class Reservations:
    """The owner of rooms: one at a time, in the order of the log."""

    name = "reservations"
    topics: tuple[Topic, ...] = (BOOKING_COMMANDS,)

    def __init__(self, kafka: KafkaSettings) -> None:
        self._events_topic = kafka.topic(BOOKING_EVENTS)
        self._partitions = kafka.topic_partitions
        self._partition_of: dict[bytes, int] = {}
        self._written_as = written_as_older(kafka.inventory_changed_version)
        self._kept: dict[NightKey, Night | None] = {}

    def forget(self) -> None:
        """Read everything from the ledger again."""
        self._kept.clear()

    async def handle(self, connection: AsyncConnection, runs: Sequence[PartitionBatch]) -> list[list[Outgoing]]:
        """Decide every command of the runs and write what follows; return the events of each run."""
        batch = Batch(self._kept)
        commands = [self._command(run, received) for run in runs for received in run.received]
        await batch.load(connection, commands)
        outgoing = [
            [record for received in run.received for record in self._decide(batch, run, received)] for run in runs
        ]
        await batch.write(connection)
        if len(self._kept) > MAX_NIGHTS_KEPT:
            self._kept.clear()
        return outgoing

    def _command(self, run: PartitionBatch, received: Received) -> Command:
        command = received.message
        assert isinstance(command, Command)
        key = received.record.key or b""
        if key != b"%d" % command.room_id or self._owner(key) != run.partition:
            raise Unreadable(received.record, f"room {command.room_id} is not decided in this partition")
        return command

    def _owner(self, key: bytes) -> int:
        """Return the partition that owns a key, as every Kafka client with the default partitioner has it."""
        partition = self._partition_of.get(key)
        if partition is None:
            partition = self._partition_of[key] = (murmur2(key) & 0x7FFFFFFF) % self._partitions
        return partition

    def _decide(self, batch: "Batch", run: PartitionBatch, received: Received) -> Iterable[Outgoing]:
        command, envelope = received.message, received.envelope
        assert isinstance(command, Command)
        assert envelope is not None
        for event in batch.decide(command, received.time):
            run.cursor.sequence += 1
            older = self._written_as.get(type(event))
            yield self._record(run, received, envelope, event if older is None else older(event))

    def _record(self, run: PartitionBatch, received: Received, cause: Envelope, event: Event) -> Outgoing:
        """Return the event's record; the sequence in its id tells it from what the command led to when sent before."""
        sequence = run.cursor.sequence
        command = received.record
        headers = encode_headers(
            Envelope(
                id=f"{cause.id}:{sequence}",
                type=event.message_type,
                source=SOURCE,
                subject=format_id(event.booking_id) if isinstance(event, BookingEvent) else f"room/{event.room_id}",
                time=received.time,
                causation=cause.id,
                correlation=cause.correlation or cause.id,
                sequence=sequence,
                traceparent=cause.traceparent,
                causation_position=f"{command.topic}[{command.partition}]@{command.offset}",
                actor=cause.actor,
                request_id=cause.request_id,
            )
        )
        key = received.record.key or b""
        # The trace's own time travels on: a topic that keeps the broker's time ignores it.
        timestamp = received.record.timestamp
        return Outgoing(self._events_topic, key, encode_value(event), headers, run.partition, timestamp)


class Batch:
    """The bookings and nights that a batch of commands touches, and what has become of them."""

    def __init__(self, nights: dict[NightKey, Night | None]) -> None:
        self._nights = nights
        self._bookings: dict[UUID, Booking] = {}
        self._new: dict[UUID, datetime] = {}
        self._changed: dict[UUID, datetime] = {}
        self._guests: dict[UUID, Sequence[int]] = {}
        self._opened: set[NightKey] = set()
        self._counted: set[NightKey] = set()
        self._managed: set[NightKey] = set()

    async def load(self, connection: AsyncConnection, commands: Sequence[Command]) -> None:
        """Read the bookings that the commands name, and every night that deciding them may look at."""
        ids = {command.booking_id for command in commands if isinstance(command, BookingCommand)}
        for row in await bookings.load_bookings(connection, ids):
            booking = _booking(row)
            self._bookings[booking.id] = booking
        wanted = {key for command in commands for key in self._named(command)}
        wanted -= self._nights.keys()
        if wanted:
            self._nights.update(dict.fromkeys(wanted))
            for night in await inventory.load_nights(connection, wanted):
                self._nights[night[0], night[1]] = Night(*night[2:])

    def decide(self, command: Command, now: datetime) -> tuple[Event, ...]:
        """Decide one command and apply its events, so that the next one sees them."""
        known = self._nights
        named = {key[1]: night for key in self._named(command) if (night := known.get(key)) is not None}
        booking = self._bookings.get(command.booking_id) if isinstance(command, BookingCommand) else None
        state = State(booking, named)
        events = decide(state, command, now)
        for event in events:
            after = evolve(state, event)
            self._note(command, event, after, now)
            state = State(after.booking, {**state.nights, **after.nights} if after.nights else state.nights)
        return events

    async def write(self, connection: AsyncConnection) -> None:
        """Write everything that changed, in a few statements."""
        new = [(self._bookings[key], time) for key, time in self._new.items()]
        changed = [(self._bookings[key], time) for key, time in self._changed.items() if key not in self._new]
        if new:
            await bookings.add_bookings(
                connection,
                [_row(booking) for booking, _ in new],
                [at for _, at in new],
                updated=[self._changed[booking.id] for booking, _ in new],
            )
        if self._opened:
            await inventory.add_nights(connection, self._night_rows(self._opened))
        async with connection.pipeline():
            if changed:
                await bookings.change_bookings(
                    connection, [_row(booking) for booking, _ in changed], [at for _, at in changed]
                )
            if self._guests:
                await bookings.name_guests(connection, self._guests)
            if counted := self._counted - self._opened - self._managed:
                await inventory.count_nights(connection, self._night_rows(counted))
            if managed := self._managed - self._opened:
                await inventory.change_nights(connection, self._night_rows(managed))

    def _named(self, command: Command) -> Sequence[NightKey]:
        """Return the (room, night)s that deciding the command may look at."""
        room_id = command.room_id
        booking = self._bookings.get(command.booking_id) if isinstance(command, BookingCommand) else None
        if isinstance(command, OpenInventory | ChangeInventory):
            return _keys(room_id, command.first_night, command.end_night)
        if booking is not None and booking.room_id == room_id:
            # Also for a ReserveStay that comes again, with whatever dates: the hold it names may be over.
            return _keys(room_id, booking.check_in, booking.check_out)
        if booking is None and isinstance(command, ReserveStay):
            return _keys(room_id, command.check_in, command.check_out)
        return ()

    def _note(self, command: Command, event: Event, after: State, now: datetime) -> None:
        """Remember what the event changed."""
        booking = after.booking
        if booking is not None and booking is not self._bookings.get(booking.id):
            id = booking.id
            if id not in self._bookings:
                self._new[id] = now
            self._changed[id] = now
            self._bookings[id] = booking
            if isinstance(event, GuestsAdded):
                self._guests[id] = event.guest_ids
        keys = [(command.room_id, day) for day in after.nights]
        self._nights.update(zip(keys, after.nights.values(), strict=True))
        if isinstance(event, BookingEvent):
            self._counted.update(keys)
        elif isinstance(event, InventoryOpened):
            self._opened.update(keys)
        else:
            self._managed.update(keys)

    def _night_rows(self, keys: Iterable[NightKey]) -> list[inventory.NightRow]:
        rows = []
        for room_id, day in keys:
            night = self._nights[room_id, day]
            assert night is not None
            rows.append((room_id, day, *msgspec.structs.astuple(night)))
        return rows


def _row(booking: Booking) -> bookings.BookingRow:
    return (
        booking.id,
        booking.user_id,
        booking.hotel_id,
        booking.room_id,
        booking.check_in,
        booking.check_out,
        booking.rooms_count,
        booking.status.value,
        booking.terms.value,
        booking.amount_minor,
        booking.currency,
        None if booking.rejection is None else booking.rejection.value,
        booking.hold_expires_at,
        booking.payment_attempt,
        booking.session_id,
        bookings.as_json(msgspec.to_builtins(booking.payments)),
        booking.failure,
        None if booking.cancel_reason is None else booking.cancel_reason.value,
        booking.version,
    )


def _booking(row: bookings.BookingRow) -> Booking:
    fields = dict(zip((*bookings.BOOKING_COLUMNS, "guest_ids"), row, strict=True))
    return Booking(
        **{
            **fields,
            "status": BookingStatus(fields["status"]),
            "terms": Terms(fields["terms"]),
            "rejection": None if fields["rejection"] is None else Rejection(fields["rejection"]),
            "cancel_reason": None if fields["cancel_reason"] is None else CancelReason(fields["cancel_reason"]),
            "payments": msgspec.convert(fields["payments"] or (), tuple[Payment, ...]),
            "guest_ids": tuple(fields["guest_ids"]),
        }
    )


@lru_cache(maxsize=10_000)
def _keys(room_id: int, first: date, end: date) -> tuple[NightKey, ...]:
    """Return the (room, night)s of [first, end), but no more than anything is decided about."""
    if (end - first).days > MAX_NIGHTS:
        end = first + timedelta(days=MAX_NIGHTS)
    return tuple((room_id, day) for day in nights_of(first, end))
