"""The reasons of refusals in words for people, where a reason's own words do not suffice."""

from typing import Final

from topics.messages.values import MAX_CHANGES, MAX_PAYMENTS_ASKED, CancelReason, Refusal, Rejection

#: The failure of a payment for which Stripe opens no page; its own word may follow behind a colon.
SESSION_REFUSED: Final = "session_refused"
#: The reason why a booking has no page to pay at.
PAID_AT_HOTEL: Final = "paid_at_hotel"
#: The reason of a booking whose request was on a log that was lost.
LOST: Final = "lost"
_LIMIT_OF_CHANGES: Final = (
    f"{MAX_CHANGES} changes of a stay may take place, and its payments be asked for {MAX_PAYMENTS_ASKED} times"
)
#: Words for reasons whose own words do not suffice.
WORDS: Final = {
    Refusal.CHECK_IN_PASSED: "check-in has passed, and from then on the hotel alone can cancel the stay",
    Refusal.WRONG_STATUS: "the booking's status does not allow it",
    Refusal.STAY_OVER: "the stay is over, and nobody can change or cancel it",
    Refusal.BEFORE_ARRIVAL: (
        "it is too early: guests are checked in from their day of arrival on, and did not arrive only once the hotel's "
        "check-in time has passed"
    ),
    Refusal.NOTHING_DUE: "no refund of this payment is due",
    Rejection.NO_SUCH_CODE: "the hotel has no such promo code",
    Rejection.CODE_NOT_VALID: "the promo code does not count for this stay now",
    Rejection.CODE_USED_UP: "the promo code has been used as often as it may be",
    Rejection.CODE_USED_BY_ACCOUNT: "this account has used the promo code as often as it may",
    Refusal.TOO_MANY_CHANGES: (
        f"the stay was changed too often: cancel it and book again, or ask the hotel ({_LIMIT_OF_CHANGES})"
    ),
    Refusal.NO_SUCH_CHANGE: "no such change waits for a payment: it was paid, withdrawn or replaced, or it has ended",
    Refusal.PART_OF_TRIP: (
        "the booking is a leg of a trip: until it is paid, the trip is named for, paid and cancelled as a whole; and "
        "the stay of a leg cannot be changed"
    ),
    Refusal.HAS_LEGS: "the booking is a trip, and its legs have the stays: ask for this with the id of a leg",
    CancelReason.TRIP_ENDED: "its trip, or the change to its room type, was refused, given up, or not paid in time",
    Rejection.SOLD_OUT: "not so many rooms are free on each night of the stay",
    Rejection.QUOTE_EXPIRED: "the quote has expired: ask for a new one",
    Rejection.NO_SUCH_PLAN: "the room has no such rate plan",
    Rejection.NOT_PREPAID: "a trip is paid with the booking, and stays by this rate plan are paid at the hotel",
    Rejection.NO_ADULT: "a party needs an adult",
    Rejection.PARTY_TOO_LARGE: "the rooms do not hold so many people: ask for more rooms",
    Rejection.STOP_SELL: "this rate plan is not sold for this arrival",
    Rejection.CLOSED_TO_ARRIVAL: "no stay by this rate plan begins on this day",
    Rejection.CLOSED_TO_DEPARTURE: "no stay by this rate plan ends on this day",
    Rejection.MIN_STAY: "the stay is shorter than this rate plan is sold for",
    Rejection.MAX_STAY: "the stay is longer than this rate plan is sold for",
    Rejection.ADVANCE_PURCHASE: "this rate plan must be booked earlier before the arrival",
    Rejection.ACCOUNT_SHARE: (
        "this account would hold too large a share of the rooms of a night without paying: pay for its unpaid "
        "bookings, cancel them, let them end, or ask for fewer rooms; bookings that are paid at the hotel cannot be "
        "paid for in advance"
    ),
    Rejection.NOT_CHARGEABLE: "the amount to be paid is smaller or larger than can be charged in its currency",
    PAID_AT_HOTEL: "the stay is paid at the hotel, and cannot be paid for in advance",
    SESSION_REFUSED: "the payment provider opens no payment page for this booking",
    LOST: "the system lost this request, and will not decide it: ask again",
}


#: The same for managers, whose commands other rules refuse.
WORDS_FOR_HOTELS: Final = {
    Refusal.CHECK_IN_PASSED: (
        "the first night of the stay, or of the stay that is asked for, is past, and the stay cannot be changed"
    ),
    Refusal.TOO_MANY_CHANGES: f"the stay was changed too often: cancel it and book again ({_LIMIT_OF_CHANGES})",
}

#: The same for changes to another room type, whose rooms are those of that type.
WORDS_OF_MOVES: Final = {
    Rejection.NO_SUCH_PLAN: (
        "the other room type has no rate plan of this id: name one of its plans (`plan_id`), if it has any"
    ),
    Rejection.NOT_PREPAID: (
        "a stay moves to another room type only if it is paid with the booking, and by a rate plan that is paid so, too"
    ),
    Rejection.SOLD_OUT: "not so many rooms of the other type are free on each night of the stay",
    Rejection.NIGHT_NOT_OPEN: "the other room type is not on sale on each night of the stay",
    Rejection.NIGHT_CLOSED: "the other room type is closed on a night of the stay",
    Rejection.PARTY_TOO_LARGE: "the rooms of the other type do not hold so many people: ask for more rooms",
    Rejection.NOT_CHARGEABLE: "the difference is smaller or larger than can be charged in its currency",
}
#: For a stay that has moved, the words of `Refusal.HAS_LEGS` where another change is asked for.
NOT_CHANGED_AGAIN: Final = (
    "the stay has moved to another room type, and such a stay is not changed again: cancel it and book again"
)
