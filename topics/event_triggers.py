"""When each event is told, and in answer to which commands: for the documentation; the core's stories check it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from topics.messages.commands import (
    COMMANDS,
    AddGuests,
    BookingCommand,
    CancelBooking,
    ChangeInventory,
    ClosePayment,
    Command,
    ConfirmPayment,
    DeclinePayment,
    OpenInventory,
    RecordRefund,
    RecordSession,
    RequestPayment,
    ReserveStay,
)
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingExpired,
    BookingRefunded,
    BookingRejected,
    BookingReserved,
    CheckoutOpened,
    CommandRefused,
    CommandRepeated,
    Event,
    GuestsAdded,
    InventoryChanged,
    InventoryOpened,
    InventoryUnchanged,
    PaymentDeclined,
    PaymentRequested,
    RefundRequested,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Occasion:
    """When an event is told, in a sentence, and the commands it may answer."""

    when: str
    after: tuple[type[Command], ...]


_ABOUT_BOOKINGS: Final = tuple(kind for kind in COMMANDS if issubclass(kind, BookingCommand))

OCCASIONS: Final[Mapping[type[Event], Occasion]] = {
    InventoryOpened: Occasion(
        when="Nights are put on sale that were not before: a new room's, or one more day of the year to come. "
        "Each stretch of them is an event.",
        after=(OpenInventory,),
    ),
    InventoryChanged: Occasion(
        when="A manager changes price, surge, closing or total of nights, also when every one of them refuses.",
        after=(ChangeInventory,),
    ),
    InventoryUnchanged: Occasion(
        when="All nights to be opened are open already, or the command as a whole is out of range.",
        after=(OpenInventory, ChangeInventory),
    ),
    BookingReserved: Occasion(
        when="Every night of the stay is on sale and has enough free rooms; from then on they are held.",
        after=(ReserveStay,),
    ),
    BookingRejected: Occasion(
        when="The stay cannot be had: a night is sold out, closed or not on sale, or the request makes no sense.",
        after=(ReserveStay,),
    ),
    GuestsAdded: Occasion(
        when="The guests are named, or others in their place, before payment is asked for.", after=(AddGuests,)
    ),
    PaymentRequested: Occasion(
        when="The guest wants to pay, and no Checkout Session is open or on its way.", after=(RequestPayment,)
    ),
    CheckoutOpened: Occasion(when="Payments opened the Checkout Session at Stripe.", after=(RecordSession,)),
    BookingConfirmed: Occasion(
        when="The money arrived; or nothing is owed before arrival, because the stay is free or paid at the hotel.",
        after=(ReserveStay, RequestPayment, ConfirmPayment),
    ),
    PaymentDeclined: Occasion(
        when="Stripe says that a payment failed, or no session can be had.", after=(DeclinePayment,)
    ),
    BookingCancelled: Occasion(
        when="Guest or hotel cancels, or the Checkout Session was closed without a payment.",
        after=(ClosePayment, CancelBooking),
    ),
    BookingExpired: Occasion(
        when="The hold's deadline has passed and a command about the booking is decided: the timer's `ExpireHold`, or "
        "any that comes sooner, whose own answer follows.",
        after=_ABOUT_BOOKINGS,
    ),
    RefundRequested: Occasion(
        when="A paid booking is cancelled, or money arrives that buys nothing: too late, twice, or the wrong amount.",
        after=(ConfirmPayment, CancelBooking),
    ),
    BookingRefunded: Occasion(when="Stripe carried the refund out.", after=(RecordRefund,)),
    CommandRefused: Occasion(
        when="The rules refuse what somebody asked of a booking, or there is no such booking.", after=_ABOUT_BOOKINGS
    ),
    CommandRepeated: Occasion(
        when="What a command asks for stands already, mostly because it was sent a second time.", after=_ABOUT_BOOKINGS
    ),
}
