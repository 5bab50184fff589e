"""Finds the places on `booking.events` from which coordination reads again after a restore.

Its commands name the events that they follow from. So the newest of them shows how far it had read each partition.
An event that it reads again gives commands with the same ids, which change nothing when they are decided again.
"""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Final

from aiokafka import TopicPartition

from operators.explain.records import causation_position_of
from operators.restore.log import Mark
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import decode_envelope, header
from topics.kafka.log_reader import LogReader, OffsetRange
from workers.coordination.consumer import COORDINATION_SOURCE

#: So many events before the newest whose commands are on the log are read again. A worker that died may have published
#: a part of a batch, and the broker may have the later part alone.
_EVENTS_READ_AGAIN: Final = 10_000
_SOURCE: Final = COORDINATION_SOURCE.encode()


async def followed(reader: LogReader, ranges: Mapping[TopicPartition, OffsetRange], events: str) -> dict[int, int]:
    """Return, by partition, the offset of the newest event from which a command of coordination follows.

    Args:
        reader: it reads the commands that are left.
        ranges: their offsets, by partition.
        events: the name of `booking.events` on the broker.
    """
    newest: dict[int, int] = {}
    async with aclosing(reader.records(ranges)) as records:
        async for record in records:
            if header(record.headers, "ce_source") != _SOURCE:
                continue
            position = causation_position_of(decode_envelope(record.headers))
            if position is not None and position.topic == events:
                newest[position.partition] = max(position.offset, newest.get(position.partition, 0))
    return newest


def place(marks: Sequence[Mark], newest: int | None, now: datetime) -> Mark:
    """Return the place from which coordination reads a partition again.

    Args:
        marks: the places that are known, in order, the beginning first.
        newest: the offset of the newest event from which a command on the log follows; None: there is no such command.
        now: the present time (UTC). All that happened before the retention of commands counts as followed.
    """
    if newest is not None:
        return [mark for mark in marks if mark.offset < 0 or mark.offset <= newest - _EVENTS_READ_AGAIN][-1]
    assert BOOKING_COMMANDS.retention is not None
    since = now - BOOKING_COMMANDS.retention
    return [mark for mark in marks if mark.time is None or mark.time < since][-1]
