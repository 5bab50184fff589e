"""Who is to act next for a booking, and on what: told from the tables and from what stands on the log unread.

Pure: rows and records in, sentences' parts out.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from operators.explain.life import Awaited, Kind, Step
from operators.explain.told import Reached, Row, Told
from topics.messages.commands import ExpireHold
from topics.messages.events import PaymentRequested, RefundRequested
from topics.messages.values import BookingStatus
from topics.times import to_the_second

#: What a guest is to do in each state that has a deadline.
_GUESTS_PART: Final = {
    BookingStatus.RESERVED: "to say who stays",
    BookingStatus.GUESTS_ADDED: "to ask for the payment",
    BookingStatus.PAYMENTS_PENDING: "to pay",
}
_SESSION_OWED: Final = {
    "creating": "to open a Checkout Session",
    "closing": "to close the Checkout Session",
    "complete": "to say whether the Checkout Session was paid",
}
_SESSION_TOLD: Final = {
    "open": "the open Checkout Session",
    "expired": "the expired Checkout Session",
    "failed": "the Checkout Session that could not be opened",
}


def awaited(told: Told, steps: Sequence[Step], behind: dict[str, int]) -> tuple[Awaited, ...]:
    """Return what is awaited, the log's readers first; `behind` is how many records of each topic wait for its reader.

    `behind` goes by the consumer and the topic's name, as `unread` has it.
    """
    return (
        *_of_readers(told, steps, behind),
        *_of_operators(told, steps),
        *_of_stripe(told),
        *_of_guest_or_timer(told),
    )


def unread(consumer: str, topic: str) -> str:
    """Return the key under which `behind` has a consumer's records of a topic."""
    return f"{consumer} {topic}"


def _of_readers(told: Told, steps: Iterable[Step], behind: dict[str, int]) -> Iterator[Awaited]:
    for step in steps:
        if step.place is None:
            continue
        for consumer, word in _readers(step):
            reached = told.reached.get((consumer, step.place.topic, step.place.partition))
            if not _has_read(reached, step):
                yield Awaited(
                    who=f"the {consumer} worker{_pause(told, consumer)}",
                    what=f"{word} {step.what}",
                    since=step.at,
                    behind=behind.get(unread(consumer, step.place.topic)),
                )


def _readers(step: Step) -> Sequence[tuple[str, str]]:
    """Return who must read a step's record for the booking to go on, and to do what."""
    if step.kind is Kind.COMMAND:
        return (("reservations", "to decide"),)
    if step.kind is Kind.WEBHOOK:
        return (("payments", "to read"),)
    if step.what in (PaymentRequested.message_type, RefundRequested.message_type):
        return (("payments", "to follow"),)
    return ()


def _has_read(reached: Reached | None, step: Step) -> bool:
    assert step.place is not None
    if reached is None:
        return False
    # An event that stands twice was read when its sequence was.
    return reached.applied >= step.place.offset or (step.sequence is not None and reached.sequence >= step.sequence)


def _of_operators(told: Told, steps: Iterable[Step]) -> Iterator[Awaited]:
    for step in steps:
        if step.kind is Kind.DEAD_LETTER:
            yield Awaited(who="an operator", what=f"to look at the dead letter of {step.place}", since=step.at)
    for refund in told.refunds:
        if refund["status"] == "failed":
            what = f"to refund {refund['payment_intent']} by hand: Stripe refused"
            yield Awaited(who="an operator", what=what, since=refund["updated_at"])


def _of_stripe(told: Told) -> Iterator[Awaited]:
    for session in told.sessions:
        if session["next_attempt_at"] is not None:
            part = _SESSION_OWED.get(session["status"]) or f"to be told of {_SESSION_TOLD[session['status']]}"
            yield _owed("Stripe" if session["status"] in _SESSION_OWED else "the room", part, session)
    for refund in told.refunds:
        if refund["status"] == "creating":
            yield _owed("Stripe", f"to answer the refund of {refund['payment_intent']}", refund)
        elif refund["status"] == "pending":
            what = f"to carry out the refund of {refund['payment_intent']}"
            yield Awaited(who="Stripe", what=what, since=refund["updated_at"])
        elif refund["next_attempt_at"] is not None and refund["status"] == "succeeded":
            yield _owed("the room", f"to be told that {refund['payment_intent']} was refunded", refund)


def _owed(who: str, what: str, row: Row) -> Awaited:
    failures = row["failures"]
    often = "once" if failures == 1 else f"{failures} times"
    tried = f" (failed {often}, again at {to_the_second(row['next_attempt_at'])})" if failures else ""
    return Awaited(who=who, what=what + tried, since=row["created_at"])


def _of_guest_or_timer(told: Told) -> Iterator[Awaited]:
    if told.booking is None:
        return
    status, deadline = BookingStatus(told.booking["status"]), told.booking["hold_expires_at"]
    part = _GUESTS_PART.get(status)
    if part is None:
        return
    if _is_over(deadline, told.now):
        yield Awaited(
            who=f"the timer{_pause(told, 'expiry')}",
            what=f"to end the hold with {ExpireHold.message_type}",
            since=deadline,
        )
    elif status is not BookingStatus.PAYMENTS_PENDING or _can_be_paid(told.sessions):
        yield Awaited(who="the guest", what=part, until=deadline)


def _pause(told: Told, role: str) -> str:
    return f" (paused by {told.paused[role]})" if role in told.paused else ""


def _is_over(deadline: Any, now: datetime) -> bool:
    return isinstance(deadline, datetime) and deadline <= now


def _can_be_paid(sessions: Sequence[Row]) -> bool:
    """Whether it is the guest's turn: a session is open, or the last one ended and another may be asked for."""
    return bool(sessions) and sessions[-1]["status"] in {"open", "failed", "expired"}
