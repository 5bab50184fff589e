"""The state that a decision reads: the booking that a command names, and the nights of its room."""

from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from topics.messages.values import BookingStatus, CancelReason, Rejection, Terms, nights_of


class Night(msgspec.Struct, frozen=True):
    """One night of a room: rooms in total and taken, and the price (minor units, surge in thousandths)."""

    hotel_id: int
    total_count: int
    booked_count: int
    reserved_count: int
    price_minor: int
    surge_milli: int
    closed: bool
    currency: str

    @property
    def free_count(self) -> int:
        """The number of rooms that are neither booked nor reserved."""
        return self.total_count - self.booked_count - self.reserved_count


class PaymentState(StrEnum):
    """The state of a payment that arrived: it pays the booking, its refund is requested, or it was refunded."""

    KEPT = "kept"
    REFUND_REQUESTED = "refund_requested"
    REFUNDED = "refunded"


class Payment(msgspec.Struct, frozen=True):
    """A payment that arrived for a booking."""

    payment_intent: str
    session_id: str
    amount_minor: int
    state: PaymentState


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """One booking. `version` counts the events that were applied to it."""

    id: UUID
    user_id: int | None
    hotel_id: int
    room_id: int
    check_in: date
    check_out: date
    rooms_count: int
    status: BookingStatus
    terms: Terms
    amount_minor: int
    currency: str
    rejection: Rejection | None = None
    hold_expires_at: datetime | None = None
    payment_attempt: int = 0
    session_id: str | None = None
    payments: tuple[Payment, ...] = ()
    failure: str | None = None
    cancel_reason: CancelReason | None = None
    guest_ids: tuple[int, ...] = ()
    version: int = 1

    def nights(self) -> tuple[date, ...]:
        """Return the nights of the stay."""
        return nights_of(self.check_in, self.check_out)

    def payment(self, payment_intent: str) -> Payment | None:
        """Return the payment of this payment intent, if it arrived."""
        return next((paid for paid in self.payments if paid.payment_intent == payment_intent), None)

    def paying_payment(self) -> Payment | None:
        """Return the payment that pays this booking, if any."""
        return next((paid for paid in self.payments if paid.state is PaymentState.KEPT), None)


class State(msgspec.Struct, frozen=True):
    """The booking that a command names (None: there is none) and the nights that it touches (absent: not open)."""

    booking: Booking | None
    nights: Mapping[date, Night]


LIVE = frozenset({BookingStatus.RESERVED, BookingStatus.GUESTS_ADDED, BookingStatus.PAYMENTS_PENDING})


def live(booking: Booking) -> bool:
    """Return whether the booking holds its nights unpaid."""
    return booking.status in LIVE
