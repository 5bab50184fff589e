"""Decisions about stays: reserving, naming guests, cancelling, and the end of a hold."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final
from uuid import UUID

from pricing import account_share
from pricing.account_share import NightOfAccount
from pricing.changes import price_move
from pricing.policy import step_in_force
from pricing.sale import PricedStay, can_be_paid
from topics.messages.commands import AddGuests, CancelBooking, ChangeGuests, ChangeStay, ExpireHold, ReserveStay
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingExpired,
    BookingRejected,
    BookingReserved,
    ChangeEnded,
    ChangeHeld,
    Event,
    GuestsAdded,
    GuestsChanged,
    RefundRequested,
    RoomsHeld,
    StayBefore,
    StayChanged,
)
from topics.messages.sale import AppliedPolicy
from topics.messages.values import (
    MAX_NIGHTS,
    BookingStatus,
    CancelReason,
    ChangeEnd,
    RefundReason,
    Refusal,
    Rejection,
    Terms,
    nights_of,
)
from workers.decisions.answers import code_of, not_theirs, of_another_request, refused, repeated
from workers.decisions.sale import Offer, code_rejection, offer_for, offer_rejection, priced, rules_forbid
from workers.decisions.state import Booking, Night, Payment, PaymentState, State, live

#: The statuses of a stay that is bought and not over: its nights are booked.
_UNDER_WAY: Final = (BookingStatus.CONFIRMED, BookingStatus.CHECKED_IN)


def reserve(state: State, command: ReserveStay, now: datetime) -> tuple[Event, ...]:
    """Hold the stay if every night of it is on sale and free; a booking that exists already stays as it is."""
    booking = state.booking
    if booking is not None:
        return of_another_request(booking, command) or repeated(
            booking, command, code_id=_unused_code(booking, command)
        )
    offer = offer_for(state, command)
    reason = code_rejection(state, command) or _rejection(state, command, offer, now)
    if reason is not None:
        return (_rejected_event(command, reason),)
    price = priced(command, offer, [state.nights[day] for day in nights_of(command.check_in, command.check_out)])
    if command.moved is not None:
        with_costs = price_move(price, command.moved)
        if with_costs is None:
            return (_rejected_event(command, Rejection.NO_SUCH_PLAN),)
        price = with_costs
    if not can_be_paid(price, in_trip=command.trip_id is not None):
        return (_rejected_event(command, Rejection.NOT_CHARGEABLE),)
    if command.trip_id is not None and price.terms is not Terms.PREPAID:
        return (_rejected_event(command, Rejection.NOT_PREPAID),)
    reserved = _reserved_event(command, price, now)
    if reserved.terms is Terms.PREPAID:
        return (reserved,)
    return (
        reserved,
        BookingConfirmed(
            room_id=command.room_id,
            booking_id=command.booking_id,
            amount_minor=reserved.amount_minor,
            currency=reserved.currency,
        ),
    )


def _rejection(state: State, command: ReserveStay, offer: Offer | None, now: datetime) -> Rejection | None:
    """Return the first reason, in the order of `Rejection`, why the stay cannot be reserved, its price aside."""
    if command.check_in >= command.check_out:
        return Rejection.NO_NIGHTS
    if command.rooms_count < 1:
        return Rejection.NO_ROOMS
    if command.agreed_nightly_minor is not None and command.agreed_nightly_minor < 0:
        return Rejection.NEGATIVE_RATE
    if (command.check_out - command.check_in).days > MAX_NIGHTS:
        return Rejection.NIGHT_NOT_OPEN
    nights = []
    for day in nights_of(command.check_in, command.check_out):
        night = state.nights.get(day)
        if night is None:
            return Rejection.NIGHT_NOT_OPEN
        nights.append(night)
    return _rejection_of_nights(state, command, offer, nights, now)


def _rejection_of_nights(
    state: State, command: ReserveStay, offer: Offer | None, nights: Sequence[Night], now: datetime
) -> Rejection | None:
    """Return the first reason why these nights, all open, cannot be reserved together."""
    # Every reservation comes here: `any` would make a generator each time, for one to three nights.
    for night in nights:
        if night.hotel_id != command.hotel_id:
            return Rejection.ROOM_OF_ANOTHER_HOTEL
    reason = offer_rejection(state, command, offer, now)
    if reason is not None:
        return reason
    for night in nights:
        if night.closed:
            return Rejection.NIGHT_CLOSED
    reason = rules_forbid(state, command, offer)
    if reason is not None:
        return reason
    for night in nights:
        if night.free_count < command.rooms_count:
            return Rejection.SOLD_OUT
    if command.account_share_percent is None:
        return None
    rooms = ((day, command.rooms_count) for day in nights_of(command.check_in, command.check_out))
    return Rejection.ACCOUNT_SHARE if exceeds_share(state, command, rooms) else None


def exceeds_share(state: State, command: ReserveStay | ChangeStay, rooms: Iterable[tuple[date, int]]) -> bool:
    """Return whether the account would hold more than its share of a night unpaid, with so many rooms of each more."""
    if command.user_id is None:
        return False
    nights = (
        NightOfAccount(state.account_rooms.get(day, 0), more, state.nights[day].total_count) for day, more in rooms
    )
    return account_share.exceeds_share(command.account_share_percent, nights)


@lru_cache(maxsize=100)
def _seconds(count: int) -> timedelta:
    """Return a length of time; holds are all of a few lengths."""
    return timedelta(seconds=count)


def _reserved_event(command: ReserveStay, price: PricedStay, now: datetime) -> BookingReserved:
    # The trip of a leg has the deadline.
    has_deadline = price.terms is Terms.PREPAID and command.trip_id is None
    return BookingReserved(
        room_id=command.room_id,
        booking_id=command.booking_id,
        user_id=command.user_id,
        hotel_id=command.hotel_id,
        check_in=command.check_in,
        check_out=command.check_out,
        rooms_count=command.rooms_count,
        amount_minor=price.amount_minor,
        currency=price.currency,
        terms=price.terms,
        hold_expires_at=now + _seconds(command.hold_seconds) if has_deadline else None,
        night_amounts_minor=price.night_amounts_minor,
        stay_times=command.stay_times,
        sale=price.sale,
        guest_list_id=command.guest_list_id,
        accepted_terms=command.accepted_terms,
        moved=command.moved,
        trip_id=command.trip_id,
        trip_room_id=command.trip_room_id,
        request_hash=command.request_hash,
    )


def _unused_code(booking: Booking, command: ReserveStay) -> int | None:
    """Return the code whose use was granted to a booking that does not have it, so that the use is given back.

    That is a claim which was refused at first and then sent again: the booking was rejected by then. Of a leg, its trip
    has the use.
    """
    if (
        command.discount is None
        or command.trip_id is not None
        or (booking.sale is not None and booking.sale.discount is not None)
    ):
        return None
    return command.discount.code_id


def _rejected_event(command: ReserveStay, reason: Rejection) -> BookingRejected:
    return BookingRejected(
        room_id=command.room_id,
        booking_id=command.booking_id,
        user_id=command.user_id,
        hotel_id=command.hotel_id,
        check_in=command.check_in,
        check_out=command.check_out,
        rooms_count=command.rooms_count,
        terms=command.terms,
        reason=reason,
        code_id=code_of(command),
        trip_id=command.trip_id,
        trip_room_id=command.trip_room_id,
        request_hash=command.request_hash,
    )


def add_guests(state: State, command: AddGuests, now: datetime) -> tuple[Event, ...]:
    """Name the people who stay; they can be replaced until payment is requested.

    A list that a later one replaced is a repeated command, which must not undo the later one.
    """
    booking = state.booking
    reason = not_theirs(booking, command.user_id)
    if booking is None or reason is not None:
        return refused(booking, command, reason or Refusal.BOOKING_NOT_FOUND)
    if booking.status is BookingStatus.EXPIRED:
        return refused(booking, command, Refusal.HOLD_EXPIRED)
    if command.guest_list_id in booking.earlier_guest_list_ids:
        return repeated(booking, command)
    guest_ids = tuple(sorted(set(command.guest_ids)))
    open_to_names = booking.status in (BookingStatus.RESERVED, BookingStatus.GUESTS_ADDED)
    # The same people under other names have another list; once payment is requested, their names stay.
    same_names = not open_to_names or command.guest_list_id in (None, booking.guest_list_id)
    if guest_ids and booking.guest_ids == guest_ids and same_names:
        return repeated(booking, command)
    if not open_to_names:
        return refused(booking, command, Refusal.WRONG_STATUS)
    if not guest_ids:
        return refused(booking, command, Refusal.NO_GUESTS)
    return (
        GuestsAdded(
            room_id=booking.room_id,
            booking_id=booking.id,
            guest_ids=guest_ids,
            guest_list_id=command.guest_list_id,
        ),
    )


def change_guests(state: State, command: ChangeGuests, now: datetime) -> tuple[Event, ...]:
    """Replace the people who stay, after payment and until check-in; a list that was replaced does not return."""
    booking = state.booking
    reason = not_theirs(booking, command.user_id)
    if booking is None or reason is not None:
        return refused(booking, command, reason or Refusal.BOOKING_NOT_FOUND)
    if booking.status is not BookingStatus.CONFIRMED:
        return refused(booking, command, Refusal.WRONG_STATUS)
    if command.guest_list_id in (booking.guest_list_id, *booking.earlier_guest_list_ids):
        return repeated(booking, command)
    late = too_late(state, now, by_guest=True)
    if late is not None:
        return refused(booking, command, late)
    guest_ids = tuple(sorted(set(command.guest_ids)))
    if not guest_ids:
        return refused(booking, command, Refusal.NO_GUESTS)
    return (
        GuestsChanged(
            room_id=booking.room_id,
            booking_id=booking.id,
            guest_ids=guest_ids,
            guest_list_id=command.guest_list_id,
        ),
    )


def too_late(state: State, now: datetime, *, by_guest: bool) -> Refusal | None:
    """Return the reason why the stay's time forbids a change, if it does: nobody changes a stay that is over."""
    clock = state.clock
    if clock is None:
        return None
    if now >= clock.check_out_at:
        return Refusal.STAY_OVER
    return Refusal.CHECK_IN_PASSED if by_guest and now >= clock.check_in_at else None


def cancel(state: State, command: CancelBooking, now: datetime) -> tuple[Event, ...]:
    """End the booking: its nights to come are on sale again, and its payment is refunded but for what the policy keeps.

    After check-in the hotel alone can cancel, also once the guests have arrived, and after check-out nobody. A
    cancellation by the hotel costs nothing.
    """
    booking = state.booking
    reason = not_theirs(booking, command.user_id)
    if booking is None or reason is not None:
        return refused(booking, command, reason or Refusal.BOOKING_NOT_FOUND)
    if booking.status is BookingStatus.CANCELLED:
        return repeated(booking, command)
    if booking.status is BookingStatus.EXPIRED:
        return refused(booking, command, Refusal.HOLD_EXPIRED)
    by_guest = command.user_id is not None
    # Money that went back by hand sends nobody away who has arrived.
    before_arrival = by_guest or command.reason is CancelReason.REFUNDED_BY_HAND
    if not live(booking) and (
        booking.status not in _UNDER_WAY or (before_arrival and booking.status is not BookingStatus.CONFIRMED)
    ):
        return refused(booking, command, Refusal.WRONG_STATUS)
    if not live(booking):
        late = too_late(state, now, by_guest=by_guest)
        if late is not None:
            return refused(booking, command, late)
    policy = _cancellation_policy(state, booking, command, now)
    cancelled = BookingCancelled(
        room_id=booking.room_id,
        booking_id=booking.id,
        reason=command.reason,
        hotel_reason=command.hotel_reason,
        freed_from=first_night_freed(state, booking),
        policy=policy,
    )
    kept_minor = 0 if policy is None else policy.kept_minor
    return (
        *end_of_change(booking, ChangeEnd.BOOKING_CANCELLED),
        cancelled,
        *refund_but(booking, kept_minor, RefundReason.BOOKING_CANCELLED),
    )


def _cancellation_policy(state: State, booking: Booking, command: CancelBooking, now: datetime) -> AppliedPolicy | None:
    """Return what the cancellation costs: nothing by the hotel, or before the stay is bought, or without sale terms."""
    if command.user_id is None or booking.status is not BookingStatus.CONFIRMED:
        return None
    return cost_of_cancelling(state, booking, now)


def cost_of_cancelling(state: State, booking: Booking, now: datetime) -> AppliedPolicy | None:
    """Return the costs of a cancellation of a bought stay by its guest; None: it was sold without sale terms."""
    sale, clock = booking.sale, state.clock
    if sale is None or clock is None:
        return None
    step, end = step_in_force(sale.steps, clock.step_ends, now)
    return AppliedPolicy(kept_minor=step.kept_minor, percent=step.percent, until=end, zone_data=clock.zone_data)


def end_of_change(booking: Booking, reason: ChangeEnd) -> tuple[Event, ...]:
    """Return the event that ends the booking's change, if one is held and not paid."""
    change = booking.pending_change
    if change is None:
        return ()
    return (
        ChangeEnded(
            room_id=booking.room_id,
            booking_id=booking.id,
            change_id=change.id,
            reason=reason,
            held=change.held,
            to_room_id=change.to_room_id,
        ),
    )


def change_held(
    booking: Booking,
    change_id: UUID,
    stay: StayBefore,
    *,
    hold_expires_at: datetime,
    held: tuple[RoomsHeld, ...] = (),
    to_room_id: int | None = None,
) -> ChangeHeld:
    """Return the event of a change to a dearer stay, which waits for the payment of the difference."""
    return ChangeHeld(
        room_id=booking.room_id,
        booking_id=booking.id,
        change_id=change_id,
        check_in=stay.check_in,
        check_out=stay.check_out,
        rooms_count=stay.rooms_count,
        amount_minor=stay.amount_minor,
        extra_minor=stay.amount_minor - booking.amount_minor,
        currency=booking.currency,
        hold_expires_at=hold_expires_at,
        night_amounts_minor=stay.night_amounts_minor,
        sale=stay.sale,
        held=held,
        to_room_id=to_room_id,
    )


def stay_changed(booking: Booking, change_id: UUID, stay: StayBefore, *, to_room_id: int | None = None) -> StayChanged:
    """Return the event by which the booking has another stay from now on, without the payment for it."""
    return StayChanged(
        room_id=booking.room_id,
        booking_id=booking.id,
        change_id=change_id,
        check_in=stay.check_in,
        check_out=stay.check_out,
        rooms_count=stay.rooms_count,
        amount_minor=stay.amount_minor,
        currency=booking.currency,
        night_amounts_minor=stay.night_amounts_minor,
        before=booking.present_stay(),
        sale=stay.sale,
        to_room_id=to_room_id,
    )


def first_night_freed(state: State, booking: Booking) -> date | None:
    """Return the first night that a cancellation puts on sale again; None: all of them, since none is past."""
    if state.clock is None or booking.status not in _UNDER_WAY or state.clock.today <= booking.check_in:
        return None
    return min(state.clock.today, booking.check_out)


def refund_but(booking: Booking, kept_minor: int, reason: RefundReason) -> tuple[Event, ...]:
    """Return the events that refund the booking's payments but for an amount that the hotel keeps; none for nothing.

    The hotel keeps the oldest payments first. Of payments that pay the booking no more, it keeps a part already.
    """
    ended = (paid for paid in booking.payments if paid.state is not PaymentState.KEPT)
    kept_minor = max(0, kept_minor - sum(paid.policy_minor for paid in ended))
    requested: list[Event] = []
    for payment in booking.paying_payments():
        retained_minor = min(payment.kept_minor, kept_minor)
        kept_minor -= retained_minor
        if payment.kept_minor > retained_minor:
            requested.append(rest_requested(booking, payment, reason, retained_minor))
    return tuple(requested)


def part_refunded(
    booking: Booking,
    amount_minor: int,
    reason: RefundReason = RefundReason.STAY_CHANGED,
    *,
    first: str | None = None,
) -> tuple[Event, ...]:
    """Return the events that refund a part of the money of a stay that goes on.

    They are of the payment intent `first`, if it is given, and then of the newest payments.
    """
    requested: list[Event] = []
    amount_minor = max(0, amount_minor)
    newest = reversed(booking.paying_payments())
    for payment in sorted(newest, key=lambda paid: paid.payment_intent != first):
        part_minor = min(payment.kept_minor, amount_minor)
        amount_minor -= part_minor
        if part_minor:
            total_minor = payment.amount_minor - payment.kept_minor + part_minor
            requested.append(
                RefundRequested(
                    room_id=booking.room_id,
                    booking_id=booking.id,
                    session_id=payment.session_id,
                    payment_intent=payment.payment_intent,
                    amount_minor=part_minor,
                    currency=payment.currency or booking.currency,
                    reason=reason,
                    total_minor=None if total_minor == part_minor else total_minor,
                )
            )
    return tuple(requested)


def rest_requested(
    booking: Booking, payment: Payment, reason: RefundReason, retained_minor: int = 0
) -> RefundRequested:
    """Return the event that asks for a refund of everything of the payment that is left, but for what is retained."""
    retained_minor = max(retained_minor, payment.policy_minor)
    amount_minor = payment.kept_minor + payment.retained_minor - retained_minor
    total_minor = payment.amount_minor - retained_minor
    return RefundRequested(
        room_id=booking.room_id,
        booking_id=booking.id,
        session_id=payment.session_id,
        payment_intent=payment.payment_intent,
        amount_minor=amount_minor,
        currency=payment.currency or booking.currency,
        reason=reason,
        total_minor=None if total_minor == amount_minor else total_minor,
        retained_minor=retained_minor,
    )


def expire(state: State, command: ExpireHold, now: datetime) -> tuple[Event, ...]:
    """End a hold, of a stay or of a change, whose deadline the log's time has passed; too early, there is no event."""
    booking = state.booking
    if booking is None:
        return refused(booking, command, Refusal.BOOKING_NOT_FOUND)
    if not live(booking) and booking.pending_change is None:
        return repeated(booking, command)
    return due_expiry(booking, now)


def due_expiry(booking: Booking, now: datetime) -> tuple[Event, ...]:
    """Return the event that ends the booking's hold, or that of its change, if the deadline has passed."""
    if booking.hold_expires_at is None or booking.hold_expires_at > now:
        return ()
    if live(booking):
        return (BookingExpired(room_id=booking.room_id, booking_id=booking.id),)
    return end_of_change(booking, ChangeEnd.EXPIRED)
