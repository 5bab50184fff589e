"""A room is sold by the plans, taxes and policies of its hotel, or at the price of a quote."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.scenario import NOON, Scenario, given
from tests.workers.decisions.words import (
    ADAS,
    BEN,
    BENS,
    CONFIRMED_FREE,
    OPENED,
    RESERVE,
    RESERVED,
    ROOM,
    SECOND,
    but,
    march,
    priced,
    rejected,
)
from tests.workers.decisions.words import CHANGED as NIGHTS_CHANGED
from tests.workers.decisions.words_of_sale import (
    ARRIVING,
    CITY_TAX,
    FOR_SALE,
    GOOD_UNTIL,
    ON_ARRIVAL,
    ON_TERMS,
    QUOTED,
    RESERVE_QUOTED,
    SALE,
    SAVED,
    SAVER,
    SET_TERMS,
    STANDARD,
    TERMS,
    TERMS_SET,
    terms_unchanged,
)
from topics.messages.commands import ReserveStay
from topics.messages.events import BookingRejected, BookingReserved, SaleTermsChanged
from topics.messages.sale import ArrivalRule, Party, RatePlan, SaleTerms
from topics.messages.values import BookingStatus, InventoryRefusal, Rejection, Terms

NEWER = replace(TERMS, version=2, plans=(replace(STANDARD, times_milli=2_000),), taxes=())
ANY_DAYS: dict[str, Any] = {"first_day": march(1), "end_day": march(31)}


def room_with(*plans: RatePlan, **changes: Any) -> SaleTermsChanged:
    """Return the event that sells the room by these plans."""
    return but(TERMS_SET, terms=replace(TERMS, **{"plans": plans or TERMS.plans, **changes}))


# Setting the terms of a room.

RULES = (ArrivalRule(first_day=march(1), end_day=march(2), min_nights=2),) * 200


def test_terms_are_set_and_replaced_by_newer_ones() -> None:
    given(OPENED).when(SET_TERMS).then(TERMS_SET).when(but(SET_TERMS, terms=NEWER)).then(but(TERMS_SET, terms=NEWER))


def test_the_same_terms_again_change_nothing() -> None:
    given(*FOR_SALE).when(SET_TERMS).then(terms_unchanged(None))


def test_other_terms_of_the_same_version_are_refused() -> None:
    """The hotel's own version is behind, as after a restore from an older backup."""
    others = but(SET_TERMS, terms=replace(NEWER, version=1))
    scenario = given(*FOR_SALE).when(others).then(terms_unchanged(InventoryRefusal.NEWER_TERMS))
    assert scenario.sale_terms == {ROOM: TERMS}


def test_terms_of_an_older_version_arrive_late_and_are_refused() -> None:
    given(OPENED, but(TERMS_SET, terms=NEWER)).when(SET_TERMS).then(terms_unchanged(InventoryRefusal.NEWER_TERMS))


@pytest.mark.parametrize(
    "terms",
    [
        replace(TERMS, plans=()),
        replace(TERMS, version=0),
        replace(TERMS, capacity=-1),
        replace(TERMS, plans=(replace(STANDARD, plus_minor=2**63 - 1),)),
        replace(TERMS, plans=tuple(replace(STANDARD, id=f"plan {n}", rules=RULES) for n in range(10))),
    ],
)
def test_terms_that_cannot_be_priced_are_refused(terms: SaleTerms) -> None:
    scenario = given(OPENED).when(but(SET_TERMS, terms=terms)).then(terms_unchanged(InventoryRefusal.TERMS_INVALID))
    assert scenario.sale_terms == {}


def test_terms_of_one_room_are_not_those_of_another() -> None:
    another = but(TERMS_SET, room_id=8)
    given(OPENED, another).when(RESERVE).then(RESERVED)


# Reserving by a plan.


def test_a_room_without_terms_is_sold_at_the_price_of_its_nights() -> None:
    given(OPENED).when(RESERVE).then(RESERVED).with_booking(ADAS, sale=None)


def test_a_request_that_names_nothing_gets_the_standard_plan_for_the_adults_that_it_covers() -> None:
    given(*FOR_SALE).when(RESERVE).then(ON_TERMS).with_booking(ADAS, sale=SALE)


def test_without_a_standard_plan_it_gets_the_first() -> None:
    given(OPENED, room_with(SAVER, ON_ARRIVAL)).when(RESERVE).then(SAVED)


def test_a_plan_is_sold_by_its_name() -> None:
    given(*FOR_SALE).when(but(RESERVE, plan_id="saver")).then(SAVED)


def test_a_plan_that_is_paid_at_the_hotel_is_confirmed_at_once() -> None:
    confirmed = but(CONFIRMED_FREE, amount_minor=210_00)
    given(*FOR_SALE).when(but(RESERVE, plan_id="on_arrival")).then(ARRIVING, confirmed).with_booking(
        ADAS, status=BookingStatus.CONFIRMED, terms=Terms.AT_HOTEL, hold_expires_at=None
    ).with_night(ROOM, march(10), reserved_count=0, booked_count=1)


def test_a_stay_that_is_paid_at_the_hotel_counts_as_unpaid_in_an_accounts_share() -> None:
    wish = but(RESERVE, plan_id="on_arrival", rooms_count=2, account_share_percent=0)
    more = but(wish, booking_id=BENS, rooms_count=1)
    given(but(OPENED, total_count=9), TERMS_SET).when(wish).when(more).then(rejected(more, Rejection.ACCOUNT_SHARE))


def test_adults_and_children_pay_by_the_plan() -> None:
    plan = replace(STANDARD, extra_adult_minor=20_00)
    wish = but(RESERVE, party=Party(adults=3, child_ages=(1,)))
    reserved = given(OPENED, room_with(plan, taxes=(CITY_TAX,))).when(wish).answer[0]

    assert isinstance(reserved, BookingReserved)
    assert reserved.sale is not None
    assert reserved.amount_minor == 240_00
    assert [line.amount_minor for line in reserved.sale.lines] == [240_00, 2 * 3 * 2_50]
    assert reserved.sale.party == Party(adults=3, child_ages=(1,))


def test_a_trusted_writer_sells_at_an_agreed_rate_or_at_the_hotel_without_terms() -> None:
    given(*FOR_SALE).when(but(RESERVE, agreed_nightly_minor=70_00)).then(priced(RESERVED, 70_00, 70_00))
    given(*FOR_SALE).when(but(RESERVE, terms=Terms.AT_HOTEL)).then(
        but(RESERVED, terms=Terms.AT_HOTEL, hold_expires_at=None), CONFIRMED_FREE
    )


def test_a_party_or_a_plan_at_a_room_without_terms_is_sold_by_the_terms_of_such_rooms() -> None:
    for wish in (but(RESERVE, party=Party(adults=1)), but(RESERVE, plan_id="standard")):
        reserved = given(OPENED).when(wish).answer[0]
        assert isinstance(reserved, BookingReserved)
        assert reserved.sale is not None
        assert (reserved.sale.terms_version, reserved.sale.plan_id) == (0, "standard")
        assert [step.kept_minor for step in reserved.sale.steps] == [0]
    given(OPENED).when(but(RESERVE, plan_id="saver")).then(
        rejected(but(RESERVE, plan_id="saver"), Rejection.NO_SUCH_PLAN)
    )


def test_a_booking_keeps_the_terms_that_it_was_sold_on() -> None:
    given(*FOR_SALE, ON_TERMS, but(TERMS_SET, terms=NEWER)).with_booking(ADAS, sale=SALE)


def test_the_terms_of_a_hotel_count_from_the_next_command_on() -> None:
    reserved = given(*FOR_SALE).when(but(SET_TERMS, terms=NEWER)).when(RESERVE).answer[0]

    assert isinstance(reserved, BookingReserved)
    assert reserved.sale is not None
    assert (reserved.sale.terms_version, reserved.amount_minor) == (2, 400_00)


# Refusals, in their order.


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (but(RESERVE, plan_id="unknown"), Rejection.NO_SUCH_PLAN),
        (but(RESERVE, party=Party(adults=0, child_ages=(17,))), Rejection.NO_ADULT),
        (but(RESERVE, party=Party(adults=-(2**31))), Rejection.NO_ADULT),
        (but(RESERVE, party=Party(adults=4)), Rejection.PARTY_TOO_LARGE),
        (but(RESERVE, party=Party(adults=2, child_ages=(2, 3))), Rejection.PARTY_TOO_LARGE),
        (but(RESERVE, party=Party(adults=2**31 - 1)), Rejection.PARTY_TOO_LARGE),
    ],
)
def test_a_plan_and_people_that_do_not_fit_are_refused(command: ReserveStay, reason: Rejection) -> None:
    given(*FOR_SALE).when(command).then(rejected(command, reason)).with_night(ROOM, march(10), reserved_count=0)


def test_two_rooms_have_space_for_twice_as_many_and_infants_take_none() -> None:
    wish = but(RESERVE, rooms_count=2, party=Party(adults=6, child_ages=(1, 0)))
    assert isinstance(given(*FOR_SALE).when(wish).answer[0], BookingReserved)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"stop_sell": True}, Rejection.STOP_SELL),
        ({"closed_to_arrival": True}, Rejection.CLOSED_TO_ARRIVAL),
        ({"closed_to_departure": True}, Rejection.CLOSED_TO_DEPARTURE),
        ({"min_nights": 3}, Rejection.MIN_STAY),
        ({"max_nights": 1}, Rejection.MAX_STAY),
        ({"advance_days": 10}, Rejection.ADVANCE_PURCHASE),
    ],
)
def test_a_rule_of_the_plan_excludes_the_stay(rule: dict[str, Any], reason: Rejection) -> None:
    plan = replace(STANDARD, rules=(ArrivalRule(**ANY_DAYS, **rule),))

    given(OPENED, room_with(plan, SAVER)).when(RESERVE).then(rejected(RESERVE, reason))
    assert isinstance(
        given(OPENED, room_with(plan, SAVER)).when(but(RESERVE, plan_id="saver")).answer[0], BookingReserved
    )


def test_a_stay_that_is_wrong_in_many_ways_is_refused_for_the_first_reason() -> None:
    rules: dict[str, Any] = {
        "stop_sell": True,
        "closed_to_arrival": True,
        "closed_to_departure": True,
        "min_nights": 3,
        "max_nights": 1,
        "advance_days": 60,
    }
    taken = but(RESERVED, booking_id=BENS, user_id=BEN, rooms_count=2)
    closed = but(NIGHTS_CHANGED, closed=True)
    wishes: list[tuple[dict[str, Any], bool]] = [
        ({"plan_id": "unknown", "party": Party(adults=0)}, True),
        ({"party": Party(adults=0)}, True),
        ({"party": Party(adults=9)}, True),
        ({}, True),
        ({}, False),
    ]
    reasons = []
    for changes, is_closed in wishes:
        scenario = room_with_rules(rules, taken)
        if is_closed:
            scenario.happen(closed)
        reasons.append(reason_of(scenario, but(RESERVE, **changes)))
    while rules:
        del rules[next(iter(rules))]
        reasons.append(reason_of(room_with_rules(rules, taken), RESERVE))

    order = list(Rejection)
    assert reasons == order[order.index(Rejection.NO_SUCH_PLAN) : order.index(Rejection.SOLD_OUT) + 1]


def room_with_rules(rules: dict[str, Any], *events: BookingReserved) -> Scenario:
    """Return a scenario of a room whose standard plan has these rules."""
    listed = (ArrivalRule(**ANY_DAYS, **rules),) if rules else ()
    return given(OPENED, room_with(replace(STANDARD, rules=listed)), *events)


def reason_of(scenario: Scenario, command: ReserveStay) -> Rejection:
    event = scenario.when(command).answer[0]
    assert isinstance(event, BookingRejected)
    return event.reason


def test_the_days_in_advance_are_counted_by_the_date_at_the_hotel() -> None:
    """At 07:30 UTC on the 8th it is still the 7th in Vancouver, three days before the arrival on the 10th."""
    plan = replace(STANDARD, rules=(ArrivalRule(**ANY_DAYS, advance_days=3),))
    in_time = datetime(2026, 3, 8, 7, 30, tzinfo=UTC)

    assert isinstance(given(OPENED, room_with(plan)).when(RESERVE, at=in_time).answer[0], BookingReserved)
    given(OPENED, room_with(plan)).when(RESERVE, at=in_time + timedelta(hours=1)).then(
        rejected(RESERVE, Rejection.ADVANCE_PURCHASE)
    )


def test_taxes_that_no_ledger_could_hold_make_a_stay_unpayable() -> None:
    tax = replace(CITY_TAX, amount_minor=10**12)
    given(OPENED, room_with(taxes=(tax,))).when(RESERVE).then(rejected(RESERVE, Rejection.NOT_CHARGEABLE))
    at_hotel = but(RESERVE, plan_id="on_arrival")
    given(OPENED, room_with(taxes=(tax,))).when(at_hotel).then(rejected(at_hotel, Rejection.NOT_CHARGEABLE))


def test_the_amount_in_advance_must_be_chargeable_and_the_rest_need_not() -> None:
    cheap = replace(STANDARD, times_milli=0, plus_minor=24)
    given(OPENED, room_with(cheap)).when(RESERVE).then(rejected(RESERVE, Rejection.NOT_CHARGEABLE))
    free = replace(STANDARD, times_milli=0)
    reserved = given(OPENED, room_with(free)).when(RESERVE).answer[0]
    assert isinstance(reserved, BookingReserved)
    assert reserved.sale is not None
    assert (reserved.amount_minor, reserved.sale.at_hotel_minor) == (0, 10_00)


# Quotes.


def test_a_quoted_price_counts_although_price_and_terms_changed_meanwhile() -> None:
    dearer = but(NIGHTS_CHANGED, price_minor=500_00)
    without_taxes = room_with(version=2, taxes=())
    given(*FOR_SALE, dearer, without_taxes).when(RESERVE_QUOTED).then(ON_TERMS)


def test_a_quote_counts_at_its_last_instant_and_not_after() -> None:
    held = but(ON_TERMS, hold_expires_at=GOOD_UNTIL + timedelta(minutes=15))
    given(*FOR_SALE).when(RESERVE_QUOTED, at=GOOD_UNTIL).then(held)
    given(*FOR_SALE).when(RESERVE_QUOTED, at=GOOD_UNTIL + SECOND / 1000).then(
        rejected(RESERVE_QUOTED, Rejection.QUOTE_EXPIRED)
    )


def test_a_quote_of_a_plan_that_is_stopped_or_gone_is_refused() -> None:
    stopped = replace(STANDARD, rules=(ArrivalRule(**ANY_DAYS, stop_sell=True),))
    for terms in (room_with(stopped, SAVER), room_with(SAVER)):
        given(OPENED, terms).when(RESERVE_QUOTED).then(rejected(RESERVE_QUOTED, Rejection.STOP_SELL))


def test_other_rules_that_came_after_the_quote_do_not_count() -> None:
    strict = replace(STANDARD, rules=(ArrivalRule(**ANY_DAYS, min_nights=7, closed_to_arrival=True, advance_days=99),))
    given(OPENED, room_with(strict)).when(RESERVE_QUOTED).then(ON_TERMS)


def test_a_quote_at_a_room_without_terms_is_one_of_the_standard_plan() -> None:
    given(OPENED).when(RESERVE_QUOTED).then(ON_TERMS)
    saver = but(RESERVE, quoted=replace(QUOTED, sale=replace(SALE, plan_id="saver")))
    given(OPENED).when(saver).then(rejected(saver, Rejection.STOP_SELL))


def test_a_quote_does_not_hold_the_nights() -> None:
    taken = but(RESERVED, booking_id=BENS, user_id=BEN, rooms_count=2)
    given(*FOR_SALE, taken).when(RESERVE_QUOTED).then(rejected(RESERVE_QUOTED, Rejection.SOLD_OUT))
    given(*FOR_SALE, but(NIGHTS_CHANGED, closed=True)).when(RESERVE_QUOTED).then(
        rejected(RESERVE_QUOTED, Rejection.NIGHT_CLOSED)
    )


def test_a_quote_in_another_currency_than_the_rooms_is_over() -> None:
    given(but(OPENED, currency="USD"), TERMS_SET).when(RESERVE_QUOTED).then(
        rejected(RESERVE_QUOTED, Rejection.QUOTE_EXPIRED)
    )


def test_a_quote_that_is_paid_at_the_hotel_is_confirmed_at_once() -> None:
    assert ARRIVING.sale is not None
    quoted = replace(
        QUOTED, terms=Terms.AT_HOTEL, sale=ARRIVING.sale, amount_minor=210_00, night_amounts_minor=(105_00, 105_00)
    )
    given(*FOR_SALE).when(but(RESERVE, quoted=quoted)).then(ARRIVING, but(CONFIRMED_FREE, amount_minor=210_00))


def test_the_same_request_again_makes_no_second_booking() -> None:
    scenario = given(*FOR_SALE).when(RESERVE_QUOTED).when(RESERVE_QUOTED, at=NOON + timedelta(days=1))
    assert [type(event).__name__ for event in scenario.answer] == ["BookingExpired", "CommandRepeated"]


def test_a_stay_beyond_the_calendar_of_its_policy_is_sold_all_the_same() -> None:
    """The first days of the calendar have no hours before them, and the last no instants after them."""
    for first in (date.min, date.max - timedelta(days=2)):
        end = first + timedelta(days=2)
        wish = but(RESERVE, check_in=first, check_out=end)
        reserved = given(but(OPENED, first_night=first, end_night=end), TERMS_SET).when(wish).answer[0]
        assert isinstance(reserved, BookingReserved)


@pytest.mark.parametrize("command", [RESERVE, RESERVE_QUOTED], ids=["by the terms", "quoted"])
def test_the_plan_of_a_request_is_looked_up_once(command: ReserveStay, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    right = SaleTerms.plan

    def plan(terms: SaleTerms, plan_id: str | None) -> RatePlan | None:
        asked.append(plan_id)
        return right(terms, plan_id)

    monkeypatch.setattr(SaleTerms, "plan", plan)
    given(*FOR_SALE).when(command).then(ON_TERMS)
    assert len(asked) == 1
