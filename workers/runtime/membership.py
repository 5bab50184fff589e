"""A worker's membership of its consumer group: a rebalance takes from it only the partitions that it loses.

aiokafka lets all partitions go before it joins, and then waits until every member has joined and the group's leader has
assigned: for ten seconds or more if one of them dies meanwhile. Two workers may read the same partition for a moment,
since the cursor rows in PostgreSQL let only one of them write. So this member reads its partitions until it knows the
new assignment, and goes on without a break if that is the old one. Kafka's own clients have the same since KIP-429.

A named worker whose place was taken by another process of the same name ends; else each would take it from the other,
again and again. A new coordinator of the group may know an older member of ours by this name, as the old one died
before it had written the newer one down. So the worker joins anew the first time, and ends when it loses its place once
more within a session: no other process than one that lives takes it twice. Of two processes, the other one learns
within a heartbeat that it lost its place, takes it back the same way, and remains.
"""

import logging
from time import monotonic
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment, Subscription
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import UnknownMemberIdError

from workers.runtime.role import Stopped
from workers.runtime.stopping import stop_hard

log = logging.getLogger(__name__)

#: The broker keeps the partitions of a silent member for so long.
SESSION_SECONDS: Final = 10
#: FENCED_INSTANCE_ID of the Kafka protocol: another member has this name. aiokafka 0.14 has no error for it.
_FENCED_INSTANCE_ID: Final = 82


class Membership(GroupCoordinator):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's member of a group, changed as above. All of it runs in the thread of the Kafka client."""

    #: Whether the partitions of the last assignment are being read.
    _reads = False
    #: The id of a membership that the broker has ended; it is sent once more, to learn who has the name now.
    _former_member_id = ""
    #: Until then a second loss of the place counts; in seconds of the monotonic clock.
    _fenced_until = 0.0

    @classmethod
    def adopt(cls, consumer: AIOKafkaConsumer) -> None:
        """Make the consumer, which has just started and is not subscribed, such a member."""
        consumer._coordinator.__class__ = cls  # noqa: SLF001 - there is no setting for the class of the coordinator

    def reset_generation(self) -> None:
        """Forget a membership that the broker has ended; all partitions may have been assigned to others."""
        if self.generation > 0 and self._group_instance_id is not None:
            self._former_member_id = self.member_id
        super().reset_generation()
        # This may come between two attempts to join, after the partitions were kept for the first.
        self._performed_join_prepare = not self._reads

    async def _on_join_prepare(self, previous_assignment: Assignment | None) -> None:
        if self.generation > 0 and previous_assignment is not None and previous_assignment.active:
            # A change of the topics' partitions counts as noticed when the group assigns them, which begins now.
            self._group_subscription = None
        else:
            await self._let_go(previous_assignment)

    async def _let_go(self, held: Assignment | None) -> None:
        self._reads = False
        await super()._on_join_prepare(held)

    async def _do_rejoin_group(self, subscription: Subscription) -> bool:
        if self._former_member_id:
            self.member_id, self._former_member_id = self._former_member_id, ""
        joined: bool = await super()._do_rejoin_group(subscription)
        return joined

    async def _on_join_complete(self, generation: int, member_id: str, protocol: str, assigned: bytes) -> None:
        held = self._subscription.subscription.assignment if self._reads else None
        if held is not None:
            if set(ConsumerProtocol.ASSIGNMENT.decode(assigned).partitions()) == held.tps:
                log.info("the partitions are the same in generation %d", generation)
                return
            # Letting go takes as long as a batch. The broker must not take this process for dead meanwhile.
            self._start_heartbeat_task()
            await self._let_go(held)
        self._reads = True
        await super()._on_join_complete(generation, member_id, protocol, assigned)

    async def _send_req(self, request: Any) -> Any:
        response = await super()._send_req(request)
        if getattr(response, "error_code", None) == _FENCED_INSTANCE_ID and not self._closing.done():
            now = monotonic()
            if now < self._fenced_until:
                stop_hard(Stopped(taken(self._group_instance_id)))
            log.warning("the broker knows another member with the name %s; joining anew", self._group_instance_id)
            self._fenced_until = now + SESSION_SECONDS
            # aiokafka joins without an id after this error.
            response.error_code = UnknownMemberIdError.errno
        return response


def taken(name: str | None) -> str:
    """Return the last words of a process whose name another process has taken."""
    return (
        f"Another process with the name {name} has taken the place of this one. A name belongs to one process:"
        " end one of the two, or give it a name of its own."
    )
