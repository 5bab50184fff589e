"""Reads `booking.events` day by day for the export: every event once, in the order of partition and offset."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from operators.export.columns import Unexportable, place_of
from topics.envelope import header
from topics.kafka.log_reader import NoSuchTopic, Record, open_reader, partitions_of
from topics.kafka.settings import KafkaSettings

#: More events of a partition than are ever decided and not yet acknowledged, and so published again, at a time.
MAX_REPEAT: Final = 100_000
_FETCHED_TOGETHER: Final = 5000
_FETCH_MS: Final = 500
_FETCH_BYTES: Final = 2**21
_FETCH_WAIT_MS: Final = 20
_PATIENCE_SECONDS: Final = 30.0


class Once:
    """Tells an event of one partition from its second publication, by its sequence.

    Sequences have no gaps. One that is open, because what comes later was acknowledged first, closes soon.
    """

    def __init__(self, last: int | None) -> None:
        """Begin behind a sequence; None: wherever the first record is."""
        self.lost = 0
        self._last = last
        self._beyond: set[int] = set()

    def is_new(self, sequence: int) -> bool:
        """Tell whether the event has not been seen yet, and remember it."""
        if self._last is None:
            self._last = sequence - 1
        if sequence <= self._last or sequence in self._beyond:
            return False
        self._beyond.add(sequence)
        if len(self._beyond) > MAX_REPEAT:
            self.lost += min(self._beyond) - self._last - 1
            self._last = min(self._beyond) - 1
        while self._last + 1 in self._beyond:
            self._last += 1
            self._beyond.remove(self._last)
        return True

    def missing(self) -> int:
        """Return how many sequences are missing between those that were seen."""
        return self.lost + (max(self._beyond) - (self._last or 0) - len(self._beyond) if self._beyond else 0)


class Run(NamedTuple):
    """Some records of one partition: those read for the first time, and how many others."""

    new: list[Record]
    doubles: int


class EventDays:
    """The days of a topic, read forward, up to what was its end when it was opened."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        partitions: list[TopicPartition],
        bounds: Mapping[TopicPartition, tuple[int, int]],
    ) -> None:
        self._consumer = consumer
        self._bounds = bounds
        self._partitions = [each for each in partitions if bounds[each][0] < bounds[each][1]]
        self._readers: list[_Partition] = []

    async def first(self) -> date | None:
        """Return the day of the oldest event; None: there is none."""
        if not self._partitions:
            return None
        found = await self._consumer.offsets_for_times(dict.fromkeys(self._partitions, 0))
        oldest = min(at.timestamp for at in found.values() if at is not None)
        return datetime.fromtimestamp(oldest / 1000, UTC).date()

    async def records_since(self, day: date) -> int:
        """Return how many records there are of that day and of those after it."""
        starts = await self._at(day)
        return sum(self._bounds[each][1] - start for each, start in starts.items())

    async def begin(self, first: date, last: date) -> int:
        """Go to the first of some consecutive days; return how many records they have."""
        starts = await self._at(first)
        stops = await self._at(last + timedelta(days=1))
        self._readers = [
            await _Partition.open(self._consumer, each, self._bounds[each][0], starts[each], stops[each])
            for each in self._partitions
            if starts[each] < stops[each]
        ]
        return sum(stops[each] - starts[each] for each in self._partitions)

    async def day(self, day: date) -> AsyncIterator[Run]:
        """Yield the events of the next day."""
        midnight = _milliseconds(day + timedelta(days=1))
        for reader in self._readers:
            async for run in reader.before(midnight):
                new = [record for record in run if reader.once.is_new(_sequence(record))]
                yield Run(new, len(run) - len(new))

    def missing(self) -> dict[int, int]:
        """Return by partition how many sequences are missing in what was read."""
        return {reader.number: reader.once.missing() for reader in self._readers if reader.once.missing()}

    async def _at(self, day: date) -> dict[TopicPartition, int]:
        if not self._partitions:
            return {}
        found = await self._consumer.offsets_for_times(dict.fromkeys(self._partitions, _milliseconds(day)))
        ends = {each: end for each, (_, end) in self._bounds.items()}
        return {each: ends[each] if at is None else min(at.offset, ends[each]) for each, at in found.items()}


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
    async with open_reader(settings, fetch_bytes=_FETCH_BYTES, fetch_wait_ms=_FETCH_WAIT_MS) as consumer:
        consumer.assign(partitions)
        starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for each, end in ends.items():
            # Nobody has asked for what stands there yet: it need not be fetched.
            consumer.seek(each, end)
        yield EventDays(consumer, partitions, {each: (starts[each], ends[each]) for each in partitions})


class _Partition:
    """One partition, read forward up to a day's end at a time."""

    def __init__(self, consumer: AIOKafkaConsumer, place: TopicPartition, stop: int, once: Once) -> None:
        self.number: int = place.partition
        self.once = once
        self._consumer = consumer
        self._place = place
        self._stop = stop
        self._fetched: list[Record] = []

    @classmethod
    async def open(
        cls, consumer: AIOKafkaConsumer, place: TopicPartition, beginning: int, start: int, stop: int
    ) -> "_Partition":
        """Go to the start, knowing what of the records behind it stands before it already.

        Only the newest events are published again, none further back than MAX_REPEAT. So where the records read
        span more than that, some of them are new, and the highest of them is the highest of all.
        """
        reach = MAX_REPEAT + 1
        while True:
            from_offset = max(beginning, start - reach)
            consumer.seek(place, from_offset)
            earlier = cls(consumer, place, start, Once(None))
            sequences = [_sequence(record) async for run in earlier.before(None) for record in run]
            whole = from_offset == beginning
            if whole or max(sequences) - min(sequences) >= MAX_REPEAT:
                break
            reach *= 2
        once = Once(0 if beginning == 0 and whole else min(sequences) - 1 if sequences else None)
        for sequence in sequences:
            once.is_new(sequence)
        consumer.seek(place, start)
        return cls(consumer, place, stop, once)

    async def before(self, midnight_ms: int | None) -> AsyncIterator[list[Record]]:
        """Yield the records up to the first of a time (None: any), in runs.

        What stands behind that one belongs to its day or a later one, whatever its own time is: that is also where
        the broker finds a time.
        """
        while self._fetched or (await self._fetch()):
            run, self._fetched = self._cut(midnight_ms)
            if run:
                yield run
            if self._fetched:
                return

    def _cut(self, midnight_ms: int | None) -> tuple[list[Record], list[Record]]:
        if midnight_ms is not None:
            for number, record in enumerate(self._fetched):
                if record.timestamp >= midnight_ms:
                    return self._fetched[:number], self._fetched[number:]
        return self._fetched, []

    async def _fetch(self) -> bool:
        """Read on; False at the end. Raises KafkaError: the broker gives nothing any more."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while not self._fetched and await self._consumer.position(self._place) < self._stop:
                    found = await self._consumer.getmany(
                        self._place, timeout_ms=_FETCH_MS, max_records=_FETCHED_TOGETHER
                    )
                    self._fetched = [each for each in found.get(self._place, ()) if each.offset < self._stop]
        except TimeoutError:
            raise KafkaError(f"nothing of partition {self.number} for {_PATIENCE_SECONDS:.0f} s") from None
        return bool(self._fetched)


def _sequence(record: Record) -> int:
    value = header(record.headers, "ce_sequence")
    if value is None or not value.isdigit():
        raise Unexportable(f"{place_of(record)} is no event of ours: it has no sequence.")
    return int(value)


def _milliseconds(day: date) -> int:
    return int(datetime.combine(day, time.min, tzinfo=UTC).timestamp()) * 1000
