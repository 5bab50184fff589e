"""Promo codes on one page: the commands that each event on `booking.events` leads to. Pure.

    CodeClaimed                                  -> ReserveStay with the discount, to the room
    CodeRejected                                 -> ReserveStay with the reason, to the room, which rejects the booking
    BookingRejected with a granted use           -> ReturnCode, to the code
    CommandRepeated with a granted use           -> ReturnCode
    BookingExpired with a discount               -> ReturnCode
    BookingCancelled with a discount, unpaid     -> ReturnCode

So a booking always ends in its room's partition, and a use that no booking keeps always comes back.
"""

from typing import Final

from msgspec.structs import replace

from topics.envelope import Envelope
from topics.messages.commands import Command, ReturnCode
from topics.messages.events import (
    BookingCancelled,
    BookingExpired,
    BookingRejected,
    CodeClaimed,
    CodeRejected,
    CommandRepeated,
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
            return ((f"{envelope.id}:reserve", replace(event.reserve, discount=event.discount)),)
        case CodeRejected():
            return ((f"{envelope.id}:reserve", replace(event.reserve, code_rejection=event.reason)),)
        case BookingRejected() | CommandRepeated() | BookingExpired() | BookingCancelled():
            code_id = _code_given_back(event, booking)
            if code_id is None:
                return ()
            return ((f"{envelope.id}:return", ReturnCode(code_id=code_id, booking_id=event.booking_id)),)
        case _:
            return ()


def _code_given_back(
    event: BookingRejected | CommandRepeated | BookingExpired | BookingCancelled, booking: Booking | None
) -> int | None:
    """Return the promo code whose use an event gives back; None: there is no such use."""
    if isinstance(event, BookingRejected | CommandRepeated):
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
