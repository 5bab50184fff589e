"""Three brokers of the sandbox are one cluster, in which each has a copy of everything."""

import os
import signal
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import sandbox.up
from sandbox.__main__ import app
from sandbox.brokers import Broker
from sandbox.kafka import Cluster, available
from sandbox.kafka.probe import as_client
from sandbox.system import Plan
from tests.support.quorum import active_controller
from tests.support.replicas import until_in_sync
from tests.support.waiting import MAX_WAIT_SECONDS, wait_until
from topics.catalogue import BOOKING_COMMANDS, CATALOGUE
from topics.envelope import Outgoing
from topics.kafka import admin
from topics.kafka.metadata import DescribeTopicsRequest
from topics.kafka.producer import open_producer

NO_KAFKA = available()


# A whole system on such a cluster is tested in tests/system/cluster.
@pytest.mark.skipif(NO_KAFKA is not None, reason=NO_KAFKA or "")
@pytest.mark.system
@pytest.mark.long
async def test_a_cluster_without_one_broker_serves_topics_of_three_replicas(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        settings = as_client(cluster.variables())

        await admin.create(settings)

        assert await admin.check(settings) == []
        async with admin.open_admin(settings) as opened:
            states = await opened.describe([settings.topic(topic) for topic in CATALOGUE])
        assert {(state.replication, state.in_sync) for state in states.values()} == {(3, 3)}
        await cluster[1].kill()
        assert await admin.check(settings) == []


@pytest.mark.skipif(NO_KAFKA is not None, reason=NO_KAFKA or "")
@pytest.mark.system
@pytest.mark.long
async def test_other_leaders_go_on_without_a_controller_that_hangs_before_it_is_fenced(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        settings = as_client(cluster.variables())
        await admin.create(settings)
        await until_in_sync(settings, 3)
        hung, topic = await active_controller(settings), settings.topic(BOOKING_COMMANDS)
        awake = hung % 3 + 1

        async def partitions() -> dict[int, tuple[int, list[int]]]:
            """Return the leader of each partition and its replicas in sync."""
            (_, _, _, _, found, *_), *_ = (await asked._client.send(awake, DescribeTopicsRequest([topic]))).topics
            return {number: (leader, in_sync) for _, number, leader, _, _, in_sync, *_ in found}

        async def until_all_follow() -> bool:
            return all(len(in_sync) == 3 for _, in_sync in (await partitions()).values())

        async with (
            admin.open_admin(settings.model_copy(update={"kafka_url": cluster[awake].url})) as asked,
            open_producer(settings, client_id="test", request_timeout_seconds=MAX_WAIT_SECONDS) as producer,
        ):
            led = next(number for number, (leader, _) in (await partitions()).items() if leader == awake)
            record = Outgoing(topic, b"", b"", [], led)
            await producer.send(record)
            await wait_until(until_all_follow)
            os.kill(cluster[hung].pid, signal.SIGSTOP)
            try:
                await producer.send(record)
                # A broker leads its partitions until it is fenced.
                assert hung in {leader for leader, _ in (await partitions()).values()}
            finally:
                os.kill(cluster[hung].pid, signal.SIGCONT)


def test_brokers_of_a_cluster_have_the_same_voters_and_different_names_and_ports(tmp_path: Path) -> None:
    brokers = Cluster(tmp_path).brokers

    lines = [dict(line.split("=", 1) for line in broker._properties().splitlines()) for broker in brokers]
    assert [broker.name for broker in brokers] == ["kafka", "kafka-2", "kafka-3"]
    assert [each["node.id"] for each in lines] == ["1", "2", "3"]
    assert {each["controller.quorum.voters"] for each in lines} == {
        ",".join(f"{broker.node_id}@127.0.0.1:{broker.controller_port}" for broker in brokers)
    }
    assert len({port for broker in brokers for port in (broker.port, broker.controller_port)}) == 6
    assert {each["min.insync.replicas"] for each in lines} == {"2"}
    assert {each["offsets.topic.replication.factor"] for each in lines} == {"3"}
    assert {each["controller.socket.timeout.ms"] for each in lines} == {"1000"}


def test_sandbox_up_takes_the_number_of_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def up(*, brokers: int, **_: object) -> int:
        asked.append(brokers)
        return 0

    monkeypatch.setattr(sandbox.up, "up", up)

    assert CliRunner().invoke(app, ["up", "--brokers", "3"]).exit_code == 0
    assert asked == [3]


def test_a_machine_that_can_only_run_tansu_has_no_three_brokers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sandbox.up, "possible_broker", lambda wanted: Broker.TANSU)

    with pytest.raises(typer.Exit) as ended:
        sandbox.up.up(port=0, data=tmp_path, broker=Broker.KAFKA, workers=1, brokers=3)

    assert ended.value.exit_code == 1
    assert "--brokers needs Kafka" in capsys.readouterr().err


def test_only_kafka_has_several_brokers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only one broker of the kind tansu"):
        Plan(folder=tmp_path, broker="tansu", brokers=3)
