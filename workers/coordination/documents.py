"""Documents on one page: the invoices and credit notes that each event on `booking.events` leads to. Pure.

    BookingConfirmed with a payment, or of a leg -> the invoice of the stay
    StayChanged of a prepaid booking             -> a credit note of the rest of the old invoice, the new stay's invoice
    BookingCancelled, GuestsDidNotArrive, early
      GuestsCheckedOut, of a prepaid booking     -> an invoice of what is kept, a credit note of the rest of the stay's
    the same and GuestsCheckedOut, at the hotel  -> the invoice of what is due there
    BookingRefunded by hand                      -> a credit note
    RefundFailed of it                           -> an invoice that takes the credit note back
    RefundFailed after an early end              -> an invoice of what is kept again

Nothing is issued for an amount of 0, nor while the lines of the invoice stay what they are. The legs of a paid trip
have documents like any stay that is paid in advance; the trip, which is no stay, has none. Bookings that 0.1.0
reserved have none either.

The ledger's booking may be newer than the event: a stay is found by its place among the stays of the booking, a refund
by its id. Where the order of events counts, the decision cuts a document to what is left, or does not issue it
(`workers.decisions.documents`): it has the documents in the order of the events. So events that are read again issue
nothing, and documents are the same however new the booking is, but for refunds by hand of which coordination learns
together with a later change or end of the stay (ADR 0033).
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final, NamedTuple
from uuid import UUID, uuid5

from pricing.documents import cut_lines, end_lines, stay_lines, total_minor
from topics.envelope import Envelope
from topics.messages.commands import Command, IssueDocument
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingRefunded,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    RefundFailed,
    StayBefore,
    StayChanged,
)
from topics.messages.sale import PriceLine
from topics.messages.values import BookingStatus, CancelReason, DocumentKind, DocumentReason, Terms
from workers.decisions import Booking, Payment
from workers.decisions.documents import part_id
from workers.decisions.state import PaymentState

#: The events whose booking `commands_for` reads.
WITH_BOOKING: Final[tuple[type[BookingEvent], ...]] = (
    BookingConfirmed,
    StayChanged,
    BookingCancelled,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    BookingRefunded,
    RefundFailed,
)
#: The namespace of the ids of documents; they are names in it.
DOCUMENTS: Final = UUID("6f1c1c0e-6a8e-4c58-9d0a-6f0d3c7f2b15")

_END_REASONS: Final = {
    BookingStatus.CANCELLED: DocumentReason.CANCELLED,
    BookingStatus.CHECKED_OUT: DocumentReason.EARLY_DEPARTURE,
    BookingStatus.NO_SHOW: DocumentReason.NO_SHOW,
}


def commands_for(event: object, envelope: Envelope, booking: Booking | None) -> tuple[tuple[str, Command], ...]:
    """Return the commands that issue the documents of an event, each after its id.

    Args:
        event: the event.
        envelope: its envelope.
        booking: the ledger's booking, of an event in `WITH_BOOKING`. It may be newer than the event.
    """
    if booking is None or booking.legs or _is_of_older_release(booking):
        return ()
    issued = enumerate(_documents_for(event, booking))
    return tuple((f"{envelope.id}:document/{number}", command) for number, command in issued)


def _is_of_older_release(booking: Booking) -> bool:
    """Return whether the booking was reserved by 0.1.0, or beside it: so a rollout does not invoice all stays so far.

    Only such a booking has no amounts by night.
    """
    stays = [each.stay for each in booking.earlier_stays]
    return not (stays[0] if stays else booking).night_amounts_minor


def _documents_for(event: object, booking: Booking) -> Iterator[IssueDocument]:
    history = _History(booking)
    match event:
        case BookingConfirmed(payment_intent=str()):
            yield _invoice(history, 0, DocumentReason.STAY)
        case BookingConfirmed() if booking.trip_id is not None and total_minor(history.lines[0]):
            yield _invoice(history, 0, DocumentReason.STAY)
        case BookingCancelled(reason=CancelReason.TRIP_ENDED):
            # The leg was never paid.
            return
        case StayChanged():
            yield from _change(history, event)
        case BookingCancelled() | GuestsCheckedOut() | GuestsDidNotArrive():
            yield from _end(history)
        case BookingRefunded(by_hand=True):
            yield from _refund_by_hand(history, event)
        case RefundFailed():
            yield from _failed_refund(history, event)


class _End(NamedTuple):
    """The end of a stay before its time, and the amount that the hotel keeps, or that is due to it."""

    reason: DocumentReason
    kept_minor: int


class _History:
    """A booking with the invoices of all its stays.

    `lines[k]` are those of the stay after k changes. A stay with the lines of the one before it has no invoice of its
    own: `numbers[k]` is the stay whose invoice it has.
    """

    def __init__(self, booking: Booking) -> None:
        self.booking = booking
        self.stays: Sequence[StayBefore] = (*(each.stay for each in booking.earlier_stays), booking.present_stay())
        self.lines = [stay_lines(stay, booking.terms) for stay in self.stays]
        self.numbers: list[int] = []
        for number, lines in enumerate(self.lines):
            same = number > 0 and lines == self.lines[number - 1]
            self.numbers.append(self.numbers[-1] if same else number)

    def id(self, name: str) -> UUID:
        """Return the id of the document of this name."""
        return uuid5(DOCUMENTS, f"{self.booking.id}:{name}")

    def invoice_id(self, number: int) -> UUID:
        """Return the id of the invoice of the stay after so many changes."""
        return self.id(f"invoice:{number}")

    @property
    def end_id(self) -> UUID:
        """Return the id of the invoice of the booking's end."""
        return self.id("invoice:end")

    def refund_id(self, refund_id: str, number: int) -> UUID:
        """Return the id of the credit note that a refund by hand needs on the invoice of a stay, or after its end."""
        return self.id(f"refund:{refund_id}:{number}")

    def retaken_id(self, refund_id: str, number: int) -> UUID:
        """Return the id of the invoice that takes such a credit note back."""
        return self.id(f"refund_failed:{refund_id}:{number}")

    def kept_again_id(self, refund_id: str) -> UUID:
        """Return the id of the further invoice of what is kept, if a refund fails after the end."""
        return self.id(f"refund_failed:{refund_id}:end")

    def end(self) -> _End | None:
        """Return how the stay ended before its time; None: it goes on, or the guests stayed to its end."""
        reason, policy = _END_REASONS.get(self.booking.status), self.booking.policy
        if reason is None or (policy is None and reason is DocumentReason.EARLY_DEPARTURE):
            return None
        return _End(reason, 0 if policy is None else policy.kept_minor)

    def end_lines(self, end: _End) -> tuple[PriceLine, ...]:
        """Return the lines of what is kept at the end."""
        return end_lines(end.reason, self.stays[-1], self.booking.terms, end.kept_minor)

    def document(
        self,
        id: UUID,
        kind: DocumentKind,
        reason: DocumentReason,
        lines: tuple[PriceLine, ...],
        corrects_id: UUID | None = None,
    ) -> IssueDocument:
        """Return the command that issues a document."""
        return IssueDocument(
            hotel_id=self.booking.hotel_id,
            document_id=id,
            kind=kind,
            reason=reason,
            booking_id=self.booking.id,
            lines=lines,
            amount_minor=total_minor(lines),
            currency=self.booking.currency,
            corrects_id=corrects_id,
        )


def _invoice(history: _History, number: int, reason: DocumentReason) -> IssueDocument:
    """Return the invoice of the stay after so many changes."""
    return history.document(history.invoice_id(number), DocumentKind.INVOICE, reason, history.lines[number])


def _credit_rest(history: _History, number: int, reason: DocumentReason) -> Iterator[IssueDocument]:
    """Yield credit notes of all that is left of the invoice of a stay, and of those that took its credit notes back."""
    lines = history.lines[number]
    if total_minor(lines) == 0:
        return
    id = history.id(f"credit:{number}")
    yield history.document(id, DocumentKind.CREDIT_NOTE, reason, lines, history.invoice_id(number))
    failed = [id for paid in history.booking.payments for id in paid.failed_refund_ids]
    for refund_id, part in product(failed, range(len(failed))):
        id = part_id(history.id(f"credit:{refund_id}:{number}"), part)
        retaken_id = part_id(history.retaken_id(refund_id, number), part)
        yield history.document(id, DocumentKind.CREDIT_NOTE, reason, lines, retaken_id)


def _change(history: _History, event: StayChanged) -> Iterator[IssueDocument]:
    """Yield the invoice of the changed stay, and credit notes of the one before; earlier refunds stay credited."""
    booking = history.booking
    before = [each.change_id for each in booking.earlier_stays].index(event.change_id)
    number = before + 1
    if booking.terms is not Terms.PREPAID or history.numbers[number] != number:
        return
    yield from _credit_rest(history, history.numbers[before], DocumentReason.STAY_CHANGED)
    if total_minor(history.lines[number]) == 0:
        return
    yield _invoice(history, number, DocumentReason.STAY_CHANGED)
    yield from _carry_refunds(history, number)


def _carry_refunds(history: _History, number: int) -> Iterator[IssueDocument]:
    """Yield credit notes of the refunds by hand from before a change, on the invoice of the changed stay.

    A stay that became much cheaper can have less to be sent back than it became cheaper by, because a refund by hand
    has sent it already: that part is no longer credited.
    """
    booking = history.booking
    paying = [paid for paid in booking.payments if _pays(history, paid)]
    left_minor = total_minor(history.lines[number])
    if number == history.numbers[-1] and history.end() is None:
        left_minor = max(0, left_minor - sum(paid.kept_minor for paid in paying))
    for refund in (refund for paid in paying for refund in paid.refunds if refund.by_hand):
        credited_minor = min(refund.amount_minor, left_minor)
        left_minor -= credited_minor
        yield from _credit_refund(history, number, refund.refund_id, credited_minor, DocumentReason.STAY_CHANGED)


def _pays(history: _History, payment: Payment) -> bool:
    """Return whether a payment pays the booking, or is kept in part after its end."""
    return payment.state is PaymentState.KEPT or (history.end() is not None and payment.policy_minor > 0)


def _credit_refund(
    history: _History,
    number: int,
    refund_id: str,
    amount_minor: int,
    reason: DocumentReason = DocumentReason.REFUNDED_BY_HAND,
) -> Iterator[IssueDocument]:
    """Yield the credit note of a refund by hand on the invoice of a stay, whose lines it shares."""
    lines = history.lines[number]
    cut_minor = min(amount_minor, total_minor(lines))
    if cut_minor > 0:
        yield history.document(
            history.refund_id(refund_id, number),
            DocumentKind.CREDIT_NOTE,
            reason,
            cut_lines(lines, cut_minor),
            history.invoice_id(number),
        )


def _end(history: _History) -> Iterator[IssueDocument]:
    """Yield the documents of the end of a stay. The invoice comes first, as its limit is what is not credited yet."""
    booking, end, number = history.booking, history.end(), history.numbers[-1]
    is_prepaid = booking.terms is Terms.PREPAID
    if end is None:
        # The guests stayed to the end; a prepaid stay has its invoice already.
        if not is_prepaid and booking.status is BookingStatus.CHECKED_OUT and total_minor(history.lines[-1]):
            yield history.document(history.end_id, DocumentKind.INVOICE, DocumentReason.STAY, history.lines[-1])
        return
    lines = history.end_lines(end)
    is_paid = bool(booking.payments) or booking.trip_id is not None
    if is_prepaid and (not is_paid or lines == history.lines[-1]):
        return
    if end.kept_minor:
        replaced = history.invoice_id(number) if is_prepaid else None
        yield history.document(history.end_id, DocumentKind.INVOICE, end.reason, lines, replaced)
    if is_prepaid:
        yield from _credit_rest(history, number, end.reason)


def _refund_by_hand(history: _History, event: BookingRefunded) -> Iterator[IssueDocument]:
    """Yield the credit note of a refund by hand.

    If the booking has ended, the refund came after the end or before it. Both credit notes are one document: the first
    is issued if the invoice of the end is, and otherwise the second. A refund that has failed since needs none.
    """
    payment, number, end = history.booking.payment(event.payment_intent), history.numbers[-1], history.end()
    if payment is None or not _pays(history, payment) or event.refund_id in payment.failed_refund_ids:
        return
    kept_change_minor = _kept_change(payment, payment.left_minor, event.amount_minor)
    if kept_change_minor == 0:
        return
    if end is not None and (lines := history.end_lines(end)) != history.lines[-1]:
        cut_minor = min(kept_change_minor, end.kept_minor)
        if cut_minor:
            yield history.document(
                history.refund_id(event.refund_id, number),
                DocumentKind.CREDIT_NOTE,
                DocumentReason.REFUNDED_BY_HAND,
                cut_lines(lines, cut_minor),
                history.end_id,
            )
    yield from _credit_refund(history, number, event.refund_id, event.amount_minor)


def _failed_refund(history: _History, event: RefundFailed) -> Iterator[IssueDocument]:
    """Yield the invoice of the money that is kept again, as a refund failed.

    While the stay goes on, the invoice takes the credit note of a refund by hand back. After the end it is a further
    one of what is kept. A refund of the product's own leads to it too: one by hand may have taken of what is kept.
    """
    payment, end = history.booking.payment(event.payment_intent), history.end()
    if payment is None or not _pays(history, payment):
        return
    left_minor = payment.left_minor - event.amount_minor
    kept_again_minor = _kept_change(payment, left_minor, event.amount_minor)
    if end is not None:
        if kept_again_minor:
            yield from _kept_again(history, event, end)
    elif event.by_hand:
        yield from _taken_back(history, event, min(kept_again_minor, total_minor(history.lines[-1])))


def _kept_again(history: _History, event: RefundFailed, end: _End) -> Iterator[IssueDocument]:
    """Yield the invoice of what is kept after the end, which the decision cuts to the part that no invoice has.

    The invoice of the end comes first. If a refund by hand had left nothing for it, it is issued now, and is known if
    the end is read again.
    """
    kept_minor = sum(
        paid.kept_minor if paid.state is PaymentState.KEPT else paid.retained_minor for paid in history.booking.payments
    )
    whole = history.end_lines(end)
    lines = cut_lines(whole, min(kept_minor, total_minor(whole)))
    if total_minor(lines):
        for id in (history.end_id, history.kept_again_id(event.refund_id)):
            yield history.document(id, DocumentKind.INVOICE, end.reason, lines)


def _taken_back(history: _History, event: RefundFailed, amount_minor: int) -> Iterator[IssueDocument]:
    """Yield the invoice that takes the credit note of a refund by hand back."""
    if amount_minor == 0:
        return
    number = history.numbers[-1]
    # The credit note has a further part for each invoice that an earlier failure led to, at most.
    for part in range(sum(len(paid.failed_refund_ids) for paid in history.booking.payments)):
        yield history.document(
            part_id(history.retaken_id(event.refund_id, number), part),
            DocumentKind.INVOICE,
            DocumentReason.REFUND_FAILED,
            cut_lines(history.lines[-1], amount_minor),
            part_id(history.refund_id(event.refund_id, number), part),
        )


def _kept_change(payment: Payment, left_minor: int, amount_minor: int) -> int:
    """Return how much less the hotel keeps of a payment with `left_minor` than with so much more.

    All of a payment that pays the booking is kept. Of another one it is what the policy keeps, and a refund by hand
    takes first what is due to the guest anyway.
    """
    if payment.state is PaymentState.KEPT:
        return amount_minor
    return min(payment.policy_minor, left_minor + amount_minor) - min(payment.policy_minor, max(0, left_minor))
