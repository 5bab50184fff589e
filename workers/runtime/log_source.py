"""Asks the broker about a log: the ids of its topics, the bounds of its partitions, and single records again."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from topics.backoff import Backoff
from topics.catalogue import Topic
from topics.kafka import admin
from topics.kafka.admin import topic_ids
from topics.kafka.settings import KafkaSettings
from topics.kafka.starting import start_client
from workers.runtime.role import Record, Stopped

_ANSWER_SECONDS = 10


class Bounds(NamedTuple):
    """The first offset that still exists, and the one after the last."""

    start: int
    end: int


async def wait_for_topics(settings: KafkaSettings, topics: Sequence[Topic], group: str) -> None:
    """Wait until the broker answers, has the topics, and admits us to the group.

    Raises:
        Stopped: a topic is not as the catalogue has it, in a way that would lose records.
    """
    names = [settings.topic(topic) for topic in topics]
    backoff = Backoff("the worker waits for the broker and its topics")
    while True:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                missing = set(names).difference(await admin.partition_counts(settings, names))
                mismatches = [] if missing else await admin.check(settings, topics)
                await admin.check_group(settings, group)
        except (KafkaError, admin.TopicsFailed, OSError) as error:
            await backoff.wait(error)
            continue
        if fatal := [str(mismatch) for mismatch in mismatches if mismatch.fatal]:
            raise Stopped(" ".join(fatal))
        if not missing:
            backoff.reset()
            return
        await backoff.wait(LookupError(f"no topic yet by the name of {', '.join(sorted(missing))}"))


class LogSource:
    """Asks with a consumer of its own, which belongs to no group."""

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        self._settings = settings
        self._client_id = f"{client_id}-source"
        self._consumer: AIOKafkaConsumer | None = None

    async def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        """Return the broker's id of each topic; a topic that was deleted and created again has another one."""
        return await topic_ids(self._settings, topics)

    async def bounds(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Return where each partition starts and ends now."""
        consumer = await self._open()
        partitions = list(partitions)
        async with asyncio.timeout(_ANSWER_SECONDS):
            starts, ends = await asyncio.gather(
                consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
            )
        return {tp: Bounds(starts[tp], ends[tp]) for tp in partitions}

    async def records(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Record]:
        """Return the record at each offset, as far as it still exists."""
        if not offsets:
            return {}
        consumer = await self._open()
        consumer.assign(list(offsets))
        for partition, offset in offsets.items():
            consumer.seek(partition, offset)
        found: dict[TopicPartition, Record] = {}
        async with asyncio.timeout(_ANSWER_SECONDS):
            while len(found) < len(offsets):
                for tp, records in (await consumer.getmany(timeout_ms=1000)).items():
                    found.setdefault(tp, records[0])
                    consumer.pause(tp)
        consumer.unsubscribe()
        return {partition: record for partition, record in found.items() if record.offset == offsets[partition]}

    async def close(self) -> None:
        """Close the consumer."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def _open(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **self._settings.client_options(),
                client_id=self._client_id,
                group_id=None,
                enable_auto_commit=False,
                fetch_max_wait_ms=20,
                max_partition_fetch_bytes=64 * 1024,
            )
            await start_client(consumer.start())
            self._consumer = consumer
        return self._consumer
