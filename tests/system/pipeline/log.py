"""Reads a topic from outside: with a consumer of its own, and headers and JSON decoded by hand."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

_SILENCE_SECONDS = 120


class Entry(NamedTuple):
    """One record. `id`, `type`, `causation` and `sequence` are CloudEvents headers; absent ones are empty or 0."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    headers: dict[str, bytes]

    @property
    def id(self) -> str:
        """Return the message's id."""
        return self.headers.get("ce_id", b"").decode()

    @property
    def type(self) -> str:
        """Return the message type."""
        return self.headers.get("ce_type", b"").decode()

    @property
    def causation(self) -> str:
        """Return the id of the message that this one follows from."""
        return self.headers.get("ce_causationid", b"").decode()

    @property
    def sequence(self) -> int:
        """Return the event's sequence in its partition."""
        return int(self.headers.get("ce_sequence", b"0"))

    @property
    def body(self) -> dict[str, Any]:
        """Return the message's fields."""
        found: dict[str, Any] = json.loads(self.value)
        return found


def command_headers(id: str, message_type: str, fields: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """Return the headers of a command, written out by hand."""
    return [
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/json"),
        ("ce_id", id.encode()),
        ("ce_type", message_type.encode()),
        ("ce_source", b"tests/system/pipeline"),
        ("ce_subject", str(fields.get("booking_id", f"room/{fields['room_id']}")).encode()),
        ("ce_time", datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()),
        ("ce_correlationid", id.encode()),
    ]


async def ends(kafka_url: str, topics: Iterable[str]) -> dict[tuple[str, int], int]:
    """Return the offset after the last record of every partition of the topics."""
    consumer = AIOKafkaConsumer(*topics, bootstrap_servers=kafka_url, group_id=None)
    await consumer.start()
    try:
        found = await consumer.end_offsets(consumer.assignment())
        return {(topic, number): end for (topic, number), end in found.items()}
    finally:
        await consumer.stop()


async def read(kafka_url: str, topic: str) -> list[Entry]:
    """Return every record that is on the topic now, in order within each partition.

    Raises:
        TimeoutError: the broker does not return records that it counts as its own.
    """
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka_url, group_id=None, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = consumer.assignment()
        await consumer.seek_to_beginning(*partitions)
        until = await consumer.end_offsets(partitions)
        entries: list[Entry] = []
        async with asyncio.timeout(_SILENCE_SECONDS):
            while await _behind(consumer, until):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    entries += [
                        Entry(r.partition, r.offset, r.timestamp, r.key or b"", r.value or b"", dict(r.headers))
                        for r in records
                    ]
        return sorted(entries, key=lambda entry: (entry.partition, entry.offset))
    finally:
        await consumer.stop()


async def _behind(consumer: AIOKafkaConsumer, until: dict[TopicPartition, int]) -> bool:
    for partition, end in until.items():
        if await consumer.position(partition) < end:
            return True
    return False
