"""Records of one partition are sent together, in order, and every sender gets the position of its record."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    ProducerClosed,
)
from aiokafka.partitioner import murmur2

from sandbox.kafka import Kafka
from tests.support.log import Log, open_log
from tests.support.stack import Server
from tests.support.topics import configure
from tests.support.waiting import MAX_WAIT_SECONDS, wait_until
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import Outgoing
from topics.kafka import admin
from topics.kafka.producer import Producer, open_producer
from topics.kafka.settings import KafkaSettings

FIRST = b"first"


def record(settings: KafkaSettings, value: bytes, *, key: bytes = b"7", partition: int | None = None) -> Outgoing:
    return Outgoing(settings.topic(BOOKING_COMMANDS), key, value, [("ce_id", value[:20])], partition)


async def begin(producer: Producer, records: Sequence[Outgoing]) -> None:
    """Send a first record to each partition of these records, until its leader takes it.

    A leader of a new topic may refuse the first ones. One that is sent again may be stored by then, so that a refusal
    of it is another error.
    """
    await producer.send_all(
        [each._replace(value=FIRST) for each in {each.partition: each for each in records}.values()]
    )


async def stored(log: Log) -> Mapping[tuple[int, int], bytes]:
    found = await log.read(BOOKING_COMMANDS)
    return {(partition.partition, each.offset): each.value for partition, records in found.items() for each in records}


async def test_records_are_stored_in_order_at_the_positions_that_are_returned(kafka_settings: KafkaSettings) -> None:
    # More than one batch takes, in every partition.
    values = [b"%d " % number + bytes(2_000) for number in range(1_000)]
    async with open_log(kafka_settings) as log:
        positions = await log.producer.send_all(
            record(kafka_settings, value, partition=number % 4) for number, value in enumerate(values)
        )
        found = await stored(log)

    assert [found[position.partition, position.offset] for position in positions] == values
    assert all(position.offset == number // 4 for number, position in enumerate(positions))


async def test_records_that_come_while_a_batch_is_in_flight_share_the_next(kafka_settings: KafkaSettings) -> None:
    async with open_log(kafka_settings) as log:
        positions = await asyncio.gather(*[log.producer.send(record(kafka_settings, b"%d" % n)) for n in range(500)])
        found = await stored(log)

    assert [position.offset for position in positions] == list(range(500))
    assert [found[position.partition, position.offset] for position in positions] == [b"%d" % n for n in range(500)]


async def test_a_key_goes_where_every_kafka_client_sends_it(kafka_settings: KafkaSettings) -> None:
    async with open_log(kafka_settings) as log:
        for key in (b"1", b"42", b"77777"):
            alone = await log.producer.send(record(kafka_settings, b"alone", key=key))
            [together] = await log.producer.send_all([record(kafka_settings, b"together", key=key)])

            assert alone.partition == together.partition == (murmur2(key) & 0x7FFFFFFF) % 4


async def test_a_cancelled_sender_cancels_no_other(kafka_settings: KafkaSettings) -> None:
    async with open_log(kafka_settings) as log:
        cancelled, waiting = (asyncio.create_task(log.producer.send(record(kafka_settings, b"%d" % n))) for n in (0, 1))
        asyncio.get_running_loop().call_soon(cancelled.cancel)
        position = await waiting

        with pytest.raises(asyncio.CancelledError):
            await cancelled
        # Whether the first was stopped in time is unknown.
        assert (await stored(log))[position.partition, position.offset] == b"1"


async def test_a_record_that_is_too_large_is_refused_and_the_next_is_not(kafka_settings: KafkaSettings) -> None:
    large, small = record(kafka_settings, bytes(admin.MAX_MESSAGE_BYTES + 1)), record(kafka_settings, b"small")
    async with open_log(kafka_settings) as log:
        await begin(log.producer, [small])
        with pytest.raises(MessageSizeTooLargeError):
            await log.producer.send(large)

        position = await log.producer.send(small)

        found = await stored(log)
    assert found[position.partition, position.offset] == b"small"
    assert sorted(found.values()) == [FIRST, b"small"]


#: A topic whose records have the producer's time, and a batch of at most so many bytes.
SMALL_BATCHES = {"max.message.bytes": "2000", "message.timestamp.type": "CreateTime"}
REFUSED = {MessageSizeTooLargeError: bytes(5_000), InvalidTimestampError: b"of next week"}


@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("kind", REFUSED)
async def test_a_record_that_the_broker_refuses_fails_alone_among_those_of_its_batch(
    kafka_settings: KafkaSettings, kind: type[KafkaError], *, idempotent: bool
) -> None:
    settings = kafka_settings.model_copy(update={"kafka_idempotent": idempotent})
    in_an_hour = 3_600_000
    limits = SMALL_BATCHES | {"message.timestamp.after.max.ms": str(in_an_hour)}
    await configure(settings, settings.topic(BOOKING_COMMANDS), limits)
    # Given records that go together, of which the broker refuses one by itself and the others for their number
    values = [b"%d " % number + bytes(500) for number in range(11)]
    records = [record(settings, value) for value in values]
    next_week = int(time.time() * 1000) + 7 * 24 * in_an_hour
    records.insert(5, record(settings, REFUSED[kind])._replace(timestamp_ms=next_week if REFUSED[kind][0] else None))
    async with open_log(settings) as log, open_producer(settings, client_id="test", linger_ms=50) as producer:
        await begin(producer, records)

        async def is_refused() -> bool:
            try:
                await producer.send(records[5])
            except kind:
                return True
            return False

        await wait_until(is_refused, message="the broker has the settings in use")
        await producer.send(record(settings, b"before"))

        answers = await asyncio.gather(*map(producer.send, records), return_exceptions=True)
        await producer.send(record(settings, b"after"))

        # Then all others are stored, in order, at the positions that are returned
        found = await stored(log)
    assert type(answers.pop(5)) is kind
    bodies = list(found.values())
    assert bodies[bodies.index(b"before") :] == [b"before", *values, b"after"]
    assert [found[each.partition, each.offset] for each in answers if not isinstance(each, BaseException)] == values


async def test_nothing_overtakes_a_failed_record(kafka_settings: KafkaSettings) -> None:
    values = [bytes(admin.MAX_MESSAGE_BYTES + 1), b"behind it", b"elsewhere"]
    records = [record(kafka_settings, value, partition=number // 2) for number, value in enumerate(values)]
    async with open_log(kafka_settings) as log:
        await begin(log.producer, records)
        with pytest.raises(MessageSizeTooLargeError):
            await log.producer.send_all(records)
        again = await log.producer.send_all(records[1:])

        found = await stored(log)
    assert found[again[0].partition, again[0].offset] == b"behind it"
    assert sorted(found.values()) == [b"behind it", b"elsewhere", b"elsewhere", FIRST, FIRST]


async def test_an_unknown_topic_or_partition_is_an_error(kafka_settings: KafkaSettings) -> None:
    async with open_producer(kafka_settings, client_id="test") as producer:
        with pytest.raises((KafkaError, AssertionError)):
            await producer.send(record(kafka_settings, b"there is no such partition", partition=99))


async def test_leaving_sends_what_is_still_waiting(kafka_settings: KafkaSettings) -> None:
    async with open_log(kafka_settings) as log:
        async with open_producer(kafka_settings, client_id="test", linger_ms=200) as producer:
            await producer.send(record(kafka_settings, b"the first"))
            waiting = asyncio.create_task(producer.send(record(kafka_settings, b"the last")))
            # With a known partition, the record is in its batch as soon as the task has started.
            await asyncio.wait([waiting], timeout=0)
            assert not waiting.done()

        position = await waiting
        assert (await stored(log))[position.partition, position.offset] == b"the last"


async def test_nobody_waits_for_ever_for_the_partitions_of_a_topic(
    kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    # The client behaves like this when it is stopped while a sender waits for the metadata of a topic.
    monkeypatch.setattr(AIOKafkaProducer, "partitions_for", never)
    async with open_producer(kafka_settings, client_id="test") as producer:
        # Set only now, because a start may take longer.
        monkeypatch.setattr(producer, "_request_timeout_seconds", 0.5)
        asking = asyncio.create_task(producer.send(record(kafka_settings, b"too late")))
        await asyncio.wait([asking], timeout=0)

    done, _ = await asyncio.wait([asking], timeout=MAX_WAIT_SECONDS)
    asking.cancel()
    assert [type(each.exception()) for each in done] == [KafkaTimeoutError]


def is_stopped(pid: int) -> bool:
    """Whether every thread of a stopped process has stopped; on a busy machine that takes a moment."""
    states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


@dataclass(frozen=True)
class Stoppable:
    """Topics on a broker whose process a test may stop for a moment."""

    settings: KafkaSettings
    process: psutil.Process


@pytest.fixture
async def stoppable(kafka: Server, kafka_settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[Stoppable]:
    """The broker of this process, which no other test uses meanwhile; if that one is not ours, a broker of our own."""
    if kafka.pids:
        [pid] = kafka.pids
        yield Stoppable(kafka_settings, psutil.Process(pid))
        return
    async with Kafka(tmp_path) as own:
        settings = KafkaSettings(_env_file=None, kafka_url=own.url, topic_partitions=4)
        await admin.create(settings)
        yield Stoppable(settings, psutil.Process(own.pid))


async def test_giving_up_fails_every_sender_at_once_and_sends_nothing_later(stoppable: Stoppable) -> None:
    settings, broker = stoppable.settings, stoppable.process
    async with open_producer(settings, client_id="test", request_timeout_seconds=120) as producer:
        first = await producer.send(record(settings, b"before"))
        broker.suspend()
        try:
            await wait_until(lambda: is_stopped(broker.pid))
            in_flight = asyncio.create_task(producer.send(record(settings, b"in flight")))
            await asyncio.wait([in_flight], timeout=0.1)
            behind = asyncio.create_task(producer.send(record(settings, b"behind it")))
            await asyncio.wait([behind], timeout=0.1)

            giving_up = asyncio.create_task(producer.abandon())
            failed, _ = await asyncio.wait([in_flight, behind], timeout=MAX_WAIT_SECONDS)
            assert [type(each.exception()) for each in failed] == [ProducerClosed] * 2
        finally:
            broker.resume()
        await giving_up
        with pytest.raises(ProducerClosed):
            await producer.send(record(settings, b"afterwards"))
    async with open_log(settings) as log:
        [records] = (await log.read(BOOKING_COMMANDS, [TopicPartition(first.topic, first.partition)])).values()

    assert [each.value for each in records][:1] == [b"before"]
    assert not {b"behind it", b"afterwards"}.intersection(each.value for each in records)
