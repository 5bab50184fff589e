"""Decisions about promo codes: their terms, and their uses, of which the last has one winner."""

from datetime import datetime

from topics.messages.commands import ClaimCode, ReturnCode, SetCode
from topics.messages.events import CodeUnchanged, Event
from topics.messages.values import CodeRefusal
from workers.decisions.state import State


def set_code(state: State, command: SetCode, now: datetime) -> tuple[Event, ...]:
    """Give a promo code other terms; an older version than the present is refused."""
    return (_unchanged(command, CodeRefusal.TERMS_INVALID),)


def claim_code(state: State, command: ClaimCode, now: datetime) -> tuple[Event, ...]:
    """Grant a use of the code to a booking, or refuse it."""
    return (_unchanged(command, CodeRefusal.NO_SUCH_CODE),)


def return_code(state: State, command: ReturnCode, now: datetime) -> tuple[Event, ...]:
    """Count the use of the code no more."""
    return (_unchanged(command, CodeRefusal.NO_SUCH_CODE),)


def _unchanged(command: SetCode | ClaimCode | ReturnCode, reason: CodeRefusal | None) -> CodeUnchanged:
    return CodeUnchanged(code_id=command.code_id, command=command.message_type, reason=reason)
