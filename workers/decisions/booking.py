"""Decisions about stays: reserving, naming guests, cancelling, and the end of a hold."""

from datetime import datetime, timedelta

from pricing.stays import night_price_minor, stay_amount_minor
from topics.messages.commands import AddGuests, CancelBooking, ExpireHold, ReserveStay
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingExpired,
    BookingRejected,
    BookingReserved,
    Event,
    GuestsAdded,
    RefundRequested,
)
from topics.messages.values import (
    MAX_NIGHTS,
    BookingStatus,
    RefundReason,
    Refusal,
    Rejection,
    Terms,
    nights_of,
)
from workers.decisions.answers import not_theirs, refused, repeated
from workers.decisions.state import Booking, State, live


def reserve(state: State, command: ReserveStay, now: datetime) -> tuple[Event, ...]:
    """Hold the stay if every night of it is on sale and free; a booking that exists already stays as it is."""
    booking = state.booking
    if booking is not None:
        return repeated(booking, command)
    reason = rejection(state, command)
    if reason is not None:
        return (_rejected_event(command, reason),)
    reserved = _reserved_event(state, command, now)
    if command.terms is Terms.PREPAID:
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


def rejection(state: State, command: ReserveStay) -> Rejection | None:
    """Return the first reason, in the order of `Rejection`, why the stay cannot be reserved."""
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
    if any(night.hotel_id != command.hotel_id for night in nights):
        return Rejection.ROOM_OF_ANOTHER_HOTEL
    if any(night.closed for night in nights):
        return Rejection.NIGHT_CLOSED
    if any(night.free_count < command.rooms_count for night in nights):
        return Rejection.SOLD_OUT
    return None


def _reserved_event(state: State, command: ReserveStay, now: datetime) -> BookingReserved:
    nights = [state.nights[day] for day in nights_of(command.check_in, command.check_out)]
    agreed = command.agreed_nightly_minor
    prices_minor = [
        night_price_minor(night.price_minor, night.surge_milli) if agreed is None else agreed for night in nights
    ]
    prepaid = command.terms is Terms.PREPAID
    return BookingReserved(
        room_id=command.room_id,
        booking_id=command.booking_id,
        user_id=command.user_id,
        hotel_id=command.hotel_id,
        check_in=command.check_in,
        check_out=command.check_out,
        rooms_count=command.rooms_count,
        amount_minor=stay_amount_minor(prices_minor, command.rooms_count),
        currency=nights[0].currency,
        terms=command.terms,
        hold_expires_at=now + timedelta(seconds=command.hold_seconds) if prepaid else None,
    )


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
    )


def add_guests(state: State, command: AddGuests, now: datetime) -> tuple[Event, ...]:
    """Name the people who stay; they can be replaced until payment is requested."""
    booking = state.booking
    reason = not_theirs(booking, command.user_id)
    if booking is None or reason is not None:
        return refused(booking, command, reason or Refusal.BOOKING_NOT_FOUND)
    if booking.status is BookingStatus.EXPIRED:
        return refused(booking, command, Refusal.HOLD_EXPIRED)
    guest_ids = tuple(sorted(set(command.guest_ids)))
    if guest_ids and booking.guest_ids == guest_ids:
        return repeated(booking, command)
    if booking.status not in (BookingStatus.RESERVED, BookingStatus.GUESTS_ADDED):
        return refused(booking, command, Refusal.WRONG_STATUS)
    if not guest_ids:
        return refused(booking, command, Refusal.NO_GUESTS)
    return (GuestsAdded(room_id=booking.room_id, booking_id=booking.id, guest_ids=guest_ids),)


def cancel(state: State, command: CancelBooking, now: datetime) -> tuple[Event, ...]:
    """End the booking: its nights are on sale again, and the payment that paid it is refunded in full."""
    booking = state.booking
    reason = not_theirs(booking, command.user_id)
    if booking is None or reason is not None:
        return refused(booking, command, reason or Refusal.BOOKING_NOT_FOUND)
    if booking.status is BookingStatus.CANCELLED:
        return repeated(booking, command)
    if booking.status is BookingStatus.EXPIRED:
        return refused(booking, command, Refusal.HOLD_EXPIRED)
    if booking.status is not BookingStatus.CONFIRMED and not live(booking):
        return refused(booking, command, Refusal.WRONG_STATUS)
    cancelled = BookingCancelled(room_id=booking.room_id, booking_id=booking.id, reason=command.reason)
    return (cancelled, *_refund_of_payment(booking))


def _refund_of_payment(booking: Booking) -> tuple[Event, ...]:
    """Return the event that refunds the booking's payment in full: hotels have no cancellation policy yet."""
    payment = booking.paying_payment()
    if payment is None:
        return ()
    return (
        RefundRequested(
            room_id=booking.room_id,
            booking_id=booking.id,
            session_id=payment.session_id,
            payment_intent=payment.payment_intent,
            amount_minor=payment.amount_minor,
            currency=booking.currency,
            reason=RefundReason.BOOKING_CANCELLED,
        ),
    )


def expire(state: State, command: ExpireHold, now: datetime) -> tuple[Event, ...]:
    """End a hold whose deadline the log's time has passed; a command that came too early has no event."""
    booking = state.booking
    if booking is None:
        return refused(booking, command, Refusal.BOOKING_NOT_FOUND)
    if not live(booking):
        return repeated(booking, command)
    if booking.hold_expires_at is None or booking.hold_expires_at > now:
        return ()
    return (BookingExpired(room_id=booking.room_id, booking_id=booking.id),)
