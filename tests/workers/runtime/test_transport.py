"""A worker's offsets when partitions are reassigned at that moment, and its membership when brokers fail."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from aiokafka.errors import IllegalStateError
from faust.types import TP

from sandbox.spawning import StartFailed
from storage.settings import DatabaseSettings
from tests.support.log import Log
from tests.support.waiting import wait_until
from tests.workers.runtime.test_batch_processor import nights_on_sale
from tests.workers.runtime.test_pausing import workers
from topics.kafka.settings import KafkaSettings
from workers.reservations import handler
from workers.runtime.agent import build_app
from workers.runtime.stopping import EXIT_FAILED
from workers.runtime.transport import WorkerConsumer

#: A worker whose member of the group knows of no broker at first, as while the only one comes up.
NO_BROKER_AT_FIRST = """
import runpy
from aiokafka.consumer.group_coordinator import GroupCoordinator

make = GroupCoordinator.__init__

def make_without_broker(self, client, *rest, **named):
    unknown = iter(range(3))
    # Of this client alone, whatever its class is by then.
    client.get_random_node = lambda: type(client).get_random_node(client) if next(unknown, None) is None else None
    make(self, client, *rest, **named)

GroupCoordinator.__init__ = make_without_broker
runpy.run_module("operators", run_name="__main__")
"""
#: A worker whose client loses its membership of the group by an unforeseen error.
NO_MEMBERSHIP = """
import runpy
from aiokafka.consumer.group_coordinator import GroupCoordinator

async def fail(self):
    raise RuntimeError("unforeseen")

GroupCoordinator.ensure_coordinator_known = fail
runpy.run_module("operators", run_name="__main__")
"""
OURS, ANOTHERS = TP("booking.commands", 0), TP("booking.commands", 1)


class Hands:
    """Stand-in for the thread that holds the Kafka client, in the moment before it learns of a rebalance."""

    def __init__(self, *ours: TP) -> None:
        self._ours = set(ours)
        self.sought: dict[TP, int] = {}

    def assignment(self) -> set[TP]:
        return {OURS, ANOTHERS}

    async def seek_wait(self, offsets: Mapping[TP, int]) -> None:
        if missing := offsets.keys() - self._ours:
            raise IllegalStateError(f"No current assignment for partitions {missing}")
        self.sought.update(offsets)


def consumer_of(kafka: KafkaSettings, database: DatabaseSettings, hands: Hands) -> WorkerConsumer:
    app = build_app(handler.build(kafka, database), kafka, database)
    consumer = cast("WorkerConsumer", app.consumer)
    consumer._thread = cast("Any", hands)
    return consumer


async def test_a_partition_that_is_revoked_while_a_worker_seeks_in_it_ends_nothing(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    hands = Hands(OURS)
    consumer = consumer_of(kafka_settings, database, hands)

    await consumer.start_at({OURS: 7, ANOTHERS: 9})
    assert hands.sought == {}

    await consumer.start_at({OURS: 7})
    assert hands.sought == {OURS: 7}


@pytest.mark.system
async def test_a_worker_waits_while_no_broker_is_known(environment: dict[str, str], log: Log, tmp_path: Path) -> None:
    async with workers(["one"], environment, tmp_path, ("-c", NO_BROKER_AT_FIRST)):
        await log.send(nights_on_sale(1))
        await wait_until(log.events)

    assert "Group Coordinator Request failed" in (tmp_path / "one.log").read_text()


@pytest.mark.system
async def test_a_worker_that_lost_its_membership_of_the_group_ends_and_logs_why(
    environment: dict[str, str], log: Log, tmp_path: Path
) -> None:
    assert log.settings.topic_partitions
    with pytest.raises(StartFailed, match=f"one ended with {EXIT_FAILED} before it was ready\n(.*\n)*.*unforeseen"):
        async with workers(["one"], environment, tmp_path, ("-c", NO_MEMBERSHIP)):
            pass
