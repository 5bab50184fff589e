"""Decisions about the documents of a hotel: their numbers, without gaps, and how much of an invoice can be credited."""

from datetime import datetime

from pricing.documents import cut_lines, total_minor
from topics.messages.commands import IssueDocument
from topics.messages.events import DocumentIssued, DocumentNotIssued, Event
from topics.messages.values import DocumentKind, DocumentReason
from workers.decisions.state import Document, State


def issue_document(state: State, command: IssueDocument, now: datetime) -> tuple[Event, ...]:
    """Issue an invoice or a credit note under the next number of its series, cut to what can be issued."""
    amount_minor = 0 if state.document is not None or not _adds_up(command) else _issuable_minor(state, command)
    if amount_minor == 0:
        return (DocumentNotIssued(hotel_id=command.hotel_id, document_id=command.document_id),)
    return (
        DocumentIssued(
            hotel_id=command.hotel_id,
            document_id=command.document_id,
            kind=command.kind,
            number=state.last_number + 1,
            reason=command.reason,
            booking_id=command.booking_id,
            lines=cut_lines(command.lines, amount_minor),
            amount_minor=amount_minor,
            currency=command.currency,
            corrects_id=command.corrects_id if command.kind is DocumentKind.CREDIT_NOTE else None,
        ),
    )


def _adds_up(command: IssueDocument) -> bool:
    """Return whether the lines sum to the amount, and none is below zero."""
    return total_minor(command.lines) == command.amount_minor and all(line.amount_minor >= 0 for line in command.lines)


def _issuable_minor(state: State, command: IssueDocument) -> int:
    """Return the amount of the document; 0: it is not issued."""
    named = state.corrected
    if named is not None and not _is_of_same_booking(named, command):
        return 0
    if command.kind is DocumentKind.CREDIT_NOTE:
        if named is None or named.kind is not DocumentKind.INVOICE:
            return 0
        return min(command.amount_minor, named.amount_minor - named.credited_minor)
    if command.corrects_id is None:
        return command.amount_minor
    if command.reason is DocumentReason.REFUND_FAILED:
        # The credit note of a refund that failed is taken back, as far as there was one.
        if named is None or named.kind is not DocumentKind.CREDIT_NOTE:
            return 0
        return min(command.amount_minor, named.amount_minor)
    # The stay's invoice is unknown if it was paid before its hotel issued documents: then nothing of it was credited.
    return command.amount_minor if named is None else min(command.amount_minor, state.open_minor)


def _is_of_same_booking(document: Document, command: IssueDocument) -> bool:
    return (document.hotel_id, document.booking_id, document.currency) == (
        command.hotel_id,
        command.booking_id,
        command.currency,
    )
