"""Finds the next actor of a booking and their part: from the tables, and from records that are not read yet.

Pure: rows and records in, parts of sentences out.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from operators.explain.history import Awaited, Kind, Step
from operators.explain.snapshot import BookingRow, CursorRow, PaymentRefundRow, RefundRow, SessionRow, Snapshot
from storage.payments import FAILING_FROM
from topics.messages.commands import ExpireHold
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingExpired,
    BookingRejected,
    BookingReserved,
    ChangeEnded,
    ChangeOpened,
    CodeClaimed,
    CodeRejected,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    PaymentRequested,
    RefundClosed,
    RefundRequested,
    StayChanged,
    TripCancelRequested,
    TripOpened,
    TripRejected,
)
from topics.messages.upcasting import RefundRequestedV1
from topics.messages.values import BookingStatus, LegState
from topics.times import to_the_second

#: The guest's next action in each state that has a deadline.
_GUESTS_PART: Final = {
    BookingStatus.RESERVED: "to name the guests",
    BookingStatus.GUESTS_ADDED: "to ask for the payment",
    BookingStatus.PAYMENTS_PENDING: "to pay",
}
#: The guest's next action for a change of the stay that makes it dearer.
_PART_OF_CHANGE: Final = "to pay for the change of the stay"
#: Stripe's next action while a call about a session is due, by the session's status.
_STRIPES_PART: Final = {
    "creating": "to open a Checkout Session",
    "closing": "to close the Checkout Session",
    "complete": "to report whether the Checkout Session was paid",
}
#: The versions of the event that asks for a refund.
_REFUND_REQUESTS: Final = frozenset({RefundRequestedV1.message_type, RefundRequested.message_type})
#: The events after which payments must do something before the booking continues.
_FOLLOWED_BY_PAYMENTS: Final = frozenset({PaymentRequested.message_type, *_REFUND_REQUESTS, RefundClosed.message_type})
#: The events after which coordination must send a command to the room before there is a booking, or before it moves.
_FOLLOWED_BY_COORDINATION: Final = frozenset(
    {CodeClaimed.message_type, CodeRejected.message_type, ChangeOpened.message_type}
)
#: The event of a booking with a change to another room type after which that room's leg must be released.
_ENDED_MOVE: Final = ChangeEnded.message_type
#: The events of a trip, and of a leg, after which coordination must send commands to the others.
_OF_TRIPS: Final = frozenset(
    kind.message_type
    for kind in (
        TripOpened,
        TripRejected,
        TripCancelRequested,
        BookingConfirmed,
        BookingExpired,
        BookingCancelled,
        StayChanged,
    )
)
_OF_LEGS: Final = frozenset(
    kind.message_type
    for kind in (BookingReserved, BookingRejected, BookingCancelled, GuestsCheckedOut, GuestsDidNotArrive)
)
#: The next record of the room's worker about a session, by the session's status.
_ROOMS_PART: Final = {
    "open": "to record the open Checkout Session",
    "expired": "to record the expired Checkout Session",
    "failed": "to record the Checkout Session that could not be opened",
}


def awaited(snapshot: Snapshot, steps: Sequence[Step], behind: dict[str, int]) -> tuple[Awaited, ...]:
    """Return what is awaited, the log's consumers first.

    `behind` counts the records of each topic that a consumer has not read, by the key that `unread` returns.
    """
    return (
        *_of_consumers(snapshot, steps, behind),
        *_of_operators(snapshot, steps),
        *_of_payments(snapshot, steps),
        *_of_stripe(snapshot),
        *_of_banks(snapshot),
        *_of_legs(snapshot),
        *_of_guest_or_timer(snapshot),
    )


def unread(consumer: str, topic: str) -> str:
    """Return the key under which `behind` has a consumer's records of a topic."""
    return f"{consumer} {topic}"


def _of_consumers(snapshot: Snapshot, steps: Iterable[Step], behind: dict[str, int]) -> Iterator[Awaited]:
    steps = tuple(steps)
    has_moves = any(step.what == ChangeOpened.message_type for step in steps)
    for step in steps:
        if step.place is None:
            continue
        for consumer, word in _consumers(step, snapshot.booking, has_moves=has_moves):
            if not _has_read(snapshot.cursor(consumer, step.place.topic, step.place.partition), step):
                yield Awaited(
                    who=f"the {consumer} worker{_pause(snapshot, consumer)}",
                    what=f"{word} {step.what}",
                    since=step.at,
                    behind=behind.get(unread(consumer, step.place.topic)),
                )


def _consumers(step: Step, booking: BookingRow | None, *, has_moves: bool = False) -> Sequence[tuple[str, str]]:
    """Return the consumers that must read a step's record before the booking continues, each with its part."""
    if step.kind is Kind.COMMAND:
        return (("reservations", "to decide"),)
    if step.kind is Kind.WEBHOOK:
        return (("payments", "to read"),)
    if step.what in _FOLLOWED_BY_PAYMENTS:
        return (("payments", "to follow"),)
    if step.what in _FOLLOWED_BY_COORDINATION or step.what in _followed_by_others(booking):
        return (("coordination", "to follow"),)
    if has_moves and step.what == _ENDED_MOVE:
        return (("coordination", "to follow"),)
    return ()


def _followed_by_others(booking: BookingRow | None) -> frozenset[str]:
    """Return the events of this booking that its legs, or its trip, must get to know."""
    if booking is None or not (booking.legs or booking.trip_id):
        return frozenset()
    return _OF_TRIPS if booking.legs else _OF_LEGS


def _has_read(cursor: CursorRow | None, step: Step) -> bool:
    assert step.place is not None
    if cursor is None:
        return False
    # An event that the log has twice was read when its sequence was.
    return cursor.applied >= step.place.offset or (step.sequence is not None and cursor.sequence >= step.sequence)


def _of_operators(snapshot: Snapshot, steps: Iterable[Step]) -> Iterator[Awaited]:
    for step in steps:
        if step.kind is Kind.DEAD_LETTER:
            yield Awaited(who="an operator", what=f"to look at the dead letter of {step.place}", since=step.at)
    for refund in snapshot.refunds:
        if refund.status in {"creating", "failed"} and (why := _why_to_look_at(refund, snapshot)) is not None:
            intent = refund.payment_intent
            what = (
                f"to look at the refund of {intent}, {why}: innkeeper refunds retry {intent}, or "
                f"innkeeper refunds close {intent} --reason ... --yes"
            )
            yield Awaited(who="an operator", what=what, since=refund.updated_at)
    yield from map(_failed_by_hand, _lasting_failures_by_hand(snapshot))


def _failed_by_hand(failed: PaymentRefundRow) -> Awaited:
    why = "it failed" if failed.failure is None else f"it failed ({failed.failure})"
    what = (
        f"to look at {failed.refund_id}, a refund of {failed.payment_intent} by hand: {why}, and we send nothing"
        " again; make it again at Stripe, or pay the guest otherwise"
    )
    return Awaited(who="an operator", what=what, since=failed.updated_at)


def _lasting_failures_by_hand(snapshot: Snapshot) -> Iterator[PaymentRefundRow]:
    """Yield the failed refunds by hand of payments that pay the booking, unless a person made one again later.

    Of any other payment, the amount is due again, and payments sends it.
    """
    payments = [] if snapshot.booking is None else snapshot.booking.payments or []
    kept = {payment["payment_intent"] for payment in payments if payment["state"] == "kept"}
    by_hand = [made for made in snapshot.payment_refunds if made.by_hand and made.payment_intent in kept]
    for failed in by_hand:
        if failed.status == "failed" and not any(_is_made_after(made, failed) for made in by_hand):
            yield failed


def _is_made_after(made: PaymentRefundRow, failed: PaymentRefundRow) -> bool:
    return (
        made.payment_intent == failed.payment_intent and made.status != "failed" and made.created_at > failed.created_at
    )


def _why_to_look_at(refund: RefundRow, snapshot: Snapshot) -> str | None:
    """Return why an operator should look at a refund that is due; None: payments can be expected to make it."""
    failed = sum(
        made.payment_intent == refund.payment_intent and made.status == "failed" and not made.by_hand
        for made in snapshot.payment_refunds
    )
    if failed:
        return f"which failed {_times(failed)} after Stripe had taken it"
    if refund.refusals >= FAILING_FROM:
        return f"which Stripe refused {_times(refund.refusals)} (tries without success: {refund.failures})"
    return "which 0.1.0 gave up" if refund.status == "failed" else None


def _of_payments(snapshot: Snapshot, steps: Iterable[Step]) -> Iterator[Awaited]:
    """Yield refunds that are due by the ledger's sums, and that payments has no row for and no event to read."""
    payments = [] if snapshot.booking is None else snapshot.booking.payments or []
    known = {refund.payment_intent for refund in snapshot.refunds}
    is_read = all(
        _has_read(snapshot.cursor(consumer, step.place.topic, step.place.partition), step)
        for step in steps
        if step.place is not None and step.what in _REFUND_REQUESTS
        for consumer, _ in _consumers(step, snapshot.booking)
    )
    for payment in payments:
        if payment["state"] == "refund_requested" and payment["payment_intent"] not in known and is_read:
            due_minor = payment.get("due_minor", payment["amount_minor"])
            what = f"to send {due_minor} (minor units) of {payment['payment_intent']} back"
            yield Awaited(who=f"the payments worker{_pause(snapshot, 'payments')}", what=what)


def _of_banks(snapshot: Snapshot) -> Iterator[Awaited]:
    for dispute in snapshot.disputes:
        if dispute.status == "open":
            what = f"to decide dispute {dispute.dispute_id} of {dispute.payment_intent}"
            yield Awaited(who="the cardholder's bank", what=what, since=dispute.created_at)


def _of_stripe(snapshot: Snapshot) -> Iterator[Awaited]:
    for session in snapshot.sessions:
        if session.next_attempt_at is not None:
            if session.status in _STRIPES_PART:
                yield _due("Stripe", _STRIPES_PART[session.status], session)
            else:
                yield _due("the room", _ROOMS_PART[session.status], session)
    for refund in snapshot.refunds:
        if refund.status == "creating":
            yield _due("Stripe", f"to answer the refund of {refund.payment_intent}", refund)
        elif refund.status == "pending":
            what = f"to carry out the refund of {refund.payment_intent}"
            yield Awaited(who="Stripe", what=what, since=refund.updated_at)
        elif refund.next_attempt_at is not None and refund.status == "succeeded":
            yield _due("the room", f"to record that {refund.payment_intent} was refunded", refund)


def _due(who: str, what: str, row: SessionRow | RefundRow) -> Awaited:
    retried = ""
    if row.failures and row.next_attempt_at is not None:
        retried = f" (failed {_times(row.failures)}, again at {to_the_second(row.next_attempt_at)})"
    return Awaited(who=who, what=what + retried, since=row.created_at)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _of_legs(snapshot: Snapshot) -> Iterator[Awaited]:
    """Yield the answers of rooms that a trip waits for, or the trip of a leg that is held."""
    booking = snapshot.booking
    if booking is None:
        return
    status = BookingStatus(booking.status)
    if status is BookingStatus.RESERVING:
        for leg in booking.legs or ():
            if leg.get("state", LegState.REQUESTED) == LegState.REQUESTED:
                what = f"to reserve leg {leg['booking_id']}"
                yield Awaited(who=f"room {leg['room_id']}", what=what, until=booking.hold_expires_at)
    elif booking.pending_change is not None and booking.pending_change.get("is_open"):
        room_id = booking.pending_change["to_room_id"]
        what = f"to hold the stay, as leg {booking.pending_change['id']}"
        yield Awaited(who=f"room {room_id}", what=what, until=booking.hold_expires_at)
    elif booking.trip_id is not None and status in _GUESTS_PART:
        yield Awaited(who=f"trip {booking.trip_id}", what="to be bought, or to end")


def _of_guest_or_timer(snapshot: Snapshot) -> Iterator[Awaited]:
    if snapshot.booking is None or snapshot.booking.trip_id is not None:
        # A leg's deadline and its payment are those of its trip.
        return
    status, deadline = BookingStatus(snapshot.booking.status), snapshot.booking.hold_expires_at
    change = snapshot.booking.pending_change
    is_change, is_open = change is not None, change is not None and change.get("is_open", False)
    part = None if is_open else _PART_OF_CHANGE if is_change else _GUESTS_PART.get(status)
    if part is None and not is_open and status is not BookingStatus.RESERVING:
        return
    if _is_over(deadline, snapshot.now):
        yield Awaited(
            who=f"the timer{_pause(snapshot, 'expiry')}",
            what=f"to end the {'change' if is_change else 'hold'} with {ExpireHold.message_type}",
            since=deadline,
        )
    elif part is not None and (_is_before_payment(snapshot, status) or _can_be_paid(snapshot.sessions)):
        yield Awaited(who="the guest", what=part, until=deadline)


def _is_before_payment(snapshot: Snapshot, status: BookingStatus) -> bool:
    """Whether the guest has something to do before the payment."""
    assert snapshot.booking is not None
    return snapshot.booking.pending_change is None and status is not BookingStatus.PAYMENTS_PENDING


def _pause(snapshot: Snapshot, role: str) -> str:
    paused = next((each for each in snapshot.paused if each.role == role), None)
    return "" if paused is None else f" (paused by {paused.who})"


def _is_over(deadline: datetime | None, now: datetime) -> bool:
    return deadline is not None and deadline <= now


def _can_be_paid(sessions: Sequence[SessionRow]) -> bool:
    """Whether it is the guest's turn: a session is open, or the last one ended and another may be asked for."""
    return bool(sessions) and sessions[-1].status in {"open", "failed", "expired"}
