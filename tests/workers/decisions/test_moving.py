"""A change to another room type: the other room holds the stay as a leg, and then both swap; or all stays as it was."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.scenario import NOON, Scenario, given
from tests.workers.decisions.words import (
    ADA,
    ADAS,
    ADD_GUESTS,
    BEN,
    CANCEL,
    CANCELLED,
    CHANGE_GUESTS,
    CHECK_IN,
    CLOSE,
    DECLINE,
    EXPIRE,
    FAIL_REFUND,
    HAND_REFUND,
    HOTEL,
    LATER,
    MILLISECOND,
    OPENED,
    PAY,
    RECORD_REFUND,
    RECORD_SESSION,
    REFUND_FAILED,
    REFUNDED,
    REQUEST_PAYMENT,
    ROOM,
    SECOND_DAY,
    SENT_BACK,
    but,
    march,
    refused,
    rejected,
    repeated,
)
from tests.workers.decisions.words_at_hotel import ARRIVE, ARRIVED, AT_HOTEL, LEAVE, NO_SHOW
from tests.workers.decisions.words_of_changes import (
    ANOTHER_CHANGE,
    ASKED_MORE,
    CHANGE_DEADLINE,
    LONGER,
    PAY_MORE,
    RECORD_SECOND,
    SECOND_SESSION,
    SHORTER,
    WITHDRAW,
)
from tests.workers.decisions.words_of_moves import (
    ALL_OPEN,
    ANOTHER_LEG,
    CONFIRM_LEG,
    DOWN_BACK,
    DOWN_OPENED,
    HAS_MOVED,
    HAS_MOVED_DOWN,
    HELD_MOVE,
    LEG,
    LEG_ENDED,
    LEG_ENDS,
    LEG_GUESTS,
    LEG_RELEASED,
    LEG_RESERVED,
    LEG_SOLD,
    MOVE,
    MOVE_DOWN,
    MOVE_HELD,
    MOVE_OPENED,
    MOVED,
    MOVED_DOWN,
    OPEN_MOVE,
    PAYABLE_MOVE,
    RELEASE_LEG,
    RESERVE_LEG,
    SINGLE_IS_HELD,
    SINGLES,
    SUITE_IS_HELD,
    SUITE_IS_REFUSED,
    SUITES,
    move_ended,
    not_moved,
)
from tests.workers.decisions.words_of_sale import SALE, SOLD, STANDARD, TERMS, TERMS_SET, policy, wall
from topics.messages.commands import BookingCommand, CancelBooking, ChangeStay, Command, RecordLeg, ReserveStay
from topics.messages.events import (
    BookingCancelled,
    BookingReserved,
    Event,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    RefundRequested,
)
from topics.messages.sale import (
    AppliedPolicy,
    CancellationPolicy,
    CancellationStep,
    Kept,
    LineKind,
    Moved,
    Party,
    PriceLine,
)
from topics.messages.values import (
    MAX_NIGHTS,
    BookingStatus,
    CancelReason,
    ChangeEnd,
    LegState,
    RefundReason,
    Refusal,
    Rejection,
)
from workers.decisions.state import Leg

CONFIRMED = BookingStatus.CONFIRMED
CONFIRMED_THERE = but(LEG_SOLD, room_id=ROOM, booking_id=ADAS, amount_minor=200_00)
EIGHTH = datetime(2026, 3, 8, 12, tzinfo=UTC)
CHANGE_BACK = but(
    SENT_BACK,
    session_id="cs_2",
    payment_intent="pi_2",
    amount_minor=100_00,
    reason=RefundReason.CHANGE_ENDED,
)
ANOTHER_MOVE = but(MOVE_DOWN, change_id=ANOTHER_CHANGE)
ANOTHER_OPENED = but(MOVE_OPENED, change_id=ANOTHER_LEG, to_room_id=SINGLES)


def no_change(scenario: Scenario) -> None:
    """Check that the booking has its own nights, and neither a leg nor a change."""
    scenario.with_booking(
        ADAS, status=CONFIRMED, pending_change=None, hold_expires_at=None, legs=(), rooms_count=1, amount_minor=200_00
    ).with_night(ROOM, march(10), booked_count=1)


# Asked for.


def test_another_room_type_is_asked_for_while_the_booking_stays_what_it_is() -> None:
    scenario = given(*ALL_OPEN).when(MOVE).then(MOVE_OPENED)
    scenario.with_booking(
        ADAS, status=CONFIRMED, rooms_count=1, amount_minor=200_00, hold_expires_at=CHANGE_DEADLINE, legs=()
    )
    scenario.with_night(ROOM, march(10), booked_count=1, reserved_count=0)
    change = scenario.bookings[ADAS].pending_change
    assert change is not None
    assert (change.id, change.to_room_id, change.is_open, change.extra_minor, change.held) == (LEG, SUITES, True, 0, ())


def test_other_dates_rooms_people_and_another_plan_may_come_with_it() -> None:
    wanted = {"check_in": march(11), "check_out": march(14), "rooms_count": 2, "party": Party(adults=2)}
    command: ChangeStay = but(MOVE, **wanted, plan_id="saver", account_share_percent=50)
    opened = but(MOVE_OPENED, **wanted, plan_id="saver", account_share_percent=50)
    given(*ALL_OPEN).when(command).then(opened)


def test_the_plan_and_the_people_of_the_booking_go_along_with_the_costs_of_a_cancellation() -> None:
    opened = but(
        MOVE_OPENED,
        plan_id="standard",
        party=SALE.party,
        hold_expires_at=EIGHTH + timedelta(minutes=15),
        moved=Moved(amount_minor=200_00, kept_now_minor=50_00, floor_minor=50_00),
    )
    given(*SOLD).when(MOVE, at=EIGHTH).then(opened)


def test_a_move_by_the_hotel_costs_nothing_and_no_share_of_the_account_limits_it() -> None:
    opened = but(
        MOVE_OPENED,
        plan_id="standard",
        party=SALE.party,
        hold_expires_at=EIGHTH + timedelta(minutes=15),
        moved=Moved(amount_minor=200_00),
    )
    given(*SOLD).when(but(MOVE, user_id=None, account_share_percent=50), at=EIGHTH).then(opened)


def test_the_own_room_is_no_other_room_type() -> None:
    given(*ALL_OPEN).when(but(MOVE, to_room_id=ROOM)).then(repeated(MOVE, CONFIRMED))
    scenario = given(*ALL_OPEN).when(but(SHORTER, to_room_id=ROOM))
    scenario.with_booking(ADAS, legs=(), check_out=march(11), rooms_count=1)


@pytest.mark.parametrize("so_far", [OPEN_MOVE, HELD_MOVE], ids=["open", "held"])
def test_the_same_move_twice_is_one(so_far: tuple[Event, ...]) -> None:
    given(*so_far).when(MOVE).then(repeated(MOVE, CONFIRMED))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"check_out": march(10)}, Rejection.NO_NIGHTS),
        ({"rooms_count": 0}, Rejection.NO_ROOMS),
        ({"check_out": march(10) + timedelta(days=MAX_NIGHTS + 1)}, Rejection.NIGHT_NOT_OPEN),
        ({"party": Party(adults=1)}, Rejection.PARTY_TOO_LARGE),
    ],
)
def test_a_move_that_no_room_could_hold_is_rejected_here_and_leaves_a_change_that_is_held(
    wrong: dict[str, object], reason: Rejection
) -> None:
    command: ChangeStay = but(MOVE, change_id=ANOTHER_CHANGE, **wrong)
    no_change(given(*ALL_OPEN).when(command).then(not_moved(command, reason)))
    scenario = given(*HELD_MOVE).when(command).then(not_moved(command, reason))
    change = scenario.bookings[ADAS].pending_change
    assert change is not None
    assert change.id == LEG


def test_a_stay_that_is_paid_at_the_hotel_does_not_move_and_neither_does_one_sold_at_the_desk() -> None:
    paid_there = (*ALL_OPEN[:2], OPENED, AT_HOTEL, CONFIRMED_THERE)
    given(*paid_there).when(MOVE).then(not_moved(MOVE, Rejection.NOT_PREPAID))
    at_desk = (*ALL_OPEN[:2], OPENED, but(AT_HOTEL, user_id=None), CONFIRMED_THERE)
    by_hotel = but(MOVE, user_id=None)
    given(*at_desk).when(by_hotel).then(not_moved(by_hotel, Rejection.NOT_PREPAID))


def test_a_move_after_check_in_or_by_another_guest_is_refused() -> None:
    given(*ALL_OPEN).when(MOVE, at=CHECK_IN).then(refused(MOVE, Refusal.CHECK_IN_PASSED, CONFIRMED))
    by_ben = but(MOVE, user_id=BEN)
    given(*ALL_OPEN).when(by_ben).then(refused(by_ben, Refusal.NOT_YOUR_BOOKING, CONFIRMED))


# The other room.


def test_the_other_room_holds_the_stay_at_todays_price_as_a_leg_without_a_deadline() -> None:
    scenario = given(*OPEN_MOVE).when(RESERVE_LEG).then(LEG_RESERVED)
    scenario.with_night(SUITES, march(10), reserved_count=1).with_night(ROOM, march(10), booked_count=1)
    scenario.when(RESERVE_LEG).then(repeated(RESERVE_LEG, BookingStatus.RESERVED))


def test_the_other_room_refuses_what_it_cannot_sell() -> None:
    for wrong, reason in (
        ({"rooms_count": 3}, Rejection.SOLD_OUT),
        ({"check_out": march(16)}, Rejection.NIGHT_NOT_OPEN),
        ({"hotel_id": HOTEL + 1}, Rejection.ROOM_OF_ANOTHER_HOTEL),
        ({"plan_id": "saver"}, Rejection.NO_SUCH_PLAN),
    ):
        command: ReserveStay = but(RESERVE_LEG, **wrong)
        given(*OPEN_MOVE).when(command).then(rejected(command, reason))


def test_a_plan_that_is_paid_at_the_hotel_holds_no_stay_that_moves() -> None:
    command: ReserveStay = but(RESERVE_LEG, plan_id="on_arrival")
    scenario = given(*OPEN_MOVE, but(TERMS_SET, room_id=SUITES)).when(command)
    scenario.then(rejected(command, Rejection.NOT_PREPAID))


COSTLY = Moved(amount_minor=200_00, kept_now_minor=50_00, floor_minor=50_00)
ON_TERMS = (*OPEN_MOVE, but(TERMS_SET, room_id=SINGLES), but(TERMS_SET, room_id=SUITES))


def leg_on_terms(moved: Moved, room_id: int = SINGLES, plan_id: str = "standard") -> BookingReserved:
    """Return the answer of a room on sale terms to a stay that moves to it."""
    command = but(RESERVE_LEG, room_id=room_id, party=SALE.party, plan_id=plan_id, moved=moved)
    (reserved,) = given(*ON_TERMS).when(command).answer
    assert isinstance(reserved, BookingReserved)
    assert reserved.sale is not None
    return reserved


def test_the_part_that_a_guest_gives_up_costs_its_share_of_a_cancellation_and_no_later_one_costs_less() -> None:
    leg = leg_on_terms(COSTLY)
    assert (leg.amount_minor, leg.night_amounts_minor) == (170_00, (85_00, 85_00))
    sale = leg.sale
    assert sale is not None
    assert sale.lines[-1] == PriceLine(kind=LineKind.CHANGE, id="change", name="Costs of changes", amount_minor=10_00)
    assert sale.change_costs_minor == 10_00
    assert sale.steps == (
        CancellationStep(until=wall(7), kept_minor=50_00),
        CancellationStep(until=wall(9), kept_minor=60_00),
        CancellationStep(kept_minor=90_00),
    )


def test_a_dearer_room_costs_its_price_and_keeps_the_floor() -> None:
    sale = leg_on_terms(COSTLY, SUITES).sale
    assert sale is not None
    assert [line.kind for line in sale.lines].count(LineKind.CHANGE) == 0
    assert [step.kept_minor for step in sale.steps] == [50_00, 150_00]


def test_the_floor_is_no_more_than_the_leg_costs() -> None:
    sale = leg_on_terms(Moved(amount_minor=160_00, floor_minor=500_00)).sale
    assert sale is not None
    assert [step.kept_minor for step in sale.steps] == [160_00]


@pytest.mark.parametrize(
    ("room_id", "kept_now_minor", "kept_minor"),
    [
        # The suite costs 300.00, and nothing is given up; the single room costs 160.00, and its share of the 40.00.
        (SUITES, 180_00, 180_00),
        (SINGLES, 50_00, 50_00),
        (SINGLES, 200_00, 200_00),
        (SUITES, 0, 0),
    ],
)
def test_no_end_of_a_stay_that_moved_costs_less_than_a_cancellation_at_the_move(
    room_id: int, kept_now_minor: int, kept_minor: int
) -> None:
    free = replace(STANDARD, policy=CancellationPolicy(id="free", no_show=Kept(percent=0), early_departure_percent=0))
    moved = Moved(amount_minor=200_00, kept_now_minor=kept_now_minor, floor_minor=kept_now_minor)
    terms = but(TERMS_SET, room_id=room_id, terms=replace(TERMS, plans=(free,)))
    leg: dict[str, Any] = {"room_id": room_id, "booking_id": LEG}
    reserve: ReserveStay = but(RESERVE_LEG, room_id=room_id, plan_id="standard", moved=moved)
    ends: tuple[tuple[Command, ...], ...] = (
        (CancelBooking(**leg, user_id=ADA),),
        (but(NO_SHOW, **leg),),
        (but(ARRIVE, **leg), but(LEAVE, **leg)),
    )
    for commands in ends:
        scenario = given(*OPEN_MOVE, terms).when(reserve).when(but(CONFIRM_LEG, room_id=room_id))
        for command in commands:
            scenario.when(command, at=NOON if isinstance(command, CancelBooking) else CHECK_IN)
        ended = scenario.answer[0]
        assert isinstance(ended, BookingCancelled | GuestsDidNotArrive | GuestsCheckedOut)
        assert ended.policy is not None
        assert ended.policy.kept_minor == kept_minor, ended


def test_costs_of_earlier_changes_go_along() -> None:
    leg = leg_on_terms(Moved(amount_minor=215_00, costs_minor=15_00, kept_now_minor=15_00, floor_minor=15_00))
    assert leg.sale is not None
    assert (leg.amount_minor, leg.sale.change_costs_minor) == (175_00, 15_00)
    assert leg.sale.steps[0].kept_minor == 15_00


def test_a_room_that_has_no_sale_terms_sells_the_plan_by_the_standard_ones() -> None:
    named = but(RESERVE_LEG, room_id=SINGLES, plan_id="standard", moved=COSTLY)
    (reserved,) = given(*OPEN_MOVE).when(named).answer
    assert isinstance(reserved, BookingReserved)
    assert reserved.sale is not None
    assert (reserved.amount_minor, reserved.sale.change_costs_minor) == (170_00, 10_00)
    assert reserved.sale.steps[0].kept_minor == 50_00


def test_a_stay_without_a_plan_has_no_place_for_costs() -> None:
    costly = but(RESERVE_LEG, room_id=SINGLES, moved=COSTLY)
    given(*OPEN_MOVE).when(costly).then(rejected(costly, Rejection.NO_SUCH_PLAN))


# The answer of the other room.


def test_a_dearer_room_is_held_until_the_difference_is_paid() -> None:
    scenario = given(*OPEN_MOVE, LEG_RESERVED).when(SUITE_IS_HELD, at=CHANGE_DEADLINE - MILLISECOND)
    scenario.then(MOVE_HELD, ASKED_MORE).with_booking(ADAS, hold_expires_at=CHANGE_DEADLINE, amount_minor=200_00)
    scenario.with_night(ROOM, march(10), booked_count=1, reserved_count=0)
    change = scenario.bookings[ADAS].pending_change
    assert change is not None
    assert (change.is_open, change.attempt, change.extra_minor, change.to_room_id) == (False, 2, 100_00, SUITES)


def test_a_cheaper_room_is_the_bookings_at_once_and_the_difference_goes_back() -> None:
    scenario = given(*ALL_OPEN, DOWN_OPENED).when(SINGLE_IS_HELD).then(HAS_MOVED_DOWN, DOWN_BACK)
    leg = Leg(
        booking_id=LEG,
        room_id=SINGLES,
        rooms_count=1,
        state=LegState.HELD,
        amount_minor=160_00,
        night_amounts_minor=(80_00, 80_00),
        currency="EUR",
    )
    scenario.with_booking(
        ADAS, status=CONFIRMED, legs=(leg,), rooms_count=0, amount_minor=160_00, sale=None, hold_expires_at=None
    ).with_night(ROOM, march(10), booked_count=0)
    booking = scenario.bookings[ADAS]
    assert (booking.nights(), booking.pending_change) == ((), None)
    assert [each.change_id for each in booking.earlier_stays] == [LEG]


def test_a_room_of_the_same_price_is_the_bookings_at_once() -> None:
    same = but(SUITE_IS_HELD, amount_minor=200_00, night_amounts_minor=(100_00, 100_00))
    moved = but(HAS_MOVED_DOWN, amount_minor=200_00, night_amounts_minor=(100_00, 100_00), to_room_id=SUITES)
    given(*OPEN_MOVE).when(same).then(moved)


def test_a_free_stay_moves_to_another_free_room_without_money() -> None:
    for_nothing = but(SINGLE_IS_HELD, amount_minor=0, night_amounts_minor=(0, 0))
    scenario = given(*ALL_OPEN, DOWN_OPENED).when(for_nothing)
    scenario.then(but(HAS_MOVED_DOWN, amount_minor=0, night_amounts_minor=(0, 0)), but(DOWN_BACK, amount_minor=200_00))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (SUITE_IS_REFUSED, Rejection.SOLD_OUT),
        (but(SUITE_IS_HELD, currency="USD"), Rejection.NOT_CHARGEABLE),
        (but(SUITE_IS_HELD, currency="USD", amount_minor=200_00), Rejection.NOT_CHARGEABLE),
        (but(SUITE_IS_HELD, amount_minor=200_10), Rejection.NOT_CHARGEABLE),
    ],
    ids=["refused there", "another currency", "another currency, the same amount", "too small a difference"],
)
def test_a_room_that_the_booking_cannot_have_leaves_it_as_it_was(answer: RecordLeg, reason: Rejection) -> None:
    scenario = given(*OPEN_MOVE).when(answer)
    scenario.then(move_ended(ChangeEnd.NOT_POSSIBLE), not_moved(MOVE, reason))
    no_change(scenario)
    assert scenario.bookings[ADAS].ended_change_ids == (LEG,)
    scenario.when(MOVE).then(repeated(MOVE, CONFIRMED)).when(answer).then(repeated(answer, CONFIRMED))


@pytest.mark.parametrize("so_far", [HELD_MOVE, PAYABLE_MOVE, MOVED], ids=["held", "payable", "moved"])
@pytest.mark.parametrize("answer", [SUITE_IS_HELD, SUITE_IS_REFUSED], ids=["held", "refused"])
def test_the_answer_counts_once(so_far: tuple[Event, ...], answer: RecordLeg) -> None:
    given(*so_far).when(answer).then(repeated(answer, CONFIRMED))


def test_the_answer_to_a_change_that_ended_changes_nothing() -> None:
    for reason in (ChangeEnd.WITHDRAWN, ChangeEnd.REPLACED):
        scenario = given(*OPEN_MOVE, move_ended(reason))
        if reason is ChangeEnd.REPLACED:
            scenario.happen(ANOTHER_OPENED)
        scenario.when(SUITE_IS_HELD).then(repeated(SUITE_IS_HELD, CONFIRMED))
    late = given(*OPEN_MOVE).when(SUITE_IS_HELD, at=CHANGE_DEADLINE)
    late.then(move_ended(ChangeEnd.EXPIRED), repeated(SUITE_IS_HELD, CONFIRMED))
    no_change(late)


def test_the_answer_about_a_leg_that_nobody_asked_for_is_refused() -> None:
    other = but(SUITE_IS_HELD, leg_id=ANOTHER_LEG)
    given(*OPEN_MOVE).when(other).then(refused(other, Refusal.NO_SUCH_LEG, CONFIRMED))


def test_a_stay_whose_first_night_is_past_does_not_move_any_more() -> None:
    opened = but(MOVE_OPENED, hold_expires_at=SECOND_DAY + timedelta(minutes=10))
    just_before = given(*ALL_OPEN, opened).when(SUITE_IS_HELD, at=SECOND_DAY - MILLISECOND)
    just_before.then(but(MOVE_HELD, hold_expires_at=opened.hold_expires_at), ASKED_MORE)
    for answer in (SUITE_IS_HELD, SINGLE_IS_HELD):
        scenario = given(*ALL_OPEN, opened).when(answer, at=SECOND_DAY)
        scenario.then(move_ended(ChangeEnd.STAY_BEGAN))
        no_change(scenario)


# Paid, or not.


def test_the_payment_of_the_difference_moves_the_stay() -> None:
    scenario = given(*PAYABLE_MOVE).when(PAY_MORE).then(HAS_MOVED)
    scenario.with_booking(ADAS, status=CONFIRMED, rooms_count=0, amount_minor=300_00, hold_expires_at=None)
    scenario.with_night(ROOM, march(10), booked_count=0).with_night(SUITES, march(10), reserved_count=1)
    booking = scenario.bookings[ADAS]
    assert [(leg.booking_id, leg.room_id, leg.state) for leg in booking.legs] == [(LEG, SUITES, LegState.HELD)]
    assert sum(paid.kept_minor for paid in booking.payments) == 300_00
    scenario.when(PAY_MORE).then(repeated(PAY_MORE, CONFIRMED))


def test_the_session_of_the_difference_is_recorded_once_the_move_has_a_price() -> None:
    given(*HELD_MOVE).when(RECORD_SECOND).then(SECOND_SESSION)
    given(*OPEN_MOVE).when(RECORD_SECOND).then(refused(RECORD_SECOND, Refusal.WRONG_STATUS, CONFIRMED))
    given(*OPEN_MOVE).when(DECLINE).then(refused(DECLINE, Refusal.WRONG_STATUS, CONFIRMED))
    given(*OPEN_MOVE).when(CLOSE).then(repeated(CLOSE, CONFIRMED))


def test_no_payment_is_asked_for_while_the_move_has_no_price() -> None:
    twice = but(PAY, payment_intent="pi_9")
    back = but(SENT_BACK, payment_intent="pi_9", reason=RefundReason.SECOND_PAYMENT)
    scenario = given(*OPEN_MOVE).when(REQUEST_PAYMENT).then(repeated(REQUEST_PAYMENT, CONFIRMED))
    scenario.when(twice).then(back).when(REQUEST_PAYMENT).then(repeated(REQUEST_PAYMENT, CONFIRMED))


def test_a_payment_that_names_the_open_move_goes_back() -> None:
    astray = but(PAY_MORE, attempt=1)
    scenario = given(*OPEN_MOVE).when(astray).then(but(CHANGE_BACK, session_id=astray.session_id))
    scenario.when(SUITE_IS_HELD).then(MOVE_HELD, ASKED_MORE)


def test_another_amount_moves_nothing_and_goes_back() -> None:
    less = but(PAY_MORE, amount_minor=99_99)
    back = but(CHANGE_BACK, amount_minor=99_99, reason=RefundReason.WRONG_AMOUNT)
    scenario = given(*PAYABLE_MOVE).when(less).then(back)
    scenario.with_booking(ADAS, legs=(), amount_minor=200_00).when(REQUEST_PAYMENT)
    scenario.then(but(ASKED_MORE, attempt=3))


def test_a_payment_after_the_deadline_goes_back_and_the_leg_is_released() -> None:
    scenario = given(*PAYABLE_MOVE).when(PAY_MORE, at=CHANGE_DEADLINE)
    scenario.then(move_ended(ChangeEnd.EXPIRED), CHANGE_BACK)
    no_change(scenario)
    scenario.when(RELEASE_LEG).then(LEG_RELEASED).with_night(SUITES, march(10), reserved_count=0)


def test_a_payment_after_the_first_night_moves_nothing() -> None:
    until = SECOND_DAY + timedelta(minutes=10)
    held = (*OPEN_MOVE, but(MOVE_HELD, hold_expires_at=until), ASKED_MORE, SECOND_SESSION)
    given(*held).when(PAY_MORE, at=SECOND_DAY).then(move_ended(ChangeEnd.STAY_BEGAN), CHANGE_BACK)


# The end of a move that does not take place.

FULL_BY_HAND = but(HAND_REFUND, cancel_if_full=True)


@pytest.mark.parametrize("so_far", [OPEN_MOVE, PAYABLE_MOVE], ids=["open", "held"])
@pytest.mark.parametrize(
    ("command", "at", "reason", "status"),
    [
        (EXPIRE, CHANGE_DEADLINE, ChangeEnd.EXPIRED, CONFIRMED),
        (WITHDRAW, None, ChangeEnd.WITHDRAWN, CONFIRMED),
        (CANCEL, None, ChangeEnd.BOOKING_CANCELLED, BookingStatus.CANCELLED),
        (but(CANCEL, user_id=None), None, ChangeEnd.BOOKING_CANCELLED, BookingStatus.CANCELLED),
        (FULL_BY_HAND, None, ChangeEnd.BOOKING_CANCELLED, BookingStatus.CANCELLED),
        (but(SHORTER, change_id=ANOTHER_CHANGE), None, ChangeEnd.REPLACED, CONFIRMED),
        (ANOTHER_MOVE, None, ChangeEnd.REPLACED, CONFIRMED),
    ],
    ids=["deadline", "withdrawn", "cancelled", "by hotel", "refunded by hand", "another change", "another move"],
)
def test_a_move_that_does_not_take_place_ends_once(
    so_far: tuple[Event, ...], command: Command, at: datetime | None, reason: ChangeEnd, status: BookingStatus
) -> None:
    scenario = given(*so_far).when(command, at=at)
    assert [event for event in scenario.answer if event.message_type == "booking.change_ended.v1"] == [
        move_ended(reason)
    ]
    scenario.with_booking(ADAS, status=status)
    assert LEG in scenario.bookings[ADAS].ended_change_ids
    assert not scenario.bookings[ADAS].legs


@pytest.mark.parametrize("so_far", [OPEN_MOVE, PAYABLE_MOVE], ids=["open", "held"])
def test_a_move_ends_when_the_guests_arrive_or_do_not(so_far: tuple[Event, ...]) -> None:
    until = SECOND_DAY + timedelta(days=1)
    later = tuple(but(it, hold_expires_at=until) if it in (MOVE_OPENED, MOVE_HELD) else it for it in so_far)
    for command, at in ((ARRIVE, CHECK_IN), (NO_SHOW, SECOND_DAY)):
        assert given(*later).when(command, at=at).answer[0] == move_ended(ChangeEnd.STAY_BEGAN)


def test_the_end_of_the_session_of_a_held_move_ends_it() -> None:
    closed = but(CLOSE, session_id="cs_2")
    no_change(given(*PAYABLE_MOVE).when(closed).then(move_ended(ChangeEnd.PAYMENT_CLOSED)))


def test_another_move_takes_the_place_of_one_and_has_a_leg_of_its_own() -> None:
    for so_far in (OPEN_MOVE, PAYABLE_MOVE):
        scenario = given(*so_far).when(ANOTHER_MOVE).then(move_ended(ChangeEnd.REPLACED), ANOTHER_OPENED)
        scenario.when(PAY_MORE).then(CHANGE_BACK)
        scenario.when(but(SINGLE_IS_HELD, leg_id=ANOTHER_LEG))
        scenario.then(but(HAS_MOVED_DOWN, change_id=ANOTHER_LEG), DOWN_BACK)


def test_a_move_takes_the_place_of_another_change() -> None:
    scenario = given(*ALL_OPEN).when(but(LONGER, change_id=ANOTHER_CHANGE)).when(MOVE_DOWN)
    ended, opened = scenario.answer
    assert (ended.message_type, opened) == ("booking.change_ended.v1", DOWN_OPENED)
    scenario.with_night(ROOM, march(12), reserved_count=0)


def test_the_booking_may_be_named_anew_while_the_move_is_open() -> None:
    scenario = given(*OPEN_MOVE).when(CHANGE_GUESTS)
    scenario.with_booking(ADAS, guest_ids=(3,)).when(SUITE_IS_HELD).then(MOVE_HELD, ASKED_MORE)


# After the move: a trip of one leg.


def test_the_leg_of_a_stay_that_moved_is_sold_and_has_its_guests() -> None:
    scenario = given(*MOVED).when(CONFIRM_LEG).then(LEG_GUESTS, LEG_SOLD)
    scenario.with_night(SUITES, march(10), reserved_count=0, booked_count=1)
    scenario.when(RELEASE_LEG).then(repeated(RELEASE_LEG, CONFIRMED))


@pytest.mark.parametrize("command", [ARRIVE, LEAVE, NO_SHOW, CHANGE_GUESTS, but(LONGER, change_id=ANOTHER_CHANGE)])
def test_a_stay_that_moved_is_that_of_its_leg(command: BookingCommand) -> None:
    given(*MOVED).when(command).then(refused(command, Refusal.HAS_LEGS, CONFIRMED))


@pytest.mark.parametrize("so_far", [MOVED, MOVED_DOWN], ids=["dearer", "cheaper"])
def test_the_move_that_took_place_is_known_and_not_withdrawn(so_far: tuple[Event, ...]) -> None:
    scenario = given(*so_far).when(MOVE).then(repeated(MOVE, CONFIRMED))
    scenario.when(WITHDRAW).then(refused(WITHDRAW, Refusal.NO_SUCH_CHANGE, CONFIRMED))
    scenario.when(EXPIRE, at=LATER).then(repeated(EXPIRE, CONFIRMED))


def test_the_leg_does_not_move_again() -> None:
    again = but(MOVE, room_id=SUITES, booking_id=LEG, change_id=ANOTHER_CHANGE, to_room_id=SINGLES)
    given(*MOVED, LEG_SOLD).when(again).then(refused(again, Refusal.PART_OF_TRIP, CONFIRMED))


def test_money_that_names_a_stay_that_moved_goes_back() -> None:
    twice = but(PAY_MORE, payment_intent="pi_9")
    given(*MOVED).when(twice).then(
        but(CHANGE_BACK, payment_intent="pi_9", reason=RefundReason.SECOND_PAYMENT)
    ).with_booking(ADAS, status=CONFIRMED, amount_minor=300_00)
    given(*MOVED).when(REQUEST_PAYMENT).then(repeated(REQUEST_PAYMENT, CONFIRMED))
    given(*MOVED).when(RECORD_SESSION).then(refused(RECORD_SESSION, Refusal.WRONG_STATUS, CONFIRMED))
    given(*MOVED).when(ADD_GUESTS).then(repeated(ADD_GUESTS, CONFIRMED))


def test_a_stay_that_moved_is_cancelled_by_its_leg_and_its_payments_go_back_but_for_its_costs() -> None:
    scenario = given(*MOVED).when(CANCEL)
    (asked,) = scenario.answer
    assert asked.message_type == "booking.trip_cancel_requested.v1"
    scenario.when(LEG_ENDS).then(
        LEG_ENDED,
        but(CHANGE_BACK, reason=RefundReason.BOOKING_CANCELLED),
        but(SENT_BACK, amount_minor=150_00),
        but(CANCELLED, policy=AppliedPolicy(kept_minor=50_00)),
    )
    kept = [paid.kept_minor + paid.retained_minor for paid in scenario.bookings[ADAS].payments]
    assert sum(kept) == 50_00
    scenario.with_night(ROOM, march(10), booked_count=0)


def test_a_refund_of_the_difference_that_fails_is_due_again_for_the_same_reason() -> None:
    scenario = given(*MOVED_DOWN, but(REFUNDED, amount_minor=40_00)).when(but(FAIL_REFUND, amount_minor=40_00))
    scenario.then(but(REFUND_FAILED, amount_minor=40_00))
    (paid,) = scenario.bookings[ADAS].payments
    assert (paid.due_minor, paid.kept_minor) == (40_00, 160_00)
    by_hand = given(*MOVED_DOWN).when(but(HAND_REFUND, amount_minor=40_00))
    by_hand.when(but(FAIL_REFUND, refund_id="re_hand", amount_minor=40_00, by_hand=True))
    assert by_hand.answer[1:] == (DOWN_BACK,)
    given(*MOVED_DOWN).when(but(RECORD_REFUND, amount_minor=40_00)).then(but(REFUNDED, amount_minor=40_00))


def test_a_payment_that_goes_back_by_hand_as_a_whole_cancels_a_stay_that_moved() -> None:
    scenario = given(*MOVED_DOWN).when(but(FULL_BY_HAND, amount_minor=200_00))
    assert scenario.answer[-1] == but(CANCELLED, reason=CancelReason.REFUNDED_BY_HAND)
    scenario.with_night(ROOM, march(10), booked_count=0)


# The price, from the booking's policy to the leg's and back.


def test_a_cheaper_move_on_sale_terms_gives_back_what_the_policy_does_not_keep() -> None:
    rooms = (*SOLD, but(OPENED, room_id=SINGLES, price_minor=80_00), but(TERMS_SET, room_id=SINGLES))
    scenario = given(*rooms).when(MOVE_DOWN, at=EIGHTH)
    leg = leg_on_terms(COSTLY)
    answer = but(SINGLE_IS_HELD, amount_minor=leg.amount_minor, night_amounts_minor=leg.night_amounts_minor)
    changed, back = scenario.when(answer).answer
    assert changed == but(
        HAS_MOVED_DOWN,
        amount_minor=170_00,
        night_amounts_minor=(85_00, 85_00),
        before=replace(HAS_MOVED_DOWN.before, sale=SALE),
    )
    assert back == but(DOWN_BACK, amount_minor=30_00)


def test_a_leg_is_cancelled_at_no_less_than_the_stay_before_it() -> None:
    leg = leg_on_terms(COSTLY)
    sold = but(LEG_SOLD, room_id=SINGLES, amount_minor=170_00)
    command = but(CANCEL, room_id=SINGLES, booking_id=LEG)
    scenario = given(*ALL_OPEN, leg, but(LEG_GUESTS, room_id=SINGLES), sold).when(command)
    until = datetime(2026, 3, 7, 23, tzinfo=UTC)
    scenario.then(but(CANCELLED, room_id=SINGLES, booking_id=LEG, policy=policy(50_00, until)))


def test_the_guests_of_a_booking_without_sale_terms_may_move_with_a_party_that_has_them_all() -> None:
    command: ChangeStay = but(MOVE, party=Party(adults=1, child_ages=(3,)))
    given(*ALL_OPEN).when(command).then(but(MOVE_OPENED, party=command.party))


def test_the_end_of_the_leg_leaves_the_policys_part_also_after_a_refund_by_hand() -> None:
    """Of 300.00, 50.00 went back by hand. The policy keeps 50.00 of the leg, so that 200.00 are left to go back."""
    scenario = given(*MOVED).when(but(HAND_REFUND, amount_minor=50_00)).when(LEG_ENDS)

    back = [each.amount_minor for each in scenario.answer if isinstance(each, RefundRequested)]
    assert (back, sum(paid.kept_minor for paid in scenario.bookings[ADAS].payments)) == ([100_00, 100_00], 50_00)


def test_guests_who_have_arrived_stay_when_all_of_the_money_goes_back_by_hand() -> None:
    arrived = but(ARRIVED, room_id=SUITES, booking_id=LEG)
    cancel = but(CANCEL, room_id=SUITES, booking_id=LEG, user_id=None, reason=CancelReason.REFUNDED_BY_HAND)

    given(*MOVED, LEG_GUESTS, LEG_SOLD, arrived).when(cancel).then(
        refused(cancel, Refusal.WRONG_STATUS, BookingStatus.CHECKED_IN)
    )
