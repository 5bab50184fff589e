"""Settings of a topic that a test changes on the broker."""

from collections.abc import Mapping

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.support.replicas import open_admin
from tests.support.waiting import wait_until
from topics.kafka import admin
from topics.kafka.settings import KafkaSettings


async def configure(settings: KafkaSettings, topic: str, values: Mapping[str, str]) -> None:
    """Set a topic's settings, and wait until the broker reports the new ones.

    They take effect on its partitions a moment later: a test that needs the effect waits for it.
    """
    async with open_admin(settings) as client:
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict(values))])

    async def reported() -> bool:
        async with admin.open_admin(settings) as broker:
            return values.items() <= (await broker.configurations([topic]))[topic].items()

    await wait_until(reported)
