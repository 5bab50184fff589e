"""Anything that guests, managers, Stripe and the clock may do, in any order: the core and the clerk agree.

And the comparison has teeth: a core with one rule broken is found out.
"""

# ruff: noqa: FBT001 - The rules' names are sentences; Hypothesis passes them what it drew.

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
import pytest
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.scenario import Happened, Scenario, recorded
from tests.workers.decisions.brute_force import Clerk, status_of
from tests.workers.decisions.clerk_at_hotel import AHEAD
from tests.workers.decisions.clerk_of_sales import OFFERS
from tests.workers.decisions.games import play
from tests.workers.decisions.words import ANOTHER_LIST, LIST, TIMES, but
from topics.messages.commands import (
    AddGuests,
    BlockNights,
    BookingCommand,
    CancelBooking,
    ChangeGuests,
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
    ReleaseBlock,
    RequestPayment,
    ReserveStay,
    SetSaleTerms,
    WithdrawChange,
)
from topics.messages.events import (
    ChangeRejected,
    CommandRefused,
    CommandRepeated,
    Event,
    InventoryChanged,
    InventoryUnchanged,
    RefundRequested,
)
from topics.messages.sale import Discount, Party, Quoted, QuotedChange, Sale, SaleTerms
from topics.messages.values import (
    BlockReason,
    CancelReason,
    DisputeResult,
    HotelReason,
    RefundClosing,
    Rejection,
    StayTimes,
    Terms,
)
from workers.decisions import Booking, Night, Payment, PaymentState, State, decide
from workers.decisions.states import IllegalTransition

ROOMS = (7, 8)
ONE_DAY = timedelta(days=1)
MILLISECOND = timedelta(milliseconds=1)
DAYS = tuple(date(2026, 3, day) for day in range(9, 16))

UNPAID = ("RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING")
#: From the design, by hand: (status before, status after). The same status again is no move.
LEGAL = {
    (None, "RESERVED"),
    (None, "REJECTED"),
    ("RESERVED", "GUESTS_ADDED"),
    ("GUESTS_ADDED", "PAYMENTS_PENDING"),
    ("EXPIRED", "CONFIRMED"),
    ("CONFIRMED", "CANCELLED"),
    ("CONFIRMED", "CHECKED_IN"),
    ("CHECKED_IN", "CHECKED_OUT"),
    ("CHECKED_IN", "CANCELLED"),
    ("CONFIRMED", "NO_SHOW"),
    *((unpaid, end) for unpaid in UNPAID for end in ("CONFIRMED", "CANCELLED", "EXPIRED")),
}

rooms = st.sampled_from(ROOMS)
days = st.sampled_from(DAYS)
#: Times of hotels whose zones are far apart; None: a booking of a writer that names none.
hotel_times = st.sampled_from(
    (TIMES, None, StayTimes(time_zone="Asia/Kolkata", check_in_time=time(14), check_out_time=time(10, 30)))
)
#: An account that makes several bookings.
REGULAR = 77
#: Discounts of promo codes whose use was granted.
THIRD_OFF = Discount(code_id=31, code="THIRD", percent_milli=33_333)
SOME_OFF = Discount(code_id=32, code="SOME", amount_minor=123_45, currency="EUR")
CODES = (THIRD_OFF, SOME_OFF, msgspec.structs.replace(SOME_OFF, currency="USD"))


class Named(NamedTuple):
    """The booking that a command names: counted from the last; maybe with the wrong room, or another user."""

    back: int
    astray: bool = False
    stranger: bool = False


#: Most commands are about bookings that were made lately; some are wrong, as seldom as it takes to draw once.
names = st.sampled_from(
    (
        *(Named(back) for back in (0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 9, 12)),
        *(Named(back, astray=True) for back in (0, 0, 1, 2)),
        *(Named(back, stranger=True) for back in (0, 1)),
        Named(-1),
    )
)


def plain(event: Event) -> dict[str, Any]:
    """Return an event in the shape of the clerk's."""
    return {"message_type": event.message_type, **msgspec.to_builtins(event, builtin_types=(date, datetime, UUID))}


class Hotel(RuleBasedStateMachine):
    """Two rooms over a week, as many bookings as come, and the log's time, which never goes back."""

    def __init__(self) -> None:
        super().__init__()
        self.clerk = Clerk()
        self.scenario = Scenario()
        self.sent: list[Command] = []

    @initialize(total_count=st.integers(1, 2), surge_milli=st.sampled_from((1500, 1000, 1499)))
    def there_are_rooms(self, total_count: int, surge_milli: int) -> None:
        for room_id in ROOMS:
            self.send(self.opening(room_id, DAYS[1], DAYS[-2], total_count, 100_03))
            self.change_nights(room_id, DAYS[1], 4, ("surge_milli", surge_milli))

    def opening(self, room_id: int, first: date, end: date, total_count: int, price_minor: int) -> OpenInventory:
        return OpenInventory(
            room_id=room_id,
            hotel_id=1,
            first_night=first,
            end_night=end,
            total_count=total_count,
            price_minor=price_minor,
            currency="EUR",
        )

    # Actions

    @rule(
        room_id=rooms,
        first=days,
        nights=st.sampled_from((1, 2, 3, 0, -1)),
        total_count=st.sampled_from((2, 1, 0, 3, -1)),
        price_minor=st.sampled_from((100_03, 333, 0, -1)),
    )
    def open_nights(self, room_id: int, first: date, nights: int, total_count: int, price_minor: int) -> None:
        self.send(self.opening(room_id, first, first + timedelta(days=nights), total_count, price_minor))

    @rule(
        room_id=rooms,
        first=days,
        nights=st.sampled_from((4, 3, 2, 1, 0)),
        value=st.one_of(
            st.tuples(st.just("total_count"), st.integers(-1, 4)),
            st.tuples(st.just("price_minor"), st.sampled_from((333, 90_00, 1, 0, -1))),
            st.tuples(st.just("surge_milli"), st.sampled_from((1499, 1500, 500, 1000, 1, 0, 10_001))),
            st.tuples(st.just("closed"), st.sampled_from((False, True))),
            st.tuples(st.just("allowance_count"), st.sampled_from((1, 0, 2, -1))),
        ),
    )
    def change_nights(self, room_id: int, first: date, nights: int, value: tuple[str, Any]) -> None:
        end = first + timedelta(days=nights)
        self.send(ChangeInventory(room_id=room_id, first_night=first, end_night=end, **dict([value])))

    @rule(room_id=rooms, first=days, total_count=st.sampled_from((0, 1, 2)), closed=st.sampled_from((None, None, True)))
    def change_all_nights_or_none(self, room_id: int, first: date, total_count: int, closed: bool | None) -> None:
        self.send(
            ChangeInventory(
                room_id=room_id,
                first_night=first,
                end_night=DAYS[-1],
                total_count=total_count,
                closed=closed,
                all_or_none=True,
            )
        )

    @rule(
        room_id=rooms,
        first=st.sampled_from(DAYS[1:-2]),
        nights=st.sampled_from((2, 1, 3, 4, 0, -1)),
        wish=st.sampled_from(
            (
                {},
                {"rooms_count": 2},
                {"hold_seconds": 1},
                {"terms": Terms.AT_HOTEL},
                {"terms": Terms.AT_HOTEL, "agreed_nightly_minor": 70_01},
                {"agreed_nightly_minor": 0},
                {"agreed_nightly_minor": -1},
                {"rooms_count": 3},
                {"rooms_count": 0},
                {"hotel_id": 2},
                {"user_id": REGULAR, "account_share_percent": 50},
                {"user_id": REGULAR, "account_share_percent": 50, "terms": Terms.AT_HOTEL},
                {"user_id": REGULAR, "account_share_percent": 67, "rooms_count": 2},
                {"user_id": None, "account_share_percent": 0, "rooms_count": 2},
                {"agreed_nightly_minor": 24},
                {"agreed_nightly_minor": 49_999_999},
                {"agreed_nightly_minor": 50_000_000},
                {"agreed_nightly_minor": 2**63 - 1, "terms": Terms.AT_HOTEL},
            )
        ),
        stay_times=hotel_times,
    )
    def reserve(
        self, room_id: int, first: date, nights: int, wish: dict[str, Any], stay_times: StayTimes | None
    ) -> None:
        booking_id = UUID(int=len(self.clerk.sheets) + 1)
        end = first + timedelta(days=nights)
        about = {"room_id": room_id, "booking_id": booking_id, "user_id": self.guest(booking_id), "hotel_id": 1}
        # Every second guest's program sends an Idempotency-Key.
        about["request_hash"] = "its own" if booking_id.int % 2 else None
        self.send(ReserveStay(**{**about, "check_in": first, "check_out": end, "stay_times": stay_times, **wish}))

    @rule(room_id=rooms, terms=st.sampled_from((*OFFERS[:2], *OFFERS)), version=st.sampled_from((2, 1, 3, 4)))
    def set_terms(self, room_id: int, terms: SaleTerms, version: int) -> None:
        changed = msgspec.structs.replace(terms, version=version)
        self.send(SetSaleTerms(room_id=room_id, hotel_id=1, terms=changed))

    @rule(
        room_id=rooms,
        stay=st.tuples(st.sampled_from(DAYS[1:-2]), st.sampled_from((2, 1, 3))),
        plan_id=st.sampled_from((None, "standard", "strict", "saver", "unknown")),
        party=st.sampled_from(
            (
                None,
                Party(adults=1),
                Party(adults=3),
                Party(adults=2, child_ages=(1, 0)),
                Party(adults=1, child_ages=(12, 3, 17)),
                Party(adults=0, child_ages=(17,)),
                Party(adults=2**31 - 1),
            )
        ),
        rooms_count=st.sampled_from((1, 1, 2)),
    )
    def a_guest_chooses(
        self, room_id: int, stay: tuple[date, int], plan_id: str | None, party: Party | None, rooms_count: int
    ) -> None:
        wish = {"plan_id": plan_id, "party": party, "rooms_count": rooms_count}
        self.reserve(room_id, *stay, wish, TIMES)

    @rule(
        room_id=rooms,
        stay=st.tuples(st.sampled_from(DAYS[1:-2]), st.sampled_from((2, 1))),
        plan_id=st.sampled_from(("standard", "saver", "strict")),
        terms=st.sampled_from((None, None, *OFFERS[:3])),
        milliseconds=st.sampled_from((0, 60_000, 60_001)),
    )
    def a_guest_has_a_quote(
        self, room_id: int, stay: tuple[date, int], plan_id: str, terms: SaleTerms | None, milliseconds: int
    ) -> None:
        """A guest asks for a price that holds for a minute; nights and maybe terms change, and the guest reserves."""
        first, nights = stay
        quoted = self.quote(room_id, first, nights, plan_id)
        if quoted is None:
            return
        self.change_nights(room_id, first, nights, ("price_minor", 333_33))
        if terms is not None:
            self.set_terms(room_id, terms, self.clerk.terms.get(room_id, {"version": 0})["version"] + 1)
        self.scenario.now += timedelta(milliseconds=milliseconds)
        self.reserve(room_id, first, nights, {"quoted": quoted}, TIMES)

    @rule(
        room_id=rooms,
        stay=st.tuples(st.sampled_from(DAYS[1:-2]), st.sampled_from((2, 1, 3))),
        quoted=st.sampled_from((None, None, *CODES)),
        wish=st.sampled_from(
            (
                *({"discount": discount} for discount in CODES),
                {"discount": THIRD_OFF, "rooms_count": 2, "party": Party(adults=3)},
                {"code_rejection": Rejection.CODE_USED_UP},
                {"at_desk": True, "user_id": None, "guest_list_id": UUID(int=3), "accepted_terms": "2026"},
                {"at_desk": True, "user_id": None, "discount": THIRD_OFF, "plan_id": "saver"},
            )
        ),
    )
    def somebody_books_with_a_code_or_at_the_desk(
        self, room_id: int, stay: tuple[date, int], quoted: Discount | None, wish: dict[str, Any]
    ) -> None:
        """A use of a code was granted, or refused, for a price that was maybe quoted."""
        first, nights = stay
        if quoted is not None:
            # The token of a quote is that of one room and its people.
            wish = {name: value for name, value in wish.items() if name not in {"rooms_count", "party"}}
            wish["quoted"] = self.quote(room_id, first, nights, "standard", discount=quoted)
        self.reserve(room_id, first, nights, wish, TIMES)

    def quote(
        self, room_id: int, first: date, nights: int, plan_id: str, discount: Discount | None = None
    ) -> Quoted | None:
        """Return the clerk's price of a stay, if all its nights are there and its room has such a plan."""
        about: dict[str, Any] = {"room_id": room_id, "booking_id": UUID(int=0), "hotel_id": 1, "stay_times": TIMES}
        about |= {"plan_id": plan_id, "discount": discount}
        wish = ReserveStay(**about, check_in=first, check_out=first + timedelta(days=nights))
        price = self.clerk.quote(wish)
        if price is None:
            return None
        return Quoted(
            good_until=self.scenario.now + timedelta(minutes=1),
            terms=Terms(price["terms"]),
            sale=msgspec.convert(price["sale"], Sale),
            currency="EUR",
            amount_minor=price["cost"],
            night_amounts_minor=tuple(price["shares"]),
        )

    @rule(
        first=st.sampled_from(DAYS[1:-3]),
        room_id=rooms,
        when=st.tuples(st.sampled_from((48, 20, 0, 49)), st.sampled_from((0, -1))),
        share=st.sampled_from((None, 1, 2, 6)),
        stay_times=hotel_times,
    )
    def a_guest_cancels_at_a_step(
        self, first: date, room_id: int, when: tuple[int, int], share: int | None, stay_times: StayTimes | None
    ) -> None:
        """A guest pays, gets a part back by hand or not, and cancels when a step of the policy ends."""
        booking_id = self.buy_by_a_policy(first, room_id, stay_times)
        about: dict[str, Any] = {"room_id": room_id, "booking_id": booking_id}
        by_hand = {**about, "payment_intent": "pi_1", "refund_id": "re_9", "by_hand": True}
        amount_minor = 0 if share is None else self.part(about, "pi_1", share)
        if share is not None:
            self.send(RecordRefund(**by_hand, amount_minor=amount_minor))
        hours, milliseconds = when
        check_in = time(15) if stay_times is None else stay_times.check_in_time
        ahead = AHEAD["UTC" if stay_times is None else stay_times.time_zone]
        near = datetime.combine(first, check_in, UTC) - timedelta(hours=hours, minutes=ahead)
        self.scenario.now = max(self.scenario.now, near + timedelta(milliseconds=milliseconds))
        self.send(CancelBooking(**about, user_id=self.guest(booking_id), stay_times=stay_times))
        if share is not None and amount_minor > 0:
            self.send(FailRefund(**by_hand, amount_minor=amount_minor, failure="unknown"))

    def buy_by_a_policy(self, first: date, room_id: int, stay_times: StayTimes | None) -> UUID:
        """Let the room be sold by a policy, and a guest reserve and pay there."""
        self.set_terms(room_id, OFFERS[0], self.clerk.terms.get(room_id, {"version": 0})["version"] + 1)
        return self.come_so_far(first, room_id, 4, stay_times)

    @rule(
        first=st.sampled_from(DAYS[1:-3]),
        room_id=rooms,
        order=st.permutations(("refund", "goodwill", "dispute", "fails", "goodwill fails", "close")),
        share=st.sampled_from((2, 3, 1)),
    )
    def money_of_a_cancelled_stay_moves(self, first: date, room_id: int, order: Sequence[str], share: int) -> None:
        """A guest pays and cancels; money goes back, also by hand and by a dispute, in any order."""
        booking_id = self.buy_by_a_policy(first, room_id, TIMES)
        about: dict[str, Any] = {"room_id": room_id, "booking_id": booking_id}
        self.scenario.now = max(self.scenario.now, datetime.combine(first - ONE_DAY, time(), UTC))
        self.send(CancelBooking(**about, user_id=self.guest(booking_id)))
        about |= {"payment_intent": "pi_1"}
        money = self.clerk.sheets[booking_id]["money"].get("pi_1")
        if money is None:
            return
        due, part = max(1, money.due), max(1, money.amount // share)
        by_hand: dict[str, Any] = {**about, "refund_id": "re_7", "amount_minor": part, "by_hand": True}
        commands: dict[str, Command] = {
            "refund": RecordRefund(**about, refund_id="re_8", amount_minor=due),
            "goodwill": RecordRefund(**by_hand),
            "dispute": RecordDispute(
                **about, dispute_id="dp_9", amount_minor=part, reason="fraudulent", result=DisputeResult.LOST
            ),
            "fails": FailRefund(**about, refund_id="re_8", amount_minor=due, failure="unknown"),
            "goodwill fails": FailRefund(**by_hand, failure="unknown"),
            "close": CloseRefund(**about, reason=RefundClosing.NOT_POSSIBLE),
        }
        for name in order:
            self.send(commands[name])

    @rule(
        first=st.sampled_from(DAYS[1:-3]),
        room_id=rooms,
        total_count=st.sampled_from((5, 4, 6, 3)),
        wishes=st.lists(st.sampled_from((2, 1, 3)), min_size=1, max_size=3),
    )
    def an_account_takes_many_rooms(self, first: date, room_id: int, total_count: int, wishes: list[int]) -> None:
        """A night has more rooms than elsewhere here, and one account reserves several times."""
        self.change_nights(room_id, first, 1, ("total_count", total_count))
        for rooms_count in wishes:
            wish = {"user_id": REGULAR, "account_share_percent": 50, "rooms_count": rooms_count}
            self.reserve(room_id, first, 1, wish, TIMES)

    @rule(first=st.sampled_from(DAYS[1:-3]), room_id=rooms, steps=st.integers(0, 5), stay_times=hotel_times)
    def a_guest_comes_so_far(self, first: date, room_id: int, steps: int, stay_times: StayTimes | None) -> None:
        self.come_so_far(first, room_id, steps, stay_times)

    def come_so_far(self, first: date, room_id: int, steps: int, stay_times: StayTimes | None = TIMES) -> UUID:
        """Reserve, and then name the guests, ask to pay, get the session, pay, call off: the first so many of these."""
        booking_id = UUID(int=len(self.clerk.sheets) + 1)
        about: dict[str, Any] = {"room_id": room_id, "booking_id": booking_id}
        by_guest = {**about, "user_id": self.guest(booking_id)}
        end = first + 2 * ONE_DAY
        self.send(ReserveStay(**by_guest, hotel_id=1, check_in=first, check_out=end, stay_times=stay_times))
        for command in (
            AddGuests(**by_guest, guest_ids=(1, 2), guest_list_id=LIST),
            RequestPayment(**by_guest),
            RecordSession(**about, attempt=1, session_id="cs_1"),
            self.money(about, "pi_1"),
            CancelBooking(**by_guest),
        )[:steps]:
            self.send(command)
        return booking_id

    @rule(
        first=st.sampled_from(DAYS[1:-3]),
        room_id=rooms,
        steps=st.integers(0, 3),
        milliseconds=st.sampled_from((0, -1, 1)),
        another_comes=st.booleans(),
    )
    def a_guest_pays_about_the_deadline(
        self, first: date, room_id: int, steps: int, milliseconds: int, another_comes: bool
    ) -> None:
        booking_id = self.come_so_far(first, room_id, steps)
        deadline = self.clerk.sheets[booking_id]["until"]
        if deadline is None:
            return
        self.scenario.now = max(self.scenario.now, deadline + timedelta(milliseconds=milliseconds))
        about: dict[str, Any] = {"room_id": room_id, "booking_id": booking_id}
        if another_comes:
            self.send(ExpireHold(**about))
            self.come_so_far(first, room_id, steps)
        self.send(self.money(about, "pi_1"))

    @rule(
        first=st.sampled_from(DAYS[1:-3]),
        room_id=rooms,
        stay_times=hotel_times,
        when=st.tuples(st.sampled_from((1, 0, 2)), st.sampled_from((0, -1))),
        by_hand=st.booleans(),
    )
    def a_stay_ends_while_it_lasts(
        self, first: date, room_id: int, stay_times: StayTimes | None, when: tuple[int, int], by_hand: bool
    ) -> None:
        """A guest pays, a day of the stay begins at the hotel, and the hotel cancels or refunds all by hand."""
        booking_id = self.come_so_far(first, room_id, 4, stay_times)
        about: dict[str, Any] = {"room_id": room_id, "booking_id": booking_id}
        self.send(self.money(about, "pi_1"))
        ahead = AHEAD["UTC" if stay_times is None else stay_times.time_zone]
        days, milliseconds = when
        midnight = datetime.combine(first + days * ONE_DAY, time(0), UTC) - timedelta(minutes=ahead)
        self.scenario.now = max(self.scenario.now, midnight + timedelta(milliseconds=milliseconds))
        amount_minor = self.part(about, "pi_1", 1)
        refund = RecordRefund(
            **about,
            payment_intent="pi_1",
            refund_id="re_1",
            amount_minor=amount_minor,
            by_hand=True,
            cancel_if_full=True,
        )
        self.send(refund if by_hand else CancelBooking(**about, reason=CancelReason.BY_HOTEL))

    @rule(
        named=names,
        room_id=rooms,
        request_hash=st.sampled_from((None, "its own", "another")),
        discount=st.sampled_from((None, THIRD_OFF)),
    )
    def an_id_is_used_again(
        self, named: Named, room_id: int, request_hash: str | None, discount: Discount | None
    ) -> None:
        about = self.about(named)
        stay: dict[str, Any] = {"hotel_id": 1, "check_in": DAYS[1], "check_out": DAYS[2]}
        self.send(ReserveStay(**about, **stay, request_hash=request_hash, discount=discount))

    @rule(
        named=names,
        guest_ids=st.sampled_from(((1,), (1, 2), (2, 1), (3, 3), ())),
        guest_list_id=st.sampled_from((LIST, ANOTHER_LIST, None)),
    )
    def add_guests(self, named: Named, guest_ids: tuple[int, ...], guest_list_id: UUID | None) -> None:
        about = self.about(named)
        user_id = self.guest(about["booking_id"], stranger=named.stranger)
        self.send(AddGuests(**about, user_id=user_id, guest_ids=guest_ids, guest_list_id=guest_list_id))

    @rule(
        named=names,
        guest_ids=st.sampled_from(((1,), (2, 1), ())),
        guest_list_id=st.sampled_from((ANOTHER_LIST, LIST)),
        stay_times=hotel_times,
    )
    def change_guests(
        self, named: Named, guest_ids: tuple[int, ...], guest_list_id: UUID, stay_times: StayTimes | None
    ) -> None:
        about = self.about(named)
        user_id = self.guest(about["booking_id"], stranger=named.stranger)
        self.send(
            ChangeGuests(
                **about, user_id=user_id, guest_ids=guest_ids, guest_list_id=guest_list_id, stay_times=stay_times
            )
        )

    @rule(named=names)
    def request_payment(self, named: Named) -> None:
        about = self.about(named)
        user_id = self.guest(about["booking_id"], stranger=named.stranger)
        self.send(RequestPayment(**about, user_id=user_id))

    @rule(
        named=names,
        attempt=st.sampled_from((1, 1, 1, 2)),
        session_id=st.sampled_from(("cs_1", "cs_1", "cs_2")),
    )
    def record_session(self, named: Named, attempt: int, session_id: str) -> None:
        self.send(RecordSession(**self.about(named), attempt=attempt, session_id=session_id))

    @rule(
        named=names,
        payment_intent=st.sampled_from(("pi_1", "pi_1", "pi_2", "pi_3")),
        wrong=st.sampled_from((*[(0, "EUR")] * 7, (1, "EUR"), (-1, "EUR"), (0, "USD"))),
    )
    def money_arrives(self, named: Named, payment_intent: str, wrong: tuple[int, str]) -> None:
        self.send(self.money(self.about(named), payment_intent, *wrong))

    def money(
        self, about: dict[str, Any], payment_intent: str, too_much: int = 0, currency: str = "EUR"
    ) -> ConfirmPayment:
        due = self.clerk.sheets.get(about["booking_id"], {"cost": 100})["cost"]
        return ConfirmPayment(
            **about,
            session_id="cs_1",
            payment_intent=payment_intent,
            amount_minor=max(0, due + too_much),
            currency=currency,
        )

    @rule(named=names, failure=st.sampled_from(("card_declined", "expired_card")))
    def decline(self, named: Named, failure: str) -> None:
        self.send(DeclinePayment(**self.about(named), failure=failure))

    @rule(named=names, session_id=st.sampled_from(("cs_1", "cs_1", "cs_2")))
    def close(self, named: Named, session_id: str) -> None:
        self.send(ClosePayment(**self.about(named), session_id=session_id))

    @rule(
        named=names,
        hotel_reason=st.sampled_from((None, HotelReason.OTHER)),
        stay_times=hotel_times,
    )
    def cancel(self, named: Named, hotel_reason: HotelReason | None, stay_times: StayTimes | None) -> None:
        about = self.about(named)
        by_hotel = hotel_reason is not None
        self.send(
            CancelBooking(
                **about,
                user_id=None if by_hotel else self.guest(about["booking_id"], stranger=named.stranger),
                reason=CancelReason.BY_HOTEL if by_hotel else CancelReason.BY_GUEST,
                hotel_reason=hotel_reason,
                stay_times=stay_times,
            )
        )

    @rule(named=names, kind=st.sampled_from((CheckIn, CheckIn, CheckOut, MarkNoShow)), stay_times=hotel_times)
    def the_desk_is_busy(
        self, named: Named, kind: type[CheckIn | CheckOut | MarkNoShow], stay_times: StayTimes | None
    ) -> None:
        self.send(kind(**self.about(named), stay_times=stay_times))

    @rule(back=st.integers(0, 3), kinds=st.sampled_from(((CheckIn, CheckOut), (MarkNoShow,))), days=st.integers(-1, 3))
    def the_days_of_a_stay_come(
        self, back: int, kinds: tuple[type[CheckIn | CheckOut | MarkNoShow], ...], days: int
    ) -> None:
        """It is the evening of a sold stay's first day, or another, and its guests come, or not, and leave."""
        sold = [id_ for id_, sheet in self.clerk.sheets.items() if status_of(sheet) == "CONFIRMED"]
        if sold:
            about = self.about(Named(len(self.clerk.sheets) - sold[-1 - back % len(sold)].int))
            first = self.clerk.sheets[about["booking_id"]]["check_in"]
            evenings = (first + timedelta(days=min(days, 0)), first + timedelta(days=days))
            for evening, kind in zip(evenings, kinds, strict=False):
                self.scenario.now = max(self.scenario.now, datetime.combine(evening, time(23), UTC))
                self.send(kind(**about))

    @rule(
        room_id=rooms,
        first=days,
        size=st.tuples(st.sampled_from((1, 2, 3, 0)), st.sampled_from((1, 1, 2, 0))),
        block_id=st.sampled_from((1, 2, 3)),
        reason=st.sampled_from((BlockReason.OTHER, BlockReason.OTHER, BlockReason.GROUP)),
    )
    def block(self, room_id: int, first: date, size: tuple[int, int], block_id: int, reason: BlockReason) -> None:
        nights, rooms_count = size
        self.send(
            BlockNights(
                room_id=room_id,
                block_id=UUID(int=block_id),
                first_night=first,
                end_night=first + timedelta(days=nights),
                rooms_count=rooms_count,
                reason=reason,
            )
        )

    @rule(room_id=rooms, first=st.sampled_from(DAYS[1:-3]), beside=st.integers(0, 2), more=st.integers(0, 1))
    def a_night_is_sold_to_its_limit(self, room_id: int, first: date, beside: int, more: int) -> None:
        """A room of it is blocked, twice; then all that is left is reserved, or one room more than that."""
        self.change_nights(room_id, first, 1, ("allowance_count", beside))
        for rooms_count in (1, 2):
            self.block(room_id, first, (1, rooms_count), 4, BlockReason.OTHER)
        rooms_count = self.clerk.left(room_id, first) + more
        self.reserve(room_id, first, 1, {"rooms_count": rooms_count, "terms": Terms.AT_HOTEL}, TIMES)

    @rule(room_id=rooms, block_id=st.sampled_from((1, 2, 3, 4)))
    def release(self, room_id: int, block_id: int) -> None:
        self.send(ReleaseBlock(room_id=room_id, block_id=UUID(int=block_id)))

    @rule(named=names)
    def expire(self, named: Named) -> None:
        self.send(ExpireHold(**self.about(named)))

    @rule(
        named=names,
        payment_intent=st.sampled_from(("pi_1", "pi_1", "pi_2")),
        refund_id=st.sampled_from(("re_1", "re_2", "re_3")),
        share=st.sampled_from((1, 2, 0, -1)),
        kind=st.sampled_from(({}, {"by_hand": True}, {"by_hand": True, "cancel_if_full": True})),
    )
    def record_refund(
        self, named: Named, payment_intent: str, refund_id: str, share: int, kind: dict[str, Any]
    ) -> None:
        about = self.about(named)
        self.send(
            RecordRefund(
                **about,
                payment_intent=payment_intent,
                refund_id=refund_id,
                amount_minor=self.part(about, payment_intent, share),
                **kind,
            )
        )

    @rule(
        named=names,
        payment_intent=st.sampled_from(("pi_1", "pi_1", "pi_2")),
        refund_id=st.sampled_from(("re_1", "re_2", "re_3")),
        by_hand=st.booleans(),
    )
    def fail_refund(self, named: Named, payment_intent: str, refund_id: str, by_hand: bool) -> None:
        self.send(
            FailRefund(
                **self.about(named),
                payment_intent=payment_intent,
                refund_id=refund_id,
                amount_minor=1,
                failure="lost_or_stolen_card",
                by_hand=by_hand,
            )
        )

    @rule(named=names, payment_intent=st.sampled_from(("pi_1", "pi_1", "pi_2")), reason=st.sampled_from(RefundClosing))
    def close_refund(self, named: Named, payment_intent: str, reason: RefundClosing) -> None:
        self.send(CloseRefund(**self.about(named), payment_intent=payment_intent, reason=reason))

    @rule(
        named=names,
        payment_intent=st.sampled_from(("pi_1", "pi_1", "pi_2")),
        dispute_id=st.sampled_from(("dp_1", "dp_1", "dp_2")),
        share=st.sampled_from((1, 2)),
        outcome=st.sampled_from((None, DisputeResult.LOST, DisputeResult.WON)),
    )
    def record_dispute(
        self, named: Named, payment_intent: str, dispute_id: str, share: int, outcome: DisputeResult | None
    ) -> None:
        about = self.about(named)
        self.send(
            RecordDispute(
                **about,
                payment_intent=payment_intent,
                dispute_id=dispute_id,
                amount_minor=self.part(about, payment_intent, share),
                reason="fraudulent",
                result=outcome,
            )
        )

    @rule(
        named=names,
        stay=st.tuples(st.sampled_from(DAYS[1:-2]), st.sampled_from((2, 1, 3, 0)), st.sampled_from((1, 2, 0))),
        party=st.sampled_from((None, None, Party(adults=1), Party(adults=3), Party(adults=2, child_ages=(3,)))),
        by_hotel=st.booleans(),
        number=st.sampled_from((0, 1, 2)),
    )
    def change_a_stay(
        self, named: Named, stay: tuple[date, int, int], party: Party | None, by_hotel: bool, number: int
    ) -> None:
        about = self.about(named)
        user_id = None if by_hotel else self.guest(about["booking_id"], stranger=named.stranger)
        self.send(self.change(about, stay, user_id, number, party=party))

    def change(
        self, about: dict[str, Any], stay: tuple[date, int, int], user_id: int | None, number: int, **wish: Any
    ) -> ChangeStay:
        first, nights, rooms_count = stay
        return ChangeStay(
            **about,
            change_id=UUID(int=500 + number),
            user_id=user_id,
            check_in=first,
            check_out=first + timedelta(days=nights),
            rooms_count=rooms_count,
            hold_seconds=60,
            **wish,
        )

    @rule(named=names, number=st.sampled_from((0, 1, 2)))
    def withdraw_a_change(self, named: Named, number: int) -> None:
        about = self.about(named)
        user_id = self.guest(about["booking_id"], stranger=named.stranger)
        self.send(WithdrawChange(**about, change_id=UUID(int=500 + number), user_id=user_id))

    @rule(
        first=st.sampled_from(DAYS[1:-3]),
        room_id=rooms,
        on_terms=st.booleans(),
        wishes=st.lists(
            st.tuples(
                st.tuples(st.sampled_from((0, 0, 1, 2)), st.sampled_from((1, 3, 2)), st.sampled_from((1, 1, 2))),
                st.sampled_from((True, True, False)),
                st.sampled_from((0, 0, 0, 59_999, 60_000)),
                st.booleans(),
            ),
            min_size=1,
            max_size=4,
        ),
        order=st.permutations(
            ("cancel", "goodwill", "goodwill of the second", "refund", "dispute", "fails", "comes again", "close")
        ),
    )
    def a_guest_changes_a_paid_stay(
        self, first: date, room_id: int, on_terms: bool, wishes: list[Any], order: Sequence[str]
    ) -> None:
        """A guest pays, changes the stay several times, pays the difference or not, and money moves in any order."""
        booking_id = self.buy_by_a_policy(first, room_id, TIMES) if on_terms else self.come_so_far(first, room_id, 4)
        about: dict[str, Any] = {"room_id": room_id, "booking_id": booking_id}
        sheet = self.clerk.sheets[booking_id]
        self.scenario.now = max(self.scenario.now, datetime.combine(first - ONE_DAY, time(), UTC))
        for number, ((later, nights, rooms_count), by_guest, milliseconds, names_attempt) in enumerate(wishes):
            stay = (first + later * ONE_DAY, nights, rooms_count)
            user_id = sheet["user_id"] if by_guest else None
            self.send(self.change(about, stay, user_id, 10 + number))
            wish = sheet["wish"]
            if wish is None:
                continue
            attempt = sheet["attempt"]
            self.send(RecordSession(**about, attempt=attempt, session_id=f"cs_{attempt}"))
            self.scenario.now += timedelta(milliseconds=milliseconds)
            self.send(
                ConfirmPayment(
                    **about,
                    session_id=f"cs_{attempt}",
                    payment_intent=f"pi_1{number}",
                    amount_minor=wish["more"],
                    currency="EUR",
                    attempt=attempt if names_attempt else None,
                )
            )
        self.move_money_of(about, order)

    @rule(
        first=st.sampled_from(DAYS[1:-3]),
        room_id=rooms,
        on_terms=st.booleans(),
        stay=st.tuples(st.sampled_from((0, 0, 1)), st.sampled_from((1, 3, 2)), st.sampled_from((1, 1, 2))),
        by_guest=st.sampled_from((True, True, False)),
        between=st.sampled_from((None, None, None, 1, 3)),
        terms=st.sampled_from((None, None, *OFFERS[:3])),
        milliseconds=st.sampled_from((0, 60_000, 60_001)),
    )
    def a_stay_is_changed_by_a_quote(
        self,
        *,
        first: date,
        room_id: int,
        on_terms: bool,
        stay: tuple[int, int, int],
        by_guest: bool,
        between: int | None,
        terms: SaleTerms | None,
        milliseconds: int,
    ) -> None:
        """Somebody asks for the price of a change; nights, terms and maybe the stay change, and then it is used."""
        booking_id = self.buy_by_a_policy(first, room_id, TIMES) if on_terms else self.come_so_far(first, room_id, 4)
        about: dict[str, Any] = {"room_id": room_id, "booking_id": booking_id}
        sheet = self.clerk.sheets[booking_id]
        if not sheet["sold"]:
            return
        self.scenario.now = max(self.scenario.now, datetime.combine(first - ONE_DAY, time(), UTC))
        later, nights, rooms_count = stay
        user_id = sheet["user_id"] if by_guest else None
        wish = self.change(about, (first + later * ONE_DAY, nights, rooms_count), user_id, 20)
        price = self.clerk.quote_change(wish, self.scenario.now)
        if price is None:
            return
        quoted = QuotedChange(
            good_until=self.scenario.now + timedelta(minutes=1),
            earlier_count=len(sheet["changes"]),
            terms=Terms(sheet["terms"]),
            currency="EUR",
            amount_minor=price["cost"],
            night_amounts_minor=tuple(price["shares"]),
            sale=None if price["sale"] is None else msgspec.convert(price["sale"], Sale),
        )
        self.change_nights(room_id, first, 4, ("price_minor", 333_33))
        if terms is not None:
            self.set_terms(room_id, terms, self.clerk.terms.get(room_id, {"version": 0})["version"] + 1)
        if between is not None:
            self.send(self.change(about, (first, between, 1), user_id, 21))
        self.scenario.now += timedelta(milliseconds=milliseconds)
        self.send(msgspec.structs.replace(wish, quoted=quoted))

    def move_money_of(self, about: dict[str, Any], order: Sequence[str]) -> None:
        sheet = self.clerk.sheets[about["booking_id"]]
        intents = [*sheet["money"]]
        if not intents:
            return
        oldest, newest = ({**about, "payment_intent": intents[number]} for number in (0, -1))
        part, due = max(1, sheet["money"][intents[0]].amount // 2), max(1, sheet["money"][intents[-1]].due)
        whole = sheet["money"][intents[-1]].amount
        commands: dict[str, Command] = {
            "cancel": CancelBooking(**about, user_id=sheet["user_id"]),
            "goodwill": RecordRefund(**oldest, refund_id="re_5", amount_minor=part, by_hand=True),
            "goodwill of the second": RecordRefund(
                **newest, refund_id="re_6", amount_minor=whole, by_hand=True, cancel_if_full=True
            ),
            "refund": RecordRefund(**newest, refund_id="re_7", amount_minor=due),
            "dispute": RecordDispute(
                **oldest, dispute_id="dp_5", amount_minor=part, reason="fraudulent", result=DisputeResult.LOST
            ),
            "fails": FailRefund(**newest, refund_id="re_7", amount_minor=due, failure="unknown"),
            "comes again": FailRefund(**oldest, refund_id="re_5", amount_minor=part, failure="unknown", by_hand=True),
            "close": CloseRefund(**newest, reason=RefundClosing.NOT_POSSIBLE),
        }
        for name in order:
            self.send(commands[name])

    def part(self, about: dict[str, Any], payment_intent: str, share: int) -> int:
        """Return all that is left of a payment (1), a half of it (2), nothing (0), or one more than was paid (-1)."""
        money = self.clerk.sheets.get(about["booking_id"], {"money": {}})["money"].get(payment_intent)
        if money is None or share < 1:
            return 0 if share == 0 or money is None else int(money.amount) + 1
        left: int = money.amount - money.sent - money.lost
        return max(1, left // share)

    @rule(named=names, steps=st.integers(1, 6), by_hand=st.booleans(), share=st.sampled_from((1, 2)))
    def money_goes_back_and_comes_again(self, named: Named, steps: int, by_hand: bool, share: int) -> None:
        """Refund a payment, let the refund fail, cancel, refund again, end what is due: the first so many of these."""
        about = self.about(Named(named.back))
        refund = {**about, "payment_intent": "pi_1"}
        amount_minor = self.part(about, "pi_1", share)
        for command in (
            RecordRefund(**refund, refund_id="re_1", amount_minor=amount_minor, by_hand=by_hand),
            CancelBooking(**about, reason=CancelReason.BY_HOTEL),
            FailRefund(**refund, refund_id="re_1", amount_minor=amount_minor, failure="unknown", by_hand=by_hand),
            RecordRefund(**refund, refund_id="re_2", amount_minor=amount_minor),
            CloseRefund(**refund, reason=RefundClosing.NOT_POSSIBLE),
            FailRefund(**refund, refund_id="re_2", amount_minor=amount_minor, failure="unknown"),
        )[:steps]:
            self.send(command)

    @rule(named=names, steps=st.integers(1, 6), share=st.sampled_from((1, 2)), by_hand=st.booleans())
    def money_goes_back_again_before_its_failure_is_reported(
        self, named: Named, steps: int, share: int, by_hand: bool
    ) -> None:
        """Cancel, refund, refund once more in place of the first, which has failed: the first so many of these."""
        about = self.about(Named(named.back))
        refund = {**about, "payment_intent": "pi_1"}
        amount_minor = self.part(about, "pi_1", share)
        for command in (
            CancelBooking(**about, reason=CancelReason.BY_HOTEL),
            RecordRefund(**refund, refund_id="re_1", amount_minor=amount_minor, by_hand=by_hand),
            RecordRefund(**refund, refund_id="re_2", amount_minor=amount_minor),
            RecordRefund(**refund, refund_id="re_3", amount_minor=amount_minor),
            FailRefund(**refund, refund_id="re_1", amount_minor=amount_minor, failure="unknown", by_hand=by_hand),
            FailRefund(**refund, refund_id="re_2", amount_minor=amount_minor, failure="unknown"),
        )[:steps]:
            self.send(command)

    @rule(named=names)
    def a_request_comes_again_after_a_newer_one(self, named: Named) -> None:
        about = self.about(named)
        user_id = self.guest(about["booking_id"], stranger=named.stranger)
        for guest_ids, guest_list_id in (((1,), LIST), ((2,), ANOTHER_LIST), ((1,), LIST)):
            self.send(AddGuests(**about, user_id=user_id, guest_ids=guest_ids, guest_list_id=guest_list_id))

    @rule(back=st.integers(1, 30))
    def a_command_of_long_ago_comes_again(self, back: int) -> None:
        self.send(self.sent[-min(back, len(self.sent))])

    @rule(milliseconds=st.sampled_from((1, 999, 60_000, 600_000, 900_000)))
    def time_passes(self, milliseconds: int) -> None:
        self.scenario.now += timedelta(milliseconds=milliseconds)

    @rule(back=st.integers(0, 5), milliseconds=st.sampled_from((0, 1, -1)))
    def a_deadline_comes_near(self, back: int, milliseconds: int) -> None:
        deadlines = [sheet["until"] for sheet in self.clerk.sheets.values() if sheet["until"] is not None]
        if deadlines:
            near = deadlines[-1 - back % len(deadlines)] + timedelta(milliseconds=milliseconds)
            self.scenario.now = max(self.scenario.now, near)

    @rule(
        day=st.sampled_from(DAYS[1:]),
        hour=st.sampled_from((7, 11, 15, 22, 18)),
        milliseconds=st.sampled_from((0, -1)),
    )
    def a_day_of_the_stays_comes(self, day: date, hour: int, milliseconds: int) -> None:
        """It is midnight in Vancouver, or the hour of check-out or check-in in London or Vancouver."""
        near = datetime.combine(day, time(hour), UTC) + timedelta(milliseconds=milliseconds)
        self.scenario.now = max(self.scenario.now, near)

    def about(self, named: Named) -> dict[str, Any]:
        """Name the booking and its room, or the other room, or a booking that nobody made."""
        made = len(self.clerk.sheets)
        number = made + 1 if named.back < 0 or not made else made - named.back % made
        booking_id = UUID(int=number)
        room_id = self.clerk.sheets.get(booking_id, {"room_id": ROOMS[0]})["room_id"]
        return {"room_id": sum(ROOMS) - room_id if named.astray else room_id, "booking_id": booking_id}

    def guest(self, booking_id: UUID, *, stranger: bool = False) -> int:
        """Return the booking's own user, or who would be it, or a stranger."""
        known = self.clerk.sheets.get(booking_id, {"user_id": None})["user_id"]
        return 99 if stranger else 10 + booking_id.int if known is None else known

    # Checks after every step

    def send(self, command: Command) -> None:
        """Let the core and the clerk decide the command, and compare their events."""
        self.sent.append(command)
        now, before = self.scenario.now, Frozen(self.scenario)
        state = self.scenario.state(command)
        first = decide(state, command, now)
        copied = msgspec.structs.replace(state, nights=dict(state.nights), account_rooms=dict(state.account_rooms))
        assert decide(copied, command, now) == first, "decided differently"
        assert Frozen(self.scenario) == before, "deciding changed something"
        with recorded() as events:
            self.scenario.when(command)
        assert [plain(event) for event in self.scenario.answer] == self.clerk.decide(command, now)
        assert all(_legal(event) for event in events), events
        self.only_its_own_changed(before, command)
        self.the_same_again_changes_nothing(command)

    def only_its_own_changed(self, before: "Frozen", command: Command) -> None:
        after = Frozen(self.scenario)
        named = command.booking_id if isinstance(command, BookingCommand) else None
        assert before.bookings_but(named) == after.bookings_but(named)
        assert before.nights_but(command.key) == after.nights_but(command.key)
        if named is not None and named in before.bookings and before.bookings[named].room_id != command.key:
            assert after.bookings == before.bookings

    def the_same_again_changes_nothing(self, command: Command) -> None:
        before, answer = Frozen(self.scenario), self.scenario.answer
        self.scenario.when(command)
        assert Frozen(self.scenario) == before, "the same command twice took effect twice"
        allowed = CommandRepeated | CommandRefused | InventoryUnchanged | InventoryChanged | ChangeRejected
        repeated = all(isinstance(event, allowed) for event in self.scenario.answer)
        unknown = answer == self.scenario.answer and all(isinstance(event, RefundRequested) for event in answer)
        assert repeated or unknown, "the same command twice had two effects"

    @invariant()
    def counters_are_the_sum_over_the_bookings(self) -> None:
        for room_id, nights in self.scenario.nights.items():
            for day, night in nights.items():
                held = sum(
                    held.rooms_count
                    for booking in self.scenario.bookings.values()
                    if booking.room_id == room_id and booking.pending_change is not None
                    for held in booking.pending_change.held
                    if held.first_night <= day < held.end_night
                )
                assert night.reserved_count == self.rooms_with(room_id, day, UNPAID) + held
                assert night.booked_count == self.rooms_with(room_id, day, ("CONFIRMED", "CHECKED_IN", "CHECKED_OUT"))
                assert (night.reserved_count, night.booked_count) == self.clerk.taken(room_id, day)
                assert night.blocked_count == self.clerk.blocked(room_id, day)

    def rooms_with(self, room_id: int, day: date, statuses: Sequence[str]) -> int:
        """Count the rooms of bookings; of one that ended early, the nights before count as confirmed."""
        return sum(
            booking.rooms_count
            for booking in self.scenario.bookings.values()
            if booking.room_id == room_id and booking.check_in <= day < booking.check_out
            if (booking.status in statuses and booking.freed_from is None)
            or ("CONFIRMED" in statuses and booking.freed_from is not None and day < booking.freed_from)
        )

    @invariant()
    def nothing_is_sold_twice(self) -> None:
        for nights in self.scenario.nights.values():
            for night in nights.values():
                assert min(night.reserved_count, night.booked_count, night.blocked_count) >= 0
                taken = night.reserved_count + night.booked_count + night.blocked_count
                assert taken <= night.total_count + night.allowance_count

    @invariant()
    def nights_are_as_the_clerk_knows_them(self) -> None:
        ours = {
            (room_id, day): {
                name: getattr(night, name)
                for name in (
                    *("hotel_id", "total_count", "price_minor", "currency", "surge_milli", "closed"),
                    "allowance_count",
                )
            }
            for room_id, nights in self.scenario.nights.items()
            for day, night in nights.items()
        }
        assert ours == self.clerk.shelf

    @invariant()
    def bookings_are_as_the_clerk_knows_them(self) -> None:
        assert self.scenario.bookings.keys() == self.clerk.sheets.keys()
        for booking_id, sheet in self.clerk.sheets.items():
            booking = self.scenario.bookings[booking_id]
            assert booking.status == status_of(sheet)
            assert (booking.amount_minor, booking.currency) == (sheet["cost"], sheet["coin"])
            assert (booking.rejection, booking.cancel_reason) == (sheet["no"], sheet["ended"])
            assert list(booking.guest_ids) == sheet["guests"]
            assert (booking.guest_list_id, booking.stay_times) == (sheet["list"], sheet["times"])
            assert [*booking.earlier_guest_list_ids] == sheet["crossed out"]
            assert booking.freed_from == sheet["freed"]
            stay = (booking.check_in, booking.check_out, booking.rooms_count)
            assert stay == (sheet["check_in"], sheet["check_out"], sheet["rooms_count"])
            assert (booking.pending_change is None) == (sheet["wish"] is None)
            assert [earlier.change_id for earlier in booking.earlier_stays] == sheet["changes"]
            assert [*booking.ended_change_ids] == sheet["given_up"]
            assert (booking.payment_attempt, booking.session_id) == (sheet["attempt"], sheet["session"])
            assert booking.failure == sheet["trouble"]
            assert booking.hold_expires_at == (None if sheet["lapsed"] else sheet["until"])
            assert [*booking.night_amounts_minor] == sheet["shares"]
            assert (_builtins(booking.sale), _builtins(booking.policy)) == (sheet["sale"], sheet["policy"])

    @invariant()
    def money_is_kept_or_sent_back_and_never_both(self) -> None:
        for booking_id, sheet in self.clerk.sheets.items():
            booking = self.scenario.bookings[booking_id]
            money = {paid.payment_intent: [paid.session_id, paid.amount_minor, paid.state] for paid in booking.payments}
            assert len(money) == len(booking.payments)
            assert money == {
                intent: [known.session, known.amount, known.state()] for intent, known in sheet["money"].items()
            }
            kept = [paid for paid in booking.payments if paid.state is PaymentState.KEPT]
            sold = booking.status in {"CONFIRMED", "CHECKED_IN", "CHECKED_OUT", "NO_SHOW"}
            assert not kept or sold or booking.policy is not None
            assert all(paid.amount_minor in sheet["bills"] for paid in kept)
            assert len(kept) <= 1 + len(sheet["changes"])

    @invariant()
    def an_end_keeps_no_more_than_the_policy_and_exactly_that_where_enough_is_left(self) -> None:
        for booking in self.scenario.bookings.values():
            if booking.policy is None:
                continue
            kept_minor = sum(paid.retained_minor + paid.kept_minor for paid in booking.payments)
            assert kept_minor <= booking.policy.kept_minor

    @invariant()
    def a_stay_costs_what_its_payments_keep_unless_money_left_otherwise(self) -> None:
        for booking in self.scenario.bookings.values():
            if booking.status != "CONFIRMED" or booking.terms == Terms.AT_HOTEL:
                continue
            kept_minor = sum(paid.kept_minor for paid in booking.paying_payments())
            assert kept_minor <= booking.amount_minor
            # A refund of the product's own that is more than was due is one more way.
            others = (
                paid.disputes or paid.ahead_minor or any(made.by_hand for made in paid.refunds)
                for paid in booking.payments
            )
            if not any(others):
                closed_minor = sum(paid.closed_minor for paid in booking.paying_payments())
                assert kept_minor == booking.amount_minor or closed_minor

    @invariant()
    def the_sums_of_every_payment_are_in_the_clerks_envelopes(self) -> None:
        for booking_id, sheet in self.clerk.sheets.items():
            for paid in self.scenario.bookings[booking_id].payments:
                retained = paid.retained_minor
                left = [paid.due_minor, paid.closed_minor, retained, paid.kept_minor]
                sums = [paid.refunded_minor, paid.lost_minor, *left]
                # Only refunds that replace failed ones are more than the payment, until the failures are reported.
                assert sum(sums) == max(paid.amount_minor, paid.refunded_minor)
                assert min(sums) >= 0
                assert sums == sheet["money"][paid.payment_intent].sums()
                if paid.state is PaymentState.KEPT:
                    # Money of a paid stay is due only if it became cheaper.
                    assert retained == 0
                    assert paid.due_minor == paid.closed_minor == 0 or sheet["changes"]
                else:
                    assert paid.kept_minor == 0
                    assert (paid.due_minor > 0) == (paid.state is PaymentState.REFUND_REQUESTED)


def _builtins(part: msgspec.Struct | None) -> Any:
    """Return a part of a booking in the shape of the clerk's."""
    return msgspec.to_builtins(part, builtin_types=(date, datetime))


class Frozen:
    """The state of a scenario at one moment."""

    def __init__(self, scenario: Scenario) -> None:
        self.bookings: dict[UUID, Booking] = {**scenario.bookings}
        self.nights = {
            (room_id, day): night for room_id, nights in scenario.nights.items() for day, night in nights.items()
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and (self.bookings, self.nights) == (other.bookings, other.nights)

    __hash__ = None  # type: ignore[assignment]

    def bookings_but(self, booking_id: UUID | None) -> dict[UUID, Booking]:
        return {id_: booking for id_, booking in self.bookings.items() if id_ != booking_id}

    def nights_but(self, room_id: int) -> dict[tuple[int, date], Night]:
        return {key: night for key, night in self.nights.items() if key[0] != room_id}


def _legal(event: Happened) -> bool:
    return event.before == event.after or (event.before, event.after) in LEGAL


def test_the_core_and_the_clerk_agree_whatever_happens() -> None:
    play(Hotel, 60, fixed=False)


def test_a_closed_refund_that_went_out_all_the_same_leaves_the_hotel_its_money() -> None:
    game = Hotel()
    game.there_are_rooms(total_count=1, surge_milli=1500)
    cheaper = ((0, 1, 1), True, 0, False)
    order = ["close", "refund", "fails", "cancel", "dispute", "goodwill of the second", "comes again", "goodwill"]
    game.a_guest_changes_a_paid_stay(first=date(2026, 3, 10), room_id=7, on_terms=False, wishes=[cheaper], order=order)
    game.teardown()


# The teeth: each of these breaks one rule of the core, and is found out.

Patch = Callable[[pytest.MonkeyPatch], None]


def core(name: str) -> Any:
    """Return a module of the core (`decide` the module, which the package's own `decide` hides)."""
    return sys.modules[f"workers.decisions.{name}"]


def put(module: str, name: str, wrong: Callable[[Any], Any]) -> Patch:
    """Put a wrong function, made from the right one, in its place."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(core(module), name, wrong(getattr(core(module), name)))

    return patch


def put_pricing(module: str, name: str, wrong: Callable[[Any], Any]) -> Patch:
    """Put a wrong function in the place of one of `pricing`."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        pricing = sys.modules[f"pricing.{module}"]
        monkeypatch.setattr(pricing, name, wrong(getattr(pricing, name)))

    return patch


def put_on(record: type, name: str, wrong: object) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(record, name, wrong)


def counting_the_check_out_night(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("booking", "evolve", "evolve_nights", "state"):
        right = core(module).nights_of
        monkeypatch.setattr(core(module), "nights_of", lambda first, end, right=right: right(first, end + ONE_DAY))


def a_day_too_many_only_when_nights_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Booking.nights
    monkeypatch.setattr(Booking, "nights", lambda booking: right(booking)[:1])


def booked_without_giving_up_the_hold(right: Any) -> Any:
    return lambda nights, stay, *, reserved=0, **others: right(nights, stay, reserved=max(reserved, 0), **others)


def confirmed_but_still_reserved(right: Any) -> Any:
    return lambda nights, stay, *, reserved=0, booked=0, **others: right(
        nights, stay, reserved=0 if booked > 0 else reserved, booked=min(booked, 0), **others
    )


def giving_past_nights_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("booking", "payment"):
        monkeypatch.setattr(core(module), "first_night_freed", lambda state, booking: None)


def reading_the_hotels_clock_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["workers.reservations.stay_clock"], "_known_zone", lambda name: "UTC")


def _without_terms(state: State) -> State:
    return msgspec.structs.replace(state, sale_terms=None)


def _dearer(right: Any) -> Any:
    """Return a price that is a cent more than the sum of its lines."""

    def price(*args: Any, **kwargs: Any) -> Any:
        right_price = right(*args, **kwargs)
        return right_price._replace(amount_minor=right_price.amount_minor + 1)

    return price


def _forgetful(right: Any) -> Any:
    """Remember of the policy's part what is left of it."""

    def balanced(payment: Payment) -> Payment:
        after: Payment = right(payment)
        return msgspec.structs.replace(after, policy_minor=after.retained_minor)

    return balanced


def _closed_last(right: Any) -> Any:
    """Keep what an operator closed before what the policy keeps."""

    def balanced(payment: Payment) -> Payment:
        after: Payment = right(payment)
        closed_minor = min(payment.closed_minor, payment.left_minor)
        moved_minor = closed_minor - after.closed_minor
        return msgspec.structs.replace(
            after, closed_minor=closed_minor, retained_minor=after.retained_minor - moved_minor
        )

    return balanced


MUTATIONS: dict[str, Patch] = {
    "counts the check-out night": counting_the_check_out_night,
    "gives back only the first night": a_day_too_many_only_when_nights_are_given_back,
    "skips the free count": put_on(Night, "free_count", property(lambda night: 1_000)),
    "forgets what is reserved": put_on(
        Night, "free_count", property(lambda night: night.total_count - night.booked_count)
    ),
    "forgets what is booked": put_on(
        Night, "free_count", property(lambda night: night.total_count - night.reserved_count)
    ),
    "confirms without moving reserved to booked": put("evolve_nights", "with_taken", confirmed_but_still_reserved),
    "books without giving up the hold": put("evolve_nights", "with_taken", booked_without_giving_up_the_hold),
    "sells late without looking": put("payment", "_nights_are_free", lambda right: lambda state, booking: True),
    "never sells late": put("payment", "_nights_are_free", lambda right: lambda state, booking: False),
    "leaves overdue holds to the timer": put("decide", "_due_expiry", lambda right: lambda *_: None),
    "ends holds a millisecond late": put(
        "decide", "_due_expiry", lambda right: lambda state, command, now: right(state, command, now - MILLISECOND)
    ),
    "ends holds a millisecond early": put(
        "decide", "_due_expiry", lambda right: lambda state, command, now: right(state, command, now + MILLISECOND)
    ),
    "rounds prices down": put(
        "sale", "night_price_minor", lambda right: lambda price, surge, step: price * surge // 1000
    ),
    "rounds prices to even": put(
        "sale", "night_price_minor", lambda right: lambda price, surge, step: round(price * surge / 1000)
    ),
    "keeps the money of a cancelled stay": put("booking", "refund_but", lambda right: lambda *_: ()),
    "takes the same money twice": put_on(Booking, "payment", lambda booking, payment_intent: None),
    "lets a total fall below what is sold": put(
        "inventory", "_night_refusal", lambda right: lambda night, command: None
    ),
    "changes some where it should be all or none": put(
        "inventory",
        "_nights_to_change",
        lambda right: lambda command, refused: right(but(command, all_or_none=False), refused),
    ),
    "lets a night that is not open keep all others from changing": put(
        "inventory",
        "_nights_to_change",
        lambda right: lambda command, refused: () if command.all_or_none and refused else right(command, refused),
    ),
    "lets strangers in": put("booking", "not_theirs", lambda right: lambda booking, user_id: right(booking, None)),
    "opens a second session while the first is open": put(
        "payment", "_has_attempt_ended", lambda right: lambda booking: True
    ),
    "lets another room's events through": put(
        "evolve", "_is_of_another_room", lambda right: lambda booking, event: False
    ),
    "lets a guest cancel after check-in": put("booking", "too_late", lambda right: lambda *_, **__: None),
    "puts past nights back on sale": giving_past_nights_back,
    "reads the hotel's clock in UTC": reading_the_hotels_clock_in_utc,
    "sells what is blocked": put_on(
        Night, "free_count", property(lambda night: night.limit_count - night.booked_count - night.reserved_count)
    ),
    "sells less than the allowance": put_on(Night, "limit_count", property(lambda night: night.total_count)),
    "puts past nights of a departure back on sale": put(
        "evolve_nights", "_with_freed", lambda right: lambda nights, booking, freed_from: right(nights, booking, None)
    ),
    "takes another request for the same": put("booking", "of_another_request", lambda right: lambda *_: None),
    "takes another block for the same": put("blocks", "_is_same", lambda right: lambda block, command: True),
    "sells a stay that has begun": put("payment", "has_begun", lambda right: lambda state, booking: False),
    "lets one account take everything": put("booking", "exceeds_share", lambda right: lambda *_: False),
    "sells what nobody can pay": put("booking", "can_be_paid", lambda right: lambda price, *, in_trip=False: True),
    "records a refund twice": put("payment", "_is_known", lambda right: lambda payment, command: False),
    "swallows a refund that replaces a failed one": put(
        "payment",
        "_is_known",
        lambda right: lambda payment, command: right(payment, command) or command.amount_minor > payment.left_minor,
    ),
    "lets a repeated request undo newer guests": put("evolve", "MAX_EARLIER_GUEST_LISTS", lambda right: -1_000),
    "counts a refund that failed": put("evolve_payments", "_without", lambda right: lambda made, payment, event: made),
    "lets a lost dispute be due": put("evolve_payments", "_balanced", lambda right: lambda payment: payment),
    "keeps the money of a refund by hand that failed": put_on(Payment, "kept_minor", property(lambda payment: 0)),
    "sends all of a payment back after a part": put_on(
        Payment, "kept_minor", property(lambda payment: payment.amount_minor)
    ),
    "keeps a stay whose money went back by hand": put_on(Payment, "left_minor", property(lambda payment: 10**9)),
    "takes terms that arrive late": put(
        "decide",
        "_RULES",
        lambda right: {
            **right,
            SetSaleTerms: lambda state, *others: right[SetSaleTerms](_without_terms(state), *others),
        },
    ),
    "changes a stay at a quote that is over": put(
        "changes", "quote_holds", lambda right: lambda quoted, currency, now: True
    ),
    "changes a stay at today's price in spite of a quote": put(
        "changes",
        "_priced",
        lambda right: (
            lambda state, booking, command, nights, now: right(
                state, booking, msgspec.structs.replace(command, quoted=None), nights, now
            )
        ),
    ),
    "sells at a quote that is over": put("sale", "quote_holds", lambda right: lambda *_: True),
    "sells a stopped plan at a quote": put("sale", "is_stopped", lambda right: lambda *_: False),
    "sells with a code that was refused": put("booking", "code_rejection", lambda right: lambda *_: None),
    "sells in spite of a plan's rules": put("sale", "rules_rejection", lambda right: lambda *_: None),
    "lets any number of people in": put("sale", "party_rejection", lambda right: lambda *_: None),
    "charges a cent too much": put("sale", "price_stay", _dearer),
    "ends a step of a policy late": put(
        "booking",
        "_cancellation_policy",
        lambda right: lambda state, booking, command, now: right(state, booking, command, now - MILLISECOND),
    ),
    "keeps a part of nothing by policy": put("booking", "_cancellation_policy", lambda right: lambda *_: None),
    "forgets what the policy keeps when money left": put("evolve_payments", "_balanced", _forgetful),
    "takes the policy's part before what was closed": put("evolve_payments", "_balanced", _closed_last),
    "refunds all when a refund by hand fails after the end": put(
        "payment", "refund_but", lambda right: lambda booking, kept_minor, reason: right(booking, 0, reason)
    ),
    "changes a stay without looking at what is free": put(
        "changes", "_more_rooms", lambda right: lambda booking, command: {}
    ),
    "gives the rooms of a change that ended back to nobody": put(
        "evolve_nights", "_with_held", lambda right: lambda nights, held, sign: right(nights, held, max(sign, 0))
    ),
    "leaves a change that is over to the timer": put(
        "decide",
        "due_expiry",
        lambda right: lambda booking, now: () if booking.pending_change is not None else right(booking, now),
    ),
    "keeps nothing of what a change gives up": put("changes", "cost_of_cancelling", lambda right: lambda *_: None),
    "sends nothing back of a stay that became cheaper": put("changes", "part_refunded", lambda right: lambda *_: ()),
    "ends a stay when one of its payments went back by hand": put(
        "payment",
        "_is_rest",
        lambda right: (
            lambda booking, payment, amount: payment.state is PaymentState.KEPT and payment.left_minor <= amount
        ),
    ),
    "forgets that a stay was sold": put(
        "evolve",
        "next_status",
        lambda right: lambda status, event: "RESERVED" if right(status, event) == "CONFIRMED" else right(status, event),
    ),
}


#: The rules whose mutations every run tries; the others take minutes together.
ALWAYS_BROKEN: Final = frozenset(
    {
        "counts the check-out night",
        "skips the free count",
        "forgets what is reserved",
        "forgets what is booked",
        "confirms without moving reserved to booked",
        "takes the same money twice",
        "lets strangers in",
        "rounds prices down",
    }
)


@pytest.mark.parametrize(
    "mutation",
    [
        pytest.param(mutation, id=name, marks=() if name in ALWAYS_BROKEN else pytest.mark.long)
        for name, mutation in MUTATIONS.items()
    ],
)
def test_a_core_with_one_broken_rule_is_noticed(mutation: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)
    with pytest.raises((AssertionError, IllegalTransition, LookupError)):
        play(Hotel, 500, phases=[Phase.generate])


def test_the_unbroken_core_passes_where_the_broken_ones_fail() -> None:
    play(Hotel, 30, phases=[Phase.generate])
