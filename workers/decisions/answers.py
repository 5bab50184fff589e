"""The two answers that change nothing: the effect exists already, or the rules refuse."""

from topics.messages.commands import BookingCommand
from topics.messages.events import CommandRefused, CommandRepeated, Event
from topics.messages.values import Refusal
from workers.decisions.state import Booking


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


def refused(booking: Booking | None, command: BookingCommand, reason: Refusal) -> tuple[Event, ...]:
    """Answer with the reason of a refusal."""
    return (
        CommandRefused(
            room_id=command.room_id,
            booking_id=command.booking_id,
            command=command.message_type,
            reason=reason,
            booking_status=None if booking is None else booking.status,
        ),
    )


def not_theirs(booking: Booking | None, user_id: int | None) -> Refusal | None:
    """Return the reason why this user may not change the booking, if any; `user_id` None is a trusted writer."""
    if booking is None:
        return Refusal.BOOKING_NOT_FOUND
    if user_id is not None and booking.user_id != user_id:
        return Refusal.NOT_YOUR_BOOKING
    return None
