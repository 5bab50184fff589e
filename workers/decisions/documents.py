"""Decisions about the documents of a hotel: their numbers, without gaps, and how much of an invoice can be credited."""

from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from pricing.documents import cut_lines, total_minor
from topics.messages.commands import IssueDocument
from topics.messages.events import DocumentIssued, DocumentNotIssued, Event
from topics.messages.values import DocumentKind, DocumentReason
from workers.decisions.state import Document, State

#: The reasons of an invoice of a stay, which is never cut.
_OF_THE_STAY: Final = (DocumentReason.STAY, DocumentReason.STAY_CHANGED)


def issue_document(state: State, command: IssueDocument, now: datetime) -> tuple[Event, ...]:
    """Issue an invoice or a credit note under the next number of its series, cut to what can be issued."""
    if state.document is None and _adds_up(command) and _names_its_own(state.corrected, command):
        if command.kind is DocumentKind.CREDIT_NOTE:
            return _credit_note(state, command)
        is_taken_back = command.reason is DocumentReason.REFUND_FAILED
        return _issued(state, command, _invoice_minor(state, command), state.corrected if is_taken_back else None)
    return _issued(state, command, 0)


def _adds_up(command: IssueDocument) -> bool:
    """Return whether the lines sum to the amount, and none is below zero."""
    return total_minor(command.lines) == command.amount_minor and all(line.amount_minor >= 0 for line in command.lines)


def _names_its_own(named: Document | None, command: IssueDocument) -> bool:
    """Return whether the document that the command names, if it exists, is one of the same booking."""
    return named is None or (named.hotel_id, named.booking_id, named.currency) == (
        command.hotel_id,
        command.booking_id,
        command.currency,
    )


def _credit_note(state: State, command: IssueDocument) -> tuple[Event, ...]:
    """Return the credit note of the invoice that the command names.

    A refund by hand is of the booking and not of one invoice: if the one named has too little left, the rest is
    credited of the booking's other open invoices, by a credit note each.
    """
    named = state.corrected
    if named is None or named.kind is not DocumentKind.INVOICE:
        return _issued(state, command, 0)
    if command.reason is not DocumentReason.REFUNDED_BY_HAND or named.left_minor >= command.amount_minor:
        return _issued(state, command, min(command.amount_minor, named.left_minor), corrects=named)
    events: list[Event] = []
    rest_minor = command.amount_minor
    for invoice in state.open_invoices:
        amount_minor = min(rest_minor, invoice.left_minor)
        if amount_minor:
            events += _issued(state, command, amount_minor, corrects=invoice, part=len(events))
            rest_minor -= amount_minor
    return tuple(events) or _issued(state, command, 0)


def part_id(id: UUID, part: int) -> UUID:
    """Return the id of a part of a document that more than one invoice is credited for; part 0 has the id itself."""
    return uuid5(id, str(part)) if part else id


def _invoice_minor(state: State, command: IssueDocument) -> int:
    """Return the amount of the invoice; 0: it is not issued."""
    named = state.corrected
    left_minor = sum(invoice.left_minor for invoice in state.open_invoices)
    if command.corrects_id is None and command.reason in _OF_THE_STAY:
        return command.amount_minor
    if command.reason is DocumentReason.REFUND_FAILED:
        # The credit note of a refund that failed is taken back, as far as there was one.
        if named is None or named.kind is not DocumentKind.CREDIT_NOTE:
            return 0
        return min(command.amount_minor, named.left_minor)
    if named is None:
        # It replaces no invoice: the booking's invoices are to have the amount together. There is none yet of a stay
        # that was paid before its hotel issued documents, or that is paid at the hotel.
        return max(0, command.amount_minor - left_minor)
    return min(command.amount_minor, left_minor)


def _issued(
    state: State, command: IssueDocument, amount_minor: int, corrects: Document | None = None, part: int = 0
) -> tuple[Event, ...]:
    if amount_minor == 0:
        return (DocumentNotIssued(hotel_id=command.hotel_id, document_id=command.document_id),)
    return (
        DocumentIssued(
            hotel_id=command.hotel_id,
            document_id=part_id(command.document_id, part),
            kind=command.kind,
            number=state.last_number + 1 + part,
            reason=command.reason,
            booking_id=command.booking_id,
            lines=cut_lines(command.lines, amount_minor),
            amount_minor=amount_minor,
            currency=command.currency,
            corrects_id=None if corrects is None else corrects.id,
        ),
    )
