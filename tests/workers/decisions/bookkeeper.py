"""A bookkeeper by brute force, who knows facts of money alone: prices, policies, what was paid, and what left again.

It shares nothing with the core but commands and events.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
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


def half_up(part: int | Fraction, divisor: int) -> int:
    """Return a quotient rounded to a cent, halves up."""
    return (2 * part + divisor) // (2 * divisor)


def divided(amount: int, weights: dict[date, int]) -> dict[date, int]:
    """Divide an amount by weights: each part is rounded down, and the cents left go to the largest fractions."""
    whole = sum(weights.values())
    parts = {day: amount * weight // whole for day, weight in weights.items()}
    by_fraction = sorted(parts, key=lambda day: (parts[day] - Fraction(amount * weights[day], whole), day))
    for day in by_fraction[: amount - sum(parts.values())]:
        parts[day] += 1
    return parts


@dataclass(frozen=True)
class Stay:
    """The agreement: the price of each night in one room, the plan (None: no sale terms), and the terms' version.

    Without a plan the price of a night in all rooms is whole cents, and its part in one room may have a fraction.
    """

    nights: dict[date, int | Fraction]
    rooms: int
    plan: str | None
    version: int

    @property
    def nights_with_tax(self) -> dict[date, int]:
        """The price of each night in all rooms, with its part of the tax, which is a line for all nights."""
        tenths = 9 if self.plan == "saver" else 10
        if self.plan is None:
            return {day: int(price * self.rooms) for day, price in self.nights.items()}
        bare = {day: half_up(price * tenths, 10) * self.rooms for day, price in self.nights.items()}
        return divided(sum(bare.values()) + half_up(sum(bare.values()), 10), bare)

    @property
    def price(self) -> int:
        """The price of all nights."""
        return sum(self.nights_with_tax.values())

    @property
    def arrival(self) -> datetime:
        """The instant of check-in."""
        return datetime.combine(min(self.nights), time(14), UTC) - AHEAD

    def first(self, count: int) -> int:
        """Return the price of the first nights."""
        return sum(amount for _, amount in sorted(self.nights_with_tax.items())[:count])

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
        unused = sum(amount for day, amount in self.nights_with_tax.items() if day >= (now + AHEAD).date())
        percent = 100 if self.plan in (None, "saver") else 55
        return self.price - unused + half_up(unused * percent, 100)


@dataclass
class Payment:
    """A payment at Stripe, and the part of it that the log knows; `pays`: it bought a stay or a change of one.

    `due` is still to go back and `closed` never goes back, because an operator ended the refund. `ahead` went out in
    place of refunds whose failure is not reported yet. `is_over`: all of it but `policy`, which the hotel keeps, had to
    go back; `is_returned`: because the log asked for it, and not because a person had sent it before.
    """

    intent: str
    booking_id: Any
    amount: int
    refunds: dict[str, tuple[int, bool]] = field(default_factory=dict)
    failed: dict[str, tuple[int, bool]] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    disputed: tuple[str, int] | None = None
    is_confirmed: bool = False
    pays: bool = False
    is_over: bool = False
    is_returned: bool = False
    policy: int = 0
    target: int = 0
    due: int = 0
    closed: int = 0
    ahead: int = 0
    reported: dict[str, tuple[int, bool]] = field(default_factory=dict)
    reported_failed: set[str] = field(default_factory=set)
    reported_disputes: set[str] = field(default_factory=set)
    reported_lost: int = 0

    @property
    def left(self) -> int:
        """The amount that is at Stripe."""
        return self.amount - sum(amount for amount, _ in self.refunds.values()) - sum(self.lost.values())

    @property
    def reported_left(self) -> int:
        """The amount that is at Stripe as far as the log knows."""
        return max(0, self.amount - sum(amount for amount, _ in self.reported.values()) - self.reported_lost)

    @property
    def kept(self) -> int:
        """The amount that the hotel has of it."""
        return self.reported_left - self.due - self.closed

    def leaves(self, amount: int, *, by_us: bool = False) -> None:
        """Let money leave: the due part first, and then, by us or if the payment `is_over`, the closed part."""
        more = max(0, amount - self.due)
        self.due = max(0, self.due - amount)
        if by_us:
            self.ahead += max(0, more - self.closed)
        if self.is_over or by_us:
            self.closed = max(0, self.closed - more)
        self.closed = min(self.closed, self.reported_left)


@dataclass
class Booking:
    """A booking, and the agreements about it."""

    stay: Stay
    prepaid: bool
    costs: int = 0
    floor: int = 0
    state: str = "unpaid"
    kept: int = 0
    change: tuple[Any, Stay, int, int] | None = None
    attempt: int = 0

    @property
    def amount(self) -> int:
        """The price of the booking, with what earlier changes cost."""
        return self.stay.price + self.costs

    def kept_if_guest_cancels(self, now: datetime) -> int:
        """Return what a cancellation at an instant costs: no less than at the moment of the last change."""
        return max(self.stay.kept_if_guest_cancels(now) + self.costs, self.floor)


class Books:
    """The bookkeeper: it follows commands and their events, and asserts each sum of them."""

    def __init__(self) -> None:
        self.bookings: dict[Any, Booking] = {}
        self.payments: dict[str, Payment] = {}
        self.prices: dict[date, int] = {}
        self.version = 0
        self.expected: dict[Any, int] = {}

    def of(self, booking_id: Any) -> list[Payment]:
        """Return the payments that pay a booking, the oldest first."""
        return [paid for paid in self.payments.values() if paid.booking_id == booking_id and paid.pays]

    def follow(self, command: Command, events: tuple[Event, ...], now: datetime) -> None:
        """Follow a decision."""
        asked: dict[Any, int] = {}
        self.expected = {}
        if isinstance(command, FailRefund):
            self._refund_failed(command)
        for event in events:
            booking = self.bookings.get(getattr(event, "booking_id", None))
            match event:
                case BookingReserved():
                    assert isinstance(command, ReserveStay)
                    self._reserved(command, event)
                case RefundRequested() if booking is None and self.payments[event.payment_intent].is_confirmed:
                    # The room of a booking that does not exist remembers nothing: the same refund is asked for again.
                    assert event.amount_minor == self.payments[event.payment_intent].target
                case RefundRequested():
                    self._refund_asked(event)
                    asked[event.booking_id] = asked.get(event.booking_id, 0) + event.amount_minor
                case RefundClosed():
                    payment = self.payments[event.payment_intent]
                    assert event.amount_minor == payment.due
                    payment.closed += payment.due
                    payment.due = 0
                case _ if booking is not None:
                    self._happened(booking, command, event, now)
        assert {id: sum for id, sum in self.expected.items() if sum} == asked

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
        """Return a stay at today's prices; the rooms of the stay before keep theirs, in the same nights."""
        plan = "flexible" if plan is None and self.version and before is None else plan
        days = [first + timedelta(days=number) for number in range((end - first).days)]
        nights: dict[date, int | Fraction] = {day: self.prices[day] for day in days}
        for day in days if before is not None else ():
            assert before is not None
            if day not in before.nights:
                continue
            same = min(before.rooms, rooms)
            added = self.prices[day] * (rooms - same)
            if plan is None:
                nights[day] = Fraction(half_up(before.nights[day] * same, 1) + added, rooms)
            else:
                nights[day] = half_up(before.nights[day] * same + added, rooms)
        return Stay(nights, rooms, plan, self.version)

    def _pays(self, intent: str | None, amount: int) -> None:
        if intent is None:
            return
        payment = self.payments[intent]
        assert payment.amount == amount
        assert not payment.pays
        payment.pays = True

    def _changed(self, booking: Booking, command: Command, event: ChangeHeld | StayChanged, now: datetime) -> None:
        """Check a change of a stay: its costs, and the money that goes back."""
        if isinstance(event, StayChanged) and event.payment_intent is not None:
            assert booking.change is not None
            id, stay, extra, floor = booking.change
            assert event.change_id == id
            self._pays(event.payment_intent, extra)
            booking.stay, booking.floor, booking.change = stay, floor, None
            assert event.amount_minor == booking.amount
            return
        assert isinstance(command, ChangeStay)
        stay = self.stay(
            booking.stay.plan, command.check_in, command.check_out, command.rooms_count, before=booking.stay
        )
        saved = booking.stay.price - stay.price
        by_guest = command.user_id is not None and booking.stay.plan is not None
        cost_now = booking.kept_if_guest_cancels(now) if by_guest else 0
        if isinstance(event, ChangeHeld):
            assert booking.prepaid
            assert event.extra_minor == -saved > 0
            assert event.amount_minor == booking.amount - saved
            booking.change = (event.change_id, stay, -saved, min(cost_now, event.amount_minor))
            return
        assert saved >= 0 or not booking.prepaid
        assert booking.change is None
        given_up = 0
        if saved > 0 and by_guest:
            given_up = min(saved, half_up(saved * (cost_now - booking.costs), booking.stay.price))
        booking.costs += given_up
        booking.stay = stay
        booking.floor = min(cost_now, booking.amount)
        assert event.amount_minor == booking.amount
        there = sum(paid.kept for paid in self.of(command.booking_id))
        self.expected[command.booking_id] = min(there, max(0, saved - given_up))

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
                kept = max(booking.stay.kept_if_guests_leave(now) + booking.costs, booking.floor)
            case GuestsDidNotArrive():
                kept = max(booking.stay.kept_if_nobody_arrives() + booking.costs, booking.floor)
            case BookingCancelled() if isinstance(command, CancelBooking) and booking.state == "sold":
                if command.user_id is not None:
                    kept = booking.kept_if_guest_cancels(now)
        assert booking.change is None
        policy = event.policy
        assert policy is None or policy.kept_minor == kept
        assert policy is not None or kept == 0 or booking.stay.plan is None
        booking.state, booking.kept = "ended", kept
        paying = self.of(event.booking_id)
        self.expected[event.booking_id] = max(0, sum(paid.kept for paid in paying) - kept)
        for paid in paying:
            paid.is_over = isinstance(event, BookingCancelled) and paid.kept == 0

    def _refund_asked(self, event: RefundRequested) -> None:
        payment = self.payments[event.payment_intent]
        if not payment.pays and not payment.is_confirmed:
            self.expected[event.booking_id] = payment.amount
        assert event.amount_minor <= payment.kept, "more goes back than the hotel has"
        payment.due += event.amount_minor
        booking = self.bookings.get(event.booking_id)
        payment.is_over = not payment.pays or booking is None or booking.state == "ended"
        payment.is_returned = payment.is_over
        if payment.is_over:
            payment.policy = max(payment.policy, payment.kept)
        target = event.amount_minor if event.total_minor is None else event.total_minor
        assert target <= payment.amount
        payment.target = max(payment.target, target)

    def _refund_failed(self, command: FailRefund) -> None:
        """Expect what goes back after a refund failed: the money that the hotel has now and may not keep."""
        booking, payment = self.bookings.get(command.booking_id), self.payments[command.payment_intent]
        if booking is None:
            return
        if not payment.pays or payment.is_returned:
            # All but the part of the policy is due to the guest, however much a person gave back of the other payments.
            self.expected[command.booking_id] = max(0, payment.kept - payment.policy)
        else:
            may_keep = booking.kept if booking.state == "ended" else booking.amount
            kept = sum(paid.kept for paid in self.of(command.booking_id))
            self.expected[command.booking_id] = max(0, kept - may_keep)

    def reported_refund(self, command: RecordRefund | FailRefund) -> None:
        """Note a report of a refund to the log."""
        payment = self.payments[command.payment_intent]
        if command.refund_id in payment.reported_failed:
            return
        if isinstance(command, RecordRefund):
            if command.refund_id not in payment.reported:
                payment.reported[command.refund_id] = (command.amount_minor, command.by_hand)
                payment.leaves(command.amount_minor, by_us=not command.by_hand)
            return
        payment.reported_failed.add(command.refund_id)
        amount, by_hand = payment.reported.pop(command.refund_id, (0, True))
        if not by_hand:
            # Another refund may have been made in its place before the log knew.
            again = max(0, amount - payment.ahead)
            payment.ahead -= amount - again
            payment.due = min(payment.due + again, max(0, payment.reported_left - payment.closed - payment.policy))

    def reported_dispute(self, command: RecordDispute) -> None:
        """Note a report of a lost dispute to the log, once."""
        payment = self.payments[command.payment_intent]
        if command.dispute_id not in payment.reported_disputes:
            payment.reported_disputes.add(command.dispute_id)
            payment.reported_lost += command.amount_minor
            payment.leaves(command.amount_minor)

    def must_be_accepted(self, command: ConfirmPayment, deadline: datetime | None, now: datetime) -> bool:
        """Return whether the payment is the right one, in time, for a booking or a change that waits for it."""
        booking = self.bookings.get(command.booking_id)
        if booking is None or deadline is None or now >= deadline or self.payments[command.payment_intent].is_confirmed:
            return False
        if booking.change is not None:
            return command.attempt == booking.attempt and command.amount_minor == booking.change[2]
        return booking.state == "unpaid" and command.amount_minor == booking.amount
