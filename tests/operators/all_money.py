"""A hotel's month in which money moves in every way, for tests that compare its reports with each other.

Each booking is decided by the core from commands, as in `decided_log`. The prices divide by nothing, so that an amount
which is shared in another way shows. The hotel has a VAT in its prices, a fee and a tax that are paid with a booking,
and a tax that it collects itself.
"""

from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

from tests.operators.decided_log import FIRST, HOLD_SECONDS, DecidedLog
from topics.messages.commands import (
    AddGuests,
    CancelBooking,
    ChangeStay,
    CheckIn,
    CheckOut,
    ClaimCode,
    CloseRefund,
    Command,
    ConfirmPayment,
    FailRefund,
    MarkNoShow,
    OpenInventory,
    RecordDispute,
    RecordRefund,
    RecordSession,
    RequestPayment,
    ReserveStay,
    ReserveTrip,
    SetCode,
    SetSaleTerms,
)
from topics.messages.sale import (
    CancellationPolicy,
    CodeTerms,
    Collected,
    Kept,
    LegRequest,
    LineKind,
    Party,
    PolicyStep,
    RatePlan,
    SaleTerms,
    Tax,
)
from topics.messages.values import CancelReason, DisputeResult, HotelReason, RefundClosing, StayTimes, Terms
from topics.zones import ZONE_DATA_VERSION
from workers.decisions import Booking, StayClock

#: Rooms in three partitions, and a promo code.
ROOMS, CODE = (5, 6, 7), 9
PRICE: Final = 9_973
ARRIVAL: Final = FIRST + timedelta(days=1)
_POLICY: Final = CancellationPolicy(
    id="strict",
    steps=(PolicyStep(hours_before=24 * 365, kept=Kept(percent=37)),),
    no_show=Kept(percent=71),
    early_departure_percent=53,
)
TERMS: Final = SaleTerms(
    version=1,
    plans=(
        RatePlan(id="standard", name="Standard", policy=_POLICY),
        RatePlan(id="arrival", name="Pay on arrival", terms=Terms.AT_HOTEL, policy=_POLICY, plus_minor=101),
    ),
    taxes=(
        Tax(id="vat", name="VAT", percent_milli=10_000, included=True),
        Tax(id="cleaning", name="Cleaning", kind=LineKind.FEE, amount_minor=1_999),
        Tax(id="resort", name="Resort tax", percent_milli=4_700),
        Tax(
            id="city",
            name="City tax",
            amount_minor=213,
            per_night=True,
            per_person=True,
            collected=Collected.AT_HOTEL,
        ),
    ),
)
#: Bookings, by what happens to them. Each trip has three legs.
SOLD, CANCELLED, CHANGED, BY_HAND, WON, LOST, MISSED, LEFT, DISCOUNTED, BY_HOTEL = (
    UUID(int=number) for number in range(201, 211)
)
ARRIVED, LEFT_UNPAID, CHANGED_UNPAID, MISSED_UNPAID = (UUID(int=number) for number in range(211, 215))
TRIP, CLOSED_TRIP, ENDED_TRIP, DISPUTED_TRIP, GIVEN_BACK_TRIP = (UUID(int=number) for number in range(221, 226))
TRIPS: Final = (TRIP, CLOSED_TRIP, ENDED_TRIP, DISPUTED_TRIP, GIVEN_BACK_TRIP)
#: Bookings that move from the dearest room to the cheapest, or the other way, by what happens to them besides.
MOVED_DOWN, MOVED_UP, CHANGED_AND_MOVED, MOVED_CLOSED, MOVED_AND_ENDED, MOVED_AND_LOST = (
    UUID(int=number) for number in range(231, 237)
)
#: Stays of which an operator closed the refund of a cheaper change, and the last one ended after that.
CLOSED, CLOSED_AND_ENDED = UUID(int=241), UUID(int=242)
MOVED: Final = (MOVED_DOWN, MOVED_UP, CHANGED_AND_MOVED, MOVED_CLOSED, MOVED_AND_ENDED, MOVED_AND_LOST)


def leg(trip: UUID, number: int) -> UUID:
    """Return the booking of a trip's leg, counted from 0."""
    return UUID(int=10 * trip.int + number)


class Hotel:
    """The hotel's history; each method lets something happen to a booking."""

    def __init__(self) -> None:
        self.history = DecidedLog()
        for room_id in ROOMS:
            self.send(
                OpenInventory(
                    room_id=room_id,
                    hotel_id=1,
                    first_night=FIRST,
                    end_night=FIRST + timedelta(days=9),
                    total_count=40,
                    price_minor=PRICE + room_id,
                    currency="EUR",
                )
            )
            self.send(SetSaleTerms(room_id=room_id, hotel_id=1, terms=TERMS))

    def send(self, command: Command, clock: StayClock | None = None) -> None:
        self.history.after(command, clock=clock)

    def ask(self, id: UUID, nights: int = 3, **values: Any) -> ReserveStay:
        return ReserveStay(
            room_id=ROOMS[0],
            booking_id=id,
            user_id=7,
            hotel_id=1,
            check_in=ARRIVAL,
            check_out=ARRIVAL + timedelta(days=nights),
            hold_seconds=HOLD_SECONDS,
            stay_times=StayTimes(time_zone="UTC", check_in_time=time(), check_out_time=time(11)),
            party=Party(adults=2),
            **values,
        )

    def about(self, id: UUID) -> dict[str, Any]:
        return {"room_id": self.history.bookings[id].room_id, "booking_id": id}

    def payment(self, id: UUID, attempt: int = 1) -> dict[str, Any]:
        return self.about(id) | {"payment_intent": f"pi_{id.int}_{attempt}"}

    def pay(self, id: UUID, attempt: int = 1) -> None:
        """Let the guest pay what is asked for: the booking, or a change of it."""
        booking = self.history.bookings[id]
        if attempt == 1:
            self.send(AddGuests(**self.about(id), user_id=7, guest_ids=(71,)))
            self.send(RequestPayment(**self.about(id), user_id=7))
        change = booking.pending_change
        session = f"cs_{id.int}_{attempt}"
        self.send(RecordSession(**self.about(id), attempt=attempt, session_id=session))
        self.send(
            ConfirmPayment(
                **self.payment(id, attempt),
                attempt=attempt,
                session_id=session,
                amount_minor=booking.amount_minor if change is None else change.extra_minor,
                currency="EUR",
            )
        )

    def buy(self, id: UUID, nights: int = 3) -> None:
        self.send(self.ask(id, nights))
        self.pay(id)

    def buy_trip(self, id: UUID) -> None:
        legs = tuple(
            LegRequest(
                booking_id=leg(id, number), room_id=room_id, rooms_count=number + 1, party=Party(adults=2 + number)
            )
            for number, room_id in enumerate(ROOMS)
        )
        stay = self.ask(id)
        self.send(
            ReserveTrip(
                room_id=ROOMS[0],
                booking_id=id,
                user_id=7,
                hotel_id=1,
                check_in=stay.check_in,
                check_out=stay.check_out,
                legs=legs,
                hold_seconds=HOLD_SECONDS,
                stay_times=stay.stay_times,
            )
        )
        self.pay(id)

    def change(self, id: UUID, number: int, nights: int, to_room_id: int | None = None) -> None:
        self.send(
            ChangeStay(
                **self.about(id),
                change_id=UUID(int=10 * id.int + number),
                user_id=7,
                check_in=ARRIVAL,
                check_out=ARRIVAL + timedelta(days=nights),
                rooms_count=1,
                hold_seconds=HOLD_SECONDS,
                to_room_id=to_room_id,
            ),
            clock_on(0),
        )

    def cancel(self, id: UUID) -> None:
        self.send(CancelBooking(**self.about(id), user_id=7), clock_on(0))

    def refund(self, id: UUID, refund_id: str, amount_minor: int, *, fails: bool = False) -> None:
        """Let a person refund by hand at Stripe."""
        refund = self.payment(id) | {"refund_id": refund_id, "amount_minor": amount_minor, "by_hand": True}
        self.send(RecordRefund(**refund))
        if fails:
            self.send(FailRefund(**refund, failure="expired_or_canceled_card"))

    def dispute(self, id: UUID, amount_minor: int, result: DisputeResult) -> None:
        dispute: dict[str, Any] = {"dispute_id": f"dp_{id.int}", "amount_minor": amount_minor, "reason": "fraudulent"}
        self.send(RecordDispute(**self.payment(id), **dispute))
        self.send(RecordDispute(**self.payment(id), **dispute, result=result))

    def make_refunds(self, *, but: UUID) -> None:
        """Let Stripe carry out all refunds that are due, except those of one booking."""
        for booking in list(self.history.bookings.values()):
            for paid in booking.payments:
                if paid.due_minor and booking.id != but:
                    refund = self.about(booking.id) | {"payment_intent": paid.payment_intent}
                    refund_id = f"re_{paid.payment_intent}_{len(paid.refunds)}"
                    self.send(RecordRefund(**refund, refund_id=refund_id, amount_minor=paid.due_minor))


def clock_on(day: int) -> StayClock:
    """Return the hotel's clock so many days after `FIRST`; guests arrive on the day after `FIRST`."""
    midnight = datetime.combine(FIRST, time(), UTC)
    return StayClock(
        check_in_at=midnight + timedelta(days=1) if not day else midnight - timedelta(days=400),
        check_out_at=midnight + timedelta(days=20),
        today=FIRST + timedelta(days=day),
        step_ends=(midnight - timedelta(days=400), None),
        zone_data=ZONE_DATA_VERSION,
    )


def all_money() -> DecidedLog:
    """Return the history of the hotel; all refunds that are due were carried out or closed."""
    hotel = Hotel()
    for id in (SOLD, CANCELLED, CHANGED, BY_HAND, WON, LOST, MISSED, LEFT, BY_HOTEL):
        hotel.buy(id)
    hotel.cancel(CANCELLED)
    hotel.change(CHANGED, 1, 4)
    hotel.pay(CHANGED, 2)
    hotel.change(CHANGED, 2, 2)
    hotel.refund(BY_HAND, "re_gift", 1_777)
    hotel.refund(BY_HAND, "re_slip", 501, fails=True)
    hotel.dispute(WON, 7_001, DisputeResult.WON)
    hotel.dispute(LOST, 7_001, DisputeResult.LOST)
    hotel.send(MarkNoShow(**hotel.about(MISSED)), clock_on(2))
    hotel.send(
        CancelBooking(**hotel.about(BY_HOTEL), reason=CancelReason.BY_HOTEL, hotel_reason=HotelReason.OVERBOOKED),
        clock_on(2),
    )
    hotel.send(SetCode(code_id=CODE, hotel_id=1, terms=CodeTerms(version=1, code="SPRING", percent_milli=13_000)))
    hotel.send(ClaimCode(code_id=CODE, reserve=hotel.ask(DISCOUNTED)))
    hotel.pay(DISCOUNTED)
    _at_the_hotel(hotel)
    _trips(hotel)
    _moves(hotel)
    _closings(hotel)
    return hotel.history


def _at_the_hotel(hotel: Hotel) -> None:
    for id in (ARRIVED, LEFT_UNPAID, CHANGED_UNPAID, MISSED_UNPAID):
        hotel.send(hotel.ask(id, plan_id="arrival"))
    hotel.change(CHANGED_UNPAID, 1, 2)
    for id in (ARRIVED, LEFT_UNPAID, LEFT):
        hotel.send(CheckIn(**hotel.about(id)), clock_on(1))
        hotel.send(CheckOut(**hotel.about(id)), clock_on(4 if id == ARRIVED else 2))
    hotel.send(MarkNoShow(**hotel.about(MISSED_UNPAID)), clock_on(2))


def _trips(hotel: Hotel) -> None:
    for id in TRIPS:
        hotel.buy_trip(id)
    # A leg is cancelled, and its refund is carried out; a part of the rest goes back by hand, and another comes back.
    hotel.cancel(leg(TRIP, 1))
    hotel.refund(TRIP, "re_before", 1_003)
    hotel.make_refunds(but=CLOSED_TRIP)
    hotel.refund(TRIP, "re_trip", 3_331)
    hotel.refund(TRIP, "re_trip_slip", 997, fails=True)
    # An operator closes the refund of a leg; a refund by hand after that is at the expense of all legs.
    hotel.cancel(leg(CLOSED_TRIP, 2))
    hotel.send(CloseRefund(**hotel.payment(CLOSED_TRIP), reason=RefundClosing.PAID_OTHERWISE))
    hotel.refund(CLOSED_TRIP, "re_closed", 2_003)
    # Each leg ends in another way.
    hotel.cancel(leg(ENDED_TRIP, 0))
    hotel.send(MarkNoShow(**hotel.about(leg(ENDED_TRIP, 1))), clock_on(2))
    hotel.send(CheckIn(**hotel.about(leg(ENDED_TRIP, 2))), clock_on(1))
    hotel.send(CheckOut(**hotel.about(leg(ENDED_TRIP, 2))), clock_on(2))
    hotel.refund(ENDED_TRIP, "re_ended", 1_009)
    # A dispute takes a part of a trip, of which the hotel then cancels a leg.
    hotel.dispute(DISPUTED_TRIP, 20_011, DisputeResult.LOST)
    hotel.send(
        CancelBooking(
            **hotel.about(leg(DISPUTED_TRIP, 0)), reason=CancelReason.BY_HOTEL, hotel_reason=HotelReason.OVERBOOKED
        ),
        clock_on(0),
    )
    paid = hotel.history.bookings[GIVEN_BACK_TRIP].amount_minor
    hotel.send(
        RecordRefund(
            **hotel.payment(GIVEN_BACK_TRIP), refund_id="re_all", amount_minor=paid, by_hand=True, cancel_if_full=True
        ),
        clock_on(0),
    )
    hotel.make_refunds(but=CLOSED_TRIP)


def _moves(hotel: Hotel) -> None:
    """Let stays move to another room type, before and after money leaves their payments in other ways."""
    for id in MOVED:
        hotel.buy(id, 3)
    # A part goes back by hand before the stay moves and becomes cheaper, and another afterwards.
    hotel.refund(MOVED_DOWN, "re_moved_before", 1_009)
    hotel.change(MOVED_DOWN, 1, 2, ROOMS[1])
    hotel.make_refunds(but=CLOSED_TRIP)
    hotel.refund(MOVED_DOWN, "re_moved", 2_011)
    hotel.refund(MOVED_DOWN, "re_moved_slip", 499, fails=True)
    # A dearer one is paid by a second payment, of which a part goes back.
    hotel.change(MOVED_UP, 1, 4, ROOMS[2])
    hotel.pay(MOVED_UP, 2)
    hotel.refund(MOVED_UP, "re_moved_up", 3_001)
    # A stay becomes longer, then cheaper; its refund by us is carried out, and then it moves.
    hotel.change(CHANGED_AND_MOVED, 1, 4)
    hotel.pay(CHANGED_AND_MOVED, 2)
    hotel.change(CHANGED_AND_MOVED, 2, 3)
    hotel.make_refunds(but=CLOSED_TRIP)
    hotel.refund(CHANGED_AND_MOVED, "re_moved_slip_before", 601)
    hotel.change(CHANGED_AND_MOVED, 3, 2, ROOMS[1])
    hotel.send(
        FailRefund(
            **hotel.payment(CHANGED_AND_MOVED),
            refund_id="re_moved_slip_before",
            amount_minor=601,
            by_hand=True,
            failure="expired_or_canceled_card",
        )
    )
    # An operator closes the refund of a cheaper change, then that of the move; a later one by hand costs the hotel.
    hotel.change(MOVED_CLOSED, 1, 2)
    hotel.send(CloseRefund(**hotel.payment(MOVED_CLOSED), reason=RefundClosing.PAID_OTHERWISE))
    hotel.change(MOVED_CLOSED, 2, 1, ROOMS[1])
    hotel.send(CloseRefund(**hotel.payment(MOVED_CLOSED), reason=RefundClosing.PAID_OTHERWISE))
    hotel.refund(MOVED_CLOSED, "re_moved_closed", 1_511)
    # The guest cancels; a part of what the policy keeps goes back by hand.
    hotel.change(MOVED_AND_ENDED, 1, 2, ROOMS[1])
    hotel.cancel(MOVED_AND_ENDED)
    hotel.make_refunds(but=CLOSED_TRIP)
    hotel.refund(MOVED_AND_ENDED, "re_moved_ended", 307)
    hotel.dispute(MOVED_AND_LOST, 5_003, DisputeResult.LOST)
    hotel.change(MOVED_AND_LOST, 1, 4, ROOMS[2])
    hotel.pay(MOVED_AND_LOST, 2)
    hotel.make_refunds(but=CLOSED_TRIP)


def _closings(hotel: Hotel) -> None:
    """Let an operator close the refunds of cheaper changes; a refund by hand after that costs the hotel.

    It does not after the end of the stay, as it takes the money of the closed refund before that of the policy.
    """
    for id in (CLOSED, CLOSED_AND_ENDED):
        hotel.buy(id, 3)
        hotel.change(id, 1, 2)
        hotel.send(CloseRefund(**hotel.payment(id), reason=RefundClosing.PAID_OTHERWISE))
    hotel.refund(CLOSED, "re_after_closing", 1_511)
    hotel.cancel(CLOSED_AND_ENDED)
    hotel.make_refunds(but=CLOSED_TRIP)
    hotel.refund(CLOSED_AND_ENDED, "re_after_end", 401)


def kept_minor(booking: Booking) -> int:
    """Return what the hotel keeps of a booking's payments, by the ledger."""
    return sum(paid.kept_minor + paid.retained_minor for paid in booking.payments)


def closed_minor(booking: Booking) -> int:
    """Return what an operator closed of the refunds of a booking's payments: it is still at Stripe."""
    return sum(paid.closed_minor for paid in booking.payments)
