"""Compares one booking's money by its events and at Stripe: each difference, and what mends it. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from uuid import UUID

from workers.decisions.state import PaymentState
from workers.reconciliation.at_stripe import AtStripe
from workers.reconciliation.bookings import Booking, SessionRow
from workers.reconciliation.differences import ROW_IS_UPDATED, Difference, Kind, SessionCorrection, in_words
from workers.reconciliation.payment_comparison import PaymentComparison
from workers.reconciliation.stripe_client import Session

_COMMAND_FOLLOWS: Final = "payments sends the room the command as soon as it runs"


def compare(booking_id: UUID, booking: Booking | None, stripe: AtStripe) -> Sequence[Difference]:
    """Return every difference about one booking, in the order in which they are mended; None: no such booking."""
    if booking is None:
        return [_unknown(booking_id, stripe)] if stripe.net_minor else []
    found = list(_sessions(booking, stripe))
    for payment in booking.payments.values():
        found += PaymentComparison(booking, payment, stripe.of(payment.payment_intent)).differences()
    if not any(each.kind is Kind.UNKNOWN_PAYMENT for each in found):
        found += _unpaid(booking)
    return found


def _unknown(booking_id: UUID, stripe: AtStripe) -> Difference:
    payments = ", ".join(session.payment for session in stripe.sessions if session.paid)
    currency = next(session.currency for session in stripe.sessions if session.paid)
    money = in_words(stripe.net_minor, currency)
    return Difference(
        booking_id=booking_id,
        kind=Kind.UNKNOWN_BOOKING,
        description=f"Stripe has {money} for a booking that the ledger does not have ({payments})",
        correction="its webhook sends the money back: innkeeper replay stripe.webhooks; or refund it at Stripe",
    )


def _unpaid(booking: Booking) -> Iterator[Difference]:
    """Yield the difference of a booking that needs a payment and has none, unless one is being worked on."""
    pays = any(payment.state is PaymentState.KEPT for payment in booking.payments.values())
    working = any(row.is_due for row in booking.sessions.values())
    if booking.is_paid_for and booking.amount_minor and not pays and not working:
        money = in_words(booking.amount_minor, booking.currency)
        yield Difference(
            booking_id=booking.id,
            kind=Kind.WRONG_SUM,
            description=f"{booking.status}: Stripe has no payment for it, and it should have {money}",
            correction=f"look at its events (innkeeper explain {booking.id}); cancel it, or take the money otherwise",
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
            money = in_words(session.amount_minor, session.currency)
            yield Difference(
                booking_id=booking.id,
                kind=Kind.UNKNOWN_PAYMENT,
                description=f"{session.id} was paid with {money}, and the room does not know it",
                correction=_COMMAND_FOLLOWS,
                rows=(wanted,),
            )
        elif row is None or not _is_right(row, wanted):
            was = "has no row" if row is None else _state_of(row, session)
            yield Difference(
                booking_id=booking.id,
                kind=Kind.STALE_SESSION,
                description=f"{session.id} (attempt {session.attempt}) is {session.status} at Stripe and {was}",
                correction=ROW_IS_UPDATED,
                rows=(wanted,),
            )


def _state_of(row: SessionRow, session: Session) -> str:
    lacks_payment = row.status == session.status and session.paid and row.payment_intent != session.payment
    return "its row lacks the payment" if lacks_payment else f"is {row.status} in our rows"


def _wanted(booking: Booking, session: Session, *, is_unknown: bool) -> SessionCorrection:
    row = booking.sessions.get(session.attempt)
    status, is_due = session.status, is_unknown
    if session.status == "open":
        awaited = booking.awaits_payment and booking.attempt == session.attempt
        # A session for which no booking waits must not be paid any more.
        status, is_due = ("open", booking.session_id != session.id) if awaited else ("closing", True)
    return SessionCorrection(session=session, was=row, status=status, is_due=is_due)


def _is_right(row: SessionRow, wanted: SessionCorrection) -> bool:
    session = wanted.session
    url = row.url if session.status == "open" else session.url
    payment = session.payment if session.paid else row.payment_intent
    return (row.status, row.session_id, url, row.payment_intent, False) == (
        wanted.status,
        session.id,
        session.url,
        payment,
        wanted.is_due,
    )
