"""The audit computes what is due of a payment by its own means, in whatever order Stripe's reports were recorded."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest

from operators.audit.expected_bookings import KnownBookings
from operators.audit.expected_payments import ExpectedPayments
from operators.audit.expected_rows import Booking, Payment

ABOUT: dict[str, Any] = {"room_id": 1, "booking_id": "ada", "payment_intent": "pi_1", "amount_minor": 110_00}
REPORTS = (
    {**ABOUT, "type": "booking.refunded.v1", "refund_id": "re_1"},
    {**ABOUT, "type": "booking.refund_failed.v1", "refund_id": "re_1"},
    {**ABOUT, "type": "booking.refunded.v1", "refund_id": "re_2"},
)


@pytest.mark.parametrize("order", [order for order in permutations(range(3)) if order.index(0) < order.index(1)])
def test_a_part_that_was_sent_twice_because_it_failed_once_is_not_due_again(order: Sequence[int]) -> None:
    found: list[str] = []
    known = KnownBookings(lambda _, sentence: found.append(sentence))
    stay = {"room_id": 1, "hotel_id": 1, "check_in": "2026-03-09", "check_out": "2026-03-10", "rooms_count": 1}
    known.by_id["ada"] = Booking(stay, "CONFIRMED", [])
    paid = known.by_id["ada"].payments["pi_1"] = Payment(220_00)
    paid.due = 110_00
    payments = ExpectedPayments(known)

    for number in order:
        event = REPORTS[number]
        payments.appliers[event["type"]](event)

    assert found == []
    assert (paid.refunded, paid.due, paid.kept) == (110_00, 0, 110_00)


def test_a_payment_whose_rest_is_due_keeps_nothing_for_the_policy_of_a_cancellation() -> None:
    """Of 200.00, 166.66 went back by hand, and 33.34 are due of a cheaper stay of 100.00, all of which is kept."""
    stay = {"room_id": 1, "hotel_id": 1, "check_in": "2026-03-09", "check_out": "2026-03-10", "rooms_count": 1}
    booking = Booking(stay, "CANCELLED", [])
    booking.policy = {"kept_minor": 100_00}
    paid = booking.payments["pi_1"] = Payment(200_00)
    paid.refunds, paid.due = {"re_hand": (166_66, True)}, 33_34

    ExpectedPayments(KnownBookings(lambda *_: None)).end(booking)

    assert (paid.state, paid.policy, paid.due) == ("refund_requested", 0, 33_34)
