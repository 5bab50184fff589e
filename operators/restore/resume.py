"""Where on `booking.commands` the system goes on: behind the command that led to the last event of the partition.

Commands behind it led to no event that anybody could have seen: they are decided, or decided again. The command itself
is decided once more, with the ledger as it stood before it: its events must come out as they stand on the log, and
those that were not published any more are left to be published.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from psycopg import AsyncConnection

from operators.restore.log import Partition, envelope_of
from operators.restore.target import NotRestored
from storage.cursors import Cursor
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import Outgoing, decode_envelope, decode_value, header
from topics.times import to_the_second
from workers.reservations.handler import Reservations
from workers.runtime.records import fingerprint, read
from workers.runtime.role import PartitionBatch, Received, Record

_FETCH_MS: Final = 200


class _OtherwiseToday(Exception):
    """The commands do not lead to the events that stand on the log."""


class Commands(NamedTuple):
    """What `booking.commands` still has of a partition: its bounds, and the commands that led to the last events.

    `decided` are records of the same command at the same time, nearly always one. None: their place was deleted long
    ago, and all that stands there now is newer.
    """

    start: int
    end: int
    decided: Sequence[Record]


async def find(consumer: AIOKafkaConsumer, place: TopicPartition, partition: Partition) -> Commands:
    """Look for the command that led to the partition's last events, by the log's time and its id.

    Raises:
        NotRestored: it is not where it must be, so these commands and events do not belong together.
    """
    start, end = (await consumer.beginning_offsets([place]))[place], (await consumer.end_offsets([place]))[place]
    if not partition.deciding or start == end:
        return Commands(start, end, ())
    envelope = envelope_of(partition.deciding[0])
    causation, time_ms = envelope.causation or "", round(envelope.time.timestamp() * 1000)
    since = (await consumer.offsets_for_times({place: time_ms}))[place]
    if since is not None:
        decided = await _decided(consumer, place, (since.offset, end), causation, time_ms)
        if decided or (since.offset == start and since.timestamp > time_ms):
            return Commands(start, end, decided)
    # The clock ran backwards there: then its time does not say where it stands.
    if found := await _decided(consumer, place, (start, end), causation, None):
        return Commands(start, end, found[-1:])
    raise NotRestored(
        f"{place.topic}[{place.partition}] does not have command {causation}, which led to the last event of that"
        f" partition at {to_the_second(envelope.time)}, though it has older ones: they do not belong together."
    )


async def _decided(
    consumer: AIOKafkaConsumer, place: TopicPartition, between: tuple[int, int], causation: str, until_ms: int | None
) -> list[Record]:
    """Return the records of a command in [start, end), up to the first one that is later than `until_ms`."""
    start, end = between
    consumer.assign([place])
    consumer.seek(place, start)
    found: list[Record] = []
    wanted, offset = causation.encode(), start
    while offset < end:
        for record in (await consumer.getmany(timeout_ms=_FETCH_MS)).get(place, ()):
            if until_ms is not None and record.timestamp > until_ms:
                return found
            if header(record.headers, "ce_id") == wanted:
                found.append(record)
            offset = record.offset + 1
    return found


async def decide_again(
    connection: AsyncConnection, owner: Reservations, cursor: Cursor, told: Sequence[Received], commands: Commands
) -> list[Outgoing] | None:
    """Decide the last commands of a partition as their owner does, and move the cursor behind them.

    Returns:
        Their events that the log does not have. None: they would be decided otherwise today, and nothing was written.
    """
    sequence = cursor.sequence
    try:
        async with connection.transaction():
            return await _again(connection, owner, cursor, told, commands)
    except _OtherwiseToday:
        # The log has the last word: these events happened.
        cursor.sequence = sequence
        return None


async def _again(
    connection: AsyncConnection, owner: Reservations, cursor: Cursor, told: Sequence[Received], commands: Commands
) -> list[Outgoing]:
    left, time = list(told), envelope_of(told[0]).time
    cursor.sequence = (envelope_of(told[0]).sequence or 1) - 1
    for record in commands.decided:
        owner.forget()
        decided = await _decide(connection, owner, cursor, record, time)
        if not _same(decided, left):
            break
        behind(cursor, record)
        missing, left = decided[len(left) :], left[len(decided) :]
        if not left:
            return missing
    raise _OtherwiseToday


async def _decide(
    connection: AsyncConnection, owner: Reservations, cursor: Cursor, record: Record, time: datetime
) -> list[Outgoing]:
    run = PartitionBatch(BOOKING_COMMANDS, record.partition, cursor, [read(BOOKING_COMMANDS, record, time)])
    (decided,) = await owner.handle(connection, [run])
    return decided


def _same(decided: Sequence[Outgoing], told: Sequence[Received]) -> bool:
    return all(_is(record, received) for record, received in zip(decided, told, strict=False))


def _is(record: Outgoing, received: Received) -> bool:
    envelope = decode_envelope(record.headers)
    return (
        envelope.sequence == envelope_of(received).sequence
        and decode_value(envelope.type, record.value) == received.message
    )


def behind(cursor: Cursor, record: Record) -> None:
    """Move the cursor behind a record."""
    cursor.applied = cursor.published = record.offset
    cursor.last_hash = fingerprint(record)
