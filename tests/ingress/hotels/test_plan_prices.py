"""A search over rooms with rate plans has the same pages as one that prices every plan of every room."""

from collections.abc import Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any, NamedTuple

import pytest

from ingress.hotels.plans import RoomOnSale, StayRequest, cheapest
from ingress.hotels.search.finding import find
from ingress.hotels.search.hotel_tables import HotelTable, HotelTables
from ingress.hotels.search.models import HotelSearch, SortPosition, earliest_today
from ingress.hotels.search.nights import DAYS, Nights
from ingress.hotels.search.plan_table import RoomPlans, plan_table
from ingress.hotels.search.rule_table import packed_rules
from ingress.offers import whole_minor
from ingress.stays import today_at
from pricing.charges import can_be_charged, step_minor
from pricing.conversion import RateTable, converted_minor, rate_table
from pricing.stays import average_minor
from storage.reads.search import HotelFacts, PackedNights, RoomTypeFacts
from topics.messages.sale import AgeBand, ArrivalRule, Collected, RatePlan, SaleTerms, Tax
from topics.messages.values import Terms

HOTELS = 40
CHECK_IN = 40
CURRENCIES = ("EUR", "EUR", "KWD")
#: By this rate some of the prices are less and some more than others in the other currency.
RATES = rate_table(base="EUR", on=date(2026, 11, 27), rates={"KWD": Decimal("0.0997")}, source="x")


class Market(NamedTuple):
    """Hotels in an index, and the same facts for the other side of the comparison."""

    table: HotelTable
    nights: Nights
    hotels: dict[int, HotelFacts]
    rooms: list[RoomTypeFacts]
    terms: dict[int, SaleTerms]
    free: dict[int, int]
    prices_minor: dict[int, list[int]]


def _terms(chance: Random, step: int) -> SaleTerms:
    rule = ArrivalRule(
        first_day=date(2000, 1, 1),
        end_day=date(2200, 1, 1),
        min_nights=chance.choice([None, 3]),
        stop_sell=chance.random() < 0.2,
    )
    plans = [
        RatePlan(
            id=f"plan-{number}",
            name="A plan",
            terms=chance.choice([Terms.PREPAID, Terms.AT_HOTEL]),
            times_milli=chance.choice([0, 900, 1_000, 1_333]),
            plus_minor=chance.choice([0, -700, 700]) * step,
            included_adults=chance.randint(0, 2),
            extra_adult_minor=chance.choice([0, 500]) * step,
            child_bands=(AgeBand(up_to_age=12, nightly_minor=300 * step),),
            rules=(rule,) * chance.randint(0, 1),
        )
        for number in range(chance.randint(1, 3))
    ]
    taxes = (
        Tax(id="vat", name="VAT", percent_milli=chance.choice([7_000, 12_345]), included=chance.random() < 0.3),
        Tax(id="levy", name="Levy", percent_milli=2_500, collected=Collected.AT_HOTEL),
        Tax(id="fee", name="Fee", amount_minor=1_000 * step),
        Tax(id="past", name="Past", percent_milli=50_000, end_night=date(2000, 1, 1)),
    )
    some = tuple(chance.sample(taxes, chance.randint(0, 4)))
    return SaleTerms(version=1, plans=tuple(plans), taxes=some, capacity=chance.choice([None, 2, 4]))


def _market(chance: Random) -> Market:
    nights = Nights(earliest_today())
    tables = HotelTables(nights)
    hotels = {
        id: HotelFacts(
            id=id,
            listed=True,
            name="Mill",
            city="Porto",
            currency=chance.choice(CURRENCIES),
            photos=[],
            amenities=[],
            stars=chance.choice([None, 3, 4]),
            latitude=None,
            longitude=None,
            time_zone="UTC",
            check_in_time=time(15),
            check_out_time=time(11),
        )
        for id in range(1, HOTELS + 1)
    }
    rooms = [
        RoomTypeFacts(10 * hotel_id + number, hotel_id, listed=True, type="double", capacity=chance.randint(1, 4))
        for hotel_id in hotels
        for number in range(chance.randint(1, 3))
    ]
    steps = {room.id: step_minor(hotels[room.hotel_id].currency) for room in rooms}
    terms = {room_id: _terms(chance, step) for room_id, step in steps.items() if chance.random() < 0.7}
    free = {room.id: chance.randint(0, 3) for room in rooms}
    # Few prices, so that some are the same.
    prices_minor = {room.id: [chance.choice([0, 9_990, 10_000, 10_010, 10_500]) for _ in range(DAYS)] for room in rooms}
    tables.update_hotels(hotels.values())
    nights.add(tables.in_neighbourhood(rooms))
    tables.update_rooms(rooms)
    tables.update_terms(terms)
    nights.update(_packed(free, prices_minor))
    return Market(tables.of("Porto"), nights, hotels, rooms, terms, free, prices_minor)


def _packed(free: dict[int, int], prices_minor: dict[int, list[int]]) -> PackedNights:
    def column(size: int, values: Iterator[int]) -> bytes:
        return b"".join(value.to_bytes(size, "big") for value in values)

    days = range(DAYS)
    return PackedNights(
        room_ids=column(8, (room_id for room_id in free for _ in days)),
        days=column(4, (day for _ in free for day in days)),
        free=column(4, (count for count in free.values() for _ in days)),
        prices_minor=column(8, (price for prices in prices_minor.values() for price in prices)),
        surges_milli=column(4, (1_000 for _ in free for _ in days)),
    )


def _search(chance: Random) -> HotelSearch:
    check_in = earliest_today() + timedelta(days=CHECK_IN)
    query: dict[str, Any] = {
        "city": "Porto",
        "check_in_date": str(check_in),
        "check_out_date": str(check_in + timedelta(days=chance.randint(1, 4))),
        "rooms_count": chance.choice(["1", "1", "2"]),
        "sort": chance.choice(["price", "price", "stars"]),
        "limit": chance.choice(["1", "3", "10"]),
        "min_price": chance.choice([None, None, "100.01", "107"]),
        "max_price": chance.choice([None, None, "110", "150"]),
    }
    query |= chance.choice([{}, {"guests": "2"}, {"adults": "2"}, {"adults": "1", "children": "4,9"}])
    return HotelSearch.model_validate({name: value for name, value in query.items() if value is not None})


def _offers(
    market: Market, query: HotelSearch, rates: RateTable | None = None
) -> list[tuple[int | Fraction, int, int, int]]:
    """Return the key, the hotel, the room and the whole price of each hotel that is found, in order.

    With rates the key of a price is its worth in their base.
    """
    stay = StayRequest(query.check_in_date, query.check_out_date, query.rooms_count, query.people)
    best: dict[int, tuple[int, int]] = {}
    for room in market.rooms:
        whole = _whole(market, room, query, stay)
        if whole is not None:
            best[room.hotel_id] = min(best.get(room.hotel_id, (whole, room.id)), (whole, room.id))
    found: list[tuple[int | Fraction, int, int, int]] = []
    for hotel_id, (whole, room_id) in best.items():
        hotel = market.hotels[hotel_id]
        average = average_minor(whole, query.nights * query.rooms_count)
        milli = average * (1 if hotel.currency == "KWD" else 10)
        price: int | Fraction = milli
        if rates is not None:
            price = Fraction(milli) / Fraction(rates.units_for_base(hotel.currency))
        if rates is not None and query.currency is not None:
            milli = converted_minor(rates, average, hotel.currency, query.currency) * 10
        if query.min_price is not None and milli < query.min_price * 1000:
            continue
        if query.max_price is not None and milli > query.max_price * 1000:
            continue
        found.append((price if query.sort == "price" else -(hotel.stars or 0), hotel_id, room_id, whole))
    return sorted(found)


def _whole(market: Market, room: RoomTypeFacts, query: HotelSearch, stay: StayRequest) -> int | None:
    prices = market.prices_minor[room.id][CHECK_IN : CHECK_IN + query.nights]
    currency = market.hotels[room.hotel_id].currency
    people = query.people
    terms = market.terms.get(room.id)
    if market.free[room.id] < query.rooms_count:
        return None
    count = query.guests or 0
    if people is not None:
        count = 0 if terms is not None else people.adults + len(people.child_ages)
    if count > room.capacity * query.rooms_count:
        return None
    if terms is not None:
        choice = cheapest(RoomOnSale(terms, prices, currency, time(15)), stay, today_at("UTC"))
        return None if choice is None else whole_minor(choice)
    whole = sum(prices) * query.rooms_count
    return whole if can_be_charged(whole, currency) else None


@pytest.mark.parametrize("seed", range(4))
async def test_every_page_is_the_same_as_if_all_plans_were_priced(seed: int) -> None:
    chance = Random(seed)
    market = _market(chance)
    hits = 0
    for _ in range(25):
        query = _search(chance)
        expected = _offers(market, query)
        for begin in range(0, len(expected) + 1, query.limit):
            by_page = query.model_copy(update={"page": begin // query.limit + 1})
            page = await find(market.table, market.nights, by_page, None)
            after = SortPosition(int(expected[begin - 1][0]), expected[begin - 1][1]) if begin else None
            by_cursor = await find(market.table, market.nights, query, after)

            assert page == by_cursor, query
            assert page.more is (begin + query.limit < len(expected))
            assert [(hit.key, hit.hotel.id, hit.room_id) for hit in page.hits] == [
                offer[:3] for offer in expected[begin : begin + query.limit]
            ], query
            hits += len(page.hits)
    assert hits > 100


@pytest.mark.parametrize("seed", range(2))
async def test_every_page_across_currencies_is_the_same_as_if_all_plans_were_priced_and_converted(seed: int) -> None:
    chance = Random(seed)
    market = _market(chance)
    currencies = set()
    for _ in range(25):
        query = _search(chance).model_copy(update={"currency": chance.choice([None, "EUR"])})
        expected, after = _offers(market, query, RATES), None
        for begin in range(0, len(expected) + 1, query.limit):
            number = begin // query.limit + 1
            page = await find(market.table, market.nights, query.model_copy(update={"page": number}), None, RATES)
            by_cursor = await find(market.table, market.nights, query, after, RATES)

            assert page == by_cursor, query
            assert page.more is (begin + query.limit < len(expected))
            assert [(hit.hotel.id, hit.room_id) for hit in page.hits] == [
                offer[1:3] for offer in expected[begin : begin + query.limit]
            ], query
            if page.hits:
                after = SortPosition(page.hits[-1].key, page.hits[-1].hotel.id)
            currencies |= {hit.hotel.currency for hit in page.hits}
    assert currencies == set(CURRENCIES)


def test_a_lower_bound_is_never_above_the_price() -> None:
    chance = Random(99)
    check_in = earliest_today() + timedelta(days=CHECK_IN)
    priced = 0
    for _ in range(300):
        currency = chance.choice(CURRENCIES)
        terms = _terms(chance, step_minor(currency))
        prices = [chance.choice([0, 10, 9_990, 12_340]) for _ in range(chance.randint(1, 5))]
        stay = StayRequest(check_in, check_in + timedelta(days=len(prices)), chance.randint(1, 3), None)
        choice = cheapest(RoomOnSale(terms, prices, currency, time(15)), stay, today_at("UTC"))
        table = plan_table([RoomPlans(0, terms, packed_rules(terms), currency, "UTC")])
        sums = table.counts * 0 + sum(prices)

        bound = table.least_minor(table.begins * 0, sums, check_in, stay.check_out, stay.rooms_count)

        assert choice is None or bound[0] <= whole_minor(choice)
        priced += choice is not None
    assert priced > 100
