"""Any sequence of all commands of money: a bookkeeper who knows facts of money alone finds every cent where it belongs.

Stripe is played here too: sessions, payments, refunds that succeed and fail, refunds by hand, disputes. The log gets
reports of them late, twice and in any order. After every command the core's sums are those of the bookkeeper; no refund
is of more than is there, and none takes what the policy keeps; at the end nothing is due and each payment is explained.

Payments itself computes the amounts that it sends, from the ledger and from the refunds at Stripe.
"""

# ruff: noqa: FBT001 - The rules' names are sentences; Hypothesis passes them what it drew.

import sys
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from storage.payments import LostDispute, RefundRow, RefundSeen
from tests.support.scenario import Scenario
from tests.workers.decisions.bookkeeper import HOTEL, ROOM, TIMES, Books, Payment, terms
from tests.workers.decisions.games import play
from topics.messages.commands import (
    AddGuests,
    BookingCommand,
    CancelBooking,
    ChangeInventory,
    ChangeStay,
    CheckIn,
    CheckOut,
    ClosePayment,
    CloseRefund,
    Command,
    ConfirmPayment,
    DeclinePayment,
    ExpireHold,
    FailRefund,
    MarkNoShow,
    OpenInventory,
    RecordDispute,
    RecordRefund,
    RecordSession,
    RequestPayment,
    ReserveStay,
    SetSaleTerms,
    WithdrawChange,
)
from topics.messages.events import (
    BookingConfirmed,
    CommandRepeated,
    Event,
    InventoryChanged,
    PaymentRequested,
    RefundRequested,
    SaleTermsChanged,
    StayChanged,
)
from topics.messages.values import CancelReason, DisputeResult, RefundClosing
from workers.decisions.states import IllegalTransition
from workers.payments.refunding import sums_of

DAYS = tuple(date(2026, 3, day) for day in range(8, 17))
GUEST = 11
MILLISECOND = timedelta(milliseconds=1)
NOBODYS = UUID(int=999)

#: A booking, counted from the last.
names = st.sampled_from((0, 0, 0, 0, 1, 1, 2))
stays = st.tuples(st.sampled_from(DAYS[1:6]), st.sampled_from((2, 1, 3, 4)), st.sampled_from((1, 1, 2)))
plans = st.sampled_from(("flexible", "flexible", "saver", "arrival", None))
shares = st.sampled_from((1, 2, 3, 7))


def has_bookings(till: "Till") -> bool:
    return bool(till.order)


def has_stays(till: "Till") -> bool:
    return any(booking.state == "sold" for booking in till.books.bookings.values())


def has_money(till: "Till") -> bool:
    return any(paid.left > 0 and not paid.disputed for paid in till.books.payments.values())


class Till(RuleBasedStateMachine):
    """One room type of a hotel, its guests, and Stripe."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books()
        self.scenario = Scenario()
        self.order: list[UUID] = []
        self.requested: list[PaymentRequested] = []
        self.sessions: dict[str, PaymentRequested] = {}
        self.mail: list[BookingCommand] = []
        self.count = 0
        self.price_changes = 0

    @initialize(price=st.sampled_from((100_00, 77_00)), has_terms=st.sampled_from((True, True, False)))
    def there_are_rooms(self, price: int, has_terms: bool) -> None:
        self.send(
            OpenInventory(
                room_id=ROOM,
                hotel_id=HOTEL,
                first_night=DAYS[0],
                end_night=DAYS[-1],
                total_count=3,
                price_minor=price,
                currency="EUR",
            )
        )
        self.books.prices = dict.fromkeys(DAYS[:-1], price)
        if has_terms:
            self.hotel_sets_terms(1)

    # Actions of the hotel.

    @precondition(lambda till: till.books.version < 2)
    @rule(version=st.sampled_from((1, 2)))
    def hotel_sets_terms(self, version: int) -> None:
        events = self.send(SetSaleTerms(room_id=ROOM, hotel_id=HOTEL, terms=terms(version)))
        if any(isinstance(event, SaleTermsChanged) for event in events):
            self.books.version = version

    @precondition(lambda till: till.price_changes < 4)
    @rule(first=st.sampled_from(DAYS[:6]), nights=st.sampled_from((1, 3)), price=st.sampled_from((133_00, 51_00)))
    def hotel_changes_prices(self, first: date, nights: int, price: int) -> None:
        self.price_changes += 1
        end = first + timedelta(days=nights)
        events = self.send(ChangeInventory(room_id=ROOM, first_night=first, end_night=end, price_minor=price))
        for event in events:
            if isinstance(event, InventoryChanged):
                self.books.prices |= dict.fromkeys(event.nights, price)

    @precondition(has_stays)
    @rule(back=names, kind=st.sampled_from((CheckIn, CheckOut, MarkNoShow)))
    def hotel_records_a_day_of_the_stay(self, back: int, kind: type[Any]) -> None:
        self.send(kind(**self.about(back, sold=True)))

    # Actions of guests.

    @rule(stay=stays, plan=plans, hold_seconds=st.sampled_from((900, 900, 60)))
    def guest_reserves(self, stay: tuple[date, int, int], plan: str | None, hold_seconds: int) -> None:
        first, nights, rooms = stay
        self.count += 1
        booking_id = UUID(int=self.count)
        self.send(
            ReserveStay(
                room_id=ROOM,
                booking_id=booking_id,
                user_id=GUEST,
                hotel_id=HOTEL,
                check_in=first,
                check_out=first + timedelta(days=nights),
                rooms_count=rooms,
                plan_id=plan,
                hold_seconds=hold_seconds,
                stay_times=TIMES,
            )
        )
        if booking_id in self.books.bookings:
            self.order.append(booking_id)

    @precondition(has_bookings)
    @rule(back=names)
    def guest_wants_to_pay(self, back: int) -> None:
        if self.order:
            self.send(AddGuests(**self.about(back), user_id=GUEST, guest_ids=(1,), guest_list_id=UUID(int=7)))
            self.send(RequestPayment(**self.about(back), user_id=GUEST))

    @rule(stay=stays, plan=plans)
    def guest_buys(self, stay: tuple[date, int, int], plan: str | None) -> None:
        self.guest_reserves(stay, plan, 900)
        if self.order:
            self.guest_wants_to_pay(0)
            self.guest_pays_what_is_asked()

    def guest_pays_what_is_asked(self) -> None:
        if self.requested:
            self.session_opens(is_refused=False)
            self.guest_pays(0, off=0, knows_attempt=True)
            self.mail_arrives(-1, again=False)

    @precondition(has_stays)
    @rule(
        back=names,
        stay=stays,
        by_hotel=st.sampled_from((False, False, True)),
        pays=st.sampled_from((True, True, False)),
        as_before=st.sampled_from((None, None, "dates", "rooms")),
    )
    def stay_changes(
        self, back: int, stay: tuple[date, int, int], by_hotel: bool, pays: bool, as_before: str | None
    ) -> None:
        about = self.about(back, sold=True)
        booking = self.scenario.bookings[about["booking_id"]]
        if any(isinstance(command, RecordRefund) and command.booking_id == booking.id for command in self.mail):
            return
        first, nights, rooms = stay
        end = first + timedelta(days=nights)
        if as_before == "dates":
            first, end = booking.check_in, booking.check_out
        if as_before == "rooms":
            first, rooms = booking.check_in, booking.rooms_count
            end = first + timedelta(days=nights)
        self.count += 1
        self.send(
            ChangeStay(
                **about,
                change_id=UUID(int=1_000 + self.count),
                user_id=None if by_hotel else GUEST,
                check_in=first,
                check_out=end,
                rooms_count=rooms,
                stay_times=TIMES,
            )
        )
        if pays:
            self.guest_pays_what_is_asked()

    @precondition(lambda till: any(b.pending_change for b in till.scenario.bookings.values()))
    @rule(back=names)
    def guest_withdraws_a_change(self, back: int) -> None:
        changing = [each for each in self.scenario.bookings.values() if each.pending_change is not None]
        booking = changing[back % len(changing)]
        assert booking.pending_change is not None
        about: dict[str, Any] = {"room_id": ROOM, "booking_id": booking.id}
        self.send(WithdrawChange(**about, change_id=booking.pending_change.id, user_id=GUEST))

    @precondition(has_bookings)
    @rule(back=names, by_hotel=st.sampled_from((False, False, True)))
    def booking_is_cancelled(self, back: int, by_hotel: bool) -> None:
        reason = CancelReason.BY_HOTEL if by_hotel else CancelReason.BY_GUEST
        user_id = None if by_hotel else GUEST
        self.send(CancelBooking(**self.about(back), user_id=user_id, reason=reason, stay_times=TIMES))

    # Actions of Stripe and banks.

    @precondition(lambda till: till.requested)
    @rule(is_refused=st.sampled_from((False, False, True)))
    def session_opens(self, is_refused: bool) -> None:
        asked = self.requested.pop()
        about: dict[str, Any] = {"room_id": ROOM, "booking_id": asked.booking_id}
        if is_refused:
            self.mail.append(DeclinePayment(**about, failure="session_refused"))
            return
        session_id = f"cs_{len(self.sessions)}_{asked.booking_id.int}_{asked.attempt}"
        self.sessions[session_id] = asked
        self.send(RecordSession(**about, attempt=asked.attempt, session_id=session_id))

    @precondition(lambda till: till.sessions)
    @rule(back=names, off=st.sampled_from((0, 0, 0, 0, 1, -1)), knows_attempt=st.booleans())
    def guest_pays(self, back: int, off: int, knows_attempt: bool) -> None:
        """A guest pays a session that is open; `off`: a payment of another amount names it too."""
        if back >= len(self.sessions):
            return
        session_id, asked = list(self.sessions.items())[-1 - back]
        if not off:
            del self.sessions[session_id]
        self.receive(asked.booking_id, session_id, asked.attempt if knows_attempt else None, asked.amount_minor + off)

    @precondition(lambda till: not till.books.payments)
    @rule(amount_minor=st.sampled_from((100_00, 1)))
    def somebody_pays_for_no_booking(self, amount_minor: int) -> None:
        self.receive(NOBODYS, "cs_nobody", None, amount_minor)

    def receive(self, booking_id: UUID, session_id: str, attempt: int | None, amount: int) -> None:
        intent = f"pi_{len(self.books.payments)}"
        paid = Payment(intent, booking_id, amount)
        self.books.payments[intent] = paid
        self.mail.append(
            ConfirmPayment(
                room_id=ROOM,
                booking_id=booking_id,
                session_id=session_id,
                payment_intent=intent,
                amount_minor=amount,
                currency="EUR",
                attempt=attempt,
            )
        )

    @precondition(lambda till: till.sessions)
    @rule(back=names)
    def session_is_closed(self, back: int) -> None:
        if back < len(self.sessions):
            session_id, asked = list(self.sessions.items())[-1 - back]
            del self.sessions[session_id]
            self.mail.append(ClosePayment(room_id=ROOM, booking_id=asked.booking_id, session_id=session_id))

    @precondition(lambda till: till.sessions)
    @rule(back=names)
    def card_is_declined(self, back: int) -> None:
        self.mail.append(DeclinePayment(**self.about(back), failure="card_declined"))

    @precondition(lambda till: any(till.rest(paid) for paid in till.books.payments.values()))
    @rule(number=st.integers(0, 8))
    def payments_makes_a_refund(self, number: int) -> None:
        due = [paid for paid in self.books.payments.values() if self.rest(paid) and not paid.disputed]
        if due:
            self.refund(due[number % len(due)])

    def rest(self, paid: Payment) -> int:
        """Return the amount that payments would send now; Stripe sends no more than it has."""
        booking = self.scenario.bookings.get(paid.booking_id)
        known = None if booking is None else booking.payment(paid.intent)
        row = RefundRow(
            status="creating",
            idempotency_key="",
            refusals=0,
            target_minor=paid.target,
            seen=(
                *(RefundSeen(id, amount, "succeeded", hand) for id, (amount, hand) in paid.refunds.items()),
                *(RefundSeen(id, amount, "failed", hand) for id, (amount, hand) in paid.failed.items()),
            ),
            lost=tuple(LostDispute(id, amount) for id, amount in paid.lost.items()),
            ledger=None if known is None else msgspec.to_builtins(known),
        )
        return min(sums_of(row).rest_minor, paid.left)

    def refund(self, paid: Payment) -> None:
        """Payments sends all that is due of a payment and not gone yet; all reports of it came, or some are late."""
        amount = self.rest(paid)
        is_known = all(getattr(command, "payment_intent", "") != paid.intent for command in self.mail)
        # The log knows no sums of a payment whose booking does not exist.
        if is_known and paid.booking_id in self.books.bookings:
            assert amount == paid.due, "payments sends another amount than what is due"
        self.refunded(paid, amount, by_hand=False, cancel_if_full=False)

    @precondition(has_money)
    @rule(number=st.integers(0, 8), share=shares, cancel_if_full=st.booleans())
    def person_refunds_by_hand(self, number: int, share: int, cancel_if_full: bool) -> None:
        there = [paid for paid in self.books.payments.values() if paid.left > 0 and not paid.disputed]
        if there:
            paid = there[number % len(there)]
            self.refunded(paid, max(1, paid.left // share), by_hand=True, cancel_if_full=cancel_if_full)

    def refunded(self, paid: Payment, amount: int, *, by_hand: bool, cancel_if_full: bool) -> None:
        assert 0 < amount <= paid.left, "more went back than there was"
        self.count += 1
        refund_id = f"re_{self.count}"
        paid.refunds[refund_id] = (amount, by_hand)
        self.mail.append(
            RecordRefund(
                room_id=ROOM,
                booking_id=paid.booking_id,
                payment_intent=paid.intent,
                refund_id=refund_id,
                amount_minor=amount,
                by_hand=by_hand,
                cancel_if_full=cancel_if_full,
            )
        )

    @precondition(lambda till: any(paid.refunds for paid in till.books.payments.values()))
    @rule(number=st.integers(0, 8))
    def refund_fails_after_all(self, number: int) -> None:
        made = [(paid, refund_id) for paid in self.books.payments.values() for refund_id in paid.refunds]
        if not made:
            return
        paid, refund_id = made[number % len(made)]
        amount, by_hand = paid.failed[refund_id] = paid.refunds.pop(refund_id)
        self.mail.append(
            FailRefund(
                room_id=ROOM,
                booking_id=paid.booking_id,
                payment_intent=paid.intent,
                refund_id=refund_id,
                amount_minor=amount,
                failure="unknown",
                by_hand=by_hand,
            )
        )

    @precondition(lambda till: any(paid.due for paid in till.books.payments.values()))
    @rule(number=st.integers(0, 8))
    def operator_closes_a_refund(self, number: int) -> None:
        due = [paid for paid in self.books.payments.values() if paid.due and paid.booking_id in self.scenario.bookings]
        if due:
            paid = due[number % len(due)]
            about: dict[str, Any] = {"room_id": ROOM, "booking_id": paid.booking_id, "payment_intent": paid.intent}
            self.send(CloseRefund(**about, reason=RefundClosing.PAID_OTHERWISE))

    @precondition(has_money)
    @rule(number=st.integers(0, 8), share=shares)
    def cardholder_disputes(self, number: int, share: int) -> None:
        there = [paid for paid in self.books.payments.values() if paid.left > 0 and not paid.disputed]
        if there:
            paid = there[number % len(there)]
            self.count += 1
            paid.disputed = (f"dp_{self.count}", max(1, paid.left // share))
            self.mail.append(self.dispute(paid, None))

    @precondition(lambda till: any(paid.disputed for paid in till.books.payments.values()))
    @rule(number=st.integers(0, 8), result=st.sampled_from(list(DisputeResult)))
    def bank_decides(self, number: int, result: DisputeResult) -> None:
        disputed = [paid for paid in self.books.payments.values() if paid.disputed]
        if disputed:
            self.decide_dispute(disputed[number % len(disputed)], result)

    def decide_dispute(self, paid: Payment, result: DisputeResult) -> None:
        assert paid.disputed is not None
        self.mail.append(self.dispute(paid, result))
        if result is DisputeResult.LOST:
            paid.lost[paid.disputed[0]] = paid.disputed[1]
        paid.disputed = None

    def dispute(self, paid: Payment, result: DisputeResult | None) -> RecordDispute:
        assert paid.disputed is not None
        return RecordDispute(
            room_id=ROOM,
            booking_id=paid.booking_id,
            payment_intent=paid.intent,
            dispute_id=paid.disputed[0],
            amount_minor=paid.disputed[1],
            reason="fraudulent",
            result=result,
        )

    # Time and mail.

    @precondition(lambda till: till.mail)
    @rule(at=st.sampled_from((-1, -1, 0, 1, 2)), again=st.sampled_from((False, False, True)))
    def mail_arrives(self, at: int, again: bool) -> None:
        """The log gets a report of Stripe's; one about a payment comes after the payment itself."""
        if not self.mail:
            return
        at %= len(self.mail)
        command = self.mail[at]
        known = self.books.payments.get(getattr(command, "payment_intent", ""))
        if known is not None and not known.is_confirmed and not isinstance(command, ConfirmPayment):
            return
        if not again:
            del self.mail[at]
        self.send(command)

    @precondition(has_bookings)
    @rule(back=names)
    def timer_ends_a_hold(self, back: int) -> None:
        self.send(ExpireHold(**self.about(back)))

    @precondition(has_bookings)
    @rule(minutes=st.sampled_from((1, 14, 15, 60, 600)))
    def time_passes(self, minutes: int) -> None:
        self.scenario.now += timedelta(minutes=minutes)

    @precondition(has_stays)
    @rule(
        back=names,
        hours=st.sampled_from((-72, -24, 0, -72, -24, 9, 24, 34, 200)),
        milliseconds=st.sampled_from((-1, 0)),
        act=st.sampled_from((None, "guest", "guest", "hotel", "change", CheckIn, CheckOut, MarkNoShow)),
    )
    def clock_shows(self, back: int, hours: int, milliseconds: int, act: Any) -> None:
        """An instant comes at which the policy of a booking changes, and then something is done."""
        stay = self.books.bookings[self.named(back, sold=True)].stay
        self.scenario.now = max(self.scenario.now, stay.arrival + timedelta(hours=hours, milliseconds=milliseconds))
        if act in ("guest", "hotel"):
            self.booking_is_cancelled(back, act == "hotel")
        elif act == "change":
            self.stay_changes(back, (min(stay.nights), 1, 1), by_hotel=False, pays=False, as_before=None)
        elif act is not None:
            self.hotel_records_a_day_of_the_stay(back, act)

    # The books.

    def named(self, back: int, *, sold: bool = False) -> UUID:
        """Return a booking, counted from the last; `sold`: of those that are sold, if there are any."""
        some = [id for id in self.order if self.books.bookings[id].state == "sold"] if sold else []
        found = some or self.order
        return found[-1 - min(back, len(found) - 1)]

    def about(self, back: int, *, sold: bool = False) -> dict[str, Any]:
        return {"room_id": ROOM, "booking_id": self.named(back, sold=sold)}

    def send(self, command: Command) -> Sequence[Event]:
        """Let the core decide a command, and the bookkeeper follow."""
        booking = self.scenario.bookings.get(getattr(command, "booking_id", NOBODYS))
        deadline = None if booking is None else booking.hold_expires_at
        must = isinstance(command, ConfirmPayment) and self.books.must_be_accepted(command, deadline, self.scenario.now)
        if isinstance(command, RecordRefund | FailRefund):
            self.books.reported_refund(command)
        events = self.scenario.when(command).answer
        self.requested += [event for event in events if isinstance(event, PaymentRequested)]
        if isinstance(command, RecordDispute) and command.result is DisputeResult.LOST:
            self.books.reported_dispute(command)
        self.books.follow(command, events, self.scenario.now)
        if isinstance(command, ConfirmPayment):
            self.confirmed(command, events, must=must)
        return events

    def confirmed(self, command: ConfirmPayment, events: Sequence[Event], *, must: bool) -> None:
        """A payment buys a stay or a change, or goes back; or it is known."""
        paid = self.books.payments[command.payment_intent]
        answers = [event for event in events if isinstance(event, BookingConfirmed | StayChanged | RefundRequested)]
        if paid.is_confirmed:
            # The room of a booking that does not exist remembers nothing: it asks for the same refund again.
            assert not answers or paid.booking_id == NOBODYS
            assert answers or any(isinstance(event, CommandRepeated) for event in events)
            return
        paid.is_confirmed = True
        assert len(answers) == 1
        assert not must or paid.pays, f"a payment in time was refused: {answers}"

    @invariant()
    def every_sum_of_the_core_is_the_bookkeepers(self) -> None:
        for booking in self.scenario.bookings.values():
            for payment in booking.payments:
                paid = self.books.payments[payment.payment_intent]
                assert payment.amount_minor == paid.amount
                parts = (payment.refunded_minor, payment.lost_minor, payment.due_minor, payment.closed_minor)
                if payment.refunded_minor + payment.lost_minor <= paid.amount:
                    assert sum(parts) + payment.retained_minor + payment.kept_minor == paid.amount
                assert payment.left_minor == paid.reported_left
                assert payment.due_minor == paid.due, (payment, paid)
                assert payment.closed_minor == paid.closed, (payment, paid)

    def teardown(self) -> None:
        """Let Stripe and the log settle: then nothing is due, and the hotel has no more than it may keep."""
        while self.mail or any(paid.disputed or self.rest(paid) for paid in self.books.payments.values()):
            self.mail.sort(key=lambda command: not isinstance(command, ConfirmPayment))
            for command in self.mail:
                self.send(command)
            self.mail = []
            for paid in self.books.payments.values():
                if paid.disputed:
                    self.decide_dispute(paid, DisputeResult.WON)
                elif self.rest(paid):
                    self.refund(paid)
        self.every_sum_of_the_core_is_the_bookkeepers()
        for paid in self.books.payments.values():
            assert paid.is_confirmed
            if paid.booking_id not in self.books.bookings:
                assert paid.left == 0
                continue
            assert paid.due == 0, f"nobody sends what is due of {paid}"
            assert paid.left == paid.kept + paid.closed
            assert paid.pays or paid.kept == 0, f"nobody explains {paid}"
        for booking_id, booking in self.books.bookings.items():
            kept = sum(paid.kept for paid in self.books.of(booking_id))
            assert kept <= (booking.kept if booking.state == "ended" else booking.amount)
            assert booking.state in {"sold", "ended"} or kept == 0


def test_every_cent_is_where_the_bookkeeper_expects_it() -> None:
    play(Till, 60)


@pytest.mark.parametrize("plan", ["flexible", "saver", "arrival"])
def test_a_room_that_is_added_costs_todays_price_in_the_nights_that_others_keep(plan: str) -> None:
    till = Till()
    till.there_are_rooms(price=77_00, has_terms=True)
    till.guest_buys((DAYS[1], 2, 1), plan)
    for rooms in (2, 1, 2, 1, 2):
        till.hotel_changes_prices(DAYS[0], 3, 133_00)
        till.hotel_changes_prices(DAYS[2], 1, 51_00)
        till.stay_changes(0, (DAYS[1], 2, rooms), by_hotel=True, pays=True, as_before=None)
        till.every_sum_of_the_core_is_the_bookkeepers()
    assert len(till.scenario.bookings[till.order[0]].earlier_stays) == 5
    till.teardown()


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=lambda order: "-".join(map(str, order)))
def test_a_part_that_is_sent_twice_because_it_failed_once_is_not_due_again(order: Sequence[int]) -> None:
    till = Till()
    till.there_are_rooms(price=100_00, has_terms=True)
    till.guest_buys((DAYS[1], 2, 1), "flexible")
    till.stay_changes(0, (DAYS[1], 1, 1), by_hotel=False, pays=False, as_before=None)
    till.payments_makes_a_refund(0)
    till.refund_fails_after_all(0)
    till.payments_makes_a_refund(0)
    till.mail = [till.mail[number] for number in order]
    while till.mail:
        till.mail_arrives(0, again=False)
        till.every_sum_of_the_core_is_the_bookkeepers()
    [payment] = till.scenario.bookings[till.order[0]].payments
    assert (payment.refunded_minor, payment.due_minor, payment.kept_minor) == (110_00, 0, 110_00)
    till.teardown()


@pytest.mark.long
def test_every_cent_is_where_the_bookkeeper_expects_it_in_many_games() -> None:
    play(Till, 3_000, fixed=False)


# The teeth: each of these breaks one rule about money, and is found out.


def core(name: str) -> Any:
    return sys.modules[f"workers.decisions.{name}"]


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        ("changes", "part_refunded", lambda right: lambda booking, amount: right(booking, amount + 1)),
        ("changes", "part_refunded", lambda right: lambda booking, amount: ()),
        ("booking", "refund_but", lambda right: lambda booking, kept, reason: right(booking, 0, reason)),
        ("payment", "_is_of_present_attempt", lambda right: lambda booking, command: False),
        ("changes", "cost_of_cancelling", lambda right: lambda *_: None),
    ],
    ids=[
        "a cent more goes back",
        "nothing goes back when a stay becomes cheaper",
        "a policy keeps nothing",
        "a change that was paid is refunded",
        "a change costs nothing",
    ],
)
def test_a_core_that_loses_or_makes_money_is_noticed(
    module: str, name: str, wrong: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core(module), name, wrong(getattr(core(module), name)))
    with pytest.raises((AssertionError, IllegalTransition, LookupError)):
        play(Till, 250, phases=[Phase.generate])
