"""Trips: the commands to rooms and trip that follow from each event, and whole trips from the request to the end."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from tests.support.scenario import NOON
from tests.workers.coordination.carried import (
    AFTER_DEADLINE,
    ASK,
    ASK_TO_PAY,
    CLAIM,
    CODE,
    FIRST,
    LEGS,
    NAME,
    PAY,
    SECOND,
    THIRD,
    TRIP,
    Hotel,
)
from tests.workers.decisions.words import (
    ADA,
    CANCEL,
    CANCELLED,
    CHECK_IN,
    CLOSE,
    EXPIRE,
    HAND_REFUND,
    LATER,
    LIST,
    OPEN,
    PAID,
    RESERVE,
    RESERVED,
    ROOM,
    SECOND_DAY,
    TIMES,
    but,
    march,
    rejected,
)
from tests.workers.decisions.words_at_hotel import ARRIVE, LEAVE, NO_SHOW
from tests.workers.decisions.words_of_codes import DISCOUNT, SET_CODE, SPRING
from tests.workers.decisions.words_of_sale import FREE_UNTIL, PART_UNTIL, policy
from topics.envelope import Envelope
from topics.messages.commands import (
    CancelBooking,
    Command,
    ConfirmLeg,
    RecordLeg,
    RecordLegEnd,
    RecordSession,
    ReleaseLeg,
    ReserveStay,
)
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingExpired,
    CodeRejected,
    CodeReturned,
    CommandRefused,
    DocumentIssued,
    Event,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    LegEnded,
    RefundRequested,
    TripCancelRequested,
    TripOpened,
    TripRejected,
    TripReserved,
)
from topics.messages.sale import CodeTerms, Discount
from topics.messages.values import BookingStatus, CancelReason, DocumentKind, HotelReason, RefundReason, Rejection
from workers.coordination.trips import WITH_BOOKING, commands_for
from workers.decisions import Booking

HOUR = timedelta(hours=1)
CANCELLED_STATUS, CONFIRMED = BookingStatus.CANCELLED, BookingStatus.CONFIRMED
REJECTED, EXPIRED = BookingStatus.REJECTED, BookingStatus.EXPIRED
AMOUNT_OFF = replace(CODE, percent_milli=None, amount_minor=30_00, currency="EUR")
#: The same command about the trip, or about one of its legs.
CANCEL_TRIP = but(CANCEL, booking_id=TRIP)
CANCEL_LEG = {leg: but(CANCEL, room_id=room, booking_id=leg) for leg, room in LEGS.items()}
EXPIRE_TRIP = but(EXPIRE, booking_id=TRIP)
SESSION = RecordSession(room_id=ROOM, booking_id=TRIP, attempt=1, session_id="cs_1")
CLOSE_TRIP = but(CLOSE, booking_id=TRIP)


def follows(event: Event, booking: Booking | None = None) -> Sequence[tuple[str, Command]]:
    """Return the commands that follow from the event e-1:0; a booking is named where one is read."""
    assert booking is None or isinstance(event, WITH_BOOKING)
    envelope = Envelope(id="e-1:0", type=event.message_type, source="test", subject=event.subject, time=NOON)
    return commands_for(event, envelope, booking)


def numbered(*commands: Command) -> Sequence[tuple[str, Command]]:
    """Return the commands of the event e-1:0, each after its id."""
    return tuple((f"e-1:0:trip:{number}", command) for number, command in enumerate(commands))


def to_each(kind: Callable[..., Command], **fields: object) -> Sequence[tuple[str, Command]]:
    """Return a command to each leg."""
    return numbered(*(kind(room_id=room, booking_id=leg, **fields) for leg, room in LEGS.items()))


def reserve_leg(number: int, discount: Discount | None = None) -> ReserveStay:
    """Return the request for a leg."""
    leg = ASK.legs[number]
    return ReserveStay(
        room_id=leg.room_id,
        booking_id=leg.booking_id,
        user_id=ADA,
        hotel_id=ASK.hotel_id,
        check_in=ASK.check_in,
        check_out=ASK.check_out,
        stay_times=TIMES,
        discount=discount,
        trip_id=TRIP,
        trip_room_id=ROOM,
    )


def reserved() -> Hotel:
    """Return the hotel with the trip reserved."""
    return Hotel().send(ASK)


def paid() -> Hotel:
    """Return the hotel with the trip paid."""
    return reserved().pay()


# The commands of each event.


def test_an_open_trip_asks_each_room_for_its_leg() -> None:
    (opened,) = reserved().events(TripOpened)
    assert follows(opened) == numbered(*(reserve_leg(number) for number in range(3)))


def test_a_percentage_counts_for_each_leg_and_an_amount_for_the_first() -> None:
    (opened,) = reserved().events(TripOpened)
    amount = Discount(code_id=SPRING, code="SPRING", amount_minor=30_00, currency="EUR")
    for discount, others in ((DISCOUNT, DISCOUNT), (amount, None)):
        commands = [command for _, command in follows(but(opened, discount=discount))]
        assert commands == [reserve_leg(0, discount), reserve_leg(1, others), reserve_leg(2, others)]


def test_the_trip_learns_of_each_leg_that_is_held_or_refused() -> None:
    leg = but(RESERVED, room_id=ROOM + 1, booking_id=SECOND, trip_id=TRIP, trip_room_id=ROOM)
    held = RecordLeg(
        room_id=ROOM,
        booking_id=TRIP,
        leg_id=SECOND,
        amount_minor=200_00,
        currency="EUR",
        night_amounts_minor=(100_00, 100_00),
    )
    assert follows(leg) == numbered(held)
    sold_out = but(rejected(RESERVE, Rejection.SOLD_OUT), booking_id=SECOND, trip_id=TRIP, trip_room_id=ROOM)
    refused = RecordLeg(room_id=ROOM, booking_id=TRIP, leg_id=SECOND, rejection=Rejection.SOLD_OUT)
    assert follows(sold_out) == numbered(refused)


@pytest.mark.parametrize("later", [(), (CANCEL_LEG[FIRST],), (CANCEL_TRIP,)])
def test_a_paid_trip_confirms_each_leg_with_its_guests_however_new_the_ledger_is(later: Sequence[Command]) -> None:
    hotel = paid().send(*later)
    event = next(each for each in hotel.events(BookingConfirmed) if each.booking_id == TRIP)
    confirmed = to_each(ConfirmLeg, guest_ids=(1, 2), guest_list_id=LIST)
    assert follows(event, hotel.rooms.bookings[TRIP]) == confirmed


@pytest.mark.parametrize(
    ("ends", "kind"),
    [
        ((EXPIRE_TRIP,), BookingExpired),
        ((CANCEL_TRIP,), BookingCancelled),
        ((NAME, ASK_TO_PAY, SESSION, CLOSE_TRIP), BookingCancelled),
    ],
)
def test_a_trip_that_ends_unpaid_releases_each_leg(ends: Sequence[Command], kind: type[Event]) -> None:
    hotel = reserved().send(*ends[:-1]).send(ends[-1], at=AFTER_DEADLINE if kind is BookingExpired else None)
    event = hotel.events(kind)[0]
    assert follows(event, hotel.rooms.bookings[TRIP]) == to_each(ReleaseLeg)


def test_a_trip_that_one_room_refuses_releases_each_leg_and_one_that_none_was_asked_for_releases_nothing() -> None:
    hotel = Hotel(rooms=(ROOM, ROOM + 1)).send(ASK)
    (event,) = hotel.events(TripRejected)
    assert (event.leg_id, event.reason) == (THIRD, Rejection.NIGHT_NOT_OPEN)
    assert follows(event, hotel.rooms.bookings[TRIP]) == to_each(ReleaseLeg)

    whole = Hotel().send(but(ASK, check_out=ASK.check_in))
    (event,) = whole.events(TripRejected)
    assert follows(event, whole.rooms.bookings[TRIP]) == ()


def test_a_paid_trip_cancels_each_leg_for_whoever_asks() -> None:
    trip = paid().rooms.bookings[TRIP]
    by_guest = TripCancelRequested(room_id=ROOM, booking_id=TRIP, user_id=ADA, reason=CancelReason.BY_GUEST)
    assert follows(by_guest, trip) == to_each(CancelBooking, user_id=ADA)
    reasons: dict[str, Any] = {"reason": CancelReason.BY_HOTEL, "hotel_reason": HotelReason.OVERBOOKED}
    by_hotel = TripCancelRequested(room_id=ROOM, booking_id=TRIP, **reasons)
    assert follows(by_hotel, trip) == to_each(CancelBooking, **reasons)
    by_hand = but(CANCELLED, booking_id=TRIP, reason=CancelReason.REFUNDED_BY_HAND)
    assert follows(by_hand, trip) == to_each(CancelBooking, reason=CancelReason.REFUNDED_BY_HAND)


@pytest.mark.parametrize(
    ("event", "kept_minor", "reason", "cancel_reason"),
    [
        (but(CANCELLED, policy=policy(50_00)), 50_00, RefundReason.BOOKING_CANCELLED, CancelReason.BY_GUEST),
        (but(CANCELLED, reason=CancelReason.BY_HOTEL), 0, RefundReason.BOOKING_CANCELLED, CancelReason.BY_HOTEL),
        (
            GuestsCheckedOut(room_id=ROOM, booking_id=SECOND, policy=policy(150_00)),
            150_00,
            RefundReason.EARLY_DEPARTURE,
            None,
        ),
        (
            GuestsDidNotArrive(room_id=ROOM, booking_id=SECOND, freed_from=march(10), policy=policy(100_00)),
            100_00,
            RefundReason.NO_SHOW,
            None,
        ),
    ],
)
def test_the_trip_learns_what_is_kept_of_a_paid_leg(
    event: Event, kept_minor: int, reason: RefundReason, cancel_reason: CancelReason | None
) -> None:
    leg = paid().rooms.bookings[SECOND]
    ended = RecordLegEnd(
        room_id=ROOM,
        booking_id=TRIP,
        leg_id=SECOND,
        kept_minor=kept_minor,
        reason=reason,
        cancel_reason=cancel_reason,
    )
    assert follows(event, leg) == numbered(ended)


def test_a_released_leg_and_one_with_guests_to_the_end_lead_to_nothing() -> None:
    leg = paid().rooms.bookings[SECOND]
    assert follows(but(CANCELLED, reason=CancelReason.TRIP_ENDED), leg) == ()
    assert follows(GuestsCheckedOut(room_id=ROOM + 1, booking_id=SECOND), leg) == ()


@pytest.mark.parametrize("event", [RESERVED, rejected(RESERVE, Rejection.SOLD_OUT), PAID, CANCELLED])
def test_events_of_other_bookings_lead_to_nothing(event: Event) -> None:
    scenario = Hotel().send(RESERVE).rooms
    other = scenario.bookings[RESERVE.booking_id] if isinstance(event, WITH_BOOKING) else None
    assert follows(event, other) == ()


# Whole trips.


def test_a_trip_is_reserved_once_all_its_legs_are_held() -> None:
    hotel = reserved()
    assert hotel.statuses() == [BookingStatus.RESERVED] * 4
    (event,) = hotel.events(TripReserved)
    assert (event.amount_minor, event.night_amounts_minor) == (600_00, (300_00, 300_00))
    assert hotel.taken() == 6


def test_a_trip_of_which_one_leg_is_sold_out_holds_nothing() -> None:
    hotel = Hotel().send(but(OPEN, room_id=ROOM + 3), but(RESERVE, room_id=ROOM + 1, rooms_count=2)).send(ASK)
    assert hotel.statuses() == [REJECTED, CANCELLED_STATUS, REJECTED, CANCELLED_STATUS]
    assert hotel.rooms.bookings[TRIP].rejection is Rejection.SOLD_OUT
    assert hotel.taken() == 4
    assert not hotel.events(CommandRefused)


def test_a_paid_trip_has_all_its_legs_confirmed_for_its_guests() -> None:
    hotel = paid()
    assert hotel.statuses() == [CONFIRMED] * 4
    assert {hotel.rooms.bookings[leg].guest_list_id for leg in LEGS} == {LIST}
    assert hotel.taken() == 6


def test_a_late_payment_of_an_expired_trip_goes_back_and_no_leg_is_confirmed() -> None:
    hotel = reserved().send(NAME, ASK_TO_PAY).send(EXPIRE_TRIP, PAY, at=LATER)
    assert hotel.statuses() == [EXPIRED, *[CANCELLED_STATUS] * 3]
    (back,) = hotel.events(RefundRequested)
    assert (back.amount_minor, back.reason) == (600_00, RefundReason.NIGHTS_GONE)
    assert hotel.taken() == 0


def test_a_cancelled_leg_sends_its_part_back_and_the_others_stay() -> None:
    hotel = paid().send(CANCEL_LEG[SECOND], at=PART_UNTIL - HOUR)
    assert hotel.statuses() == [CONFIRMED, CONFIRMED, CANCELLED_STATUS, CONFIRMED]
    (back,) = hotel.events(RefundRequested)
    assert back.amount_minor == 150_00
    (ended,) = hotel.events(LegEnded)
    assert (ended.leg_id, ended.kept_minor) == (SECOND, 50_00)


@pytest.mark.parametrize("cancelled", [(CANCEL_TRIP,), tuple(CANCEL_LEG.values())])
def test_a_trip_is_cancelled_with_the_last_of_its_legs(cancelled: Sequence[Command]) -> None:
    hotel = paid().send(*cancelled, at=PART_UNTIL - HOUR)
    assert hotel.statuses() == [CANCELLED_STATUS] * 4
    assert [back.amount_minor for back in hotel.events(RefundRequested)] == [150_00] * 3
    kept = hotel.rooms.bookings[TRIP].policy
    assert kept is not None
    assert kept.kept_minor == 150_00
    assert hotel.taken() == 0


def test_a_payment_that_goes_back_by_hand_as_a_whole_cancels_the_legs_without_a_second_refund() -> None:
    by_hand = but(HAND_REFUND, booking_id=TRIP, amount_minor=600_00, cancel_if_full=True)
    hotel = paid().send(by_hand)
    assert hotel.statuses() == [CANCELLED_STATUS] * 4
    assert hotel.events(RefundRequested) == []
    assert hotel.taken() == 0


def test_a_leg_that_nobody_came_to_and_one_that_was_left_early_send_back_what_the_policy_does_not_keep() -> None:
    first, third = ({"room_id": LEGS[leg], "booking_id": leg} for leg in (FIRST, THIRD))
    hotel = paid().send(but(ARRIVE, **first), at=CHECK_IN).send(but(NO_SHOW, **third), at=SECOND_DAY)
    hotel.send(but(LEAVE, **first), at=SECOND_DAY + 9 * HOUR)
    backs = [(back.amount_minor, back.reason) for back in hotel.events(RefundRequested)]
    assert backs == [(100_00, RefundReason.NO_SHOW), (50_00, RefundReason.EARLY_DEPARTURE)]
    assert hotel.status() is CONFIRMED


# The use of a promo code.


@pytest.mark.parametrize("code", [CODE, AMOUNT_OFF])
@pytest.mark.parametrize(
    ("sold_out", "ends"),
    [
        ((), (EXPIRE_TRIP,)),
        ((), (EXPIRE_TRIP, PAY)),
        ((), (CANCEL_TRIP,)),
        ((), (NAME, ASK_TO_PAY, SESSION, CLOSE_TRIP)),
        ((FIRST,), ()),
        ((SECOND,), ()),
        ((THIRD,), ()),
        ((FIRST, SECOND, THIRD), ()),
    ],
)
def test_a_trip_that_ends_unpaid_gives_its_use_back_once(
    code: CodeTerms, sold_out: Sequence[UUID], ends: Sequence[Command]
) -> None:
    hotel = Hotel(code)
    for number, leg in enumerate(sold_out):
        hotel.send(but(RESERVE, room_id=LEGS[leg], booking_id=UUID(int=100 + number), rooms_count=2))
    hotel.send(CLAIM)
    for command in ends:
        hotel.send(command, at=AFTER_DEADLINE if EXPIRE_TRIP in ends else None)

    assert [event.booking_id for event in hotel.events(CodeReturned)] == [TRIP]
    assert hotel.rooms.codes[SPRING].used_count == 0


def test_a_trip_that_makes_no_sense_gives_its_use_back() -> None:
    for nonsense in (but(ASK, legs=()), but(ASK, legs=ASK.legs[:1] * 2)):
        hotel = Hotel().send(but(CLAIM, trip=nonsense))
        assert hotel.status() is REJECTED
        assert hotel.rooms.codes[SPRING].used_count == 0


def test_a_paid_trip_keeps_its_use_also_when_its_legs_are_cancelled() -> None:
    for end in ((), (CANCEL_LEG[FIRST],), (CANCEL_TRIP,), (but(CANCEL_LEG[FIRST], user_id=None),)):
        hotel = Hotel().send(CLAIM).pay(480_00).send(*end, at=FREE_UNTIL - HOUR)
        assert hotel.events(CodeReturned) == []
        assert hotel.rooms.codes[SPRING].used_count == 1


def test_a_refused_use_rejects_the_trip_and_a_claim_that_is_granted_later_is_given_back() -> None:
    hotel = Hotel(replace(CODE, room_ids=(ROOM, ROOM + 1))).send(CLAIM)
    assert [event.reason for event in hotel.events(CodeRejected)] == [Rejection.CODE_NOT_VALID]
    assert hotel.statuses() == [REJECTED, None, None, None]
    assert hotel.rooms.bookings[TRIP].rejection is Rejection.CODE_NOT_VALID

    hotel.send(but(SET_CODE, terms=replace(CODE, version=2)), CLAIM)
    assert [event.booking_id for event in hotel.events(CodeReturned)] == [TRIP]
    assert hotel.taken() == 0


def test_a_code_takes_its_percentage_off_each_leg_and_its_amount_off_the_first() -> None:
    for code, amounts in ((CODE, [160_00, 160_00, 160_00]), (AMOUNT_OFF, [170_00, 200_00, 200_00])):
        hotel = Hotel(code).send(CLAIM)
        assert [hotel.rooms.bookings[leg].amount_minor for leg in LEGS] == amounts
        assert hotel.rooms.bookings[TRIP].amount_minor == sum(amounts)


# Documents.


def test_each_leg_of_a_paid_trip_has_its_invoice_and_the_trip_none() -> None:
    assert reserved().events(DocumentIssued) == []
    issued = paid().events(DocumentIssued)
    assert [(each.booking_id, each.kind, each.number, each.amount_minor) for each in issued] == [
        (leg, DocumentKind.INVOICE, number, 200_00) for number, leg in enumerate(LEGS, start=1)
    ]


def test_the_documents_of_an_ended_leg_are_of_what_is_kept_of_it() -> None:
    hotel = paid().send(CANCEL_LEG[SECOND], at=PART_UNTIL - HOUR)
    assert [hotel.net_minor(id) for id in (TRIP, *LEGS)] == [0, 200_00, 50_00, 200_00]
    hotel.send(but(CANCEL_TRIP, user_id=None, reason=CancelReason.BY_HOTEL))
    assert [hotel.net_minor(id) for id in (TRIP, *LEGS)] == [0, 0, 50_00, 0]


def test_a_trip_that_ends_unpaid_has_no_documents() -> None:
    assert reserved().send(EXPIRE_TRIP, PAY, at=AFTER_DEADLINE).events(DocumentIssued) == []
    assert reserved().send(CANCEL_TRIP).events(DocumentIssued) == []
