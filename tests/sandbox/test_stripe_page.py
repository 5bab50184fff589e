"""The hosted page, as a guest's browser sees it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.stripe.currencies import money
from tests.sandbox.stripe_shop import DECLINED_CARD, LATE_DEBIT, SDK_IS_OLD_FASHIONED, Shop, open_shop

pytestmark = SDK_IS_OLD_FASHIONED


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as shop:
        yield shop


async def test_a_guest_pays_on_the_page_and_returns_to_the_shop(shop: Shop) -> None:
    session = await shop.open()

    page = await (await shop.http.get(session.url)).text()
    paid = await shop.http.post(session.url, data={"card": "4242 4242 4242 4242"}, allow_redirects=False)

    assert "EUR 120.00" in page
    assert "Sea view" in page
    assert 'href="http://127.0.0.1:9/basket"' in page
    assert paid.status == 303
    assert paid.headers["Location"] == f"http://127.0.0.1:9/thanks?session={session.id}"
    assert (await shop.sessions.retrieve_async(session.id)).payment_status == "paid"


async def test_a_declined_guest_reads_why_and_may_try_again(shop: Shop) -> None:
    session = await shop.open()

    answer = await shop.http.post(session.url, data={"card": DECLINED_CARD})

    page = await answer.text()
    assert answer.status == 402
    assert "Your card was declined." in page
    assert "Pay EUR 120.00" in page


async def test_a_number_that_is_no_test_card_is_not_even_tried(shop: Shop) -> None:
    session = await shop.open()

    answer = await shop.http.post(session.url, data={"card": "1234"})

    assert answer.status == 402
    assert (await shop.sessions.retrieve_async(session.id)).payment_intent is None


@pytest.mark.parametrize(("card", "text_shown"), [("4242424242424242", "this is paid"), (LATE_DEBIT, "on its way")])
async def test_a_guest_cannot_pay_twice(shop: Shop, card: str, text_shown: str) -> None:
    session = await shop.open()
    await shop.pay(session, card)

    again = await shop.http.post(session.url, data={"card": card}, allow_redirects=False)

    assert text_shown in await again.text()
    assert len((await shop.read("/_sandbox/ledger"))["payment_intents"]) == 1


async def test_a_guest_who_comes_too_late_finds_the_session_expired(shop: Shop) -> None:
    session = await shop.open()
    shop.stand_in.clock.advance(31 * 60)

    for answer in (await shop.http.get(session.url), await shop.http.post(session.url, data={"card": "4242" * 4})):
        assert "has expired" in await answer.text()
    assert (await shop.read("/_sandbox/ledger"))["payment_intents"] == []


async def test_a_page_of_no_session_is_not_found(shop: Shop) -> None:
    answer = await shop.http.get(f"{shop.stand_in.url}/c/pay/cs_test_nobody")

    assert answer.status == 404


async def test_the_text_of_a_shop_is_never_taken_for_markup(shop: Shop) -> None:
    product = {"name": "<script>alert(1)</script>"}
    item = {"price_data": {"currency": "eur", "unit_amount": 6000, "product_data": product}, "quantity": 1}
    session = await shop.open(line_items=[item])

    assert "<script>" not in await (await shop.http.get(session.url)).text()


@pytest.mark.parametrize(
    ("amount_minor", "currency", "written"),
    [
        (1234567, "eur", "EUR 12,345.67"),
        (5, "usd", "USD 0.05"),
        (12345, "jpy", "JPY 12,345"),
        (1500, "kwd", "KWD 1.500"),
    ],
)
def test_amounts_are_written_by_their_currencys_minor_unit(amount_minor: int, currency: str, written: str) -> None:
    assert money(amount_minor, currency) == written
