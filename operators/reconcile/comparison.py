"""One booking's money on both sides: what differs, in words, and what mends it. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from operators.reconcile.books import Booking, RefundRow, SessionRow
from operators.reconcile.counter import Refund, Session

_TOLD_THE_ROOM_IS = "payments tells the room as soon as it runs"


class Kind(StrEnum):
    """What is wrong. The first three break I4; the others are rows that do not know what Stripe knows."""

    WRONG_SUM = "wrong_sum"
    UNHEARD_PAYMENT = "unheard_payment"
    UNKNOWN_BOOKING = "unknown_booking"
    STALE_SESSION = "stale_session"
    STALE_REFUND = "stale_refund"


@dataclass(frozen=True, kw_only=True)
class SessionMend:
    """How a row of `checkout_session` must stand. `was` None: there is none yet. `is_due`: payments must tell."""

    session: Session
    was: SessionRow | None
    status: str
    is_due: bool


@dataclass(frozen=True, kw_only=True)
class RefundMend:
    """How a row of `refund` must stand."""

    booking: Booking
    refund: Refund
    was: RefundRow | None
    status: str
    is_due: bool


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that is not the same on both sides, with its mend in words, and as a row where a row mends it."""

    booking_id: UUID
    kind: Kind
    says: str
    mend: str
    row: SessionMend | RefundMend | None = None

    @property
    def breaks_the_sum(self) -> bool:
        """Whether money is not where it belongs."""
        return self.kind in {Kind.WRONG_SUM, Kind.UNHEARD_PAYMENT, Kind.UNKNOWN_BOOKING}


@dataclass(kw_only=True)
class AtStripe:
    """All that Stripe has for one booking."""

    sessions: list[Session] = field(default_factory=list)
    refunds: list[Refund] = field(default_factory=list)

    @property
    def net_minor(self) -> int:
        """What came in and did not go back."""
        came = {session.payment: session.amount_minor for session in self.sessions if session.paid}
        went = sum(refund.amount_minor for refund in self.refunds if refund.went_back and refund.payment in came)
        return sum(came.values()) - went


def compare(booking_id: UUID, booking: Booking | None, stripe: AtStripe) -> Sequence[Difference]:
    """Return every difference about one booking; None: the ledger does not have it."""
    if booking is None:
        return [_unknown(booking_id, stripe)] if stripe.net_minor else []
    found = [*_sessions(booking, stripe), *_refunds(booking, stripe)]
    if stripe.net_minor != booking.owed_minor and not _is_explained(booking, found):
        found.append(_wrong_sum(booking, stripe))
    return found


def _is_explained(booking: Booking, found: Iterable[Difference]) -> bool:
    """Tell whether a payment that the room has yet to hear of, or a refund that is under way, makes the difference."""
    unheard = any(difference.kind is Kind.UNHEARD_PAYMENT for difference in found)
    going_back = any(
        state == "refund_requested"
        and (booking.refunds.get(payment) is None or booking.refunds[payment].status in {"creating", "pending"})
        and payment in booking.refunds
        for payment, state in booking.payments.items()
    )
    return unheard or going_back


def _unknown(booking_id: UUID, stripe: AtStripe) -> Difference:
    payments = ", ".join(session.payment for session in stripe.sessions if session.paid)
    return Difference(
        booking_id=booking_id,
        kind=Kind.UNKNOWN_BOOKING,
        says=f"Stripe has {stripe.net_minor} for a booking that the ledger does not have ({payments})",
        mend="its webhook sends the money back: innkeeper replay stripe.webhooks; or refund it at Stripe",
    )


def _wrong_sum(booking: Booking, stripe: AtStripe) -> Difference:
    says = f"{booking.status}: Stripe has {stripe.net_minor}, and it should have {booking.owed_minor}"
    if stripe.net_minor > booking.owed_minor:
        failed = [payment for payment, row in booking.refunds.items() if row.status == "failed"]
        mend = f"refund {', '.join(failed)} again at Stripe" if failed else "refund the rest at Stripe"
    else:
        mend = "was it refunded by hand? Then cancel the booking, or let the guest pay again"
    return Difference(booking_id=booking.id, kind=Kind.WRONG_SUM, says=f"{says} {booking.currency}", mend=mend)


# Sessions.


def _sessions(booking: Booking, stripe: AtStripe) -> Iterable[Difference]:
    for session in stripe.sessions:
        row = booking.sessions.get(session.attempt)
        if row is not None and row.is_due:
            # Payments is at it.
            continue
        unheard = session.paid and session.payment not in booking.payments
        wanted = _wanted(booking, session, unheard=unheard)
        if unheard:
            yield Difference(
                booking_id=booking.id,
                kind=Kind.UNHEARD_PAYMENT,
                says=f"{session.id} was paid with {session.amount_minor} {session.currency}, and the room never heard",
                mend=_TOLD_THE_ROOM_IS,
                row=wanted,
            )
        elif row is None or not _stands(row, wanted):
            was = "has no row" if row is None else f"is {row.status} in our rows"
            yield Difference(
                booking_id=booking.id,
                kind=Kind.STALE_SESSION,
                says=f"{session.id} (attempt {session.attempt}) is {session.status} at Stripe and {was}",
                mend="its row is brought up to date",
                row=wanted,
            )


def _wanted(booking: Booking, session: Session, *, unheard: bool) -> SessionMend:
    row = booking.sessions.get(session.attempt)
    status, is_due = session.status, unheard
    if session.status == "open":
        awaited = booking.status == "PAYMENTS_PENDING" and booking.attempt == session.attempt
        # What nobody waits for must not be paid any more.
        status, is_due = ("open", booking.session_id != session.id) if awaited else ("closing", True)
    return SessionMend(session=session, was=row, status=status, is_due=is_due)


def _stands(row: SessionRow, wanted: SessionMend) -> bool:
    session = wanted.session
    url = row.url if session.status == "open" else session.url
    return (row.status, row.session_id, url, False) == (wanted.status, session.id, session.url, wanted.is_due)


# Refunds.


def _refunds(booking: Booking, stripe: AtStripe) -> Iterable[Difference]:
    for payment, state in booking.payments.items():
        refund = _last_word([refund for refund in stripe.refunds if refund.payment == payment])
        row = booking.refunds.get(payment)
        if refund is None or state == "kept" or (row is not None and row.is_due):
            continue
        status = refund.status if refund.status in {"pending", "succeeded"} else "failed"
        unheard = state == "refund_requested" and status == "succeeded"
        if row is None or (row.status, row.refund_id) != (status, refund.id) or unheard:
            was = "has no row" if row is None else f"is {row.status} in our rows"
            yield Difference(
                booking_id=booking.id,
                kind=Kind.STALE_REFUND,
                says=f"{refund.id} of {payment} {refund.status} at Stripe and {was}",
                mend=_TOLD_THE_ROOM_IS if unheard else "its row is brought up to date",
                row=RefundMend(booking=booking, refund=refund, was=row, status=status, is_due=unheard),
            )


def _last_word(refunds: Sequence[Refund]) -> Refund | None:
    """Return the refund that counts: one that went back before one that failed."""
    return next((refund for refund in refunds if refund.went_back), refunds[0] if refunds else None)
