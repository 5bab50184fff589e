"""The broker of the sandbox is a real Kafka whose records survive stops and kills."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError

from sandbox.kafka import Kafka, available

NO_KAFKA = available()
pytestmark = [pytest.mark.skipif(NO_KAFKA is not None, reason=NO_KAFKA or ""), pytest.mark.system]

TOPIC = "bookings"


async def create_topic(kafka: Kafka) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.url)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, num_partitions=3, replication_factor=1)])
    finally:
        await admin.close()


async def error_of(topic: str, kafka: Kafka) -> int:
    """Return the broker's error code for this topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.url)
    await admin.start()
    try:
        [described] = await admin.describe_topics([topic])
        return int(described["error_code"])
    finally:
        await admin.close()


async def produce(kafka: Kafka, values: list[bytes]) -> None:
    """Send them as the product does, and wait for the broker's acknowledgements."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.url, acks="all", enable_idempotence=True, max_request_size=8 << 20
    )
    async with producer:
        sent = [await producer.send(TOPIC, value, key=value[:8]) for value in values]
        await asyncio.gather(*sent)


async def consume(kafka: Kafka) -> list[bytes]:
    """Everything on the topic."""
    async with AIOKafkaConsumer(bootstrap_servers=kafka.url) as consumer:
        partitions = [TopicPartition(TOPIC, number) for number in range(3)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        records: list[bytes] = []
        while len(records) < sum(ends.values()):
            runs = await consumer.getmany(timeout_ms=1000)
            records += [record.value for run in runs.values() for record in run]
        return sorted(records)


async def test_acknowledged_records_survive_a_stop_and_a_kill(tmp_path: Path) -> None:
    first = [b"first %03d" % number for number in range(100)]
    second = [b"second %03d" % number for number in range(100)]
    async with Kafka(tmp_path) as kafka:
        await create_topic(kafka)
        url = kafka.url

        await produce(kafka, first)
        await kafka.stop()
        await kafka.start()
        await produce(kafka, second)
        await kafka.kill()
        await kafka.start()

        assert await consume(kafka) == first + second
        assert kafka.url == url


async def test_a_large_record_is_taken_and_a_misspelt_topic_is_not(tmp_path: Path) -> None:
    large = b"x" * 8_000_000
    async with Kafka(tmp_path) as kafka:
        await create_topic(kafka)

        await produce(kafka, [large])

        assert await consume(kafka) == [large]
        assert await error_of("bookngs", kafka) == UnknownTopicOrPartitionError.errno


async def test_two_brokers_run_side_by_side(tmp_path: Path) -> None:
    async with Kafka(tmp_path / "one") as one, Kafka(tmp_path / "other") as other:
        await create_topic(one)
        await create_topic(other)

        await produce(one, [b"of one"])

        assert await consume(one) == [b"of one"]
        assert await consume(other) == []
