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

from operators.restore.log import Partition, envelope_of
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
            them, and all commands that are left are newer.
    """

    range: OffsetRange
    decided: Sequence[Record]


async def find(reader: LogReader, place: TopicPartition, partition: Partition) -> Commands:
    """Find the command that led to the partition's last events, by the log's time and the command's id.

    Raises:
        NotRestored: it is not at its time, so these commands and events do not belong together.
    """
    commands = (await reader.ranges([place]))[place]
    start, end = commands
    if not partition.last_decision or start == end:
        return Commands(commands, ())
    envelope = envelope_of(partition.last_decision[0])
    causation, time_ms = envelope.causation or "", round(envelope.time.timestamp() * 1000)
    since = (await reader.offsets_and_times_at({place: time_ms}))[place]
    if since is not None:
        decided = await _decided(reader, place, OffsetRange(since.offset, end), causation, time_ms)
        if decided or (since.offset == start and since.time_ms > time_ms):
            return Commands(commands, decided)
    # Where the clock ran backwards, the command is not at its time.
    if found := await _decided(reader, place, commands, causation, None):
        return Commands(commands, found[-1:])
    raise NotRestored(
        f"{place.topic}[{place.partition}] does not have command {causation}, which led to the last event of that"
        f" partition at {to_the_second(envelope.time)}, though it has older ones: they do not belong together."
    )


async def _decided(
    reader: LogReader, place: TopicPartition, offsets: OffsetRange, causation: str, until_ms: int | None
) -> list[Record]:
    """Return the records of a command in a range, up to the first record that is later than `until_ms`."""
    found: list[Record] = []
    wanted = causation.encode()
    async with aclosing(reader.records({place: offsets})) as records:
        async for record in records:
            if until_ms is not None and record.timestamp > until_ms:
                break
            if header(record.headers, "ce_id") == wanted:
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
