"""The log in memory: topics with partitions, whose records get the broker's time; and its clients with their faults."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from tests.simulation.plan import Kind
from tests.simulation.process import Process
from topics.envelope import Outgoing
from topics.kafka.log_reader import OffsetRange
from topics.kafka.partitions import partition_of
from topics.kafka.positions import LogPosition


@dataclass(slots=True)
class SimulatedRecord:
    """A record, with the fields of aiokafka's."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class SimulatedLog:
    """All topics. `readers` are called with each record that is stored."""

    def __init__(self, partitions: int, now_ms: Callable[[], int]) -> None:
        self.partitions = partitions
        self.readers: list[Callable[[SimulatedRecord], None]] = []
        self.history = blake2b(digest_size=16)
        self._now_ms = now_ms
        self._records: dict[tuple[str, int], list[SimulatedRecord]] = {}
        self._waiting: dict[str, dict[asyncio.Event, None]] = {}

    def records(self, topic: str, partition: int) -> list[SimulatedRecord]:
        """Return all records of a partition."""
        return self._records.setdefault((topic, partition), [])

    def has_more(self, positions: Mapping[TopicPartition, int]) -> bool:
        """Return whether a partition has a record at its position or behind it."""
        for partition, position in positions.items():
            found = self._records.get(partition)
            if found is not None and position < len(found):
                return True
        return False

    def append(self, record: Outgoing) -> LogPosition:
        """Store a record at the end of its partition."""
        topic, key = record.topic, record.key
        partition = partition_of(key, self.partitions) if record.partition is None else record.partition
        records = self.records(topic, partition)
        stored = SimulatedRecord(topic, partition, len(records), self._now_ms(), key, record.value, record.headers)
        records.append(stored)
        self.history.update(b"%s %d %d %s %s" % (topic.encode(), partition, stored.timestamp, key, record.value))
        for name, value in record.headers:
            self.history.update(name.encode() + (value or b""))
        for reader in self.readers:
            reader(stored)
        for event in self._waiting.get(topic, ()):
            event.set()
        return LogPosition(topic, partition, stored.offset)

    def wake(self, event: asyncio.Event, topics: Iterable[str]) -> None:
        """Set the event at each new record of these topics."""
        for topic in topics:
            self._waiting.setdefault(topic, {})[event] = None

    def forget(self, event: asyncio.Event) -> None:
        """Set the event no more."""
        for events in self._waiting.values():
            events.pop(event, None)


class LogClient:
    """The log as one process sees it: `workers.runtime.log.Log`."""

    def __init__(self, process: Process, log: SimulatedLog) -> None:
        self._process = process
        self._log = log

    @asynccontextmanager
    async def _open_sender(self) -> AsyncIterator["Sender"]:
        await self._process.step(Kind.SEND, lambda: None)
        sender = Sender(self._process, self._log)
        try:
            yield sender
        finally:
            await sender.abandon()

    def open_sender(self) -> AbstractAsyncContextManager["Sender"]:
        """Open a producer."""
        return self._open_sender()

    @asynccontextmanager
    async def _open_reader(self) -> AsyncIterator["Reader"]:
        yield Reader(self._process, self._log)

    def open_reader(self) -> AbstractAsyncContextManager["Reader"]:
        """Open a reader."""
        return self._open_reader()

    async def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        """Return the ids of topics, which never change here."""
        return await self._process.step(Kind.SEND, lambda: {topic: f"id of {topic}" for topic in topics})


class Sender:
    """A producer. Records of one partition are stored in order; a failure may leave some of them stored."""

    def __init__(self, process: Process, log: SimulatedLog) -> None:
        self._process = process
        self._log = log
        self._is_open = True

    async def send_all(self, records: Iterable[Outgoing]) -> Sequence[LogPosition]:
        """Store records."""
        sent = list(records)
        if not self._is_open:
            raise KafkaConnectionError("closed")
        if not sent:
            return []
        part = sent[: int(self._process.world.faults.chance.random() * len(sent))]
        return await self._process.step(
            Kind.SEND,
            lambda: [self._log.append(each) for each in sent],
            in_part=lambda: list(map(self._log.append, part)),
        )

    async def abandon(self) -> None:
        """Send nothing more."""
        self._is_open = False


class Reader:
    """Reads single records."""

    def __init__(self, process: Process, log: SimulatedLog) -> None:
        self._process = process
        self._log = log

    async def ranges(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetRange]:
        """Return the offsets that the log has now."""
        listed = list(partitions)
        return await self._process.step(
            Kind.SEND, lambda: {each: OffsetRange(0, len(self._log.records(*each))) for each in listed}
        )

    async def first_records(
        self, positions: Iterable[tuple[TopicPartition, int]]
    ) -> Mapping[tuple[TopicPartition, int], SimulatedRecord]:
        """Return the record at each position."""
        listed = list(positions)
        return await self._process.step(
            Kind.SEND, lambda: {(each, offset): self._log.records(*each)[offset] for each, offset in listed}
        )
