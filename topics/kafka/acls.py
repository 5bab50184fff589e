"""The access rights of each role at a broker with access control, derived from the catalogue.

A right to read or to write includes the right to describe, and a right to write to any topic includes the right to an
idempotent producer (since Kafka 3.0); so neither is listed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from shlex import join
from typing import Final, Literal

from topics.catalogue import BOOKING_EVENTS, CATALOGUE, Service, Topic
from topics.consumers import PROCESSED_BY
from topics.kafka.settings import KafkaSettings

#: Every role compares the topics with the catalogue.
_COMPARE: Final = "DescribeConfigs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """The rights of one role to one topic or consumer group. `operations` have Kafka's own names."""

    role: str
    resource: Literal["topic", "group"]
    name: str
    operations: tuple[str, ...]

    def arguments(self, principal: str) -> str:
        """Return the arguments with which `kafka-acls.sh` allows this to a principal, such as `User:ingress`."""
        operations = [word for operation in self.operations for word in ("--operation", operation)]
        return join(["--add", "--allow-principal", principal, *operations, f"--{self.resource}", self.name])


def grants(settings: KafkaSettings) -> list[Grant]:
    """Return all rights of our roles, role by role; they need no others."""
    return [grant for role in Service if role.ours for grant in _grants_of(role, settings)]


def _grants_of(role: Service, settings: KafkaSettings) -> Iterator[Grant]:
    for topic in CATALOGUE:
        if operations := tuple(_operations(role, topic)):
            yield Grant(role=role, resource="topic", name=settings.topic(topic), operations=operations)
    if role in {Service.OPERATORS, Service.INGRESS}:
        # They show the assigned worker of each partition.
        for group in _in_groups():
            yield Grant(role=role, resource="group", name=settings.group(group), operations=("Describe",))
    if role in _in_groups():
        yield Grant(role=role, resource="group", name=settings.group(role), operations=("Read",))


def _in_groups() -> list[Service]:
    """Return our roles whose processes share partitions."""
    return [
        role for role in Service if role.ours and role.in_a_group and any(role in topic.read_by for topic in CATALOGUE)
    ]


def _operations(role: Service, topic: Topic) -> Iterator[str]:
    if role is Service.OPERATORS:
        # Operators create the topics and may read all; they write to replay records, and to mend or close refunds.
        yield from ("Create", "Read", *(["Write"] if topic.name in PROCESSED_BY else []), _COMPARE)
        return
    if role in topic.read_by or role is Service.INGRESS:
        # The ingress shows operators the records of every topic.
        yield "Read"
    if role in topic.written_by:
        yield "Write"
    if role in topic.read_by or role in topic.written_by:
        yield _COMPARE
    elif topic is BOOKING_EVENTS:
        # At its start every role looks at the log of events: it must be whole, and belong to the ledger.
        yield from ("Describe", _COMPARE)
