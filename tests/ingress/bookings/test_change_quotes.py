"""The preview of a change is what the room's worker would decide: the same price, or the same refusal."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ingress.bookings.change_quotes import ChangePrice
from ingress.http.problems import Problem
from pricing.changes import WantedStay
from pricing.currencies import decimal
from pricing.quotes import fault_of_quote
from pricing.sale import price_stay
from storage.reads.bookings import AgreedBooking, NightForSale, RoomFacts, RoomForSale
from storage.reads.changes import HeldChange, ReplacedStay
from topics.messages.commands import ChangeStay
from topics.messages.events import (
    ChangeHeld,
    ChangeRejected,
    CommandRefused,
    CommandRepeated,
    Event,
    RefundRequested,
    RoomsHeld,
    StayBefore,
    StayChanged,
)
from topics.messages.sale import (
    ArrivalRule,
    CancellationPolicy,
    Kept,
    Party,
    PolicyStep,
    QuotedChange,
    RatePlan,
    SaleTerms,
    Tax,
)
from topics.messages.values import MAX_CHANGES, BookingStatus, StayTimes, Terms, nights_of
from workers.decisions import Booking, Night, State, decide, unpaid_rooms
from workers.decisions.state import EarlierStay, Payment, PaymentState, PendingChange
from workers.reservations.stay_clock import stay_clock

NOW: Final = datetime(2026, 11, 30, 12, tzinfo=UTC)
TODAY: Final = NOW.date()
TIMES: Final = StayTimes(time_zone="Europe/Lisbon", check_in_time=time(15), check_out_time=time(11))
#: Of four rooms or more, one more than the rooms that are always allowed.
SHARE_PERCENT: Final = 75
EARLIER: Final = EarlierStay(
    change_id=UUID(int=9),
    stay=StayBefore(
        check_in=TODAY, check_out=TODAY + timedelta(days=1), rooms_count=1, amount_minor=1, night_amounts_minor=(1,)
    ),
)
BOOKING_ID, CHANGE_ID = UUID(int=1), UUID(int=2)
POLICY: Final = CancellationPolicy(
    id="half",
    steps=(
        PolicyStep(hours_before=24 * 5, kept=Kept(percent=30)),
        PolicyStep(hours_before=48, kept=Kept(nights=1)),
    ),
)
CITY_TAX: Final = Tax(id="city", name="City tax", amount_minor=250, per_person=True, per_night=True)
FACTS: Final = RoomFacts(
    room_id=1,
    hotel_id=1,
    capacity=100,
    hotel_active=True,
    time_zone=TIMES.time_zone,
    currency="EUR",
    check_in_time=TIMES.check_in_time,
    check_out_time=TIMES.check_out_time,
    has_sale_terms=True,
)


def terms(plan_id: str, payment: Terms, rules: tuple[ArrivalRule, ...]) -> SaleTerms:
    """Return terms whose rooms hold three people."""
    plan = RatePlan(id=plan_id, name="Flexible", policy=POLICY, terms=payment, extra_adult_minor=1_500, rules=rules)
    return SaleTerms(version=2, plans=(plan,), taxes=(CITY_TAX,), capacity=3)


def day(number: int) -> date:
    return TODAY + timedelta(days=number)


@st.composite
def bookings(draw: st.DrawFn) -> Booking:
    """Draw a booking that was sold with terms or without, with or without a change that waits for its payment."""
    first, length, rooms = draw(st.integers(0, 8)), draw(st.integers(1, 4)), draw(st.integers(1, 2))
    payment, has_sale = draw(st.sampled_from(Terms)), draw(st.booleans())
    prices = draw(st.lists(st.integers(5_000, 15_000), min_size=length, max_size=length))
    price = price_stay(
        terms("flexible", payment, ()),
        terms("flexible", payment, ()).plans[0],
        draw(st.sampled_from([None, Party(adults=1), Party(adults=2, child_ages=(4,))])),
        prices,
        check_in=day(first),
        check_in_time=TIMES.check_in_time,
        rooms_count=rooms,
        currency="EUR",
    )
    amounts = price.night_amounts_minor if has_sale else tuple(minor * rooms for minor in prices)
    paid = Payment("pi_1", "cs_1", sum(amounts), PaymentState.KEPT)
    booking = Booking(
        id=BOOKING_ID,
        user_id=7,
        hotel_id=1,
        room_id=1,
        check_in=day(first),
        check_out=day(first + length),
        rooms_count=rooms,
        status=draw(st.sampled_from([BookingStatus.CONFIRMED] * 9 + [BookingStatus.CHECKED_IN])),
        terms=payment,
        amount_minor=sum(amounts),
        currency="EUR",
        payments=(paid,) if payment is Terms.PREPAID else (),
        payment_attempt=1,
        session_id="cs_1",
        earlier_stays=draw(st.sampled_from([()] * 9 + [(EARLIER,) * MAX_CHANGES])),
        night_amounts_minor=amounts,
        stay_times=TIMES,
        sale=price.sale if has_sale else None,
    )
    if booking.status is BookingStatus.CONFIRMED and payment is Terms.PREPAID and draw(st.booleans()):
        held = (
            RoomsHeld(first_night=booking.check_out, end_night=booking.check_out + timedelta(days=2), rooms_count=1),
        )
        change = PendingChange(id=CHANGE_ID, stay=booking.present_stay(), extra_minor=1, held=held, attempt=2)
        booking = msgspec.structs.replace(booking, pending_change=change, hold_expires_at=NOW + timedelta(minutes=5))
    return booking


@st.composite
def nights(draw: st.DrawFn, booking: Booking) -> Mapping[date, Night]:
    """Draw nights, all with the rooms of the booking and of its change; some are closed, sold out or not there."""
    held = set()
    if booking.pending_change is not None:
        held = {booking.check_out, booking.check_out + timedelta(days=1)}
    drawn = {}
    for on in map(day, range(16)):
        reserved = int(on in held)
        own = booking.rooms_count if on in booking.nights() else 0
        if draw(st.integers(0, 19)) or own or reserved:
            drawn[on] = Night(
                hotel_id=1,
                total_count=own + reserved + draw(st.integers(0, 3)),
                booked_count=own,
                reserved_count=reserved,
                price_minor=draw(st.integers(5_000, 15_000)),
                surge_milli=1_000,
                closed=not draw(st.integers(0, 9)),
                currency="EUR",
            )
    return drawn


def previewed(
    booking: Booking,
    wanted: WantedStay,
    on_sale: Mapping[date, Night],
    sold_by: SaleTerms | None,
    *,
    account_rooms: Mapping[date, int],
    now: datetime,
    by_guest: bool,
) -> Any:
    """Return the amount, the extra and the refund of the preview, or the reason of its refusal; and its quote."""
    fields = {name: getattr(booking, name) for name in booking.__struct_fields__ if name in _AGREED}
    change, earlier = booking.pending_change, booking.earlier_stays
    held = None if change is None else HeldChange(id=change.id, stay=change.stay, extra_minor=1, held=change.held)
    agreed = AgreedBooking(
        **fields
        | {
            "payments": None,
            "pending_change": None if held is None else msgspec.to_builtins(held),
            "earlier_stays": tuple(ReplacedStay(change_id=each.change_id, stay=each.stay) for each in earlier),
        },
        created_at=NOW,
        updated_at=NOW,
    )
    room = RoomForSale(
        terms=sold_by,
        nights=[
            NightForSale(
                night=on,
                price_minor=night.price_minor,
                currency=night.currency,
                closed=night.closed,
                free_count=night.free_count,
                total_count=night.total_count,
            )
            for on in nights_of(wanted.check_in, wanted.check_out)
            if (night := on_sale.get(on)) is not None
        ],
    )
    try:
        price = ChangePrice(
            agreed,
            wanted,
            FACTS,
            room,
            now,
            account_share_percent=SHARE_PERCENT if by_guest else None,
            account_rooms=account_rooms,
            by_guest=by_guest,
        )
        priced = price.priced()
    except Problem as problem:
        return problem.more["reason"], None
    good_until = now + timedelta(minutes=15)
    shown = price.shown(priced, good_until=good_until, token="token")
    return (shown.amount, shown.extra, shown.goes_back), price.quote(priced, good_until)


_AGREED: Final = frozenset(AgreedBooking.__dataclass_fields__)


def decided(
    booking: Booking,
    wanted: WantedStay,
    on_sale: Mapping[date, Night],
    sold_by: SaleTerms | None,
    *,
    account_rooms: Mapping[date, int],
    now: datetime,
    by_guest: bool,
    quoted: QuotedChange | None = None,
) -> Any:
    """Return the amount, the extra and the refund of the decision, or the reason of its refusal."""
    command = change_to(wanted, booking, by_guest=by_guest, quoted=quoted)
    clock = stay_clock(booking, command, now)
    state = State(booking, on_sale, clock=clock, sale_terms=sold_by, account_rooms=account_rooms)
    return _outcome(booking, decide(state, command, now))


def change_to(wanted: WantedStay, booking: Booking, *, by_guest: bool, **more: Any) -> ChangeStay:
    """Return the command of a guest, or of the hotel, who wants this stay; `more` has its other fields."""
    return ChangeStay(
        room_id=1,
        booking_id=booking.id,
        change_id=UUID(int=3),
        user_id=booking.user_id if by_guest else None,
        check_in=wanted.check_in,
        check_out=wanted.check_out,
        rooms_count=wanted.rooms_count,
        party=wanted.party,
        account_share_percent=SHARE_PERCENT if by_guest else None,
        **more,
    )


def _outcome(booking: Booking, events: tuple[Event, ...]) -> Any:
    back_minor = sum(event.amount_minor for event in events if isinstance(event, RefundRequested))
    for event in events:
        match event:
            case ChangeRejected() | CommandRefused():
                return str(event.reason)
            case CommandRepeated():
                return decimal(booking.amount_minor, "EUR"), "0.00", "0.00"
            case ChangeHeld():
                return decimal(event.amount_minor, "EUR"), decimal(event.extra_minor, "EUR"), "0.00"
            case StayChanged():
                return decimal(event.amount_minor, "EUR"), "0.00", decimal(back_minor, "EUR")
            case _:
                continue
    raise AssertionError(events)


@given(data=st.data())
def test_a_preview_is_what_the_worker_decides(data: st.DataObject) -> None:
    booking = data.draw(bookings())
    on_sale = data.draw(nights(booking))
    shift, longer = data.draw(st.integers(-2, 3)), data.draw(st.integers(-2, 3))
    check_in = max(booking.check_in + timedelta(days=shift), TODAY)
    wanted = WantedStay(
        check_in,
        max(booking.check_out + timedelta(days=longer), check_in + timedelta(days=1)),
        data.draw(st.integers(1, 3)),
        data.draw(st.sampled_from([None, None, Party(adults=2), Party(adults=4, child_ages=(3,))])),
    )
    rule = ArrivalRule(first_day=day(0), end_day=day(30), min_nights=2, max_nights=5)
    sold_by = data.draw(
        st.sampled_from(
            [terms("flexible", booking.terms, rules) for rules in ((), (), (rule,))]
            + [terms("other", booking.terms, ()), None]
        )
    )
    # Rooms that the booking has unpaid are among those of its account.
    others = data.draw(st.sampled_from([0, 0, 0, 1, 2]))
    account_rooms = {
        on: others + sum(each.rooms_count for each in unpaid_rooms(booking) if each.first_night <= on < each.end_night)
        for on in on_sale
    }
    now = data.draw(st.sampled_from([NOW] * 9 + [NOW + timedelta(hours=4), NOW + timedelta(days=2)]))
    context: dict[str, Any] = {"account_rooms": account_rooms, "now": now, "by_guest": data.draw(st.booleans())}
    expected = decided(booking, wanted, on_sale, sold_by, **context)
    shown, quote = previewed(booking, wanted, on_sale, sold_by, **context)
    assert shown == expected
    if quote is None:
        return
    assert fault_of_quote(quote.quoted, wanted.check_in, wanted.check_out) is None
    # Prices change meanwhile, and the quote's counts.
    dearer = {on: msgspec.structs.replace(night, price_minor=night.price_minor * 2) for on, night in on_sale.items()}
    assert decided(booking, wanted, dearer, sold_by, **context, quoted=quote.quoted) == expected
