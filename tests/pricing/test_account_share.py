"""The share of a night's rooms that one account may hold unpaid: a percentage, and two rooms at least."""

import pytest

from pricing.account_share import NightOfAccount, exceeds_share, rooms_allowed
from pricing.changes import PricedChange
from pricing.sale import PricedStay
from topics.messages.values import Terms


@pytest.mark.parametrize(
    ("total_count", "percent", "allowed"), [(10, 50, 5), (11, 50, 5), (3, 50, 2), (10, 0, 2), (10, 100, 10)]
)
def test_an_account_may_hold_its_percentage_rounded_down_and_two_rooms_at_least(
    total_count: int, percent: int, allowed: int
) -> None:
    assert rooms_allowed(total_count, percent) == allowed
    assert not exceeds_share(percent, [NightOfAccount(allowed - 1, 1, total_count)])
    assert exceeds_share(percent, [NightOfAccount(0, 1, total_count), NightOfAccount(allowed, 1, total_count)])


def test_a_share_that_is_not_limited_is_never_exceeded() -> None:
    assert not exceeds_share(None, [NightOfAccount(100, 100, 1)])


@pytest.mark.parametrize(
    ("terms", "amount_minor", "extra_minor", "stays_unpaid"),
    [
        (Terms.PREPAID, 100_00, 0, False),
        (Terms.PREPAID, 100_00, 1_00, True),
        (Terms.PREPAID, 0, 0, True),
        (Terms.AT_HOTEL, 100_00, 0, True),
    ],
)
def test_a_changed_stay_counts_for_the_share_unless_it_is_paid_already(
    terms: Terms, amount_minor: int, extra_minor: int, *, stays_unpaid: bool
) -> None:
    price = PricedStay("EUR", terms, amount_minor, (amount_minor,), None)
    assert PricedChange(price, extra_minor, 0, 0).stays_unpaid == stays_unpaid
