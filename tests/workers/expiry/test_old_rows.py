"""Rows about dead letters are deleted when the topic has long lost them, and not a day before."""

import asyncio
from datetime import timedelta
from typing import Any, cast

import pytest
from pydantic import ValidationError

from storage import dead_letters
from storage.database import connect
from storage.dead_letters import forget_old
from storage.settings import DatabaseSettings
from tests.support.waiting import wait_until
from tests.workers.expiry.timers import Connection
from topics.catalogue import DEAD_LETTERS
from workers.expiry import holds, old_rows
from workers.expiry.old_rows import OldRows

_DEAD_LETTER = """
insert into dead_letter (consumer, topic, partition, generation, "offset", reason, created_at)
select 'reservations', 'booking.commands', 0, 1, number, 'bad', now() - %s from generate_series(%s::int, %s) as number
"""
_END = """
insert into dead_letter_end (topic_id, partition, "offset", ended, who, began_at, done_at)
values ('id', 0, %s, 'replayed', 'ada', now() - %s::interval, now() - %s::interval)
"""
DAYS = 60
OLD, YOUNG = timedelta(days=DAYS, minutes=1), timedelta(days=DAYS, minutes=-1)


async def offsets(connection: Connection, table: str) -> list[int]:
    found = await connection.execute(f'select "offset" from {table} order by 1'.encode())
    return [offset async for (offset,) in found]


async def test_rows_that_are_too_old_are_deleted_and_no_others(connection: Connection) -> None:
    for first, age in ((1, OLD), (2, YOUNG)):
        await connection.execute(_DEAD_LETTER, (age, first, first))
    ends = ((1, OLD, OLD), (2, OLD, YOUNG), (3, OLD, None), (4, YOUNG, None))
    for end in ends:
        await connection.execute(_END, end)

    assert await forget_old(connection, DAYS) == 3

    assert await offsets(connection, "dead_letter") == [2]
    # A resolution counts from its end, and one that was never known to be done from its beginning.
    assert await offsets(connection, "dead_letter_end") == [2, 4]


async def test_very_many_are_deleted_some_at_a_time_without_a_pause(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MAX_FORGOTTEN", 10)
    monkeypatch.setattr(old_rows, "MAX_FORGOTTEN", 10)
    await connection.execute(_DEAD_LETTER, (OLD, 1, 25))
    keeper = OldRows(connection, kept_days=DAYS)
    left = []
    for _ in range(4):
        await keeper.forget()
        left.append(len(await offsets(connection, "dead_letter")))
        if left[-1] == 0:
            await connection.execute(_DEAD_LETTER, (OLD, 1, 1))

    # Then it waits for its time.
    assert left == [15, 5, 0, 1]


class NothingIsDue:
    """A timer and a horizon that have nothing to send."""

    async def sweep(self) -> float:
        return 0.0

    async def keep(self) -> None:
        pass


async def test_the_leader_deletes_them(connection: Connection, database: DatabaseSettings) -> None:
    await connection.execute(_DEAD_LETTER, (OLD, 1, 1))
    async with await connect(database, "innkeeper test") as leading:
        nothing, keeper = cast(Any, NothingIsDue()), OldRows(leading, kept_days=DAYS)
        with holds.HoldMetrics(leading) as metrics:
            task = asyncio.create_task(holds._lead(leading, nothing, nothing, keeper, metrics))

            async def is_gone() -> bool:
                return await offsets(connection, "dead_letter") == []

            await wait_until(is_gone, message="the old row is deleted")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def test_no_row_is_deleted_before_the_topic_has_lost_its_dead_letter() -> None:
    assert DEAD_LETTERS.retention is not None
    with pytest.raises(ValidationError, match="greater than or equal to 37"):
        DatabaseSettings(_env_file=None, dead_letters_kept_days=DEAD_LETTERS.retention.days)
