"""Promo codes on one page: the commands that each event on `booking.events` leads to. Pure.

    CodeClaimed                                  -> ReserveStay or ReserveTrip with the discount, to the room
    CodeRejected                                 -> the same with the reason, to the room, which rejects the booking
    BookingRejected with a granted use           -> ReturnCode, to the code
    TripRejected, CommandRepeated with one       -> ReturnCode
    BookingExpired with a discount               -> ReturnCode
    BookingCancelled with a discount, unpaid     -> ReturnCode

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
    CommandRepeated,
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
        case BookingRejected() | TripRejected() | CommandRepeated() | BookingExpired() | BookingCancelled():
            code_id = _code_given_back(event, booking)
            if code_id is None:
                return ()
            return ((f"{envelope.id}:return", ReturnCode(code_id=code_id, booking_id=_user_of_code(event, booking))),)
        case _:
            return ()


def _user_of_code(event: BookingEvent, booking: Booking | None) -> UUID:
    """Return the booking that has the use of the code: of a leg it is the trip."""
    leg = event if isinstance(event, BookingRejected) else booking
    trip_id = None if leg is None else leg.trip_id
    return event.booking_id if trip_id is None else trip_id


def _code_given_back(
    event: BookingRejected | TripRejected | CommandRepeated | BookingExpired | BookingCancelled, booking: Booking | None
) -> int | None:
    """Return the promo code whose use an event gives back; None: there is no such use."""
    if isinstance(event, BookingRejected | TripRejected | CommandRepeated):
        return event.code_id
    if booking is None or (isinstance(event, BookingCancelled) and not _ended_unpaid(event, booking)):
        return None
    return _code_of(booking)


def _code_of(booking: Booking) -> int | None:
    """Return the promo code that the booking uses; a change of the stay changes no code."""
    return None if booking.sale is None or booking.sale.discount is None else booking.sale.discount.code_id


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
