"""Trips: all legs or none; one payment; each leg ends by its own policy, and the trip with the last of them."""

from datetime import timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace

from tests.support.scenario import NOON, Scenario, given
from tests.workers.decisions.words import (
    ADD_GUESTS,
    BEN,
    CANCEL,
    CHANGE_GUESTS,
    CHECK_IN,
    CHECK_OUT,
    CLOSE,
    CLOSE_REFUND,
    DEADLINE,
    DISPUTE_LOST,
    DISPUTED,
    EXPIRE,
    EXPIRED,
    FAIL_REFUND,
    GUESTS,
    HAND_REFUND,
    LATER,
    LOST,
    MILLISECOND,
    OPENED,
    OTHER_GUESTS,
    PAY,
    RECORD_REFUND,
    RECORD_SESSION,
    REFUND_CLOSED,
    REFUND_FAILED,
    REFUNDED,
    REFUNDED_BY_HAND,
    REQUEST_PAYMENT,
    ROOM,
    SENT_BACK,
    SESSION,
    but,
    march,
    refused,
    rejected,
    repeated,
)
from tests.workers.decisions.words_at_hotel import ARRIVE, ARRIVED, LEAVE, NO_SHOW
from tests.workers.decisions.words_of_changes import LONGER
from tests.workers.decisions.words_of_sale import ARRIVING, SALE, TERMS_SET, policy
from tests.workers.decisions.words_of_trips import (
    BOTH_OPEN,
    CANCEL_ASKED,
    CONFIRM_FIRST,
    FIRST,
    FIRST_ENDED,
    FIRST_ENDS,
    FIRST_HELD,
    FIRST_IS_HELD,
    FIRST_RESERVED,
    FIRST_SOLD,
    LEG_HELD,
    LEG_SOLD,
    LEGS,
    NOBODY_CAME,
    PAY_TRIP,
    RELEASE_FIRST,
    RELEASED_LEG,
    RESERVE_FIRST,
    RESERVE_SECOND,
    RESERVE_TRIP,
    SECOND,
    SECOND_ENDED,
    SECOND_ENDS,
    SECOND_HELD,
    SECOND_IS_HELD,
    SECOND_IS_REFUSED,
    SECOND_RESERVED,
    SUITES,
    TRIP,
    TRIP_ASKED,
    TRIP_ASKED_FOR,
    TRIP_BOUGHT,
    TRIP_CANCELLED,
    TRIP_GUESTS,
    TRIP_HELD,
    TRIP_OPENED,
    TRIP_PAID,
    TRIP_PAYABLE,
    TRIP_REJECTED,
    TRIP_RESERVED,
    part_back,
    trip_over,
)
from topics.messages.commands import BookingCommand, RecordLeg, ReserveTrip
from topics.messages.events import BookingExpired, BookingReserved, Event
from topics.messages.sale import Discount
from topics.messages.values import (
    MAX_AMOUNT_MINOR,
    MAX_LEGS,
    MAX_NIGHTS,
    BookingStatus,
    CancelReason,
    HotelReason,
    LegState,
    RefundReason,
    Refusal,
    Rejection,
    Terms,
)
from workers.decisions import Payment, PaymentState
from workers.decisions.state import RefundMade

DISCOUNT = Discount(code_id=9, code="SPRING", percent_milli=10_000)
TRIP_EXPIRED = but(EXPIRED, booking_id=TRIP)
CANCEL_TRIP = but(CANCEL, booking_id=TRIP)
ONCE = Payment("pi_1", "cs_1", 600_00, PaymentState.KEPT)


def of_trip(command: BookingCommand, **changes: object) -> BookingCommand:
    """Return the same command about the trip."""
    return but(command, booking_id=TRIP, **changes)


def of_leg(command: BookingCommand, **changes: object) -> BookingCommand:
    """Return the same command about the trip's first leg."""
    return but(command, booking_id=FIRST, **changes)


def leg_states(scenario: Scenario) -> list[LegState]:
    """Return the states of the trip's legs, as the trip knows them."""
    return [leg.state for leg in scenario.bookings[TRIP].legs]


# Asked for.


def test_a_trip_is_opened_without_nights_of_its_own() -> None:
    scenario = given(*BOTH_OPEN).when(RESERVE_TRIP).then(TRIP_OPENED)
    scenario.with_booking(
        TRIP, status=BookingStatus.RESERVING, rooms_count=0, amount_minor=0, terms=Terms.PREPAID, sale=None
    )
    assert scenario.bookings[TRIP].nights() == ()
    assert leg_states(scenario) == [LegState.REQUESTED, LegState.REQUESTED]
    scenario.with_night(ROOM, march(10), reserved_count=0).with_night(SUITES, march(10), reserved_count=0)


def test_the_same_trip_twice_is_one_trip() -> None:
    for events, status in ((TRIP_ASKED_FOR, BookingStatus.RESERVING), (TRIP_BOUGHT, BookingStatus.CONFIRMED)):
        given(*events).when(RESERVE_TRIP).then(repeated(RESERVE_TRIP, status))


def test_another_request_with_the_key_of_a_trip_is_refused_and_asks_for_no_legs() -> None:
    keyed = but(RESERVE_TRIP, request_hash="ours")
    scenario = given(*BOTH_OPEN).when(keyed).then(but(TRIP_OPENED, request_hash="ours"))
    scenario.when(keyed).then(repeated(keyed, BookingStatus.RESERVING))
    other = but(keyed, check_out=march(11), request_hash="another")
    scenario.when(other).then(refused(other, Refusal.ANOTHER_REQUEST, BookingStatus.RESERVING))
    astray = but(other, room_id=SUITES)
    scenario.when(astray).then(refused(astray, Refusal.ANOTHER_REQUEST, None))
    nothing = but(keyed, legs=())
    given().when(nothing).then(but(TRIP_REJECTED, leg_id=None, reason=Rejection.NO_ROOMS, request_hash="ours")).when(
        but(nothing, request_hash="another")
    ).then(refused(nothing, Refusal.ANOTHER_REQUEST, BookingStatus.REJECTED))


def test_a_trip_of_the_same_id_is_not_opened_in_another_room() -> None:
    astray = but(RESERVE_TRIP, room_id=SUITES)
    given(*TRIP_ASKED_FOR).when(astray).then(refused(astray, Refusal.BOOKING_NOT_FOUND, None))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"check_out": march(10)}, Rejection.NO_NIGHTS),
        ({"check_out": march(10) + timedelta(days=MAX_NIGHTS + 1)}, Rejection.NIGHT_NOT_OPEN),
        ({"legs": ()}, Rejection.NO_ROOMS),
        ({"legs": (LEGS[0], LEGS[0])}, Rejection.NO_ROOMS),
        ({"legs": (LEGS[0], replace(LEGS[1], booking_id=TRIP))}, Rejection.NO_ROOMS),
        (
            {"legs": tuple(replace(LEGS[0], booking_id=UUID(int=50 + number)) for number in range(MAX_LEGS + 1))},
            Rejection.NO_ROOMS,
        ),
        ({"code_rejection": Rejection.CODE_USED_UP}, Rejection.CODE_USED_UP),
    ],
)
def test_a_trip_that_makes_no_sense_is_refused_as_a_whole(wrong: dict[str, object], reason: Rejection) -> None:
    command: ReserveTrip = but(RESERVE_TRIP, discount=DISCOUNT, **wrong)
    event = but(
        TRIP_REJECTED,
        check_out=command.check_out,
        legs=command.legs,
        reason=reason,
        leg_id=None,
        code_id=DISCOUNT.code_id,
    )
    given(*BOTH_OPEN).when(command).then(event).with_booking(
        TRIP, status=BookingStatus.REJECTED, rejection=reason, hold_expires_at=None
    )


def test_the_longest_trip_of_the_most_legs_is_opened() -> None:
    legs = tuple(replace(LEGS[0], booking_id=UUID(int=50 + number)) for number in range(MAX_LEGS))
    longest = but(RESERVE_TRIP, legs=legs, check_out=march(10) + timedelta(days=MAX_NIGHTS))
    given(*BOTH_OPEN).when(longest).then(but(TRIP_OPENED, legs=legs, check_out=longest.check_out))


# The legs, in their rooms.


def test_a_leg_is_held_without_a_deadline_of_its_own() -> None:
    scenario = given(*BOTH_OPEN).when(RESERVE_FIRST).then(FIRST_RESERVED).when(RESERVE_SECOND).then(SECOND_RESERVED)
    scenario.with_booking(FIRST, trip_id=TRIP, trip_room_id=ROOM, hold_expires_at=None)
    scenario.with_night(ROOM, march(11), reserved_count=1).with_night(SUITES, march(11), reserved_count=2)
    expire = of_leg(EXPIRE)
    scenario.when(expire, at=LATER).then().with_booking(FIRST, status=BookingStatus.RESERVED)


def test_the_room_of_a_leg_refuses_it_with_the_trips_id() -> None:
    command = but(RESERVE_SECOND, rooms_count=3)
    event = rejected(command, Rejection.SOLD_OUT)
    assert (event.trip_id, event.trip_room_id) == (TRIP, ROOM)
    given(*BOTH_OPEN).when(command).then(event).with_booking(SECOND, trip_id=TRIP, trip_room_id=ROOM)


def test_a_leg_is_paid_in_advance() -> None:
    command = but(RESERVE_FIRST, plan_id="on_arrival")
    given(*BOTH_OPEN, TERMS_SET).when(command).then(rejected(command, Rejection.NOT_PREPAID))
    alone = but(command, trip_id=None, trip_room_id=None)
    scenario = given(*BOTH_OPEN, TERMS_SET).when(alone)
    assert scenario.answer[0] == but(ARRIVING, booking_id=FIRST)


@pytest.mark.parametrize("command", [of_leg(ADD_GUESTS), of_leg(REQUEST_PAYMENT), of_leg(CANCEL), of_leg(LONGER)])
def test_a_leg_that_is_not_paid_gets_its_commands_from_the_trip(command: BookingCommand) -> None:
    given(*LEG_HELD).when(command).then(refused(command, Refusal.PART_OF_TRIP, BookingStatus.RESERVED))
    by_hotel = but(command, user_id=None)
    given(*LEG_HELD).when(by_hotel).then(refused(by_hotel, Refusal.PART_OF_TRIP, BookingStatus.RESERVED))


def test_a_paid_leg_takes_the_commands_of_a_booking_but_for_a_change() -> None:
    change, guests, cancel = of_leg(LONGER), of_leg(CHANGE_GUESTS), of_leg(CANCEL)
    given(*LEG_SOLD).when(change).then(refused(change, Refusal.PART_OF_TRIP, BookingStatus.CONFIRMED))
    given(*LEG_SOLD).when(guests).then(but(OTHER_GUESTS, booking_id=FIRST))
    given(*LEG_SOLD).when(cancel).then(but(TRIP_CANCELLED, booking_id=FIRST)).with_night(
        ROOM, march(10), booked_count=0
    )
    given(*LEG_SOLD).when(of_leg(ARRIVE), at=CHECK_IN).then(but(ARRIVED, booking_id=FIRST))


def test_money_that_names_a_leg_goes_back() -> None:
    pay = of_leg(PAY)
    back = but(SENT_BACK, booking_id=FIRST, reason=RefundReason.UNKNOWN_BOOKING)
    given(*LEG_HELD).when(pay).then(back).with_booking(FIRST, status=BookingStatus.RESERVED)
    given(*LEG_SOLD).when(pay).then(back).with_booking(FIRST, status=BookingStatus.CONFIRMED)
    given(*LEG_HELD, RELEASED_LEG).when(pay).then(back).with_booking(FIRST, status=BookingStatus.CANCELLED)
    ended = BookingExpired(room_id=ROOM, booking_id=FIRST)
    given(*LEG_HELD, ended).when(pay).then(back).with_booking(FIRST, status=BookingStatus.EXPIRED)


def test_a_leg_is_sold_with_the_trips_guests() -> None:
    scenario = given(*LEG_HELD).when(CONFIRM_FIRST).then(but(GUESTS, booking_id=FIRST), FIRST_SOLD)
    scenario.with_night(ROOM, march(10), reserved_count=0, booked_count=1)
    scenario.with_booking(FIRST, guest_ids=(1, 2), payments=())
    scenario.when(CONFIRM_FIRST).then(repeated(CONFIRM_FIRST, BookingStatus.CONFIRMED))
    nameless = but(CONFIRM_FIRST, guest_ids=(), guest_list_id=None)
    given(*LEG_HELD).when(nameless).then(FIRST_SOLD)


def test_a_leg_is_released_when_its_trip_ends() -> None:
    scenario = given(*LEG_HELD).when(RELEASE_FIRST, at=LATER).then(RELEASED_LEG)
    scenario.with_night(ROOM, march(10), reserved_count=0, booked_count=0)
    for late in (RELEASE_FIRST, CONFIRM_FIRST):
        scenario.when(late).then(repeated(late, BookingStatus.CANCELLED))
    given(*LEG_SOLD).when(RELEASE_FIRST).then(repeated(RELEASE_FIRST, BookingStatus.CONFIRMED))


@pytest.mark.parametrize("command", [CONFIRM_FIRST, RELEASE_FIRST])
def test_a_booking_that_is_no_leg_is_neither_sold_nor_released_so(command: BookingCommand) -> None:
    alone = but(FIRST_RESERVED, trip_id=None, trip_room_id=None)
    given(OPENED).when(command).then(refused(command, Refusal.BOOKING_NOT_FOUND, None))
    given(OPENED, alone).when(command).then(refused(command, Refusal.NO_SUCH_LEG, BookingStatus.RESERVED))


# The trip, while its legs are reserved.


def test_the_last_leg_reserves_the_trip_for_the_sum() -> None:
    scenario = given(*TRIP_ASKED_FOR).when(SECOND_IS_HELD).then(SECOND_HELD)
    assert leg_states(scenario) == [LegState.REQUESTED, LegState.HELD]
    scenario.when(FIRST_IS_HELD).then(FIRST_HELD, TRIP_RESERVED)
    assert leg_states(scenario) == [LegState.HELD, LegState.HELD]
    scenario.with_booking(
        TRIP, status=BookingStatus.RESERVED, amount_minor=600_00, currency="EUR", hold_expires_at=DEADLINE
    )
    for again in (FIRST_IS_HELD, SECOND_IS_HELD, SECOND_IS_REFUSED):
        scenario.when(again).then(repeated(again, BookingStatus.RESERVED))


@pytest.mark.parametrize("so_far", [TRIP_ASKED_FOR, (*TRIP_ASKED_FOR, FIRST_HELD)], ids=["first", "last"])
def test_a_refused_leg_refuses_the_trip_and_is_named(so_far: tuple[Event, ...]) -> None:
    scenario = given(*so_far).when(SECOND_IS_REFUSED).then(TRIP_REJECTED)
    scenario.with_booking(TRIP, status=BookingStatus.REJECTED, rejection=Rejection.SOLD_OUT, hold_expires_at=None)
    for late in (SECOND_IS_REFUSED, FIRST_IS_HELD):
        scenario.when(late).then(repeated(late, BookingStatus.REJECTED))


def test_a_first_leg_that_is_refused_is_named_too() -> None:
    command = but(SECOND_IS_REFUSED, leg_id=FIRST, rejection=Rejection.NOT_PREPAID)
    given(*TRIP_ASKED_FOR).when(command).then(but(TRIP_REJECTED, leg_id=FIRST, reason=Rejection.NOT_PREPAID))


@pytest.mark.parametrize(
    "second",
    [
        but(SECOND_IS_HELD, currency="USD"),
        but(SECOND_IS_HELD, amount_minor=MAX_AMOUNT_MINOR),
    ],
    ids=["other currency", "too much together"],
)
def test_legs_that_nobody_can_pay_together_refuse_the_trip_as_a_whole(second: RecordLeg) -> None:
    held = but(SECOND_HELD, amount_minor=second.amount_minor, currency=second.currency)
    whole = but(TRIP_REJECTED, leg_id=None, reason=Rejection.NOT_CHARGEABLE)
    given(*TRIP_ASKED_FOR, FIRST_HELD).when(second).then(held, whole)


@pytest.mark.parametrize(("second_minor", "is_enough"), [(20, True), (19, False)])
def test_the_least_charge_counts_for_the_trip_and_not_for_its_legs(second_minor: int, *, is_enough: bool) -> None:
    cheap = but(OPENED, price_minor=15)
    leg = given(cheap).when(RESERVE_FIRST).answer[0]
    assert isinstance(leg, BookingReserved)
    assert leg.amount_minor == 30
    alone = but(RESERVE_FIRST, trip_id=None, trip_room_id=None)
    given(cheap).when(alone).then(rejected(alone, Rejection.NOT_CHARGEABLE))

    first = but(FIRST_HELD, amount_minor=30, night_amounts_minor=(15, 15))
    second = but(SECOND_IS_HELD, amount_minor=second_minor, night_amounts_minor=(second_minor, 0))
    whole: Event = but(TRIP_REJECTED, leg_id=None, reason=Rejection.NOT_CHARGEABLE)
    if is_enough:
        whole = but(TRIP_RESERVED, amount_minor=50, night_amounts_minor=(15 + second_minor, 15))
    held = but(SECOND_HELD, amount_minor=second_minor, night_amounts_minor=(second_minor, 0))
    given(*TRIP_ASKED_FOR, first).when(second).then(held, whole)


def test_a_leg_is_a_whole_number_of_steps_and_not_more_than_can_be_charged() -> None:
    for price_minor in (10**9, 10**12):
        given(but(OPENED, price_minor=price_minor)).when(RESERVE_FIRST).then(
            rejected(RESERVE_FIRST, Rejection.NOT_CHARGEABLE)
        )


@pytest.mark.parametrize("command", [FIRST_IS_HELD, FIRST_ENDS])
def test_a_leg_of_no_trip_is_recorded_nowhere(command: RecordLeg) -> None:
    stray = but(command, leg_id=UUID(int=99))
    given(*BOTH_OPEN).when(command).then(refused(command, Refusal.BOOKING_NOT_FOUND, None))
    given(*TRIP_HELD).when(stray).then(refused(stray, Refusal.NO_SUCH_LEG, BookingStatus.RESERVED))


def test_a_trip_ends_at_its_deadline_also_while_its_legs_are_reserved() -> None:
    expire = of_trip(EXPIRE)
    for events in (TRIP_ASKED_FOR, TRIP_HELD):
        given(*events).when(expire, at=DEADLINE - MILLISECOND).then()
        given(*events).when(expire, at=DEADLINE).then(TRIP_EXPIRED)
    late = given(*TRIP_ASKED_FOR, FIRST_HELD).when(SECOND_IS_HELD, at=DEADLINE)
    late.then(TRIP_EXPIRED, repeated(SECOND_IS_HELD, BookingStatus.EXPIRED))


def test_a_trip_is_cancelled_while_its_legs_are_reserved_and_a_late_leg_changes_nothing() -> None:
    scenario = given(*TRIP_ASKED_FOR, FIRST_HELD).when(CANCEL_TRIP).then(TRIP_CANCELLED)
    scenario.when(SECOND_IS_HELD).then(repeated(SECOND_IS_HELD, BookingStatus.CANCELLED))
    scenario.when(CANCEL_TRIP).then(repeated(CANCEL_TRIP, BookingStatus.CANCELLED))
    given(*TRIP_HELD).when(CANCEL_TRIP).then(TRIP_CANCELLED)


def test_a_trip_without_a_price_takes_neither_guests_nor_money() -> None:
    guests, request = of_trip(ADD_GUESTS), of_trip(REQUEST_PAYMENT)
    for command in (guests, request):
        given(*TRIP_ASKED_FOR).when(command).then(refused(command, Refusal.WRONG_STATUS, BookingStatus.RESERVING))
    nothing = of_trip(PAY, amount_minor=0, currency="")
    given(*TRIP_ASKED_FOR).when(nothing).then(
        part_back(0, currency="", reason=RefundReason.BOOKING_CANCELLED)
    ).with_booking(TRIP, status=BookingStatus.RESERVING)


# Paid.


def test_a_trip_is_paid_once_for_all_legs() -> None:
    scenario = given(*TRIP_HELD).when(of_trip(REQUEST_PAYMENT))
    scenario.then(refused(of_trip(REQUEST_PAYMENT), Refusal.NO_GUESTS, BookingStatus.RESERVED))
    scenario.when(of_trip(ADD_GUESTS)).then(TRIP_GUESTS).when(of_trip(REQUEST_PAYMENT)).then(TRIP_ASKED)
    scenario.when(of_trip(RECORD_SESSION)).then(but(SESSION, booking_id=TRIP)).when(PAY_TRIP).then(TRIP_PAID)
    scenario.with_booking(TRIP, payments=(ONCE,), status=BookingStatus.CONFIRMED)
    scenario.when(PAY_TRIP).then(repeated(PAY_TRIP, BookingStatus.CONFIRMED))


def test_a_trip_that_costs_nothing_is_bought_without_a_payment() -> None:
    nothing = {"amount_minor": 0, "night_amounts_minor": (0, 0)}
    scenario = given(*TRIP_ASKED_FOR).when(but(FIRST_IS_HELD, **nothing)).when(but(SECOND_IS_HELD, **nothing))
    scenario.then(but(SECOND_HELD, **nothing), but(TRIP_RESERVED, **nothing)).when(of_trip(ADD_GUESTS))
    scenario.when(of_trip(REQUEST_PAYMENT))
    scenario.then(but(TRIP_PAID, amount_minor=0, session_id=None, payment_intent=None))
    for ends in (but(FIRST_ENDS, kept_minor=0), but(SECOND_ENDS, kept_minor=0)):
        scenario.when(ends)
    assert scenario.answer == (but(SECOND_ENDED, kept_minor=0), trip_over(0))


def test_a_payment_after_the_deadline_goes_back_as_the_legs_are_released() -> None:
    back = part_back(600_00, reason=RefundReason.NIGHTS_GONE)
    given(*TRIP_PAYABLE).when(PAY_TRIP, at=DEADLINE).then(TRIP_EXPIRED, back)
    given(*TRIP_PAYABLE, TRIP_EXPIRED).when(PAY_TRIP).then(back)
    given(*TRIP_PAYABLE, TRIP_CANCELLED).when(PAY_TRIP).then(part_back(600_00))
    given(*TRIP_PAYABLE).when(PAY_TRIP, at=DEADLINE - MILLISECOND).then(TRIP_PAID)


def test_a_session_that_closes_unpaid_ends_the_trip() -> None:
    given(*TRIP_PAYABLE).when(of_trip(CLOSE)).then(but(TRIP_CANCELLED, reason=CancelReason.PAYMENT_CLOSED))


def test_a_second_payment_and_a_wrong_amount_of_a_trip_go_back_whole() -> None:
    again = but(PAY_TRIP, payment_intent="pi_2", session_id="cs_2")
    back = part_back(600_00, payment_intent="pi_2", session_id="cs_2", reason=RefundReason.SECOND_PAYMENT)
    sent_back = Payment("pi_2", "cs_2", 600_00, PaymentState.REFUND_REQUESTED, due_minor=600_00)
    scenario = given(*TRIP_BOUGHT).when(again).then(back).with_booking(TRIP, payments=(ONCE, sent_back))
    scenario.when(FIRST_ENDS).then(FIRST_ENDED, part_back(150_00, total_minor=None))
    scenario.with_booking(TRIP, payments=(replace(ONCE, due_minor=150_00), sent_back))
    wrong = but(PAY_TRIP, amount_minor=200_00)
    given(*TRIP_PAYABLE).when(wrong).then(part_back(200_00, reason=RefundReason.WRONG_AMOUNT)).with_booking(
        TRIP, status=BookingStatus.PAYMENTS_PENDING, session_id=None
    )


@pytest.mark.parametrize(
    "command",
    [of_trip(ARRIVE), of_trip(LEAVE), of_trip(NO_SHOW), of_trip(CHANGE_GUESTS), of_trip(LONGER)],
)
def test_guests_arrive_leave_and_change_in_a_leg_and_not_in_the_trip(command: BookingCommand) -> None:
    given(*TRIP_BOUGHT).when(command, at=CHECK_IN).then(refused(command, Refusal.HAS_LEGS, BookingStatus.CONFIRMED))


# The ends of a paid trip.


def test_a_paid_trip_is_cancelled_leg_by_leg() -> None:
    scenario = given(*TRIP_BOUGHT).when(CANCEL_TRIP).then(CANCEL_ASKED)
    scenario.with_booking(TRIP, status=BookingStatus.CONFIRMED, payments=(ONCE,))
    by_hotel = but(CANCEL_TRIP, user_id=None, reason=CancelReason.BY_HOTEL, hotel_reason=HotelReason.OVERBOOKED)
    scenario.when(by_hotel).then(
        but(CANCEL_ASKED, user_id=None, reason=CancelReason.BY_HOTEL, hotel_reason=HotelReason.OVERBOOKED)
    )


def test_a_trip_is_not_cancelled_by_others_or_too_late_or_without_a_leg_that_goes_on() -> None:
    for command, at, reason in (
        (but(CANCEL_TRIP, user_id=BEN), NOON, Refusal.NOT_YOUR_BOOKING),
        (CANCEL_TRIP, CHECK_IN, Refusal.CHECK_IN_PASSED),
        (CANCEL_TRIP, CHECK_OUT, Refusal.STAY_OVER),
        (but(CANCEL_TRIP, user_id=None), CHECK_OUT, Refusal.STAY_OVER),
    ):
        given(*TRIP_BOUGHT).when(command, at=at).then(refused(command, reason, BookingStatus.CONFIRMED))
    by_hotel = but(CANCEL_TRIP, user_id=None)
    given(*TRIP_BOUGHT).when(by_hotel, at=CHECK_IN).then(but(CANCEL_ASKED, user_id=None))
    ended = given(*TRIP_BOUGHT).when(FIRST_ENDS).when(NOBODY_CAME).when(CANCEL_TRIP)
    ended.then(refused(CANCEL_TRIP, Refusal.WRONG_STATUS, BookingStatus.CONFIRMED))


def test_each_leg_that_is_cancelled_goes_back_but_for_its_costs_and_the_last_ends_the_trip() -> None:
    scenario = given(*TRIP_BOUGHT).when(FIRST_ENDS).then(FIRST_ENDED, part_back(150_00))
    assert leg_states(scenario) == [LegState.CANCELLED, LegState.HELD]
    scenario.with_booking(TRIP, status=BookingStatus.CONFIRMED, payments=(replace(ONCE, due_minor=150_00),))
    scenario.when(FIRST_ENDS).then(repeated(FIRST_ENDS, BookingStatus.CONFIRMED))
    scenario.when(SECOND_ENDS).then(SECOND_ENDED, part_back(250_00, total_minor=400_00), trip_over(200_00))
    kept = replace(ONCE, due_minor=400_00)
    scenario.with_booking(TRIP, status=BookingStatus.CANCELLED, payments=(kept,), amount_minor=600_00)
    assert kept.kept_minor == 200_00
    scenario.when(SECOND_ENDS).then(repeated(SECOND_ENDS, BookingStatus.CANCELLED))


def test_legs_that_cost_nothing_send_everything_back() -> None:
    scenario = given(*TRIP_BOUGHT).when(but(FIRST_ENDS, kept_minor=0)).when(but(SECOND_ENDS, kept_minor=0))
    scenario.then(but(SECOND_ENDED, kept_minor=0), part_back(400_00, total_minor=600_00), trip_over(0))
    scenario.with_booking(TRIP, payments=(replace(ONCE, state=PaymentState.REFUND_REQUESTED, due_minor=600_00),))


def test_a_leg_of_which_everything_is_kept_asks_for_no_refund() -> None:
    for kept_minor in (200_00, 999_00):
        ends = but(FIRST_ENDS, kept_minor=kept_minor)
        given(*TRIP_BOUGHT).when(ends).then(but(FIRST_ENDED, kept_minor=kept_minor))


@pytest.mark.parametrize("reason", [RefundReason.NO_SHOW, RefundReason.EARLY_DEPARTURE])
def test_a_leg_that_ends_at_the_hotel_leaves_the_trip_as_it_is(reason: RefundReason) -> None:
    ends = but(NOBODY_CAME, reason=reason)
    scenario = given(*TRIP_BOUGHT).when(ends, at=CHECK_IN)
    scenario.then(but(SECOND_ENDED, reason=reason, cancel_reason=None), part_back(250_00, reason=reason))
    assert leg_states(scenario) == [LegState.HELD, LegState.ENDED]
    scenario.when(FIRST_ENDS).then(FIRST_ENDED, part_back(150_00, total_minor=400_00)).with_booking(
        TRIP, status=BookingStatus.CONFIRMED
    )


def test_a_leg_that_ends_before_its_trip_is_paid_or_after_its_end_changes_nothing() -> None:
    given(*TRIP_HELD).when(FIRST_ENDS).then(repeated(FIRST_ENDS, BookingStatus.RESERVED))
    given(*TRIP_HELD, TRIP_CANCELLED).when(FIRST_ENDS).then(repeated(FIRST_ENDS, BookingStatus.CANCELLED))


def test_a_leg_is_cancelled_at_the_costs_of_its_own_policy() -> None:
    sold = (*BOTH_OPEN, TERMS_SET, but(FIRST_RESERVED, sale=SALE), but(GUESTS, booking_id=FIRST), FIRST_SOLD)
    scenario = given(*sold).when(of_leg(CANCEL), at=CHECK_IN - timedelta(hours=1))
    scenario.then(but(TRIP_CANCELLED, booking_id=FIRST, policy=policy(100_00))).with_booking(FIRST, payments=())
    left_early = given(*sold, but(ARRIVED, booking_id=FIRST)).when(of_leg(LEAVE), at=CHECK_IN)
    assert [event.message_type for event in left_early.answer] == ["booking.checked_out.v1"]


# Money that leaves otherwise.


def test_a_refund_of_a_leg_that_fails_is_due_again_and_can_be_closed() -> None:
    made = of_trip(RECORD_REFUND, amount_minor=150_00)
    fails = of_trip(FAIL_REFUND, amount_minor=150_00)
    scenario = given(*TRIP_BOUGHT).when(FIRST_ENDS).when(made).then(but(REFUNDED, booking_id=TRIP, amount_minor=150_00))
    scenario.with_booking(TRIP, payments=(replace(ONCE, refunds=(RefundMade("re_1", 150_00),)),))
    scenario.when(fails).then(but(REFUND_FAILED, booking_id=TRIP, amount_minor=150_00))
    failed = replace(ONCE, failed_refund_ids=("re_1",))
    scenario.with_booking(TRIP, payments=(replace(failed, due_minor=150_00),))
    scenario.when(of_trip(CLOSE_REFUND)).then(but(REFUND_CLOSED, booking_id=TRIP, amount_minor=150_00))
    scenario.when(SECOND_ENDS).then(SECOND_ENDED, part_back(250_00, total_minor=400_00), trip_over(200_00))
    scenario.with_booking(TRIP, payments=(replace(failed, due_minor=250_00, closed_minor=150_00),))


def test_a_trip_whose_payment_was_refunded_by_hand_ends_where_the_hotel_wishes() -> None:
    by_hand = of_trip(HAND_REFUND, amount_minor=600_00)
    went = but(REFUNDED_BY_HAND, booking_id=TRIP, amount_minor=600_00)
    given(*TRIP_BOUGHT).when(by_hand).then(went).with_booking(TRIP, status=BookingStatus.CONFIRMED)
    ends = but(by_hand, cancel_if_full=True)
    scenario = given(*TRIP_BOUGHT).when(ends)
    scenario.then(went, but(TRIP_CANCELLED, reason=CancelReason.REFUNDED_BY_HAND))
    scenario.when(FIRST_ENDS).then(repeated(FIRST_ENDS, BookingStatus.CANCELLED))
    part = but(ends, amount_minor=599_99)
    given(*TRIP_BOUGHT).when(part).then(but(went, amount_minor=599_99))


def test_a_refund_by_hand_leaves_less_for_the_legs_and_its_failure_brings_their_money_back() -> None:
    by_hand = of_trip(HAND_REFUND, amount_minor=500_00)
    fails = of_trip(FAIL_REFUND, refund_id="re_hand", amount_minor=500_00, by_hand=True)
    scenario = given(*TRIP_BOUGHT).when(by_hand).when(FIRST_ENDS).then(FIRST_ENDED)
    failed = but(REFUND_FAILED, booking_id=TRIP, refund_id="re_hand", amount_minor=500_00, by_hand=True)
    # The other leg costs 400.00, and 50.00 of this one are kept.
    scenario.when(fails).then(failed, part_back(150_00)).with_booking(
        TRIP, payments=(replace(ONCE, due_minor=150_00, failed_refund_ids=("re_hand",)),)
    )
    given(*TRIP_BOUGHT).when(by_hand).when(fails).then(failed)


def test_a_lost_dispute_takes_what_is_due_for_a_leg_first() -> None:
    lost = of_trip(DISPUTE_LOST, amount_minor=200_00)
    scenario = given(*TRIP_BOUGHT).when(FIRST_ENDS).when(lost)
    scenario.then(but(DISPUTED, booking_id=TRIP, amount_minor=200_00), but(LOST, booking_id=TRIP, amount_minor=200_00))
    [payment] = scenario.bookings[TRIP].payments
    assert (payment.state, payment.due_minor, payment.kept_minor) == (PaymentState.KEPT, 0, 400_00)
    scenario.when(SECOND_ENDS).then(SECOND_ENDED, part_back(200_00, 400_00), trip_over(200_00))
