"""A member of the group keeps or lets go its partitions, and its name, when the group changes around it."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.cluster import ClusterMetadata
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from workers.runtime import membership
from workers.runtime.membership import Membership

TOPIC = "booking.commands"
NAME = "reservations-1"


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Notes which partitions the member lets go and opens."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, set[int]]] = []

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self.calls.append(("let go", {number for _, number in revoked}))

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.calls.append(("opened", {number for _, number in assigned}))


class Member:
    """A member whose broker is the test."""

    def __init__(self, coordinator: Membership, listener: Listener) -> None:
        self.coordinator = coordinator
        self.listener = listener

    async def begin_rebalance(self) -> None:
        if not self.coordinator._performed_join_prepare:
            await self.coordinator._on_join_prepare(self.coordinator._subscription.subscription.assignment)
            self.coordinator._performed_join_prepare = True

    async def rebalance(self, generation: int, *partitions: int) -> list[tuple[str, set[int]]]:
        """Return the listener's calls from the begin of a rebalance until the member has these partitions."""
        self.listener.calls.clear()
        await self.begin_rebalance()
        self.coordinator.generation, self.coordinator.member_id = generation, f"{NAME}-{generation}"
        assigned = ConsumerProtocolMemberAssignment(0, [(TOPIC, list(partitions))], b"").encode()
        await self.coordinator._on_join_complete(generation, self.coordinator.member_id, "roundrobin", assigned)
        self.coordinator._performed_join_prepare = False
        return self.listener.calls


@pytest.fixture
async def member(monkeypatch: pytest.MonkeyPatch) -> Member:
    for task in ("_start_heartbeat_task", "start_commit_offsets_refresh_task"):
        monkeypatch.setattr(GroupCoordinator, task, lambda *_: None)
    listener, subscription = Listener(), SubscriptionState()
    client = SimpleNamespace(cluster=ClusterMetadata())
    coordinator = Membership(client, subscription, group_instance_id=NAME, enable_auto_commit=False)
    coordinator._coordination_task.cancel()
    subscription.subscribe({TOPIC}, listener)
    return Member(coordinator, listener)


async def test_a_member_that_gets_its_partitions_again_goes_on_without_a_break(member: Member) -> None:
    assert await member.rebalance(1, 0, 1) == [("let go", set()), ("opened", {0, 1})]

    assert await member.rebalance(2, 0, 1) == []
    assert not member.coordinator._subscription.reassignment_in_progress, "it may fetch"


async def test_a_member_lets_its_partitions_go_only_when_it_knows_the_new_ones(member: Member) -> None:
    await member.rebalance(1, 0, 1)

    member.listener.calls.clear()
    await member.begin_rebalance()
    assert member.listener.calls == []

    assert await member.rebalance(2, 1) == [("let go", {0, 1}), ("opened", {1})]


async def test_a_member_that_the_broker_has_removed_lets_its_partitions_go_at_once(member: Member) -> None:
    await member.rebalance(1, 0, 1)
    member.coordinator.reset_generation()

    member.listener.calls.clear()
    await member.begin_rebalance()
    assert member.listener.calls == [("let go", {0, 1})]

    member.listener.calls.clear()
    await member.begin_rebalance()
    assert await member.rebalance(2, 0, 1) == [("opened", {0, 1})]


async def test_a_member_that_is_removed_during_a_rebalance_lets_its_partitions_go(member: Member) -> None:
    await member.rebalance(1, 0, 1)
    await member.begin_rebalance()
    member.coordinator.reset_generation()

    member.listener.calls.clear()
    await member.begin_rebalance()
    assert member.listener.calls == [("let go", {0, 1})]


async def test_a_removed_member_asks_once_who_has_its_name_and_then_joins_anew(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    async def unknown(coordinator: Any, _: Any) -> bool:
        sent.append(coordinator.member_id)
        coordinator.reset_generation()
        return False

    monkeypatch.setattr(GroupCoordinator, "_do_rejoin_group", unknown)
    await member.rebalance(1, 0)
    member.coordinator.reset_generation()

    for _ in range(3):
        await member.coordinator._do_rejoin_group(member.coordinator._subscription.subscription)

    assert sent == [f"{NAME}-1", "", ""]


@pytest.fixture
def last_words(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """The errors with which the process would end."""
    words: list[Exception] = []
    monkeypatch.setattr(membership, "stop_hard", words.append)
    return words


class Answers:
    """A broker that gives each request the next of these answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *codes: int) -> None:
        self.left = list(codes)
        self.sent: list[str] = []
        monkeypatch.setattr(GroupCoordinator, "_send_req", lambda coordinator, _: self.answer(coordinator))

    async def answer(self, coordinator: GroupCoordinator) -> Any:
        self.sent.append(coordinator.member_id)
        return SimpleNamespace(error_code=self.left.pop(0))


@pytest.mark.parametrize(
    ("codes", "ends"), [([0, 0], False), ([25, 25], False), ([82, 0], False), ([82, 82], True), ([82, 0, 25, 82], True)]
)
async def test_a_member_that_is_fenced_twice_within_a_session_ends_and_logs_why(
    member: Member, monkeypatch: pytest.MonkeyPatch, last_words: list[Exception], codes: list[int], *, ends: bool
) -> None:
    answers = Answers(monkeypatch, *codes)

    while answers.left:
        await member.coordinator._send_req(None)

    assert [NAME in str(words) for words in last_words] == [True] * ends


async def test_a_member_that_is_fenced_seldom_works_on(
    member: Member, monkeypatch: pytest.MonkeyPatch, last_words: list[Exception]
) -> None:
    now = 1000.0
    monkeypatch.setattr(membership, "monotonic", lambda: now)
    Answers(monkeypatch, 82, 82)

    await member.coordinator._send_req(None)
    now += membership.SESSION_SECONDS
    await member.coordinator._send_req(None)

    assert last_words == []


async def test_a_member_whose_name_a_new_coordinator_has_under_an_older_id_joins_anew(
    member: Member, monkeypatch: pytest.MonkeyPatch, last_words: list[Exception]
) -> None:
    await member.rebalance(1, 0)
    member.coordinator.reset_generation()
    member.coordinator._assignors = (RoundRobinPartitionAssignor,)
    member.coordinator._retry_backoff_ms = 0
    answers = Answers(monkeypatch, 82, 14)

    for _ in range(2):
        assert not await member.coordinator._do_rejoin_group(member.coordinator._subscription.subscription)

    assert answers.sent == [f"{NAME}-1", ""]
    assert last_words == []
