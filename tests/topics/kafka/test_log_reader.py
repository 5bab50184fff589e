"""`LogReader`: each record of a range once and in order, and a clear error when the log lacks some of them."""

from contextlib import aclosing

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaTimeoutError, NodeNotReadyError

from tests.support.log import Log
from tests.support.waiting import wait_until
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import Outgoing
from topics.kafka import log_reader
from topics.kafka.log_reader import LogReader, NoSuchTopic, OffsetRange, RecordsMissing, partitions_of

PARTITIONS = range(4)


def partition(log: Log, number: int) -> TopicPartition:
    return TopicPartition(log.settings.topic(BOOKING_COMMANDS), number)


async def write(log: Log, values: dict[int, list[bytes]]) -> None:
    """Write values to partitions, each record a second after the one before it."""
    await log.write(
        *(
            Outgoing(partition(log, number).topic, b"7", value, [], number, 1_000_000 + 1000 * second)
            for number, each in values.items()
            for second, value in enumerate(each)
        )
    )


async def delete_before(log: Log, number: int, offset: int) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=log.settings.kafka_url)
    await client.start()
    try:
        await client.delete_records({partition(log, number): RecordsToDelete(before_offset=offset)})
    finally:
        await client.close()


async def read(reader: LogReader, ranges: dict[TopicPartition, OffsetRange]) -> dict[int, list[tuple[int, bytes]]]:
    found: dict[int, list[tuple[int, bytes]]] = {}
    async with aclosing(reader.records(ranges)) as records:
        async for record in records:
            found.setdefault(record.partition, []).append((record.offset, record.value))
    return found


async def test_every_record_of_a_range_is_read_once_and_in_order(log: Log) -> None:
    await write(log, {number: [b"%d" % each for each in range(300)] for number in PARTITIONS})

    async with LogReader(log.settings, fetch_bytes=500) as reader:
        ranges = await reader.ranges(await partitions_of(log.settings, log.settings.topic(BOOKING_COMMANDS)))
        found = await read(reader, ranges)

    assert ranges == {partition(log, number): (0, 300) for number in PARTITIONS}
    assert found == {number: [(each, b"%d" % each) for each in range(300)] for number in PARTITIONS}


async def test_a_range_ends_before_its_end_and_the_next_one_begins_there(log: Log) -> None:
    await write(log, {0: [b"%d" % each for each in range(10)], 1: [b"one", b"two"]})

    async with LogReader(log.settings) as reader:
        first = await read(reader, {partition(log, 0): OffsetRange(2, 5), partition(log, 1): OffsetRange(1, 1)})
        at_the_end = reader.position(partition(log, 0))
        async with aclosing(reader.batches({partition(log, 0): 7})) as batches:
            second = [record.offset async for batch in batches for record in batch[partition(log, 0)]]

    assert [offset for offset, _ in first[0]] == [2, 3, 4]
    assert 1 not in first
    assert at_the_end == 5
    assert second == [5, 6]


async def test_a_batch_has_no_more_records_than_asked_for(log: Log) -> None:
    await write(log, {number: [b"value"] * 50 for number in PARTITIONS})

    async with LogReader(log.settings) as reader:
        reader.assign({partition(log, number): 0 for number in PARTITIONS})
        ends = {partition(log, number): 50 for number in PARTITIONS}
        sizes = [sum(map(len, batch.values())) async for batch in reader.batches(ends, max_records=30)]

    assert sum(sizes) == 200
    assert max(sizes) <= 30


async def test_a_caller_that_stops_goes_on_behind_the_last_batch(log: Log) -> None:
    await write(log, {0: [b"%d" % each for each in range(100)]})

    async with LogReader(log.settings) as reader:
        reader.assign({partition(log, 0): 0})
        async with aclosing(reader.batches({partition(log, 0): 100}, max_records=40)) as batches:
            first = await anext(batches)
        rest = [
            record.offset
            async for batch in reader.batches({partition(log, 0): 100})
            for record in batch[partition(log, 0)]
        ]

    assert [record.offset for record in first[partition(log, 0)]] + rest == list(range(100))


async def test_records_that_were_deleted_are_named(log: Log) -> None:
    await write(log, {0: [b"value"] * 10})
    await delete_before(log, 0, 6)

    async with LogReader(log.settings) as reader:
        assert await reader.ranges([partition(log, 0)]) == {partition(log, 0): (6, 10)}
        with pytest.raises(
            RecordsMissing, match=r"commands\[0\] has offsets from 6 up to 9, and those from 4 up to 9 are"
        ):
            await read(reader, {partition(log, 0): OffsetRange(4, 10)})


async def test_a_log_that_ends_before_the_range_is_an_error_and_no_endless_wait(log: Log) -> None:
    await write(log, {0: [b"value"] * 3})

    async with LogReader(log.settings, max_silence_seconds=0.2) as reader:
        with pytest.raises(RecordsMissing, match=r"has offsets from 0 up to 2, and those from 3 up to 4 are wanted"):
            await read(reader, {partition(log, 0): OffsetRange(0, 5)})
        with pytest.raises(RecordsMissing, match=r"has offsets from 0 up to 2, and those from 9 up to 11 are wanted"):
            await read(reader, {partition(log, 0): OffsetRange(9, 12)})


async def test_a_broker_that_sends_nothing_is_an_error(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    await write(log, {0: [b"value"] * 3})

    async with LogReader(log.settings, max_silence_seconds=0.2) as reader:

        async def nothing(*_: object, **__: object) -> dict[TopicPartition, list[log_reader.Record]]:
            return {}

        monkeypatch.setattr(reader._consumer, "getmany", nothing)
        with pytest.raises(KafkaTimeoutError, match=r"sent no record of .*commands\[0\] for [0-9.]+ s"):
            await read(reader, {partition(log, 0): OffsetRange(0, 3)})


async def test_the_first_record_at_or_behind_each_position_is_found(log: Log) -> None:
    await write(log, {0: [b"%d" % each for each in range(10)], 1: [b"one"]})
    await delete_before(log, 0, 3)

    async with LogReader(log.settings) as reader:
        found = await reader.first_records([(partition(log, 0), 1), (partition(log, 0), 7), (partition(log, 1), 0)])
        with pytest.raises(RecordsMissing, match=r"commands\[1\]: there is no record"):
            await reader.first_records([(partition(log, 1), 1)])

    assert {(at.partition, offset): record.offset for (at, offset), record in found.items()} == {
        (0, 1): 3,
        (0, 7): 7,
        (1, 0): 0,
    }


async def test_a_time_is_found_by_its_first_record(log: Log) -> None:
    await write(log, {0: [b"value"] * 5, 1: [b"value"]})

    async with LogReader(log.settings) as reader:
        found = await reader.offsets_at({partition(log, 0): 1_002_500, partition(log, 1): 1_002_500})

    # These topics keep the producer's time only if they are made for a trace; the broker's own is later.
    assert found[partition(log, 0)] in {0, 3}


async def test_following_yields_what_is_written_later(log: Log) -> None:
    await write(log, {0: [b"before"]})

    async with LogReader(log.settings) as reader:
        reader.assign({partition(log, 0): 0})
        async with aclosing(reader.follow()) as coming:
            before = await anext(coming)
            await write(log, {0: [b"after"]})
            after = await anext(coming)

    assert [record.value for record in before[partition(log, 0)]] == [b"before"]
    assert [record.value for record in after[partition(log, 0)]] == [b"after"]


async def test_a_topic_that_does_not_exist_has_no_partitions(log: Log) -> None:
    assert await partitions_of(log.settings, "nothing") == []
    with pytest.raises(NoSuchTopic):
        await anext(
            log_reader.read(log.settings, "nothing", log_reader.RecordFilter(), since=None, last=None, follow=False)
        )


async def test_a_reader_whose_broker_went_away_closes_without_an_error(log: Log) -> None:
    failures = 0

    async def refuse(*_: object, **__: object) -> None:
        nonlocal failures
        failures += 1
        raise NodeNotReadyError

    # The sleep before the next fetch outlasts the test, so that the reader is closed in the middle of it.
    async with LogReader(log.settings, retry_ms=3_600_000) as reader:
        client = reader._consumer._client
        client.send = refuse
        reader.assign({partition(log, 0): 0})
        await wait_until(lambda: failures, message="a fetch has failed")

    assert not any(connection.connected() for connection in client._conns.values())
