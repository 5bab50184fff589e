"""No numbers that a writer of the log may send end a worker: they are refused, rejected, or sold in fitting amounts."""

from datetime import date, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.scenario import Scenario
from tests.support.scenario import given as story
from tests.workers.decisions.words import CANCEL, CHECK_IN, OPENED, RESERVE, TIMES, but, march
from tests.workers.decisions.words_of_sale import SET_TERMS
from topics.envelope import decode_value, encode_value
from topics.messages.events import BookingReserved, SaleTermsChanged
from topics.messages.sale import (
    AgeBand,
    CancellationPolicy,
    Collected,
    Kept,
    Party,
    PolicyStep,
    RatePlan,
    SaleTerms,
    Tax,
)
from topics.messages.values import MAX_PRICE_MINOR, MAX_ROOMS, MAX_SURGE_MILLI, Terms
from workers.booking_rows import row_of

INT32, INT64 = 2**31 - 1, 2**63 - 1
#: Values at the limits of what a hotel may set, and beyond them.
amounts = st.sampled_from((0, 1, MAX_PRICE_MINOR, MAX_PRICE_MINOR, MAX_PRICE_MINOR + 1, INT64, -1))
counts = st.sampled_from((0, 1, 2, 100, 100, 101, INT32, -1))
kept = st.one_of(
    st.builds(Kept, percent=st.sampled_from((0, 100, 100, 101))),
    st.builds(Kept, nights=st.sampled_from((0, 1, 1_100, INT32))),
    st.builds(Kept, amount_minor=amounts),
)
policies = st.builds(
    CancellationPolicy,
    id=st.just("policy"),
    steps=st.lists(
        st.builds(PolicyStep, hours_before=st.sampled_from((0, 24 * 366, INT32)), kept=kept), max_size=1
    ).map(tuple),
    no_show=kept,
)
plans = st.builds(
    RatePlan,
    id=st.just("standard"),
    name=st.just("Standard"),
    terms=st.sampled_from(Terms),
    policy=policies,
    times_milli=st.sampled_from((0, 1, 100_000, 100_000, INT32)),
    plus_minor=amounts.map(lambda amount: -amount) | amounts,
    included_adults=counts,
    extra_adult_minor=amounts,
    child_bands=st.lists(st.builds(AgeBand, up_to_age=st.just(17), nightly_minor=amounts), max_size=1).map(tuple),
)
taxes = st.builds(
    Tax,
    id=st.just("tax"),
    name=st.just("Tax"),
    amount_minor=amounts,
    per_night=st.booleans(),
    per_person=st.booleans(),
    per_room=st.booleans(),
    included=st.booleans(),
    collected=st.sampled_from(Collected),
)
terms_of_sale = st.builds(
    SaleTerms,
    version=st.sampled_from((1, INT64, 0)),
    plans=plans.map(lambda plan: (plan,)),
    taxes=st.lists(taxes, max_size=1).map(tuple),
    capacity=st.none() | counts,
)
parties = st.none() | st.builds(
    Party,
    adults=st.sampled_from((1, 2, INT32, -INT32)),
    child_ages=st.lists(st.sampled_from((0, 17)), max_size=3).map(tuple),
)
FIRST_DAYS = (date.min, march(10), date.max - timedelta(days=30))


def fits(value: Any) -> bool:
    """Return whether every number of a plain value fits a column of 64 bits."""
    if isinstance(value, dict | list | tuple):
        return all(fits(each) for each in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or -INT64 - 1 <= value <= INT64


def check_events(scenario: Scenario) -> None:
    """Every event can be written and read again, and the row of the booking too."""
    for event in scenario.answer:
        assert decode_value(event.message_type, encode_value(event)) == event
    for booking in scenario.bookings.values():
        assert fits([value for value in row_of(booking) if isinstance(value, int | list)])
        assert booking.sale is None or all(fits(line.amount_minor) for line in booking.sale.lines)


@settings(max_examples=150)
@given(
    terms=terms_of_sale,
    party=parties,
    rooms_count=st.sampled_from((1, MAX_ROOMS, INT32)),
    nights=st.sampled_from((1, 2, 30)),
    first=st.sampled_from(FIRST_DAYS),
)
def test_absurd_terms_and_requests_are_answered_by_events(
    terms: SaleTerms, party: Party | None, rooms_count: int, nights: int, first: date
) -> None:
    opened = but(
        OPENED,
        first_night=first,
        end_night=first + timedelta(days=30),
        total_count=MAX_ROOMS,
        price_minor=MAX_PRICE_MINOR // MAX_SURGE_MILLI,
    )
    scenario = story(opened).when(but(SET_TERMS, terms=terms))
    check_events(scenario)
    wish = but(
        RESERVE,
        check_in=first,
        check_out=first + timedelta(days=nights),
        rooms_count=rooms_count,
        party=party,
        stay_times=TIMES,
    )
    check_events(scenario.when(wish))
    check_events(scenario.when(CANCEL, at=CHECK_IN))


def test_terms_at_their_limits_are_sold() -> None:
    """The drawn values are not all refused: those at the limits are set, and a stay is sold by them."""
    plan = RatePlan(id="standard", name="Standard", times_milli=0, plus_minor=MAX_PRICE_MINOR, terms=Terms.AT_HOTEL)
    scenario = story(OPENED).when(but(SET_TERMS, terms=SaleTerms(version=2**63 - 1, plans=(plan,))))
    assert isinstance(scenario.answer[0], SaleTermsChanged)

    reserved = scenario.when(but(RESERVE, check_out=march(11))).answer[0]
    assert isinstance(reserved, BookingReserved)
    assert reserved.amount_minor == MAX_PRICE_MINOR
