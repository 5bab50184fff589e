"""The changes of the daily report by a batch of events: of each booking its last state, in the events' own terms."""

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingRefunded,
    DisputeClosed,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    LegEnded,
    RefundClosed,
    RefundFailed,
    StayChanged,
)
from topics.messages.sale import AppliedPolicy
from topics.messages.values import DisputeResult

#: The events that change the report; all others are left out.
EVENTS_APPLIED: Final[tuple[type[BookingEvent], ...]] = (
    BookingConfirmed,
    BookingCancelled,
    BookingRefunded,
    RefundFailed,
    RefundClosed,
    DisputeClosed,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    StayChanged,
    LegEnded,
)


class DeductionKind(StrEnum):
    """How money of a payment left, or that it did not leave after all."""

    REFUND = "refund"
    TAKEN = "taken"
    CLOSED = "closed"
    FAILED = "failed"


class Deduction(NamedTuple):
    """The money of one payment that left, in minor units, by the id of the refund, of the dispute or of the closing.

    `kind`: a refund that this product made, a refund by hand or a lost dispute, the closing of a refund by an operator,
    or the failure of a refund, of which nothing left.
    """

    payment_intent: str
    id: str
    amount_minor: int
    kind: DeductionKind


class End(NamedTuple):
    """The early end of a stay: the policy's amount, and the first night that is on sale again (None: all are).

    `departed`: the guests had arrived.
    """

    kept_minor: int
    freed_from: date | None
    departed: bool = False
    cancelled: bool = False


def _kept_minor(policy: AppliedPolicy | None) -> int:
    return 0 if policy is None else policy.kept_minor


@dataclass(slots=True)
class Changes:
    """The last state of each booking after a batch of events.

    `confirmed` has the payment that pays the booking, if any; `changed` has all changes of a stay in their order, and
    `ended` the stays that ended early. `leg_ends` has for a trip what is kept of each of its legs that ended.
    `new_trips` has for a booking that moved to another room, and is a trip from then on, what left its payments before.
    """

    confirmed: dict[UUID, str | None] = field(default_factory=dict)
    changed: dict[UUID, list[StayChanged]] = field(default_factory=dict)
    ended: dict[UUID, End] = field(default_factory=dict)
    deductions: dict[UUID, list[Deduction]] = field(default_factory=dict)
    leg_ends: dict[UUID, dict[str, int]] = field(default_factory=dict)
    new_trips: dict[UUID, list[Deduction]] = field(default_factory=dict)

    @property
    def booking_ids(self) -> set[UUID]:
        """The bookings that change."""
        named = (self.confirmed, self.changed, self.ended, self.deductions, self.leg_ends)
        return {booking_id for each in named for booking_id in each}

    def add(self, event: BookingEvent, event_id: str) -> None:
        """Add an event of `EVENTS_APPLIED`; other kinds change nothing."""
        booking_id = event.booking_id
        match event:
            case BookingConfirmed():
                self.confirmed[booking_id] = event.payment_intent
                self.ended.pop(booking_id, None)
            case StayChanged():
                self.changed.setdefault(booking_id, []).append(event)
                if event.to_room_id is not None:
                    self.new_trips[booking_id] = self.deductions.pop(booking_id, [])
            case BookingCancelled():
                self.ended[booking_id] = End(_kept_minor(event.policy), event.freed_from, cancelled=True)
            case GuestsCheckedOut() if event.freed_from is not None:
                self.ended[booking_id] = End(_kept_minor(event.policy), event.freed_from, departed=True)
            case GuestsDidNotArrive():
                self.ended[booking_id] = End(_kept_minor(event.policy), event.freed_from)
            case LegEnded():
                self.leg_ends.setdefault(booking_id, {})[str(event.leg_id)] = event.kept_minor
            case _ if (deduction := _deduction(event, event_id)) is not None:
                self.deductions.setdefault(booking_id, []).append(deduction)


def _deduction(event: BookingEvent, event_id: str) -> Deduction | None:
    match event:
        case BookingRefunded():
            kind = DeductionKind.TAKEN if event.by_hand else DeductionKind.REFUND
            return Deduction(event.payment_intent, event.refund_id, event.amount_minor, kind)
        case RefundFailed():
            return Deduction(event.payment_intent, event.refund_id, 0, DeductionKind.FAILED)
        case RefundClosed():
            # A closing has no id of its own, and an event that is read again is the same closing.
            return Deduction(event.payment_intent, event_id, event.amount_minor, DeductionKind.CLOSED)
        case DisputeClosed(result=DisputeResult.LOST):
            return Deduction(event.payment_intent, event.dispute_id, event.amount_minor, DeductionKind.TAKEN)
        case _:
            return None
