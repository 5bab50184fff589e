"""The money of a payment that came, went back, was disputed or kept: one movement an event, as the events have it.

A movement's change is that of the account's balance at Stripe, so that the changes of an object of Stripe's add up to
the amounts of its balance transactions.

Several payments pay a stay that became dearer. The amount that the policy kept at its end, the costs of its changes
included, is one movement, under the first of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingRefunded,
    DisputeClosed,
    DisputeOpened,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    RefundClosed,
    RefundFailed,
    RefundRequested,
    StayChanged,
)
from topics.messages.values import DisputeResult


class MovementKind(StrEnum):
    """The kinds of movements, in the order in which they can follow from each other."""

    PAYMENT = "payment"
    KEPT_BY_POLICY = "kept_by_policy"
    REFUND = "refund"
    REFUND_FAILED = "refund_failed"
    REFUND_CLOSED = "refund_closed"
    DISPUTE_OPENED = "dispute_opened"
    DISPUTE_WON = "dispute_won"
    DISPUTE_LOST = "dispute_lost"


class Movement(NamedTuple):
    """One movement, in minor units of `currency`.

    `object_id` is Stripe's: the payment intent, the refund or the dispute. `change_minor` is the change of the balance:
    0 for a refund that an operator closed, for a dispute that was lost (its amount left when it was opened), for a
    refund that failed before it counted as carried out, and for the amount that a hotel's policy kept of a payment when
    the booking ended. `pays_booking`: it is a payment that bought the stay, or a change that made it dearer.
    """

    kind: MovementKind
    payment_intent: str
    object_id: str
    amount_minor: int
    change_minor: int
    currency: str
    session_id: str | None = None
    by_hand: bool = False
    pays_booking: bool = False


@dataclass(slots=True)
class KnownPayment:
    """The facts of a payment that later events do not have: its currency, and the refunds that were carried out.

    `pays`: the booking whose stay, or a change of it, it bought; None for a payment that pays no booking.
    """

    currency: str
    refund_ids: set[str] = field(default_factory=set)
    pays: UUID | None = None


#: The events by which a stay may end early; its policy then keeps a part of the payments that bought the stay.
_ENDS: Final = (BookingCancelled, GuestsCheckedOut, GuestsDidNotArrive)
#: The events that may be movements; a request of a refund is one where its payment pays no booking.
EVENTS_WITH_MONEY: Final[tuple[type[BookingEvent], ...]] = (
    *_ENDS,
    BookingConfirmed,
    StayChanged,
    RefundRequested,
    BookingRefunded,
    RefundFailed,
    RefundClosed,
    DisputeOpened,
    DisputeClosed,
)


def may_move(event: BookingEvent) -> bool:
    """Return whether an event may be a movement, by its own fields."""
    if isinstance(event, _ENDS):
        return event.policy is not None and event.policy.kept_minor > 0
    return isinstance(event, EVENTS_WITH_MONEY) and getattr(event, "payment_intent", None) is not None


class Movements:
    """Turns the events of payments into movements, one by one in the order of the log."""

    def __init__(self, known: Mapping[str, KnownPayment] | None = None) -> None:
        """`known` has the payments of earlier events, by payment intent, in the order in which they arrived."""
        self._known = dict(known or {})
        self._first_paying: dict[UUID, str] = {}
        for intent, each in self._known.items():
            if each.pays is not None:
                self._first_paying.setdefault(each.pays, intent)

    def of(self, event: BookingEvent) -> Movement | None:
        """Return an event's movement; None if it moves no money, or money of a payment that no event let arrive."""
        match event:
            case BookingConfirmed(payment_intent=str() as intent):
                return self._paid(event, intent, event.amount_minor)
            case StayChanged(payment_intent=str() as intent):
                return self._paid(event, intent, event.extra_minor)
            case RefundRequested(payment_intent=intent) if intent not in self._known:
                self._known[intent] = KnownPayment(event.currency)
                return _arrived(event, intent, event.amount_minor)
            case BookingCancelled() | GuestsCheckedOut() | GuestsDidNotArrive() if may_move(event):
                return self._kept(event)
            case BookingRefunded() | RefundFailed() | RefundClosed() | DisputeOpened() | DisputeClosed():
                known = self._known.get(event.payment_intent)
                return None if known is None else _left(event, known)
            case _:
                return None

    def _paid(self, event: BookingConfirmed | StayChanged, intent: str, amount_minor: int) -> Movement:
        self._known.setdefault(intent, KnownPayment(event.currency, pays=event.booking_id))
        self._first_paying.setdefault(event.booking_id, intent)
        return _arrived(event, intent, amount_minor)

    def _kept(self, event: BookingCancelled | GuestsCheckedOut | GuestsDidNotArrive) -> Movement | None:
        """Return what the policy kept; None if the stay is paid at the hotel."""
        intent = self._first_paying.get(event.booking_id)
        if intent is None or event.policy is None:
            return None
        currency = self._known[intent].currency
        return Movement(MovementKind.KEPT_BY_POLICY, intent, intent, event.policy.kept_minor, 0, currency)


def _arrived(event: BookingConfirmed | StayChanged | RefundRequested, intent: str, amount_minor: int) -> Movement:
    return Movement(
        MovementKind.PAYMENT,
        intent,
        intent,
        amount_minor,
        amount_minor,
        event.currency,
        event.session_id,
        pays_booking=not isinstance(event, RefundRequested),
    )


def _left(
    event: BookingRefunded | RefundFailed | RefundClosed | DisputeOpened | DisputeClosed, known: KnownPayment
) -> Movement:
    intent, amount_minor, currency = event.payment_intent, event.amount_minor, known.currency
    match event:
        case BookingRefunded():
            known.refund_ids.add(event.refund_id)
            return Movement(
                MovementKind.REFUND,
                intent,
                event.refund_id,
                amount_minor,
                -amount_minor,
                currency,
                by_hand=event.by_hand,
            )
        case RefundFailed():
            change_minor = amount_minor if event.refund_id in known.refund_ids else 0
            return Movement(
                MovementKind.REFUND_FAILED,
                intent,
                event.refund_id,
                amount_minor,
                change_minor,
                currency,
                by_hand=event.by_hand,
            )
        case RefundClosed():
            return Movement(MovementKind.REFUND_CLOSED, intent, intent, amount_minor, 0, currency)
        case DisputeOpened():
            return Movement(
                MovementKind.DISPUTE_OPENED, intent, event.dispute_id, amount_minor, -amount_minor, currency
            )
        case DisputeClosed(result=DisputeResult.WON):
            return Movement(MovementKind.DISPUTE_WON, intent, event.dispute_id, amount_minor, amount_minor, currency)
        case DisputeClosed():
            return Movement(MovementKind.DISPUTE_LOST, intent, event.dispute_id, amount_minor, 0, currency)
