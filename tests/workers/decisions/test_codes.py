"""Promo codes: their terms, their uses, and the price of a stay that is booked with one."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from tests.support.scenario import NOON, Scenario, given
from tests.workers.decisions.words import (
    ADAS,
    ANOTHER_ROOM,
    BENS,
    CONFIRMED_FREE,
    EXPIRED,
    HOTEL,
    LIST,
    OPENED,
    RESERVE,
    RESERVED,
    ROOM,
    SECOND,
    but,
    march,
    refused,
    rejected,
    repeated,
)
from tests.workers.decisions.words_of_codes import (
    AUTUMN,
    BEN_CLAIMS,
    CARLA_CLAIMS,
    CLAIM,
    CODE_SET,
    CODE_TERMS,
    DISCOUNT,
    DISCOUNTED,
    GIVE_BACK,
    GIVEN_BACK,
    SET_CODE,
    SPRING,
    claimed,
    code_rejected,
    code_unchanged,
)
from tests.workers.decisions.words_of_sale import ARRIVING, FOR_SALE, QUOTED, RESERVE_QUOTED, SALE, TERMS
from topics.messages.commands import ReturnCode
from topics.messages.events import CodeReturned, Event
from topics.messages.sale import CodeTerms, Discount, LineKind, PriceLine, Quoted, Sale
from topics.messages.values import BookingStatus, CodeRefusal, Refusal, Rejection, Terms

AMOUNT_OFF = Discount(code_id=SPRING, code="SPRING", amount_minor=30_00, currency="EUR")
SAME_NIGHTS_OFF = replace(AMOUNT_OFF, first_night=DISCOUNT.first_night, end_night=DISCOUNT.end_night)
DISCOUNTED_QUOTE = replace(
    QUOTED,
    amount_minor=DISCOUNTED.amount_minor,
    night_amounts_minor=DISCOUNTED.night_amounts_minor,
    sale=DISCOUNTED.sale,
)


def terms_with(**changes: Any) -> CodeTerms:
    """Return the terms of the code with other values, and no limits unless named."""
    return replace(replace(CODE_TERMS, max_uses=None, max_account_uses=None), **changes)


def code_with(**changes: Any) -> Scenario:
    """Begin with a code on these terms."""
    return given(but(CODE_SET, terms=terms_with(**changes)))


# The terms of a code.


def test_a_code_is_made_and_its_terms_are_replaced_by_newer_ones() -> None:
    newer = replace(CODE_TERMS, version=2, percent_milli=50_000, max_uses=1)
    scenario = given().when(SET_CODE).then(CODE_SET)
    scenario.when(CLAIM).then(claimed(CLAIM))
    scenario.when(but(SET_CODE, terms=newer)).then(but(CODE_SET, terms=newer))
    assert (scenario.codes[SPRING].terms, scenario.codes[SPRING].used_count) == (newer, 1)


def test_the_same_terms_again_change_nothing() -> None:
    given(CODE_SET).when(SET_CODE).then(code_unchanged(SET_CODE))


@pytest.mark.parametrize("version", [1, 2])
def test_terms_that_are_not_newer_are_refused(version: int) -> None:
    present = but(CODE_SET, terms=replace(CODE_TERMS, version=2))
    late = but(SET_CODE, terms=replace(CODE_TERMS, version=version, percent_milli=1_000))
    given(present).when(late).then(code_unchanged(late, CodeRefusal.NEWER_TERMS))


def test_the_code_of_another_hotel_is_not_changed() -> None:
    others = but(SET_CODE, hotel_id=HOTEL + 1, terms=replace(CODE_TERMS, version=2))
    given(CODE_SET).when(others).then(code_unchanged(others, CodeRefusal.NO_SUCH_CODE))


def test_invalid_terms_are_refused() -> None:
    invalid = but(SET_CODE, terms=replace(CODE_TERMS, percent_milli=None))
    given().when(invalid).then(code_unchanged(invalid, CodeRefusal.TERMS_INVALID))


# The uses of a code.


def test_a_use_is_granted_and_the_same_booking_has_it_once() -> None:
    scenario = given(CODE_SET).when(CLAIM).then(claimed(CLAIM)).when(CLAIM).then(code_unchanged(CLAIM))
    assert scenario.codes[SPRING].used_count == 1


def test_the_last_use_has_one_winner() -> None:
    given(CODE_SET).when(CLAIM).then(claimed(CLAIM)).when(BEN_CLAIMS).then(claimed(BEN_CLAIMS)).when(CARLA_CLAIMS).then(
        code_rejected(CARLA_CLAIMS, Rejection.CODE_USED_UP)
    )


def test_a_use_that_is_given_back_is_granted_to_another_booking() -> None:
    scenario = given(CODE_SET, claimed(CLAIM), claimed(BEN_CLAIMS)).when(GIVE_BACK).then(GIVEN_BACK)
    assert scenario.codes[SPRING].used_count == 1
    scenario.when(CARLA_CLAIMS).then(claimed(CARLA_CLAIMS))
    assert scenario.codes[SPRING].used_count == 2


def test_a_use_is_given_back_once() -> None:
    scenario = given(CODE_SET, claimed(CLAIM), claimed(BEN_CLAIMS), GIVEN_BACK).when(GIVE_BACK)
    scenario.then(code_unchanged(GIVE_BACK))
    assert scenario.codes[SPRING].used_count == 1


def test_a_booking_that_never_used_the_code_gives_nothing_back() -> None:
    scenario = given(CODE_SET, claimed(BEN_CLAIMS)).when(GIVE_BACK).then(code_unchanged(GIVE_BACK))
    assert scenario.codes[SPRING].used_count == 1


def test_nothing_is_given_back_to_a_code_that_does_not_exist() -> None:
    given().when(GIVE_BACK).then(code_unchanged(GIVE_BACK, CodeRefusal.NO_SUCH_CODE))


def test_a_booking_that_gave_its_use_back_gets_no_other() -> None:
    """It has ended in its room: a use that it got now would never come back."""
    given(CODE_SET, claimed(CLAIM), GIVEN_BACK).when(CLAIM).then(code_unchanged(CLAIM))


def test_an_account_has_so_many_uses_and_gets_another_once_it_gave_one_back() -> None:
    second = but(CLAIM, reserve=but(RESERVE, booking_id=BENS))
    scenario = given(CODE_SET, claimed(CLAIM)).when(second)
    scenario.then(code_rejected(second, Rejection.CODE_USED_BY_ACCOUNT))
    scenario.when(GIVE_BACK).then(GIVEN_BACK).when(second).then(claimed(second))


def test_guests_without_an_account_are_not_counted_by_account() -> None:
    first, second = (
        but(CLAIM, reserve=but(RESERVE, booking_id=booking_id, user_id=None, at_desk=True))
        for booking_id in (ADAS, BENS)
    )
    given(CODE_SET).when(first).then(claimed(first)).when(second).then(claimed(second))


def test_a_code_that_does_not_exist_is_refused() -> None:
    given().when(CLAIM).then(code_rejected(CLAIM, Rejection.NO_SUCH_CODE))


def test_a_code_without_limits_counts_its_uses() -> None:
    scenario = code_with()
    for number in range(1, 6):
        claim = but(CLAIM, reserve=but(RESERVE, booking_id=UUID(int=number)))
        scenario.when(claim).then(claimed(claim))
    assert scenario.codes[SPRING].used_count == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False},
        {"room_ids": (ROOM + 1,)},
        {"valid_from": NOON + SECOND},
        {"valid_until": NOON},
        {"first_night": march(11)},
        {"end_night": march(11)},
    ],
)
def test_a_code_does_not_count_for_other_times_nights_and_rooms(changes: dict[str, Any]) -> None:
    code_with(**changes).when(CLAIM).then(code_rejected(CLAIM, Rejection.CODE_NOT_VALID))


@pytest.mark.parametrize(
    "changes",
    [
        {"room_ids": ()},
        {"room_ids": (ROOM + 1, ROOM)},
        {"valid_from": NOON, "valid_until": NOON + SECOND},
        {"valid_from": None, "valid_until": None},
        {"first_night": march(10), "end_night": march(12)},
        {"first_night": None, "end_night": None},
    ],
)
def test_a_code_counts_for_all_within_its_bounds(changes: dict[str, Any]) -> None:
    terms = terms_with(**changes)
    discount = replace(DISCOUNT, first_night=terms.first_night, end_night=terms.end_night)
    code_with(**changes).when(CLAIM).then(claimed(CLAIM, discount))


@pytest.mark.parametrize(
    "changes", [{"hotel_id": HOTEL + 1}, {"agreed_nightly_minor": 50_00}, {"terms": Terms.AT_HOTEL}]
)
def test_a_code_does_not_count_at_another_hotel_or_for_the_rates_of_trusted_writers(changes: dict[str, Any]) -> None:
    claim = but(CLAIM, reserve=but(RESERVE, **changes))
    given(CODE_SET).when(claim).then(code_rejected(claim, Rejection.CODE_NOT_VALID))


def test_the_reason_that_is_checked_first_is_named() -> None:
    late = code_with(active=False, max_uses=1, max_account_uses=1)
    used_up = code_with(max_uses=1, max_account_uses=1)
    for scenario, reason in ((late, Rejection.CODE_NOT_VALID), (used_up, Rejection.CODE_USED_UP)):
        scenario.happen(claimed(CLAIM))
        again = but(CLAIM, reserve=but(RESERVE, booking_id=BENS))
        scenario.when(again).then(code_rejected(again, reason))


def test_the_discount_of_a_claim_is_the_codes_own_and_not_that_of_the_claim() -> None:
    forged = but(
        CLAIM,
        reserve=but(
            RESERVE,
            discount=Discount(code_id=AUTUMN, code="AUTUMN", percent_milli=99_000),
            code_rejection=Rejection.SOLD_OUT,
        ),
    )
    given(CODE_SET).when(forged).then(claimed(CLAIM))
    code_with(percent_milli=None, amount_minor=30_00, currency="EUR").when(forged).then(claimed(CLAIM, SAME_NIGHTS_OFF))


def test_a_quote_keeps_its_discount_after_the_terms_have_changed() -> None:
    claim = but(CLAIM, reserve=but(RESERVE, quoted=DISCOUNTED_QUOTE))
    code_with(percent_milli=1_000).when(claim).then(claimed(claim))


@pytest.mark.parametrize("discount", [None, replace(DISCOUNT, code_id=AUTUMN)])
def test_a_quote_without_the_code_is_no_use_of_it(discount: Discount | None) -> None:
    quoted = replace(DISCOUNTED_QUOTE, sale=replace(SALE, discount=discount))
    claim = but(CLAIM, reserve=but(RESERVE, quoted=quoted))
    given(CODE_SET).when(claim).then(code_rejected(claim, Rejection.CODE_NOT_VALID))


# The price of a stay with a code.

WITH_CODE = but(RESERVE, discount=DISCOUNT)


def test_the_discount_is_taken_off_the_nights_before_taxes() -> None:
    given(*FOR_SALE).when(WITH_CODE).then(DISCOUNTED)


def test_a_room_without_sale_terms_is_sold_by_the_standard_plan_with_the_discount() -> None:
    scenario = given(OPENED).when(WITH_CODE)
    (reserved,) = scenario.answer
    assert isinstance(reserved, type(RESERVED))
    assert (reserved.amount_minor, reserved.night_amounts_minor) == (160_00, (80_00, 80_00))
    assert reserved.sale is not None
    assert reserved.sale.plan_id == "standard"
    assert (reserved.sale.discount, reserved.sale.discount_minor) == (DISCOUNT, 40_00)


def test_an_amount_is_taken_off_the_whole_stay_and_never_more_than_it_costs() -> None:
    for off_minor, costs_minor in ((30_00, 170_00), (200_00, 0), (900_00, 0)):
        discount = replace(AMOUNT_OFF, amount_minor=off_minor)
        scenario = given(OPENED).when(but(RESERVE, discount=discount))
        (reserved,) = scenario.answer
        assert isinstance(reserved, type(RESERVED))
        assert reserved.sale is not None
        assert (reserved.amount_minor, sum(reserved.night_amounts_minor)) == (costs_minor, costs_minor)
        assert reserved.sale.discount_minor == 200_00 - costs_minor


def test_an_amount_in_another_currency_than_the_rooms_is_refused() -> None:
    command = but(RESERVE, discount=replace(AMOUNT_OFF, currency="USD"))
    given(OPENED).when(command).then(but(rejected(command, Rejection.CODE_NOT_VALID), code_id=SPRING))


@pytest.mark.parametrize(
    "reason",
    [
        Rejection.NO_SUCH_CODE,
        Rejection.CODE_NOT_VALID,
        Rejection.CODE_USED_UP,
        Rejection.CODE_USED_BY_ACCOUNT,
    ],
)
def test_a_booking_whose_code_was_refused_is_rejected_for_that_before_all_else(reason: Rejection) -> None:
    command = but(RESERVE, code_rejection=reason, check_out=RESERVE.check_in)
    given().when(command).then(rejected(command, reason)).when(WITH_CODE).then(
        but(repeated(WITH_CODE, BookingStatus.REJECTED), code_id=SPRING)
    )


@pytest.mark.parametrize("events", [(), (EXPIRED,)])
def test_a_booking_keeps_the_code_that_it_was_sold_with_when_the_request_comes_again(events: tuple[Event, ...]) -> None:
    again = repeated(WITH_CODE, BookingStatus.EXPIRED if events else BookingStatus.RESERVED)
    given(*FOR_SALE, DISCOUNTED, *events).when(WITH_CODE).then(again)


def test_a_booking_without_a_code_gives_the_use_back_that_it_is_granted_later() -> None:
    """Somebody sent a claim again that was refused at first."""
    given(OPENED, RESERVED).when(WITH_CODE).then(but(repeated(WITH_CODE, BookingStatus.RESERVED), code_id=SPRING))


@pytest.mark.parametrize("room_id", [ROOM, ANOTHER_ROOM])
def test_another_request_with_the_key_of_a_booking_gives_its_use_back(room_id: int) -> None:
    """The booking has a code of its own, and keeps that."""
    first = but(DISCOUNTED, request_hash="ours")
    other = but(WITH_CODE, room_id=room_id, request_hash="another", discount=replace(DISCOUNT, code_id=SPRING + 1))
    status = BookingStatus.RESERVED if room_id == ROOM else None
    refusal = but(refused(other, Refusal.ANOTHER_REQUEST, status), code_id=SPRING + 1)
    given(*FOR_SALE, first).when(other).then(refusal)


def test_a_rejected_booking_names_the_code_whose_use_comes_back() -> None:
    given().when(WITH_CODE).then(but(rejected(WITH_CODE, Rejection.NIGHT_NOT_OPEN), code_id=SPRING))


def test_a_quoted_price_counts_with_the_discount_that_was_granted_alone() -> None:
    command = but(RESERVE_QUOTED, quoted=DISCOUNTED_QUOTE, discount=DISCOUNT)
    given(*FOR_SALE).when(command).then(DISCOUNTED)


@pytest.mark.parametrize(
    ("quoted", "discount"),
    [
        (DISCOUNTED_QUOTE, None),
        (QUOTED, DISCOUNT),
        (DISCOUNTED_QUOTE, replace(DISCOUNT, code_id=AUTUMN)),
    ],
)
def test_a_quoted_discount_that_was_not_granted_is_refused(quoted: Quoted, discount: Discount | None) -> None:
    command = but(RESERVE_QUOTED, quoted=quoted, discount=discount)
    code_id = None if discount is None else discount.code_id
    given(*FOR_SALE).when(command).then(but(rejected(command, Rejection.CODE_NOT_VALID), code_id=code_id))


# Bookings at the desk.

AT_DESK = but(RESERVE, user_id=None, at_desk=True, guest_list_id=LIST, accepted_terms="2026-01")


def as_at_desk(sale: Sale) -> Sale:
    """Return the conditions of a prepaid plan as a manager sells it: all of it is paid at the hotel."""
    at_hotel = ARRIVING.sale
    assert at_hotel is not None
    lines = tuple(
        replace(line, id="standard", name="Standard") if line.kind is LineKind.STAY else line for line in at_hotel.lines
    )
    return replace(at_hotel, plan_id=sale.plan_id, plan_name=sale.plan_name, lines=lines)


def test_a_manager_sells_by_the_plan_and_all_of_it_is_paid_at_the_hotel() -> None:
    reserved = but(ARRIVING, user_id=None, guest_list_id=LIST, accepted_terms="2026-01", sale=as_at_desk(SALE))
    scenario = given(*FOR_SALE).when(AT_DESK).then(reserved, but(CONFIRMED_FREE, amount_minor=210_00))
    scenario.with_booking(ADAS, guest_list_id=LIST, accepted_terms="2026-01", terms=Terms.AT_HOTEL)


def test_a_manager_sells_a_room_without_sale_terms_by_the_standard_plan() -> None:
    scenario = given(OPENED).when(AT_DESK)
    line = PriceLine(kind=LineKind.STAY, id="standard", name="Standard", amount_minor=200_00)
    sale = scenario.bookings[ADAS].sale
    assert sale is not None
    assert [replace(each, collected=line.collected) for each in sale.lines] == [line]
    scenario.with_booking(ADAS, status=BookingStatus.CONFIRMED, terms=Terms.AT_HOTEL, amount_minor=200_00)


def test_a_manager_sells_with_a_code() -> None:
    given(*FOR_SALE).when(but(AT_DESK, discount=DISCOUNT)).with_booking(ADAS, amount_minor=170_00)


def test_the_terms_that_a_guest_accepted_are_recorded() -> None:
    given(OPENED).when(but(RESERVE, accepted_terms="2026-01")).then(but(RESERVED, accepted_terms="2026-01"))


def test_the_capacity_counts_for_a_manager_too() -> None:
    crowd = but(AT_DESK, party=replace(SALE.party, adults=4))
    assert TERMS.capacity == 3
    given(*FOR_SALE).when(crowd).then(rejected(crowd, Rejection.PARTY_TOO_LARGE))


# Any order of events.

BOOKINGS = [UUID(int=number) for number in range(1, 7)]
LIMITS = st.none() | st.integers(1, 3)


class CodeOffice(RuleBasedStateMachine):
    """Claims, returns and other terms in any order, against a plain list of the uses that count."""

    def __init__(self) -> None:
        super().__init__()
        self.scenario = Scenario()
        self.counting: dict[UUID, int | None] = {}
        self.asked: set[UUID] = set()
        self.version = 0

    @initialize()
    def the_code_is_made(self) -> None:
        """Begin with a code of two uses."""
        self.terms_are_set(2, 1, active=True)

    @rule(max_uses=LIMITS, max_account_uses=LIMITS, active=st.booleans())
    def terms_are_set(self, max_uses: int | None, max_account_uses: int | None, *, active: bool) -> None:
        """Change the limits, also to fewer than the uses that count."""
        self.version += 1
        terms = terms_with(version=self.version, max_uses=max_uses, max_account_uses=max_account_uses, active=active)
        command = but(SET_CODE, terms=terms)
        self.scenario.when(command).then(but(CODE_SET, terms=terms))

    @rule(booking_id=st.sampled_from(BOOKINGS), user_id=st.sampled_from((None, 11, 12)))
    def a_booking_claims(self, booking_id: UUID, user_id: int | None) -> None:
        """Claim a use, perhaps not for the first time."""
        terms = self.scenario.codes[SPRING].terms
        claim = but(CLAIM, reserve=but(RESERVE, booking_id=booking_id, user_id=user_id))
        of_account = [user for user in self.counting.values() if user is not None and user == user_id]
        (event,) = self.scenario.when(claim).answer
        if booking_id in self.asked:
            assert event == code_unchanged(claim)
        elif not terms.active:
            assert event == code_rejected(claim, Rejection.CODE_NOT_VALID)
        elif terms.max_uses is not None and len(self.counting) >= terms.max_uses:
            assert event == code_rejected(claim, Rejection.CODE_USED_UP)
        elif user_id is not None and terms.max_account_uses is not None and len(of_account) >= terms.max_account_uses:
            assert event == code_rejected(claim, Rejection.CODE_USED_BY_ACCOUNT)
        else:
            assert event == claimed(claim)
            self.asked.add(booking_id)
            self.counting[booking_id] = user_id
            assert terms.max_uses is None or self.scenario.codes[SPRING].used_count <= terms.max_uses

    @rule(booking_id=st.sampled_from(BOOKINGS))
    def a_booking_gives_back(self, booking_id: UUID) -> None:
        """Give a use back that counts, that was given back, or that never was."""
        command = ReturnCode(code_id=SPRING, booking_id=booking_id)
        (event,) = self.scenario.when(command).answer
        counted = booking_id in self.counting
        self.counting.pop(booking_id, None)
        assert event == (CodeReturned(code_id=SPRING, booking_id=booking_id) if counted else code_unchanged(command))

    @invariant()
    def the_count_is_that_of_the_uses_in_the_list(self) -> None:
        """Compare the code's own count with the list."""
        code = self.scenario.codes.get(SPRING)
        assert (0 if code is None else code.used_count) == len(self.counting)
        counting = {use.booking_id for use in self.scenario.code_uses.values() if not use.returned}
        assert counting == set(self.counting)


TestCodeOffice = CodeOffice.TestCase
TestCodeOffice.settings = settings(max_examples=50)
