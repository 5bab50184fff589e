"""The baseline that the benchmarks compare us with is honest: it books what there is, and no more."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from benchmarks.row_locks.service import create_app
from ingress.settings import IngressSettings
from ingress.stays import today_at
from ingress.tokens import Tokens
from storage.settings import DatabaseSettings

SETTINGS = IngressSettings(_env_file=None, jwt_secret_key=SecretStr("a key that only this test knows, of some length"))
ROOM = 7
FIRST_NIGHT = today_at("UTC") + timedelta(days=30)


@pytest.fixture
async def service(database: DatabaseSettings) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(create_app(SETTINGS, database))) as client:
        client.session.headers["Authorization"] = f"Bearer {Tokens(SETTINGS).issue(1, ['GUEST'])}"
        yield client


async def open_nights(database: DatabaseSettings, nights: int, total: int) -> None:
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        for number in range(nights):
            await connection.execute(
                "insert into inventory (room_id, date, hotel_id, total_count, price_minor, currency)"
                " values (%s, %s, 1, %s, 10000, 'EUR')",
                (ROOM, FIRST_NIGHT + timedelta(days=number), total),
            )


async def ask(service: TestClient[Any, Any], check_in: date, nights: int) -> int:
    body = {
        "hotel_id": 1,
        "room_id": ROOM,
        "check_in_date": check_in.isoformat(),
        "check_out_date": (check_in + timedelta(days=nights)).isoformat(),
    }
    async with service.post("/v1/bookings/init", json=body) as answer:
        return answer.status


async def taken(database: DatabaseSettings) -> list[tuple[int, int]]:
    """Return for each night its reserved rooms in the inventory, and the number of its bookings."""
    async with await psycopg.AsyncConnection.connect(database.conninfo()) as connection:
        found = await connection.execute(
            "select reserved_count, (select count(*) from booking where date >= check_in and date < check_out)"
            " from inventory order by date"
        )
        return await found.fetchall()


async def test_the_baseline_sells_a_room_exactly_its_stock(
    service: TestClient[Any, Any], database: DatabaseSettings
) -> None:
    await open_nights(database, nights=1, total=20)

    answers = Counter(await asyncio.gather(*(ask(service, FIRST_NIGHT, 1) for _ in range(60))))

    assert answers == {201: 20, 409: 40}
    assert await taken(database) == [(20, 20)]


async def test_a_stay_that_finds_one_night_taken_takes_none(
    service: TestClient[Any, Any], database: DatabaseSettings
) -> None:
    await open_nights(database, nights=4, total=10)

    overlapping = [ask(service, FIRST_NIGHT + timedelta(days=number % 2), 3) for number in range(40)]
    answers = Counter(await asyncio.gather(*overlapping))

    # The two nights in the middle are wanted by all.
    assert answers == {201: 10, 409: 30}
    nights = await taken(database)
    assert [reserved for reserved, _ in nights] == [booked for _, booked in nights]
    assert [booked for _, booked in nights][1:3] == [10, 10]


async def test_nobody_books_without_a_token(service: TestClient[Any, Any], database: DatabaseSettings) -> None:
    await open_nights(database, nights=1, total=1)
    del service.session.headers["Authorization"]

    assert await ask(service, FIRST_NIGHT, 1) == 401
    assert await taken(database) == [(0, 0)]
