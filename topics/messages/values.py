"""Values in messages: states of a booking, terms of payment, and reasons of refusals."""

from datetime import date, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec


class BookingStatus(StrEnum):
    """The states of a booking. PENDING is not stored: it is an accepted request that is not decided yet."""

    PENDING = "PENDING"
    REJECTED = "REJECTED"
    RESERVED = "RESERVED"
    GUESTS_ADDED = "GUESTS_ADDED"
    PAYMENTS_PENDING = "PAYMENTS_PENDING"
    CONFIRMED = "CONFIRMED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    CHECKED_IN = "CHECKED_IN"
    CHECKED_OUT = "CHECKED_OUT"
    NO_SHOW = "NO_SHOW"
    RESERVING = "RESERVING"


#: The states of a booking that is sold, from its confirmation to the end of the stay.
SOLD: Final = frozenset(
    {BookingStatus.CONFIRMED, BookingStatus.CHECKED_IN, BookingStatus.CHECKED_OUT, BookingStatus.NO_SHOW}
)


class Terms(StrEnum):
    """How a stay is paid: before arrival within the hold, or at the hotel (confirmed at once, trusted writers only)."""

    PREPAID = "prepaid"
    AT_HOTEL = "at_hotel"


#: The largest number of legs of a trip.
MAX_LEGS = 5
#: The largest number of nights in a command about inventory, and in a stay whose nights are loaded.
MAX_NIGHTS = 1100
#: The largest values that a manager can set.
MAX_ROOMS = 100_000
MAX_PRICE_MINOR = 10**12
MAX_SURGE_MILLI = 10_000
#: The largest amount of a booking; sums of a million of them fit 64 bits.
MAX_AMOUNT_MINOR = 10**12


#: An account may hold so many rooms of a night unpaid, however small its share: a percentage of few rooms is less than
#: a family needs.
ROOMS_ALWAYS_ALLOWED = 2

#: So many changes of a booking may take place: its row has all of them.
MAX_CHANGES = 20
#: A booking whose payment was asked for so often is not changed any more: each change that is held asks for its
#: payment, and nobody can hold rooms without end by replacing one unpaid change with the next.
MAX_PAYMENTS_ASKED = 100


class StayTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The hotel's clock as promised to the guest: wall times of the arrival and the departure day, and their zone."""

    time_zone: str
    check_in_time: time
    check_out_time: time


class Rejection(StrEnum):
    """Why a reservation or a change of a stay is refused, in the order in which `decide` checks."""

    NO_SUCH_CODE = "no_such_code"
    CODE_NOT_VALID = "code_not_valid"
    CODE_USED_UP = "code_used_up"
    CODE_USED_BY_ACCOUNT = "code_used_by_account"
    NO_NIGHTS = "no_nights"
    NO_ROOMS = "no_rooms"
    NEGATIVE_RATE = "negative_rate"
    NIGHT_NOT_OPEN = "night_not_open"
    ROOM_OF_ANOTHER_HOTEL = "room_of_another_hotel"
    QUOTE_EXPIRED = "quote_expired"
    NO_SUCH_PLAN = "no_such_plan"
    NO_ADULT = "no_adult"
    PARTY_TOO_LARGE = "party_too_large"
    NIGHT_CLOSED = "night_closed"
    STOP_SELL = "stop_sell"
    CLOSED_TO_ARRIVAL = "closed_to_arrival"
    CLOSED_TO_DEPARTURE = "closed_to_departure"
    MIN_STAY = "min_stay"
    MAX_STAY = "max_stay"
    ADVANCE_PURCHASE = "advance_purchase"
    SOLD_OUT = "sold_out"
    ACCOUNT_SHARE = "account_share"
    NOT_CHARGEABLE = "not_chargeable"
    NOT_PREPAID = "not_prepaid"


class Refusal(StrEnum):
    """Why a command about an existing booking is refused, in the order in which `decide` checks."""

    BOOKING_NOT_FOUND = "booking_not_found"
    NOT_YOUR_BOOKING = "not_your_booking"
    HOLD_EXPIRED = "hold_expired"
    WRONG_STATUS = "wrong_status"
    STAY_OVER = "stay_over"
    CHECK_IN_PASSED = "check_in_passed"
    BEFORE_ARRIVAL = "before_arrival"
    NO_GUESTS = "no_guests"
    STALE_SESSION = "stale_session"
    UNKNOWN_PAYMENT = "unknown_payment"
    NOTHING_DUE = "nothing_due"
    TOO_MANY_CHANGES = "too_many_changes"
    NO_SUCH_CHANGE = "no_such_change"
    PART_OF_TRIP = "part_of_trip"
    HAS_LEGS = "has_legs"
    NO_SUCH_LEG = "no_such_leg"
    ANOTHER_REQUEST = "another_request"


class InventoryRefusal(StrEnum):
    """Why a command about inventory is refused as a whole, in the order in which `decide` checks."""

    NO_NIGHTS = "no_nights"
    TOO_MANY_NIGHTS = "too_many_nights"
    COUNT_OUT_OF_RANGE = "count_out_of_range"
    PRICE_OUT_OF_RANGE = "price_out_of_range"
    SURGE_OUT_OF_RANGE = "surge_out_of_range"
    NIGHT_NOT_OPEN = "night_not_open"
    NIGHT_NOT_FREE = "night_not_free"
    NO_SUCH_BLOCK = "no_such_block"
    BLOCK_EXISTS = "block_exists"
    NEWER_TERMS = "newer_terms"
    TERMS_INVALID = "terms_invalid"


class NightRefusal(StrEnum):
    """Why one night of a manager's change keeps its values, in the order in which `decide` checks."""

    NOT_OPEN = "not_open"
    TOTAL_BELOW_SOLD = "total_below_sold"


class LegState(StrEnum):
    """The state of a trip's leg as its trip knows it."""

    REQUESTED = "requested"
    HELD = "held"
    CANCELLED = "cancelled"
    ENDED = "ended"


class CancelReason(StrEnum):
    """The person or the reason that ended a booking before its time."""

    BY_GUEST = "by_guest"
    BY_HOTEL = "by_hotel"
    PAYMENT_CLOSED = "payment_closed"
    REFUNDED_BY_HAND = "refunded_by_hand"
    TRIP_ENDED = "trip_ended"


class ChangeEnd(StrEnum):
    """Why a change of a stay that was held did not take place."""

    EXPIRED = "expired"
    PAYMENT_CLOSED = "payment_closed"
    WITHDRAWN = "withdrawn"
    REPLACED = "replaced"
    STAY_BEGAN = "stay_began"
    BOOKING_CANCELLED = "booking_cancelled"
    NOT_POSSIBLE = "not_possible"


class DocumentKind(StrEnum):
    """The kinds of documents that a hotel numbers, each in a series of its own."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit_note"


class DocumentReason(StrEnum):
    """Why a document is issued."""

    STAY = "stay"
    STAY_CHANGED = "stay_changed"
    CANCELLED = "cancelled"
    EARLY_DEPARTURE = "early_departure"
    NO_SHOW = "no_show"
    REFUNDED_BY_HAND = "refunded_by_hand"
    REFUND_FAILED = "refund_failed"


class CodeRefusal(StrEnum):
    """Why a command about a promo code is refused as a whole, in the order in which `decide` checks."""

    NO_SUCH_CODE = "no_such_code"
    NEWER_TERMS = "newer_terms"
    TERMS_INVALID = "terms_invalid"


class HotelReason(StrEnum):
    """Why a hotel cancels a guest's booking."""

    OVERBOOKED = "overbooked"
    HOTEL_CLOSED = "hotel_closed"
    ROOM_UNUSABLE = "room_unusable"
    GUEST_REQUEST = "guest_request"
    OTHER = "other"


class BlockReason(StrEnum):
    """Why a hotel takes rooms off sale."""

    MAINTENANCE = "maintenance"
    OWNER_USE = "owner_use"
    GROUP = "group"
    OTHER_CHANNEL = "other_channel"
    OTHER = "other"


class RefundReason(StrEnum):
    """Why money that arrived is sent back."""

    BOOKING_CANCELLED = "booking_cancelled"
    EARLY_DEPARTURE = "early_departure"
    NO_SHOW = "no_show"
    NIGHTS_GONE = "nights_gone"
    SECOND_PAYMENT = "second_payment"
    WRONG_AMOUNT = "wrong_amount"
    UNKNOWN_BOOKING = "unknown_booking"
    STAY_CHANGED = "stay_changed"
    CHANGE_ENDED = "change_ended"


class RefundClosing(StrEnum):
    """Why an operator ends a refund that is due and cannot be made."""

    PAID_OTHERWISE = "paid_otherwise"
    WAIVED_BY_GUEST = "waived_by_guest"
    NOT_POSSIBLE = "not_possible"


class DisputeResult(StrEnum):
    """How a dispute of a payment ended, for the hotel."""

    WON = "won"
    LOST = "lost"


@lru_cache(maxsize=10_000)
def nights_of(check_in: date, check_out: date) -> tuple[date, ...]:
    """Return every night of [check_in, check_out); the check-out day is not a night.

    Results are cached, because the same stays come again and again; callers limit the length of a stay.
    """
    return tuple(check_in + timedelta(days=offset) for offset in range((check_out - check_in).days))
