"""The preview of a change to another room type is what both rooms' workers would decide: the same price, or refusal."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ingress.bookings.moves import MovePrice, OtherType
from ingress.http.problems import Problem
from pricing.changes import WantedStay
from pricing.currencies import decimal
from storage.reads.bookings import AgreedBooking, NightForSale, RoomFacts, RoomForSale
from storage.reads.changes import ReplacedStay
from tests.ingress.bookings.test_change_quotes import (
    _AGREED,
    FACTS,
    NOW,
    POLICY,
    SHARE_PERCENT,
    TODAY,
    bookings,
    change_to,
    day,
    terms,
)
from topics.envelope import Envelope
from topics.messages.commands import RecordLeg, ReserveStay
from topics.messages.events import (
    BookingRejected,
    BookingReserved,
    ChangeHeld,
    ChangeOpened,
    ChangeRejected,
    CommandRefused,
    RefundRequested,
    StayChanged,
)
from topics.messages.sale import ArrivalRule, Party, RatePlan, SaleTerms
from topics.messages.values import Terms, nights_of
from workers.coordination.trips import commands_for
from workers.decisions import Booking, Night, State, decide
from workers.decisions.evolve import after
from workers.reservations.stay_clock import stay_clock

OTHER: Final = 2


@st.composite
def other_nights(draw: st.DrawFn) -> Mapping[date, Night]:
    """Draw nights of the other room; some are closed, sold out, not there, or in another currency."""
    currency = draw(st.sampled_from(["EUR"] * 9 + ["USD"]))
    drawn = {}
    for on in map(day, range(16)):
        if draw(st.integers(0, 29)):
            drawn[on] = Night(
                hotel_id=1,
                total_count=draw(st.integers(1, 4)) + 1,
                booked_count=draw(st.integers(0, 1)),
                reserved_count=0,
                price_minor=draw(st.integers(3_000, 25_000)),
                surge_milli=1_000,
                closed=not draw(st.integers(0, 19)),
                currency=currency,
            )
    return drawn


def of_two_plans(payment: Terms) -> SaleTerms:
    """Return terms with a second plan, which is paid as given."""
    sold = terms("flexible", Terms.PREPAID, ())
    second = RatePlan(id="second", name="Second", policy=POLICY, terms=payment)
    return msgspec.structs.replace(sold, plans=(*sold.plans, second))


def previewed(
    booking: Booking,
    wanted: WantedStay,
    other: OtherType,
    on_sale: Mapping[date, Night],
    sold_by: SaleTerms | None,
    *,
    account_rooms: Mapping[date, int],
    now: datetime,
    by_guest: bool,
) -> Any:
    """Return the amount, the extra and the refund of the preview, or the reason of its refusal."""
    fields = {name: getattr(booking, name) for name in booking.__struct_fields__ if name in _AGREED}
    earlier = tuple(ReplacedStay(change_id=each.change_id, stay=each.stay) for each in booking.earlier_stays)
    unlike = {"payments": None, "pending_change": None, "earlier_stays": earlier, "legs": None}
    agreed = AgreedBooking(**fields | unlike, created_at=NOW, updated_at=NOW)
    nights = [
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
    ]
    facts: RoomFacts = FACTS
    try:
        change = MovePrice(
            other,
            agreed,
            wanted,
            facts,
            RoomForSale(terms=sold_by, nights=nights),
            now,
            account_share_percent=SHARE_PERCENT if by_guest else None,
            account_rooms=account_rooms,
            by_guest=by_guest,
        ).priced()
    except Problem as problem:
        return problem.more["reason"]
    currency = booking.currency
    sums = (change.price.amount_minor, change.extra_minor, change.back_minor)
    return tuple(decimal(minor, currency) for minor in sums)


def decided(
    booking: Booking,
    wanted: WantedStay,
    other: OtherType,
    on_sale: Mapping[date, Night],
    sold_by: SaleTerms | None,
    *,
    account_rooms: Mapping[date, int],
    now: datetime,
    by_guest: bool,
) -> Any:
    """Return the same of the decisions: the room opens the change, the other one holds it, and the first prices it."""
    command = change_to(wanted, booking, by_guest=by_guest, to_room_id=other.room_id, plan_id=other.plan_id)
    own = State(booking, {}, clock=stay_clock(booking, command, now))
    events = decide(own, command, now)
    if not isinstance(events[-1], ChangeOpened):
        assert isinstance(events[-1], ChangeRejected | CommandRefused)
        return str(events[-1].reason)
    own = after(own, *events)
    ((_, reserve),) = commands_for(events[-1], ENVELOPE, own.booking)
    assert isinstance(reserve, ReserveStay)
    there = State(None, on_sale, clock=stay_clock(None, reserve, now), sale_terms=sold_by, account_rooms=account_rooms)
    (leg,) = decide(there, reserve, now)
    assert isinstance(leg, BookingReserved | BookingRejected)
    ((_, record),) = commands_for(leg, ENVELOPE, None)
    assert isinstance(record, RecordLeg)
    back_minor = 0
    result: Any = None
    for event in decide(own, record, now):
        match event:
            case ChangeRejected():
                return str(event.reason)
            case ChangeHeld():
                result = event.amount_minor, event.extra_minor
            case StayChanged():
                result = event.amount_minor, 0
            case RefundRequested():
                back_minor = event.amount_minor
            case _:
                continue
    return tuple(decimal(minor, booking.currency) for minor in (*result, back_minor))


ENVELOPE: Final = Envelope(
    id="e", type="t", source="s", subject="1", time=NOW, causation="c", correlation="c", sequence=1
)


@given(data=st.data())
def test_a_preview_is_what_the_workers_decide(data: st.DataObject) -> None:
    booking = msgspec.structs.replace(data.draw(bookings()), pending_change=None, hold_expires_at=None)
    shift, longer = data.draw(st.integers(-2, 2)), data.draw(st.integers(-1, 2))
    check_in = max(booking.check_in + timedelta(days=shift), TODAY)
    wanted = WantedStay(
        check_in,
        max(booking.check_out + timedelta(days=longer), check_in + timedelta(days=1)),
        data.draw(st.integers(1, 2)),
        data.draw(st.sampled_from([None, None, Party(adults=2), Party(adults=4, child_ages=(3,))])),
    )
    rule = ArrivalRule(first_day=day(0), end_day=day(30), min_nights=2, max_nights=5)
    sold_by = data.draw(
        st.sampled_from(
            [
                terms("flexible", Terms.PREPAID, ()),
                terms("flexible", Terms.PREPAID, (rule,)),
                terms("flexible", Terms.AT_HOTEL, ()),
                of_two_plans(Terms.PREPAID),
                of_two_plans(Terms.AT_HOTEL),
                None,
            ]
        )
    )
    other = OtherType(OTHER, data.draw(st.sampled_from([None, None, "second", "none"])))
    on_sale = data.draw(other_nights())
    account_rooms = dict.fromkeys(on_sale, data.draw(st.sampled_from([0, 0, 0, 1, 2])))
    now = data.draw(st.sampled_from([NOW] * 9 + [NOW + timedelta(hours=4), NOW + timedelta(days=2)]))
    context: dict[str, Any] = {"account_rooms": account_rooms, "now": now, "by_guest": data.draw(st.booleans())}
    expected = decided(booking, wanted, other, on_sale, sold_by, **context)
    assert previewed(booking, wanted, other, on_sale, sold_by, **context) == expected
