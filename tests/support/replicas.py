"""The state of topics' replicas, as a cluster shows it to any client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.support.waiting import wait_until
from topics.catalogue import CATALOGUE
from topics.kafka.settings import KafkaSettings

#: The leader of a partition that has none.
NO_LEADER: Final = -1
_REQUEST_MS: Final = 2_000


class Replicas(NamedTuple):
    """The node ids of a partition's leader and of its replicas in sync."""

    leader: int
    in_sync: frozenset[int]


@asynccontextmanager
async def open_admin(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open a client that can also do what our own tools never do."""
    admin = AIOKafkaAdminClient(**kafka.client_options(), request_timeout_ms=_REQUEST_MS)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def replicas(kafka: KafkaSettings, *topics: str) -> dict[TopicPartition, Replicas]:
    """Return the replicas of each partition of these topics, once a broker answers that is there."""

    async def asked() -> list[dict[str, Any]]:
        try:
            async with open_admin(kafka) as admin:
                found: list[dict[str, Any]] = await admin.describe_topics(list(topics))
        except (KafkaError, OSError) as error:
            raise AssertionError(str(error)) from error
        return found

    found = await wait_until(asked, message="a broker answers")
    return {
        TopicPartition(topic["topic"], partition["partition"]): Replicas(
            partition["leader"], frozenset(partition["isr"])
        )
        for topic in found
        for partition in topic["partitions"]
    }


async def until_in_sync(kafka: KafkaSettings, count: int) -> None:
    """Wait until each partition of our topics and of the groups' offsets has a leader, and so many replicas in sync."""
    names = ["__consumer_offsets", *(kafka.topic(topic) for topic in CATALOGUE)]
    left: list[str] = []

    async def so() -> bool:
        left[:] = [
            f"{topic}-{number}: {state}"
            for (topic, number), state in (await replicas(kafka, *names)).items()
            if state.leader == NO_LEADER or len(state.in_sync) < count
        ]
        return not left

    await wait_until(so, message=lambda: f"{count} replicas are in sync: {left[:5]}")
