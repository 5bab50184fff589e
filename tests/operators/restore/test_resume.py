"""The last command of a partition is found at the position that its events name; a clock decides only without one."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from aiokafka import TopicPartition

from operators.restore import NotRestored
from operators.restore.resume import find
from topics.envelope import Envelope
from topics.kafka.log_reader import LogReader, OffsetAndTime, OffsetRange
from workers.runtime.role import Received

COMMANDS = TopicPartition("booking.commands", 3)
NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
NOON_MS = round(NOON.timestamp() * 1000)


@dataclass(frozen=True)
class Command:
    """A record of `booking.commands`, as far as `find` looks at it."""

    offset: int
    id: str
    timestamp: int = NOON_MS

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        return [("ce_id", self.id.encode())]


class Reader:
    """A partition of commands; `is_asked_for_times`: whether a clock was used."""

    def __init__(self, *commands: Command, first: int = 0) -> None:
        self._commands = [command for command in commands if command.offset >= first]
        self._range = OffsetRange(first, max(command.offset for command in commands) + 1)
        self.is_asked_for_times = False

    async def ranges(self, partitions: list[TopicPartition]) -> dict[TopicPartition, OffsetRange]:
        return dict.fromkeys(partitions, self._range)

    async def offsets_and_times_at(
        self, times_ms: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTime | None]:
        self.is_asked_for_times = True
        later = [each for each in self._commands if each.timestamp >= times_ms[COMMANDS]]
        return {COMMANDS: OffsetAndTime(later[0].offset, later[0].timestamp) if later else None}

    async def records(self, ranges: Mapping[TopicPartition, OffsetRange]) -> AsyncGenerator[Command, None]:
        for command in self._commands:
            if ranges[COMMANDS].first <= command.offset < ranges[COMMANDS].end:
                yield command


def event(causation: str, position: str | None) -> Received:
    """Return an event that follows from a command, and names its position or does not."""
    envelope = Envelope(
        id=f"{causation}:1",
        type="booking.reserved.v1",
        source="test",
        subject="",
        time=NOON,
        causation=causation,
        causation_position=position,
    )
    return Received(envelope, None, cast("Any", None), NOON)


async def found(reader: Reader, *events: Received) -> tuple[list[int], bool]:
    """Return the offsets of the commands that are found, and whether a clock was used for it."""
    commands = await find(cast("LogReader", reader), COMMANDS, events)
    return [record.offset for record in commands.decided], reader.is_asked_for_times


async def test_a_command_is_the_record_at_the_position_and_no_other_of_its_id() -> None:
    reader = Reader(Command(4, "a"), Command(5, "a"), Command(6, "b"))

    assert await found(reader, event("a", "booking.commands[3]@5")) == ([5], False)


async def test_commands_of_one_moment_with_one_id_are_each_at_their_positions() -> None:
    reader = Reader(Command(4, "a"), Command(5, "a"), Command(6, "a"))

    events = (event("a", "booking.commands[3]@6"), event("a", "booking.commands[3]@4"))

    assert await found(reader, *events) == ([4, 6], False)


async def test_a_command_that_retention_deleted_is_not_looked_for() -> None:
    reader = Reader(Command(8, "a", NOON_MS + 1), Command(9, "b", NOON_MS + 2), first=8)

    assert await found(reader, event("a", "booking.commands[3]@5")) == ([], True)


async def test_of_commands_that_retention_divided_the_later_ones_are_left() -> None:
    reader = Reader(Command(8, "a", NOON_MS + 1), Command(9, "b", NOON_MS + 2), first=8)

    events = (event("a", "booking.commands[3]@8"), event("a", "booking.commands[3]@5"))

    assert await found(reader, *events) == ([8], True)


@pytest.mark.parametrize("time_ms", [NOON_MS, NOON_MS - 1])
async def test_a_position_before_the_first_record_is_not_believed_if_that_record_is_no_later(time_ms: int) -> None:
    reader = Reader(Command(8, "b", time_ms), Command(9, "a"), first=8)

    assert await found(reader, event("a", "booking.commands[3]@5")) == ([9], True)


async def test_a_topic_of_older_commands_is_not_taken_for_one_that_retention_shortened() -> None:
    reader = Reader(Command(8, "b", NOON_MS - 1), Command(9, "c"), first=8)

    with pytest.raises(NotRestored, match="does not have command a"):
        await found(reader, event("a", "booking.commands[3]@5"))


@pytest.mark.parametrize(
    "position", [None, "no position", "booking.commands[3]@4", "booking.commands[3]@99", "booking.commands[2]@5"]
)
async def test_without_a_position_that_leads_to_it_a_command_is_found_by_its_time_and_id(position: str | None) -> None:
    reader = Reader(Command(4, "b", NOON_MS - 1000), Command(5, "a"), Command(6, "b"), Command(7, "a", NOON_MS + 1000))

    assert await found(reader, event("a", position)) == ([5], True)


async def test_a_log_that_never_had_the_command_is_refused() -> None:
    reader = Reader(Command(4, "b", NOON_MS - 1000), Command(5, "c"))

    with pytest.raises(
        NotRestored, match=r"booking.commands\[3\] does not have command a, which led to the last event"
    ):
        await found(reader, event("a", "booking.commands[3]@5"))
