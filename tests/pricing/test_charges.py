"""The table of currencies that can be charged: complete, as Stripe documents it, and exact in both directions."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.charges import (
    CHARGEABLE,
    can_be_charged,
    charge_limits,
    from_stripe,
    is_chargeable,
    limits_in_words,
    reason_not_chargeable,
    step_minor,
    to_stripe,
)
from pricing.currencies import CURRENCIES, decimal, digits_of
from pricing.stays import night_price_minor, stay_amount_minor
from topics.messages.values import MAX_AMOUNT_MINOR, MAX_PRICE_MINOR, MAX_SURGE_MILLI

#: Currencies of ISO 4217 that are in no list of Stripe's: of each it is known that nobody can pay in it.
NOT_AT_STRIPE = {
    *("BTN", "CUP", "ERN", "GHS", "IQD", "IRR", "KPW", "LYD", "MRU"),
    *("SDG", "SSP", "STN", "SVC", "SYP", "TMT", "VES", "ZWG"),
}
currencies = st.sampled_from(sorted(CHARGEABLE))


def test_every_currency_is_decided() -> None:
    assert sorted([*CHARGEABLE, *NOT_AT_STRIPE]) == sorted(CURRENCIES)
    assert [currency for currency in CURRENCIES if is_chargeable(currency) is (currency in NOT_AT_STRIPE)] == []


@pytest.mark.parametrize(
    ("currency", "least", "most", "step"),
    [
        ("EUR", "0.50", "999999.99", "0.01"),
        ("GBP", "0.30", "999999.99", "0.01"),
        ("CZK", "15.00", "999999.99", "0.01"),
        ("JPY", "50", "9999999999", "1"),
        ("KRW", "50", "99999999", "1"),
        ("HUF", "175.00", "99999999.99", "0.01"),
        ("TWD", "20.00", "999999.99", "0.01"),
        ("IDR", "0.50", "9999999999.99", "0.01"),
        ("COP", "0.50", "99999999.99", "0.01"),
        ("INR", "0.50", "9999999.99", "0.01"),
        ("KWD", "0.200", "99999.990", "0.010"),
        ("ISK", "100", "999999", "1"),
        ("UGX", "2000", "9999999", "1"),
        ("MGA", "5000.00", "99999999.00", "1.00"),
        ("eur", "0.50", "999999.99", "0.01"),
    ],
)
def test_the_limits_are_those_that_stripe_documents(currency: str, least: str, most: str, step: str) -> None:
    limits = [decimal(limit, currency) for limit in charge_limits(currency)]

    assert (limits, decimal(step_minor(currency), currency)) == ([least, most], step)


@pytest.mark.parametrize("currency", sorted(CHARGEABLE))
def test_the_limits_themselves_can_be_charged_and_nothing_beyond(currency: str) -> None:
    least, most = charge_limits(currency)
    step = step_minor(currency)

    assert 0 < least < most <= MAX_AMOUNT_MINOR
    assert most <= MAX_PRICE_MINOR
    assert [can_be_charged(amount, currency) for amount in (0, least, least + step, most)] == [True] * 4
    for amount in (-step, step - least, least - step, most + step):
        assert can_be_charged(amount, currency) is (amount == 0)
    if step > 1:
        assert not can_be_charged(least + 1, currency)


@pytest.mark.parametrize(
    ("amount_minor", "currency", "words"),
    [
        (12_000, "EUR", None),
        (0, "EUR", None),
        (10, "EUR", "must be from 0.50 to 999999.99 EUR"),
        (102_000_000, "EUR", "must be from 0.50 to 999999.99 EUR"),
        (30, "JPY", "must be from 50 to 9999999999 JPY"),
        (12_345, "KWD", "must be a multiple of 0.010 KWD"),
        (12_350, "KWD", None),
        (500_050, "MGA", "must be a multiple of 1.00 MGA"),
        (1_500_000_000, "IDR", None),
        (12_000, "KPW", "payments in KPW are not possible"),
        (12_000, "XXX", "payments in XXX are not possible"),
    ],
)
def test_an_amount_that_cannot_be_charged_has_a_reason_in_words(
    amount_minor: int, currency: str, words: str | None
) -> None:
    assert reason_not_chargeable(amount_minor, currency) == words


@given(st.integers(-(10**13), 10**13), st.sampled_from(sorted(CURRENCIES)))
def test_there_is_a_reason_exactly_if_an_amount_cannot_be_charged(amount_minor: int, currency: str) -> None:
    assert (reason_not_chargeable(amount_minor, currency) is None) is can_be_charged(amount_minor, currency)


def test_a_currency_that_cannot_be_charged_has_no_limits() -> None:
    with pytest.raises(ValueError, match="KPW cannot be charged"):
        charge_limits("KPW")
    assert limits_in_words("KPW") == "payments in KPW are not possible"
    assert step_minor("KPW") == 1


@pytest.mark.parametrize(
    ("amount_minor", "currency", "amount"),
    [
        (1_099, "USD", 1_099),
        (500, "JPY", 500),
        (5, "ISK", 500),
        (5, "UGX", 500),
        (500, "MGA", 5),
        (5_120, "KWD", 5_120),
        (1_045, "HUF", 1_045),
        (80_045, "TWD", 80_045),
        (5, "isk", 500),
    ],
)
def test_stripe_gets_amounts_in_its_own_unit(amount_minor: int, currency: str, amount: int) -> None:
    # The examples of docs.stripe.com/currencies.
    assert to_stripe(amount_minor, currency) == amount
    assert from_stripe(amount, currency) == amount_minor


@given(currencies, st.integers(0, 10**12))
def test_every_chargeable_amount_comes_back_from_stripe_as_it_went(currency: str, steps: int) -> None:
    amount_minor = steps * step_minor(currency)

    assert from_stripe(to_stripe(amount_minor, currency), currency) == amount_minor


@given(currencies, st.integers(0, 10**12))
def test_stripes_amount_is_the_same_money(currency: str, steps: int) -> None:
    amount_minor = steps * step_minor(currency)
    in_stripes_unit = Decimal(to_stripe(amount_minor, currency)).scaleb(-CHARGEABLE[currency].stripe_digits)

    assert in_stripes_unit == Decimal(amount_minor).scaleb(-digits_of(currency))


def test_a_fraction_of_stripes_unit_is_refused_on_the_way_and_rounded_on_the_way_back() -> None:
    with pytest.raises(ValueError, match="150 minor units of MGA are no whole number"):
        to_stripe(150, "MGA")
    # Stripe has no such amounts.
    assert [from_stripe(amount, "UGX") for amount in (449, 450, 550, 50, 49)] == [4, 5, 6, 1, 0]


@given(
    currencies,
    st.lists(st.tuples(st.integers(0, MAX_PRICE_MINOR), st.integers(1, MAX_SURGE_MILLI)), min_size=1, max_size=30),
    st.integers(1, 10),
)
def test_a_stay_between_the_limits_can_always_be_charged(
    currency: str, nights: list[tuple[int, int]], rooms_count: int
) -> None:
    step = step_minor(currency)
    amount = stay_amount_minor((night_price_minor(*night, step) for night in nights), rooms_count)
    least, most = charge_limits(currency)

    assert can_be_charged(amount, currency) is (amount == 0 or least <= amount <= most)
