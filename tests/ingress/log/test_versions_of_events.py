"""A waiting request gets its decision in any version of the event, while workers are replaced one by one."""

import asyncio
from typing import Any, NamedTuple

import pytest

from ingress.log.waiters import Waiters
from topics.envelope import encode_value
from topics.kafka.settings import KafkaSettings
from topics.messages.events import InventoryChanged
from topics.messages.upcasting import written_as_older


class Record(NamedTuple):
    """A record of the log, with the fields that a waiting request reads."""

    headers: list[tuple[str, bytes]]
    value: bytes
    partition: int = 0
    offset: int = 0


@pytest.mark.parametrize("version", [1, 2])
async def test_a_manager_gets_the_answer_to_a_change_in_either_version(version: int) -> None:
    change = InventoryChanged(room_id=7, ranges=(), closed=True)
    older: Any = written_as_older(version).get(InventoryChanged, lambda event: event)
    waiters = Waiters(KafkaSettings(_env_file=None), asyncio.Event())
    with waiters.register("the command", (InventoryChanged,)) as answer:
        headers = [("ce_type", f"inventory.changed.v{version}".encode()), ("ce_causationid", b"the command")]

        waiters._dispatch([Record(headers, encode_value(older(change)))])

        assert answer.done()
        assert await answer == change
