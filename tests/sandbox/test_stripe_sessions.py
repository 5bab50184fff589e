"""A session's lines, language, description and statement descriptor."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import stripe

from sandbox.stripe.statements import MAX_DESCRIPTOR_LENGTH
from tests.sandbox.stripe_shop import LATE_DEBIT, SDK_IS_OLD_FASHIONED, Shop, open_shop

pytestmark = SDK_IS_OLD_FASHIONED

LINES: list[dict[str, Any]] = [
    {
        "price_data": {
            "currency": "eur",
            "unit_amount": 12000,
            "product_data": {"name": "Hotel Post, Double room", "description": "1 room, 3 nights: 1 to 4 March 2027"},
        },
        "quantity": 1,
    },
    {"price_data": {"currency": "eur", "unit_amount": 150, "product_data": {"name": "City tax"}}, "quantity": 6},
]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as shop:
        yield shop


async def test_a_session_is_the_sum_of_its_lines(shop: Shop) -> None:
    session = await shop.open(line_items=LINES)

    lines = (await shop.sessions.line_items.list_async(session.id)).data
    expanded = await shop.sessions.retrieve_async(session.id, {"expand": ["line_items"]})

    assert (session.amount_total, session.amount_subtotal) == (12900, 12900)
    assert [(line.description, line.quantity, line.amount_total) for line in lines] == [
        ("Hotel Post, Double room", 1, 12000),
        ("City tax", 6, 900),
    ]
    assert [line.id for line in expanded.line_items.data] == [line.id for line in lines]
    assert not any(name.startswith("_") for line in lines for name in line.to_dict())


async def test_lines_of_two_currencies_are_refused(shop: Shop) -> None:
    second = {**LINES[1], "price_data": {**LINES[1]["price_data"], "currency": "chf"}}

    with pytest.raises(stripe.InvalidRequestError, match="same currency"):
        await shop.open(line_items=[LINES[0], second])


async def test_the_page_shows_every_line_with_its_dates(shop: Shop) -> None:
    session = await shop.open(line_items=LINES, locale="de")

    page = await (await shop.http.get(session.url)).text()

    assert session.locale == "de"
    assert '<html lang="de">' in page
    for line in ("Hotel Post, Double room", "1 room, 3 nights: 1 to 4 March 2027", "City tax"):
        assert line in page
    assert "EUR 9.00" in page
    assert "EUR 129.00" in page


async def test_a_language_that_stripe_does_not_have_is_refused(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as raised:
        await shop.open(locale="tlh")

    assert raised.value.param == "locale"


async def test_description_and_descriptor_reach_the_charge(shop: Shop) -> None:
    given = {"description": "Hotel Post, 1 to 4 March", "statement_descriptor_suffix": "HOTEL POST"}
    session = await shop.paid(payment_intent_data=given)

    payment = await shop.client.v1.payment_intents.retrieve_async(session.payment_intent, {"expand": ["latest_charge"]})

    charge = payment.latest_charge
    assert isinstance(charge, stripe.Charge)
    assert (payment.description, payment.statement_descriptor_suffix) == (given["description"], "HOTEL POST")
    assert (charge.description, charge.calculated_statement_descriptor) == (
        given["description"],
        "INNKEEPER* HOTEL POST",
    )
    assert len(charge.calculated_statement_descriptor or "") <= MAX_DESCRIPTOR_LENGTH


async def test_a_bank_debit_has_no_descriptor_of_a_card(shop: Shop) -> None:
    session = await shop.paid(card=LATE_DEBIT, payment_intent_data={"statement_descriptor_suffix": "HOTEL POST"})

    payment = await shop.client.v1.payment_intents.retrieve_async(session.payment_intent, {"expand": ["latest_charge"]})

    assert isinstance(payment.latest_charge, stripe.Charge)
    assert payment.latest_charge.calculated_statement_descriptor is None


@pytest.mark.parametrize(
    ("suffix", "reason"),
    [
        ("HÔTEL", "Latin characters"),
        ("ホテル", "Latin characters"),
        ("A\tB", "Latin characters"),
        ("HOTEL*POST", "must not contain"),
        ("O'HARE", "must not contain"),
        ("<POST>", "must not contain"),
        ("12345", "at least one letter"),
        ("HOTEL POSTAL", "at most 22 characters"),
    ],
)
async def test_a_descriptor_that_banks_do_not_print_is_refused(shop: Shop, suffix: str, reason: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=reason) as raised:
        await shop.open(payment_intent_data={"statement_descriptor_suffix": suffix})

    assert raised.value.param == "payment_intent_data[statement_descriptor_suffix]"
