"""Bookings as responses show them, and refusals in words, from rows of the ledger and from events."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.models import (
    BookingOut,
    BookingState,
    HotelBooking,
    NamedGuest,
    RefundOut,
    StayingGuest,
)
from ingress.http.models import OutModel
from ingress.http.old_statuses import shown_status
from ingress.http.problems import Problem
from pricing.currencies import decimal
from storage.reads import bookings, payments, reports
from storage.reads.bookings import BookingFacts
from storage.reads.payments import ReturnedPayment
from storage.reads.reports import ListedBooking
from topics.messages.events import BookingRejected, BookingReserved, CommandRefused, PaymentDeclined
from topics.messages.message import Message
from topics.messages.values import BookingStatus, Refusal, Rejection, Terms

OutType = TypeVar("OutType", bound=OutModel)

#: The failure of a payment for which Stripe opens no page; its own word may follow behind a colon.
SESSION_REFUSED: Final = "session_refused"
#: Words for reasons whose own words do not suffice.
_WORDS: Final = {
    Refusal.CHECK_IN_PASSED: "check-in has passed, and from then on the hotel alone can cancel the stay",
    Refusal.STAY_OVER: "the stay is over, and nobody can change or cancel it",
    Refusal.BEFORE_ARRIVAL: (
        "it is too early: guests are checked in from their day of arrival on, and did not arrive only once the hotel's "
        "check-in time has passed"
    ),
    Refusal.NOTHING_DUE: "no refund of this payment is due",
    Rejection.ACCOUNT_SHARE: (
        "this account would hold too large a share of the rooms of a night without paying: pay for its unpaid "
        "bookings, cancel them, let them end, or ask for fewer rooms"
    ),
    Rejection.NOT_CHARGEABLE: "the amount of the stay is smaller or larger than can be charged in its currency",
    SESSION_REFUSED: "the payment provider opens no payment page for this booking",
}


def raise_if_refused(event: Message | None) -> None:
    """Raise the problem of an event that refuses a command; other events pass. Raises `Problem` 409."""
    match event:
        case BookingRejected(booking_id=booking_id, reason=reason):
            raise refusal(reason, id=booking_id, booking_status=BookingStatus.REJECTED)
        case CommandRefused(booking_id=booking_id, reason=reason, booking_status=status):
            raise refusal(reason, id=booking_id, booking_status=status)
        case PaymentDeclined(booking_id=booking_id, failure=failure):
            raise refusal(failure, id=booking_id, booking_status=BookingStatus.PAYMENTS_PENDING)


def refusal(reason: str, **more: object) -> Problem:
    """Return the problem of a refused command: `reason` for programs, and words for people."""
    if "booking_status" in more:
        more["booking_status"] = shown_status(str(more["booking_status"]))
    return Problem(409, f"refused: {_in_words(reason)}", more={"reason": _reason_of(reason), **more})


def _reason_of(text: str) -> str:
    """Return the reason without the word of Stripe's that may follow it."""
    reason, _, _ = str(text).partition(":")
    return reason


def _in_words(text: str) -> str:
    reason, _, code = str(text).partition(":")
    words = _WORDS.get(reason, reason.replace("_", " "))
    return f"{words} ({code.strip().replace('_', ' ')})" if code.strip() else words


def state_of(booking: BookingFacts) -> dict[str, Any]:
    """Return the fields of a `BookingState` for a row of the ledger."""
    return state_fields(booking.id, booking.status, booking.rejection, booking.failure, booking.cancel_reason)


def state_fields(
    booking_id: UUID, status: str, rejection: str | None, failure: str | None, cancel_reason: str | None
) -> dict[str, Any]:
    """Return the fields of a `BookingState`; a reason that needs more words has them in `detail`."""
    reasons = {
        BookingStatus.REJECTED: rejection,
        BookingStatus.PAYMENTS_PENDING: failure,
        BookingStatus.CANCELLED: cancel_reason,
    }
    reason = reasons.get(BookingStatus(status))
    fields: dict[str, Any] = {"id": booking_id, "booking_status": shown_status(status)}
    if reason is None:
        return fields
    fields["reason"] = _reason_of(reason)
    return fields | {"detail": _in_words(reason)} if _reason_of(reason) in _WORDS else fields


def pending_state(booking_id: UUID) -> BookingState:
    """Return the state of a booking that is not decided yet."""
    return BookingState(id=booking_id, booking_status=BookingStatus.PENDING)


def reserved_booking(event: BookingReserved, user_id: int) -> BookingOut:
    """Return a booking as it is right after this event."""
    at_once = event.terms is Terms.AT_HOTEL
    return BookingOut(
        id=event.booking_id,
        booking_status=BookingStatus.CONFIRMED if at_once else BookingStatus.RESERVED,
        user_id=user_id,
        hotel_id=event.hotel_id,
        room_id=event.room_id,
        check_in_date=event.check_in,
        check_out_date=event.check_out,
        rooms_count=event.rooms_count,
        amount=decimal(event.amount_minor, event.currency),
        currency=event.currency,
        hold_expires_at=event.hold_expires_at,
        guests=[],
    )


async def booking_fields(connection: AsyncConnection, booking: BookingFacts) -> dict[str, Any]:
    """Return the fields of a booking as its guest sees it, without its history."""
    fields = _fields(booking) | {
        "hold_expires_at": booking.hold_expires_at,
        "guests": out(StayingGuest, await bookings.guests_of(connection, booking.id)),
    }
    url = await bookings.open_session_url(connection, booking.id)
    if url is not None:
        fields["session_url"] = url
    returned = await payments.returned_payments(connection, booking.id, booking.payments or (), booking.currency)
    return fields | {"refunds": refunds_out(returned)} if returned else fields


def refunds_out(returned: Sequence[ReturnedPayment]) -> list[RefundOut]:
    """Return the payments of which money went back, or must."""
    return [_refund_out(payment) for payment in returned]


def _refund_out(payment: ReturnedPayment) -> RefundOut:
    fields: dict[str, Any] = {
        "paid": decimal(payment.amount_minor, payment.currency),
        "refunded": decimal(payment.refunded_minor, payment.currency),
        "due": decimal(payment.due_minor, payment.currency),
        "currency": payment.currency,
    }
    if payment.status is not None:
        fields["status"] = payment.status
    if payment.disputed:
        fields["disputed"] = True
    return RefundOut(**fields)


def _fields(booking: BookingFacts) -> dict[str, Any]:
    return state_of(booking) | {
        "user_id": booking.user_id,
        "hotel_id": booking.hotel_id,
        "room_id": booking.room_id,
        "check_in_date": booking.check_in,
        "check_out_date": booking.check_out,
        "rooms_count": booking.rooms_count,
        "amount": decimal(booking.amount_minor, booking.currency),
        "currency": booking.currency,
        "created_at": booking.created_at,
        "updated_at": booking.updated_at,
    }


def out(model: type[OutType], rows: Iterable[object]) -> list[OutType]:
    """Return rows as models of a response."""
    return [model.model_validate(row) for row in rows]


def hotel_bookings_out(page: Sequence[ListedBooking], guests: Sequence[reports.NamedGuest]) -> list[HotelBooking]:
    """Return the bookings of a page as their hotel sees them, each with its guests and its flags."""
    staying: dict[UUID, list[NamedGuest]] = defaultdict(list)
    for guest in guests:
        staying[guest.booking_id].append(NamedGuest(id=guest.id, name=guest.name))
    return [
        HotelBooking(
            **listed_fields(booking),
            **_flags(booking),
            hold_expires_at=booking.hold_expires_at,
            guests=staying[booking.id],
        )
        for booking in page
    ]


def _flags(booking: ListedBooking) -> dict[str, Any]:
    """Return the fields that only bookings have whose money is disputed or went back."""
    arrived = booking.payments or ()
    refunded_minor = payments.refunded_of(arrived, booking.currency)
    flags: dict[str, Any] = {"disputed": True} if payments.is_disputed(arrived) else {}
    return flags | {"refunded": decimal(refunded_minor, booking.currency)} if refunded_minor else flags


def listed_fields(booking: ListedBooking) -> dict[str, Any]:
    """Return the fields of a booking that every list has."""
    return _fields(booking) | {"room_type": booking.room_type}
