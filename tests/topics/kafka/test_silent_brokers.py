"""A broker that accepts connections and answers nothing is given up; one that answers late is not."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError
from aiokafka.protocol.admin import CreateTopicsRequest_v1, DeleteTopicsRequest_v1
from aiokafka.protocol.coordination import FindCoordinatorRequest, FindCoordinatorRequest_v0
from aiokafka.protocol.group import JoinGroupRequest_v0, SyncGroupRequest_v0
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.offset import OffsetRequest_v1
from aiokafka.protocol.produce import ProduceRequest_v3

from operators.audit import log as audit_log
from tests.support.waiting import wait_until
from tests.topics.kafka.fake_cluster import TOPIC, FakeCluster, open_cluster
from topics.envelope import Outgoing
from topics.kafka import silent_brokers
from topics.kafka.admin import open_admin
from topics.kafka.log_reader import LogReader, OffsetRange
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from topics.kafka.silent_brokers import give_up_silent_brokers

pytestmark = pytest.mark.process

#: Longer than a test may take: no test passes because a request or a connection came to the end of this time.
NEVER_MS = 1_000_000


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A broker of these tests answers at once, or never."""
    for name, seconds in {
        "BROKER_CONNECT_SECONDS": 0.5,
        "SILENT_CONNECT_SECONDS": 0.5,
        "UNANSWERED_SECONDS": 0.1,
        "_LOOK_SECONDS": 0.05,
    }.items():
        monkeypatch.setattr(silent_brokers, name, seconds)
    monkeypatch.setattr(silent_brokers, "_silent", set())
    # The client logs at length that a broker does not answer.
    caplog.set_level(logging.CRITICAL, "aiokafka")


@asynccontextmanager
async def open_client(url: str) -> AsyncIterator[AIOKafkaClient]:
    client = AIOKafkaClient(bootstrap_servers=url, request_timeout_ms=NEVER_MS)
    give_up_silent_brokers(client)
    await client.bootstrap()
    try:
        yield client
    finally:
        await client.close()


async def test_a_connection_that_the_broker_has_ended_is_closed_before_there_is_another() -> None:
    async with open_cluster() as cluster, open_client(cluster.url) as client:
        await client.ready(1)
        # Nothing else has a reference to the connection, as in the client's own use.
        writer = client._conns[1, 0]._writer
        writer._protocol._stream_reader.feed_eof()

        assert await client._get_conn(1)

        assert writer.is_closing()


async def test_a_request_on_a_connection_that_has_just_ended_is_a_lost_connection_on_uvloop_too() -> None:
    """The reading task learns of the end a turn of the loop later than the writer, who may be first to use it."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        async with open_cluster() as cluster, open_client(cluster.url) as client:
            await client.ready(1)
            connection = client._conns[1, 0]
            writer, outcome = connection._writer, loop.create_future()
            notice = writer._protocol.connection_lost

            def send() -> None:
                try:
                    outcome.set_result(connection.send(lookup()))
                except Exception as error:  # noqa: BLE001 - the test judges it
                    outcome.set_result(error)

            def lose(error: Exception | None) -> None:
                loop.call_soon(send)
                notice(error)

            writer._protocol.connection_lost = lose
            writer.transport.abort()

            assert isinstance(await outcome, KafkaConnectionError)
            assert connection._writer is None
            assert await client.send(1, lookup())

    await asyncio.to_thread(uvloop.run, story())


def lookup() -> FindCoordinatorRequest:
    return FindCoordinatorRequest("group", 0)


async def test_a_request_to_a_hung_broker_fails_long_before_its_own_limit() -> None:
    async with open_cluster() as cluster, open_client(cluster.url) as client:
        await client.send(1, lookup())
        cluster[1].freeze()

        with pytest.raises(KafkaConnectionError):
            await client.send(1, lookup())
        # It is tried anew for each request, within a limit of its own.
        with pytest.raises(NodeNotReadyError):
            await client.send(1, lookup())


async def test_a_request_fails_also_when_the_metadata_no_longer_name_its_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The second broker is asked for the metadata.
    monkeypatch.setattr("aiokafka.client.random.shuffle", lambda nodes: nodes.sort(reverse=True))
    async with open_cluster() as cluster, open_client(cluster.url) as client:
        await client.send(1, lookup())
        cluster[1].freeze()
        waiting = asyncio.ensure_future(client.send(1, lookup()))
        cluster.fenced.add(1)
        await client.force_metadata_update()

        with pytest.raises(KafkaConnectionError):
            await waiting


async def test_a_request_that_waits_for_others_is_not_given_up_while_its_broker_answers() -> None:
    async with open_cluster() as cluster, open_client(cluster.url) as client:
        cluster[1].keeps_waiting = FindCoordinatorRequest_v0
        waiting = asyncio.ensure_future(client.send(1, lookup()))
        before = cluster[1].connections

        # Further connections show that the broker was probed, twice at least.
        await wait_until(lambda: cluster[1].connections > before + 3)

        assert not waiting.done()
        waiting.cancel()


async def test_a_connection_on_which_nothing_comes_back_is_closed_although_its_broker_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(silent_brokers, "HALF_OPEN_SECONDS", 0.5)
    async with open_cluster() as cluster, open_client(cluster.url) as client:
        await client.send(1, lookup())
        cluster[1].forget_connections()

        with pytest.raises(KafkaConnectionError):
            await client.send(1, lookup())

        # A new connection is answered, however busy the machine is.
        monkeypatch.setattr(silent_brokers, "HALF_OPEN_SECONDS", 1_000.0)
        await client.send(1, lookup())


async def test_no_sound_connection_is_closed_after_the_client_itself_was_frozen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(silent_brokers, "HALF_OPEN_SECONDS", 100.0)
    async with open_cluster() as cluster, open_client(cluster.url) as client:
        cluster[1].keeps_waiting = FindCoordinatorRequest_v0
        waiting = asyncio.ensure_future(client.send(1, lookup()))
        before = cluster[1].connections
        await wait_until(lambda: cluster[1].connections > before + 1)

        loop = asyncio.get_running_loop()
        clock = loop.time
        monkeypatch.setattr(loop, "time", lambda: clock() + 200.0)

        # Further probes show that the client has looked again.
        before = cluster[1].connections
        await wait_until(lambda: cluster[1].connections > before + 2)
        assert not waiting.done()
        waiting.cancel()


async def test_a_probe_that_ended_while_the_client_was_frozen_closes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silent_brokers, "HALF_OPEN_SECONDS", 1_000.0)
    monkeypatch.setattr(silent_brokers, "BROKER_CONNECT_SECONDS", 50.0)
    monkeypatch.setattr(silent_brokers, "SILENT_CONNECT_SECONDS", 50.0)
    async with open_cluster() as cluster, open_client(cluster.url) as client:
        await client.send(1, lookup())
        cluster[1].freeze()
        waiting = asyncio.ensure_future(client.send(1, lookup()))
        before = cluster[1].connections
        await wait_until(lambda: cluster[1].connections > before, message="the broker is probed")

        loop = asyncio.get_running_loop()
        clock = loop.time
        monkeypatch.setattr(loop, "time", lambda: clock() + 200.0)
        await wait_until(lambda: cluster[1].connections > before + 1, message="it is probed again")

        assert not waiting.done()
        waiting.cancel()


async def test_no_connection_is_half_open_until_its_broker_has_answered_on_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(silent_brokers, "HALF_OPEN_SECONDS", 0.2)
    monkeypatch.setattr(silent_brokers, "BROKER_CONNECT_SECONDS", 1_000.0)
    async with open_cluster() as cluster, open_client(cluster.url) as client:
        await client.send(1, lookup())
        cluster[1].freeze()
        waiting = asyncio.ensure_future(client.send(1, lookup()))
        clock = asyncio.get_running_loop().time
        late = clock() + 0.5
        await wait_until(lambda: clock() > late)
        assert not waiting.done()
        waiting.cancel()


@pytest.mark.parametrize("kind", [ProduceRequest_v3, JoinGroupRequest_v0, SyncGroupRequest_v0])
def test_a_request_that_waits_for_replicas_or_members_is_waited_for_longer_than_any_other(kind: Any) -> None:
    assert silent_brokers.longest_answer_seconds(kind) > silent_brokers.HALF_OPEN_SECONDS
    assert silent_brokers.longest_answer_seconds(OffsetRequest_v1) == silent_brokers.HALF_OPEN_SECONDS
    assert silent_brokers.longest_answer_seconds(None) == silent_brokers.HALF_OPEN_SECONDS


@pytest.mark.parametrize(
    "request_of",
    [
        lambda ms: ProduceRequest_v3(None, -1, ms, []),
        lambda ms: CreateTopicsRequest_v1([], ms, False),  # noqa: FBT003 - the struct takes no names
        lambda ms: DeleteTopicsRequest_v1([], ms),
    ],
)
def test_a_request_is_waited_for_longer_than_it_lets_the_broker_wait(request_of: Callable[[int], Any]) -> None:
    for seconds in (15, 60):
        assert silent_brokers.longest_answer_seconds(request_of(seconds * 1000)) > seconds


async def test_a_hung_broker_holds_up_no_connection_to_another() -> None:
    async with open_cluster() as cluster, open_client(cluster.url) as client:
        cluster[1].freeze()
        silent = asyncio.ensure_future(client.send(1, lookup()))
        await wait_until(lambda: cluster[1].connections > 0)

        await client.send(2, lookup())

        assert not silent.done()
        with pytest.raises(NodeNotReadyError):
            await silent


async def test_one_that_answers_is_asked_for_all_that_every_broker_knows() -> None:
    async with open_cluster(3) as cluster, open_client(cluster.url) as client:
        cluster[1].freeze()
        with pytest.raises((KafkaConnectionError, NodeNotReadyError)):
            await client.send(1, lookup())
        before = cluster[1].connections

        nodes = {client.get_random_node() for _ in range(100)}
        for _ in range(20):
            assert await client.force_metadata_update()

        assert nodes == {2, 3}
        # The metadata were asked of the others, and further connections are probes of this one.
        assert cluster[1].connections - before < 20


async def test_new_leaders_are_known_soon_after_a_broker_hangs() -> None:
    """Nothing asks for the metadata here but the client itself."""
    async with open_cluster() as cluster, open_client(cluster.url) as client:
        client.add_topic(TOPIC)
        cluster[1].freeze()
        with pytest.raises((KafkaConnectionError, NodeNotReadyError)):
            await client.send(1, lookup())
        assert client.cluster.leader_for_partition(TopicPartition(TOPIC, 0)) == 1

        cluster.leaders[0] = 2

        await wait_until(lambda: client.cluster.leader_for_partition(TopicPartition(TOPIC, 0)) == 2)


async def test_new_leaders_are_known_although_a_request_is_still_waited_for() -> None:
    async with open_cluster() as cluster, open_client(cluster.url) as client:
        client.add_topic(TOPIC)
        await client.force_metadata_update()
        cluster[1].keeps_waiting = FindCoordinatorRequest_v0
        waiting = asyncio.ensure_future(client.send(1, lookup()))

        cluster.leaders[0] = 2

        await wait_until(lambda: client.cluster.leader_for_partition(TopicPartition(TOPIC, 0)) == 2)
        assert not waiting.done()
        waiting.cancel()


async def test_a_broker_that_answers_again_is_asked_again() -> None:
    async with open_cluster() as cluster, open_client(cluster.url) as client:
        cluster[1].freeze()
        with pytest.raises((KafkaConnectionError, NodeNotReadyError)):
            await client.send(1, lookup())

        cluster[1].thaw()

        await wait_until(lambda: {client.get_random_node() for _ in range(100)} == {1, 2})
        await client.send(1, lookup())


async def test_every_other_client_of_the_process_knows_of_a_silent_broker() -> None:
    async with open_cluster() as cluster, open_client(cluster.url) as client:
        cluster[1].freeze()
        with pytest.raises((KafkaConnectionError, NodeNotReadyError)):
            await client.send(1, lookup())

        for _ in range(10):
            other = AIOKafkaClient(bootstrap_servers=cluster.url)
            give_up_silent_brokers(other)

            assert other.hosts[0][1] == cluster[2].port
            await other.close()


async def test_a_process_that_begins_tries_a_hung_address_once() -> None:
    async with open_cluster() as cluster:
        cluster[1].freeze()
        # Brokers that the metadata name are probed, which is not what this counts.
        cluster.fenced.add(1)
        for _ in range(10):
            async with open_client(cluster.url):
                pass

        assert cluster[2].answered[MetadataRequest_v5] == 10
        assert cluster[1].connections <= 1


async def test_a_client_ends_although_a_hung_broker_has_not_read_all_that_was_sent() -> None:
    async with open_cluster() as cluster, open_client(cluster.url) as client:
        await client.send(1, lookup())
        cluster[1].freeze()
        # More than the kernel takes for a process that does not read.
        connection = client._conns[1, 0]
        connection._writer.write(bytes(64 * 2**20))
        assert connection._writer.transport.get_write_buffer_size()


@asynccontextmanager
async def first_hangs() -> AsyncIterator[tuple[FakeCluster, KafkaSettings]]:
    """Open a cluster whose first broker, the leader of the first partition, hangs from the start."""
    async with open_cluster() as cluster:
        cluster[1].freeze()
        yield cluster, KafkaSettings(_env_file=None, kafka_url=cluster.url)


async def moved(cluster: FakeCluster) -> None:
    """Wait until the leader was asked in vain; then give its partitions to the other, as the controller does."""
    await wait_until(lambda: cluster[1].connections > 0)
    cluster.leaders[0] = 2
    cluster.fenced.add(1)


async def test_a_reader_asks_the_new_leader() -> None:
    async with first_hangs() as (cluster, settings), LogReader(settings) as reader:
        partitions = [TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)]
        asking = asyncio.ensure_future(reader.ranges(partitions))

        await moved(cluster)

        assert await asking == dict.fromkeys(partitions, OffsetRange(7, 7))
        assert cluster[1].answered[OffsetRequest_v1] == 0


async def test_a_producer_begins_and_sends_to_the_new_leader() -> None:
    async with (
        first_hangs() as (cluster, settings),
        open_producer(settings, client_id="test", request_timeout_seconds=NEVER_MS / 1000) as producer,
    ):
        sending = asyncio.ensure_future(producer.send(Outgoing(TOPIC, b"1", b"value", [], 0)))

        await moved(cluster)

        assert (await sending).offset == 5


async def test_admin_calls_go_on_with_another_broker() -> None:
    async with first_hangs() as (_, settings):
        for _ in range(5):
            async with open_admin(settings) as admin:
                assert list(await admin.describe([TOPIC])) == [TOPIC]


async def test_the_audit_reads_from_the_new_leader() -> None:
    async with first_hangs() as (cluster, settings):
        asking = asyncio.ensure_future(audit_log.ends_of(settings, TOPIC))

        await moved(cluster)

        assert await asking == {0: 7, 1: 7}


async def test_when_no_broker_answers_all_are_tried() -> None:
    async with open_cluster() as cluster, open_client(cluster.url) as client:
        for broker in cluster.brokers.values():
            broker.freeze()
        for node in (1, 2):
            with pytest.raises((KafkaConnectionError, NodeNotReadyError)):
                await client.send(node, lookup())
        before = cluster[1].answered[MetadataRequest_v5] + cluster[2].answered[MetadataRequest_v5]

        cluster[1].thaw()
        cluster[2].thaw()

        await wait_until(
            lambda: cluster[1].answered[MetadataRequest_v5] + cluster[2].answered[MetadataRequest_v5] > before
        )
