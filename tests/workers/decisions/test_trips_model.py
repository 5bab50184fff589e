"""Trips in three rooms, each in a partition of its own, in any order of deciding, carrying and waiting: never a half.

The pure functions of coordination carry the events. A coordination that dies repeats its batch, so that commands arrive
twice; queues wait as long as they like. Guests compete for the nights, pay in time, late, twice and too little, and
cancel. At the end all queues are emptied, and every hold ends: a trip has sold all of its legs, or it has none.
"""

# ruff: noqa: FBT001 - The rules' names are sentences; Hypothesis passes them what it drew.

import sys
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from tests.support.scenario import NOON, Scenario
from tests.workers.decisions.games import play
from tests.workers.decisions.words import CHECK_IN, HOTEL, OPENED, TIMES, but, march
from tests.workers.decisions.words_of_codes import SET_CODE, SPRING
from tests.workers.decisions.words_of_sale import TERMS_SET
from topics.envelope import Envelope
from topics.messages.commands import (
    AddGuests,
    CancelBooking,
    CheckIn,
    CheckOut,
    ClaimCode,
    ClosePayment,
    Command,
    ConfirmPayment,
    ExpireHold,
    FailRefund,
    MarkNoShow,
    RecordRefund,
    RecordSession,
    RequestPayment,
    ReserveStay,
    ReserveTrip,
)
from topics.messages.events import BookingEvent, Event
from topics.messages.sale import LegRequest
from topics.messages.values import BookingStatus, CancelReason, LegState, nights_of
from workers.coordination import codes, trips
from workers.decisions import Booking, PaymentState
from workers.decisions.states import IllegalTransition

ROOMS = (7, 8, 9)
#: The keys of the partitions: those of the rooms, and that of a promo code of two uses.
KEYS = (*ROOMS, SPRING)
PRICES = (100_00, 80_00, 0)
GUEST = 11
MINUTE = timedelta(minutes=1)
LATE = 3
#: The statuses of a leg that its guests have, or had until its own end.
SOLD = {BookingStatus.CONFIRMED, BookingStatus.CHECKED_IN, BookingStatus.CHECKED_OUT, BookingStatus.NO_SHOW}
#: The plans of legs; the last of them is paid at the hotel, which no leg may be.
PLANS = (*(None,) * 7, "standard", "saver", "saver", "saver", "on_arrival")

numbers = st.integers(0, 11)
stays = st.sampled_from(((10, 12), (10, 11), (11, 12), (11, 13)))


class Trips(RuleBasedStateMachine):
    """Three rooms with a queue of commands and a log of events each, and how far coordination has read each log."""

    def __init__(self) -> None:
        super().__init__()
        self.scenario = Scenario()
        for room_id, price_minor in zip(ROOMS, PRICES, strict=True):
            self.scenario.happen(but(OPENED, room_id=room_id, price_minor=price_minor, total_count=4))
            self.scenario.happen(but(TERMS_SET, room_id=room_id))
        self.now = NOON
        code = replace(SET_CODE.terms, max_account_uses=None, room_ids=(), end_night=march(14))
        self.scenario.when(but(SET_CODE, terms=code))
        self.queues: dict[int, list[Command]] = {key: [] for key in KEYS}
        self.logs: dict[int, list[Event]] = {key: [] for key in KEYS}
        self.read = dict.fromkeys(KEYS, 0)
        self.asked: list[ReserveTrip] = []
        self.sent: list[Command] = []
        self.alone: list[ReserveStay] = []
        self.paid_count = 0
        #: Trips of whose money a person sent some back.
        self.by_hand: dict[UUID, RecordRefund] = {}

    # The machinery.

    def send(self, command: Command) -> None:
        """Put a command at the end of the queue of its room, or of the promo code."""
        self.queues[command.key].append(command)

    def decide(self, key: int) -> None:
        """Decide the first command of a queue."""
        self.scenario.when(self.queues[key].pop(0), at=self.now)
        self.logs[key] += self.scenario.answer

    def carry(self, key: int, count: int) -> int:
        """Send the commands that follow from the next events of a log; return how many events that were."""
        start = self.read[key]
        batch = self.logs[key][start : start + count]
        for number, event in enumerate(batch, start):
            for command in commands_after(event, f"{key}:{number}", self.scenario.bookings):
                self.send(command)
        return len(batch)

    def booking(self, number: int) -> Booking | None:
        """Return one of the trips that were decided."""
        known = self.known()
        return known[-1 - number % len(known)] if known else None

    def known(self) -> list[Booking]:
        """Return the trips that were decided."""
        ids = [trip.booking_id for trip in self.asked]
        return [self.scenario.bookings[trip_id] for trip_id in ids if trip_id in self.scenario.bookings]

    # Guests, the hotel, Stripe and the clock.

    @precondition(lambda self: len(self.asked) < 4)
    @rule(
        buys=st.integers(0, 3),
        with_code=st.booleans(),
        stay=stays,
        legs=st.lists(st.tuples(st.integers(0, 2), st.sampled_from((1, 1, 1, 2)), numbers), min_size=2, max_size=3),
    )
    def a_guest_asks_for_a_trip(
        self, buys: int, with_code: bool, stay: tuple[int, int], legs: list[tuple[int, int, int]]
    ) -> None:
        """A guest asks for a trip, and may buy it at once, so that many games have one that was sold, or pay late."""
        number = 100 * (1 + len(self.asked))
        requests = tuple(
            LegRequest(
                booking_id=UUID(int=number + index),
                room_id=ROOMS[room],
                rooms_count=rooms,
                plan_id=PLANS[plan % len(PLANS)],
            )
            for index, (room, rooms, plan) in enumerate(legs, 1)
        )
        command = ReserveTrip(
            room_id=requests[0].room_id,
            booking_id=UUID(int=number),
            user_id=GUEST,
            hotel_id=HOTEL,
            check_in=march(stay[0]),
            check_out=march(stay[1]),
            legs=requests,
            stay_times=TIMES,
        )
        self.asked.append(command)
        self.sent.append(ClaimCode(code_id=SPRING, trip=command) if with_code else command)
        self.send(self.sent[-1])
        if buys:
            self.everything_moves_on(rounds=4)
            self.the_guest_wants_to_pay(0, names=True)
            self.the_guest_pays(0, less_minor=0, minutes=15 if buys == LATE else 0)
            self.everything_moves_on(rounds=buys)

    @precondition(lambda self: self.asked)
    @rule(number=numbers)
    def the_request_for_a_trip_arrives_again(self, number: int) -> None:
        self.send(self.sent[number % len(self.sent)])

    @precondition(lambda self: len(self.alone) < 4)
    @rule(room_id=st.sampled_from(ROOMS), stay=stays, sells=st.booleans())
    def another_guest_asks_for_a_room(self, room_id: int, stay: tuple[int, int], sells: bool) -> None:
        command = ReserveStay(
            room_id=room_id,
            booking_id=UUID(int=1_000 + len(self.alone)),
            user_id=12,
            hotel_id=HOTEL,
            check_in=march(stay[0]),
            check_out=march(stay[1]),
            stay_times=TIMES,
            plan_id="on_arrival" if sells else None,
        )
        self.alone.append(command)
        self.send(command)

    @precondition(lambda self: self.alone)
    @rule(number=numbers)
    def another_guest_cancels(self, number: int) -> None:
        stay = self.alone[number % len(self.alone)]
        self.send(CancelBooking(room_id=stay.room_id, booking_id=stay.booking_id, user_id=12))

    @rule(key=st.sampled_from(KEYS), count=st.integers(1, 6))
    def some_commands_are_decided(self, key: int, count: int) -> None:
        for _ in range(min(count, len(self.queues[key]))):
            self.decide(key)

    @rule(key=st.sampled_from(KEYS), count=st.integers(1, 6), dies=st.sampled_from((False, False, True)))
    def coordination_carries(self, key: int, count: int, dies: bool) -> None:
        done = self.carry(key, count)
        if not dies:
            self.read[key] += done

    @rule(rounds=st.integers(1, 4))
    def everything_moves_on(self, rounds: int) -> None:
        for _ in range(rounds):
            self.move_on()

    def move_on(self) -> None:
        """Decide all that waits in the queues, and carry what follows from it."""
        for key in KEYS:
            while self.queues[key]:
                self.decide(key)
        for key in KEYS:
            self.read[key] += self.carry(key, len(self.logs[key]))

    @rule(minutes=st.sampled_from((1, 1, 1, 16)))
    def time_passes(self, minutes: int) -> None:
        self.now += minutes * MINUTE

    @rule()
    def the_timer_ends_holds(self) -> None:
        for booking in [*self.scenario.bookings.values()]:
            if booking.hold_expires_at is not None and booking.hold_expires_at <= self.now:
                self.send(ExpireHold(room_id=booking.room_id, booking_id=booking.id))

    @rule(number=numbers, names=st.booleans())
    def the_guest_wants_to_pay(self, number: int, names: bool) -> None:
        trip = self.booking(number)
        if trip is None:
            return
        about: dict[str, Any] = {"room_id": trip.room_id, "booking_id": trip.id}
        if names:
            self.send(AddGuests(**about, user_id=GUEST, guest_ids=(71,), guest_list_id=UUID(int=71)))
        self.send(RequestPayment(**about, user_id=GUEST))
        self.send(RecordSession(**about, attempt=1, session_id=f"cs_{trip.id.int}"))

    @rule(number=numbers, less_minor=st.sampled_from((0, 0, 0, 0, 1)), minutes=st.sampled_from((0, 0, 0, 15)))
    def the_guest_pays(self, number: int, less_minor: int, minutes: int) -> None:
        trip = self.booking(number)
        if trip is None or trip.amount_minor <= less_minor:
            return
        self.paid_count += 1
        self.now += minutes * MINUTE
        self.send(
            ConfirmPayment(
                room_id=trip.room_id,
                booking_id=trip.id,
                session_id=f"cs_{trip.id.int}",
                payment_intent=f"pi_{self.paid_count}",
                amount_minor=trip.amount_minor - less_minor,
                currency=trip.currency,
            )
        )

    @rule(number=numbers)
    def the_session_closes(self, number: int) -> None:
        trip = self.booking(number)
        if trip is not None and trip.session_id is not None:
            self.send(ClosePayment(room_id=trip.room_id, booking_id=trip.id, session_id=trip.session_id))

    @rule(number=numbers, user_id=st.sampled_from((GUEST, GUEST, None)))
    def the_trip_is_cancelled(self, number: int, user_id: int | None) -> None:
        trip = self.booking(number)
        if trip is not None:
            reason = CancelReason.BY_HOTEL if user_id is None else CancelReason.BY_GUEST
            self.send(CancelBooking(room_id=trip.room_id, booking_id=trip.id, user_id=user_id, reason=reason))

    @rule(number=numbers, index=numbers, user_id=st.sampled_from((GUEST, GUEST, None)))
    def a_leg_is_cancelled(self, number: int, index: int, user_id: int | None) -> None:
        leg = self.leg(number, index)
        if leg is not None:
            reason = CancelReason.BY_HOTEL if user_id is None else CancelReason.BY_GUEST
            self.send(CancelBooking(room_id=leg.room_id, booking_id=leg.booking_id, user_id=user_id, reason=reason))

    def leg(self, number: int, index: int) -> LegRequest | None:
        """Return a leg of a trip that was asked for."""
        if not self.asked:
            return None
        trip = self.asked[number % len(self.asked)]
        return trip.legs[index % len(trip.legs)]

    @rule(number=numbers, index=numbers, kind=st.sampled_from((CheckIn, CheckIn, CheckOut, MarkNoShow)))
    def something_happens_at_the_hotel(self, number: int, index: int, kind: Any) -> None:
        leg = self.leg(number, index)
        if leg is not None:
            self.send(kind(room_id=leg.room_id, booking_id=leg.booking_id))

    @precondition(lambda self: any(trip.status is BookingStatus.CONFIRMED for trip in self.known()))
    @rule(hours=st.sampled_from((-50, -1, 0, 12)))
    def the_stay_comes_nearer(self, hours: int) -> None:
        self.now = max(self.now, CHECK_IN + timedelta(hours=hours))

    @rule(number=numbers, fails=st.booleans())
    def a_refund_of_ours_goes_out(self, number: int, fails: bool) -> None:
        trip = self.booking(number)
        due = [] if trip is None else [paid for paid in trip.payments if paid.due_minor]
        if trip is None or not due:
            return
        about: dict[str, Any] = {
            "room_id": trip.room_id,
            "booking_id": trip.id,
            "payment_intent": due[0].payment_intent,
            "refund_id": f"re_{due[0].payment_intent}_{due[0].due_minor}_{len(due[0].failed_refund_ids)}",
            "amount_minor": due[0].due_minor,
        }
        self.send(RecordRefund(**about))
        if fails:
            self.send(FailRefund(**about, failure="lost_or_stolen_card"))

    @rule(number=numbers, share=st.sampled_from((1, 1, 2)))
    def somebody_refunds_the_trip_by_hand(self, number: int, share: int) -> None:
        trip = self.booking(number)
        kept = [] if trip is None else [paid for paid in trip.paying_payments() if paid.kept_minor]
        if trip is None or not kept or trip.id in self.by_hand or kept[0].due_minor:
            return
        refund = RecordRefund(
            room_id=trip.room_id,
            booking_id=trip.id,
            payment_intent=kept[0].payment_intent,
            refund_id="re_hand",
            amount_minor=kept[0].left_minor // share,
            by_hand=True,
            cancel_if_full=number % 2 == 0,
        )
        self.by_hand[trip.id] = refund
        self.send(refund)

    @precondition(lambda self: self.by_hand)
    @rule(number=numbers)
    def a_refund_by_hand_fails(self, number: int) -> None:
        refund = [*self.by_hand.values()][number % len(self.by_hand)]
        self.send(
            FailRefund(
                room_id=refund.room_id,
                booking_id=refund.booking_id,
                payment_intent=refund.payment_intent,
                refund_id=refund.refund_id,
                amount_minor=refund.amount_minor,
                by_hand=True,
                failure="lost_or_stolen_card",
            )
        )

    # Rules that count at every moment.

    @invariant()
    def no_night_is_sold_twice(self) -> None:
        for room_id in ROOMS:
            for night in self.scenario.nights[room_id].values():
                assert min(night.reserved_count, night.booked_count) >= 0
                assert night.taken_count <= night.limit_count

    @invariant()
    def the_sums_of_a_payment_are_all_of_it(self) -> None:
        for booking in self.scenario.bookings.values():
            assert booking.trip_id is None or booking.payments == ()
            for paid in booking.payments:
                sums = [paid.refunded_minor, paid.due_minor, paid.closed_minor, paid.retained_minor, paid.kept_minor]
                assert min(sums) >= 0
                assert sum(sums) == max(paid.amount_minor, paid.refunded_minor)

    # Rules that count in the end.

    def teardown(self) -> None:
        self.drain()
        self.check_the_end()
        self.now += timedelta(hours=1)
        self.the_timer_ends_holds()
        self.drain()
        self.check_the_end()
        for trip in self.known():
            assert trip.status not in {BookingStatus.RESERVING, *UNPAID}

    def drain(self) -> None:
        """Carry and decide until nothing is left to do."""
        for _ in range(50):
            self.move_on()
            if not any(self.queues.values()):
                return
        raise AssertionError("commands follow from commands without an end")

    def check_the_end(self) -> None:
        assert len(self.known()) == len(self.asked)
        for trip in self.known():
            legs = [self.scenario.bookings.get(leg.booking_id) for leg in trip.legs]
            if trip.status is BookingStatus.CONFIRMED or trip.policy is not None:
                self.check_sold(trip, [leg for leg in legs if leg is not None])
            elif trip.cancel_reason is CancelReason.REFUNDED_BY_HAND:
                assert all(leg is not None and leg.status not in {*UNPAID, BookingStatus.CONFIRMED} for leg in legs)
            elif trip.status in {BookingStatus.REJECTED, BookingStatus.EXPIRED, BookingStatus.CANCELLED}:
                for leg in legs:
                    assert leg is None or leg.status is BookingStatus.REJECTED or leg.cancel_reason == "trip_ended"
                assert all(paid.state is not PaymentState.KEPT and not paid.kept_minor for paid in trip.payments)
            else:
                check_held(trip, legs)
        self.check_nights()
        self.check_uses_of_the_code()

    def check_uses_of_the_code(self) -> None:
        """Check that a trip has a use of the code exactly as long as it may be bought, and since it was."""
        uses = self.scenario.code_uses
        for trip in self.known():
            lost = trip.status in {BookingStatus.REJECTED, BookingStatus.EXPIRED} or (
                trip.status is BookingStatus.CANCELLED and trip.policy is None and trip.cancel_reason in UNSOLD
            )
            use = uses.get((SPRING, trip.id))
            assert use is None or use.returned is lost
        assert {booking_id for _, booking_id in uses} <= {trip.booking_id for trip in self.asked}
        used_count = sum(not use.returned for use in uses.values())
        assert self.scenario.codes[SPRING].used_count == used_count <= 2

    def check_sold(self, trip: Booking, legs: list[Booking]) -> None:
        """Check that all legs of a trip were sold, and that it keeps what they cost and no more."""
        assert len(legs) == len(trip.legs)
        price_minor = 0
        for known, leg in zip(trip.legs, legs, strict=True):
            cancelled = leg.status is BookingStatus.CANCELLED
            assert leg.status in SOLD or (cancelled and leg.cancel_reason != "trip_ended")
            is_ended = leg.policy is not None
            expected = LegState.CANCELLED if cancelled else LegState.ENDED if is_ended else LegState.HELD
            assert known.state is expected
            kept_minor = 0 if leg.policy is None else leg.policy.kept_minor
            price_minor += kept_minor if cancelled or is_ended else leg.amount_minor
        assert (trip.status is BookingStatus.CONFIRMED) == any(leg.status in SOLD for leg in legs)
        if trip.policy is not None:
            assert trip.policy.kept_minor == price_minor
        kept_minor = sum(paid.kept_minor + paid.retained_minor for paid in trip.payments)
        if trip.id in self.by_hand:
            assert kept_minor <= price_minor
        else:
            assert kept_minor == price_minor

    def check_nights(self) -> None:
        """Check that the counters of each night are the sums over the bookings."""
        for room_id in ROOMS:
            for day, night in self.scenario.nights[room_id].items():
                assert night.reserved_count == self.rooms_of(room_id, day, UNPAID)
                assert night.booked_count == self.rooms_of(room_id, day, SOLD)

    def rooms_of(self, room_id: int, day: date, statuses: set[BookingStatus]) -> int:
        """Count the rooms of the bookings that have a night; one that ended early has those before its end."""
        return sum(
            booking.rooms_count
            for booking in self.scenario.bookings.values()
            if booking.room_id == room_id and not booking.legs
            if day in nights_of(booking.check_in, booking.check_out)
            if (booking.status in statuses and (booking.freed_from is None or day < booking.freed_from))
            or (statuses is SOLD and booking.status == "CANCELLED" and _was_slept(booking, day))
        )


UNSOLD = {CancelReason.BY_GUEST, CancelReason.BY_HOTEL, CancelReason.PAYMENT_CLOSED}
UNPAID = {BookingStatus.RESERVED, BookingStatus.GUESTS_ADDED, BookingStatus.PAYMENTS_PENDING}


def _was_slept(booking: Booking, day: date) -> bool:
    """Return whether a night was past when the booking was cancelled."""
    return booking.freed_from is not None and day < booking.freed_from


def check_held(trip: Booking, legs: Sequence[Booking | None]) -> None:
    """Check that a trip that can be paid has all of its legs, at their prices."""
    assert trip.status in UNPAID
    held = [leg for leg in legs if leg is not None and leg.status is BookingStatus.RESERVED]
    assert len(held) == len(trip.legs)
    assert sum(leg.amount_minor for leg in held) == trip.amount_minor
    assert not any(paid.kept_minor for paid in trip.payments)


def commands_after(event: Event, id: str, bookings: dict[UUID, Booking]) -> Sequence[Command]:
    """Return what coordination sends after an event; it reads the ledger, which may be newer than the event."""
    envelope = Envelope(id=id, type=event.message_type, source="innkeeper/test", subject="", time=NOON)
    found = bookings.get(event.booking_id) if isinstance(event, BookingEvent) else None
    return [
        command
        for rules in (codes, trips)
        for _, command in rules.commands_for(event, envelope, found if isinstance(event, rules.WITH_BOOKING) else None)
    ]


def test_a_trip_is_sold_whole_or_not_at_all() -> None:
    play(Trips, 60, steps=50)


@pytest.mark.long
def test_a_trip_is_sold_whole_or_not_at_all_in_many_games() -> None:
    play(Trips, 5_000, fixed=False, steps=50)


# The teeth: each of these breaks one rule of trips, and is found out.

CORE, CARRYING = "workers.decisions", "workers.coordination"


def _without_legs(right: Any) -> Any:
    return lambda state, booking: right(state, but(booking, legs=()))


def _of_cancelled_legs(right: Any) -> Any:
    return lambda trip, reason: right(
        but(trip, legs=tuple(leg for leg in trip.legs if leg.state is LegState.CANCELLED)), reason
    )


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        (f"{CORE}.payment", "_is_open_to_late_payment", _without_legs),
        (f"{CORE}.trips", "_end_of", _of_cancelled_legs),
        (f"{CORE}.trips", "part_refunded", lambda right: lambda booking, amount, reason: right(booking, 1, reason)),
        (f"{CARRYING}.trips", "_released", lambda right: lambda trip: ()),
        (f"{CARRYING}.trips", "_confirmed", lambda right: lambda trip: right(trip)[1:]),
        (f"{CARRYING}.trips", "_ended_leg", lambda right: lambda *_: ()),
    ],
    ids=[
        "a late payment buys a trip without its legs",
        "a trip ends with its first leg",
        "a cent of each leg goes back",
        "the legs of a trip that ended stay held",
        "the first leg of a paid trip is not sold",
        "a trip does not learn of its legs' ends",
    ],
)
def test_a_rule_of_trips_that_is_broken_is_noticed(
    module: str, name: str, wrong: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[module], name, wrong(getattr(sys.modules[module], name)))
    with pytest.raises((AssertionError, IllegalTransition, LookupError)):
        play(Trips, 200, phases=[Phase.generate], steps=50)
