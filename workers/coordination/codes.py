"""Promo codes on one page: the commands that each event on `booking.events` leads to. Pure.

    CodeClaimed                                  -> ReserveStay or ReserveTrip with the discount, to the room
    CodeRejected                                 -> the same with the reason, to the room, which rejects the booking
    BookingRejected with a granted use           -> ReturnCode, to the code
    TripRejected, CommandRepeated with one       -> ReturnCode
    CommandRefused with one                      -> ReturnCode
    BookingExpired with a discount               -> ReturnCode
    BookingCancelled with a discount, unpaid     -> ReturnCode
    StayChanged to another room type             -> ReturnCode, if the stay before it had a discount

So a booking always ends in its room's partition, and a use that no booking keeps always comes back.

A trip has one use. Its legs have the discount: a leg that is refused, or released as the trip ended unpaid, gives the
trip's use back. Several legs do so, and the code counts the first. A leg of a paid trip that is cancelled leaves the
use with the trip.
"""

from typing import Final
from uuid import UUID

from msgspec.structs import replace

from topics.envelope import Envelope
from topics.messages.commands import Command, ReturnCode
from topics.messages.events import (
    BookingCancelled,
    BookingEvent,
    BookingExpired,
    BookingRejected,
    CodeClaimed,
    CodeRejected,
    CommandRefused,
    CommandRepeated,
    StayBefore,
    StayChanged,
    TripRejected,
)
from topics.messages.values import CancelReason, Terms
from workers.decisions import Booking

#: The events whose booking `commands_for` reads.
WITH_BOOKING: Final = (BookingExpired, BookingCancelled)


def commands_for(event: object, envelope: Envelope, booking: Booking | None) -> tuple[tuple[str, Command], ...]:
    """Return the commands that an event leads to, each after its id; most events lead to none.

    Args:
        event: the event.
        envelope: its envelope.
        booking: the ledger's booking, of an event in `WITH_BOOKING`. It may be newer than the event.
    """
    match event:
        case CodeClaimed():
            return ((f"{envelope.id}:reserve", replace(event.asked, discount=event.discount)),)
        case CodeRejected():
            return ((f"{envelope.id}:reserve", replace(event.asked, code_rejection=event.reason)),)
        case StayChanged(to_room_id=int()):
            # No price uses the code any more: the leg there costs today's price.
            return _given_back(envelope, _code_of(event.before), event.booking_id)
        case BookingRejected() | TripRejected() | CommandRepeated() | CommandRefused():
            return _given_back(envelope, event.code_id, _user_of_code(event, booking))
        case BookingExpired() | BookingCancelled():
            return _given_back(envelope, _code_given_back(event, booking), _user_of_code(event, booking))
        case _:
            return ()


def _given_back(envelope: Envelope, code_id: int | None, booking_id: UUID) -> tuple[tuple[str, Command], ...]:
    """Return the command that gives a booking's use of a promo code back, after its id; none without a code."""
    return () if code_id is None else ((f"{envelope.id}:return", ReturnCode(code_id=code_id, booking_id=booking_id)),)


def _user_of_code(event: BookingEvent, booking: Booking | None) -> UUID:
    """Return the booking that has the use of the code: of a leg it is the trip."""
    leg = event if isinstance(event, BookingRejected) else booking
    trip_id = None if leg is None else leg.trip_id
    return event.booking_id if trip_id is None else trip_id


def _code_given_back(event: BookingExpired | BookingCancelled, booking: Booking | None) -> int | None:
    """Return the promo code whose use the end of a booking gives back; None: there is no such use."""
    if booking is None or (isinstance(event, BookingCancelled) and not _ended_unpaid(event, booking)):
        return None
    return _code_of(booking)


def _code_of(stay: Booking | StayBefore) -> int | None:
    """Return the promo code that a stay uses; a change in its room changes no code."""
    return None if stay.sale is None or stay.sale.discount is None else stay.sale.discount.code_id


def _ended_unpaid(event: BookingCancelled, booking: Booking) -> bool:
    """Return whether the hotel has no payment in advance for the booking after its cancellation.

    The guest's own cancellation of a paid booking names the costs by the policy, and one of a hold names none. The
    ledger's payments do not show it: a payment that came too late is among them.
    """
    if booking.trip_id is not None:
        return event.reason is CancelReason.TRIP_ENDED
    if booking.terms is Terms.AT_HOTEL:
        return True
    match event.reason:
        case CancelReason.BY_GUEST:
            return event.policy is None
        case CancelReason.REFUNDED_BY_HAND:
            return False
        case CancelReason.BY_HOTEL | CancelReason.PAYMENT_CLOSED | CancelReason.TRIP_ENDED:
            # A cancellation by the hotel sends everything back.
            return True
