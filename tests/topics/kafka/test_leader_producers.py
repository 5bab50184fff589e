"""A broker that does not acknowledge records concerns the partitions that it leads, and no others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, NotEnoughReplicasError
from aiokafka.protocol.produce import ProduceRequest_v3, ProduceResponse_v3
from aiokafka.record import MemoryRecords

from tests.support.waiting import MAX_WAIT_SECONDS, wait_until
from tests.topics.kafka.fake_cluster import TOPIC, Broker, FakeCluster, open_cluster
from topics.backoff import Backoff
from topics.envelope import Outgoing
from topics.kafka.leader_producers import LeaderProducers, NotSent
from topics.kafka.producer import MaybeStored
from topics.kafka.settings import KafkaSettings

pytestmark = pytest.mark.process

NOT_LEADER = 6
TOO_LARGE = 10
NOT_ENOUGH_REPLICAS = 19
SENDERS = 12
ACK_SECONDS = 1.5


@dataclass
class Log:
    """The records that the brokers stored, as (broker, partition, value), and how they answer."""

    cluster: FakeCluster
    stored: list[tuple[int, int, bytes]] = field(default_factory=list)
    resets: int = 0
    refused: bytes = b""
    too_few_replicas: set[int] = field(default_factory=set)

    def produce(self, broker: Broker, request: Any) -> Any:
        """Answer as the partition's leader or as a broker that is not; or lose the connection."""
        if self.resets:
            self.resets -= 1
            raise ConnectionResetError
        return ProduceResponse_v3(
            [(name, [self._append(broker.node_id, *part) for part in parts]) for name, parts in request.topics], 0
        )

    def values(self, partition: int) -> list[bytes]:
        """Return what is stored in a partition, in order."""
        return [value for _, number, value in self.stored if number == partition]

    def _append(self, node_id: int, partition: int, batch: bytes) -> tuple[int, int, int, int]:
        records = MemoryRecords(batch).next_batch()
        assert records is not None
        values = [bytes(record.value or b"") for record in records]
        if self.cluster.leaders[partition] != node_id:
            return partition, NOT_LEADER, -1, -1
        if partition in self.too_few_replicas:
            return partition, NOT_ENOUGH_REPLICAS, -1, -1
        if self.refused in values:
            return partition, TOO_LARGE, -1, -1
        self.stored += [(node_id, partition, value) for value in values]
        return partition, 0, len(self.values(partition)) - len(values), -1


@dataclass
class Ground:
    """Three brokers, of which each leads one partition, and the producers for them."""

    cluster: FakeCluster
    log: Log
    producers: LeaderProducers

    def is_ready(self) -> bool:
        """Return whether any partition takes records."""
        return self.producers.ready

    async def send(self, partition: int, value: bytes) -> None:
        """Send one record."""
        record = Outgoing(TOPIC, b"", value, [], partition)
        while (producer := self.producers.producer_for(record)) is None:
            await self.producers.change_over(record)
        try:
            await producer.send(record)
        except KafkaError as error:
            self.producers.failed(producer, error)
            raise

    async def outcome(self, partition: int, value: bytes) -> type[BaseException] | None:
        """Send one record; return the kind of its error, None once it is acknowledged."""
        try:
            await self.send(partition, value)
        except (KafkaError, NotSent) as error:
            return type(error)
        return None

    async def takes(self, partition: int, value: bytes) -> bool:
        """Return whether a record is acknowledged."""
        return await self.outcome(partition, value) is None

    async def send_all_the_while(self, *partitions: int) -> None:
        """Send record after record to these partitions, until cancelled; an error ends it."""
        for number in range(1_000_000):
            await asyncio.gather(*[self.send(partition, b"%d" % number) for partition in partitions])

    @asynccontextmanager
    async def load(self, partition: int) -> AsyncIterator[None]:
        """Send to a partition so that it always has records on their way; at the end, none may have failed."""
        senders = [asyncio.create_task(self._send_overlapping(partition)) for _ in range(SENDERS)]
        try:
            yield
            assert not [sender for sender in senders if sender.done()]
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)

    async def _send_overlapping(self, partition: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            before = tasks.create_task(self.send(partition, b"load"))
            while True:
                # The next record is given away before the one before it is acknowledged.
                after = tasks.create_task(self.send(partition, b"load"))
                await asyncio.wait([before])
                before = after

    async def changes_over(self, partition: int, node_id: int) -> None:
        """Wait until the records of a partition go to a broker's own producer."""

        async def is_changed() -> bool:
            return self.producers.leader_of(TOPIC, partition) == node_id

        await wait_until(is_changed, message=f"the producer of broker {node_id} does not get the records")


@asynccontextmanager
async def open_ground(
    monkeypatch: pytest.MonkeyPatch, *, size: int = 3, kafka_idempotent: bool = True
) -> AsyncIterator[Ground]:
    """Open it; every partition takes records."""
    async with open_cluster(size) as cluster:
        log = Log(cluster)
        monkeypatch.setattr(Broker, "_answers", {**Broker._answers, ProduceRequest_v3: log.produce})
        settings = KafkaSettings(
            _env_file=None, kafka_url=cluster.url, topic_partitions=size, kafka_idempotent=kafka_idempotent
        )
        producers = LeaderProducers(
            settings, [TOPIC], client_id="test", ack_seconds=ACK_SECONDS, linger_ms=0, backoff=Backoff("test")
        )
        running = asyncio.create_task(producers.run())
        ground = Ground(cluster, log, producers)
        try:
            for partition in range(size):
                await wait_until(partial(ground.takes, partition, b"first"))
            log.stored.clear()
            yield ground
        finally:
            for broker in cluster.brokers.values():
                broker.thaw()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def ground(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ground]:
    async with open_ground(monkeypatch) as opened:
        yield opened


async def test_a_silent_leader_concerns_its_partitions_alone(ground: Ground) -> None:
    # Given records of partitions 1 and 2 all the while
    others = asyncio.create_task(ground.send_all_the_while(1, 2))
    # When the leader of partition 0 hangs
    ground.cluster[1].freeze()
    in_flight = asyncio.create_task(ground.outcome(0, b"in flight"))
    await asyncio.wait([in_flight], timeout=0.1)
    behind = asyncio.create_task(ground.outcome(0, b"behind"))
    # Then its records fail, since the broker may have them
    failed, _ = await asyncio.wait([in_flight, behind], timeout=MAX_WAIT_SECONDS)
    assert {each.result() for each in failed} not in ({None}, {NotSent})
    # And later ones are refused at once
    assert await ground.outcome(0, b"refused") is NotSent
    assert ground.is_ready()

    # When another broker leads the partition
    ground.cluster.leaders[0] = 2
    ground.cluster.fenced.add(1)
    await wait_until(lambda: ground.takes(0, b"taken"), message="the new leader gets no records")

    # Then it has got what was sent after that, and the old one has taken none of the records that were not sent yet
    ground.cluster[1].thaw()
    assert ground.log.values(0) == [b"taken"]
    assert not others.done(), others
    others.cancel()
    assert len(ground.log.values(1)) > 10


async def test_no_leader_is_given_up_for_the_time_in_which_this_process_was_frozen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    clock, frozen_seconds = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: clock() + frozen_seconds)
    async with open_ground(monkeypatch) as ground:
        # Given records that have left for each leader
        for broker in ground.cluster.brokers.values():
            broker.freeze()
        sending = [asyncio.create_task(ground.send(number, b"before")) for number in range(3)]
        await asyncio.wait(sending, timeout=0.1)
        # When the process goes on after a long time, and has yet to read what the leaders answered
        frozen_seconds = 200.0
        for broker in ground.cluster.brokers.values():
            broker.thaw()
        # Then every record is acknowledged
        await asyncio.gather(*sending)
    assert "given up" not in caplog.text


async def test_a_leader_that_comes_back_takes_records_again_and_none_of_those_that_were_given_up(
    ground: Ground,
) -> None:
    ground.cluster[1].freeze()
    in_flight = asyncio.create_task(ground.outcome(0, b"in flight"))
    await asyncio.wait([in_flight], timeout=0.1)
    behind = asyncio.create_task(ground.outcome(0, b"behind"))
    assert None not in await asyncio.gather(in_flight, behind)
    assert await ground.outcome(0, b"refused") is NotSent

    ground.cluster[1].thaw()
    await wait_until(lambda: ground.takes(0, b"again"))

    assert set(ground.log.values(0)) <= {b"in flight", b"again"}


async def test_a_leader_is_given_up_also_if_nobody_waits_for_its_record_any_more(ground: Ground) -> None:
    ground.cluster[1].freeze()
    sending = asyncio.create_task(ground.send(0, b"in flight"))
    await asyncio.wait([sending], timeout=0.1)
    sending.cancel()

    await wait_until(lambda: ground.producers.leader_of(TOPIC, 0) is None)

    assert await ground.outcome(0, b"refused") is NotSent


async def test_a_leader_that_has_changed_costs_no_record_and_the_partition_changes_over(ground: Ground) -> None:
    # When another broker leads the partition, as during a restart in turns
    ground.cluster.leaders[0] = 2
    await ground.send(0, b"moved")
    assert ground.log.stored[-1] == (2, 0, b"moved")

    # Then the old leader's trouble is no longer the partition's
    await ground.changes_over(0, 2)
    ground.cluster[1].freeze()
    for number in range(20):
        await ground.send(0, b"%d" % number)
    assert ground.log.values(0) == [b"moved", *[b"%d" % number for number in range(20)]]


async def test_a_partition_changes_over_under_load_and_its_new_leader_fails_alone(ground: Ground) -> None:
    # Given that broker 1 leads two partitions
    ground.cluster.leaders[2] = 1
    async with ground.load(2):
        await ground.changes_over(2, 1)
        async with ground.load(0):
            # When one of them moves, as during a restart in turns
            ground.cluster.leaders[0] = 2
            # Then it changes over, and nobody is refused
            await ground.changes_over(0, 2)

        # And when its new leader hangs, broker 1 goes on
        ground.cluster[2].freeze()
        assert await ground.outcome(0, b"in flight") not in {None, NotSent}
        assert await ground.outcome(0, b"refused") is NotSent


async def test_a_record_that_waits_for_a_change_over_is_sent_nowhere_if_that_fails(ground: Ground) -> None:
    # Given a partition that moves while a record of it is on its way to a new leader that does not answer it
    ground.cluster[2].keeps_waiting = ProduceRequest_v3
    ground.cluster.leaders[0] = 2
    in_flight = asyncio.create_task(ground.outcome(0, b"in flight"))

    async def changes_over() -> bool:
        return ground.producers.producer_for(Outgoing(TOPIC, b"", b"", [], 0)) is None

    await wait_until(changes_over)
    # Then a later record waits until the producer is given up, and is given to none
    later = asyncio.create_task(ground.outcome(0, b"later"))
    assert await in_flight not in {None, NotSent}
    assert await later is NotSent

    ground.cluster[2].keeps_waiting = None
    await wait_until(lambda: ground.takes(0, b"taken"))
    assert ground.log.values(0) == [b"taken"]


async def test_a_partition_without_enough_replicas_is_refused_alone(ground: Ground) -> None:
    # Given that broker 1 leads two partitions
    ground.cluster.leaders[2] = 1
    await ground.send(2, b"moved")
    await ground.changes_over(2, 1)
    # When one of them has too few replicas in sync
    ground.log.too_few_replicas.add(0)
    in_flight = asyncio.create_task(ground.outcome(0, b"in flight"))
    await asyncio.wait([in_flight], timeout=0.1)
    async with ground.load(2):
        behind = asyncio.create_task(ground.outcome(0, b"behind"))
        # Then its records fail after the limit, and later ones are refused at once, while the other goes on
        assert {await in_flight, await behind}.isdisjoint({None, NotSent})
        for number in range(SENDERS):
            assert await ground.outcome(0, b"refused %d" % number) is NotSent
            await ground.send(2, b"meanwhile")

        # When there are enough again
        ground.log.too_few_replicas.clear()
        await wait_until(lambda: ground.takes(0, b"again"))

        # Then what was not sent yet is dropped
        assert ground.log.values(0) == [b"in flight", b"again"]


async def test_a_leader_that_becomes_silent_while_a_partition_is_refused_is_given_up(ground: Ground) -> None:
    ground.cluster.leaders[2] = 1
    await ground.send(2, b"moved")
    await ground.changes_over(2, 1)
    ground.log.too_few_replicas.add(0)
    async with ground.load(2):
        assert await ground.outcome(0, b"in flight") not in {None, NotSent}
    # When it answers nothing any more, and others lead its partitions
    ground.cluster[1].freeze()
    assert await ground.outcome(2, b"in flight") not in {None, NotSent}
    ground.cluster.leaders.update({0: 2, 2: 3})
    ground.cluster.fenced.add(1)
    ground.log.too_few_replicas.clear()

    # Then they take records again, and the batch that the old producer had is dropped with it
    await wait_until(lambda: ground.takes(0, b"taken"))
    await wait_until(lambda: ground.takes(2, b"taken"))
    ground.cluster[1].thaw()
    assert ground.log.values(0) == [b"taken"]


async def test_a_connection_that_is_reset_costs_no_record(ground: Ground) -> None:
    ground.log.resets = 2
    await asyncio.gather(*[ground.send(0, b"%d" % number) for number in range(10)])

    assert ground.log.values(0) == [b"%d" % number for number in range(10)]


async def test_a_record_that_a_leader_refuses_concerns_no_other(ground: Ground) -> None:
    # Given that broker 1 leads two partitions
    ground.cluster.leaders[2] = 1
    await ground.send(2, b"moved")
    await ground.changes_over(2, 1)
    ground.log.refused = b"too large"
    async with ground.load(1), ground.load(2):
        answers = await asyncio.gather(
            *[ground.outcome(0, value) for value in (b"in flight", b"too large", b"with it")]
        )
        assert answers == [None, MessageSizeTooLargeError, None]
        await ground.send(0, b"next")

    assert ground.log.values(0) == [b"in flight", b"with it", b"next"]


async def test_a_leader_that_refuses_a_record_which_it_may_have_stored_is_given_up(ground: Ground) -> None:
    # When the connection is lost before the first answer, and the second answer is that the record is too large
    ground.log.resets = 1
    ground.log.refused = b"too large"
    assert await ground.outcome(0, b"too large") is MaybeStored
    # Then the producer is not used any more: a record of the same number may be there
    assert await ground.outcome(0, b"refused") is NotSent

    await wait_until(lambda: ground.takes(0, b"next"))
    assert ground.log.values(0) == [b"next"]


async def test_without_idempotence_a_partition_without_enough_replicas_fails_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_ground(monkeypatch, kafka_idempotent=False) as ground:
        ground.cluster.leaders[2] = 1
        await ground.send(2, b"moved")
        await ground.changes_over(2, 1)
        # The client gives a batch up by itself, after as long as these producers wait for any acknowledgement.
        monkeypatch.setattr(ground.producers, "_ack_seconds", MAX_WAIT_SECONDS)
        ground.log.too_few_replicas.add(0)
        async with ground.load(2):
            assert await ground.outcome(0, b"in flight") is NotEnoughReplicasError

            ground.log.too_few_replicas.clear()
            await ground.send(0, b"next")

        assert ground.log.values(0) == [b"next"]


async def test_nothing_is_ready_while_the_only_broker_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_ground(monkeypatch, size=1) as ground:
        assert ground.is_ready()
        ground.cluster[1].freeze()
        assert await ground.outcome(0, b"in flight") not in {None, NotSent}
        assert not ground.is_ready()

        ground.cluster[1].thaw()
        await wait_until(lambda: ground.takes(0, b"again"))
        assert ground.is_ready()
