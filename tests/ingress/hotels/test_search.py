"""Guests who look for a hotel, over HTTP."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from ingress.hotels.search import freshness
from ingress.hotels.search.models import HotelHit, earliest_today, latest_today
from sandbox.ports import free_port
from storage.settings import DatabaseSettings
from tests.ingress.clocks import keep_the_day
from tests.ingress.conftest import AMPLE_SECONDS, ingress_settings, run_ingress, run_ingress_alone
from tests.ingress.hotels.town import Town, day, open_town
from tests.ingress.house import House
from tests.support.client import Answer
from topics.kafka.settings import KafkaSettings


@pytest.fixture
async def town(database: DatabaseSettings) -> AsyncIterator[Town]:
    """A town without hotels."""
    async with open_town(database) as town:
        yield town


@pytest.fixture
def no_kafka() -> KafkaSettings:
    """A broker that is away: a search needs none."""
    return KafkaSettings(_env_file=None, kafka_url=f"127.0.0.1:{free_port()}")


@pytest.fixture
async def house(
    town: Town, no_kafka: KafkaSettings, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    """An ingress whose searches find everything that was committed before."""
    monkeypatch.setattr(freshness, "FRESH_SECONDS", 0.0)
    async with run_ingress(ingress_settings(), no_kafka, database, ready=False) as house:
        yield house


async def search(house: House, nights: int = 2, first: int = 0, **query: Any) -> Answer:
    params = {"check_in_date": str(day(first)), "check_out_date": str(day(first + nights)), "city": "Porto"} | query
    params = {name: str(value) for name, value in params.items() if value is not None}
    return await house.get("/v1/hotels/search", params=params)


async def found(house: House, **query: Any) -> list[int]:
    """Return the ids of the hotels that are found, in order."""
    answered = await search(house, **query)
    assert answered.status == 200, answered
    return [hit["id"] for hit in answered.body]


# The hits.


async def test_a_guest_sees_the_cheapest_room_that_is_free_for_the_whole_stay(house: House, town: Town) -> None:
    hotel = await town.hotel(
        photos=["https://example.com/mill.jpg"], amenities=["wifi"], stars=4, latitude=41.15, longitude=-8.61
    )
    sold_out = await town.rooms(hotel, 5_000, total=1, type="attic")
    await town.sell(sold_out, first=1)
    suite = await town.rooms(hotel, 10_001, total=3, type="suite")
    await town.change(suite, 1, surge_milli=1_500)
    await town.sell(suite, first=1)
    await town.rooms(hotel, 20_000, type="palace")

    answered = await search(house, nights=3)

    # 100.01 + 150.015 (half-up: 150.02) + 100.01 = 350.04 a room, 116.68 a night
    assert answered.body == [
        {
            "id": hotel,
            "name": "Mill",
            "city": "Porto",
            "photos": ["https://example.com/mill.jpg"],
            "amenities": ["wifi"],
            "stars": 4,
            "latitude": 41.15,
            "longitude": -8.61,
            "distance_km": None,
            "currency": "EUR",
            "min_price": "116.68",
            "total": "350.04",
            "room_id": suite,
            "room_type": "suite",
            "rooms_left": 2,
            "plan_id": "standard",
            "plan_name": "Standard",
            "meals": "none",
            "payment": "prepaid",
            "due_at_hotel": "0.00",
            "refundable": True,
            "free_until": f"{day(0)}T15:00:00Z",
        }
    ]
    assert answered.headers["Cache-Control"] == "public, max-age=1"
    assert "Link" not in answered.headers
    shown = [HotelHit.model_validate(hit).model_dump(mode="json", exclude_unset=True) for hit in answered.body]
    assert shown == answered.body


async def test_two_rooms_cost_twice_as_much_and_have_the_same_price_a_night(house: House, town: Town) -> None:
    await town.rooms(await town.hotel(), 10_000, total=3)

    (hit,) = (await search(house, rooms_count=2)).body

    assert (hit["min_price"], hit["total"], hit["rooms_left"]) == ("100.00", "400.00", 3)
    assert await found(house, rooms_count=4) == []


async def test_a_night_that_is_closed_sold_out_or_not_on_sale_is_not_free(house: House, town: Town) -> None:
    room = await town.rooms(await town.hotel(), 10_000, nights=4, total=1)
    await town.change(room, 0, closed=True)
    await town.sell(room, first=3)

    assert await found(house, first=0, nights=2) == []
    assert await found(house, first=1, nights=2) == [1]
    assert await found(house, first=2, nights=2) == []
    await town.open(room, 10_000, first=6, nights=1)
    await town.open(room, 10_000, first=4, nights=1)
    assert await found(house, first=4, nights=3) == []


async def test_more_guests_than_fit_find_another_hotel(house: House, town: Town) -> None:
    await town.rooms(await town.hotel(), 10_000, capacity=2)
    large = await town.hotel()
    await town.rooms(large, 20_000, capacity=3)

    assert await found(house, guests=3) == [large]
    assert await found(house, guests=4, rooms_count=2) == [1, large]
    assert await found(house, guests=7, rooms_count=2) == []


async def test_a_city_is_found_however_it_is_written(house: House, town: Town) -> None:
    await town.rooms(await town.hotel(city="São João"), 10_000)
    await town.rooms(await town.hotel(city="Porto Alegre"), 10_000)

    assert await found(house, city=" SÃO JOÃO ") == [1]
    assert await found(house, city="Porto") == []


async def test_prices_stars_amenities_and_currencies_are_filters(house: House, town: Town) -> None:
    await town.rooms(await town.hotel(stars=3, amenities=["Wifi", "pool", "bar"]), 10_000)
    await town.rooms(await town.hotel(stars=5, amenities=["pool"]), 20_000)
    await town.rooms(await town.hotel(amenities=["wifi"], currency="JPY"), 15_000)

    assert await found(house) == [1, 2, 3]
    assert await found(house, min_price="100.01") == [2, 3]
    assert await found(house, max_price="200") == [1, 2]
    assert await found(house, stars=4) == [2]
    assert await found(house, amenities="wifi,POOL") == [1]
    assert await found(house, currency="JPY") == [3]
    query = f"city=Porto&check_in_date={day(0)}&check_out_date={day(1)}&amenities=wifi&amenities=bar"
    repeated = await house.get(f"/v1/hotels/search?{query}")
    assert [hit["id"] for hit in repeated.body] == [1]


async def test_prices_in_different_currencies_are_compared_as_numbers(house: House, town: Town) -> None:
    await town.rooms(await town.hotel(currency="JPY"), 99)
    await town.rooms(await town.hotel(currency="KWD"), 98_500)
    await town.rooms(await town.hotel(currency="EUR"), 9_899)

    hits = (await search(house)).body

    assert [(hit["id"], hit["min_price"]) for hit in hits] == [(2, "98.500"), (3, "98.99"), (1, "99")]


async def test_a_stay_whose_amount_cannot_be_charged_is_left_out(house: House, town: Town) -> None:
    cheap = await town.hotel()
    await town.rooms(cheap, 25)
    dear = await town.hotel()
    await town.rooms(dear, 340_000, nights=30, total=10)
    small = await town.hotel(currency="JPY")
    await town.rooms(small, 30)
    nobody = await town.hotel(currency="KPW")
    await town.rooms(nobody, 12_000)

    # 0.25, 3,400.00, 30 and 120.00 a night
    assert await found(house, nights=1) == [dear]
    assert await found(house, nights=2) == [cheap, small, dear]
    assert await found(house, nights=1, rooms_count=2) == [cheap, small, dear]
    # 999,600.00 are less than the most, and 1,020,000.00 more.
    assert await found(house, nights=30, rooms_count=9) == [dear]
    assert await found(house, nights=30, rooms_count=10) == []

    # The hotel itself has another room, which can be paid.
    await town.rooms(dear, 30_000, nights=30, total=10, type="attic")
    (hit,) = (await search(house, nights=30, rooms_count=10)).body
    assert (hit["id"], hit["room_type"], hit["total"]) == (dear, "attic", "90000.00")


@pytest.mark.parametrize(
    ("currency", "price_minor", "night", "total"),
    [
        # 12.345 dinars x 1.333 are 16.455885, and 12.345 alone 12.350 (half-up): 28.81 for two nights
        ("KWD", 12_345, "14.405", "28.810"),
        # 12,345.60 ariary are 12,346, and x 1.333 are 16,456.6848, which is 16,457
        ("MGA", 1_234_560, "14401.50", "28803.00"),
        ("UGX", 12_345, "14401", "28801"),  # 12,345 and 16,455.885
        ("IDR", 1_500_000_000, "17497500.00", "34995000.00"),
    ],
)
async def test_each_night_is_rounded_to_what_can_be_charged(
    house: House, town: Town, *, currency: str, price_minor: int, night: str, total: str
) -> None:
    hotel = await town.hotel(currency=currency)
    room = await town.rooms(hotel, price_minor)
    await town.change(room, 1, surge_milli=1_333)

    (hit,) = (await search(house)).body

    assert (hit["min_price"], hit["total"]) == (night, total)


async def test_the_dearest_stay_that_can_be_paid_is_found(house: House, town: Town) -> None:
    for price_minor in (33_333_333_333, 33_333_333_334, 10**12):
        await town.rooms(await town.hotel(currency="IDR"), price_minor, nights=30)

    # 999,999,999,990 minor units for thirty nights; the others cost more than can be paid.
    (hit,) = (await search(house, nights=30)).body
    assert (hit["id"], hit["min_price"], hit["total"]) == (1, "333333333.33", "9999999999.90")


async def test_hotels_are_sorted_by_price_stars_or_distance_and_then_by_id(house: House, town: Town) -> None:
    await town.rooms(await town.hotel(stars=3, latitude=41.2, longitude=-8.6), 10_000)
    await town.rooms(await town.hotel(stars=5, latitude=41.3, longitude=-8.6), 10_000)
    await town.rooms(await town.hotel(latitude=41.1, longitude=-8.6), 9_000)
    await town.rooms(await town.hotel(stars=5), 20_000)

    assert await found(house) == [3, 1, 2, 4]
    assert await found(house, sort="stars") == [2, 4, 1, 3]
    assert await found(house, sort="distance", near="41.15,-8.6,100") == [1, 3, 2]


async def test_a_guest_looks_around_a_place_instead_of_in_a_city(house: House, town: Town) -> None:
    await town.rooms(await town.hotel(city="Porto", latitude=41.1496, longitude=-8.6110), 10_000)
    await town.rooms(await town.hotel(city="Lisbon", latitude=38.7223, longitude=-9.1393), 9_000)
    await town.rooms(await town.hotel(city="Nowhere"), 8_000)

    hits = (await search(house, city=None, near="41.1496,-8.6110,300", sort="distance")).body

    # The distance of the two cities as maps give it.
    assert [hit["id"] for hit in hits] == [1, 2]
    assert hits[0]["distance_km"] == 0
    assert hits[1]["distance_km"] == pytest.approx(274, abs=1)
    assert await found(house, city=None, near="41.1496,-8.6110,273") == [1]
    assert await found(house, city="lisbon", near="41.1496,-8.6110,300") == [2]


@pytest.mark.parametrize("table", ["hotel", "room"])
async def test_a_deleted_hotel_or_room_is_found_no_longer(table: str, house: House, town: Town) -> None:
    await town.rooms(await town.hotel(), 10_000)
    assert await found(house) == [1]

    await town.describe(table, 1, deleted_at="2026-01-01T00:00:00Z")

    assert await found(house) == []


async def test_a_hotel_that_takes_no_bookings_and_a_room_that_is_being_opened_are_not_found(
    house: House, town: Town
) -> None:
    hotel = await town.hotel(active=False)
    room = await town.rooms(hotel, 10_000, opening=True)
    assert await found(house) == []

    await town.describe("hotel", hotel, active=True)
    assert await found(house) == []

    await town.describe("room", room, opening=False)
    assert await found(house) == [hotel]


async def test_whether_a_day_is_past_is_decided_by_the_hotels_own_clock(
    house: House, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_the_day(monkeypatch)
    # The earliest and the latest time zone never have the same day.
    early = await town.hotel(time_zone="Etc/GMT+12")
    late = await town.hotel(time_zone="Etc/GMT-14")
    before = (earliest_today() - day(0)).days
    horizon = before + 364
    for hotel in (early, late):
        room = await town.room(hotel)
        await town.open(room, 10_000, first=before, nights=3)
        await town.open(room, 10_000, first=horizon, nights=5)

    assert await found(house, first=before, nights=1) == [early]
    assert await found(house, first=(latest_today() - day(0)).days, nights=1) == [early, late]
    assert await found(house, first=horizon, nights=1) == [early, late]
    assert await found(house, first=horizon + 1, nights=1) == [late]


# Pages.


async def test_pages_follow_each_other_by_number_or_by_cursor(house: House, town: Town) -> None:
    for _ in range(5):
        await town.rooms(await town.hotel(), 10_000)

    by_number = await pages(house, await search(house, limit=2, page=1))
    by_cursor = await pages(house, await search(house, limit=2))

    assert by_number == by_cursor == [[1, 2], [3, 4], [5]]
    assert await found(house, page=4, limit=2) == []


async def test_a_new_hotel_shifts_nothing_for_a_client_that_follows_cursors(house: House, town: Town) -> None:
    for price_minor in (10_000, 12_000, 14_000):
        await town.rooms(await town.hotel(), price_minor)
    first = await search(house, limit=2)

    await town.rooms(await town.hotel(), 9_000)

    assert await pages(house, first) == [[1, 2], [3]]


async def pages(house: House, answered: Answer) -> list[list[int]]:
    seen = []
    while True:
        seen.append([hit["id"] for hit in answered.body])
        link = answered.headers.get("Link")
        if link is None:
            return seen
        address, _, relation = link.partition("; ")
        assert relation == 'rel="next"'
        answered = await house.get(address.strip("<>"))


# Refused searches.


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"city": None}, "city: is needed, unless near is given"),
        ({"check_in_date": None}, "check_in_date: Field required"),
        ({"check_out_date": None}, "check_out_date: Field required"),
        ({"check_out_date": day(0)}, "check_out_date must be after check_in_date"),
        ({"check_out_date": day(31)}, "a stay is at most 30 nights"),
        ({"check_in_date": earliest_today() - timedelta(days=1), "check_out_date": day(-20)}, "check_in_date is in"),
        ({"sort": "distance"}, "sort: distance is measured from near, which is missing"),
        ({"page": 1, "cursor": "WzEsMV0"}, "cursor: cannot be combined with page"),
        ({"cursor": "nonsense"}, "cursor: is not one that this list gave"),
        ({"cursor": "WzFlOTksMV0"}, "cursor: is not one that this list gave"),
        ({"near": "1,2"}, "near: must be latitude,longitude,kilometres"),
        ({"near": "90.1,0,1"}, "near: must be latitude,longitude,kilometres"),
        ({"near": "nan,0,1"}, "near: must be latitude,longitude,kilometres"),
        ({"near": "0,-181,1"}, "near: must be latitude,longitude,kilometres"),
        ({"near": "0,0,0"}, "near: must be latitude,longitude,kilometres"),
        ({"rooms_count": 0}, "rooms_count: Input should be greater than or equal to 1"),
        ({"rooms_count": 11}, "rooms_count: Input should be less than or equal to 10"),
        ({"limit": 101}, "limit: Input should be less than or equal to 100"),
        ({"stars": 6}, "stars: Input should be less than or equal to 5"),
        ({"sort": "name"}, "sort: Input should be 'price', 'stars' or 'distance'"),
        ({"cheap": "yes"}, "cheap: Extra inputs are not permitted"),
    ],
)
async def test_a_search_that_makes_no_sense_is_refused(query: dict[str, Any], detail: str, house: House) -> None:
    answered = await search(house, **query)

    assert (answered.status, answered.body["detail"][: len(detail)]) == (422, detail)


async def test_a_stay_beyond_every_hotels_horizon_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_the_day(monkeypatch)
    first = (latest_today() - day(0)).days + 365

    assert (await search(house, first=first)).body["detail"] == "a stay must begin within 365 days from now"
    assert (await search(house, first=first - 1, nights=30)).status == 200


# When something is away.


@pytest.mark.process
async def test_without_a_database_a_search_is_asked_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "LOAD_SECONDS", 0.1)
    async with run_ingress_alone() as house:
        answered = await search(house)

    assert (answered.status, answered.headers["Retry-After"]) == (503, "2")


async def test_a_search_waits_for_the_hotels_to_be_read_and_not_for_ever(
    town: Town, no_kafka: KafkaSettings, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await town.rooms(await town.hotel(), 10_000)
    monkeypatch.setattr(freshness, "LOAD_SECONDS", 0.2)
    async with town.connection.transaction():
        await town.connection.execute("lock table room_night in access exclusive mode")
        async with run_ingress(ingress_settings(), no_kafka, database, ready=False) as house:
            answered = await search(house)
            assert answered.status == 503
            assert answered.body["detail"] == "the hotels are still being read; try again"

    monkeypatch.setattr(freshness, "LOAD_SECONDS", AMPLE_SECONDS)
    async with run_ingress(ingress_settings(), no_kafka, database, ready=False) as house:
        assert await found(house) == [1]
