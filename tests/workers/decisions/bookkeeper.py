"""A bookkeeper by brute force, who knows facts of money alone: prices, policies, what was paid, and what left again.

It shares nothing with the core but commands and events. All prices are multiples of a euro, so that nine tenths and a
tax of a tenth are exact; only a policy's percentage and the costs of a change are rounded.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from topics.messages.commands import (
    CancelBooking,
    ChangeStay,
    Command,
    ConfirmPayment,
    FailRefund,
    RecordDispute,
    RecordRefund,
    ReserveStay,
)
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingExpired,
    BookingReserved,
    ChangeEnded,
    ChangeHeld,
    Event,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    PaymentRequested,
    RefundClosed,
    RefundRequested,
    StayChanged,
)
from topics.messages.sale import CancellationPolicy, Kept, PolicyStep, RatePlan, SaleTerms, Tax
from topics.messages.values import StayTimes, Terms

ROOM, HOTEL = 7, 1
ONE_DAY = timedelta(days=1)
#: India has one offset from UTC, all year.
TIMES = StayTimes(time_zone="Asia/Kolkata", check_in_time=time(14), check_out_time=time(10, 30))
AHEAD = timedelta(hours=5, minutes=30)
#: The percentages that the plan `flexible` keeps from 72 hours before check-in on, by the version of the terms.
PERCENT = {1: 33, 2: 75}


def terms(version: int) -> SaleTerms:
    """Return the terms of the room: a flexible plan, one without refunds, and one that is paid on arrival."""
    policy = CancellationPolicy(
        id="flexible",
        steps=(
            PolicyStep(hours_before=72, kept=Kept(percent=PERCENT[version])),
            PolicyStep(hours_before=24, kept=Kept(nights=1)),
        ),
        no_show=Kept(nights=2),
        early_departure_percent=55,
    )
    return SaleTerms(
        version=version,
        plans=(
            RatePlan(id="flexible", name="Flexible", policy=policy),
            RatePlan(id="saver", name="Saver", refundable=False, times_milli=900),
            RatePlan(id="arrival", name="Pay on arrival", terms=Terms.AT_HOTEL, policy=policy),
        ),
        taxes=(Tax(id="tax", name="Tax", percent_milli=10_000),),
    )


def half_up(part: int, divisor: int) -> int:
    """Return a quotient rounded to a cent, halves up."""
    return (2 * part + divisor) // (2 * divisor)


@dataclass(frozen=True)
class Stay:
    """What was agreed: the price of each night in one room, the plan (None: no sale terms), and the terms' version."""

    nights: dict[date, int]
    rooms: int
    plan: str | None
    version: int

    def of_night(self, day: date) -> int:
        """Return what a night costs, with tax, in all rooms."""
        price = self.nights[day]
        if self.plan is not None:
            price = (price * 9 // 10 if self.plan == "saver" else price) * 11 // 10
        return price * self.rooms

    @property
    def price(self) -> int:
        """The price of all nights."""
        return sum(map(self.of_night, self.nights))

    @property
    def arrival(self) -> datetime:
        """The instant of check-in."""
        return datetime.combine(min(self.nights), time(14), UTC) - AHEAD

    def first(self, count: int) -> int:
        """Return the price of the first nights."""
        return sum(map(self.of_night, sorted(self.nights)[:count]))

    def kept_if_guest_cancels(self, now: datetime) -> int:
        """Return what a cancellation at an instant costs."""
        if self.plan in (None, "saver"):
            return self.price if self.plan else 0
        if now < self.arrival - timedelta(hours=72):
            return 0
        if now < self.arrival - timedelta(hours=24):
            return half_up(self.price * PERCENT[self.version], 100)
        return self.first(1)

    def kept_if_nobody_arrives(self) -> int:
        """Return what a no-show costs."""
        return self.price if self.plan in (None, "saver") else self.first(2)

    def kept_if_guests_leave(self, now: datetime) -> int:
        """Return what is kept if the guests leave now."""
        unused = sum(self.of_night(day) for day in self.nights if day >= (now + AHEAD).date())
        percent = 100 if self.plan in (None, "saver") else 55
        return self.price - unused + half_up(unused * percent, 100)


@dataclass
class Payment:
    """A payment at Stripe, and what the log was told of it; `may_keep` None: it pays a stay that goes on."""

    intent: str
    booking_id: Any
    session_id: str
    attempt: int
    amount: int
    refunds: dict[str, tuple[int, bool]] = field(default_factory=dict)
    lost: int = 0
    disputed: tuple[str, int] | None = None
    is_confirmed: bool = False
    pays: bool = False
    target: int = 0
    may_keep: int | None = None
    closed: int = 0
    reported: dict[str, int] = field(default_factory=dict)
    reported_failed: set[str] = field(default_factory=set)
    reported_disputes: set[str] = field(default_factory=set)
    reported_lost: int = 0

    @property
    def left(self) -> int:
        """The amount that is at Stripe."""
        return self.amount - sum(amount for amount, _ in self.refunds.values()) - self.lost

    @property
    def reported_left(self) -> int:
        """The amount that is at Stripe as far as the log knows."""
        return max(0, self.amount - sum(self.reported.values()) - self.reported_lost)

    @property
    def due(self) -> int:
        """The amount that must still go back, as far as the log knows."""
        return 0 if self.may_keep is None else max(0, self.reported_left - self.may_keep - self.closed)

    @property
    def rest(self) -> int:
        """The amount that payments must still send: it knows all that left at Stripe."""
        gone = self.amount - self.left
        return max(0, min(self.target - gone - self.closed, self.left))

    def balance(self) -> None:
        """Let money that left otherwise lessen what is due first, then what was closed."""
        if self.may_keep is not None:
            self.closed = min(self.closed, max(0, self.reported_left - self.may_keep))


@dataclass
class Booking:
    """A booking, and the agreements about it."""

    stay: Stay
    prepaid: bool
    costs: int = 0
    state: str = "unpaid"
    change: tuple[Any, Stay, int] | None = None
    attempt: int = 0

    @property
    def amount(self) -> int:
        """The price of the booking, with what earlier changes cost."""
        return self.stay.price + self.costs


class Books:
    """The bookkeeper: it follows commands and their events, and asserts each sum of them."""

    def __init__(self) -> None:
        self.bookings: dict[Any, Booking] = {}
        self.payments: dict[str, Payment] = {}
        self.prices: dict[date, int] = {}
        self.version = 0

    def of(self, booking_id: Any) -> list[Payment]:
        """Return the payments that pay a booking, the oldest first."""
        return [paid for paid in self.payments.values() if paid.booking_id == booking_id and paid.pays]

    def follow(self, command: Command, events: tuple[Event, ...], now: datetime) -> None:
        """Follow a decision."""
        for event in events:
            booking = self.bookings.get(getattr(event, "booking_id", None))
            match event:
                case BookingReserved():
                    assert isinstance(command, ReserveStay)
                    self._reserved(command, event)
                case RefundRequested():
                    self._refund_asked(event)
                case RefundClosed():
                    payment = self.payments[event.payment_intent]
                    assert event.amount_minor == payment.due
                    payment.closed += event.amount_minor
                case _ if booking is not None:
                    self._happened(booking, command, event, now)

    def _happened(self, booking: Booking, command: Command, event: Event, now: datetime) -> None:
        """Follow an event about a booking that exists."""
        match event:
            case PaymentRequested():
                wanted = booking.amount if booking.change is None else booking.change[2]
                assert event.amount_minor == wanted
                booking.attempt = event.attempt
            case BookingConfirmed():
                assert booking.state in {"unpaid", "expired"}
                self._pays(event.payment_intent, booking.amount)
                booking.state = "sold"
            case ChangeHeld() | StayChanged():
                self._changed(booking, command, event, now)
            case ChangeEnded():
                assert booking.change is not None
                booking.change = None
            case BookingExpired():
                booking.state = "expired"
            case BookingCancelled() | GuestsCheckedOut() | GuestsDidNotArrive():
                self._ended(booking, command, event, now)

    def _reserved(self, command: ReserveStay, event: BookingReserved) -> None:
        stay = self.stay(command.plan_id, event.check_in, event.check_out, event.rooms_count)
        assert event.amount_minor == stay.price
        self.bookings[event.booking_id] = Booking(stay, event.terms is Terms.PREPAID)

    def stay(self, plan: str | None, first: date, end: date, rooms: int, before: Stay | None = None) -> Stay:
        """Return a stay at today's prices; the nights of the stay before keep theirs."""
        plan = "flexible" if plan is None and self.version and before is None else plan
        agreed = {} if before is None else before.nights
        days = [first + timedelta(days=number) for number in range((end - first).days)]
        return Stay({day: agreed.get(day, self.prices[day]) for day in days}, rooms, plan, self.version)

    def _pays(self, intent: str | None, amount: int) -> None:
        if intent is None:
            return
        payment = self.payments[intent]
        assert payment.amount == amount
        assert not payment.pays
        payment.pays = True

    def _changed(self, booking: Booking, command: Command, event: ChangeHeld | StayChanged, now: datetime) -> None:
        """Check a change of a stay: what it costs, and what goes back."""
        if isinstance(event, StayChanged) and event.payment_intent is not None:
            assert booking.change is not None
            id, stay, extra = booking.change
            assert event.change_id == id
            self._pays(event.payment_intent, extra)
            booking.stay, booking.change = stay, None
            assert event.amount_minor == booking.amount
            return
        assert isinstance(command, ChangeStay)
        stay = self.stay(
            booking.stay.plan, command.check_in, command.check_out, command.rooms_count, before=booking.stay
        )
        saved = booking.stay.price - stay.price
        if isinstance(event, ChangeHeld):
            assert booking.prepaid
            assert event.extra_minor == -saved > 0
            assert event.amount_minor == booking.amount - saved
            booking.change = (event.change_id, stay, -saved)
            return
        assert saved >= 0 or not booking.prepaid
        if saved > 0 and command.user_id is not None:
            booking.costs += half_up(saved * booking.stay.kept_if_guest_cancels(now), booking.stay.price)
        before, booking.stay = booking.amount, stay
        assert event.amount_minor == booking.amount
        assert booking.change is None
        if booking.amount != before or saved > 0:
            self._may_keep(command.booking_id, booking.amount)

    def _ended(
        self,
        booking: Booking,
        command: Command,
        event: BookingCancelled | GuestsCheckedOut | GuestsDidNotArrive,
        now: datetime,
    ) -> None:
        """Compute what the end of a stay leaves to the hotel."""
        kept = 0
        match event:
            case GuestsCheckedOut(freed_from=None):
                return
            case GuestsCheckedOut():
                kept = booking.stay.kept_if_guests_leave(now) + booking.costs
            case GuestsDidNotArrive():
                kept = booking.stay.kept_if_nobody_arrives() + booking.costs
            case BookingCancelled() if isinstance(command, CancelBooking) and booking.state == "sold":
                if command.user_id is not None:
                    kept = booking.stay.kept_if_guest_cancels(now) + booking.costs
        assert booking.change is None
        policy = event.policy
        assert policy is None or policy.kept_minor == kept
        assert policy is not None or kept == 0 or booking.stay.plan is None
        booking.state = "ended"
        self._may_keep(event.booking_id, kept)

    def _may_keep(self, booking_id: Any, kept: int) -> None:
        """Divide what the hotel keeps: first what is left of the oldest payments, then by their amounts."""
        paying = self.of(booking_id)
        parts = []
        for payment in paying:
            there = payment.reported_left - payment.due - payment.closed
            parts.append(min(there, kept))
            kept -= parts[-1]
        for payment, part in zip(paying, parts, strict=True):
            more = min(payment.amount - part, kept)
            payment.may_keep = part + more
            kept -= more
            payment.balance()

    def _refund_asked(self, event: RefundRequested) -> None:
        payment = self.payments[event.payment_intent]
        if not payment.pays:
            payment.may_keep = 0
        assert payment.may_keep is not None
        # Payments' target never falls: what an operator closed counts as sent.
        target = event.amount_minor if event.total_minor is None else event.total_minor
        payment.target = max(payment.target, target)
        assert payment.target + payment.may_keep <= payment.amount

    def reported_refund(self, command: RecordRefund | FailRefund) -> None:
        """Note what the log was told of a refund."""
        payment = self.payments[command.payment_intent]
        if isinstance(command, RecordRefund):
            if command.refund_id not in payment.reported_failed:
                payment.reported[command.refund_id] = command.amount_minor
        else:
            payment.reported.pop(command.refund_id, None)
            payment.reported_failed.add(command.refund_id)
        payment.balance()

    def reported_dispute(self, command: RecordDispute) -> None:
        """Note what the log was told of a lost dispute, once."""
        payment = self.payments[command.payment_intent]
        if command.dispute_id not in payment.reported_disputes:
            payment.reported_disputes.add(command.dispute_id)
            payment.reported_lost += command.amount_minor
            payment.balance()

    def must_be_accepted(self, command: ConfirmPayment, deadline: datetime | None, now: datetime) -> bool:
        """Return whether the payment is the right one, in time, for a booking or a change that waits for it."""
        booking = self.bookings.get(command.booking_id)
        if booking is None or deadline is None or now >= deadline or self.payments[command.payment_intent].is_confirmed:
            return False
        if booking.change is not None:
            return command.attempt == booking.attempt and command.amount_minor == booking.change[2]
        return booking.state == "unpaid" and command.amount_minor == booking.amount
