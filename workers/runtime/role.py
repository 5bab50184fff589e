"""A role: consumers, each a function from batches of records to effects. Nothing here knows Faust."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from psycopg import AsyncConnection

from storage.cursors import Cursor
from topics.catalogue import Topic
from topics.envelope import Envelope, Outgoing
from topics.messages.message import Message


class Record(Protocol):
    """A record as the Kafka client returns it; `timestamp` is in milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Received(NamedTuple):
    """One decoded record. Foreign bytes (webhooks) have neither envelope nor message."""

    envelope: Envelope | None
    message: Message | None
    record: Record
    time: datetime


@dataclass(slots=True)
class PartitionBatch:
    """Consecutive records of one partition that the consumer has not applied yet.

    Events come without gaps or duplicates in their sequence. The runtime writes `cursor` back.
    """

    topic: Topic
    partition: int
    cursor: Cursor
    received: list[Received] = field(default_factory=list)

    @property
    def generation(self) -> int:
        """Return the generation of the topic."""
        return self.cursor.key.generation


class Consumer(Protocol):
    """A name in `log_cursor`, and a function from batches of records to effects."""

    @property
    def name(self) -> str:
        """The cursor's name."""
        ...

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The topics that it reads."""
        ...

    async def handle(
        self, connection: AsyncConnection, batches: Sequence[PartitionBatch]
    ) -> Sequence[Sequence[Outgoing]]:
        """Decide and write inside the fenced transaction; return the records to publish, for each batch.

        May be called again with the same records after a rollback. Raises `Unreadable` for a record that cannot
        be understood; any other exception, except errors of the database, is a bug and stops the worker.
        """
        ...

    def forget(self) -> None:
        """Drop everything in memory: another worker may have written since."""
        ...


class Unreadable(Exception):
    """One record cannot be understood and goes to the dead-letter topic."""

    def __init__(self, record: Record, reason: str) -> None:
        super().__init__(reason)
        self.record = record
        self.reason = reason


class Stopped(Exception):
    """Log and database do not match: the worker stops and an operator decides. The message names the remedy."""


@dataclass(frozen=True)
class Role:
    """A kind of worker. `background` runs beside the agent; `committed` is called after each published batch."""

    name: str
    consumers: tuple[Consumer, ...]
    background: Callable[[], Awaitable[None]] | None = None
    committed: Callable[[], None] | None = None

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Return every topic that a consumer of this role reads."""
        return tuple(dict.fromkeys(topic for consumer in self.consumers for topic in consumer.topics))
