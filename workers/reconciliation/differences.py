"""The differences that a reconciliation finds, and what mends each: commands to the room, and rows about payments."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from pricing.currencies import decimal
from topics.messages.commands import BookingCommand
from workers.decisions.state import Payment
from workers.reconciliation.bookings import Booking, RefundRow, SessionRow
from workers.reconciliation.stripe_client import Dispute, Refund, Session

ROW_IS_UPDATED: Final = "its row is brought up to date"


class Kind(StrEnum):
    """The kind of a difference."""

    WRONG_SUM = "wrong_sum"
    UNKNOWN_PAYMENT = "unknown_payment"
    UNKNOWN_BOOKING = "unknown_booking"
    UNKNOWN_REFUND = "unknown_refund"
    FAILED_REFUND = "failed_refund"
    UNKNOWN_DISPUTE = "unknown_dispute"
    IDLE_REFUND = "idle_refund"
    STALE_SESSION = "stale_session"
    STALE_REFUND = "stale_refund"
    STALE_DISPUTE = "stale_dispute"


#: With these a row lacks Stripe's state; with every other kind, money or an event about money is missing.
_STALE: Final = frozenset({Kind.STALE_SESSION, Kind.STALE_REFUND, Kind.STALE_DISPUTE})


@dataclass(frozen=True, kw_only=True)
class SessionCorrection:
    """The right content of a row of `checkout_session`.

    `was` is the present row; None: there is none yet. `is_due`: payments must send the room a command.
    """

    session: Session
    was: SessionRow | None
    status: str
    is_due: bool


@dataclass(frozen=True, kw_only=True)
class RefundCorrection:
    """The right content of a row of `refund`. `is_due`: payments must call Stripe until refunds reach `amount_minor`.

    `was` is the present row; None: there is none yet.
    """

    booking: Booking
    payment: Payment
    was: RefundRow | None
    status: str
    refund_id: str | None
    amount_minor: int
    is_due: bool


@dataclass(frozen=True, kw_only=True)
class RefundObjectCorrection:
    """The right content of a row of `payment_refund`."""

    booking: Booking
    payment: Payment
    refund: Refund
    by_hand: bool


@dataclass(frozen=True, kw_only=True)
class DisputeObjectCorrection:
    """The right content of a row of `payment_dispute`."""

    booking: Booking
    payment: Payment
    dispute: Dispute


RowCorrection = SessionCorrection | RefundCorrection | RefundObjectCorrection | DisputeObjectCorrection


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One difference and what mends it, in words, as commands with their ids, and as rows.

    A command's id is made of the Stripe object and its transition, as payments makes it from a webhook.
    """

    booking_id: UUID
    kind: Kind
    description: str
    correction: str
    commands: tuple[tuple[str, BookingCommand], ...] = ()
    rows: tuple[RowCorrection, ...] = ()

    @property
    def is_certain(self) -> bool:
        """Whether commands or rows mend it; an operator must look at any other."""
        return bool(self.commands or self.rows)

    @property
    def breaks_the_sum(self) -> bool:
        """Whether the sums at Stripe and by events differ, or money that is due stays."""
        return self.kind not in _STALE


def in_words(amount_minor: int, currency: str) -> str:
    """Return an amount as people write it, with its currency."""
    return f"{decimal(amount_minor, currency)} {currency}"
