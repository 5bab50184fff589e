"""Decisions about promo codes: their terms, and their uses, of which the last has one winner."""

from datetime import datetime

from msgspec.structs import replace

from pricing.codes import counts_for, discount_of, fault_of_code
from topics.messages.commands import ClaimCode, ReserveStay, ReserveTrip, ReturnCode, SetCode
from topics.messages.events import CodeChanged, CodeClaimed, CodeRejected, CodeReturned, CodeUnchanged, Event
from topics.messages.sale import CodeTerms, Discount, Quoted
from topics.messages.values import CodeRefusal, Rejection, Terms
from workers.decisions.state import Code, State


def set_code(state: State, command: SetCode, now: datetime) -> tuple[Event, ...]:
    """Give a promo code other terms; its uses stay.

    Those of an older version arrive late, and others of the present version come from a hotel whose own version was
    restored from an older backup: both are refused, and so is a code of another hotel.
    """
    code = state.code
    if code is not None and code.hotel_id != command.hotel_id:
        return (_unchanged(command, CodeRefusal.NO_SUCH_CODE),)
    if code is not None and code.terms.version >= command.terms.version:
        return (_unchanged(command, None if code.terms == command.terms else CodeRefusal.NEWER_TERMS),)
    if fault_of_code(command.terms) is not None:
        return (_unchanged(command, CodeRefusal.TERMS_INVALID),)
    return (CodeChanged(code_id=command.code_id, hotel_id=command.hotel_id, terms=command.terms),)


def claim_code(state: State, command: ClaimCode, now: datetime) -> tuple[Event, ...]:
    """Grant a use of the code to a booking, or refuse it.

    A booking asks once: a repeated claim changes nothing, also when the use was given back, because the booking has
    ended then. The discount follows from the code's terms alone, or is that of a quote whose price still counts.
    """
    if state.code_use is not None:
        return (_unchanged(command, None),)
    asked = replace(command.asked, discount=None, code_rejection=None)
    reserve, trip = (None, asked) if isinstance(asked, ReserveTrip) else (asked, None)
    code_id, booking_id = command.code_id, asked.booking_id
    result = _discount_or_rejection(state, asked, now)
    if isinstance(result, Rejection):
        return (CodeRejected(code_id=code_id, booking_id=booking_id, reason=result, reserve=reserve, trip=trip),)
    return (
        CodeClaimed(
            code_id=code_id,
            booking_id=booking_id,
            user_id=asked.user_id,
            discount=result,
            reserve=reserve,
            trip=trip,
        ),
    )


def _discount_or_rejection(state: State, asked: ReserveStay | ReserveTrip, now: datetime) -> Discount | Rejection:
    """Return the discount of a use, or the first reason, in the order of `Rejection`, why the use is refused."""
    code = state.code
    if code is None:
        return Rejection.NO_SUCH_CODE
    discount, terms = _discount(code, asked), code.terms
    if discount is None or code.hotel_id != asked.hotel_id or not _counts_for(terms, asked, now):
        return Rejection.CODE_NOT_VALID
    if terms.max_uses is not None and code.used_count >= terms.max_uses:
        return Rejection.CODE_USED_UP
    # Guests without an account are not counted by account.
    if terms.max_account_uses is None or asked.user_id is None or state.account_uses < terms.max_account_uses:
        return discount
    return Rejection.CODE_USED_BY_ACCOUNT


def _discount(code: Code, asked: ReserveStay | ReserveTrip) -> Discount | None:
    """Return the discount that the code gives to a stay or a trip; None: its price is not one that a code changes.

    A quote keeps its price also after the code's terms have changed. That of a trip's first leg counts for the trip:
    another leg's room refuses a quote with another discount.
    """
    quoted = _quoted(asked)
    if quoted is not None:
        discount = quoted.sale.discount
        return discount if discount is not None and discount.code_id == code.id else None
    if isinstance(asked, ReserveStay) and _has_own_price(asked):
        return None
    return discount_of(code.id, code.terms)


def _quoted(asked: ReserveStay | ReserveTrip) -> Quoted | None:
    """Return the quote of a stay, or of a trip's first leg."""
    if isinstance(asked, ReserveStay):
        return asked.quoted
    return asked.legs[0].quoted if asked.legs else None


def _has_own_price(reserve: ReserveStay) -> bool:
    return reserve.agreed_nightly_minor is not None or reserve.terms is Terms.AT_HOTEL


def _counts_for(terms: CodeTerms, asked: ReserveStay | ReserveTrip, now: datetime) -> bool:
    """Return whether the code counts for the room, or for the rooms of all legs."""
    legs = asked.legs if isinstance(asked, ReserveTrip) else ()
    rooms = {asked.room_id, *(leg.room_id for leg in legs)}
    return all(
        counts_for(terms, room_id=room_id, check_in=asked.check_in, check_out=asked.check_out, now=now)
        for room_id in rooms
    )


def return_code(state: State, command: ReturnCode, now: datetime) -> tuple[Event, ...]:
    """Count the use of the code by a booking no more."""
    if state.code is None:
        return (_unchanged(command, CodeRefusal.NO_SUCH_CODE),)
    if state.code_use is None or state.code_use.returned:
        return (_unchanged(command, None),)
    return (CodeReturned(code_id=command.code_id, booking_id=command.booking_id),)


def _unchanged(command: SetCode | ClaimCode | ReturnCode, reason: CodeRefusal | None) -> CodeUnchanged:
    return CodeUnchanged(code_id=command.code_id, command=command.message_type, reason=reason)
