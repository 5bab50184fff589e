"""A search prices few rooms, and leaves turns to other requests while it prices many."""

import asyncio
from collections.abc import Callable
from datetime import date, time, timedelta
from itertools import pairwise
from random import Random
from typing import Any, Final

import numpy as np
import pytest

from ingress.hotels import plans
from ingress.hotels.search import finding
from ingress.hotels.search.finding import find
from ingress.hotels.search.hotel_tables import HotelTables
from ingress.hotels.search.models import Found, HotelSearch, earliest_today
from ingress.hotels.search.nights import DAYS, Nights
from ingress.hotels.search.plan_table import NEVER, RoomPlans, plan_table
from ingress.hotels.search.rule_table import packed_rules
from ingress.stays import today_at
from pricing.sale import party_rejection, rules_rejection
from storage.reads.search import HotelFacts, PackedNights, RoomTypeFacts
from tests.support.waiting import next_turn
from topics.messages.sale import ArrivalRule, Party, RatePlan, SaleTerms

HOTELS: Final = 250
FIRST: Final = 40
STANDARD: Final = RatePlan(id="standard", name="Standard")
#: One that makes each hotel's price much more than its lower bound.
FEW_ADULTS: Final = RatePlan(id="standard", name="Standard", included_adults=1, extra_adult_minor=5_000)


def day(number: int) -> date:
    """Return a day of the stay; the first is some weeks from now."""
    return earliest_today() + timedelta(days=FIRST + number)


class Street:
    """Hotels in one city, with one room each; a room's price of 100.00 is a cent more in each hotel."""

    def __init__(self, terms_of: Callable[[int], SaleTerms]) -> None:
        nights = Nights(earliest_today())
        tables = HotelTables(nights)
        hotels = [_hotel(number) for number in range(1, HOTELS + 1)]
        rooms = [RoomTypeFacts(hotel.id, hotel.id, listed=True, type="double", capacity=9) for hotel in hotels]
        tables.update_hotels(hotels)
        nights.add(tables.in_neighbourhood(rooms))
        tables.update_rooms(rooms)
        tables.update_terms({room.id: terms_of(room.id) for room in rooms})
        self.nights, self.tables = nights, tables
        self.charge({room.id: 10_000 + room.id for room in rooms})

    def charge(self, prices_minor: dict[int, int]) -> None:
        """Set the price of all nights of rooms, of which one is free."""
        ids = np.array(list(prices_minor), ">i8").repeat(DAYS)
        self.nights.update(
            PackedNights(
                room_ids=ids.tobytes(),
                days=np.tile(np.arange(DAYS, dtype=">i4"), len(prices_minor)).tobytes(),
                free=np.ones(len(ids), ">i4").tobytes(),
                prices_minor=np.array(list(prices_minor.values()), ">i8").repeat(DAYS).tobytes(),
                surges_milli=np.full(len(ids), 1_000, ">i4").tobytes(),
            )
        )

    async def search(self, **query: Any) -> Found:
        """Search for two nights."""
        stay = {"city": "Porto", "check_in_date": str(day(0)), "check_out_date": str(day(2))}
        return await find(self.tables.of("Porto"), self.nights, HotelSearch.model_validate(stay | query), None)


def _hotel(number: int) -> HotelFacts:
    return HotelFacts(
        id=number,
        listed=True,
        name="Mill",
        city="Porto",
        currency="EUR",
        photos=[],
        amenities=[],
        stars=None,
        latitude=None,
        longitude=None,
        time_zone="UTC",
        check_in_time=time(15),
        check_out_time=time(11),
    )


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rooms that were priced, each by the price of its first night."""
    numbers: list[int] = []

    def counted(room: plans.RoomOnSale, *others: Any) -> Any:
        numbers.append(room.night_prices_minor[0])
        return plans.cheapest(room, *others)

    monkeypatch.setattr(finding, "cheapest", counted)
    return numbers


EXCLUDING: tuple[dict[str, Any], ...] = (
    {"min_nights": 3},
    {"max_nights": 1},
    {"closed_to_arrival": True},
    {"closed_to_departure": True},
    {"stop_sell": True},
    {"advance_days": FIRST + 2},
)


@pytest.mark.parametrize("rule", EXCLUDING, ids=lambda rule: next(iter(rule)))
async def test_a_room_whose_plans_are_excluded_is_not_priced(rule: dict[str, Any], priced: list[int]) -> None:
    rules = (ArrivalRule(first_day=day(0), end_day=day(3), **rule),)
    cheap = tuple(RatePlan(id=f"p{number}", name="P", times_milli=10, rules=rules) for number in range(14))
    dear = SaleTerms(version=1, plans=(*cheap, STANDARD))

    def terms_of(number: int) -> SaleTerms:
        return dear if number % 4 == 0 else SaleTerms(version=1, plans=cheap)

    found = await Street(terms_of).search(limit=20)

    assert [hit.hotel.id for hit in found.hits] == list(range(4, 84, 4))
    assert len(priced) == 21


async def test_a_room_without_space_for_the_party_is_not_priced(priced: list[int]) -> None:
    terms = SaleTerms(version=1, plans=(STANDARD,), capacity=2, infant_max_age=1)

    street = Street(lambda _: terms)

    assert (await street.search(adults=2, children=["2"])).hits == []
    assert priced == []
    assert len((await street.search(adults=2, children=["1"])).hits) == 20
    assert len(priced) == 21


async def test_other_requests_have_their_turn_while_many_rooms_are_priced(priced: list[int]) -> None:
    street = Street(lambda number: SaleTerms(version=1, plans=(FEW_ADULTS if number < HOTELS else STANDARD,)))
    searching = asyncio.create_task(street.search(adults=2, limit=1))
    turns = [0]
    while not searching.done():
        await next_turn()
        turns.append(len(priced))
        # A search takes no part of a change that happens meanwhile.
        street.charge(dict.fromkeys(range(1, HOTELS), 1))

    # All lower bounds are less than the first price that is not much more than its bound.
    assert [hit.hotel.id for hit in searching.result().hits] == [HOTELS]
    assert searching.result().more
    assert min(priced) > 10_000
    assert len(priced) == HOTELS
    assert max(after - before for before, after in pairwise(turns)) <= finding._PLANS_AT_ONCE


async def test_a_search_that_prices_many_rooms_sorts_the_hotels_seldom(
    priced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    street = Street(lambda number: SaleTerms(version=1, plans=(FEW_ADULTS if number < HOTELS else STANDARD,)))
    rounds: list[None] = []
    compare = finding._Offers._compare
    monkeypatch.setattr(finding._Offers, "_compare", lambda offers: rounds.append(compare(offers)))

    await street.search(adults=2, limit=1)

    assert len(priced) == HOTELS
    assert len(rounds) < 20


@pytest.mark.parametrize("seed", range(3))
def test_the_tables_exclude_what_a_decision_excludes(seed: int) -> None:
    chance = Random(seed)
    zones = ("UTC", "Pacific/Kiritimati", "Pacific/Niue")
    rooms = []
    for number in range(60):
        taken = tuple(
            RatePlan(id=f"p{place}", name="P", rules=tuple(_rule(chance) for _ in range(chance.choice([0, 1, 3]))))
            for place in range(chance.randint(1, 4))
        )
        capacity, infants = chance.choice([None, 1, 3]), chance.choice([None, 0, 4])
        terms = SaleTerms(version=1, plans=taken, capacity=capacity, infant_max_age=infants)
        rooms.append(RoomPlans(number, terms, packed_rules(terms), "EUR", chance.choice(zones)))
    table = plan_table(rooms)
    seen = set()
    for _ in range(60):
        check_in = day(chance.randint(0, 6))
        check_out = check_in + timedelta(days=chance.randint(1, 4))
        some = np.array(sorted(chance.sample(range(60), 30)))

        bounds_minor = table.least_minor(some, np.full(30, 10_000), check_in, check_out, 2)
        party = Party(adults=chance.randint(1, 3), child_ages=tuple(chance.choices([0, 1, 4, 5, 17], k=3)))
        fit = table.have_space(some, party, 2)

        for place, bound_minor, fits in zip(some.tolist(), bounds_minor.tolist(), fit.tolist(), strict=True):
            room = rooms[place]
            today = today_at(room.time_zone)
            reasons = [rules_rejection(plan, check_in, check_out, today) for plan in room.terms.plans]
            assert (bound_minor == NEVER) is (None not in reasons)
            assert fits is (party_rejection(room.terms, party, 2) is None)
            seen.update(reasons)
    assert len(seen) == 7


def _rule(chance: Random) -> ArrivalRule:
    begin = chance.randint(-1, 6)
    return ArrivalRule(
        first_day=day(begin),
        end_day=day(begin + chance.randint(1, 4)),
        min_nights=chance.choice([None, None, 2, 3]),
        max_nights=chance.choice([None, None, 2, 3]),
        advance_days=chance.choice([None, None, FIRST + 2]),
        closed_to_arrival=chance.random() < 0.2,
        closed_to_departure=chance.random() < 0.2,
        stop_sell=chance.random() < 0.1,
    )
