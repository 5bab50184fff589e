"""Finds events that others replace: a failover lost their decisions, and those were made again otherwise.

The log keeps both then, with one sequence. The ledger has the later ones, and all events behind them follow from those
(ADR 0042). Readers of the whole log drop the earlier ones.
"""

import zlib
from array import array
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from topics.envelope import header
from topics.kafka.log_reader import LogReader, OffsetRange
from topics.kafka.records import sequence_of


class Replacement(NamedTuple):
    """From `sequence` on, the events of a partition before `offset` are replaced by those from there on."""

    sequence: int
    offset: int

    def __str__(self) -> str:
        return (
            f"sequence {self.sequence} is there twice, as different events: a failover lost a decision that was"
            f" published, and it was made again otherwise. The later events, from offset {self.offset} on, are the"
            " ledger's"
        )


Replacements = Mapping[int, Sequence[Replacement]]


class EventsReplaced(Exception):
    """The log has an event that another replaces, and that was not known; `find_replaced` finds all."""


def hash_of(message_type: bytes, value: bytes) -> int:
    """Return a number of 32 bits in which different events of one sequence differ."""
    return zlib.crc32(value, zlib.crc32(message_type))


class ReplacedEvents:
    """The events of one partition: those that others replace are dropped, if they are known.

    It keeps four bytes of each event.
    """

    def __init__(self, known: Sequence[Replacement] = ()) -> None:
        self._known = known
        self._hashes = array("I")

    def drops(self, sequence: int, offset: int) -> bool:
        """Return whether another event replaces this one."""
        return any(sequence >= first and offset < end for first, end in self._known)

    def is_other(self, sequence: int, message_type: bytes, value: bytes) -> bool:
        """Return whether another event of this sequence was added."""
        return 0 < sequence <= len(self._hashes) and self._hashes[sequence - 1] != hash_of(message_type, value)

    def add(self, sequence: int, message_type: bytes, value: bytes) -> bool:
        """Add the next record's event; return whether it replaces another one, and all that follow that one."""
        return self.add_hash(sequence, hash_of(message_type, value))

    def add_hash(self, sequence: int, number: int) -> bool:
        """As `add`, for an event of this hash."""
        found = len(self._hashes)
        if sequence == found + 1:
            self._hashes.append(number)
        elif sequence <= found and self._hashes[sequence - 1] != number:
            self._hashes[sequence - 1] = number
            del self._hashes[sequence:]
            return True
        return False


async def find_replaced(reader: LogReader, ranges: Mapping[TopicPartition, OffsetRange]) -> Replacements:
    """Read these records of `booking.events` and return by partition which events others replace."""
    found: dict[int, list[Replacement]] = {each.partition: [] for each in ranges}
    events = {each.partition: ReplacedEvents() for each in ranges}
    reader.assign({partition: first for partition, (first, _) in ranges.items()})
    async with aclosing(reader.batches({partition: end for partition, (_, end) in ranges.items()})) as batches:
        async for batch in batches:
            for partition, records in batch.items():
                for record in records:
                    if replaces(events[partition.partition], record):
                        sequence = sequence_of(record) or 0
                        found[partition.partition].append(Replacement(sequence, record.offset))
    return found


def replaces(events: ReplacedEvents, record: Any) -> bool:
    """Add a record's event; return whether it replaces another one."""
    sequence = sequence_of(record)
    if sequence is None:
        return False
    return events.add(sequence, header(record.headers, "ce_type") or b"", record.value or b"")
