"""The log as a worker uses it beyond the records that it is given: to publish, and to compare it with cursors.

`KafkaLog` is the log of every process in production; the simulation has one in memory (ADR 0044).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from aiokafka import TopicPartition

from topics.envelope import Outgoing
from topics.kafka import admin
from topics.kafka.log_reader import LogReader, OffsetRange
from topics.kafka.positions import LogPosition
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from workers.runtime.role import Record

#: A reader compares one record of each partition, so it fetches little and waits for nothing new.
_FETCH_BYTES: Final = 64 * 1024
_FETCH_WAIT_MS: Final = 20
_RETRY_MS: Final = 20


class Sender(Protocol):
    """Sends records, as `topics.kafka.producer.Producer` does."""

    async def send_all(self, records: Iterable[Outgoing], /) -> Sequence[LogPosition]:
        """Return when every record is acknowledged, with their positions. Raises KafkaError or OSError."""
        ...

    async def abandon(self) -> None:
        """Send nothing more."""
        ...


class Reader(Protocol):
    """Reads single records, as `topics.kafka.log_reader.LogReader` does."""

    async def ranges(self, partitions: Iterable[TopicPartition], /) -> dict[TopicPartition, OffsetRange]:
        """Return the offsets that the log has now."""
        ...

    async def first_records(
        self, positions: Iterable[tuple[TopicPartition, int]], /
    ) -> Mapping[tuple[TopicPartition, int], Record]:
        """Return for each position the first record at or behind it."""
        ...


class Log(Protocol):
    """A log with topics. Every method raises KafkaError or OSError where the log cannot be reached."""

    def open_sender(self) -> AbstractAsyncContextManager[Sender]:
        """Open a sender, for as long as its block lasts."""
        ...

    def open_reader(self) -> AbstractAsyncContextManager[Reader]:
        """Open a reader, for as long as its block lasts."""
        ...

    async def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        """Return the log's own ids of topics: a topic that was created again has a new one."""
        ...


class KafkaLog:
    """The log on the broker, for one client."""

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        self._settings = settings
        self._client_id = client_id

    def open_sender(self) -> AbstractAsyncContextManager[Sender]:
        """Open an idempotent producer."""
        return open_producer(self._settings, client_id=self._client_id)

    def open_reader(self) -> AbstractAsyncContextManager[Reader]:
        """Open a reader of few records."""
        return LogReader(
            self._settings,
            client_id=f"{self._client_id}-source",
            fetch_bytes=_FETCH_BYTES,
            fetch_wait_ms=_FETCH_WAIT_MS,
            retry_ms=_RETRY_MS,
        )

    async def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        """Return the broker's ids of topics."""
        return await admin.topic_ids(self._settings, topics)
