"""Decisions of the hotel on the days of a stay: arrival, departure, early departure, and guests who do not arrive."""

from datetime import date, datetime, timedelta
from typing import Final

from pricing.changes import costs_of_changes, least_kept_minor
from pricing.policy import early_departure_kept_minor
from pricing.shares import shares_minor
from topics.messages.commands import CheckIn, CheckOut, MarkNoShow
from topics.messages.events import Event, GuestsCheckedIn, GuestsCheckedOut, GuestsDidNotArrive
from topics.messages.sale import AppliedPolicy
from topics.messages.values import BookingStatus, ChangeEnd, RefundReason, Refusal
from workers.decisions.answers import not_from, refused
from workers.decisions.booking import end_of_change, refund_but
from workers.decisions.state import Booking, State

#: A no-show is recorded until so long after check-out. Hotels record it the next day, or when they close their month. A
#: slip with an older stay would refund, for good, a stay that guests slept in, where the policy keeps only a part.
MAX_NO_SHOW_DELAY: Final = timedelta(days=30)


def check_in(state: State, command: CheckIn, now: datetime) -> tuple[Event, ...]:
    """Record the arrival, from the day of arrival until check-out."""
    booking = state.booking
    answer = not_from(booking, command, BookingStatus.CONFIRMED, BookingStatus.CHECKED_IN)
    if booking is None or answer is not None:
        return answer or ()
    clock = state.clock
    assert clock is not None
    if now >= clock.check_out_at:
        return refused(booking, command, Refusal.STAY_OVER)
    if clock.today < booking.check_in:
        return refused(booking, command, Refusal.BEFORE_ARRIVAL)
    arrived = GuestsCheckedIn(room_id=booking.room_id, booking_id=booking.id)
    return (*end_of_change(booking, ChangeEnd.STAY_BEGAN), arrived)


def check_out(state: State, command: CheckOut, now: datetime) -> tuple[Event, ...]:
    """Record the departure; before the last day, the nights to come are on sale again, and the policy counts."""
    booking = state.booking
    answer = not_from(booking, command, BookingStatus.CHECKED_IN, BookingStatus.CHECKED_OUT)
    if booking is None or answer is not None:
        return answer or ()
    assert state.clock is not None
    freed_from = max(state.clock.today, booking.check_in)
    if freed_from >= booking.check_out:
        return (GuestsCheckedOut(room_id=booking.room_id, booking_id=booking.id),)
    policy = _early_departure(booking, freed_from)
    left = GuestsCheckedOut(room_id=booking.room_id, booking_id=booking.id, freed_from=freed_from, policy=policy)
    return (left, *refund_but(booking, policy.kept_minor, RefundReason.EARLY_DEPARTURE))


def _early_departure(booking: Booking, freed_from: date) -> AppliedPolicy:
    """Return what an early departure costs; without sale terms, all of the amount, as no policy was agreed.

    The costs of changes are no part of the nights' price. The stay keeps the least costs of its cancellation, which an
    earlier change may have raised; then the policy has no percentage.
    """
    percent = 100 if booking.sale is None else booking.sale.early_departure_percent
    costs_minor = costs_of_changes(booking.sale)
    price_minor = booking.amount_minor - costs_minor
    nights_minor = booking.night_amounts_minor
    if costs_minor:
        nights_minor = shares_minor(price_minor, nights_minor)
    unused_minor = sum(
        amount_minor for day, amount_minor in zip(booking.nights(), nights_minor, strict=False) if day >= freed_from
    )
    kept = early_departure_kept_minor(price_minor, unused_minor, percent, booking.currency)
    kept += costs_minor
    if booking.sale is not None and kept < (least_minor := least_kept_minor(booking.sale)):
        return AppliedPolicy(kept_minor=least_minor)
    return AppliedPolicy(kept_minor=kept, percent=percent)


def mark_no_show(state: State, command: MarkNoShow, now: datetime) -> tuple[Event, ...]:
    """Record that nobody arrived: nights from today on are on sale again, and the policy counts.

    It is recorded from check-in until `MAX_NO_SHOW_DELAY` after check-out.
    """
    booking = state.booking
    answer = not_from(booking, command, BookingStatus.CONFIRMED, BookingStatus.NO_SHOW)
    if booking is None or answer is not None:
        return answer or ()
    clock = state.clock
    assert clock is not None
    if now - clock.check_out_at >= MAX_NO_SHOW_DELAY:
        return refused(booking, command, Refusal.STAY_OVER)
    if now < clock.check_in_at:
        return refused(booking, command, Refusal.BEFORE_ARRIVAL)
    kept_minor = booking.amount_minor if booking.sale is None else booking.sale.no_show_kept_minor
    policy = AppliedPolicy(kept_minor=kept_minor)
    missed = GuestsDidNotArrive(
        room_id=booking.room_id,
        booking_id=booking.id,
        freed_from=min(max(clock.today, booking.check_in), booking.check_out),
        policy=policy,
    )
    refunds = refund_but(booking, kept_minor, RefundReason.NO_SHOW)
    return (*end_of_change(booking, ChangeEnd.STAY_BEGAN), missed, *refunds)
