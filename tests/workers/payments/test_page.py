"""The words on Stripe's payment page, its receipt, and the bank statement."""

from dataclasses import replace
from datetime import UTC, date, datetime, time
from typing import Any

import msgspec
import pytest

from pricing.sale import price_stay
from sandbox.stripe.statements import check_suffix
from storage.payments import Stay, StayChange
from topics.messages.sale import (
    CancellationPolicy,
    Collected,
    Kept,
    Meals,
    Party,
    PolicyStep,
    RatePlan,
    Sale,
    SaleTerms,
    Tax,
)
from workers.payments.page import (
    MAX_TERMS_CHARACTERS,
    item_description,
    item_name,
    line_items,
    receipt_text,
    statement_suffix,
    terms_text,
)

STAY = Stay(
    hotel="Sea View",
    room_type="Double room",
    check_in=date(2030, 12, 31),
    check_out=date(2031, 1, 1),
    rooms_count=1,
)


def test_a_line_names_hotel_and_room_and_describes_the_stay() -> None:
    assert item_name(STAY) == "Sea View, Double room"
    assert item_description(STAY) == "31 Dec 2030 - 1 Jan 2031, 1 night, 1 room"
    assert receipt_text(STAY, 17) == "Sea View, Double room: 31 Dec 2030 - 1 Jan 2031, 1 night, 1 room. Booking 17"


def test_a_stay_whose_hotel_is_not_known_is_a_hotel_booking() -> None:
    assert (item_name(None), receipt_text(None, 17)) == ("Hotel booking", "Hotel booking. Booking 17")
    assert statement_suffix(None) is None


def test_a_name_is_one_line_of_a_length_that_stripe_takes() -> None:
    assert item_name(replace(STAY, hotel="Sea\n View ")) == "Sea View , Double room"
    assert len(item_name(replace(STAY, hotel="x" * 9_000))) == 250


@pytest.mark.parametrize(
    ("hotel", "suffix"),
    [
        ("Sea View", "Sea View"),
        ("Hôtel Müller", "Hotel Mull"),
        ("'Zum* <Löwen>\\\"", "Zum Lowen"),
        ("Grand & Sons - Resort", "Grand & So"),
        ("The Inn at - the end", "The Inn at"),
        ("24/7", None),
        ("ホテル", None),
        ("ホテル B", "B"),
        ("  ", None),
    ],
)
def test_a_statement_has_the_hotels_name_as_far_as_banks_print_it(hotel: str, suffix: str | None) -> None:
    found = statement_suffix(replace(STAY, hotel=hotel))

    assert found == suffix
    # The longest prefix that an account can have.
    check_suffix("INNKEEPERS", found)


BEFORE = datetime(2030, 12, 1, tzinfo=UTC)
PLAN = RatePlan(
    id="standard",
    name="Flexible",
    meals=Meals.HALF_BOARD,
    policy=CancellationPolicy(
        id="half",
        steps=(PolicyStep(hours_before=48, kept=Kept(percent=50)), PolicyStep(hours_before=24, kept=Kept(nights=1))),
    ),
)
TAXES = (
    Tax(id="vat", name="VAT", percent_milli=25_000, included=True),
    Tax(id="fee", name="Cleaning\nfee", amount_minor=1_000),
    Tax(id="city", name="City tax", amount_minor=200, per_person=True, collected=Collected.AT_HOTEL),
    Tax(id="forest", name="Forest fund", percent_milli=10_000),
)


def sold(plan: RatePlan = PLAN, taxes: tuple[Tax, ...] = TAXES, currency: str = "EUR") -> tuple[int, Stay]:
    """Return the amount and the words of a night of 100.00 for two."""
    price = price_stay(
        SaleTerms(version=1, plans=(plan,), taxes=taxes),
        plan,
        Party(adults=2),
        [10_000],
        check_in=STAY.check_in,
        check_in_time=time(15),
        rooms_count=1,
        currency=currency,
    )
    return price.amount_minor, replace(STAY, sale=price.sale)


def amounts(items: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(item["price_data"]["product_data"]["name"], item["price_data"]["unit_amount"]) for item in items]


@pytest.mark.parametrize(("currency", "factor"), [("EUR", 1), ("ISK", 100)])
def test_each_tax_that_is_added_and_paid_now_has_a_line_of_the_page_and_the_sum_is_the_amount(
    currency: str, factor: int
) -> None:
    amount_minor, stay = sold(currency=currency)

    items = line_items(amount_minor, currency, stay)

    stay_line, *taxes = amounts(items)
    assert stay_line == ("Sea View, Double room", 10_000 * factor)
    assert taxes == [("Cleaning fee", 1_000 * factor), ("Forest fund", 1_000 * factor)]
    assert amount_minor == 12_000
    description = "31 Dec 2030 - 1 Jan 2031, 1 night, 1 room, Flexible, half board"
    assert items[0]["price_data"]["product_data"]["description"] == description


def test_a_booking_of_nothing_or_without_sale_terms_has_one_line() -> None:
    _, stay = sold()

    assert amounts(line_items(0, "EUR", stay)) == [("Sea View, Double room", 0)]
    assert amounts(line_items(5_000, "EUR", STAY)) == [("Sea View, Double room", 5_000)]
    assert (terms_text("EUR", STAY, BEFORE), terms_text("EUR", None, BEFORE)) == (None, None)


def test_a_change_is_one_line_that_names_both_stays_and_the_additional_amount() -> None:
    amount_minor, stay = sold()
    longer = StayChange(
        attempt=2, check_in=STAY.check_in, check_out=date(2031, 1, 3), rooms_count=2, sale=sold()[1].sale
    )
    changing = replace(stay, change=longer)

    items = line_items(7_700, "EUR", changing)

    assert amounts(items) == [("Sea View, Double room", 7_700)]
    words = (
        "Additional amount for a change of the stay, now 31 Dec 2030 - 1 Jan 2031, 1 night, 1 room, to "
        "31 Dec 2030 - 3 Jan 2031, 3 nights, 2 rooms, Flexible, half board"
    )
    assert items[0]["price_data"]["product_data"]["description"] == words
    assert receipt_text(changing, 17) == f"Sea View, Double room: {words}. Booking 17"
    # An additional amount that happens to be the price of the present stay has no lines of taxes either.
    assert amounts(line_items(amount_minor, "EUR", changing)) == [("Sea View, Double room", amount_minor)]


def test_the_terms_beside_a_change_are_those_of_the_new_stay() -> None:
    _, stay = sold()
    free = sold(msgspec.structs.replace(PLAN, policy=CancellationPolicy(id="free")), TAXES[:2])[1].sale
    change = StayChange(attempt=2, check_in=STAY.check_in, check_out=STAY.check_out, rooms_count=2, sale=free)

    text = terms_text("EUR", replace(stay, change=change), BEFORE)

    # The taxes that the price includes are those of all of it, and a part of it is paid here.
    assert text == "Cancellation by the hotel's clock: free until check-in."
    assert terms_text("EUR", replace(stay, change=replace(change, sale=None)), BEFORE) is None


def test_an_amount_that_is_not_the_price_of_the_stay_has_no_lines_of_its_taxes() -> None:
    amount_minor, stay = sold()

    assert amounts(line_items(amount_minor + 1, "EUR", stay)) == [("Sea View, Double room", amount_minor + 1)]


def test_the_page_names_the_costs_of_a_cancellation_and_what_is_paid_at_the_hotel() -> None:
    _, stay = sold()

    assert terms_text("EUR", stay, BEFORE) == (
        "Cancellation by the hotel's clock: free until 29 Dec 2030, 15:00; 60.00 EUR until 30 Dec 2030, 15:00; "
        "120.00 EUR until check-in. Paid at the hotel: 4.00 EUR (City tax). Included: VAT 20.00 EUR."
    )


@pytest.mark.parametrize(
    ("time_zone", "now", "costs"),
    [
        ("UTC", datetime(2030, 12, 29, 14, 59, tzinfo=UTC), "free until 29 Dec 2030, 15:00; 60.00 EUR until"),
        ("UTC", datetime(2030, 12, 29, 15, tzinfo=UTC), "60.00 EUR until 30 Dec 2030, 15:00; 120.00 EUR until"),
        ("UTC", datetime(2030, 12, 30, 15, tzinfo=UTC), "120.00 EUR until check-in."),
        ("Asia/Tokyo", datetime(2030, 12, 29, 5, 59, tzinfo=UTC), "free until 29 Dec 2030, 15:00; 60.00 EUR until"),
        ("Asia/Tokyo", datetime(2030, 12, 29, 6, tzinfo=UTC), "60.00 EUR until 30 Dec 2030, 15:00; 120.00 EUR until"),
        ("Not/AZone", datetime(2030, 12, 30, 15, tzinfo=UTC), "free until 29 Dec 2030, 15:00; 60.00 EUR until"),
    ],
)
def test_steps_that_are_over_at_the_request_are_not_named(time_zone: str, now: datetime, costs: str) -> None:
    text = terms_text("EUR", replace(sold()[1], time_zone=time_zone), now)

    assert text is not None
    assert text.startswith(f"Cancellation by the hotel's clock: {costs}")
    assert ("cannot be cancelled without cost any more" in text) is ("free" not in costs)


def test_a_stay_that_costs_the_same_at_any_time_has_one_step() -> None:
    _, free = sold(msgspec.structs.replace(PLAN, policy=CancellationPolicy(id="free")), ())
    _, strict = sold(msgspec.structs.replace(PLAN, refundable=False), ())

    assert terms_text("EUR", free, BEFORE) == "Cancellation by the hotel's clock: free until check-in."
    assert terms_text("EUR", strict, BEFORE) == "Cancellation by the hotel's clock: 100.00 EUR until check-in."


def test_the_words_of_the_page_keep_stripes_limit() -> None:
    taxes = tuple(msgspec.structs.replace(tax, name="x" * 100) for tax in TAXES * 6)
    _, stay = sold(taxes=taxes)
    assert isinstance(stay.sale, Sale)

    text = terms_text("EUR", stay, BEFORE)

    assert text is not None
    assert len(text) <= MAX_TERMS_CHARACTERS
    assert text.startswith("Cancellation by the hotel's clock: free until")
    assert "Paid at the hotel: " in text
    assert "Included: " not in text


def trip() -> tuple[int, Stay]:
    """Return the amount and the words of a trip: a room by the plan, and two rooms that cost nothing to cancel."""
    free = msgspec.structs.replace(PLAN, policy=CancellationPolicy(id="free"))
    (first_minor, first), (second_minor, second) = sold(), sold(free, TAXES[:3])
    legs = (
        replace(first, amount_minor=first_minor),
        replace(second, amount_minor=second_minor, room_type="Suite", rooms_count=2),
    )
    return first_minor + second_minor, replace(STAY, legs=legs, rooms_count=3)


def test_a_trip_has_the_lines_of_each_of_its_legs_and_the_sum_is_the_amount() -> None:
    amount_minor, stay = trip()

    items = line_items(amount_minor, "EUR", stay)

    assert amounts(items) == [
        ("Sea View, Double room", 10_000),
        ("Cleaning fee", 1_000),
        ("Forest fund", 1_000),
        ("Sea View, Suite", 10_000),
        ("Cleaning fee", 1_000),
    ]
    assert "1 night, 2 rooms, Flexible" in items[3]["price_data"]["product_data"]["description"]
    assert receipt_text(stay, 17) == (
        "Sea View, Double room + Suite: 31 Dec 2030 - 1 Jan 2031, 1 night, 3 rooms. Booking 17"
    )
    # An amount that is not that of the legs together has one line.
    assert amounts(line_items(1, "EUR", stay)) == [("Sea View, Double room + Suite", 1)]


def test_the_terms_of_a_trip_are_the_sums_of_its_legs() -> None:
    _, stay = trip()

    assert terms_text("EUR", stay, BEFORE) == (
        "Cancellation of all rooms by the hotel's clock: free until 29 Dec 2030, 15:00; 60.00 EUR until 30 Dec 2030, "
        "15:00; 120.00 EUR until check-in. Each room can be cancelled alone, at its own costs. "
        "Paid at the hotel: 8.00 EUR (City tax). Included: VAT 40.00 EUR."
    )
    plain = replace(stay, legs=tuple(replace(leg, sale=None) for leg in stay.legs))
    assert terms_text("EUR", plain, BEFORE) is None


def test_the_costs_of_a_trip_change_at_each_time_at_which_those_of_a_leg_do() -> None:
    _, stay = trip()
    strict = sold(
        msgspec.structs.replace(
            PLAN, policy=CancellationPolicy(id="all", steps=(PolicyStep(hours_before=72, kept=Kept(percent=100)),))
        ),
        (),
    )[1]

    text = terms_text("EUR", replace(stay, legs=(stay.legs[0], strict)), BEFORE)

    assert text is not None
    assert text.startswith(
        "Cancellation of all rooms by the hotel's clock: free until 28 Dec 2030, 15:00; 100.00 EUR until 29 Dec 2030, "
        "15:00; 160.00 EUR until 30 Dec 2030, 15:00; 220.00 EUR until check-in. Each room"
    )
