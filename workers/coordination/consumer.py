"""Coordination's one step: events become commands to other keys, in the batch's fenced transaction.

Reads `booking.events`, and from the ledger the bookings that some events name; writes commands to `booking.commands`,
and no table but its cursor and the outbox. An event that is read again gives commands with the same ids, and a command
that is decided again changes nothing: so each effect is there once, whenever this worker dies.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from psycopg import AsyncConnection

from storage.ledger import LEDGER, LedgerStatements
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, Topic
from topics.envelope import Outgoing, command_record
from topics.kafka.positions import position_text
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import Command
from topics.messages.events import BookingEvent
from topics.messages.releases import Release
from workers.booking_rows import booking_of
from workers.coordination import codes, documents, trips
from workers.decisions import Booking
from workers.runtime.role import PartitionBatch, Received, Stopped
from workers.runtime.withholding import readable

COORDINATION_SOURCE: Final = "innkeeper/coordination"

#: The events whose bookings in the ledger the pure functions read.
_WITH_BOOKING: Final[tuple[type[BookingEvent], ...]] = (
    *codes.WITH_BOOKING,
    *documents.WITH_BOOKING,
    *trips.WITH_BOOKING,
)


class Coordination:
    """The consumer `coordination`."""

    name = "coordination"
    topics: tuple[Topic, ...] = (BOOKING_EVENTS,)

    def __init__(self, kafka: KafkaSettings, ledger: LedgerStatements = LEDGER) -> None:
        self._ledger = ledger
        self._commands_topic = kafka.topic(BOOKING_COMMANDS)
        self._readable_by = kafka.log_readable_by

    async def handle(
        self, connection: AsyncConnection, batches: Sequence[PartitionBatch]
    ) -> Sequence[Sequence[Outgoing]]:
        """Return the commands to publish, for each batch.

        Raises:
            Stopped: a trip or a move to another room type needs a command while a worker of 0.1.0 may run; nothing of
                the batch is skipped.
        """
        found = await self._bookings(connection, batches)
        return [
            [record for received in batch.received for record in self._records(received, found)] for batch in batches
        ]

    def forget(self) -> None:
        """Do nothing: this consumer keeps nothing in memory."""

    async def _bookings(self, connection: AsyncConnection, batches: Sequence[PartitionBatch]) -> Mapping[UUID, Booking]:
        """Return the bookings of the batches that the pure functions read, by one statement."""
        ids = {
            id for batch in batches for received in batch.received if (id := _booking_id(received.message)) is not None
        }
        if not ids:
            return {}
        rows = await self._ledger.load_bookings(connection, ids)
        return {booking.id: booking for booking in map(booking_of, rows)}

    def _records(self, received: Received, found: Mapping[UUID, Booking]) -> list[Outgoing]:
        event, envelope = received.message, received.envelope
        assert envelope is not None, "every event of ours has an envelope"
        booking_id = _booking_id(event)
        booking = None if booking_id is None else found.get(booking_id)
        of_trips = trips.commands_for(event, envelope, booking)
        if of_trips and self._readable_by is Release.V0_1_0:
            # A command that is left out would leave rooms held for ever.
            raise Stopped(_trip_needs_this_release(received, of_trips[0][1]))
        commands = (
            *codes.commands_for(event, envelope, booking),
            *documents.commands_for(event, envelope, booking),
            *of_trips,
        )
        return [self._record(id, command, received) for id, command in readable(self._readable_by, commands)]

    def _record(self, command_id: str, command: Command, received: Received) -> Outgoing:
        cause = received.envelope
        assert cause is not None
        return command_record(
            self._commands_topic,
            command,
            id=command_id,
            source=COORDINATION_SOURCE,
            time=received.time,
            causation=cause.id,
            correlation=cause.correlation or cause.id,
            traceparent=cause.traceparent,
            causation_position=position_text(received.record),
            actor=cause.actor,
            request_id=cause.request_id,
        )


def _trip_needs_this_release(received: Received, command: Command) -> str:
    return (
        f"{position_text(received.record)}: a trip or a move to another room type needs {type(command).__name__},"
        f" which is not sent while workers of {Release.V0_1_0} may run;"
        f" remove LOG_READABLE_BY={Release.V0_1_0} from all processes and restart them"
    )


def _booking_id(event: object) -> UUID | None:
    """Return the booking that the pure functions read for an event, if they read one."""
    return event.booking_id if isinstance(event, _WITH_BOOKING) else None
