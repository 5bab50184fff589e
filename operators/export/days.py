"""Reads `booking.events` day by day for the export: every event once, in the order of partition and offset.

Of two events of one sequence, which a failover can leave, both are exported. A restore takes the later one.
"""

from array import array
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple

from aiokafka import TopicPartition

from operators.export.columns import Unexportable, place_of
from topics.envelope import header
from topics.kafka.log_reader import LogReader, NoSuchTopic, OffsetRange, Record, partitions_of
from topics.kafka.records import sequence_of
from topics.kafka.replaced_events import hash_of
from topics.kafka.settings import KafkaSettings
from topics.sequence_tracker import Order, SequenceTracker

#: More events of a partition than are ever decided and not yet acknowledged at a time, and so published again.
MAX_REPEAT: Final = 100_000
_RECORDS_IN_BATCH: Final = 5000
_EXPORT_FETCH_BYTES: Final = 2**21
_EXPORT_FETCH_WAIT_MS: Final = 20


class Deduplicator:
    """Separates the first publication of each event of one partition from repeated ones, by sequence and content.

    Sequences have no gaps. A gap that is open because a later event was acknowledged first closes soon. An event of a
    known sequence and another content is new, too: it replaces the earlier one, and the events behind it are counted
    from there on (`topics.kafka.replaced_events`).

    Attributes:
        lost: how many sequences were given up as missing.
        replacing: how many events came with the sequence of another one.
    """

    def __init__(self, last: int | None) -> None:
        """Begin behind a sequence; None: at the sequence of the first record."""
        self.lost = 0
        self.replacing = 0
        self._sequences = None if last is None else SequenceTracker(last)
        self._beyond: dict[int, int] = {}
        #: The hashes of the newest events up to the tracker's last one.
        self._hashes = array("I")
        #: The last sequence before an event replaced an earlier one.
        self._last_replaced: int | None = None

    def is_new(self, sequence: int, number: int = 0) -> bool:
        """Return whether the event of this hash has not come before, and remember that it has come."""
        if self._sequences is None:
            self._sequences = SequenceTracker(sequence - 1)
        match self._sequences.add(sequence):
            case Order.NEXT:
                self._hashes.append(number)
                self._continue()
                return True
            case Order.DUPLICATE:
                return self._replaces(sequence, number)
            case Order.BEYOND_GAP if self._beyond.get(sequence) == number:
                return False
        self._beyond[sequence] = number
        self._continue()
        if len(self._beyond) > MAX_REPEAT:
            first = min(self._beyond)
            self.lost += self._missing_before(first)
            self._begin_behind(first - 1)
            self._continue()
        return True

    def missing(self) -> int:
        """Return how many sequences are missing between those that have come."""
        if self._sequences is None or not self._beyond:
            return self.lost
        return self.lost + self._missing_before(min(self._beyond)) + self._missing_beyond()

    def _missing_beyond(self) -> int:
        return max(self._beyond) - min(self._beyond) + 1 - len(self._beyond)

    def _missing_before(self, first: int) -> int:
        """Return how many sequences are missing before the first one beyond the gap.

        There is no gap where a worker that was frozen published an old event, and the others went on behind their own.
        """
        assert self._sequences is not None
        known = self._sequences.last if self._last_replaced is None else max(self._sequences.last, self._last_replaced)
        return max(0, first - known - 1)

    def _replaces(self, sequence: int, number: int) -> bool:
        """Return whether a sequence that has come has another content now; then the events behind it are replaced."""
        assert self._sequences is not None
        back = self._sequences.last - sequence
        if back >= len(self._hashes) or self._hashes[-1 - back] == number:
            return False
        self.replacing += 1
        self._last_replaced = self._sequences.last
        hashes = self._hashes[: len(self._hashes) - back - 1]
        hashes.append(number)
        self._begin_behind(sequence)
        self._hashes = hashes
        self._beyond.clear()
        return True

    def _begin_behind(self, sequence: int) -> None:
        self._sequences, self._hashes = SequenceTracker(sequence), array("I")

    def _continue(self) -> None:
        """Add the events that came beyond the gap which has just closed; forget those that cannot come again."""
        sequences = self._sequences
        assert sequences is not None
        while (following := sequences.last + 1) in self._beyond:
            self._hashes.append(self._beyond.pop(following))
            sequences.add(following)
        if len(self._hashes) > 2 * MAX_REPEAT:
            del self._hashes[:-MAX_REPEAT]


class ExportBatch(NamedTuple):
    """Some records of one partition: those published for the first time, and the number of all others."""

    new: list[Record]
    duplicates: int


class EventDays:
    """The days of a topic, read forward up to the end that the topic had when it was opened."""

    def __init__(
        self,
        reader: LogReader,
        ranges: Mapping[TopicPartition, OffsetRange],
    ) -> None:
        self._reader = reader
        self._ranges = ranges
        self._partitions = [each for each, (first, end) in ranges.items() if first < end]
        self._readers: list[_PartitionReader] = []

    async def first(self) -> date | None:
        """Return the day of the oldest event; None: there is no event."""
        if not self._partitions:
            return None
        found = await self._reader.offsets_and_times_at(dict.fromkeys(self._partitions, 0))
        oldest = min(at.time_ms for at in found.values() if at is not None)
        return datetime.fromtimestamp(oldest / 1000, UTC).date()

    async def records_since(self, day: date) -> int:
        """Return how many records there are of that day and of those after it."""
        starts = await self._at(day)
        return sum(self._ranges[each].end - start for each, start in starts.items())

    async def begin(self, first: date, last: date) -> int:
        """Go to the first of some consecutive days; return how many records they have."""
        starts = await self._at(first)
        stops = await self._at(last + timedelta(days=1))
        self._readers = [
            await _PartitionReader.open(self._reader, each, self._ranges[each].first, starts[each], stops[each])
            for each in self._partitions
            if starts[each] < stops[each]
        ]
        return sum(stops[each] - starts[each] for each in self._partitions)

    async def day(self, day: date) -> AsyncIterator[ExportBatch]:
        """Yield the events of the next day."""
        midnight = _milliseconds(day + timedelta(days=1))
        for reader in self._readers:
            async for records in reader.before(midnight):
                new = [record for record in records if reader.deduplicator.is_new(*_fingerprint(record))]
                yield ExportBatch(new, len(records) - len(new))

    def missing(self) -> dict[int, int]:
        """Return, by partition, how many sequences are missing in the days that were read."""
        counts = {reader.number: reader.deduplicator.missing() for reader in self._readers}
        return {number: count for number, count in counts.items() if count}

    def replacing(self) -> dict[int, int]:
        """Return, by partition, how many events of the days that were read have the sequence of another one."""
        return {reader.number: count for reader in self._readers if (count := reader.deduplicator.replacing)}

    async def _at(self, day: date) -> dict[TopicPartition, int]:
        if not self._partitions:
            return {}
        found = await self._reader.offsets_at(dict.fromkeys(self._partitions, _milliseconds(day)))
        ends = {each: end for each, (_, end) in self._ranges.items()}
        return {each: ends[each] if at is None else min(at, ends[each]) for each, at in found.items()}


@asynccontextmanager
async def open_days(settings: KafkaSettings, name: str) -> AsyncIterator[EventDays]:
    """Open a topic by its name on the broker.

    Raises:
        NoSuchTopic: there is none of this name.
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    partitions = await partitions_of(settings, name)
    if not partitions:
        raise NoSuchTopic(f"The topic {name} does not exist. Create it: innkeeper topics create.")
    async with LogReader(settings, fetch_bytes=_EXPORT_FETCH_BYTES, fetch_wait_ms=_EXPORT_FETCH_WAIT_MS) as reader:
        ranges = await reader.ranges(partitions)
        # Nothing is fetched before `begin` has moved a partition from its end.
        reader.assign({each: end for each, (_, end) in ranges.items()})
        yield EventDays(reader, ranges)


class _PartitionReader:
    """Reads one partition forward, up to the end of one day after the other."""

    def __init__(self, reader: LogReader, partition: TopicPartition, stop: int, deduplicator: Deduplicator) -> None:
        self.number: int = partition.partition
        self.deduplicator = deduplicator
        self._reader = reader
        self._partition = partition
        self._stop = stop
        self._fetched: list[Record] = []

    @classmethod
    async def open(
        cls, reader: LogReader, partition: TopicPartition, beginning: int, start: int, stop: int
    ) -> "_PartitionReader":
        """Move to the start, after reading the sequences before it, so that repeated events behind it are known.

        Only the newest events are published again, none further back than MAX_REPEAT. So where the records read
        span more than that, some of them are new, and the highest of them is the highest of all.
        """
        reach = MAX_REPEAT + 1
        while True:
            from_offset = max(beginning, start - reach)
            reader.seek(partition, from_offset)
            earlier = cls(reader, partition, start, Deduplicator(None))
            fingerprints = [_fingerprint(record) async for records in earlier.before(None) for record in records]
            sequences = [sequence for sequence, _ in fingerprints]
            whole = from_offset == beginning
            if whole or max(sequences) - min(sequences) >= MAX_REPEAT:
                break
            reach *= 2
        deduplicator = Deduplicator(0 if beginning == 0 and whole else min(sequences) - 1 if sequences else None)
        for fingerprint in fingerprints:
            deduplicator.is_new(*fingerprint)
        deduplicator.replacing = 0
        reader.seek(partition, start)
        return cls(reader, partition, stop, deduplicator)

    async def before(self, midnight_ms: int | None) -> AsyncIterator[list[Record]]:
        """Yield the records before the first one of this time (ms since 1970; None: all), some at a time.

        All records behind that one belong to its day or a later one, by any time of their own. The broker finds the
        offset of a time in the same way.
        """
        while self._fetched or (await self._fetch()):
            records, self._fetched = self._cut(midnight_ms)
            if records:
                yield records
            if self._fetched:
                return

    def _cut(self, midnight_ms: int | None) -> tuple[list[Record], list[Record]]:
        if midnight_ms is not None:
            for number, record in enumerate(self._fetched):
                if record.timestamp >= midnight_ms:
                    return self._fetched[:number], self._fetched[number:]
        return self._fetched, []

    async def _fetch(self) -> bool:
        """Read the next records; False at the end."""
        ends = {self._partition: self._stop}
        async with aclosing(self._reader.batches(ends, max_records=_RECORDS_IN_BATCH)) as batches:
            self._fetched = (await anext(batches, {})).get(self._partition, [])
        return bool(self._fetched)


def _fingerprint(record: Record) -> tuple[int, int]:
    """Return an event's sequence, and a number for its content."""
    sequence = sequence_of(record)
    if sequence is None:
        raise Unexportable(f"{place_of(record)} is no event of ours: it has no sequence.")
    return sequence, hash_of(header(record.headers, "ce_type") or b"", record.value or b"")


def _milliseconds(day: date) -> int:
    return int(datetime.combine(day, time.min, tzinfo=UTC).timestamp()) * 1000
