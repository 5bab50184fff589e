"""A range of the log: from an operator's arguments to offsets, and from offsets to records."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from aiokafka import TopicPartition

from topics.catalogue import Topic
from topics.envelope import header
from topics.kafka import admin
from topics.kafka.log_reader import LogReader, NoSuchTopic, OffsetRange, Record, cloud_event, end_offsets, partitions_of
from topics.kafka.settings import KafkaSettings

Ranges: TypeAlias = dict[int, tuple[int, int]]
"""For each partition the first offset and the one after the last."""


class Refused(Exception):
    """This may not be replayed; the text is a sentence with the reason."""


@dataclass(frozen=True, kw_only=True)
class ReplayRange:
    """The range that an operator asks for.

    `begin` and `end` are offsets of `partition` (`end` is included) or times (`end` is not); None: the log's end.
    """

    topic: Topic
    begin: int | datetime
    end: int | datetime | None = None
    partition: int | None = None
    type: str | None = None


async def offsets_of(kafka: KafkaSettings, name: str, asked: ReplayRange) -> Ranges:
    """Return the offsets of a range, for each partition that has any.

    Raises:
        Refused: there is no such partition, or the log has no records in the range.
    """
    numbers = [partition.partition for partition in await partitions_of(kafka, name)]
    if asked.partition is not None:
        if asked.partition not in numbers:
            raise Refused(f"{name} has no partition {asked.partition}; it has {len(numbers)}, from 0 on.")
        numbers = [asked.partition]
    bounds = {partition.partition: bound for partition, bound in (await end_offsets(kafka, [name])).items()}
    begins = await _offsets_at(kafka, name, numbers, bounds, asked.begin)
    ends = await _offsets_at(kafka, name, numbers, bounds, asked.end)
    if isinstance(asked.end, int):
        ends = {number: min(end + 1, bounds[number][1]) for number, end in ends.items()}
    if isinstance(asked.begin, int) and begins[numbers[0]] < bounds[numbers[0]][0]:
        raise Refused(f"{name}[{numbers[0]}] begins at {bounds[numbers[0]][0]}: the records before it are deleted.")
    ranges = {number: (begins[number], ends[number]) for number in numbers if begins[number] < ends[number]}
    if not ranges:
        raise Refused(f"{name} has no records in that range.")
    return ranges


async def _offsets_at(
    kafka: KafkaSettings,
    name: str,
    numbers: list[int],
    bounds: Mapping[int, tuple[int, int]],
    at: int | datetime | None,
) -> dict[int, int]:
    if at is None:
        return {number: bounds[number][1] for number in numbers}
    if isinstance(at, int):
        return dict.fromkeys(numbers, at)
    partitions = [TopicPartition(name, number) for number in numbers]
    async with LogReader(kafka) as reader:
        found = await reader.offsets_at(dict.fromkeys(partitions, int(at.timestamp() * 1000)))
    return {
        partition.partition: bounds[partition.partition][1] if first is None else first
        for partition, first in found.items()
    }


async def records_of(kafka: KafkaSettings, name: str, ranges: Ranges) -> AsyncGenerator[Record, None]:
    """Yield the records of the ranges; those of one partition come in order.

    Raises:
        RecordsMissing: the log has deleted some of them meanwhile.
    """
    if not ranges:
        return
    offset_ranges = {TopicPartition(name, number): OffsetRange(*offsets) for number, offsets in ranges.items()}
    async with LogReader(kafka) as reader, aclosing(reader.records(offset_ranges)) as records:
        async for record in records:
            yield record


async def records_since(
    kafka: KafkaSettings, topic: Topic, before: Mapping[TopicPartition, tuple[int, int]]
) -> AsyncGenerator[Record, None]:
    """Yield the records that were written to the topic since `end_offsets` returned `before`."""
    name = kafka.topic(topic)
    now = await end_offsets(kafka, [name])
    ranges = {
        partition.partition: (before[partition][1], end)
        for partition, (_, end) in now.items()
        if before[partition][1] < end
    }
    async with aclosing(records_of(kafka, name, ranges)) as found:
        async for record in found:
            yield record


async def topic_id_of(kafka: KafkaSettings, name: str) -> str:
    """Return the broker's id of a topic.

    Raises:
        NoSuchTopic: the broker has no topic of this name.
    """
    ids = await admin.topic_ids(kafka, [name])
    if name not in ids:
        raise NoSuchTopic(f"The topic {name} does not exist. Create it: innkeeper topics create.")
    return ids[name]


def id_of(record: Record) -> str:
    """Return the id by which the record's consumer knows it: a command's own, or Stripe's of a webhook."""
    named = header(record.headers, "ce_id")
    return str(cloud_event(record)["id"]) if named is None else named.decode(errors="replace")


def type_of(record: Record) -> str:
    """Return the record's type. A record of ours has it in a header, so that its value is not decoded."""
    named = header(record.headers, "ce_type")
    return str(cloud_event(record)["type"]) if named is None else named.decode(errors="replace")


def count(ranges: Ranges) -> int:
    """Return how many offsets the ranges have."""
    return sum(end - first for first, end in ranges.values())
