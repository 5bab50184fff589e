"""Commands that no decision can be made about are dead letters, and never end a worker."""

from typing import Any, cast

import pytest
from aiokafka.structs import ConsumerRecord
from msgspec.structs import replace

from tests.support.scenario import NOON
from tests.workers.decisions.words import RESERVE, ROOM, but
from tests.workers.decisions.words_of_changes import LONGER_QUOTED, QUOTED_LONGER
from tests.workers.decisions.words_of_codes import CLAIM
from tests.workers.decisions.words_of_sale import QUOTED, RESERVE_QUOTED, SALE
from topics.catalogue import BOOKING_COMMANDS
from topics.kafka.partitions import partition_of
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import Command
from topics.messages.sale import Quoted
from workers.reservations.handler import Reservations
from workers.runtime.role import PartitionBatch, Received, Unreadable

KEY = b"%d" % ROOM
SETTINGS = KafkaSettings(_env_file=None)
PARTITION = partition_of(KEY, SETTINGS.topic_partitions)


def received(command: Command, key: bytes = KEY) -> Received:
    """Return the command as it is read from the log."""
    record: Any = ConsumerRecord(
        topic="booking.commands",
        partition=PARTITION,
        offset=0,
        timestamp=0,
        timestamp_type=0,
        key=key,
        value=b"",
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        headers=(),
    )
    return Received(None, command, record, NOON)


def read(command: Command, key: bytes = KEY) -> object:
    """Let the worker look at a command before it decides."""
    batch = PartitionBatch(BOOKING_COMMANDS, PARTITION, cast("Any", None))
    return Reservations(SETTINGS)._command(batch, received(command, key))


@pytest.mark.parametrize("command", [RESERVE, RESERVE_QUOTED, but(CLAIM, code_id=ROOM, reserve=RESERVE_QUOTED)])
def test_a_command_that_can_be_decided_is_read(command: Command) -> None:
    assert read(command) is command


@pytest.mark.parametrize(
    ("quoted", "reason"),
    [
        (replace(QUOTED, night_amounts_minor=(200_00,)), "an amount for each night"),
        (replace(QUOTED, night_amounts_minor=(100_00, 99_00)), "sum to its amount"),
        (replace(QUOTED, sale=replace(SALE, steps=())), "the last step"),
        (replace(QUOTED, sale=replace(SALE, no_show_kept_minor=10**18)), "nothing more is kept"),
    ],
)
def test_a_quote_that_is_no_price_of_the_stay_is_a_dead_letter(quoted: Quoted, reason: str) -> None:
    reserve = but(RESERVE, quoted=quoted)
    for command in (reserve, but(CLAIM, code_id=ROOM, reserve=reserve)):
        with pytest.raises(Unreadable, match=reason):
            read(command)


def test_a_quote_that_is_no_price_of_the_changed_stay_is_a_dead_letter() -> None:
    assert read(LONGER_QUOTED) is LONGER_QUOTED
    wrong = but(LONGER_QUOTED, quoted=replace(QUOTED_LONGER, amount_minor=1))
    with pytest.raises(Unreadable, match="sum to its amount"):
        read(wrong)


def test_a_command_about_a_code_has_the_key_of_the_code() -> None:
    with pytest.raises(Unreadable, match="code/31 is not decided in this partition"):
        read(CLAIM)


def test_a_command_of_another_room_than_its_key_is_a_dead_letter() -> None:
    with pytest.raises(Unreadable, match="is not decided in this partition"):
        read(RESERVE, key=b"8")
