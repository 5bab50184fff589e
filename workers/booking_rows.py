"""Bookings as rows of `booking`: the reservations' workers write them, and coordination reads them."""

from functools import lru_cache
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
from psycopg.types.json import Json, Jsonb

from storage import bookings
from topics.messages.sale import AppliedPolicy, Sale
from topics.messages.values import BookingStatus, CancelReason, Rejection, StayTimes, Terms
from workers.decisions import Booking, Payment, with_sums
from workers.decisions.state import EarlierStay, Leg, PendingChange

_encode: Final = msgspec.json.Encoder().encode

T = TypeVar("T")


def row_of(booking: Booking) -> bookings.BookingRow:
    """Return a booking by the columns of `BOOKING_COLUMNS`."""
    return (
        booking.id,
        booking.user_id,
        booking.hotel_id,
        booking.room_id,
        booking.check_in,
        booking.check_out,
        booking.rooms_count,
        booking.status.value,
        booking.terms.value,
        booking.amount_minor,
        booking.currency,
        None if booking.rejection is None else booking.rejection.value,
        booking.hold_expires_at,
        booking.payment_attempt,
        booking.session_id,
        Jsonb(booking.payments, dumps=_encode) if booking.payments else None,
        booking.failure,
        None if booking.cancel_reason is None else booking.cancel_reason.value,
        booking.guest_list_id,
        Jsonb([str(each) for each in booking.earlier_guest_list_ids]) if booking.earlier_guest_list_ids else None,
        list(booking.night_amounts_minor) or None,
        None if booking.stay_times is None else _stay_times_json(booking.stay_times),
        booking.freed_from,
        None if booking.sale is None else Json(booking.sale, dumps=_encode),
        None if booking.policy is None else Jsonb(booking.policy, dumps=_encode),
        None if booking.pending_change is None else Jsonb(booking.pending_change, dumps=_encode),
        Jsonb(booking.earlier_stays, dumps=_encode) if booking.earlier_stays else None,
        Jsonb([str(each) for each in booking.ended_change_ids]) if booking.ended_change_ids else None,
        booking.accepted_terms,
        Jsonb(booking.legs, dumps=_encode) if booking.legs else None,
        booking.trip_id,
        booking.trip_room_id,
        booking.request_hash,
        booking.version,
    )


@lru_cache(maxsize=10_000)
def _stay_times_json(times: StayTimes) -> Json:
    """Return the times for a json column, encoded once for all bookings of a hotel."""
    encoded = msgspec.json.encode(times)
    return Json(times, dumps=lambda _: encoded)


def booking_of(row: bookings.BookingRow) -> Booking:
    """Return the booking of a row that `storage.bookings.load_bookings` read."""
    fields = dict(zip((*bookings.BOOKING_COLUMNS, "guest_ids"), row, strict=True))
    return Booking(
        **{
            **fields,
            "status": BookingStatus(fields["status"]),
            "terms": Terms(fields["terms"]),
            "rejection": None if fields["rejection"] is None else Rejection(fields["rejection"]),
            "cancel_reason": None if fields["cancel_reason"] is None else CancelReason(fields["cancel_reason"]),
            "payments": payments_of(fields["payments"]),
            "earlier_guest_list_ids": tuple(map(UUID, fields["earlier_guest_list_ids"] or ())),
            "night_amounts_minor": tuple(fields["night_amounts_minor"] or ()),
            "stay_times": _converted(fields["stay_times"], StayTimes),
            "sale": _converted(fields["sale"], Sale),
            "policy": _converted(fields["policy"], AppliedPolicy),
            "pending_change": _converted(fields["pending_change"], PendingChange),
            "earlier_stays": msgspec.convert(fields["earlier_stays"] or (), tuple[EarlierStay, ...]),
            "ended_change_ids": tuple(map(UUID, fields["ended_change_ids"] or ())),
            "legs": msgspec.convert(fields["legs"] or (), tuple[Leg, ...]),
            "guest_ids": tuple(fields["guest_ids"]),
        }
    )


def _converted(value: Any, kind: type[T]) -> T | None:
    """Return a column's JSON as the value that was written; None: there is none."""
    return None if value is None else msgspec.convert(value, kind)


def payments_of(rows: list[dict[str, Any]] | None) -> tuple[Payment, ...]:
    """Return the payments of a row, in the order of their arrival, with their sums."""
    return tuple(map(payment_of, rows or ()))


def payment_of(payment: dict[str, Any]) -> Payment:
    """Return one payment of a row, with its sums."""
    return with_sums(msgspec.convert(payment, Payment))
