"""The money that left a trip's payment falls on its legs in proportion to what is kept of each."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.audit.expected_trip_money import TripMoney
from pricing.revenue import LegWorth, leg_deductions_minor, without_taxes_at_hotel

BOTH_HELD = (LegWorth(60_00), LegWorth(40_00))
#: The second leg keeps 10.00 of its 40.00, so that 30.00 are due to the guest.
ENDED = (LegWorth(60_00), LegWorth(40_00, 10_00))


@pytest.mark.parametrize(
    ("legs", "refunded", "taken", "closed", "parts"),
    [
        (BOTH_HELD, 0, 0, 0, (0, 0)),
        (BOTH_HELD, 0, 10_00, 0, (6_00, 4_00)),
        (BOTH_HELD, 0, 1, 0, (1, 0)),
        (BOTH_HELD, 0, 100_00, 0, (60_00, 40_00)),
        # A dispute may take a payment of which a part was refunded before.
        (BOTH_HELD, 0, 130_00, 0, (60_00, 40_00)),
        (ENDED, 30_00, 0, 0, (0, 0)),
        (ENDED, 30_00, 7_00, 0, (6_00, 1_00)),
        # A refund by hand before ours gave the guest a part of what is due.
        (ENDED, 25_00, 5_00, 0, (0, 0)),
        (ENDED, 0, 30_00, 0, (0, 0)),
        # An operator closed our refund: the guest has the money otherwise, and what leaves then is the hotel's.
        (ENDED, 0, 0, 30_00, (0, 0)),
        (ENDED, 0, 7_00, 30_00, (6_00, 1_00)),
        # It was on its way when the operator closed it, and went back after all.
        (ENDED, 30_00, 0, 30_00, (0, 0)),
        ((LegWorth(60_00, 0), LegWorth(40_00, 0)), 100_00, 5_00, 0, (0, 0)),
    ],
)
def test_legs_share_the_money_that_left_and_was_not_due_to_the_guest(
    legs: tuple[LegWorth, ...], refunded: int, taken: int, closed: int, parts: tuple[int, ...]
) -> None:
    paid = sum(leg.amount_minor for leg in legs)
    found = leg_deductions_minor(legs, paid_minor=paid, refunded_minor=refunded, taken_minor=taken, closed_minor=closed)
    assert found == parts


@pytest.mark.parametrize(
    ("kept", "refunded", "taken", "closed", "part"),
    [
        (None, 0, 0, 0, 0),
        # The leg costs 60.00, and 100.00 were paid: 40.00 are due to the guest.
        (None, 40_00, 0, 0, 0),
        (None, 40_00, 7_00, 0, 7_00),
        (None, 0, 47_00, 0, 7_00),
        (None, 0, 7_00, 40_00, 7_00),
        (10_00, 90_00, 0, 0, 0),
        (10_00, 90_00, 3_00, 0, 3_00),
    ],
)
def test_a_stay_that_costs_less_since_it_moved_leaves_the_rest_to_the_guest(
    kept: int | None, refunded: int, taken: int, closed: int, part: int
) -> None:
    found = leg_deductions_minor(
        [LegWorth(60_00, kept)], paid_minor=100_00, refunded_minor=refunded, taken_minor=taken, closed_minor=closed
    )
    assert found == (part,)


amounts = st.integers(0, 999)


@given(
    legs=st.lists(st.tuples(amounts, st.none() | st.integers(0, 100)), min_size=1, max_size=5),
    left=st.tuples(amounts, amounts, amounts, amounts),
)
def test_the_auditor_divides_alike_and_no_leg_gives_more_than_it_has(
    legs: list[tuple[int, int | None]], left: tuple[int, int, int, int]
) -> None:
    worths = [LegWorth(amount, None if percent is None else amount * percent // 100) for amount, percent in legs]
    refunded, by_hand, lost, closed = left

    found = leg_deductions_minor(
        worths,
        paid_minor=sum(each.amount_minor for each in worths),
        refunded_minor=refunded,
        taken_minor=by_hand + lost,
        closed_minor=closed,
    )

    trip = TripMoney()
    payment = {"payment_intent": "pi"}
    names = [str(number) for number in range(len(worths))]
    events: list[tuple[str, dict[str, Any]]] = [
        ("booking.trip_opened.v1", {"legs": [{"booking_id": name} for name in names]}),
        *(
            ("booking.leg_held.v1", {"leg_id": name, "amount_minor": each.amount_minor})
            for name, each in zip(names, worths, strict=True)
        ),
        ("booking.confirmed.v1", payment),
        *(
            ("booking.leg_ended.v1", {"leg_id": name, "kept_minor": each.kept_minor})
            for name, each in zip(names, worths, strict=True)
            if each.kept_minor is not None
        ),
        ("booking.refunded.v1", payment | {"refund_id": "re", "amount_minor": refunded}),
        ("booking.refunded.v1", payment | {"refund_id": "re_hand", "amount_minor": by_hand, "by_hand": True}),
        ("booking.refunded.v1", {"payment_intent": "pi_second", "refund_id": "re_second", "amount_minor": 7}),
        ("booking.refunded.v1", payment | {"refund_id": "re_slip", "amount_minor": 99, "by_hand": True}),
        ("booking.refund_failed.v1", payment | {"refund_id": "re_slip", "amount_minor": 99}),
        ("booking.dispute_closed.v1", payment | {"dispute_id": "dp", "amount_minor": lost, "result": "lost"}),
        ("booking.refund_closed.v1", payment | {"amount_minor": closed}),
    ]
    for number, (kind, event) in enumerate(events):
        trip.apply(kind, f"event-{number}", event)
    assert tuple(trip.parts().get(name, 0) for name in names) == found
    for part, each in zip(found, worths, strict=True):
        assert 0 <= part <= (each.amount_minor if each.kept_minor is None else each.kept_minor)


@given(st.lists(amounts, min_size=1, max_size=6), st.integers(0, 100))
def test_a_stay_without_the_taxes_keeps_the_proportions_of_its_nights(nights: list[int], percent: int) -> None:
    amount = sum(nights)
    taxes = amount * percent // 100

    left, by_night = without_taxes_at_hotel(amount, nights, taxes)

    assert left == sum(by_night) == amount - taxes
    assert all(abs(part * amount - night * left) < max(1, amount) for part, night in zip(by_night, nights, strict=True))
