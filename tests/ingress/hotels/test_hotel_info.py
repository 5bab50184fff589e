"""A hotel's public description: its rooms, and the price of a stay in each of them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from ingress.stays import today_at
from sandbox.ports import free_port
from storage.settings import DatabaseSettings
from tests.ingress.clocks import keep_the_day
from tests.ingress.conftest import ingress_settings, run_ingress
from tests.ingress.house import TODAY, House
from tests.support.hotels import HotelsInTables
from tests.support.locks import somebody_waits
from tests.support.waiting import wait_until
from topics.kafka.settings import KafkaSettings

FIRST = TODAY + timedelta(days=30)


@pytest.fixture
async def connection(database: DatabaseSettings) -> AsyncIterator[psycopg.AsyncConnection]:
    """The database, with a hotel that has two room types, of which the second is being opened."""
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        hotels = HotelsInTables(connection)
        await hotels.hotel(stars=4, latitude=41.15, longitude=-8.61, time_zone="Asia/Tokyo", check_in_time="16:30")
        await hotels.room(1, base_price_minor=9_000, total_count=5)
        await hotels.room(1, type="suite", base_price_minor=1, total_count=1, capacity=1, opening=True)
        yield connection


@pytest.fixture
async def house(connection: psycopg.AsyncConnection, database: DatabaseSettings) -> AsyncIterator[House]:
    """An ingress without a broker: a hotel is read without one."""
    kafka = KafkaSettings(_env_file=None, kafka_url=f"127.0.0.1:{free_port()}")
    async with run_ingress(ingress_settings(), kafka, database, ready=False) as house:
        yield house


async def on_sale(connection: psycopg.AsyncConnection, night: int, price_minor: int = 10_000, **values: Any) -> None:
    day = FIRST + timedelta(days=night)
    await HotelsInTables(connection).night(1, 1, day, total_count=5, price_minor=price_minor, **values)


async def stay(house: House, nights: int = 2, **query: Any) -> dict[str, Any]:
    """Return the fields of the hotel's one room that depend on the stay."""
    dates = {"check_in_date": str(FIRST), "check_out_date": str(FIRST + timedelta(days=nights))}
    response = await house.get("/v1/hotels/1/info", params=dates | query)
    assert response.status == 200, response
    (room,) = response.body["rooms"]
    return {name: room[name] for name in ("nights", "available", "total")}


async def test_a_hotel_shows_its_place_and_its_facts(house: House) -> None:
    hotel = (await house.get("/v1/hotels/1/info")).body

    (room,) = hotel.pop("rooms")
    assert hotel == {
        "id": 1,
        "name": "Mill",
        "city": "Porto",
        "currency": "EUR",
        "photos": [],
        "amenities": [],
        "contact": {"phone": None, "email": None, "address": None},
        "contact_phone": None,
        "contact_email": None,
        "stars": 4,
        "latitude": 41.15,
        "longitude": -8.61,
        "time_zone": "Asia/Tokyo",
        "check_in_time": "16:30",
        "check_out_time": "11:00",
    }
    assert room["type"] == "double"
    assert not {"nights", "available", "total"} & room.keys()


async def test_a_stay_costs_the_sum_of_its_nights_with_surge(house: House, connection: psycopg.AsyncConnection) -> None:
    await on_sale(connection, 0, 9_999, surge_milli=1_500, booked_count=1)
    await on_sale(connection, 1, 10_000, booked_count=1, reserved_count=2)
    await on_sale(connection, 2)

    assert await stay(house, rooms_count=2) == {
        "nights": [
            {"date": str(FIRST), "price": "149.99", "available": 4},
            {"date": str(FIRST + timedelta(days=1)), "price": "100.00", "available": 2},
        ],
        "available": 2,
        "total": "499.98",
    }
    assert (await stay(house, rooms_count=3))["total"] is None


async def test_a_stay_whose_amount_cannot_be_charged_has_no_total(
    house: House, connection: psycopg.AsyncConnection
) -> None:
    await on_sale(connection, 0, 25)
    await on_sale(connection, 1, 99_999_900)

    assert (await stay(house, nights=1)) == {
        "nights": [{"date": str(FIRST), "price": "0.25", "available": 5}],
        "available": 5,
        "total": None,
    }
    assert (await stay(house, nights=1, rooms_count=2))["total"] == "0.50"
    assert (await stay(house))["total"] == "999999.25"
    assert (await stay(house, rooms_count=2))["total"] is None


@pytest.mark.parametrize(
    ("currency", "price_minor", "nights", "price_from", "total"),
    [
        ("KWD", 12_345, ["12.350", "18.520"], "12.350", "30.870"),  # 18.5175
        ("MGA", 1_234_560, ["12346.00", "18518.00"], "12346.00", "30864.00"),  # 12,345.60 and 18,518.40
        ("ISK", 12_345, ["12345", "18518"], "12345", "30863"),  # 18,517.5
    ],
)
async def test_each_night_is_rounded_to_what_can_be_charged(
    house: House,
    connection: psycopg.AsyncConnection,
    *,
    currency: str,
    price_minor: int,
    nights: list[str],
    price_from: str,
    total: str,
) -> None:
    await connection.execute("update hotel set currency = %s", (currency,))
    await on_sale(connection, 0, price_minor, currency=currency)
    await on_sale(connection, 1, price_minor, surge_milli=1_500, currency=currency)

    found = await stay(house)

    assert ([night["price"] for night in found["nights"]], found["total"]) == (nights, total)
    (room,) = (await house.get("/v1/hotels/1/info")).body["rooms"]
    assert room["price_from"] == price_from


async def test_a_stay_with_a_night_that_is_closed_or_not_on_sale_cannot_be_had(
    house: House, connection: psycopg.AsyncConnection
) -> None:
    await on_sale(connection, 0)
    missing = await stay(house)
    assert (len(missing["nights"]), missing["available"], missing["total"]) == (1, 0, None)

    await on_sale(connection, 1, closed=True)
    closed = await stay(house)
    assert [night["available"] for night in closed["nights"]] == [5, 0]
    assert (closed["available"], closed["total"]) == (0, None)


async def test_a_hotel_its_rooms_and_their_prices_are_of_one_moment(
    house: House, connection: psycopg.AsyncConnection, database: DatabaseSettings
) -> None:
    async with connection.transaction():
        # The request stops half-way: it has read the hotel, and not yet its rooms.
        await connection.execute("lock table inventory in access exclusive mode")
        reading = asyncio.create_task(house.get("/v1/hotels/1/info"))
        await wait_until(lambda: somebody_waits(database), message="the request waits for the rooms")
        await connection.execute("update hotel set name = 'Old Mill'")
        await connection.execute("update room set base_price_minor = 11000")
    during, after = (await reading).body, (await house.get("/v1/hotels/1/info")).body

    assert (during["name"], during["rooms"][0]["base_price"]) == ("Mill", "90.00")
    assert (after["name"], after["rooms"][0]["base_price"]) == ("Old Mill", "110.00")


async def test_whether_a_stay_is_past_is_decided_by_the_hotels_own_clock(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_the_day(monkeypatch)
    today = today_at("Asia/Tokyo")

    def dates(first: int, end: int) -> dict[str, str]:
        return {
            "check_in_date": str(today + timedelta(days=first)),
            "check_out_date": str(today + timedelta(days=end)),
        }

    assert (await house.get("/v1/hotels/1/info", params=dates(0, 1))).status == 200
    for query, detail in (
        (dates(-1, 1), "check_in_date is in the past"),
        (dates(365, 366), "a stay must begin within 365 days from now"),
        (dates(1, 1), "check_out_date must be after check_in_date"),
        (dates(1, 32), "a stay is at most 30 nights"),
        ({"check_in_date": str(today)}, "check_out_date: is needed with check_in_date"),
        ({"check_out_date": str(today)}, "check_in_date: is needed with check_out_date"),
    ):
        response = await house.get("/v1/hotels/1/info", params=query)
        assert (response.status, response.body["detail"]) == (422, detail)
