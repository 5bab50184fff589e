"""Waiting for a decision on a machine that freezes now and then."""

import asyncio
from collections.abc import Generator
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest_v4, FetchResponse_v4

from ingress.log import waiters as module
from ingress.log.waiters import Waiters
from sandbox.ports import free_port
from tests.ingress.clocks import freeze
from tests.support.waiting import wait_until
from tests.topics.kafka import fake_cluster
from topics.kafka.settings import KafkaSettings
from topics.messages.events import BookingReserved


class OneTurn:
    """Awaited, it lets everybody else of the loop run once."""

    def __await__(self) -> Generator[None, None, None]:
        """Give way."""
        yield


async def test_a_frozen_machine_stops_nobody_from_looking_for_the_end_of_the_log() -> None:
    waiters = Waiters(KafkaSettings(_env_file=None), asyncio.Event())
    looking = asyncio.create_task(waiters.until_following(2.0))
    await OneTurn()

    freeze(5.0)
    for _ in range(10):
        await OneTurn()
    assert not looking.done()

    waiters._following.set()
    await looking


async def test_without_an_end_of_the_log_the_wait_ends_after_a_while() -> None:
    await Waiters(KafkaSettings(_env_file=None), asyncio.Event()).until_following(0.2)


@pytest.mark.process
async def test_a_log_that_cannot_be_read_is_tried_again_after_equal_pauses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_REREAD_SECONDS", 0.1)
    topics_checked = asyncio.Event()
    topics_checked.set()
    waiters = Waiters(KafkaSettings(_env_file=None, kafka_url=f"127.0.0.1:{free_port()}"), topics_checked)
    reading = asyncio.create_task(waiters.run())

    await wait_until(lambda: "try 4 in 0.1 s" in caplog.text, message="the log is not tried again")

    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert "waiting requests cannot read the events (" in caplog.text
    assert not waiters.ready


@pytest.mark.process
async def test_a_silent_broker_stops_nobody_who_waits_for_events_from_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given brokers that have no events, and a reader of these
    kind = FetchRequest_v4
    monkeypatch.setattr(fake_cluster, "_VERSIONS", [*fake_cluster._VERSIONS, (kind.API_KEY, 4, 4)])
    monkeypatch.setitem(fake_cluster._BY_KEY, (kind.API_KEY, kind.API_VERSION), kind)
    monkeypatch.setattr(fake_cluster.Broker, "_answers", {**fake_cluster.Broker._answers, kind: _no_events})
    async with fake_cluster.open_cluster(3) as cluster:
        topics_checked = asyncio.Event()
        topics_checked.set()
        waiters = Waiters(KafkaSettings(_env_file=None, kafka_url=cluster.url, topic_partitions=3), topics_checked)
        reading = asyncio.create_task(waiters.run())
        await wait_until(lambda: waiters.ready)

        # When one of them hangs
        cluster[1].freeze()
        try:
            with waiters.register("command", (BookingReserved,)):
                # Then whoever begins to wait follows the others before that one is given up
                await wait_until(waiters._following.is_set)
                assert not cluster.fenced
                before = cluster[2].answered[kind]
                await wait_until(lambda: cluster[2].answered[kind] > before, message="no events are read")
        finally:
            cluster[1].thaw()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


def _no_events(_: fake_cluster.Broker, request: Any) -> Any:
    topics = [(name, [(number, 0, 7, 7, None, b"") for number, *_ in parts]) for name, parts in request.topics]
    return FetchResponse_v4(0, topics)
