"""The stand-in charges each currency as Stripe does, and refuses every amount that our table refuses."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import stripe

from pricing.charges import CHARGEABLE, charge_limits, from_stripe, is_chargeable, step_minor, to_stripe
from pricing.currencies import CURRENCIES
from tests.sandbox.stripe_shop import SDK_IS_OLD_FASHIONED, Shop, error_of, open_shop

pytestmark = SDK_IS_OLD_FASHIONED


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as shop:
        yield shop


def item(amount: int, currency: str, quantity: int = 1) -> dict[str, Any]:
    """Return a line of a session; `amount` in Stripe's unit."""
    price = {"currency": currency, "unit_amount": amount, "product_data": {"name": "Sea view"}}
    return {"price_data": price, "quantity": quantity}


async def refusal(shop: Shop, amount: int, currency: str, quantity: int = 1) -> dict[str, Any] | None:
    """Return the error of a session with one line, None if it is opened."""
    try:
        await shop.open(line_items=[item(amount, currency, quantity)])
    except stripe.InvalidRequestError as error:
        return error_of(error)
    return None


async def codes(shop: Shop, currency: str, *amounts_minor: int) -> list[str | None]:
    """Return the code of each refusal, None for an amount that is accepted; amounts in minor units."""
    errors = [await refusal(shop, to_stripe(amount, currency), currency.lower()) for amount in amounts_minor]
    return [None if error is None else error.get("code", "no code") for error in errors]


async def test_our_table_has_the_limits_of_stripe(shop: Shop) -> None:
    wrong = {}
    for currency in CHARGEABLE:
        (least, most), step = charge_limits(currency), step_minor(currency)
        found = await codes(shop, currency, least - step, least, most, most + step)
        if found != ["amount_too_small", None, None, "amount_too_large"]:
            wrong[currency] = found
    assert wrong == {}


async def test_a_currency_that_our_table_does_not_charge_is_unknown_to_stripe(shop: Shop) -> None:
    for currency in [*sorted(set(CURRENCIES) - CHARGEABLE.keys()), "XXX", "BGN", "E1R"]:
        assert not is_chargeable(currency)
        error = await refusal(shop, 100_000, currency.lower())
        assert error is not None, currency
        assert error["message"].startswith(f"Invalid currency: {currency.lower()}. Stripe currently supports")
        assert error["param"] == "line_items[0][price_data][currency]"


@pytest.mark.parametrize(
    ("amount", "currency", "accepted"),
    [
        (500_000, "isk", True),
        (500_050, "isk", False),
        (500_000, "ugx", True),
        (500_001, "ugx", False),
        (5_120, "kwd", True),
        (5_124, "kwd", False),
        (12_345, "omr", False),
        (50_001, "mga", True),
        (1_045_001, "huf", True),
        (80_045, "twd", True),
    ],
)
async def test_the_last_digits_of_some_currencies_are_zeros(
    shop: Shop, amount: int, currency: str, *, accepted: bool
) -> None:
    error = await refusal(shop, amount, currency)

    assert (error is None) is accepted
    if error is not None:
        assert "must be evenly divisible by" in error["message"]
        assert error["param"] == "line_items[0][price_data][unit_amount]"


@pytest.mark.parametrize(
    ("amount_minor", "currency", "quantity", "code"),
    [
        (10, "EUR", 1, "amount_too_small"),
        (30, "JPY", 1, "amount_too_small"),
        (30, "JPY", 2, None),
        (340_000, "EUR", 300, "amount_too_large"),
        (250_000_000, "IDR", 1, None),
        (1_500_000_000, "IDR", 30, None),
        (1_500_000_000, "IDR", 1000, "amount_too_large"),
    ],
)
async def test_a_sessions_total_counts(
    shop: Shop, amount_minor: int, currency: str, quantity: int, code: str | None
) -> None:
    error = await refusal(shop, to_stripe(amount_minor, currency), currency.lower(), quantity)

    assert (None if error is None else error["code"]) == code


@pytest.mark.parametrize(
    ("currency", "amount_minor", "written", "fraction"),
    [
        ("ISK", 24_900, "ISK 24,900.00", 50),
        ("UGX", 350_000, "UGX 350,000.00", 10),
        ("MGA", 45_000_000, "MGA 450,000", None),
        ("KWD", 12_350, "KWD 12.350", 5),
        ("HUF", 4_500_050, "HUF 45,000.50", None),
        ("JPY", 18_000, "JPY 18,000", None),
        ("IDR", 1_500_000_000, "IDR 15,000,000.00", None),
    ],
)
async def test_a_stay_is_shown_paid_and_refunded_in_part_and_whole(
    shop: Shop, currency: str, amount_minor: int, written: str, fraction: int | None
) -> None:
    session = await shop.open(line_items=[item(to_stripe(amount_minor, currency), currency.lower())])
    assert written in await (await shop.http.get(session.url)).text()
    await shop.pay(session)
    paid = await shop.sessions.retrieve_async(session.id)
    assert (from_stripe(paid.amount_total, currency), paid.payment_status) == (amount_minor, "paid")

    payment = {"payment_intent": paid.payment_intent}
    if fraction is not None:
        with pytest.raises(stripe.InvalidRequestError, match="must be evenly divisible by") as refused:
            await shop.refunds.create_async(payment | {"amount": fraction})
        assert refused.value.param == "amount"
    part_minor = amount_minor // 10 - amount_minor // 10 % step_minor(currency)
    part = await shop.refunds.create_async(payment | {"amount": to_stripe(part_minor, currency)})
    rest = await shop.refunds.create_async(payment)
    refunded = from_stripe(part.amount, currency), from_stripe(rest.amount, currency)
    assert refunded == (part_minor, amount_minor - part_minor)
