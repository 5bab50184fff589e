"""Creates our topics on the broker, compares them with the catalogue, and reads the ids of their generations.

The broker never creates a topic by accident (auto-creation is off): this module alone creates topics. aiokafka 0.14's
admin client cannot send `topics.kafka.metadata`'s request, so all requests go through its plain client (ADR 0019).
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    InvalidReplicationFactorError,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.admin import (
    AlterConfigsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    DescribeConfigsRequest,
    DescribeGroupsRequest,
)
from aiokafka.protocol.api import Request
from aiokafka.protocol.coordination import FindCoordinatorRequest

from topics import ended_connections
from topics.catalogue import CATALOGUE, Topic
from topics.kafka.metadata import DescribeTopicsRequest
from topics.kafka.settings import KafkaSettings
from topics.kafka.silent_brokers import give_up_silent_brokers
from topics.kafka.starting import start_client

# A little above the largest request that our producer sends.
MAX_MESSAGE_BYTES: Final = 9 * 1024 * 1024
_TEN_YEARS_MS: Final = 10 * 365 * 24 * 3600 * 1000
_ANY_DISTANCE_MS: Final = 2**63 - 1
#: The settings of a topic that keeps its producer's times, however old they are.
_OWN_TIMES: Final = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": str(_ANY_DISTANCE_MS),
    "message.timestamp.after.max.ms": str(_ANY_DISTANCE_MS),
    "retention.ms": "-1",
    "segment.ms": str(_TEN_YEARS_MS),
}
_TOPIC_RESOURCE: Final = 2
_BROKER_POLL_SECONDS: Final = 0.02
_LAG_SECONDS: Final = 30.0
_REQUEST_MS: Final = 15_000
_UNANSWERED: Final = (KafkaConnectionError, NodeNotReadyError, RequestTimedOutError)


class TopicsFailed(Exception):
    """The broker refused a request about our topics or groups; the message is the broker's."""


class Passing(TopicsFailed):
    """A refusal that ends by itself: a new coordinator loads the group, or a cluster has not all its brokers yet."""


class _NoCoordinator(TopicsFailed):
    """No broker coordinates the group yet: the broker starts, or has never coordinated a group."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicState:
    """A topic on the broker. `id` is new each time a topic of this name is created.

    `replication` and `in_sync` are the smallest numbers of replicas, and of replicas in sync, among its partitions.
    """

    id: str
    partitions: int
    replication: int
    in_sync: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A member of a consumer group: the name under which the broker knows it, and its address."""

    name: str
    host: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Mismatch:
    """A difference between broker and catalogue. `fatal`: no process may start before it is mended."""

    topic: str
    sentence: str
    mend: str
    fatal: bool

    def __str__(self) -> str:
        return f"{self.sentence} {self.mend}"


async def create(settings: KafkaSettings, topics: Collection[Topic] = CATALOGUE) -> list[str]:
    """Create those topics of the catalogue that are missing; return their names on the broker.

    Repeatable, and safe to run from several processes at once. Returns when every partition has a leader.

    Raises:
        TopicsFailed: the broker refuses to create a topic.
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    configurations = {settings.topic(topic): topic_configuration(settings, topic) for topic in topics}
    async with open_admin(settings) as admin:
        created = await admin.create(configurations)
        await admin.until_led(configurations)
    return created


async def check(settings: KafkaSettings, topics: Collection[Topic] = CATALOGUE) -> list[Mismatch]:
    """Return every difference between the broker's topics and the catalogue.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    names = [settings.topic(topic) for topic in topics]
    async with open_admin(settings) as admin:
        states = await admin.describe(names)
        configurations = await admin.configurations(states)
    found: list[Mismatch] = []
    for topic in topics:
        name = settings.topic(topic)
        if name not in states:
            found.append(_missing(name))
            continue
        found += _shape_mismatches(settings, name, states[name])
        found += _configuration_mismatches(settings, name, topic_configuration(settings, topic), configurations[name])
        found += _unwritable(settings, name, states[name], configurations[name])
    return found


async def unknown_topics(settings: KafkaSettings) -> list[Mismatch]:
    """Return the topics with our prefix, or without a prefix with a family name of ours, that the catalogue lacks.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    ours = {settings.topic(topic) for topic in CATALOGUE}
    families = tuple({settings.topic_prefix or f"{topic.name.partition('.')[0]}." for topic in CATALOGUE})
    async with open_admin(settings) as admin:
        names = await admin.names()
    return [
        Mismatch(
            topic=name,
            sentence=f"The topic {name} is not in the catalogue.",
            mend=f"If nobody needs it: {_tool(settings, 'kafka-topics')} --delete --topic {name}",
            fatal=False,
        )
        for name in sorted(names)
        if name.startswith(families) and name not in ours
    ]


async def topic_ids(settings: KafkaSettings, names: Collection[str]) -> dict[str, str]:
    """Return the broker's own id (a UUID) of each topic that exists; a topic that was created again has a new one.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached, or is too old to give topics ids.
    """
    async with open_admin(settings) as admin:
        return {name: state.id for name, state in (await admin.describe(names)).items()}


async def partition_counts(settings: KafkaSettings, names: Collection[str]) -> dict[str, int]:
    """Return the number of partitions of each topic that exists. Raises as `topic_ids`."""
    async with open_admin(settings) as admin:
        return {name: state.partitions for name, state in (await admin.describe(names)).items()}


async def check_group(settings: KafkaSettings, group: str) -> None:
    """Check that the consumer group has a coordinator and that we may use the group. Raises as `create`.

    A client that joins a group without the right to do so waits for ever, and logs nothing.
    """
    async with open_admin(settings) as admin:
        await admin.check_group(group)


async def delete(settings: KafkaSettings, topics: Collection[Topic] = CATALOGUE) -> None:
    """Delete those of our topics that exist, with all their records. Raises as `create`."""
    async with open_admin(settings) as admin:
        await admin.delete([settings.topic(topic) for topic in topics])


async def keeps_times(settings: KafkaSettings, topic: Topic) -> bool:
    """Return whether an existing topic keeps the times of its producers. Raises as `create`."""
    name = settings.topic(topic)
    async with open_admin(settings) as admin:
        found = await admin.configurations([name])
    return found[name].get("message.timestamp.type") == _OWN_TIMES["message.timestamp.type"]


async def create_with_own_times(settings: KafkaSettings, topic: Topic) -> None:
    """Create an empty topic anew, so that it keeps the times of its producers until `configure`.

    Events that are put back on a log keep the times that they had. No other process of ours starts with such a topic.
    A change of the setting would take effect on the broker at some later moment. Raises as `create`.
    """
    await delete(settings, [topic])
    await create(settings.model_copy(update={"topic_create_time": True}), [topic])


async def configure(settings: KafkaSettings, topic: Topic) -> None:
    """Set an existing topic's settings to those of the catalogue. Raises as `create`."""
    async with open_admin(settings) as admin:
        await admin.configure(settings.topic(topic), topic_configuration(settings, topic))


def topic_configuration(settings: KafkaSettings, topic: Topic) -> dict[str, str]:
    """Return the broker's settings for a topic, by the broker's names.

    Live topics carry the broker's time. A trace brings its own times: however old they are, they must neither delete
    records nor roll segments, and no distance from the broker's clock is too great.
    """
    retention_ms = -1 if topic.retention is None else int(topic.retention.total_seconds() * 1000)
    configuration = {
        "cleanup.policy": "delete",
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(settings.topic_min_insync_replicas),
        "retention.bytes": "-1",
        "retention.ms": str(retention_ms),
        "unclean.leader.election.enable": "false",
    }
    if settings.topic_create_time:
        configuration |= _OWN_TIMES
    return configuration


@asynccontextmanager
async def open_admin(settings: KafkaSettings) -> AsyncIterator["Admin"]:
    """Open an `Admin` for the length of the block.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    client = AIOKafkaClient(**settings.client_options(), client_id="innkeeper-admin", request_timeout_ms=_REQUEST_MS)
    give_up_silent_brokers(client)
    try:
        try:
            await start_client(client.bootstrap())
        except KafkaConnectionError:
            reason = await _refusal(settings)
            raise KafkaConnectionError(f"no way in at {settings.kafka_url}: {reason}") from None
        yield Admin(client, settings)
    finally:
        await client.close()


class Admin:
    """Describes, creates and deletes topics. Requests go to any broker, which forwards them."""

    def __init__(self, client: AIOKafkaClient, settings: KafkaSettings) -> None:
        self._client = client
        self._settings = settings

    async def describe(self, names: Collection[str]) -> dict[str, TopicState]:
        """Return those of the named topics that exist, even if some of their partitions have no leader yet."""
        response = await self._ask(DescribeTopicsRequest(names))
        states: dict[str, TopicState] = {}
        for error, name, topic_id, _, partitions, *_ in response.topics if names else ():
            if not _is_unknown(error):
                _raise_for(error, name, None)
                states[name] = TopicState(
                    id=str(UUID(bytes=topic_id)),
                    partitions=len(partitions),
                    replication=min((len(replicas) for _, _, _, _, replicas, *_ in partitions), default=0),
                    in_sync=min((len(in_sync) for _, _, _, _, _, in_sync, *_ in partitions), default=0),
                )
        return states

    async def names(self) -> list[str]:
        """Return the names of all topics that we may describe, without the broker's own."""
        response = await self._ask(DescribeTopicsRequest(None))
        return [name for _, name, _, internal, *_ in response.topics if not internal]

    async def until_led(self, names: Collection[str], within_seconds: float = _LAG_SECONDS) -> None:
        """Wait until each broker knows a leader of every partition: then any can be asked, and records can be sent.

        Raises:
            TopicsFailed: some have none after `within_seconds`.
        """
        left = set(names)
        try:
            async with asyncio.timeout(within_seconds):
                await self._client.force_metadata_update()
                while left := await self._leaderless(names):
                    await asyncio.sleep(_BROKER_POLL_SECONDS)
        except TimeoutError:
            raise TopicsFailed(f"No leader after {within_seconds:.0f} s for: {', '.join(sorted(left))}.") from None

    async def create(self, configurations: Mapping[str, Mapping[str, str]]) -> list[str]:
        """Create topics with these settings; return the names of those that did not exist.

        A broker's metadata lag a little behind the cluster's, so this does not first ask which topics are missing.
        """
        partitions, replication = self._settings.topic_partitions, self._settings.topic_replication
        requested: list[tuple[Any, ...]] = [
            (name, partitions, replication, [], list(configuration.items()))
            for name, configuration in configurations.items()
        ]
        response = await self._ask(CreateTopicsRequest(requested, _REQUEST_MS, validate_only=False))
        created = []
        for name, error, message in response.topic_errors:
            if for_code(error) is not TopicAlreadyExistsError:
                _raise_for(error, name, message)
                created.append(name)
        return created

    async def delete(self, names: Collection[str]) -> None:
        """Delete those of the named topics that exist, and wait until the broker no longer shows them."""
        response = await self._ask(DeleteTopicsRequest(list(names), _REQUEST_MS))
        for name, error in response.topic_error_codes:
            if not _is_unknown(error):
                _raise_for(error, name, None)
        async with asyncio.timeout(_LAG_SECONDS):
            while await self.describe(names):
                await asyncio.sleep(_BROKER_POLL_SECONDS)

    async def configure(self, name: str, configuration: Mapping[str, str]) -> None:
        """Replace all settings of an existing topic."""
        resources: list[Any] = [(_TOPIC_RESOURCE, name, list(configuration.items()))]
        response = await self._ask(AlterConfigsRequest(resources))
        for error, message, _, named in response.resources:
            _raise_for(error, named, message)

    async def configurations(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the broker's settings of existing topics, by topic and by the broker's names."""
        resources = [(_TOPIC_RESOURCE, name, None) for name in names]
        if not resources:
            return {}
        response = await self._ask(DescribeConfigsRequest(resources, include_synonyms=False))
        found: dict[str, dict[str, str]] = {}
        for error, message, _, name, entries in response.resources:
            _raise_for(error, name, message)
            found[name] = {key: value for key, value, *_ in entries if value is not None}
        return found

    async def check_group(self, group: str) -> None:
        """Look up the group's coordinator. Raises TopicsFailed: there is none yet, or we have no right to the group."""
        response = await self._ask(FindCoordinatorRequest(group, 0))
        _raise_for(response.error_code, group, None)

    async def members(self, group: str) -> dict[TopicPartition, Member]:
        """Return the member of a consumer group that each partition is assigned to.

        Empty during a rebalance, and while no broker coordinates the group. Waits for a coordinator that is still
        loading the group, and for a new one if it does not answer.

        Raises:
            TopicsFailed: we have no right to the group, or it is not loaded within some time.
            aiokafka.errors.KafkaError: no coordinator answers within that time.
        """
        assigned: dict[TopicPartition, Member] = {}
        with suppress(_NoCoordinator):
            for member, assignment in await self._loaded_members(group):
                if assignment:
                    partitions = ConsumerProtocolMemberAssignment.decode(assignment).partitions()
                    assigned |= dict.fromkeys(partitions, member)
        return assigned

    async def member_names(self, group: str) -> set[str]:
        """Return the names of a group's members, also in a rebalance. As `members`, but fails without a coordinator."""
        return {member.name for member, _ in await self._loaded_members(group)}

    async def _loaded_members(self, group: str) -> list[tuple[Member, bytes]]:
        clock = asyncio.get_running_loop().time
        deadline = clock() + _LAG_SECONDS
        while True:
            try:
                return await self._members(group)
            except (Passing, *_UNANSWERED):
                # A coordinator that hangs is replaced within seconds.
                if clock() >= deadline:
                    raise
                await asyncio.sleep(_BROKER_POLL_SECONDS)

    async def _members(self, group: str) -> list[tuple[Member, bytes]]:
        """Return the members of a group and their assignments, which are empty during a rebalance."""
        found = await self._ask(FindCoordinatorRequest(group, 0))
        if for_code(found.error_code) is GroupCoordinatorNotAvailableError:
            raise _NoCoordinator(f"No broker coordinates {group} yet.")
        _raise_for(found.error_code, group, None)
        # One group a request: aiokafka cannot read more in one answer.
        response = await self._client.send(found.coordinator_id, DescribeGroupsRequest([group]))
        members: list[tuple[Member, bytes]] = []
        for error, _, _, _, _, described in response.groups:
            _raise_for(error, group, None)
            members += [
                (Member(name=client_id, host=client_host.removeprefix("/")), assignment)
                for _, client_id, client_host, _, assignment in described
            ]
        return members

    async def _leaderless(self, names: Collection[str]) -> set[str]:
        nodes = [broker.nodeId for broker in self._client.cluster.brokers()]
        known = [led for led in await asyncio.gather(*(self._led(node, names) for node in nodes)) if led is not None]
        return {name for name in names if not known or any(name not in led for led in known)}

    async def _led(self, node: int, names: Collection[str]) -> set[str] | None:
        """Return the topics whose leaders the broker knows; None: it does not answer."""
        try:
            response = await self._client.send(node, DescribeTopicsRequest(names))
        except _UNANSWERED:
            return None
        return {
            name
            for error, name, _, _, partitions, *_ in response.topics
            if error == 0 and partitions and all(leader >= 0 for _, _, leader, *_ in partitions)
        }

    async def _ask(self, request: Request[Any]) -> Any:
        """Ask any broker, and another one if it does not answer: each of our requests may be repeated."""
        failed: KafkaError = KafkaError("The broker has no cluster metadata yet.")
        for _ in self._client.cluster.brokers():
            node = self._client.get_random_node()
            try:
                return await self._client.send(node, request)
            except _UNANSWERED as error:
                failed = error
        raise failed


async def _refusal(settings: KafkaSettings) -> str:
    """Connect to the first broker once more for the reason of its refusal, which the client only logs."""
    options = settings.client_options()
    host, port, _ = collect_hosts(options.pop("bootstrap_servers"), randomize=False)[0]
    protocol = f"KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}"
    try:
        with ended_connections.raises_os_error():
            connection = await create_conn(host, port, request_timeout_ms=_REQUEST_MS, **options)
    except (KafkaError, OSError) as error:
        return f"{error} ({protocol})"
    connection.close()
    return f"it answers and hangs up ({protocol})"


def _is_unknown(error: int) -> bool:
    return for_code(error) is UnknownTopicOrPartitionError


def _raise_for(error: int, name: str, message: str | None) -> None:
    if error != 0:
        kind = for_code(error)
        failed = Passing if kind.retriable or kind is InvalidReplicationFactorError else TopicsFailed
        raise failed(f"The broker refuses {name}: {message or kind.description} ({kind.message}).")


def _missing(name: str) -> Mismatch:
    return Mismatch(
        topic=name,
        sentence=f"The topic {name} does not exist.",
        mend="Create it: innkeeper topics create.",
        fatal=True,
    )


def _shape_mismatches(settings: KafkaSettings, name: str, state: TopicState) -> Iterable[Mismatch]:
    if state.partitions != settings.topic_partitions:
        yield Mismatch(
            topic=name,
            sentence=f"The topic {name} has {state.partitions} partitions, not {settings.topic_partitions}.",
            mend=(
                f"Set TOPIC_PARTITIONS={state.partitions}: the number decides which room is in which partition "
                "and must stay as it was when the topic was created."
            ),
            fatal=True,
        )
    if state.replication < settings.topic_replication:
        yield Mismatch(
            topic=name,
            sentence=f"The topic {name} has {state.replication} replicas, not {settings.topic_replication}.",
            mend=(
                f"Set TOPIC_REPLICATION={state.replication}, or write more replicas for each partition into a file: "
                f"{_tool(settings, 'kafka-reassign-partitions')} --execute --reassignment-json-file FILE"
            ),
            fatal=False,
        )


# A wrong value of one of these would lose or double records, or judge them by another clock.
_FATAL: Final = frozenset({"cleanup.policy", "message.timestamp.type"})
_CALL_AGAIN: Final = (
    "It is not whole: an innkeeper restore that fills it was interrupted. Call that one again; until it ends, no worker"
    " and no ingress starts. (The topic of a replay needs TOPIC_CREATE_TIME=true.)"
)


def _configuration_mismatches(
    settings: KafkaSettings, name: str, required: Mapping[str, str], actual: Mapping[str, str]
) -> Iterable[Mismatch]:
    is_being_filled = all(actual.get(key) == value for key, value in _OWN_TIMES.items())
    for key, value in required.items():
        # A broker that does not report a setting (the memory broker) is not checked for it.
        if key in actual and actual[key] != value:
            yield Mismatch(
                topic=name,
                sentence=f"The topic {name} has {key}={actual[key]}, not {value}.",
                mend=_CALL_AGAIN
                if is_being_filled
                else (
                    f"Set it: {_tool(settings, 'kafka-configs')} --alter --entity-type topics --entity-name {name} "
                    f"--add-config {key}={value}"
                ),
                fatal=key in _FATAL,
            )


def _unwritable(settings: KafkaSettings, name: str, state: TopicState, actual: Mapping[str, str]) -> Iterable[Mismatch]:
    needed = int(actual.get("min.insync.replicas", 1))
    if state.in_sync < needed:
        yield Mismatch(
            topic=name,
            sentence=f"A partition of {name} has {state.in_sync} replicas in sync and takes no records below {needed}.",
            mend=(
                "Start the brokers that are down; to list their partitions: "
                f"{_tool(settings, 'kafka-topics')} --describe --topic {name} --under-min-isr-partitions"
            ),
            fatal=False,
        )


def _tool(settings: KafkaSettings, name: str) -> str:
    """Return the beginning of a command line of Kafka's own tool."""
    return f"{name}.sh --bootstrap-server {settings.kafka_url}"
