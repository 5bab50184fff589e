"""Reads `booking.events` from its beginning up to given sequences, for a rebuild."""

from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from aiokafka import TopicPartition

from storage.projections.positioned_event import PositionedEvent
from topics.envelope import (
    EVERY_VERSION,
    Undecodable,
    UnknownType,
    UnknownVersion,
    decode_envelope,
    decode_value,
)
from topics.kafka.log_reader import LogReader, RecordsMissing, partitions_of
from topics.kafka.positions import position_text
from topics.kafka.records import sequence_of
from topics.kafka.replaced_events import EventsReplaced, ReplacedEvents, Replacements, find_replaced, replaces
from topics.kafka.settings import KafkaSettings
from topics.messages.events import Event
from topics.sequence_tracker import Order, SequenceTracker

#: So many events are applied together, which makes the cost of a statement itself negligible.
EVENTS_IN_BATCH: Final = 10_000
_REBUILD_FETCH_BYTES: Final = 4 * 2**20
_REBUILD_FETCH_WAIT_MS: Final = 20


class EventsMissing(Exception):
    """The log lacks events that the read model is made of: it was cut or replaced, or a record cannot be read."""


class EventLog:
    """Yields each event once, in the order of its partition, and keeps its progress between calls.

    Attributes:
        events: the number of events read so far.
    """

    def __init__(
        self,
        reader: LogReader,
        partitions: Iterable[TopicPartition],
        event_types: frozenset[str],
        replaced: Replacements,
    ) -> None:
        """Continue at the positions of `reader`; only events of `event_types` are decoded and yielded."""
        self.events = 0
        self._reader = reader
        self._event_types = event_types
        self._partitions = {each.partition: each for each in partitions}
        self._read: dict[int, deque[Any]] = {number: deque() for number in self._partitions}
        self._sequences = {number: SequenceTracker() for number in self._partitions}
        self._replaced = {number: ReplacedEvents(replaced.get(number, ())) for number in self._partitions}

    def behind(self, sequences: Mapping[int, int]) -> int:
        """Return how many events are left to read up to these sequences, by partition."""
        return sum(max(0, wanted - self._last(partition)) for partition, wanted in sequences.items())

    async def until(self, sequences: Mapping[int, int]) -> AsyncIterator[list[PositionedEvent]]:
        """Yield the events that are left up to these sequences, by partition, in batches; a batch may be empty.

        Raises:
            EventsMissing: the log does not have an event.
            EventsReplaced: an event replaces another one that is not known to be replaced.
            aiokafka.errors.KafkaError: the broker cannot be reached.
        """
        while missing := [number for number, wanted in sequences.items() if self._last(number) < wanted]:
            before = self.events
            events = [event for number in missing for event in self._take(number, sequences[number])]
            if self.events > before:
                yield events
            else:
                await self._fetch(missing, sequences)

    def _last(self, number: int) -> int:
        tracker = self._sequences.get(number)
        return 0 if tracker is None else tracker.last

    async def _fetch(self, numbers: list[int], sequences: Mapping[int, int]) -> None:
        """Read the next records of these partitions, of which each has at least one that is missing."""
        # Each missing event is at least one record.
        ends = {
            partition: self._reader.position(partition) + sequences[number] - self._last(number)
            for number in numbers
            if (partition := self._partitions.get(number)) is not None
        }
        if not ends:
            raise EventsMissing(self._cut(numbers[0], sequences[numbers[0]]))
        try:
            async with aclosing(self._reader.batches(ends, max_records=EVENTS_IN_BATCH)) as batches:
                for partition, records in (await anext(batches)).items():
                    self._read[partition.partition].extend(records)
        except RecordsMissing as error:
            raise EventsMissing(self._cut(numbers[0], sequences[numbers[0]])) from error

    def _take(self, number: int, wanted: int) -> list[PositionedEvent]:
        """Return the events of a partition that were read, up to the sequence that is wanted."""
        events: list[PositionedEvent] = []
        read, tracker = self._read.get(number), self._sequences.get(number)
        while read and tracker is not None and tracker.last < wanted:
            record = read.popleft()
            headers = dict(record.headers)
            sequence = _sequence(record)
            if self._replaced[number].drops(sequence, record.offset):
                continue
            if replaces(self._replaced[number], record):
                raise EventsReplaced
            # An event beyond a gap was published again after the gap was filled, as duplicates are. The log of a topic
            # that was created anew continues the sequence of the topic before, and so never comes to 1.
            if tracker.add(sequence) is Order.NEXT:
                self.events += 1
                if _type(record, headers) in self._event_types:
                    events.append(_event(record, sequence))
        return events

    def _cut(self, number: int, wanted: int) -> str:
        topic = next(iter(self._partitions.values())).topic
        return (
            f"{topic}[{number}] goes up to sequence {self._last(number)}, and the read model is made of"
            f" events up to {wanted}: the log was cut or replaced"
        )


@asynccontextmanager
async def open_log(
    kafka: KafkaSettings, topic: str, event_types: frozenset[str], replaced: Replacements
) -> AsyncIterator[EventLog]:
    """Open the whole log; `topic` is its name on the broker, `event_types` are the message types that are yielded.

    Events that are known to be `replaced` are left out.

    Raises:
        EventsMissing: the log has lost its beginning.
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    partitions = await partitions_of(kafka, topic)
    if not partitions:
        raise EventsMissing(f"there is no topic {topic}")
    async with LogReader(
        kafka,
        client_id="innkeeper-rebuild",
        fetch_bytes=_REBUILD_FETCH_BYTES,
        fetch_wait_ms=_REBUILD_FETCH_WAIT_MS,
    ) as reader:
        for partition, (first, _) in (await reader.ranges(partitions)).items():
            if first > 0:
                raise EventsMissing(f"{topic}[{partition.partition}] begins at offset {first}: its beginning is gone")
        reader.assign(dict.fromkeys(partitions, 0))
        yield EventLog(reader, partitions, event_types, replaced)


async def replacements(kafka: KafkaSettings, topic: str) -> Replacements:
    """Read the whole log and return by partition which events others replace. Raises as `open_log`."""
    partitions = await partitions_of(kafka, topic)
    async with LogReader(
        kafka,
        client_id="innkeeper-rebuild",
        fetch_bytes=_REBUILD_FETCH_BYTES,
        fetch_wait_ms=_REBUILD_FETCH_WAIT_MS,
    ) as reader:
        return await find_replaced(reader, await reader.ranges(partitions))


def _sequence(record: Any) -> int:
    sequence = sequence_of(record)
    if sequence is None:
        raise EventsMissing(f"{position_text(record)}: an event without a sequence")
    return sequence


def _type(record: Any, headers: Mapping[str, bytes]) -> str:
    message_type = (headers.get("ce_type") or b"").decode(errors="replace")
    if message_type not in EVERY_VERSION:
        raise EventsMissing(f"{position_text(record)}: the type {message_type!r} is unknown")
    return message_type


def _event(record: Any, sequence: int) -> PositionedEvent:
    try:
        envelope = decode_envelope(record.headers)
        event = decode_value(envelope.type, record.value)
    except (Undecodable, UnknownType, UnknownVersion) as error:
        raise EventsMissing(f"{position_text(record)}: {type(error).__name__}: {error}") from error
    if not isinstance(event, Event):
        raise EventsMissing(f"{position_text(record)}: {envelope.type} does not belong there")
    return PositionedEvent(envelope, event, record.value, record.partition, sequence, record.topic, record.offset)
