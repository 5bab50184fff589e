"""A stay is reserved at prices that are rounded for its currency, and only if its amount can be charged."""

from datetime import date, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.charges import CHARGEABLE, can_be_charged, charge_limits, from_stripe, to_stripe
from pricing.currencies import decimal
from tests.support.scenario import Scenario
from topics.messages.commands import ChangeInventory, OpenInventory, ReserveStay
from topics.messages.events import BookingRejected, BookingReserved
from topics.messages.values import MAX_AMOUNT_MINOR, MAX_PRICE_MINOR, MAX_SURGE_MILLI, Rejection, Terms

FIRST = date(2026, 3, 10)


def ask(
    currency: str, price_minor: int, *surges_milli: int, rooms_count: int = 1, terms: Terms = Terms.PREPAID
) -> BookingReserved | BookingRejected:
    """Ask for a stay with one night for each surge, all at the same price."""
    nights = [FIRST + timedelta(days=number) for number in range(len(surges_milli))]
    scenario = Scenario()
    scenario.when(
        OpenInventory(
            room_id=1,
            hotel_id=1,
            first_night=FIRST,
            end_night=nights[-1] + timedelta(days=1),
            total_count=10,
            price_minor=price_minor,
            currency=currency,
        )
    )
    for night, surge_milli in zip(nights, surges_milli, strict=True):
        end_night = night + timedelta(days=1)
        scenario.when(ChangeInventory(room_id=1, first_night=night, end_night=end_night, surge_milli=surge_milli))
    scenario.when(
        ReserveStay(
            room_id=1,
            booking_id=UUID(int=1),
            user_id=1,
            hotel_id=1,
            check_in=FIRST,
            check_out=nights[-1] + timedelta(days=1),
            rooms_count=rooms_count,
            terms=terms,
        )
    )
    event = scenario.answer[0]
    assert isinstance(event, BookingReserved | BookingRejected)
    return event


@pytest.mark.parametrize(
    ("currency", "price_minor", "nights_minor", "written", "at_stripe"),
    [
        ("EUR", 9_999, (9_999, 14_999), "249.98", 24_998),  # 149.985
        ("KWD", 12_345, (12_350, 18_520), "30.870", 30_870),  # 18.5175
        ("ISK", 12_345, (12_345, 18_518), "30863", 3_086_300),  # 18,517.5
        ("UGX", 350_001, (350_001, 525_002), "875003", 87_500_300),  # 525,001.5
        ("MGA", 1_234_560, (1_234_600, 1_851_800), "30864.00", 30_864),  # 12,345.60 and 18,518.40
        ("IDR", 1_500_000_000, (1_500_000_000, 2_250_000_000), "37500000.00", 3_750_000_000),
    ],
)
def test_a_stay_costs_the_sum_of_its_rounded_nights(
    currency: str, price_minor: int, nights_minor: tuple[int, ...], written: str, at_stripe: int
) -> None:
    reserved = ask(currency, price_minor, 1_000, 1_500)

    assert isinstance(reserved, BookingReserved)
    assert (reserved.night_amounts_minor, reserved.amount_minor) == (nights_minor, sum(nights_minor))
    assert decimal(reserved.amount_minor, reserved.currency) == written
    assert to_stripe(reserved.amount_minor, reserved.currency) == at_stripe
    assert from_stripe(at_stripe, currency) == reserved.amount_minor


@pytest.mark.parametrize(
    ("currency", "price_minor", "nights", "rooms_count", "chargeable"),
    [
        ("EUR", 10, 1, 1, False),
        ("EUR", 25, 1, 1, False),
        ("EUR", 25, 2, 1, True),
        ("JPY", 30, 1, 1, False),
        ("JPY", 30, 1, 2, True),
        ("EUR", 340_000, 30, 10, False),
        ("EUR", 340_000, 29, 10, True),
        ("IDR", 250_000_000, 1, 1, True),
        ("IDR", 1_500_000_000, 30, 10, True),
        ("IDR", 10**12 - 1, 1, 1, True),
        ("IDR", 10**12, 1, 1, False),
        ("KPW", 12_000, 1, 1, False),
        ("SYP", 12_000, 1, 1, False),
    ],
)
def test_an_amount_that_cannot_be_charged_is_not_sold(
    currency: str, price_minor: int, nights: int, rooms_count: int, *, chargeable: bool
) -> None:
    event = ask(currency, price_minor, *[1_000] * nights, rooms_count=rooms_count)

    assert isinstance(event, BookingReserved) is chargeable
    if isinstance(event, BookingRejected):
        assert event.reason is Rejection.NOT_CHARGEABLE


def test_an_amount_that_is_paid_at_the_hotel_needs_no_card() -> None:
    assert isinstance(ask("KPW", 12_000, 1_000, terms=Terms.AT_HOTEL), BookingReserved)
    assert isinstance(ask("EUR", 10, 1_000, terms=Terms.AT_HOTEL), BookingReserved)
    assert isinstance(ask("EUR", MAX_AMOUNT_MINOR, 1_000, terms=Terms.AT_HOTEL), BookingReserved)
    assert isinstance(ask("EUR", MAX_AMOUNT_MINOR, 1_001, terms=Terms.AT_HOTEL), BookingRejected)


@given(
    st.sampled_from(sorted(CHARGEABLE)),
    st.integers(1, MAX_PRICE_MINOR) | st.integers(1, 20_000),
    st.lists(st.integers(1, MAX_SURGE_MILLI), min_size=1, max_size=5),
    st.integers(1, 10),
)
def test_every_stay_that_is_reserved_can_be_charged_at_stripe(
    currency: str, price_minor: int, surges_milli: list[int], rooms_count: int
) -> None:
    event = ask(currency, price_minor, *surges_milli, rooms_count=rooms_count)

    least, most = charge_limits(currency)
    exact = sum(price_minor * surge for surge in surges_milli) * rooms_count / 1000
    if isinstance(event, BookingRejected):
        # Each night is rounded by at most half a step.
        rounded = 50 * len(surges_milli) * rooms_count
        assert event.reason is Rejection.NOT_CHARGEABLE
        assert exact < least + rounded or exact > most - rounded
    else:
        assert can_be_charged(event.amount_minor, currency)
        assert from_stripe(to_stripe(event.amount_minor, currency), currency) == event.amount_minor
