"""Finds the position on `booking.commands` from which workers resume: behind the command of the last event.

Commands behind that position have no published event: they are decided, or decided again, by the workers. The command
itself is decided here once more, with the ledger as it was before it: the events must equal those of the log. Its
events that were never published are left in the outbox.
"""

from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from typing import NamedTuple

from aiokafka import TopicPartition
from psycopg import AsyncConnection

from operators.explain.records import causation_position_of
from operators.restore.log import envelope_of
from operators.restore.target import NotRestored
from storage.cursors import Cursor
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import Outgoing, decode_envelope, decode_value, header
from topics.kafka.log_reader import LogReader, OffsetRange
from topics.times import to_the_second
from workers.reservations.handler import Reservations
from workers.runtime.records import fingerprint, read
from workers.runtime.role import PartitionBatch, Received, Record


class _DecidedDifferently(Exception):
    """The commands do not lead to the events that the log has."""


class Commands(NamedTuple):
    """The commands of one partition that the log still has.

    Attributes:
        range: their offsets.
        decided: the records of the command that led to the last events, nearly always one. Empty: retention deleted
            them, and all commands that are left are later.
    """

    range: OffsetRange
    decided: Sequence[Record]


async def find(reader: LogReader, partition: TopicPartition, last_decision: Sequence[Received]) -> Commands:
    """Find the command that led to the last events of a partition, at the position that these events name.

    Events of a worker from before 0.1.0 name no position, and the commands are elsewhere when their topic was created
    anew or copied. Only then the command is looked for by the log's time and its id.

    Raises:
        NotRestored: the log does not have the command and has older ones, so commands and events do not belong
            together.
    """
    commands = (await reader.ranges([partition]))[partition]
    if not last_decision or commands.first == commands.end:
        return Commands(commands, ())
    decided = await _at_positions(reader, partition, commands, last_decision)
    return Commands(
        commands, await _by_time(reader, partition, commands, last_decision) if decided is None else decided
    )


async def _at_positions(
    reader: LogReader, partition: TopicPartition, commands: OffsetRange, last_decision: Sequence[Received]
) -> list[Record] | None:
    """Return the commands at the positions that the events name, as far as retention left them.

    Retention deleted those before the first record only if that record is later than the events: in a topic that was
    created anew or copied, a command may have another position.

    None: an event names no position, or its command is not there.
    """
    positions = {causation_position_of(envelope_of(event)) for event in last_decision}
    offsets = sorted(each.offset for each in positions if each is not None and each[:2] == partition)
    if len(offsets) < len(positions) or offsets[-1] >= commands.end:
        return None
    causation = envelope_of(last_decision[0]).causation or ""
    if offsets[0] < commands.first and not await _is_later(reader, partition, commands, last_decision):
        return None
    decided: list[Record] = []
    for offset in offsets:
        if offset >= commands.first:
            found = await _records_of(reader, partition, OffsetRange(offset, offset + 1), causation, None)
            if not found:
                return None
            decided += found
    return decided


async def _is_later(
    reader: LogReader, partition: TopicPartition, commands: OffsetRange, last_decision: Sequence[Received]
) -> bool:
    """Return whether the first command that is left is later than the events."""
    time_ms = _milliseconds(last_decision[-1])
    since = (await reader.offsets_and_times_at({partition: time_ms}))[partition]
    return since is not None and since.offset == commands.first and since.time_ms > time_ms


def _milliseconds(event: Received) -> int:
    """Return the log's time of an event."""
    return round(envelope_of(event).time.timestamp() * 1000)


async def _by_time(
    reader: LogReader, partition: TopicPartition, commands: OffsetRange, last_decision: Sequence[Received]
) -> list[Record]:
    """Return the command by its id, from the log's time of the last events on. Raises as `find`."""
    envelope = envelope_of(last_decision[0])
    causation, time_ms = envelope.causation or "", _milliseconds(last_decision[0])
    since = (await reader.offsets_and_times_at({partition: time_ms}))[partition]
    if since is not None:
        decided = await _records_of(reader, partition, OffsetRange(since.offset, commands.end), causation, time_ms)
        if decided or (since.offset == commands.first and since.time_ms > time_ms):
            return decided
    # Where the clock ran backwards, the command is not at its time.
    if found := await _records_of(reader, partition, commands, causation, None):
        return found[-1:]
    raise NotRestored(
        f"{partition.topic}[{partition.partition}] does not have command {causation}, which led to the last event of"
        f" that partition at {to_the_second(envelope.time)}, though it has older ones: they do not belong together."
    )


async def _records_of(
    reader: LogReader, partition: TopicPartition, offsets: OffsetRange, causation: str, until_ms: int | None
) -> list[Record]:
    """Return the records of a command in a range, up to the first record that is later than `until_ms`."""
    found: list[Record] = []
    id = causation.encode()
    async with aclosing(reader.records({partition: offsets})) as records:
        async for record in records:
            if until_ms is not None and record.timestamp > until_ms:
                break
            if header(record.headers, "ce_id") == id:
                found.append(record)
    return found


async def decide_again(
    connection: AsyncConnection,
    reservations: Reservations,
    cursor: Cursor,
    published: Sequence[Received],
    commands: Commands,
) -> list[Outgoing] | None:
    """Decide the last commands of a partition again, and move the cursor behind them.

    Args:
        connection: inside the restore's transaction.
        reservations: decides, as in a worker.
        cursor: the cursor of reservations in the partition; it is changed.
        published: the events of these commands that the log has.
        commands: the commands that are left of the partition.

    Returns:
        The events of the commands that the log does not have. None: this version of the program decides the commands
        differently, and nothing was written.
    """
    sequence = cursor.sequence
    try:
        async with connection.transaction():
            return await _again(connection, reservations, cursor, published, commands)
    except _DecidedDifferently:
        # The events of the log count, because clients have seen them.
        cursor.sequence = sequence
        return None


async def _again(
    connection: AsyncConnection,
    reservations: Reservations,
    cursor: Cursor,
    published: Sequence[Received],
    commands: Commands,
) -> list[Outgoing]:
    left, time = list(published), envelope_of(published[0]).time
    cursor.sequence = (envelope_of(published[0]).sequence or 1) - 1
    for record in commands.decided:
        reservations.forget()
        decided = await _decide(connection, reservations, cursor, record, time)
        if not _same(decided, left):
            break
        move_behind(cursor, record)
        missing, left = decided[len(left) :], left[len(decided) :]
        if not left:
            return missing
    raise _DecidedDifferently


async def _decide(
    connection: AsyncConnection, reservations: Reservations, cursor: Cursor, record: Record, time: datetime
) -> list[Outgoing]:
    batch = PartitionBatch(BOOKING_COMMANDS, record.partition, cursor, [read(BOOKING_COMMANDS, record, time)])
    (decided,) = await reservations.handle(connection, [batch])
    return decided


def _same(decided: Sequence[Outgoing], published: Sequence[Received]) -> bool:
    return all(_is(record, received) for record, received in zip(decided, published, strict=False))


def _is(record: Outgoing, received: Received) -> bool:
    envelope = decode_envelope(record.headers)
    return (
        envelope.sequence == envelope_of(received).sequence
        and decode_value(envelope.type, record.value) == received.message
    )


def move_behind(cursor: Cursor, record: Record) -> None:
    """Move the cursor behind a record."""
    cursor.applied = cursor.published = record.offset
    cursor.last_hash = fingerprint(record)
