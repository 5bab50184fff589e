"""The words on Stripe's payment page, its receipt, and the bank statement."""

from dataclasses import replace
from datetime import date

import pytest

from sandbox.stripe.statements import check_suffix
from storage.payments import Stay
from workers.payments.page import item_description, item_name, receipt_text, statement_suffix

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
