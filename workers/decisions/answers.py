"""The two answers that change nothing, because the effect exists already or the rules refuse, and checks for both."""

from topics.messages.commands import BookingCommand, ReserveStay, ReserveTrip
from topics.messages.events import CommandRefused, CommandRepeated, Event
from topics.messages.values import BookingStatus, Refusal
from workers.decisions.state import Booking, Payment


def repeated(booking: Booking, command: BookingCommand, *, code_id: int | None = None) -> tuple[Event, ...]:
    """Answer with the present state, because the command's effect exists already."""
    return (
        CommandRepeated(
            room_id=command.room_id,
            booking_id=command.booking_id,
            command=command.message_type,
            booking_status=booking.status,
            code_id=code_id,
        ),
    )


def refused(
    booking: Booking | None, command: BookingCommand, reason: Refusal, *, code_id: int | None = None
) -> tuple[Event, ...]:
    """Answer with the reason of a refusal; `code_id` is the promo code whose use was granted to the command."""
    return (
        CommandRefused(
            room_id=command.room_id,
            booking_id=command.booking_id,
            command=command.message_type,
            reason=reason,
            booking_status=None if booking is None else booking.status,
            code_id=code_id,
        ),
    )


def of_another_request(booking: Booking, command: ReserveStay | ReserveTrip) -> tuple[Event, ...] | None:
    """Return the answer to a request that has an Idempotency-Key in common with the one that made the booking, if so.

    It is refused, and gets its promo code's use back. A booking that a worker of 0.1.0 decided has no hash, and
    counts as the same request's.
    """
    if command.request_hash is None or booking.request_hash in (None, command.request_hash):
        return None
    return refused(booking, command, Refusal.ANOTHER_REQUEST, code_id=code_of(command))


def code_of(command: ReserveStay | ReserveTrip) -> int | None:
    """Return the promo code whose use was granted to the request, if it was."""
    return None if command.discount is None else command.discount.code_id


def payment_of(booking: Booking | None, payment_intent: str) -> Payment | Refusal:
    """Return the payment of a booking that a command names, or the reason why there is none."""
    if booking is None:
        return Refusal.BOOKING_NOT_FOUND
    return booking.payment(payment_intent) or Refusal.UNKNOWN_PAYMENT


def not_from(
    booking: Booking | None, command: BookingCommand, before: BookingStatus, after: BookingStatus
) -> tuple[Event, ...] | None:
    """Return the answer to a command that moves a booking from one status to another, if it is in neither or moved."""
    if booking is None:
        return refused(booking, command, Refusal.BOOKING_NOT_FOUND)
    if booking.status is after:
        return repeated(booking, command)
    return None if booking.status is before else refused(booking, command, Refusal.WRONG_STATUS)


def not_theirs(booking: Booking | None, user_id: int | None) -> Refusal | None:
    """Return the reason why this user may not change the booking, if any; `user_id` None is a trusted writer."""
    if booking is None:
        return Refusal.BOOKING_NOT_FOUND
    if user_id is not None and booking.user_id != user_id:
        return Refusal.NOT_YOUR_BOOKING
    return None
