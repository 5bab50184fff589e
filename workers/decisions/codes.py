"""Decisions about promo codes: their terms, and their uses, of which the last has one winner."""

from datetime import datetime

from msgspec.structs import replace

from pricing.codes import counts_for, discount_of, fault_of_code
from topics.messages.commands import ClaimCode, ReserveStay, ReturnCode, SetCode
from topics.messages.events import CodeChanged, CodeClaimed, CodeRejected, CodeReturned, CodeUnchanged, Event
from topics.messages.sale import CodeTerms, Discount
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
    reserve = replace(command.reserve, discount=None, code_rejection=None)
    code_id, booking_id = command.code_id, reserve.booking_id
    result = _discount_or_rejection(state, reserve, now)
    if isinstance(result, Rejection):
        return (CodeRejected(code_id=code_id, booking_id=booking_id, reason=result, reserve=reserve),)
    return (
        CodeClaimed(code_id=code_id, booking_id=booking_id, user_id=reserve.user_id, discount=result, reserve=reserve),
    )


def _discount_or_rejection(state: State, reserve: ReserveStay, now: datetime) -> Discount | Rejection:
    """Return the discount of a use, or the first reason, in the order of `Rejection`, why the use is refused."""
    code = state.code
    if code is None:
        return Rejection.NO_SUCH_CODE
    discount, terms = _discount(code, reserve), code.terms
    if discount is None or code.hotel_id != reserve.hotel_id or not _counts_for(terms, reserve, now):
        return Rejection.CODE_NOT_VALID
    if terms.max_uses is not None and code.used_count >= terms.max_uses:
        return Rejection.CODE_USED_UP
    # Guests without an account are not counted by account.
    if terms.max_account_uses is None or reserve.user_id is None or state.account_uses < terms.max_account_uses:
        return discount
    return Rejection.CODE_USED_BY_ACCOUNT


def _discount(code: Code, reserve: ReserveStay) -> Discount | None:
    """Return the discount that the code gives to a stay; None: the stay's price is not one that a code changes.

    A quote keeps its price also after the code's terms have changed.
    """
    if reserve.quoted is not None:
        quoted = reserve.quoted.sale.discount
        return quoted if quoted is not None and quoted.code_id == code.id else None
    if reserve.agreed_nightly_minor is not None or reserve.terms is Terms.AT_HOTEL:
        return None
    return discount_of(code.id, code.terms)


def _counts_for(terms: CodeTerms, reserve: ReserveStay, now: datetime) -> bool:
    return counts_for(terms, room_id=reserve.room_id, check_in=reserve.check_in, check_out=reserve.check_out, now=now)


def return_code(state: State, command: ReturnCode, now: datetime) -> tuple[Event, ...]:
    """Count the use of the code by a booking no more."""
    if state.code is None:
        return (_unchanged(command, CodeRefusal.NO_SUCH_CODE),)
    if state.code_use is None or state.code_use.returned:
        return (_unchanged(command, None),)
    return (CodeReturned(code_id=command.code_id, booking_id=command.booking_id),)


def _unchanged(command: SetCode | ClaimCode | ReturnCode, reason: CodeRefusal | None) -> CodeUnchanged:
    return CodeUnchanged(code_id=command.code_id, command=command.message_type, reason=reason)
