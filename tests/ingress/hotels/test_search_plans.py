"""Guests who look for a hotel whose rooms are sold by rate plans, with taxes, for a party."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from ingress.hotels.search import freshness
from sandbox.ports import free_port
from storage.settings import DatabaseSettings
from tests.ingress.conftest import ingress_settings, run_ingress
from tests.ingress.hotels.town import Town, day, open_town
from tests.ingress.house import House
from tests.support.hotels import HotelsInTables
from topics.kafka.settings import KafkaSettings
from topics.messages.sale import (
    ArrivalRule,
    CancellationPolicy,
    Collected,
    Kept,
    Meals,
    PolicyStep,
    RatePlan,
    Tax,
)
from topics.messages.values import Terms

STANDARD = RatePlan(id="standard", name="Standard")
SAVER = RatePlan(id="saver", name="Saver", refundable=False, times_milli=900, meals=Meals.BREAKFAST)
VAT = Tax(id="vat", name="VAT", percent_milli=7_000)
CITY_TAX = Tax(
    id="city",
    name="City tax",
    amount_minor=200,
    per_night=True,
    per_person=True,
    min_age=3,
    collected=Collected.AT_HOTEL,
)


@pytest.fixture
async def town(database: DatabaseSettings) -> AsyncIterator[Town]:
    """A town without hotels."""
    async with open_town(database) as town:
        yield town


@pytest.fixture
async def house(town: Town, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """An ingress without a broker, whose searches find everything that was committed before."""
    monkeypatch.setattr(freshness, "FRESH_SECONDS", 0.0)
    kafka = KafkaSettings(_env_file=None, kafka_url=f"127.0.0.1:{free_port()}")
    async with run_ingress(ingress_settings(), kafka, database, ready=False) as house:
        yield house


async def search(house: House, nights: int = 2, **query: Any) -> list[dict[str, Any]]:
    params = {"check_in_date": str(day(0)), "check_out_date": str(day(nights)), "city": "Porto"} | query
    answered = await house.get("/v1/hotels/search", params={name: str(value) for name, value in params.items()})
    assert answered.status == 200, answered
    hits: list[dict[str, Any]] = answered.body
    return hits


async def found(house: House, **query: Any) -> list[int]:
    """Return the ids of the hotels that are found, in order."""
    return [hit["id"] for hit in await search(house, **query)]


async def test_a_guest_sees_the_cheapest_plan_with_all_taxes(house: House, town: Town) -> None:
    room = await town.rooms(await town.hotel(time_zone="Asia/Tokyo", check_in_time="16:00"), 10_000)
    await town.sell_by(room, STANDARD, SAVER, taxes=(VAT, CITY_TAX), capacity=4, infant_max_age=2)

    (hit,) = await search(house, adults=2, children="4,1")

    # 2 x 90.00, 7 % VAT, and at the hotel 2.00 a night for three people who are no infants.
    assert (hit["plan_id"], hit["plan_name"], hit["meals"], hit["payment"]) == (
        "saver",
        "Saver",
        "breakfast",
        "prepaid",
    )
    assert (hit["total"], hit["due_at_hotel"], hit["min_price"]) == ("192.60", "12.00", "102.30")
    assert (hit["refundable"], hit["free_until"]) == (False, None)

    flexible = CancellationPolicy(id="flexible", steps=(PolicyStep(hours_before=24, kept=Kept(percent=100)),))
    await town.sell_by(room, RatePlan(id="flex", name="Flexible", policy=flexible), version=2)
    (hit,) = await search(house)
    assert (hit["plan_id"], hit["total"], hit["due_at_hotel"]) == ("flex", "200.00", "0.00")
    assert (hit["refundable"], hit["free_until"]) == (True, f"{day(-1)}T16:00:00+09:00")


async def test_hits_are_in_the_order_of_all_that_is_paid(house: House, town: Town) -> None:
    plain, taxed, at_hotel, cheap = [await town.hotel() for _ in range(4)]
    await town.rooms(plain, 10_500)
    await town.sell_by(await town.rooms(taxed, 10_000), STANDARD, taxes=(VAT,))
    paid_there = RatePlan(id="there", name="Pay at the hotel", terms=Terms.AT_HOTEL, times_milli=1_060)
    await town.sell_by(await town.rooms(at_hotel, 10_000), paid_there)
    # The cheaper room of a hotel may be one with plans, or one without.
    await town.sell_by(await town.rooms(cheap, 9_000), STANDARD, taxes=(VAT,))
    await town.rooms(cheap, 9_500)

    hits = await search(house)

    assert [(hit["id"], hit["min_price"], hit["total"], hit["due_at_hotel"]) for hit in hits] == [
        (cheap, "95.00", "190.00", "0.00"),
        (plain, "105.00", "210.00", "0.00"),
        (at_hotel, "106.00", "0.00", "212.00"),
        (taxed, "107.00", "214.00", "0.00"),
    ]
    assert [hit["id"] for hit in await search(house, min_price="105.01", max_price=106)] == [at_hotel]
    first = await search(house, limit=2, page=1)
    second = await search(house, limit=2, page=2)
    assert first + second == hits


# Nights are numbered from the thirtieth day from now.
EXCLUDING: tuple[dict[str, Any], ...] = (
    {"min_nights": 3},
    {"max_nights": 1},
    {"closed_to_arrival": True},
    {"closed_to_departure": True},
    {"stop_sell": True},
    {"advance_days": 40},
)


async def test_a_plan_that_its_rules_exclude_is_not_found(house: House, town: Town) -> None:
    room = await town.rooms(await town.hotel(), 10_000)
    for version, rule in enumerate(EXCLUDING):
        restricted = ArrivalRule(first_day=day(0), end_day=day(3), **rule)
        excluded = RatePlan(id="saver", name="Saver", times_milli=900, rules=(restricted,))
        await town.sell_by(room, STANDARD, excluded, version=2 * version + 1)
        assert [hit["plan_id"] for hit in await search(house)] == ["standard"], rule

        await town.sell_by(room, excluded, version=2 * version + 2)
        assert await found(house) == [], rule


async def test_a_party_has_to_fit_and_infants_take_no_space(house: House, town: Town) -> None:
    plain, sold_by_plans = await town.hotel(), await town.hotel()
    await town.rooms(plain, 9_000, capacity=3)
    await town.sell_by(await town.rooms(sold_by_plans, 10_000, capacity=3), STANDARD, capacity=3, infant_max_age=1)

    assert await found(house, adults=3) == [plain, sold_by_plans]
    assert await found(house, adults=2, children="4") == [plain, sold_by_plans]
    # Without sale terms everybody takes space.
    assert await found(house, adults=3, children="1") == [sold_by_plans]
    assert await found(house, adults=3, children="2") == []
    assert await found(house, adults=5, children="1,2", rooms_count=2) == [sold_by_plans]
    # Adults count, and not the guests of the older parameter.
    assert await found(house, adults=1, guests=9) == [plain, sold_by_plans]
    assert await found(house, guests=4) == []


async def test_more_adults_than_the_price_covers_and_children_cost_more(house: House, town: Town) -> None:
    plan = RatePlan(id="standard", name="Standard", included_adults=1, extra_adult_minor=2_000)
    await town.sell_by(await town.rooms(await town.hotel(), 10_000), plan)

    assert [hit["total"] for hit in await search(house)] == ["200.00"]
    assert [hit["total"] for hit in await search(house, adults=2)] == ["240.00"]
    (two_rooms,) = await search(house, adults=3, rooms_count=2)
    assert (two_rooms["total"], two_rooms["min_price"]) == ("440.00", "110.00")


async def test_children_need_an_adult(house: House) -> None:
    query = {"city": "Porto", "check_in_date": str(day(0)), "check_out_date": str(day(1))}
    too_many = {"adults": "150", "children": ",".join(["1"] * 51)}
    for more in ({"children": "4"}, {"adults": "1", "children": "18"}, {"adults": "0"}, too_many):
        answered = await house.get("/v1/hotels/search", params=query | more)
        assert answered.status == 422, answered


async def test_an_amount_that_cannot_be_charged_is_no_hit_unless_it_is_paid_at_the_hotel(
    house: House, town: Town
) -> None:
    room = await town.rooms(await town.hotel(), 20)
    await town.sell_by(room, STANDARD)
    assert await found(house) == []

    await town.sell_by(room, STANDARD, RatePlan(id="there", name="There", terms=Terms.AT_HOTEL), version=2)
    assert [(hit["plan_id"], hit["due_at_hotel"]) for hit in await search(house, adults=2)] == [("there", "0.40")]


async def test_a_search_without_people_shows_the_plan_and_the_price_of_a_booking_that_names_none(
    house: House, town: Town
) -> None:
    room = await town.rooms(await town.hotel(), 10_000)
    await town.sell_by(room, SAVER, STANDARD)
    assert [hit["plan_id"] for hit in await search(house, adults=2)] == [SAVER.id]
    assert [hit["plan_id"] for hit in await search(house)] == [STANDARD.id]

    await town.sell_by(room, SAVER, RatePlan(id="standard", name="There", terms=Terms.AT_HOTEL), version=2)
    (hit,) = await search(house)
    assert (hit["total"], hit["due_at_hotel"]) == ("0.00", "200.00")


async def test_clients_without_a_version_get_the_whole_price_as_the_total(house: House, town: Town) -> None:
    hotel = await town.hotel()
    room = await town.rooms(hotel, 10_000)
    await town.sell_by(room, SAVER, RatePlan(id="standard", name="There", terms=Terms.AT_HOTEL))
    stay = {"check_in_date": str(day(0)), "check_out_date": str(day(2))}

    (hit,) = (await house.get("/hotels/search", params={**stay, "city": "Porto"})).body
    assert (hit["total"], hit["due_at_hotel"]) == ("200.00", "200.00")


async def test_blocked_rooms_are_not_free_and_an_allowance_is(house: House, town: Town) -> None:
    room = await town.rooms(await town.hotel(), 10_000, total=3)
    await town.block(room, first=1, rooms_count=2)
    assert [hit["rooms_left"] for hit in await search(house)] == [1]

    await town.change(room, 0, 1, allowance_count=2)
    assert [hit["rooms_left"] for hit in await search(house)] == [3]


async def test_a_hotel_shows_the_same_prices_as_a_search(house: House, town: Town) -> None:
    hotel = await town.hotel()
    room = await town.rooms(hotel, 10_000)
    plain = await town.rooms(hotel, 30_000, capacity=3)
    terms: dict[str, Any] = {"taxes": (VAT, CITY_TAX), "capacity": 4, "infant_max_age": 2}
    await town.sell_by(room, STANDARD, SAVER, **terms)
    for number in range(2):
        for each, price in ((room, 10_000), (plain, 30_000)):
            await HotelsInTables(town.connection).night(hotel, each, day(number), total_count=3, price_minor=price)
    stay = {"check_in_date": str(day(0)), "check_out_date": str(day(2)), "adults": "2", "children": "4"}

    shown = (await house.get(f"/v1/hotels/{hotel}/info", params=stay)).body
    (hit,) = await search(house, adults=2, children="4")

    by_plans, by_nights = shown["rooms"]
    standard, saver = by_plans["plans"]
    assert by_plans["total"] == standard["total"] == "214.00"
    same = ("plan_id", "plan_name", "meals", "payment", "total", "due_at_hotel", "refundable", "free_until")
    assert {name: saver[name] for name in same} == {name: hit[name] for name in same}
    assert [(line["id"], line["amount"], line["collected"]) for line in saver["lines"]] == [
        ("saver", "180.00", "now"),
        ("vat", "12.60", "now"),
        ("city", "12.00", "at_hotel"),
    ]
    assert [(plan["plan_id"], plan["total"], plan["terms_version"]) for plan in by_nights["plans"]] == [
        ("standard", "600.00", 0)
    ]
    # Four people do not fit into a room for three, and one room more is one too many.
    large = (await house.get(f"/v1/hotels/{hotel}/info", params=stay | {"adults": "3"})).body
    assert [(each["total"], len(each["plans"])) for each in large["rooms"]] == [("214.00", 2), (None, 0)]
    many = (await house.get(f"/v1/hotels/{hotel}/info", params=stay | {"rooms_count": "4"})).body
    assert [(each["total"], each["plans"]) for each in many["rooms"]] == [(None, []), (None, [])]


async def test_terms_that_are_committed_late_are_found(house: House, town: Town, database: DatabaseSettings) -> None:
    room = await town.rooms(await town.hotel(), 10_000)
    assert [hit["plan_id"] for hit in await search(house)] == ["standard"]
    async with await psycopg.AsyncConnection.connect(database.conninfo()) as slow:
        await slow.execute(
            "insert into room_sale_terms (room_id, version, terms)"
            ' values (%s, 1, \'{"version": 1, "plans": [{"id": "slow", "name": "Slow"}]}\')',
            (room,),
        )
        await asyncio.gather(*(search(house) for _ in range(3)))
        await slow.commit()

    assert [hit["plan_id"] for hit in await search(house)] == ["slow"]
