"""The injector copies what it should, and the checks of poison can fail."""

import random
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults.rows.messages import (
    COPIED,
    LARGE_BYTES,
    MAX_DELAY_SECONDS,
    Injector,
    note_copies,
    poison_commands,
    poison_webhooks,
    unexplained_letters,
)
from tests.faults.scenes import empty_scene
from tests.system.pipeline.load import Room
from topics.catalogue import BOOKING_COMMANDS, STRIPE_WEBHOOKS
from topics.envelope import Outgoing
from topics.kafka.positions import LogPosition
from workers.payments.webhooks import NotUnderstood, objects_of, read_event
from workers.runtime.records import MAX_COMMAND_BYTES, MAX_DEAD_LETTER_BYTES

ROOM = Room(hotel_id=1, id=7, weight=1.0)


class Broker:
    """Takes copies, and gives each the next offset."""

    def __init__(self) -> None:
        self.written: list[Outgoing] = []

    async def send_all(self, records: list[Outgoing]) -> list[LogPosition]:
        first = 1_000 + len(self.written)
        self.written += records
        return [LogPosition(record.topic, 0, first + number) for number, record in enumerate(records)]


def record(offset: int) -> Any:
    value, headers = b"%d" % offset, [("ce_id", b"%d" % offset)]
    return SimpleNamespace(topic="events", partition=0, offset=offset, key=b"7", value=value, headers=headers)


async def test_copies_have_the_same_bytes_overtake_each_other_and_are_not_copied_again() -> None:
    injector, broker = Injector(random.Random(1)), Broker()
    for offset in range(100):
        injector.see(record(offset), now=0.0)
    await injector.write(broker, injector.take_due(0.0))  # type: ignore[arg-type]
    at_once = len(broker.written)
    await injector.write(broker, injector.take_due(MAX_DELAY_SECONDS))  # type: ignore[arg-type]

    assert 0 < at_once < len(broker.written) < 100
    values = [int(copy.value) for copy in broker.written]
    assert values != sorted(values)
    assert len(set(values)) == len(values)
    assert {(copy.partition, copy.key, tuple(copy.headers)) for copy in broker.written} == {
        (0, b"7", (("ce_id", copy.value),)) for copy in broker.written
    }
    for number in range(len(broker.written)):
        injector.see(record(1_000 + number), now=0.0)
    assert injector.take_due(MAX_DELAY_SECONDS) == []


def test_copies_were_seen_only_if_each_topic_has_some() -> None:
    scene, other = empty_scene(), empty_scene()
    note_copies(scene, {"commands": 3}, ["commands", "events"])
    note_copies(other, {"commands": 3, "events": 1}, ["commands", "events"])

    assert (scene.causes[COPIED], other.causes[COPIED]) == (0, 1)


@pytest.mark.parametrize("poison", poison_webhooks(STRIPE_WEBHOOKS.name, ROOM), ids=lambda poison: poison.reason)
def test_each_poisoned_webhook_is_one(poison: Any) -> None:
    with pytest.raises(NotUnderstood, match=poison.reason.partition("(")[0]):
        objects_of(read_event(poison.record.value))


def test_the_large_command_is_too_large_to_be_decided_and_small_enough_for_a_dead_letter() -> None:
    (large,) = (each for each in poison_commands(BOOKING_COMMANDS.name, ROOM, 8) if each.reason == "larger than")

    assert MAX_COMMAND_BYTES < LARGE_BYTES < len(large.record.value) < MAX_DEAD_LETTER_BYTES


def test_a_record_that_is_no_dead_letter_or_one_for_another_reason_is_found() -> None:
    expected = {"booking.commands[3]@17": "UnknownType"}
    letter = {"origin": "booking.commands[3]@17", "reason": "UnknownType: booking.dance.v1"}

    assert unexplained_letters(expected, [letter]) == []
    assert unexplained_letters(expected, [])
    assert unexplained_letters(expected, [letter | {"reason": "larger than 1 byte"}])
