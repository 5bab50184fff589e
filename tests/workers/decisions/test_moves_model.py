"""Single stays that move between rooms, among the trips of `test_trips_model`: never in two rooms, never in none.

Each room is a partition of its own, and coordination dies, repeats and waits as it does there. Guests and the hotel ask
for other rooms, dates and numbers of rooms, one change after the other, and pay in time, late, too little, or not.
"""

# ruff: noqa: FBT001 - The rules' names are sentences; Hypothesis passes them what it drew.

import sys
from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import UUID

import pytest
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.workers.decisions.games import play
from tests.workers.decisions.test_trips_model import (
    CARRYING,
    CORE,
    MINUTE,
    ROOMS,
    SOLD,
    UNPAID,
    Trips,
    numbers,
    stays,
)
from tests.workers.decisions.words import HOTEL, TIMES, march
from topics.messages.commands import (
    AddGuests,
    CancelBooking,
    ChangeStay,
    ClosePayment,
    ConfirmPayment,
    FailRefund,
    RecordRefund,
    RecordSession,
    RequestPayment,
    ReserveStay,
    WithdrawChange,
)
from topics.messages.values import BookingStatus, nights_of
from workers.decisions import Booking
from workers.decisions.states import IllegalTransition

GUEST = 13
MAX_STAYS, MAX_CHANGES = 3, 8


class Moves(Trips):
    """The rooms of `Trips`, with single stays that change: to another room, or in their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stays: list[UUID] = []
        self.changes: list[ChangeStay] = []
        self.paid: list[ConfirmPayment] = []

    def stay(self, number: int) -> Booking | None:
        """Return one of the single stays that were decided."""
        found = [self.scenario.bookings[id] for id in self.stays if id in self.scenario.bookings]
        return found[number % len(found)] if found else None

    @initialize(
        bought=st.tuples(st.sampled_from(ROOMS), stays, st.sampled_from((None, "standard", "saver"))),
        to=st.tuples(st.sampled_from(ROOMS), st.none()),
        stay=st.tuples(stays, st.sampled_from((1, 1, 2))),
        rounds=st.integers(0, 4),
    )
    def a_guest_buys_a_stay_and_asks_for_another_room(
        self,
        bought: tuple[int, tuple[int, int], str | None],
        to: tuple[int, None],
        stay: tuple[tuple[int, int], int],
        rounds: int,
    ) -> None:
        """So begins every game: trips and other guests are so many that few stays would move otherwise."""
        self.a_guest_buys_a_stay(*bought, is_late=False)
        self.everything_moves_on(1)
        self.a_stay_is_to_change(0, to, stay, GUEST, rounds)

    @precondition(lambda self: len(self.stays) < MAX_STAYS)
    @rule(
        room_id=st.sampled_from(ROOMS),
        stay=stays,
        plan_id=st.sampled_from((None, "standard", "saver")),
        is_late=st.sampled_from((False, False, True)),
    )
    def a_guest_buys_a_stay(self, room_id: int, stay: tuple[int, int], plan_id: str | None, is_late: bool) -> None:
        about: dict[str, Any] = {"room_id": room_id, "booking_id": UUID(int=2_000 + len(self.stays))}
        self.stays.append(about["booking_id"])
        self.send(
            ReserveStay(
                **about,
                user_id=GUEST,
                hotel_id=HOTEL,
                check_in=march(stay[0]),
                check_out=march(stay[1]),
                stay_times=TIMES,
                plan_id=plan_id,
            )
        )
        self.send(AddGuests(**about, user_id=GUEST, guest_ids=(81,), guest_list_id=UUID(int=81)))
        self.send(RequestPayment(**about, user_id=GUEST))
        self.send(RecordSession(**about, attempt=1, session_id=f"cs_{about['booking_id'].int}_1"))
        while self.queues[room_id]:
            self.decide(room_id)
        booking = self.scenario.bookings[about["booking_id"]]
        if is_late:
            self.now += 16 * MINUTE
            self.the_timer_ends_holds()
        if booking.amount_minor:
            self.pay(booking, booking.amount_minor, 1)

    def pay(self, booking: Booking, amount_minor: int, attempt: int) -> None:
        """Send a payment through the session of an attempt."""
        payment = ConfirmPayment(
            room_id=booking.room_id,
            booking_id=booking.id,
            session_id=f"cs_{booking.id.int}_{attempt}",
            payment_intent=f"pi_of_stay_{len(self.paid)}",
            amount_minor=amount_minor,
            currency=booking.currency,
            attempt=attempt,
        )
        self.paid.append(payment)
        self.send(payment)

    @precondition(lambda self: self.stays and len(self.changes) < MAX_CHANGES)
    @rule(
        number=numbers,
        to=st.tuples(st.sampled_from(ROOMS), st.sampled_from((None, None, "standard", "on_arrival"))),
        stay=st.tuples(stays, st.sampled_from((1, 1, 2))),
        user_id=st.sampled_from((GUEST, GUEST, None)),
        rounds=st.integers(0, 4),
    )
    def a_stay_is_to_change(
        self,
        number: int,
        to: tuple[int, str | None],
        stay: tuple[tuple[int, int], int],
        user_id: int | None,
        rounds: int,
    ) -> None:
        """Ask for another room, or for a change in the stay's own, and let it go so far on its way."""
        (to_room_id, plan_id), ((first, end), rooms_count) = to, stay
        booking = self.stay(number)
        if booking is None:
            return
        change = ChangeStay(
            room_id=booking.room_id,
            booking_id=booking.id,
            change_id=UUID(int=3_000 + len(self.changes)),
            user_id=user_id,
            check_in=march(first),
            check_out=march(end),
            rooms_count=rooms_count,
            to_room_id=to_room_id,
            plan_id=plan_id,
        )
        self.changes.append(change)
        self.send(change)
        self.everything_moves_on(rounds)

    @precondition(lambda self: self.changes)
    @rule(number=numbers)
    def the_same_change_arrives_again(self, number: int) -> None:
        self.send(self.changes[number % len(self.changes)])

    @rule(
        number=numbers,
        less_minor=st.sampled_from((0, 0, 0, 1)),
        minutes=st.sampled_from((0, 0, 0, 16)),
        rounds=st.integers(0, 2),
    )
    def the_difference_is_paid(self, number: int, less_minor: int, minutes: int, rounds: int) -> None:
        booking = self.stay(number)
        change = None if booking is None else booking.pending_change
        if booking is None or change is None or change.extra_minor <= less_minor:
            return
        self.now += minutes * MINUTE
        session_id = f"cs_{booking.id.int}_{change.attempt}"
        self.send(
            RecordSession(room_id=booking.room_id, booking_id=booking.id, attempt=change.attempt, session_id=session_id)
        )
        self.pay(booking, change.extra_minor - less_minor, change.attempt)
        self.everything_moves_on(rounds)

    @precondition(lambda self: self.paid)
    @rule(number=numbers, is_another=st.booleans())
    def a_payment_arrives_again(self, number: int, is_another: bool) -> None:
        """The same payment, or another one through the same session."""
        payment = self.paid[number % len(self.paid)]
        if is_another:
            self.pay(self.scenario.bookings[payment.booking_id], payment.amount_minor, payment.attempt or 1)
        else:
            self.send(payment)

    @precondition(lambda self: self.changes)
    @rule(number=numbers, closes=st.booleans())
    def a_change_is_given_up(self, number: int, closes: bool) -> None:
        booking = self.stay(number)
        change = None if booking is None else booking.pending_change
        if booking is None or change is None:
            return
        about: dict[str, Any] = {"room_id": booking.room_id, "booking_id": booking.id}
        if closes and booking.session_id is not None:
            self.send(ClosePayment(**about, session_id=booking.session_id))
        self.send(WithdrawChange(**about, change_id=change.id, user_id=GUEST))

    @rule(number=numbers, of_leg=st.booleans(), user_id=st.sampled_from((GUEST, GUEST, None)))
    def a_stay_is_cancelled(self, number: int, of_leg: bool, user_id: int | None) -> None:
        booking = self.stay(number)
        if booking is None:
            return
        room_id, id = booking.room_id, booking.id
        if of_leg and booking.legs:
            room_id, id = booking.legs[0].room_id, booking.legs[0].booking_id
        self.send(CancelBooking(room_id=room_id, booking_id=id, user_id=user_id))

    @rule(number=numbers, fails=st.booleans())
    def a_refund_of_a_stay_goes_out(self, number: int, fails: bool) -> None:
        booking = self.stay(number)
        due = [] if booking is None else [paid for paid in booking.payments if paid.due_minor]
        if booking is None or not due:
            return
        about: dict[str, Any] = {
            "room_id": booking.room_id,
            "booking_id": booking.id,
            "payment_intent": due[0].payment_intent,
            "refund_id": f"re_{due[0].payment_intent}_{due[0].refunded_minor}_{len(due[0].failed_refund_ids)}",
            "amount_minor": due[0].due_minor,
        }
        self.send(RecordRefund(**about))
        if fails:
            self.send(FailRefund(**about, failure="lost_or_stolen_card"))

    # Rules that count in the end.

    def check_the_end(self) -> None:
        super().check_the_end()
        for id in self.stays:
            self.check_stay(self.scenario.bookings[id])

    def check_stay(self, stay: Booking) -> None:
        """Check that a stay is in one room, holds another for a change at most, and keeps its price and no more."""
        change = stay.pending_change
        assert change is None or not change.is_open
        held = set() if change is None or change.to_room_id is None else {change.id}
        legs = [self.scenario.bookings[leg.booking_id] for leg in stay.legs]
        assert len(legs) <= 1
        assert not (legs and change)
        for command in self.changes:
            leg = self.scenario.bookings.get(command.change_id)
            if command.booking_id != stay.id or leg is None or leg in legs:
                continue
            if command.change_id in held:
                assert leg.status is BookingStatus.RESERVED
            else:
                assert leg.status is BookingStatus.REJECTED or leg.cancel_reason == "trip_ended"
        assert held <= self.scenario.bookings.keys()
        if legs:
            self.check_sold(stay, legs)
            return
        price_minor = 0 if stay.policy is None else stay.policy.kept_minor
        kept_minor = sum(paid.kept_minor + paid.retained_minor for paid in stay.payments)
        assert kept_minor == (stay.amount_minor if stay.status in SOLD else price_minor)

    def rooms_of(self, room_id: int, day: date, statuses: set[BookingStatus]) -> int:
        """Count the rooms of the bookings that have a night, and those that a change in their own room holds."""
        held = (
            each.rooms_count
            for booking in self.scenario.bookings.values()
            if statuses is UNPAID and booking.room_id == room_id and booking.pending_change is not None
            for each in booking.pending_change.held
            if day in nights_of(each.first_night, each.end_night)
        )
        return super().rooms_of(room_id, day, statuses) + sum(held)


def test_a_stay_that_moves_is_in_one_room_or_in_the_other() -> None:
    play(Moves, 60, steps=50)


@pytest.mark.long
def test_a_stay_that_moves_is_in_one_room_or_in_the_other_in_many_games() -> None:
    play(Moves, 5_000, fixed=False, steps=50)


# The teeth: each of these breaks one rule of moves, and is found out.


def _without_ends(right: Any) -> Any:
    return lambda event, booking: () if event.message_type == "booking.change_ended.v1" else right(event, booking)


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        (f"{CARRYING}.trips", "_about_leg_of_change", _without_ends),
        (f"{CARRYING}.trips", "_confirmed_leg", lambda right: lambda trip, room, leg: right(trip, room, trip.id)),
        (f"{CORE}.moves", "part_refunded", lambda right: lambda booking, amount: right(booking, 1)),
    ],
    ids=[
        "the leg of a change that ended stays held",
        "the leg of a stay that moved is not sold",
        "a cent of the difference goes back",
    ],
)
def test_a_rule_of_moves_that_is_broken_is_noticed(
    module: str, name: str, wrong: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[module], name, wrong(getattr(sys.modules[module], name)))
    with pytest.raises((AssertionError, IllegalTransition, LookupError)):
        play(Moves, 100, phases=[Phase.generate], steps=50)
