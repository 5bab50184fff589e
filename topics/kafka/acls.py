"""Who may do what at a broker that asks for names: what the catalogue says, in the broker's words.

A right to read or to write brings the right to describe with it, and a right to write to any topic the right to an
idempotent producer (since Kafka 3.0); so neither is named.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from shlex import join
from typing import Final, Literal

from topics.catalogue import CATALOGUE, Service, Topic
from topics.consumers import PROCESSED_BY
from topics.kafka.settings import KafkaSettings

#: Everybody at least compares the topics with the catalogue.
_COMPARE: Final = "DescribeConfigs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What one role may do with one topic, or as one consumer group. `operations` have Kafka's own names."""

    role: str
    resource: Literal["topic", "group"]
    name: str
    operations: tuple[str, ...]

    def arguments(self, principal: str) -> str:
        """Return the arguments with which `kafka-acls.sh` allows this to a principal, such as `User:ingress`."""
        operations = [word for operation in self.operations for word in ("--operation", operation)]
        return join(["--add", "--allow-principal", principal, *operations, f"--{self.resource}", self.name])


def grants(settings: KafkaSettings) -> list[Grant]:
    """Return everything that the roles of this house may do, role by role; whatever is not here they may not."""
    return [grant for role in Service if role.ours for grant in _grants_of(role, settings)]


def _grants_of(role: Service, settings: KafkaSettings) -> Iterator[Grant]:
    for topic in CATALOGUE:
        if operations := tuple(_operations(role, topic)):
            yield Grant(role=role, resource="topic", name=settings.topic(topic), operations=operations)
    if role in {Service.OPERATORS, Service.INGRESS}:
        # They tell who reads which partition.
        for group in _in_groups():
            yield Grant(role=role, resource="group", name=settings.group(group), operations=("Describe",))
    if role in _in_groups():
        yield Grant(role=role, resource="group", name=settings.group(role), operations=("Read",))


def _in_groups() -> list[Service]:
    """Return the roles of ours whose processes share partitions."""
    return [
        role for role in Service if role.ours and role.in_a_group and any(role in topic.read_by for topic in CATALOGUE)
    ]


def _operations(role: Service, topic: Topic) -> Iterator[str]:
    if role is Service.OPERATORS:
        # They make the topics and may look at everything; they write only to play again what stands there already.
        yield from ("Create", "Read", *(["Write"] if topic.name in PROCESSED_BY else []), _COMPARE)
        return
    if role in topic.read_by or role is Service.INGRESS:
        # The ingress shows operators what stands on the log, whatever its own work reads of it.
        yield "Read"
    if role in topic.written_by:
        yield "Write"
    if role in topic.read_by or role in topic.written_by:
        yield _COMPARE
