"""Compares one booking's money in the ledger and at Stripe: each difference, and its correction. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from operators.reconcile.bookings import Booking, RefundRow, SessionRow
from operators.reconcile.stripe_client import Refund, Session

_COMMAND_FOLLOWS = "payments sends the room the command as soon as it runs"


class Kind(StrEnum):
    """The kind of a difference. With the first three, money is wrong; with the others, a row lacks Stripe's state."""

    WRONG_SUM = "wrong_sum"
    UNKNOWN_PAYMENT = "unknown_payment"
    UNKNOWN_BOOKING = "unknown_booking"
    STALE_SESSION = "stale_session"
    STALE_REFUND = "stale_refund"


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
    """The right content of a row of `refund`; its fields are as those of `SessionCorrection`."""

    booking: Booking
    refund: Refund
    was: RefundRow | None
    status: str
    is_due: bool


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One difference and its correction, both in words, and as `row` where a row corrects it."""

    booking_id: UUID
    kind: Kind
    description: str
    correction: str
    row: SessionCorrection | RefundCorrection | None = None

    @property
    def breaks_the_sum(self) -> bool:
        """Whether Stripe has more or less money than the booking."""
        return self.kind in {Kind.WRONG_SUM, Kind.UNKNOWN_PAYMENT, Kind.UNKNOWN_BOOKING}


@dataclass(kw_only=True)
class AtStripe:
    """All sessions and refunds that Stripe has for one booking."""

    sessions: list[Session] = field(default_factory=list)
    refunds: list[Refund] = field(default_factory=list)

    @property
    def net_minor(self) -> int:
        """The amount that was paid and not refunded."""
        paid = {session.payment: session.amount_minor for session in self.sessions if session.paid}
        refunded = sum(refund.amount_minor for refund in self.refunds if refund.is_effective and refund.payment in paid)
        return sum(paid.values()) - refunded


def compare(booking_id: UUID, booking: Booking | None, stripe: AtStripe) -> Sequence[Difference]:
    """Return every difference about one booking; None: the ledger does not have it."""
    if booking is None:
        return [_unknown(booking_id, stripe)] if stripe.net_minor else []
    found = [*_sessions(booking, stripe), *_refunds(booking, stripe)]
    if stripe.net_minor != booking.due_minor and not _is_explained(booking, found):
        found.append(_wrong_sum(booking, stripe))
    return found


def _is_explained(booking: Booking, found: Iterable[Difference]) -> bool:
    """Return whether the difference is a payment that the room does not know yet, or a refund under way."""
    unknown = any(difference.kind is Kind.UNKNOWN_PAYMENT for difference in found)
    going_back = any(
        state == "refund_requested"
        and (booking.refunds.get(payment) is None or booking.refunds[payment].status in {"creating", "pending"})
        and payment in booking.refunds
        for payment, state in booking.payments.items()
    )
    return unknown or going_back


def _unknown(booking_id: UUID, stripe: AtStripe) -> Difference:
    payments = ", ".join(session.payment for session in stripe.sessions if session.paid)
    return Difference(
        booking_id=booking_id,
        kind=Kind.UNKNOWN_BOOKING,
        description=f"Stripe has {stripe.net_minor} for a booking that the ledger does not have ({payments})",
        correction="its webhook sends the money back: innkeeper replay stripe.webhooks; or refund it at Stripe",
    )


def _wrong_sum(booking: Booking, stripe: AtStripe) -> Difference:
    description = f"{booking.status}: Stripe has {stripe.net_minor}, and it should have {booking.due_minor}"
    if stripe.net_minor > booking.due_minor:
        failed = [payment for payment, row in booking.refunds.items() if row.status == "failed"]
        correction = f"refund {', '.join(failed)} again at Stripe" if failed else "refund the rest at Stripe"
    else:
        correction = "was it refunded by hand? Then cancel the booking, or let the guest pay again"
    return Difference(
        booking_id=booking.id,
        kind=Kind.WRONG_SUM,
        description=f"{description} {booking.currency}",
        correction=correction,
    )


# Sessions.


def _sessions(booking: Booking, stripe: AtStripe) -> Iterable[Difference]:
    for session in stripe.sessions:
        row = booking.sessions.get(session.attempt)
        if row is not None and row.is_due:
            # Payments is working on it.
            continue
        is_unknown = session.paid and session.payment not in booking.payments
        wanted = _wanted(booking, session, is_unknown=is_unknown)
        if is_unknown:
            yield Difference(
                booking_id=booking.id,
                kind=Kind.UNKNOWN_PAYMENT,
                description=(
                    f"{session.id} was paid with {session.amount_minor} {session.currency},"
                    " and the room does not know it"
                ),
                correction=_COMMAND_FOLLOWS,
                row=wanted,
            )
        elif row is None or not _is_right(row, wanted):
            was = "has no row" if row is None else f"is {row.status} in our rows"
            yield Difference(
                booking_id=booking.id,
                kind=Kind.STALE_SESSION,
                description=f"{session.id} (attempt {session.attempt}) is {session.status} at Stripe and {was}",
                correction="its row is brought up to date",
                row=wanted,
            )


def _wanted(booking: Booking, session: Session, *, is_unknown: bool) -> SessionCorrection:
    row = booking.sessions.get(session.attempt)
    status, is_due = session.status, is_unknown
    if session.status == "open":
        awaited = booking.status == "PAYMENTS_PENDING" and booking.attempt == session.attempt
        # A session for which no booking waits must not be paid any more.
        status, is_due = ("open", booking.session_id != session.id) if awaited else ("closing", True)
    return SessionCorrection(session=session, was=row, status=status, is_due=is_due)


def _is_right(row: SessionRow, wanted: SessionCorrection) -> bool:
    session = wanted.session
    url = row.url if session.status == "open" else session.url
    return (row.status, row.session_id, url, False) == (wanted.status, session.id, session.url, wanted.is_due)


# Refunds.


def _refunds(booking: Booking, stripe: AtStripe) -> Iterable[Difference]:
    for payment, state in booking.payments.items():
        refund = _effective_refund([refund for refund in stripe.refunds if refund.payment == payment])
        row = booking.refunds.get(payment)
        if refund is None or state == "kept" or (row is not None and row.is_due):
            continue
        status = refund.status if refund.status in {"pending", "succeeded"} else "failed"
        is_unknown = state == "refund_requested" and status == "succeeded"
        if row is None or (row.status, row.refund_id) != (status, refund.id) or is_unknown:
            was = "has no row" if row is None else f"is {row.status} in our rows"
            yield Difference(
                booking_id=booking.id,
                kind=Kind.STALE_REFUND,
                description=f"{refund.id} of {payment} {refund.status} at Stripe and {was}",
                correction=_COMMAND_FOLLOWS if is_unknown else "its row is brought up to date",
                row=RefundCorrection(booking=booking, refund=refund, was=row, status=status, is_due=is_unknown),
            )


def _effective_refund(refunds: Sequence[Refund]) -> Refund | None:
    """Return the refund that counts: one that was not refused, else one that failed."""
    return next((refund for refund in refunds if refund.is_effective), refunds[0] if refunds else None)
