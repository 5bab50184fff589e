"""Our topics on a real broker: created, checked, and distinguished from their earlier generations."""

import asyncio
import dataclasses
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NodeNotReadyError,
    NotCoordinatorForGroupError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.coordination import FindCoordinatorRequest

from sandbox.ports import free_port
from tests.support.topics import configure
from tests.support.waiting import wait_until
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, CATALOGUE, DEAD_LETTERS
from topics.kafka import admin
from topics.kafka.settings import KafkaSettings


def names(settings: KafkaSettings) -> list[str]:
    return [settings.topic(topic) for topic in CATALOGUE]


async def test_topics_are_created_as_in_the_catalogue(kafka_settings: KafkaSettings) -> None:
    assert await admin.check(kafka_settings) == []
    assert await admin.partition_counts(kafka_settings, names(kafka_settings)) == dict.fromkeys(
        names(kafka_settings), 4
    )


async def test_topics_that_exist_stay_as_they_are(kafka_settings: KafkaSettings) -> None:
    ids = await admin.topic_ids(kafka_settings, names(kafka_settings))
    await admin.delete(kafka_settings, [DEAD_LETTERS])

    created = await admin.create(kafka_settings)

    assert created == [kafka_settings.topic(DEAD_LETTERS)]
    after = await admin.topic_ids(kafka_settings, names(kafka_settings))
    assert [name for name in ids if after[name] != ids[name]] == created


async def test_several_operators_may_create_the_topics_at_once(kafka_settings: KafkaSettings) -> None:
    await admin.delete(kafka_settings)

    created = await asyncio.gather(*(admin.create(kafka_settings) for _ in range(5)))

    assert sorted(name for each in created for name in each) == sorted(names(kafka_settings))


async def test_a_topic_created_again_has_another_id(kafka_settings: KafkaSettings) -> None:
    name = kafka_settings.topic(BOOKING_COMMANDS)
    first = (await admin.topic_ids(kafka_settings, [name]))[name]
    await admin.delete(kafka_settings, [BOOKING_COMMANDS])
    await admin.create(kafka_settings)

    second = (await admin.topic_ids(kafka_settings, [name]))[name]

    assert UUID(first).int != 0
    assert UUID(second).int != 0
    assert first != second


async def test_a_topic_that_does_not_exist_has_no_id(kafka_settings: KafkaSettings) -> None:
    known = kafka_settings.topic(BOOKING_EVENTS)

    assert set(await admin.topic_ids(kafka_settings, [known, "nobody-made-me"])) == {known}
    assert await admin.topic_ids(kafka_settings, []) == {}


async def test_a_missing_topic_is_reported_with_its_mend(kafka_settings: KafkaSettings) -> None:
    await admin.delete(kafka_settings, [BOOKING_EVENTS])

    [mismatch] = await admin.check(kafka_settings)

    name = kafka_settings.topic(BOOKING_EVENTS)
    assert mismatch.fatal
    assert str(mismatch) == f"The topic {name} does not exist. Create it: innkeeper topics create."


async def test_a_wrong_number_of_partitions_is_reported_with_its_mend(kafka_settings: KafkaSettings) -> None:
    other = kafka_settings.model_copy(update={"topic_partitions": 12})

    [mismatch] = await admin.check(other, [BOOKING_COMMANDS])

    assert mismatch.fatal
    assert "has 4 partitions, not 12" in mismatch.sentence
    assert "TOPIC_PARTITIONS=4" in mismatch.mend


async def test_another_retention_than_the_catalogues_is_reported(kafka_settings: KafkaSettings) -> None:
    shorter = dataclasses.replace(BOOKING_COMMANDS, retention=timedelta(days=1))

    [mismatch] = await admin.check(kafka_settings, [shorter])

    assert not mismatch.fatal
    assert "has retention.ms=604800000, not 86400000" in mismatch.sentence
    assert "--add-config retention.ms=86400000" in mismatch.mend


@pytest.mark.parametrize(
    ("setting", "broken", "fatal"),
    [
        ("retention.ms", "60000", False),
        ("min.insync.replicas", "2", False),
        ("message.timestamp.type", "CreateTime", True),
        ("cleanup.policy", "compact", True),
        ("unclean.leader.election.enable", "true", False),
    ],
)
async def test_a_setting_that_was_changed_is_reported_with_the_command_that_mends_it(
    kafka_settings: KafkaSettings, setting: str, broken: str, *, fatal: bool
) -> None:
    name = kafka_settings.topic(BOOKING_EVENTS)
    required = admin.topic_configuration(kafka_settings, BOOKING_EVENTS)
    await configure(kafka_settings, name, {**required, setting: broken})

    first, *others = await admin.check(kafka_settings)

    assert first.fatal is fatal
    assert first.sentence == f"The topic {name} has {setting}={broken}, not {required[setting]}."
    assert first.mend == (
        f"Set it: kafka-configs.sh --bootstrap-server {kafka_settings.kafka_url} --alter --entity-type topics "
        f"--entity-name {name} --add-config {setting}={required[setting]}"
    )
    unwritable = [f"A partition of {name} has 1 replicas in sync and takes no records below 2."]
    assert [other.sentence for other in others] == (unwritable if setting == "min.insync.replicas" else [])
    await configure(kafka_settings, name, required)
    assert await admin.check(kafka_settings) == []


async def test_a_topic_of_ours_that_the_catalogue_lacks_is_reported(kafka_settings: KafkaSettings) -> None:
    assert await admin.unknown_topics(kafka_settings) == []
    name = f"{kafka_settings.topic_prefix}booking.rumours"
    async with admin.open_admin(kafka_settings) as broker:
        await broker.create({name: {}})
        try:
            [mismatch] = await wait_until(lambda: admin.unknown_topics(kafka_settings))
            without_prefix = await admin.unknown_topics(kafka_settings.model_copy(update={"topic_prefix": ""}))
        finally:
            await broker.delete([name])

    assert not mismatch.fatal
    assert mismatch.sentence == f"The topic {name} is not in the catalogue."
    assert mismatch.mend.endswith(f"--bootstrap-server {kafka_settings.kafka_url} --delete --topic {name}")
    assert name not in {each.topic for each in without_prefix}, "other systems may share the broker"


async def test_a_producers_clock_where_the_brokers_is_needed_is_fatal(kafka_settings: KafkaSettings) -> None:
    await admin.delete(kafka_settings)
    await admin.create(kafka_settings.model_copy(update={"topic_create_time": True}))

    mismatches = await admin.check(kafka_settings, [BOOKING_COMMANDS])

    assert ["message.timestamp.type=CreateTime" in mismatch.sentence for mismatch in mismatches if mismatch.fatal] == [
        True
    ]


async def test_a_replayed_trace_keeps_its_own_time(kafka_settings: KafkaSettings) -> None:
    replay = kafka_settings.model_copy(update={"topic_create_time": True})
    await admin.delete(kafka_settings)
    await admin.create(replay)
    assert await admin.check(replay) == []
    summer_2014_ms = 1_404_000_000_000

    assert await sent_at(replay, summer_2014_ms) == summer_2014_ms


async def test_live_topics_carry_the_brokers_time(kafka_settings: KafkaSettings) -> None:
    summer_2014_ms = 1_404_000_000_000

    assert await sent_at(kafka_settings, summer_2014_ms) > 1_700_000_000_000


async def sent_at(settings: KafkaSettings, timestamp_ms: int) -> int:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_url) as producer:
        name = settings.topic(BOOKING_COMMANDS)
        metadata = await producer.send_and_wait(name, b"{}", timestamp_ms=timestamp_ms)
    return int(metadata.timestamp)


async def test_a_refusal_is_reported_in_the_brokers_words(kafka_settings: KafkaSettings) -> None:
    too_many = kafka_settings.model_copy(update={"topic_prefix": "refused.", "topic_replication": 3})

    with pytest.raises(admin.TopicsFailed, match="replication factor of 3"):
        await admin.create(too_many)


async def test_members_are_requested_again_while_another_coordinator_loads_the_group(
    kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = AIOKafkaClient.send
    refusals = [NotCoordinatorForGroupError.errno, GroupLoadInProgressError.errno]

    async def refused_first(client: AIOKafkaClient, node: int, request: Any) -> Any:
        if isinstance(request, FindCoordinatorRequest) and refusals:
            return SimpleNamespace(error_code=refusals.pop())
        return await send(client, node, request)

    monkeypatch.setattr(AIOKafkaClient, "send", refused_first)
    async with admin.open_admin(kafka_settings) as broker:
        assert await broker.members("nobody-is-in-it") == {}

    assert refusals == []


async def test_members_of_a_group_without_a_coordinator_are_none_but_their_names_are_not_known(
    kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = AIOKafkaClient.send

    async def without_coordinator(client: AIOKafkaClient, node: int, request: Any) -> Any:
        if isinstance(request, FindCoordinatorRequest):
            return SimpleNamespace(error_code=GroupCoordinatorNotAvailableError.errno)
        return await send(client, node, request)

    monkeypatch.setattr(AIOKafkaClient, "send", without_coordinator)
    async with admin.open_admin(kafka_settings) as broker:
        assert await broker.members("its-coordinator-starts") == {}
        with pytest.raises(admin.TopicsFailed, match="its-coordinator-starts"):
            await broker.member_names("its-coordinator-starts")


class Lagging:
    """A client of two brokers, of which the second learns of a new topic later than the first."""

    def __init__(self, lag: int, silent: int | None = None) -> None:
        self.lag, self.silent = lag, silent
        self.cluster = SimpleNamespace(brokers=lambda: [SimpleNamespace(nodeId=1), SimpleNamespace(nodeId=2)])

    async def force_metadata_update(self) -> None:
        """Read the brokers anew."""

    def get_random_node(self) -> int:
        return 1

    async def send(self, node: int, _: Any) -> Any:
        if node == self.silent:
            raise NodeNotReadyError
        if node == 2:
            self.lag -= 1
        if node == 2 and self.lag >= 0:
            return SimpleNamespace(topics=[(UnknownTopicOrPartitionError.errno, "new", bytes(16), False, [])])
        return SimpleNamespace(topics=[(0, "new", bytes(16), False, [(0, 0, 1)])])


async def test_a_topic_is_there_when_each_broker_knows_its_leaders(kafka_settings: KafkaSettings) -> None:
    client = Lagging(lag=3)

    await admin.Admin(cast("Any", client), kafka_settings).until_led(["new"])

    assert client.lag < 0


async def test_a_broker_that_does_not_answer_holds_up_no_new_topic(kafka_settings: KafkaSettings) -> None:
    client = Lagging(lag=0, silent=2)

    await admin.Admin(cast("Any", client), kafka_settings).until_led(["new"], within_seconds=5)


async def test_a_topic_that_no_broker_knows_is_not_there(kafka_settings: KafkaSettings) -> None:
    client = Lagging(lag=10**9)

    with pytest.raises(admin.TopicsFailed, match="No leader after 0 s for: new"):
        await admin.Admin(cast("Any", client), kafka_settings).until_led(["new"], within_seconds=0.1)


async def test_a_broker_that_is_down_is_a_plain_error(kafka_settings: KafkaSettings) -> None:
    away = kafka_settings.model_copy(update={"kafka_url": f"127.0.0.1:{free_port()}"})

    with pytest.raises(KafkaError):
        await admin.check(away)
