"""A range of the log: from an operator's words to offsets, and from offsets to records."""

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
    """The records that an operator means.

    `begin` and `end` are offsets of `partition` (`end` is included) or times (`end` is not); None: the log's end.
    """

    topic: Topic
    begin: int | datetime
    end: int | datetime | None = None
    partition: int | None = None
    type: str | None = None


async def offsets_of(kafka: KafkaSettings, name: str, wanted: ReplayRange) -> Ranges:
    """Return the offsets of a range, for each partition that has any.

    Raises:
        Refused: there is no such partition, or the log has no records in the range.
    """
    numbers = [place.partition for place in await partitions_of(kafka, name)]
    if wanted.partition is not None:
        if wanted.partition not in numbers:
            raise Refused(f"{name} has no partition {wanted.partition}; it has {len(numbers)}, from 0 on.")
        numbers = [wanted.partition]
    bounds = {place.partition: bound for place, bound in (await end_offsets(kafka, [name])).items()}
    begins = await _offsets_at(kafka, name, numbers, bounds, wanted.begin)
    ends = await _offsets_at(kafka, name, numbers, bounds, wanted.end)
    if isinstance(wanted.end, int):
        ends = {number: min(end + 1, bounds[number][1]) for number, end in ends.items()}
    if isinstance(wanted.begin, int) and begins[numbers[0]] < bounds[numbers[0]][0]:
        raise Refused(f"{name}[{numbers[0]}] begins at {bounds[numbers[0]][0]}: what was before is deleted.")
    ranges = {number: (begins[number], ends[number]) for number in numbers if begins[number] < ends[number]}
    if not ranges:
        raise Refused(f"Nothing is on {name} in that range.")
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
    places = [TopicPartition(name, number) for number in numbers]
    async with LogReader(kafka) as reader:
        found = await reader.offsets_at(dict.fromkeys(places, int(at.timestamp() * 1000)))
    return {place.partition: bounds[place.partition][1] if first is None else first for place, first in found.items()}


async def records_of(kafka: KafkaSettings, name: str, ranges: Ranges) -> AsyncGenerator[Record, None]:
    """Yield the records of the ranges; those of one partition come in order.

    Raises:
        RecordsMissing: the log has deleted some of them meanwhile.
    """
    if not ranges:
        return
    wanted = {TopicPartition(name, number): OffsetRange(*offsets) for number, offsets in ranges.items()}
    async with LogReader(kafka) as reader, aclosing(reader.records(wanted)) as records:
        async for record in records:
            yield record


async def records_since(
    kafka: KafkaSettings, topic: Topic, before: Mapping[TopicPartition, tuple[int, int]]
) -> AsyncGenerator[Record, None]:
    """Yield the records that were written to the topic since `before` was asked of `end_offsets`."""
    name = kafka.topic(topic)
    now = await end_offsets(kafka, [name])
    ranges = {place.partition: (before[place][1], end) for place, (_, end) in now.items() if before[place][1] < end}
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
