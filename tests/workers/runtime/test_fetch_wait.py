"""A consumer that waits long while there is nothing to read, and not a moment once there is."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.support.log import Log
from tests.support.waiting import MAX_WAIT_SECONDS, wait_until
from tests.workers.runtime.test_batch_processor import nights_on_sale
from topics.catalogue import BOOKING_COMMANDS
from workers.runtime import fetch_wait
from workers.runtime.fetch_wait import IDLE_WAIT_MS, PARTIAL_WAIT_MS, choose_fetch_wait, end_fetches

_FOREVER_MS = int(MAX_WAIT_SECONDS * 10_000)
_FETCH_API_KEY = 1


@pytest.fixture
async def consumer(log: Log) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **log.settings.client_options(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        # A fetch outlives the test, and the client must not take that for a broken broker.
        request_timeout_ms=2 * _FOREVER_MS,
    )
    await consumer.start()
    choose_fetch_wait(consumer)
    try:
        yield consumer
    finally:
        end_fetches(consumer)
        await consumer.stop()


def partitions(log: Log) -> list[TopicPartition]:
    name = log.settings.topic(BOOKING_COMMANDS)
    return [TopicPartition(name, number) for number in range(log.settings.topic_partitions)]


def fetches(consumer: AIOKafkaConsumer) -> list[Any]:
    """Return the fetches that are under way."""
    connections = consumer._client._conns.values()
    return [sent for each in connections for _, sent, _ in each._requests if sent.API_KEY == _FETCH_API_KEY]


async def records(consumer: AIOKafkaConsumer) -> list[int]:
    """Return the offsets of the next records, in time."""
    async with asyncio.timeout(MAX_WAIT_SECONDS):
        while not (found := await consumer.getmany(timeout_ms=1000)):
            pass
    return [record.offset for each in found.values() for record in each]


async def test_a_fetch_of_all_partitions_waits_long(log: Log, consumer: AIOKafkaConsumer) -> None:
    consumer.assign(partitions(log))
    await wait_until(lambda: len(fetches(consumer)) == 1)

    assert consumer._fetcher._fetch_max_wait_ms == IDLE_WAIT_MS


async def test_a_fetch_of_some_partitions_does_not_keep_the_others_waiting(
    log: Log, consumer: AIOKafkaConsumer
) -> None:
    consumer.assign(partitions(log))
    consumer.pause(partitions(log)[0])

    await wait_until(lambda: consumer._fetcher._fetch_max_wait_ms == PARTIAL_WAIT_MS and fetches(consumer))


class OnePartition:
    """Stands for an assignment of one partition that can be read."""

    tps = (TopicPartition("booking.commands", 0),)

    def state_value(self, _: TopicPartition) -> Any:
        return SimpleNamespace(has_valid_position=True, paused=False)


@pytest.mark.parametrize(("leader", "wait_ms"), [(1, IDLE_WAIT_MS), (None, PARTIAL_WAIT_MS), (-1, PARTIAL_WAIT_MS)])
def test_no_fetch_waits_long_while_a_partition_has_no_leader(leader: int | None, wait_ms: int) -> None:
    # A broker that shares its partitions with no other cannot lose a leader, so the fetcher is a stand-in.
    fetcher = SimpleNamespace(
        _records={}, _select_read_replica=lambda _: leader, _get_actions_per_node=lambda _: "the actions"
    )
    choose_fetch_wait(SimpleNamespace(_fetcher=fetcher))

    assert fetcher._get_actions_per_node(OnePartition()) == "the actions"
    assert fetcher._fetch_max_wait_ms == wait_ms


async def test_a_record_that_comes_during_a_long_fetch_is_there_at_once(
    log: Log, consumer: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_wait, "IDLE_WAIT_MS", _FOREVER_MS)
    consumer.assign(partitions(log))
    await wait_until(lambda: len(fetches(consumer)) == 1)

    for offset in range(3):
        await log.send(nights_on_sale(1))
        assert await records(consumer) == [offset], "the broker answers although it may wait for ever"


async def test_a_seek_does_not_wait_for_the_fetch_that_is_under_way(
    log: Log, consumer: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_wait, "IDLE_WAIT_MS", _FOREVER_MS)
    [written] = await log.send(nights_on_sale(1))
    consumer.assign(partitions(log))
    assert await records(consumer) == [0]
    await wait_until(lambda: len(fetches(consumer)) == 1)

    end_fetches(consumer)
    consumer.seek(written, 0)

    assert await records(consumer) == [0]


async def test_partitions_that_are_assigned_during_a_long_fetch_are_read_at_once(
    log: Log, consumer: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_wait, "IDLE_WAIT_MS", _FOREVER_MS)
    [written] = await log.send(nights_on_sale(1))
    consumer.assign([each for each in partitions(log) if each != written])
    await wait_until(lambda: len(fetches(consumer)) == 1)

    consumer.assign([written])
    consumer.seek(written, 0)
    end_fetches(consumer)

    assert await records(consumer) == [0]
