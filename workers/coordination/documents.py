"""Documents on one page: the invoices and credit notes that each event on `booking.events` leads to. Pure.

    BookingConfirmed with a payment, or of a leg -> the invoice of the stay
    StayChanged of a prepaid booking             -> a credit note of the rest of the old invoice, the new stay's invoice
    StayChanged to another room type             -> a credit note of the rest of the invoice: the leg there has its own
    BookingCancelled, GuestsDidNotArrive, early
      GuestsCheckedOut, of a prepaid booking     -> a credit note of the rest of the stay's, an invoice of what is kept
    the same and GuestsCheckedOut, at the hotel  -> the invoice of what is due there
    BookingRefunded by hand                      -> a credit note
    RefundFailed                                 -> an invoice that takes such a credit note back, if more is kept again
    RefundFailed after an early end              -> an invoice of what is kept again

Nothing is issued for an amount of 0, nor while the lines of the invoice stay what they are. The legs of a paid trip
have documents like any stay that is paid in advance; the trip, which is no stay, has none. Bookings that 0.1.0
reserved have none either.

The ledger's booking may be newer than the event: a stay is found by its place among the stays of the booking. Each
command has the amount that the hotel keeps by the ledger, and the decision issues no more than the booking's documents
lack of it, or have above it (`workers.decisions.documents`). So their sum is that amount once all events are read,
however late each was read, and an event that is read again issues nothing (ADR 0033).
"""

from collections.abc import Iterator, Sequence
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
#: The namespace of the ids of documents; they are names in it. The names of invoices, `invoice:N` after N changes and
#: `invoice:end`, never change: under another name, an event that is read again would issue its document again.
DOCUMENTS: Final = UUID("6f1c1c0e-6a8e-4c58-9d0a-6f0d3c7f2b15")
_END_NAME: Final = "invoice:end"

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
    if booking is None or (booking.legs and not booking.earlier_stays) or _is_of_older_release(booking):
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
        case BookingConfirmed() if event.payment_intent is not None or booking.trip_id is not None:
            yield from history.invoice("invoice:0", DocumentReason.STAY, history.lines[0])
        case BookingCancelled(reason=CancelReason.TRIP_ENDED):
            # The leg was never paid.
            return
        case StayChanged():
            yield from _change(history, event)
        case BookingCancelled() | GuestsCheckedOut() | GuestsDidNotArrive():
            yield from _end(history)
        case BookingRefunded():
            yield from _refund(history, event)
        case RefundFailed():
            yield from _failed_refund(history, event)


class _End(NamedTuple):
    """The end of a stay before its time, and the lines of what the hotel keeps, or of what is due to it."""

    reason: DocumentReason
    lines: tuple[PriceLine, ...]


class _History:
    """A booking with the lines of all its stays.

    `lines[k]` are those of the stay after k changes. A stay with the lines of the one before it has no invoice of its
    own: `numbers[k]` is the stay whose invoice it has. `end` is the end of the last stay before its time, if its
    invoice does not stay then. `kept_minor` is what the hotel keeps of the booking, or what is due to it.
    """

    def __init__(self, booking: Booking) -> None:
        self.booking = booking
        self.is_prepaid = booking.terms is Terms.PREPAID
        stays: Sequence[StayBefore] = (*(each.stay for each in booking.earlier_stays), booking.present_stay())
        self.lines = [stay_lines(stay, booking.terms) for stay in stays]
        if booking.legs:
            # The stay moved to another room type: its leg there has the invoices from now on.
            self.lines[-1] = ()
        self.numbers: list[int] = []
        for number, lines in enumerate(self.lines):
            same = number > 0 and lines == self.lines[number - 1]
            self.numbers.append(self.numbers[-1] if same else number)
        self.end = self._end(stays[-1])
        self.kept_minor = self._kept_minor()

    def _end(self, stay: StayBefore) -> _End | None:
        reason, policy = _END_REASONS.get(self.booking.status), self.booking.policy
        if self.booking.legs or reason is None or (policy is None and reason is DocumentReason.EARLY_DEPARTURE):
            return None
        lines = end_lines(reason, stay, self.booking.terms, 0 if policy is None else policy.kept_minor)
        return None if self.is_prepaid and lines == self.lines[-1] else _End(reason, lines)

    def _kept_minor(self) -> int:
        whole_minor = total_minor(self.lines[-1] if self.end is None else self.end.lines)
        if not self.is_prepaid or self.booking.trip_id is not None:
            # The hotel is paid there, or by the trip.
            return whole_minor
        return min(whole_minor, sum(map(_kept_of, self.booking.payments)))

    def id(self, name: str) -> UUID:
        """Return the id of the document of this name."""
        return uuid5(DOCUMENTS, f"{self.booking.id}:{name}")

    def invoice(
        self, name: str, reason: DocumentReason, lines: tuple[PriceLine, ...], kept_minor: int | None = None
    ) -> Iterator[IssueDocument]:
        """Yield the command for an invoice, unless it would be of 0."""
        if total_minor(lines):
            yield self._document(name, DocumentKind.INVOICE, reason, total_minor(lines), lines, kept_minor=kept_minor)

    def further_invoice(
        self, refund_id: str, reason: DocumentReason, amount_minor: int, lines: tuple[PriceLine, ...] = ()
    ) -> IssueDocument:
        """Return the command for an invoice of what is kept again, because this refund failed."""
        return self._document(
            f"refund_failed:{refund_id}",
            DocumentKind.INVOICE,
            reason,
            amount_minor,
            lines,
            kept_minor=self.kept_minor,
            corrects_id=self.id(f"refund:{refund_id}"),
        )

    def credit_note(self, name: str, reason: DocumentReason, amount_minor: int) -> Iterator[IssueDocument]:
        """Yield the command for a credit note, unless it would be of 0."""
        if amount_minor:
            yield self._document(name, DocumentKind.CREDIT_NOTE, reason, amount_minor, (), kept_minor=self.kept_minor)

    def _document(
        self,
        name: str,
        kind: DocumentKind,
        reason: DocumentReason,
        amount_minor: int,
        lines: tuple[PriceLine, ...],
        *,
        kept_minor: int | None,
        corrects_id: UUID | None = None,
    ) -> IssueDocument:
        return IssueDocument(
            hotel_id=self.booking.hotel_id,
            document_id=self.id(name),
            kind=kind,
            reason=reason,
            booking_id=self.booking.id,
            lines=lines,
            amount_minor=amount_minor,
            currency=self.booking.currency,
            corrects_id=corrects_id,
            kept_minor=kept_minor,
            booking_version=self.booking.version,
        )


def _kept_of(payment: Payment) -> int:
    """Return what the hotel keeps of a payment. A lost dispute took of it: the hotel may still claim the amount."""
    if payment.state is PaymentState.KEPT:
        return payment.kept_minor + payment.lost_minor
    return min(payment.policy_minor, payment.left_minor + payment.lost_minor)


def _change(history: _History, event: StayChanged) -> Iterator[IssueDocument]:
    """Yield the invoice of the changed stay, which replaces the one before; earlier refunds stay credited."""
    before = [each.change_id for each in history.booking.earlier_stays].index(event.change_id)
    number = before + 1
    if not history.is_prepaid or history.numbers[number] != number:
        return
    name, lines = f"invoice:{number}", history.lines[number]
    if total_minor(lines) == 0:
        yield from history.credit_note(name, DocumentReason.STAY_CHANGED, total_minor(history.lines[before]))
        return
    # A later change, or the end, replaces the invoice again, and settles the amount.
    is_replaced = number != history.numbers[-1] or history.end is not None
    kept_minor = None if is_replaced else history.kept_minor
    yield from history.invoice(name, DocumentReason.STAY_CHANGED, lines, kept_minor)


def _end(history: _History) -> Iterator[IssueDocument]:
    """Yield the documents of the end of a stay."""
    booking, end = history.booking, history.end
    if end is None:
        # The guests stayed to the end; a prepaid stay has its invoice already.
        if not history.is_prepaid and booking.status is BookingStatus.CHECKED_OUT:
            yield from history.invoice(_END_NAME, DocumentReason.STAY, history.lines[-1])
        return
    if history.is_prepaid and not booking.payments and booking.trip_id is None:
        return
    if total_minor(end.lines):
        yield from history.invoice(_END_NAME, end.reason, end.lines, history.kept_minor)
    elif history.is_prepaid:
        yield from history.credit_note(_END_NAME, end.reason, total_minor(history.lines[-1]))


def _refund(history: _History, event: BookingRefunded) -> Iterator[IssueDocument]:
    """Yield the credit note of a refund by hand.

    It takes first what is due to the guest anyway. If the product refunds that nevertheless, its refund takes of what
    the hotel keeps, in place of the one by hand.
    """
    payment = history.booking.payment(event.payment_intent)
    if payment is None or not _pays(payment):
        return
    by_hand = any(refund.by_hand for refund in payment.refunds) or bool(payment.failed_refund_ids)
    if event.by_hand or by_hand:
        yield from history.credit_note(f"refund:{event.refund_id}", DocumentReason.REFUNDED_BY_HAND, event.amount_minor)


def _failed_refund(history: _History, event: RefundFailed) -> Iterator[IssueDocument]:
    """Yield the invoice of the money that is kept again, as a refund failed.

    While the stay goes on, the invoice takes credit notes of refunds by hand back. After the end it is a further one of
    what is kept. A refund of the product's own leads to it too: one by hand may have taken of what is kept.
    """
    payment, end = history.booking.payment(event.payment_intent), history.end
    if payment is None or not _pays(payment):
        return
    if end is None:
        yield history.further_invoice(event.refund_id, DocumentReason.REFUND_FAILED, event.amount_minor)
    elif again_minor := min(event.amount_minor, total_minor(end.lines)):
        yield history.further_invoice(event.refund_id, end.reason, again_minor, cut_lines(end.lines, again_minor))


def _pays(payment: Payment) -> bool:
    """Return whether a payment pays the booking, or is kept in part after its end."""
    return payment.state is PaymentState.KEPT or payment.policy_minor > 0
