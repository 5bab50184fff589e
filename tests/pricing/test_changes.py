"""The price of a changed stay: agreed nights keep their price, and what a guest gives up costs by the policy."""

from collections.abc import Sequence
from datetime import date, time, timedelta
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pricing.changes import (
    CHANGE_LINE_ID,
    PricedChange,
    WantedStay,
    costs_of_changes,
    least_kept_minor,
    party_of,
    plan_of,
    price_change,
    price_move,
)
from pricing.charges import step_minor
from pricing.sale import PricedStay
from tests.pricing.offers import FIRST, Stay, amounts, stays
from topics.messages.events import StayBefore
from topics.messages.sale import (
    AgeBand,
    CancellationPolicy,
    Collected,
    Discount,
    Kept,
    LineKind,
    Moved,
    Party,
    PolicyStep,
    RatePlan,
    SaleTerms,
    Tax,
)
from topics.messages.values import Terms

ONE_DAY = timedelta(days=1)
#: Free until 72 hours before check-in, then 30 percent, and from 24 hours before it on the first night.
POLICY = CancellationPolicy(
    id="flexible",
    steps=(PolicyStep(hours_before=72, kept=Kept(percent=30)), PolicyStep(hours_before=24, kept=Kept(nights=1))),
    no_show=Kept(nights=1),
)
PLAN = RatePlan(id="plan", name="Plan", policy=POLICY)
TERMS = SaleTerms(version=1, plans=(PLAN,))


def day(number: int) -> date:
    """Return the day so many days after the first night."""
    return FIRST + number * ONE_DAY


def before(price: PricedStay, rooms_count: int = 1, check_in: date = FIRST) -> StayBefore:
    """Return a stay that was bought at a price."""
    return StayBefore(
        check_in=check_in,
        check_out=check_in + len(price.night_amounts_minor) * ONE_DAY,
        rooms_count=rooms_count,
        amount_minor=price.amount_minor,
        night_amounts_minor=price.night_amounts_minor,
        sale=price.sale,
    )


def bought(*night_prices_minor: int, terms: SaleTerms = TERMS, discount: Discount | None = None) -> StayBefore:
    """Return a stay from the first night on, in one room, for the default party."""
    return before(Stay(terms, None, night_prices_minor, 1, "EUR", discount=discount).price())


def changed(
    stay: StayBefore,
    wanted: WantedStay,
    *night_prices_minor: int,
    kept_now_minor: int = 0,
    by_guest: bool = True,
    terms: SaleTerms | None = TERMS,
    payment: Terms = Terms.PREPAID,
) -> PricedChange:
    """Return the price of a change in euros."""
    return price_change(
        stay,
        wanted,
        night_prices_minor,
        currency="EUR",
        payment=payment,
        terms=terms,
        check_in_time=time(15),
        kept_now_minor=kept_now_minor,
        by_guest=by_guest,
    )


def after(change: PricedChange, check_in: date = FIRST) -> StayBefore:
    """Return the stay that a change leads to, for the next one."""
    return before(change.price, check_in=check_in)


def money(change: PricedChange) -> tuple[int, int, int, int]:
    """Return the new amount, what is still to be paid, what goes back, and what is kept of that."""
    return (change.price.amount_minor, change.extra_minor, change.back_minor, change.kept_minor)


def test_a_longer_stay_costs_todays_price_of_its_new_nights_alone() -> None:
    change = changed(bought(100_00, 100_00), WantedStay(FIRST, day(3), 1), 150_00, 150_00, 170_00)

    assert money(change) == (370_00, 170_00, 0, 0)
    assert change.price.night_amounts_minor == (100_00, 100_00, 170_00)


def test_other_nights_and_another_room_cost_todays_price() -> None:
    stay = bought(100_00, 100_00)

    assert money(changed(stay, WantedStay(day(1), day(3), 1), 150_00, 90_00)) == (190_00, 0, 10_00, 0)
    assert money(changed(stay, WantedStay(FIRST, day(2), 2), 150_00, 150_00)) == (500_00, 300_00, 0, 0)


def test_nights_that_a_guest_gives_up_cost_the_share_of_the_policy() -> None:
    stay = bought(100_00, 100_00, 100_00, 100_00)
    wanted = WantedStay(FIRST, day(1), 1)
    change = changed(stay, wanted, 100_00, kept_now_minor=120_00)

    # 30 percent of the 300.00 that are given up.
    assert money(change) == (190_00, 0, 210_00, 90_00)
    assert costs_of_changes(change.price.sale) == 90_00
    assert money(changed(stay, wanted, 100_00, kept_now_minor=120_00, by_guest=False)) == (100_00, 0, 300_00, 0)
    assert money(changed(stay, wanted, 100_00, kept_now_minor=400_00)) == (400_00, 0, 0, 300_00)


def test_the_costs_of_a_change_are_a_line_and_part_of_every_end() -> None:
    change = changed(bought(100_00, 100_00), WantedStay(FIRST, day(1), 1), 0, kept_now_minor=60_00)
    sale = change.price.sale

    assert money(change) == (130_00, 0, 70_00, 30_00)
    assert sale is not None
    assert [(line.kind, line.id, line.amount_minor, line.collected) for line in sale.lines] == [
        (LineKind.STAY, "plan", 100_00, Collected.NOW),
        (LineKind.CHANGE, CHANGE_LINE_ID, 30_00, Collected.NOW),
    ]
    # 60.00 was the price of a cancellation at the change; 30.00 more than before in each step.
    assert [(step.kept_minor, step.percent) for step in sale.steps] == [(60_00, None), (60_00, 30), (130_00, None)]
    assert (sale.no_show_kept_minor, sale.change_costs_minor) == (130_00, 30_00)
    assert change.price.night_amounts_minor == (130_00,)


def test_a_no_show_costs_no_less_than_a_cancellation_at_the_change() -> None:
    free = replace(PLAN, policy=replace(PLAN.policy, no_show=Kept(percent=0)))
    terms = SaleTerms(version=2, plans=(free,))
    shorter, as_long = WantedStay(FIRST, day(1), 1), WantedStay(FIRST, day(2), 1)

    # With costs of 30.00, without costs, and no more than the amount.
    for wanted, kept_now_minor, kept_minor in ((shorter, 60_00, 60_00), (as_long, 60_00, 60_00), (as_long, 0, 0)):
        prices = [0] * (wanted.check_out - wanted.check_in).days
        sale = changed(bought(100_00, 100_00), wanted, *prices, kept_now_minor=kept_now_minor, terms=terms).price.sale
        assert sale is not None
        assert sale.no_show_kept_minor == kept_minor
    moved = price_move(Stay(terms, None, (100_00,), 1, "EUR").price(), Moved(amount_minor=100_00, floor_minor=500_00))
    assert moved is not None
    assert moved.sale is not None
    assert moved.sale.no_show_kept_minor == 100_00


def test_neighbouring_steps_that_cost_the_same_are_one() -> None:
    change = changed(bought(100_00, 100_00), WantedStay(FIRST, day(3), 1), 0, 0, 100_00, kept_now_minor=100_00)
    sale = change.price.sale

    # The steps of nothing and of 90.00 both cost the 100.00 of the moment; the last is the first night of itself.
    assert sale is not None
    assert [(step.kept_minor, step.percent) for step in sale.steps] == [(100_00, None)]
    assert sale.steps[0].until is None


def test_the_costs_of_several_changes_add_up_and_are_not_given_up_again() -> None:
    once = changed(bought(100_00, 100_00, 100_00), WantedStay(FIRST, day(2), 1), 0, 0, kept_now_minor=90_00)
    assert money(once) == (230_00, 0, 70_00, 30_00)
    # A cancellation costs 30.00 and 30 percent of 200.00.
    twice = changed(after(once), WantedStay(FIRST, day(1), 1), 0, kept_now_minor=90_00)
    assert money(twice) == (160_00, 0, 70_00, 30_00)
    longer = changed(after(twice), WantedStay(FIRST, day(2), 1), 0, 80_00)

    assert money(longer) == (240_00, 80_00, 0, 0)
    assert costs_of_changes(longer.price.sale) == 60_00


def test_a_stay_that_is_paid_at_the_hotel_has_its_costs_there() -> None:
    at_hotel = SaleTerms(version=1, plans=(replace(PLAN, terms=Terms.AT_HOTEL),))
    stay = bought(100_00, 100_00, terms=at_hotel)
    change = changed(
        stay, WantedStay(FIRST, day(1), 1), 0, kept_now_minor=60_00, terms=at_hotel, payment=Terms.AT_HOTEL
    )

    assert money(change) == (130_00, 0, 70_00, 30_00)
    assert change.price.sale is not None
    assert change.price.sale.at_hotel_minor == 130_00
    assert change.price.sale.lines[-1].collected is Collected.AT_HOTEL


def test_a_booking_is_paid_as_it_was_although_its_plan_is_not_any_more() -> None:
    at_hotel = SaleTerms(version=2, plans=(replace(PLAN, terms=Terms.AT_HOTEL),))
    change = changed(bought(100_00), WantedStay(FIRST, day(2), 1), 0, 50_00, terms=at_hotel)

    assert money(change) == (150_00, 50_00, 0, 0)
    assert change.price.terms is Terms.PREPAID


def test_the_discount_of_a_promo_code_goes_on() -> None:
    tenth = Discount(code_id=1, code="CODE", percent_milli=10_000)
    amount = Discount(code_id=2, code="FIFTY", amount_minor=50_00, currency="EUR")

    for discount, price_minor in ((tenth, 270_00), (amount, 250_00)):
        stay = bought(100_00, 100_00, discount=discount)
        change = changed(stay, WantedStay(FIRST, day(3), 1), 0, 0, 100_00)
        assert change.price.amount_minor == price_minor
        assert change.price.sale is not None
        assert change.price.sale.discount == discount


def test_present_taxes_count() -> None:
    taxed = replace(TERMS, version=2, taxes=(Tax(id="city", name="City tax", amount_minor=2_00, per_night=True),))

    assert money(changed(bought(100_00), WantedStay(FIRST, day(2), 1), 0, 100_00, terms=taxed)) == (
        204_00,
        104_00,
        0,
        0,
    )


def test_people_whose_number_counts_stay_the_same_and_others_are_the_default() -> None:
    by_person = replace(TERMS, plans=(replace(PLAN, child_bands=(AgeBand(up_to_age=12, nightly_minor=10_00),)),))
    family = Party(adults=2, child_ages=(5,))
    stay = before(Stay(by_person, family, (100_00,), 1, "EUR").price())
    wanted = WantedStay(FIRST, day(1), 2)

    assert party_of(stay, wanted) == family
    assert party_of(stay, wanted._replace(party=Party(adults=1))) == Party(adults=1)
    assert party_of(bought(100_00), wanted) is None
    assert money(changed(stay, wanted, 100_00, terms=by_person)) == (210_00, 100_00, 0, 0)


def test_the_plan_is_that_of_the_booking_if_it_is_sold_still() -> None:
    stay = bought(100_00)
    others = SaleTerms(version=2, plans=(replace(PLAN, id="standard"),))

    assert plan_of(stay, TERMS) == PLAN
    assert plan_of(stay, others) is None
    assert plan_of(stay, None) is None
    assert plan_of(replace(stay, sale=None), TERMS) is None


@pytest.mark.parametrize(
    ("wanted", "prices_minor", "expected"),
    [
        (WantedStay(FIRST, day(1), 2), (0,), (90_00, 0, 90_00, 0)),
        (WantedStay(FIRST, day(3), 2), (0, 0, 70_00), (320_00, 140_00, 0, 0)),
        (WantedStay(day(1), day(2), 1), (0,), (45_00, 0, 135_00, 0)),
        (WantedStay(FIRST, day(2), 2), (0, 0), (180_00, 0, 0, 0)),
    ],
)
def test_a_stay_without_sale_terms_is_priced_by_its_nights(
    wanted: WantedStay, prices_minor: tuple[int, ...], expected: tuple[int, int, int, int]
) -> None:
    alone = StayBefore(
        check_in=FIRST, check_out=day(2), rooms_count=2, amount_minor=180_00, night_amounts_minor=(90_00, 90_00)
    )
    change = changed(alone, wanted, *prices_minor, kept_now_minor=0)

    assert money(change) == expected
    assert change.price.sale is None
    # 0.1.0 recorded no amounts by night: all nights cost the same.
    assert money(changed(replace(alone, night_amounts_minor=()), wanted, *prices_minor)) == expected


# For all stays.


class Changes(NamedTuple):
    """A stay, and changes of it one after the other: the wanted stay, today's prices, the step in force, by a guest."""

    stay: Stay
    changes: Sequence[tuple[WantedStay, Sequence[int], int, bool]]


@st.composite
def changes(draw: st.DrawFn) -> Changes:
    """Return stays with one to three changes."""
    stay = draw(stays())
    drawn = []
    for _ in range(draw(st.integers(1, 3))):
        first, length = draw(st.integers(-2, 4)), draw(st.integers(1, 5))
        wanted = WantedStay(day(first), day(first + length), draw(st.integers(1, 3)))
        prices = draw(st.lists(amounts(stay.currency, 5_000), min_size=length, max_size=length))
        drawn.append((wanted, prices, draw(st.integers(0, 4)), draw(st.booleans())))
    return Changes(stay, drawn)


@given(changes())
def test_the_sums_of_every_change_are_right(drawn: Changes) -> None:
    stay, step = drawn.stay, step_minor(drawn.stay.currency)
    price = stay.price()
    known = before(price, stay.rooms_count)
    for wanted, prices, number, by_guest in drawn.changes:
        assert known.sale is not None
        kept_now_minor = known.sale.steps[min(number, len(known.sale.steps) - 1)].kept_minor
        change = price_change(
            known,
            wanted,
            prices,
            currency=stay.currency,
            payment=price.terms,
            terms=stay.terms,
            check_in_time=stay.check_in_time,
            kept_now_minor=kept_now_minor,
            by_guest=by_guest,
        )
        new, sale = change.price, change.price.sale
        assert sale is not None
        assert new.terms is price.terms
        # The new amount is the old one, with the extra payment and without the refund.
        assert new.amount_minor == known.amount_minor + change.extra_minor - change.back_minor
        assert min(change.extra_minor, change.back_minor, change.kept_minor) >= 0
        assert 0 in {change.extra_minor, change.back_minor + change.kept_minor}
        assert all(minor % step == 0 for minor in (change.extra_minor, change.back_minor, change.kept_minor))
        # The lines and the nights sum to the amount.
        due = [line for line in sale.lines if not line.included]
        now = [line.amount_minor for line in due if line.collected is Collected.NOW]
        there = [line.amount_minor for line in due if line.collected is Collected.AT_HOTEL]
        prepaid = new.terms is Terms.PREPAID
        assert new.amount_minor == sum(now) or not prepaid
        assert sale.at_hotel_minor == sum(there)
        assert sum(new.night_amounts_minor) == new.amount_minor
        assert len(new.night_amounts_minor) == (wanted.check_out - wanted.check_in).days
        # Every end keeps the costs of changes, and no more than the amount.
        earlier_minor = costs_of_changes(known.sale)
        assert costs_of_changes(sale) == earlier_minor + change.kept_minor
        assert change.kept_minor == 0 or by_guest
        for kept_minor in (*(each.kept_minor for each in sale.steps), sale.no_show_kept_minor):
            assert costs_of_changes(sale) <= kept_minor <= new.amount_minor
        if by_guest:
            assert least_kept_minor(sale) >= min(kept_now_minor, new.amount_minor)
        assert sale.no_show_kept_minor >= least_kept_minor(sale)
        assert sale.steps[-1].until is None
        known = before(new, wanted.rooms_count, wanted.check_in)


@settings(max_examples=40)
@given(stays())
def test_a_change_to_the_same_stay_at_the_same_terms_costs_nothing(stay: Stay) -> None:
    price = stay.price()
    known = before(price, stay.rooms_count)
    change = price_change(
        known,
        WantedStay(FIRST, stay.check_out, stay.rooms_count, stay.party),
        [0] * len(stay.night_prices_minor),
        currency=stay.currency,
        payment=price.terms,
        terms=stay.terms,
        check_in_time=stay.check_in_time,
        kept_now_minor=0,
        by_guest=True,
    )

    assert money(change) == (price.amount_minor, 0, 0, 0)


def test_rooms_that_are_added_to_a_night_of_the_stay_cost_todays_price() -> None:
    stay = bought(100_00, 100_00)

    three = changed(stay, WantedStay(FIRST, day(2), 3), 150_00, 160_00)
    assert money(three) == (819_99, 619_99, 0, 0)
    assert three.price.sale is not None
    # 133.333... and 140: a price in one room is rounded once, half up.
    assert three.price.sale.night_prices_minor == (133_33, 140_00)


def test_a_change_by_the_hotel_leaves_the_least_costs_of_a_cancellation_as_they_are() -> None:
    stay = bought(100_00, 100_00)
    moved = after(changed(stay, WantedStay(day(20), day(22), 1), 100_00, 100_00, kept_now_minor=90_00), day(20))
    by_hotel = changed(moved, WantedStay(day(20), day(23), 1), 100_00, 100_00, 100_00, by_guest=False)

    assert by_hotel.price.sale is not None
    assert min(step.kept_minor for step in by_hotel.price.sale.steps) == 90_00
    one_night = changed(moved, WantedStay(day(20), day(21), 1), 80_00, by_guest=False)
    assert money(one_night)[2:] == (100_00, 0)
    assert one_night.price.sale is not None
    assert min(step.kept_minor for step in one_night.price.sale.steps) == 90_00
    without = changed(stay, WantedStay(day(20), day(22), 1), 100_00, 100_00, by_guest=False)
    assert without.price.sale is not None
    assert without.price.sale.steps[0].kept_minor == 0
