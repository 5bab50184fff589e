"""Decides every command about a room: the step from commands to events.

Reads the bookings and nights that a batch names; writes bookings, guests and inventory; publishes the events of each
command: at least one, except for an `ExpireHold` that came too early, which has none. A failure undoes the whole batch,
and the batch processor retries or splits it.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from pricing.quotes import fault_of_quote
from pricing.sale import needs_today
from storage.ledger import LEDGER, LedgerStatements
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, Topic
from topics.envelope import Envelope, Outgoing, encode_headers, encode_value, format_id
from topics.kafka.partitions import partition_of
from topics.kafka.positions import position_text
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import (
    BlockNights,
    BookingCommand,
    ChangeInventory,
    ChangeStay,
    ClaimCode,
    CodeCommand,
    Command,
    IssueDocument,
    OpenInventory,
    ReleaseBlock,
    ReserveStay,
    ReserveTrip,
    ReturnCode,
    RoomCommand,
    SetCode,
    SetSaleTerms,
)
from topics.messages.events import BookingEvent, Event
from topics.messages.releases import Release, can_decide, readable_events
from topics.messages.sale import SaleTerms
from topics.messages.upcasting import written_as_older
from topics.messages.values import MAX_NIGHTS, DocumentKind, nights_of
from workers.decisions import Booking, Night, State, decide
from workers.reservations.stay_clock import arrival_clock, stay_clock
from workers.reservations.unpaid_stays import UnpaidStays
from workers.reservations.write_batch import NightKey, UseKey, WriteBatch
from workers.runtime.role import PartitionBatch, Received, Role, Unreadable

_NO_BOOKING = UUID(int=0)

C = TypeVar("C", bound=Command)
RESERVATIONS_SOURCE = "innkeeper/reservations"
#: The number of nights that a process remembers between batches.
MAX_CACHED_NIGHTS = 100_000
#: The number of rooms of which it remembers whether they have sale terms.
MAX_CACHED_ROOMS = 10_000
#: The number of rooms whose sale terms it remembers. The largest terms (`pricing.terms.MAX_TERMS_BYTES`) take about a
#: quarter of a megabyte in memory, all together half a gigabyte.
MAX_CACHED_TERMS = 2_000


def build(kafka: KafkaSettings, _: DatabaseSettings) -> Role:
    """Return the role."""
    return Role("reservations", (Reservations(kafka),))


class Reservations:
    """Decides the commands of a partition one at a time, in the order of the log."""

    name = "reservations"
    topics: tuple[Topic, ...] = (BOOKING_COMMANDS,)

    def __init__(self, kafka: KafkaSettings, ledger: LedgerStatements = LEDGER) -> None:
        self._ledger = ledger
        self._events_topic = kafka.topic(BOOKING_EVENTS)
        self._partitions = kafka.topic_partitions
        self._written_as = written_as_older(kafka.inventory_changed_version)
        self._readable_by = kafka.log_readable_by
        self._nights: dict[NightKey, Night | None] = {}
        self._terms: dict[int, SaleTerms | None] = {}

    def forget(self) -> None:
        """Forget the nights and sale terms, so that they are read from the ledger again."""
        self._nights.clear()
        self._terms.clear()

    async def handle(self, connection: AsyncConnection, batches: Sequence[PartitionBatch]) -> list[list[Outgoing]]:
        """Decide every command of the batches and write the changed rows; return the events of each batch."""
        commands = [[self._command(batch, received) for received in batch.received] for batch in batches]
        decided = CommandBatch(self._nights, self._terms, self._readable_by, self._ledger)
        await decided.load(connection, [command for of_partition in commands for command in of_partition])
        outgoing = [
            [
                record
                for received, command in zip(batch.received, of_partition, strict=True)
                for record in self._decide(decided, batch, received, command)
            ]
            for batch, of_partition in zip(batches, commands, strict=True)
        ]
        await decided.write(connection)
        if len(self._nights) > MAX_CACHED_NIGHTS:
            self._nights.clear()
        if self._has_too_many_terms():
            self._terms.clear()
        return outgoing

    def _has_too_many_terms(self) -> bool:
        rooms = len(self._terms)
        if rooms <= MAX_CACHED_TERMS:
            return False
        return rooms > MAX_CACHED_ROOMS or rooms - list(self._terms.values()).count(None) > MAX_CACHED_TERMS

    def _command(self, batch: PartitionBatch, received: Received) -> Command:
        command = received.message
        assert isinstance(command, Command)
        key = received.record.key or b""
        if key != b"%d" % command.key or partition_of(key, self._partitions) != batch.partition:
            raise Unreadable(received.record, f"{command.subject} is not decided in this partition")
        if not can_decide(self._readable_by, command):
            reason = f"release {self._readable_by}, which may read the log, does not know {command.message_type}"
            raise Unreadable(received.record, reason)
        fault = _fault_of_quotes(command)
        if fault is not None:
            raise Unreadable(received.record, fault)
        return command

    def _decide(
        self, commands: "CommandBatch", batch: PartitionBatch, received: Received, command: Command
    ) -> Iterable[Outgoing]:
        envelope = received.envelope
        assert envelope is not None
        for event in commands.decide(command, received.time):
            batch.cursor.sequence += 1
            older = self._written_as.get(type(event))
            yield self._record(batch, received, envelope, event if older is None else older(event))

    def _record(self, batch: PartitionBatch, received: Received, cause: Envelope, event: Event) -> Outgoing:
        """Return the event's record; its id has the sequence, as a repeated command has events of its own."""
        sequence = batch.cursor.sequence
        command = received.record
        headers = encode_headers(
            Envelope(
                id=f"{cause.id}:{sequence}",
                type=event.message_type,
                source=RESERVATIONS_SOURCE,
                subject=format_id(event.booking_id) if isinstance(event, BookingEvent) else event.subject,
                time=received.time,
                causation=cause.id,
                correlation=cause.correlation or cause.id,
                sequence=sequence,
                traceparent=cause.traceparent,
                causation_position=position_text(command),
                actor=cause.actor,
                request_id=cause.request_id,
            )
        )
        key = received.record.key or b""
        # A topic of a replayed trace keeps the command's time; a topic that has the broker's time ignores it.
        timestamp = received.record.timestamp
        return Outgoing(self._events_topic, key, encode_value(event), headers, batch.partition, timestamp)


class CommandBatch:
    """Decides the commands of a batch one after the other, each with the effects of those before it."""

    def __init__(
        self,
        nights: dict[NightKey, Night | None],
        terms: dict[int, SaleTerms | None],
        readable_by: Release = Release.V0_2_0,
        ledger: LedgerStatements = LEDGER,
    ) -> None:
        """`readable_by` is the oldest release that reads the events; the others are as in `WriteBatch`."""
        self._rows = WriteBatch(nights, terms, ledger)
        self._unpaid = UnpaidStays(ledger)
        self._readable_by = readable_by

    async def load(self, connection: AsyncConnection, commands: Sequence[Command]) -> None:
        """Read the bookings that the commands name, and all nights and unpaid stays that their decisions may read."""
        kinds = _Kinds(commands)
        await self._rows.load_bookings(connection, [command.booking_id for command in kinds.of(BookingCommand)])
        blocks: list[BlockNights | ReleaseBlock] = kinds.of(BlockNights, ReleaseBlock)
        await self._rows.load_blocks(connection, {(command.room_id, command.block_id) for command in blocks})
        booked = ((command, self._booking(command)) for command in kinds.of(RoomCommand))
        await self._rows.load_nights(
            connection, {key for command, booking in booked for key in self._night_keys(command, booking)}
        )
        sold: list[ReserveStay | ChangeStay | SetSaleTerms] = kinds.of(ReserveStay, ChangeStay, SetSaleTerms)
        await self._rows.load_sale_terms(connection, {command.room_id for command in sold})
        await self._load_codes(connection, kinds.of(CodeCommand))
        issued = kinds.of(IssueDocument)
        await self._rows.load_documents(
            connection,
            {command.document_id for command in issued},
            {(command.hotel_id, kind) for command in issued for kind in DocumentKind},
            {command.booking_id for command in issued},
        )
        await self._unpaid.load(connection, kinds.of(ReserveStay, ChangeStay))

    async def _load_codes(self, connection: AsyncConnection, commands: Sequence[CodeCommand]) -> None:
        claims = [command for command in commands if isinstance(command, ClaimCode)]
        accounts = {(command.code_id, user_id) for command in claims if (user_id := command.asked.user_id) is not None}
        # Only claims read the number of uses of an account.
        await self._rows.load_codes(connection, {_use_key(command) for command in commands}, accounts)

    def decide(self, command: Command, now: datetime) -> tuple[Event, ...]:
        """Decide one command and apply its events, so that the next command sees their effects."""
        state = self._state(command, now)
        events = readable_events(self._readable_by, decide(state, command, now))
        for event in events:
            state = self._rows.apply(state, event, now)
        self._unpaid.apply(state.booking)
        return events

    def _state(self, command: Command, now: datetime) -> State:
        """Return all that the decision depends on."""
        if isinstance(command, ReserveStay):
            return self._state_for_offer(command, now)
        if isinstance(command, CodeCommand):
            user_id = command.asked.user_id if isinstance(command, ClaimCode) else None
            return self._rows.code_state(_use_key(command), user_id)
        if isinstance(command, IssueDocument):
            return self._rows.document_state(command.hotel_id, command.document_id, booking_id=command.booking_id)
        assert isinstance(command, RoomCommand)
        booking = self._booking(command)
        state = State(booking, self._rows.nights(self._night_keys(command, booking)))
        return self._with_context(state, command, now)

    def _with_context(self, state: State, command: RoomCommand, now: datetime) -> State:
        """Return the state with all else that the decision depends on: sale terms, a block, the hotel's clock."""
        if isinstance(command, SetSaleTerms):
            return msgspec.structs.replace(state, sale_terms=self._rows.terms_of(command.room_id))
        if isinstance(command, BlockNights | ReleaseBlock):
            return msgspec.structs.replace(state, block=self._rows.block((command.room_id, command.block_id)))
        if isinstance(command, ChangeStay):
            terms, account_rooms = self._rows.terms_of(command.room_id), self._unpaid.rooms(command)
            state = msgspec.structs.replace(state, sale_terms=terms, account_rooms=account_rooms)
        clock = stay_clock(state.booking, command, now)
        return state if clock is None else msgspec.structs.replace(state, clock=clock)

    def _state_for_offer(self, command: ReserveStay, now: datetime) -> State:
        """Return the state with what the offer of a stay depends on: sale terms and the account's unpaid rooms."""
        booking = self._rows.booking(command.booking_id)
        terms = self._rows.terms_of(command.room_id)
        return State(
            booking,
            self._rows.nights(self._night_keys(command, booking)),
            clock=arrival_clock(command, now) if terms is not None and needs_today(terms, command.plan_id) else None,
            account_rooms=self._unpaid.rooms(command),
            sale_terms=terms,
        )

    async def write(self, connection: AsyncConnection) -> None:
        """Write everything that changed, in a few statements."""
        await self._rows.write(connection)

    def _booking(self, command: RoomCommand) -> Booking | None:
        return self._rows.booking(command.booking_id) if isinstance(command, BookingCommand) else None

    def _night_keys(self, command: RoomCommand, booking: Booking | None) -> Sequence[NightKey]:
        """Return the (room, night)s that the decision of the command may read; `booking` is the one that it names."""
        room_id = command.room_id
        if booking is not None:
            return _keys_of_booking(booking, command) if booking.room_id == room_id else ()
        if isinstance(command, ReserveStay):
            return _keys(room_id, command.check_in, command.check_out)
        if isinstance(command, ReleaseBlock):
            block = self._rows.block((room_id, command.block_id))
            return () if block is None else _keys(room_id, block.first_night, block.end_night)
        if isinstance(command, OpenInventory | ChangeInventory | BlockNights):
            return _keys(room_id, command.first_night, command.end_night)
        return ()


class _Kinds:
    """Commands by their kind. A batch has few kinds, and `isinstance` is slow for a command of another kind."""

    def __init__(self, commands: Iterable[Command]) -> None:
        self._commands: dict[type[Command], list[Any]] = {}
        for command in commands:
            self._commands.setdefault(type(command), []).append(command)

    def of(self, *kinds: type[C]) -> list[C]:
        """Return the commands of some kinds; those of one kind are in their order."""
        return [command for kind, found in self._commands.items() if issubclass(kind, kinds) for command in found]


def _keys_of_booking(booking: Booking, command: RoomCommand) -> Sequence[NightKey]:
    """Return the nights of the booking and of its changes; a repeated ReserveStay may have other dates."""
    # The hold that a repeated ReserveStay names may be over.
    room_id = booking.room_id
    keys = _keys(room_id, booking.check_in, booking.check_out)
    stays = [(command.check_in, command.check_out)] if isinstance(command, ChangeStay) else []
    if (change := booking.pending_change) is not None:
        stays.append((change.stay.check_in, change.stay.check_out))
    return tuple({*keys, *(key for stay in stays for key in _keys(room_id, *stay))}) if stays else keys


def _fault_of_quotes(command: Command) -> str | None:
    """Return what is wrong with the quotes of a stay, of a change of it, or of the legs of a trip, if something is."""
    if isinstance(command, ReserveStay | ChangeStay):
        return None if command.quoted is None else fault_of_quote(command.quoted, command.check_in, command.check_out)
    if isinstance(command, ClaimCode):
        return _fault_of_quotes(command.asked)
    if isinstance(command, ReserveTrip):
        quotes = (leg.quoted for leg in command.legs if leg.quoted is not None)
        faults = (fault_of_quote(quote, command.check_in, command.check_out) for quote in quotes)
        return next((fault for fault in faults if fault is not None), None)
    return None


def _use_key(command: CodeCommand) -> UseKey:
    """Return the code and the booking of a command; the terms of a code are about no booking."""
    if isinstance(command, ClaimCode):
        return command.code_id, command.asked.booking_id
    assert isinstance(command, ReturnCode | SetCode)
    return command.code_id, command.booking_id if isinstance(command, ReturnCode) else _NO_BOOKING


@lru_cache(maxsize=10_000)
def _keys(room_id: int, first: date, end: date) -> tuple[NightKey, ...]:
    """Return the (room, night)s of [first, end), cut to the most nights that a decision reads."""
    if (end - first).days > MAX_NIGHTS:
        end = first + timedelta(days=MAX_NIGHTS)
    return tuple((room_id, day) for day in nights_of(first, end))
