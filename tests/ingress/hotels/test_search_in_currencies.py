"""Prices in another currency, for eyes only: shown as approximate, compared and sorted by a table of rates."""

from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.hotels.search import freshness
from ingress.hotels.search.comparing import UNCONVERTED, Comparison, currency_number
from ingress.hotels.search.models import HotelHit
from pricing.charges import charge_limits, is_chargeable
from pricing.conversion import RateTable, converted_minor, rate_table
from pricing.currencies import CURRENCIES, digits_of
from sandbox.ports import free_port
from storage.settings import DatabaseSettings
from tests.ingress.conftest import ingress_settings, run_ingress
from tests.ingress.hotels.test_search import found, search
from tests.ingress.hotels.test_search_plans import CITY_TAX, STANDARD, VAT
from tests.ingress.hotels.town import Town, day, open_town
from tests.ingress.house import House
from topics.kafka.settings import KafkaSettings

#: A price of 100.00 EUR is 200.00 USD, 16000 JPY and 30.000 KWD.
JSON = '{"base": "EUR", "date": "2026-11-27", "source": "a bank", "rates": {"USD": 2, "JPY": 160, "KWD": 0.3}}'


@pytest.fixture
async def town(database: DatabaseSettings) -> AsyncIterator[Town]:
    """A town without hotels."""
    async with open_town(database) as town:
        yield town


@pytest.fixture
async def house(
    town: Town, database: DatabaseSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    """An ingress with a table of rates, whose searches find everything that was committed before."""
    monkeypatch.setattr(freshness, "FRESH_SECONDS", 0.0)
    rates = tmp_path / "rates.json"
    rates.write_text(JSON)
    no_kafka = KafkaSettings(_env_file=None, kafka_url=f"127.0.0.1:{free_port()}")
    settings = ingress_settings(exchange_rates=str(rates))
    async with run_ingress(settings, no_kafka, database, ready=False) as house:
        yield house


async def hotels(town: Town, **prices_minor: int) -> None:
    """Open a hotel for each price, in the currency of its name."""
    for currency, price_minor in prices_minor.items():
        await town.rooms(await town.hotel(currency=currency), price_minor)


def approximate(hits: list[dict[str, Any]]) -> list[tuple[str, str, str | None]]:
    """Return the currency, the price and the approximate price of each hit."""
    return [
        (hit["currency"], hit["min_price"], hit["approximate"]["min_price"] if "approximate" in hit else None)
        for hit in hits
    ]


async def test_a_price_is_shown_in_the_wanted_currency_beside_the_real_one(house: House, town: Town) -> None:
    await hotels(town, EUR=10_001, USD=30_000)

    answered = await search(house, currency="USD", rooms_count=2)

    dear, cheap = answered.body[1], answered.body[0]
    assert (cheap["currency"], cheap["min_price"], cheap["total"]) == ("EUR", "100.01", "400.04")
    assert cheap["approximate"] == {
        "currency": "USD",
        "min_price": "200.02",
        "total": "800.08",
        "due_at_hotel": "0.00",
        "rate_date": "2026-11-27",
        "rate_source": "a bank",
    }
    # The hotel charges this currency, so that its price is no approximation.
    assert (dear["currency"], dear["min_price"], "approximate" in dear) == ("USD", "300.00", False)
    assert [HotelHit.model_validate(hit).model_dump(mode="json", exclude_unset=True) for hit in answered.body] == (
        answered.body
    )


async def test_prices_are_sorted_by_their_worth_and_shown_as_they_are(house: House, town: Town) -> None:
    await hotels(town, KWD=33_000, JPY=16_160, USD=20_500, EUR=10_300, CHF=1_000)

    hits = (await search(house)).body

    # 101.00, 102.50, 103.00 and 110.00 EUR; there is no rate of CHF, so that it is the last.
    assert [hit["currency"] for hit in hits] == ["JPY", "USD", "EUR", "KWD", "CHF"]
    assert not any("approximate" in hit for hit in hits)


async def test_hotels_with_rate_plans_are_sorted_by_the_worth_of_all_that_is_paid(house: House, town: Town) -> None:
    await hotels(town, EUR=10_300, JPY=16_800)
    taxed = await town.rooms(await town.hotel(currency="USD"), 20_000)
    await town.sell_by(taxed, STANDARD, taxes=(VAT, CITY_TAX), infant_max_age=2)

    hits = (await search(house, currency="EUR", adults=1)).body

    # 214.00 USD with VAT, and 2.00 at the hotel a night.
    assert [(hit["currency"], hit["min_price"], hit["total"], hit["due_at_hotel"]) for hit in hits] == [
        ("EUR", "103.00", "206.00", "0.00"),
        ("JPY", "16800", "33600", "0"),
        ("USD", "216.00", "428.00", "4.00"),
    ]
    shown = hits[2]["approximate"]
    assert (shown["min_price"], shown["total"], shown["due_at_hotel"]) == ("108.00", "214.00", "2.00")
    assert await found(house, currency="EUR", adults=1, max_price="107.99") == [1, 2]
    assert await found(house, currency="EUR", adults=1, min_price="108") == [3]


async def test_a_hotel_shows_its_plans_in_the_wanted_currency_too(house: House, town: Town) -> None:
    room = await town.rooms(await town.hotel(currency="USD"), 20_000)
    await town.sell_by(room, STANDARD, taxes=(VAT, CITY_TAX), infant_max_age=2)
    await town.nights(1, room, day(0), day(2), total_count=3, price_minor=20_000, currency="USD")
    stay = {"check_in_date": str(day(0)), "check_out_date": str(day(2)), "adults": "1"}

    shown, own, refused = [
        await house.get("/v1/hotels/1/info", params=stay | {"currency": currency}) for currency in ("EUR", "USD", "CHF")
    ]

    (plan,) = shown.body["rooms"][0]["plans"]
    assert (plan["currency"], plan["total"], plan["due_at_hotel"]) == ("USD", "428.00", "4.00")
    assert plan["approximate"] == {
        "currency": "EUR",
        "total": "214.00",
        "due_at_hotel": "2.00",
        "rate_date": "2026-11-27",
        "rate_source": "a bank",
    }
    assert "approximate" not in own.body["rooms"][0]["plans"][0]
    assert (refused.status, "no exchange rate for CHF" in str(refused.body)) == (422, True)


async def test_pages_and_cursors_follow_the_worth_too(house: House, town: Town) -> None:
    await hotels(town, KWD=33_000, JPY=16_160, USD=20_500, EUR=10_300, CHF=1_000)

    for way in ({"page": 1}, {}):
        currencies, answered = [], await search(house, limit=2, **way)
        while True:
            currencies += [hit["currency"] for hit in answered.body]
            if "Link" not in answered.headers:
                break
            answered = await house.get(answered.headers["Link"].partition(">")[0].removeprefix("<"))
        assert currencies == ["JPY", "USD", "EUR", "KWD", "CHF"]


async def test_hotels_whose_price_cannot_be_shown_are_left_out(house: House, town: Town) -> None:
    await hotels(town, EUR=10_000, CHF=9_000, JPY=16_000)

    assert approximate((await search(house, currency="EUR")).body) == [
        ("EUR", "100.00", None),
        ("JPY", "16000", "100.00"),
    ]
    # There is no rate of CHF: only a hotel that charges it has a price in it.
    assert approximate((await search(house, currency="CHF")).body) == [("CHF", "90.00", None)]


async def test_the_least_and_the_most_are_in_the_wanted_currency_as_it_is_shown(house: House, town: Town) -> None:
    await hotels(town, EUR=10_000, JPY=16_001, USD=30_000)

    # 16,001 JPY are 100.00625 EUR, and shown as 100.01.
    assert [hit[1] for hit in approximate((await search(house, currency="EUR", min_price="100.01")).body)] == [
        "16001",
        "300.00",
    ]
    assert [hit[1] for hit in approximate((await search(house, currency="EUR", max_price="100.01")).body)] == [
        "100.00",
        "16001",
    ]
    assert [hit[1] for hit in approximate((await search(house, currency="EUR", max_price="100.00")).body)] == ["100.00"]
    assert await found(house, currency="JPY", min_price="16001", max_price="16001") == [2]
    # Without a currency they are numbers, as before.
    assert await found(house, max_price="300") == [1, 3]


async def test_hotels_can_be_found_by_the_currency_that_they_charge(house: House, town: Town) -> None:
    await hotels(town, EUR=10_000, JPY=16_000, USD=30_000)

    assert await found(house, charged_in="USD") == [3]
    (hit,) = (await search(house, charged_in="USD", currency="EUR")).body
    assert approximate([hit]) == [("USD", "300.00", "150.00")]


ALL = {currency: Decimal(n + 1).scaleb(-2 + n % 7) for n, currency in enumerate(CURRENCIES) if currency != "EUR"}
chargeable = [currency for currency in CURRENCIES if is_chargeable(currency)]
prices = st.tuples(st.sampled_from(chargeable), st.floats(0, 1)).map(
    lambda drawn: (drawn[0], int(charge_limits(drawn[0])[1] * drawn[1]))
)


def keys_of(rates: RateTable, priced: list[tuple[str, int]]) -> list[int]:
    numbers = np.array([currency_number(currency) for currency, _ in priced], np.intp)
    minor = np.array([price for _, price in priced], np.int64)
    found: list[int] = Comparison(rates).keys(minor, minor, numbers).tolist()
    return found


@given(priced=st.lists(prices, min_size=2, max_size=20), base=st.sampled_from(["EUR", "IDR", "KWD", "JPY"]))
def test_keys_are_in_the_order_of_exact_amounts(priced: list[tuple[str, int]], base: str) -> None:
    per_euro = {**ALL, "EUR": Decimal(1)}
    rates = rate_table(
        base=base,
        on=date(2026, 11, 27),
        rates={code: Decimal(1) if code == base else rate / per_euro[base] for code, rate in per_euro.items()},
        source="x",
    )
    worth = [
        Fraction(price, 10 ** digits_of(currency)) / Fraction(rates.units_for_base(currency))
        for currency, price in priced
    ]

    keys = keys_of(rates, priced)

    assert all(0 <= key < UNCONVERTED for key in keys)
    for key, exact in zip(keys, worth, strict=True):
        for other, other_exact in zip(keys, worth, strict=True):
            # Keys have twelve digits; amounts that differ by less may have one key.
            if exact > other_exact * (1 + Fraction(1, 10**11)):
                assert key >= other
            if exact > other_exact * (1 + Fraction(1, 10**6)) and key > 10**7:
                assert key > other


@given(
    price=st.integers(1, 10**7),
    limit=st.integers(1, 10**7),
    currency=st.sampled_from(["EUR", "JPY", "KWD", "USD"]),
)
def test_a_limit_lets_pass_what_is_shown_within_it(price: int, limit: int, currency: str) -> None:
    rates = rate_table(
        base="EUR",
        on=date(2026, 11, 27),
        rates={"USD": Decimal("1.1435"), "JPY": Decimal("185.72"), "KWD": Decimal("0.3511")},
        source="x",
    )
    shown = converted_minor(rates, price, currency, "USD")
    (key,) = keys_of(rates, [(currency, price)])
    compared = Comparison(rates)
    major = Decimal(limit).scaleb(-2)

    assert (key >= compared.least_key(major, "USD")) is (shown >= limit)
    assert (key < compared.end_key(major, "USD")) is (shown <= limit)


def test_a_currency_without_a_rate_is_behind_all_others_by_its_number() -> None:
    rates = rate_table(base="EUR", on=date(2026, 11, 27), rates={"USD": Decimal(2)}, source="x")

    eur, chf, dearer_chf = keys_of(rates, [("EUR", 10**12), ("CHF", 5), ("CHF", 6)])

    assert eur < UNCONVERTED <= chf < dearer_chf
