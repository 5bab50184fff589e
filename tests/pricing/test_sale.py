"""The price of a stay by its sale terms: lines that sum to the total, and a policy that keeps no more than was paid."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pricing.charges import step_minor
from pricing.policy import early_departure_kept_minor
from pricing.quotes import fault_of_quote
from pricing.sale import (
    PricedStay,
    can_be_paid,
    default_party,
    is_stopped,
    needs_today,
    party_rejection,
    price_stay,
    rules_rejection,
)
from pricing.terms import fault_of
from tests.pricing.offers import FIRST, Stay, stays
from topics.messages.sale import (
    AgeBand,
    ArrivalRule,
    Collected,
    Discount,
    LineKind,
    Meals,
    Party,
    PriceLine,
    Quoted,
    RatePlan,
    Sale,
    SaleTerms,
    Tax,
)
from topics.messages.values import MAX_AMOUNT_MINOR, Rejection, Terms

FIRST_INSTANT = datetime(2026, 12, 1, tzinfo=UTC)
TWO = Party(adults=2)
PLAN = RatePlan(id="standard", name="Standard")
VAT = Tax(id="vat", name="VAT", percent_milli=7_000, included=True)
CITY = Tax(id="city", name="City tax", amount_minor=2_50, per_night=True, per_person=True, min_age=16)
CLEANING = Tax(id="cleaning", name="Cleaning", kind=LineKind.FEE, amount_minor=40_00, per_room=True)


def stay(
    *night_prices_minor: int,
    plan: RatePlan = PLAN,
    taxes: tuple[Tax, ...] = (),
    party: Party | None = TWO,
    rooms_count: int = 1,
    currency: str = "EUR",
) -> Stay:
    """Return a stay from 24 December 2026 on, with a night for each price."""
    return Stay(SaleTerms(version=1, plans=(plan,), taxes=taxes), party, night_prices_minor, rooms_count, currency)


def stay_minor(case: Stay) -> int:
    """Return the line of the stay itself."""
    sale = case.price().sale
    assert sale is not None
    return sale.lines[0].amount_minor


# The discount of a promo code.

TENTH = Discount(code_id=1, code="TENTH", percent_milli=10_000)
TWENTY_OFF = Discount(code_id=1, code="TWENTY", amount_minor=20_00, currency="EUR")


@pytest.mark.parametrize(
    ("discount", "prices_minor", "currency", "off_minor", "amounts_minor"),
    [
        (TENTH, (100_00, 50_00), "EUR", 15_00, (90_00, 45_00)),
        # A tenth of 100.05 is 10.005, rounded once for the stay, half up.
        (TENTH, (100_05,), "EUR", 10_01, (90_04,)),
        (TENTH, (33_33, 33_33, 33_33), "EUR", 10_00, (30_00, 30_00, 29_99)),
        # KWD is charged in steps of ten fils: a tenth of 12.350 is 1.235, rounded to 1.240.
        (TENTH, (12_350,), "KWD", 1_240, (11_110,)),
        (TENTH, (1_005,), "JPY", 101, (904,)),
        (TWENTY_OFF, (100_00, 50_00), "EUR", 20_00, (86_67, 43_33)),
        (TWENTY_OFF, (20_00,), "EUR", 20_00, (0,)),
        (TWENTY_OFF, (15_00, 0), "EUR", 15_00, (0, 0)),
        (replace(TENTH, percent_milli=100_000), (100_00, 50_00), "EUR", 150_00, (0, 0)),
    ],
)
def test_a_discount_is_taken_off_the_nights(
    discount: Discount,
    prices_minor: tuple[int, ...],
    currency: str,
    off_minor: int,
    amounts_minor: tuple[int, ...],
) -> None:
    price = stay(*prices_minor, currency=currency)._replace(discount=discount).price()
    assert price.sale is not None

    assert (price.sale.discount_minor, price.night_amounts_minor) == (off_minor, amounts_minor)
    assert price.amount_minor == sum(prices_minor) - off_minor


def test_taxes_by_percent_follow_the_discount_and_those_by_person_do_not() -> None:
    fee = replace(VAT, id="fee", name="Fee", included=False, percent_milli=10_000)
    price = stay(100_00, 100_00, taxes=(VAT, fee, CITY))._replace(discount=TENTH).price()
    assert price.sale is not None

    assert [line.amount_minor for line in price.sale.lines] == [180_00, 11_78, 18_00, 10_00]


def test_a_tax_for_some_nights_counts_their_price_after_the_discount() -> None:
    first_night = replace(VAT, included=False, percent_milli=10_000, end_night=FIRST + timedelta(days=1))
    price = stay(200_00, 100_00, taxes=(first_night,))._replace(discount=TENTH).price()
    assert price.sale is not None

    assert [line.amount_minor for line in price.sale.lines] == [270_00, 18_00]


def test_at_the_desk_all_of_a_prepaid_price_is_paid_at_the_hotel() -> None:
    prepaid = stay(100_00, taxes=(VAT, CITY))
    price = prepaid._replace(at_desk=True).price()
    assert price.sale is not None

    assert (prepaid.price().terms, price.terms) == (Terms.PREPAID, Terms.AT_HOTEL)
    assert (price.amount_minor, price.sale.at_hotel_minor) == (105_00, 105_00)
    assert all(line.collected is Collected.AT_HOTEL for line in price.sale.lines)


# The price by a rate plan.


@pytest.mark.parametrize(
    ("changes", "costs_minor"),
    [
        ({}, 100_01),
        ({"times_milli": 900}, 90_01),  # 90.009
        ({"times_milli": 1_150}, 115_01),  # 115.0115
        ({"plus_minor": 15_00}, 115_01),
        ({"times_milli": 500, "plus_minor": 1}, 50_02),  # 50.005 + 0.01, rounded once
        ({"plus_minor": -100_00}, 1),
        ({"plus_minor": -100_02}, 0),
        ({"times_milli": 0}, 0),
        ({"times_milli": 0, "plus_minor": 30_00}, 30_00),
    ],
)
def test_a_plan_changes_the_price_of_a_night_and_never_below_zero(changes: dict[str, int], costs_minor: int) -> None:
    assert stay_minor(stay(100_01, plan=replace(PLAN, **changes))) == costs_minor


@pytest.mark.parametrize(
    ("party", "rooms_count", "costs_minor"),
    [
        (Party(adults=1), 1, 200_00),
        (Party(adults=2), 1, 200_00),
        (Party(adults=3), 1, 200_00 + 2 * 20_00),
        (Party(adults=4), 2, 400_00),
        (Party(adults=5), 2, 400_00 + 2 * 20_00),
        (Party(adults=2, child_ages=(3,)), 1, 200_00),
        (Party(adults=2, child_ages=(4,)), 1, 200_00 + 2 * 5_00),
        (Party(adults=2, child_ages=(11, 12)), 1, 200_00 + 2 * (5_00 + 12_00)),
        (Party(adults=2, child_ages=(17, 17)), 1, 200_00 + 2 * 2 * 12_00),
    ],
)
def test_more_adults_and_children_by_age_are_paid_for_each_night(
    party: Party, rooms_count: int, costs_minor: int
) -> None:
    bands = (
        AgeBand(up_to_age=3, nightly_minor=0),
        AgeBand(up_to_age=11, nightly_minor=5_00),
        AgeBand(up_to_age=17, nightly_minor=12_00),
    )
    plan = replace(PLAN, extra_adult_minor=20_00, child_bands=bands)

    assert stay_minor(stay(100_00, 100_00, plan=plan, party=party, rooms_count=rooms_count)) == costs_minor


def test_a_child_older_than_every_band_costs_nothing_more() -> None:
    plan = replace(PLAN, child_bands=(AgeBand(up_to_age=5, nightly_minor=9_00),))

    assert stay_minor(stay(100_00, plan=plan, party=Party(adults=1, child_ages=(6,)))) == 100_00


# Taxes and fees.


@pytest.mark.parametrize(
    ("tax", "amount_minor"),
    [
        (VAT, 26_17),  # 400.00 has 7 % of 373.83 in it
        (replace(VAT, included=False), 28_00),
        (replace(VAT, included=False, percent_milli=7_123), 28_49),  # 28.492
        (CITY, 2 * 2 * 2_50),
        (replace(CITY, min_age=12), 2 * 3 * 2_50),
        (replace(CITY, min_age=0), 2 * 4 * 2_50),
        (replace(CITY, per_night=False), 2 * 2_50),
        (replace(CITY, per_person=False), 2 * 2_50),
        (replace(CITY, per_room=True), 2 * 2 * 2 * 2_50),
        (replace(CITY, per_night=False, per_person=False), 2_50),
        (CLEANING, 80_00),
        (replace(CITY, first_night=date(2026, 12, 25)), 2 * 2_50),
        (replace(CITY, end_night=date(2026, 12, 25)), 2 * 2_50),
        (replace(CITY, per_night=False, first_night=date(2026, 12, 25)), None),
        (replace(CITY, per_night=False, end_night=date(2026, 12, 25)), 2 * 2_50),
        (replace(VAT, included=False, first_night=date(2026, 12, 25)), 7_00),
        (replace(CITY, end_night=date(2026, 12, 24)), None),
        (replace(CITY, amount_minor=10_000_00, included=True), 400_00),
    ],
)
def test_a_tax_is_for_what_it_counts(tax: Tax, amount_minor: int | None) -> None:
    """A family of two with children of 12 and 5 stays for two nights in two rooms, at 150.00 and 50.00 a room."""
    case = stay(150_00, 50_00, taxes=(tax,), party=Party(adults=2, child_ages=(12, 5)), rooms_count=2)
    price = case.price()
    assert price.sale is not None
    lines = {line.id: line.amount_minor for line in price.sale.lines}

    assert lines == {"standard": 400_00} | ({} if amount_minor is None else {tax.id: amount_minor})
    assert price.amount_minor == 400_00 + (0 if tax.included else amount_minor or 0)


def test_a_price_line_by_line() -> None:
    price = stay(100_00, 100_00, taxes=(VAT, replace(CITY, collected=Collected.AT_HOTEL), CLEANING)).price()

    assert price.sale is not None
    assert price.sale.lines == (
        PriceLine(kind=LineKind.STAY, id="standard", name="Standard", amount_minor=200_00),
        PriceLine(kind=LineKind.TAX, id="vat", name="VAT", amount_minor=13_08, included=True),
        PriceLine(kind=LineKind.TAX, id="city", name="City tax", amount_minor=10_00, collected=Collected.AT_HOTEL),
        PriceLine(kind=LineKind.FEE, id="cleaning", name="Cleaning", amount_minor=40_00),
    )
    assert (price.amount_minor, price.sale.at_hotel_minor) == (240_00, 10_00)
    assert price.sale.at_hotel_taxes_minor == 0
    assert price.night_amounts_minor == (120_00, 120_00)


def test_a_stay_that_is_paid_at_the_hotel_is_paid_there_with_all_its_taxes() -> None:
    plan = replace(PLAN, terms=Terms.AT_HOTEL, meals=Meals.BREAKFAST)
    price = stay(100_00, 50_00, plan=plan, taxes=(VAT, replace(CITY, collected=Collected.AT_HOTEL), CLEANING)).price()

    assert price.sale is not None
    assert {line.collected for line in price.sale.lines} == {Collected.AT_HOTEL}
    assert (price.terms, price.amount_minor, price.sale.at_hotel_minor) == (Terms.AT_HOTEL, 200_00, 200_00)
    # A prepaid stay would pay the city tax at the hotel, too.
    [city] = [line.amount_minor for line in price.sale.lines if line.id == "city"]
    assert price.sale.at_hotel_taxes_minor == city > 0
    assert price.night_amounts_minor == (133_33, 66_67)
    assert price.sale.meals is Meals.BREAKFAST


def test_the_taxes_of_a_free_stay_are_spread_evenly_over_its_nights() -> None:
    assert stay(0, 0, 0, taxes=(replace(CITY, per_night=False),)).price().night_amounts_minor == (1_67, 1_67, 1_66)


# All terms that a hotel may set, and all stays.


@given(stays(), st.integers(0, 6))
def test_every_price_adds_up_and_can_be_quoted_charged_and_refunded(case: Stay, used: int) -> None:
    price = case.price()
    assert price.sale is not None

    assert fault_of(case.terms, case.currency) is None
    the_lines_sum_to_what_is_paid_now_and_later(price, price.sale)
    every_amount_is_a_multiple_of_the_step(price, price.sale)
    the_nights_sum_to_the_amount(price, len(case.night_prices_minor))
    the_discount_is_the_difference_to_the_price_without_it(case, price.sale)
    an_early_departure_keeps_from_what_was_used_to_all(price, price.sale, used)
    assert fault_of_quote(quote_of(price, price.sale), FIRST, case.check_out) is None


def the_lines_sum_to_what_is_paid_now_and_later(price: PricedStay, sale: Sale) -> None:
    """Lines that are included in the stay's are never added."""
    added = [line for line in sale.lines if not line.included]
    later_minor = sum(line.amount_minor for line in added if line.collected is Collected.AT_HOTEL)
    all_minor = sum(line.amount_minor for line in added)
    if price.terms is Terms.PREPAID:
        assert (price.amount_minor, sale.at_hotel_minor) == (all_minor - later_minor, later_minor)
    else:
        assert (price.amount_minor, sale.at_hotel_minor) == (all_minor, all_minor)
        assert all(line.collected is Collected.AT_HOTEL for line in sale.lines)
    assert all(line.amount_minor <= sale.lines[0].amount_minor for line in sale.lines if line.included)


def the_discount_is_the_difference_to_the_price_without_it(case: Stay, sale: Sale) -> None:
    """It is taken off the line of the stay, and that is never below zero."""
    assert sale.discount == case.discount
    assert sale.discount_minor == stay_minor(case._replace(discount=None)) - sale.lines[0].amount_minor
    assert sale.discount_minor >= 0
    if sale.discount is None:
        assert sale.discount_minor == 0


def every_amount_is_a_multiple_of_the_step(price: PricedStay, sale: Sale) -> None:
    """And none is negative, and nothing more is kept than is paid."""
    step = step_minor(price.currency)
    kept = [sale.no_show_kept_minor, *(each.kept_minor for each in sale.steps)]
    for amount_minor in (price.amount_minor, *(line.amount_minor for line in sale.lines), *kept):
        assert amount_minor >= 0
        assert amount_minor % step == 0
    assert max(kept) <= price.amount_minor


def the_nights_sum_to_the_amount(price: PricedStay, nights_count: int) -> None:
    """Each night has its share."""
    assert len(price.night_amounts_minor) == nights_count
    assert sum(price.night_amounts_minor) == price.amount_minor
    assert min(price.night_amounts_minor) >= 0


def an_early_departure_keeps_from_what_was_used_to_all(price: PricedStay, sale: Sale, used: int) -> None:
    """The price of the nights that were used is rounded to the step."""
    unused_minor, percent = sum(price.night_amounts_minor[used:]), sale.early_departure_percent
    kept = early_departure_kept_minor(price.amount_minor, unused_minor, percent, price.currency)
    assert kept % step_minor(price.currency) == 0
    assert price.amount_minor - unused_minor - step_minor(price.currency) < kept <= price.amount_minor
    assert percent < 100 or kept == price.amount_minor


def quote_of(price: PricedStay, sale: Sale) -> Quoted:
    """Return a quote of the price."""
    return Quoted(
        good_until=FIRST_INSTANT,
        terms=price.terms,
        sale=sale,
        currency=price.currency,
        amount_minor=price.amount_minor,
        night_amounts_minor=price.night_amounts_minor,
    )


@settings(max_examples=30)
@given(stays())
def test_amounts_that_are_no_multiple_of_the_step_are_rounded_in_the_price(case: Stay) -> None:
    """Terms reach a room without its currency: should their amounts not fit it, the price still can be charged."""
    odd = replace(case.plan, plus_minor=case.plan.plus_minor + 1, extra_adult_minor=case.plan.extra_adult_minor + 1)
    price = case._replace(terms=replace(case.terms, plans=(odd,))).price()
    assert price.sale is not None

    assert all(line.amount_minor % step_minor(case.currency) == 0 for line in price.sale.lines)


def test_a_price_is_remembered_by_the_terms_themselves() -> None:
    case = stay(100_00)
    dearer = replace(PLAN, plus_minor=5_00)

    assert case.price() is case.price()
    assert case._replace(terms=replace(case.terms)).price() == case.price()
    assert stay_minor(stay(100_00, plan=dearer)) == 105_00
    others = (stay(100_00, rooms_count=2), stay(100_00, party=Party(adults=1)), stay(100_00, 100_00))
    for other in (*others, case._replace(discount=TENTH), case._replace(at_desk=True)):
        assert other.price() != case.price()


@pytest.mark.parametrize(
    ("amount_minor", "later_minor", "terms", "payable"),
    [
        (50, 0, Terms.PREPAID, True),
        (0, 10_00, Terms.PREPAID, True),
        (49, 0, Terms.PREPAID, False),
        (1, 1, Terms.AT_HOTEL, True),
        (MAX_AMOUNT_MINOR, MAX_AMOUNT_MINOR, Terms.AT_HOTEL, True),
        (MAX_AMOUNT_MINOR + 1, MAX_AMOUNT_MINOR + 1, Terms.AT_HOTEL, False),
        (50, MAX_AMOUNT_MINOR + 1, Terms.PREPAID, False),
        (10**9, 0, Terms.PREPAID, False),
    ],
)
def test_a_price_can_be_paid_if_both_parts_of_it_can(
    amount_minor: int, later_minor: int, terms: Terms, *, payable: bool
) -> None:
    price = stay(100_00).price()
    assert price.sale is not None
    sale = replace(price.sale, at_hotel_minor=later_minor)

    assert can_be_paid(price._replace(amount_minor=amount_minor, terms=terms, sale=sale)) is payable
    # A leg is charged with the others of its trip, so that the least charge does not count for it.
    in_trip = can_be_paid(price._replace(amount_minor=amount_minor, terms=terms, sale=sale), in_trip=True)
    assert in_trip is (payable or 0 < amount_minor < 50)


def test_numbers_without_measure_are_priced_in_whole_numbers_and_cannot_be_paid() -> None:
    """A trusted writer may send any numbers: they end in a rejection, and not in a worker that cannot write them."""
    plan = replace(PLAN, times_milli=2**31 - 1, plus_minor=2**63 - 1, extra_adult_minor=2**63 - 1)
    tax = replace(CITY, amount_minor=2**63 - 1, per_room=True)
    case = stay(10**12, plan=plan, taxes=(tax,), party=Party(adults=2**31 - 1), rooms_count=2**31 - 1)

    assert not can_be_paid(case.price())


def test_a_stay_in_the_first_year_has_a_policy_too() -> None:
    terms = SaleTerms(version=1, plans=(PLAN,))
    price = price_stay(
        terms,
        PLAN,
        TWO,
        (100_00,),
        check_in=date.min,
        check_in_time=time(0),
        rooms_count=1,
        currency="EUR",
    )
    assert price.sale is not None
    assert len(price.sale.steps) == 1


# Prices that are remembered.


def test_a_price_is_computed_once_for_the_same_terms() -> None:
    case = stay(100_00)
    assert case.price() is case.price()


def test_prices_that_are_remembered_keep_no_terms_in_memory() -> None:
    case = stay(100_00, plan=replace(PLAN, name="Gone"))
    kept = case.price()
    terms, plan = ref(case.terms), ref(case.plan)
    del case

    assert (terms(), plan()) == (None, None)
    assert kept.amount_minor == 100_00


def test_terms_in_the_place_of_others_that_are_gone_have_prices_of_their_own() -> None:
    """Terms that were decoded for one request are freed after it, and the next ones get their address."""
    addresses: set[int] = set()
    for number in range(10_000):
        case = stay(100_00, plan=replace(PLAN, times_milli=1000 + number))
        assert case.price().amount_minor == 100_00 + number * 10
        if id(case.plan) in addresses:
            return
        addresses.add(id(case.plan))
    raise AssertionError("no address came back")


# The people.


@pytest.mark.parametrize(
    ("party", "capacity", "infants", "reason"),
    [
        (Party(adults=0), None, None, Rejection.NO_ADULT),
        (Party(adults=-5), 2, None, Rejection.NO_ADULT),
        (Party(adults=0, child_ages=(17,)), 2, None, Rejection.NO_ADULT),
        (Party(adults=2**31 - 1), None, None, None),
        (Party(adults=4), 2, None, None),
        (Party(adults=5), 2, None, Rejection.PARTY_TOO_LARGE),
        (Party(adults=3, child_ages=(0,)), 2, None, None),
        (Party(adults=3, child_ages=(0, 1)), 2, None, Rejection.PARTY_TOO_LARGE),
        (Party(adults=3, child_ages=(0, 1)), 2, 0, None),
        (Party(adults=4, child_ages=(0, 1, 2)), 2, 2, None),
        (Party(adults=4, child_ages=(3,)), 2, 2, Rejection.PARTY_TOO_LARGE),
        (Party(adults=10**9), 2, 2, Rejection.PARTY_TOO_LARGE),
    ],
)
def test_people_must_fit_two_rooms(
    party: Party, capacity: int | None, infants: int | None, reason: Rejection | None
) -> None:
    terms = SaleTerms(version=1, plans=(PLAN,), capacity=capacity, infant_max_age=infants)

    assert party_rejection(terms, party, 2) is reason


@pytest.mark.parametrize(
    ("included", "capacity", "adults"), [(2, None, 4), (2, 3, 4), (2, 1, 2), (0, None, 2), (4, 3, 6)]
)
def test_a_request_without_people_is_for_those_whom_the_price_covers(
    included: int, capacity: int | None, adults: int
) -> None:
    plan = replace(PLAN, included_adults=included)
    terms = SaleTerms(version=1, plans=(plan,), capacity=capacity)

    assert default_party(terms, plan, 2) == Party(adults=adults)
    assert party_rejection(terms, default_party(terms, plan, 2), 2) is None


@given(stays(), st.integers(1, 6), st.lists(st.integers(0, 17), max_size=3))
@settings(max_examples=50)
def test_all_people_pay_the_same_unless_those_whom_nobody_named_bind(case: Stay, adults: int, ages: list[int]) -> None:
    plan = replace(case.plan, extra_adult_minor=0, child_bands=())
    flat = case._replace(terms=replace(case.terms, plans=(plan,)), party=None)
    unnamed, named = flat.price(), flat._replace(party=Party(adults=adults, child_ages=tuple(ages))).price()
    assert unnamed.sale is not None
    assert named.sale is not None
    assert named.sale.party_binding
    if not unnamed.sale.party_binding:
        assert (named.amount_minor, named.sale.lines) == (unnamed.amount_minor, unnamed.sale.lines)


@pytest.mark.parametrize(
    ("plan", "taxes", "binding"),
    [
        (PLAN, (VAT, CLEANING), False),
        (replace(PLAN, extra_adult_minor=1), (), True),
        (replace(PLAN, child_bands=(AgeBand(up_to_age=5, nightly_minor=0),)), (), False),
        (replace(PLAN, child_bands=(AgeBand(up_to_age=5, nightly_minor=1),)), (), True),
        (PLAN, (CITY,), True),
        (PLAN, (replace(CITY, end_night=FIRST),), False),
        (PLAN, (replace(CITY, id=PLAN.id, end_night=FIRST),), False),
    ],
)
def test_people_whom_nobody_named_bind_if_the_price_depends_on_them(
    plan: RatePlan,
    taxes: tuple[Tax, ...],
    binding: bool,  # noqa: FBT001 - pytest passes it by name
) -> None:
    price = stay(100_00, plan=plan, taxes=taxes, party=None).price()
    assert price.sale is not None
    assert (price.sale.party, price.sale.party_binding) == (TWO, binding)


# Restrictions by the day of arrival.

WEEK: dict[str, Any] = {"first_day": FIRST, "end_day": FIRST + timedelta(days=7)}


@pytest.mark.parametrize(
    ("rule", "arrival", "nights", "reason"),
    [
        ({"min_nights": 3}, 0, 2, Rejection.MIN_STAY),
        ({"min_nights": 3}, 0, 3, None),
        ({"min_nights": 3}, -1, 2, None),
        ({"min_nights": 3}, 6, 2, Rejection.MIN_STAY),
        ({"min_nights": 3}, 7, 2, None),
        ({"max_nights": 2}, 0, 3, Rejection.MAX_STAY),
        ({"max_nights": 2}, 0, 2, None),
        ({"max_nights": 2}, -1, 3, None),
        ({"closed_to_arrival": True}, 0, 1, Rejection.CLOSED_TO_ARRIVAL),
        ({"closed_to_arrival": True}, -1, 2, None),
        ({"closed_to_departure": True}, -1, 1, Rejection.CLOSED_TO_DEPARTURE),
        ({"closed_to_departure": True}, -2, 1, None),
        ({"closed_to_departure": True}, 0, 7, None),
        ({"closed_to_departure": True}, -1, 7, Rejection.CLOSED_TO_DEPARTURE),
        ({"stop_sell": True}, 0, 1, Rejection.STOP_SELL),
        ({"stop_sell": True}, -1, 3, None),
        ({"advance_days": 20}, 0, 1, None),
        ({"advance_days": 21}, 0, 1, Rejection.ADVANCE_PURCHASE),
        ({"advance_days": 21}, 1, 1, None),
        ({"advance_days": 0}, 0, 1, None),
    ],
)
def test_a_rule_counts_for_stays_that_arrive_in_its_days(
    rule: dict[str, Any], arrival: int, nights: int, reason: Rejection | None
) -> None:
    plan = replace(PLAN, rules=(ArrivalRule(**WEEK, **rule),))
    check_in = FIRST + timedelta(days=arrival)

    assert rules_rejection(plan, check_in, check_in + timedelta(days=nights), date(2026, 12, 4)) is reason


def test_of_rules_that_all_exclude_a_stay_the_first_reason_counts() -> None:
    values: dict[str, Any] = {
        "stop_sell": True,
        "closed_to_arrival": True,
        "closed_to_departure": True,
        "min_nights": 3,
        "max_nights": 1,
        "advance_days": 60,
    }
    reasons = []
    while values:
        plan = replace(PLAN, rules=(ArrivalRule(**WEEK, **values),))
        reasons.append(rules_rejection(plan, FIRST, FIRST + timedelta(days=2), FIRST))
        del values[next(iter(values))]

    order = list(Rejection)
    assert reasons == order[order.index(Rejection.STOP_SELL) : order.index(Rejection.ADVANCE_PURCHASE) + 1]


def test_only_a_rule_of_advance_purchase_needs_the_date_at_the_hotel() -> None:
    rule = ArrivalRule(**WEEK, advance_days=7)
    other = RatePlan(id="early", name="Early", rules=(rule,))
    terms = SaleTerms(version=1, plans=(PLAN, other))

    assert not needs_today(terms, None)
    assert needs_today(terms, "early")
    assert not needs_today(terms, "unknown")
    assert rules_rejection(other, FIRST, FIRST + timedelta(days=1), None) is None


def test_a_plan_is_stopped_for_arrivals_in_the_days_of_the_rule() -> None:
    plan = replace(PLAN, rules=(ArrivalRule(**WEEK, stop_sell=True), ArrivalRule(**WEEK, closed_to_arrival=True)))

    assert [is_stopped(plan, FIRST + timedelta(days=day)) for day in (-1, 0, 6, 7)] == [False, True, True, False]
