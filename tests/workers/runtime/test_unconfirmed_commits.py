"""A commit worked and its answer was lost: the worker finds everything done, and does nothing again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import psycopg
import pytest

from storage.settings import DatabaseSettings
from tests.support.log import Log, open_processor, process_all
from topics.catalogue import BOOKING_COMMANDS, DEAD_LETTERS
from topics.envelope import Outgoing
from topics.messages.commands import OpenInventory
from topics.messages.events import InventoryOpened
from workers.reservations import handler


@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_an_unconfirmed_commit_is_published_once_and_never_done_again(
    log: Log, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    # Given a poison, a command behind it, and a connection that breaks right after a commit (first: the dead letter's).
    role = handler.build(log.settings, database)
    await log.write(Outgoing(log.settings.topic(BOOKING_COMMANDS), b"7", b"garbage", []))
    await log.send(nights_on_sale())
    async with open_processor(role, log, database) as processor:
        lose_an_answer(nth, monkeypatch)

        # When everything is processed.
        await process_all(processor, role, log)

    # Then the poison is one dead letter, and the command is decided once.
    dead_letters = [record for found in (await log.read(DEAD_LETTERS)).values() for record in found]
    assert [record.value for record in dead_letters] == [b"garbage"]
    assert await count(database, "dead_letter") == 1
    assert [type(event) for _, event in await log.events()] == [InventoryOpened]
    assert await count(database, "inventory") == 10


def nights_on_sale() -> OpenInventory:
    return OpenInventory(
        room_id=7,
        hotel_id=1,
        first_night=date(2027, 5, 1),
        end_night=date(2027, 5, 11),
        total_count=10,
        price_minor=10_000,
        currency="EUR",
    )


def lose_an_answer(nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the nth commit from now on work, and its connection fail before the answer."""
    begin = psycopg.AsyncConnection.transaction
    commits = 0

    @asynccontextmanager
    async def transaction(connection: psycopg.AsyncConnection[Any]) -> AsyncIterator[None]:
        nonlocal commits
        async with begin(connection):
            yield
        commits += 1
        if commits == nth:
            await connection.close()
            raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(psycopg.AsyncConnection, "transaction", transaction)


async def count(database: DatabaseSettings, table: str) -> int:
    async with await psycopg.AsyncConnection.connect(database.conninfo()) as connection:
        ((found,),) = await (await connection.execute(f"select count(*) from {table}".encode())).fetchall()
        return int(found)
