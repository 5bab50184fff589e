"""Decisions about the documents of a hotel: their numbers, without gaps, and their amounts.

The invoices of a booking less its credit notes are to be of the money that its hotel keeps of it. A command has that
amount as its writer saw it, which may be after later events. So a decision goes no further than to that amount from
the one that the booking's documents have, and no older amount comes after a newer one.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from pricing.documents import cut_lines, total_minor
from topics.messages.commands import IssueDocument
from topics.messages.events import DocumentIssued, DocumentNotIssued, Event
from topics.messages.sale import PriceLine
from topics.messages.values import DocumentKind, DocumentReason
from workers.decisions.state import Document, State

#: The reasons of an invoice of a stay.
_OF_THE_STAY: Final = (DocumentReason.STAY, DocumentReason.STAY_CHANGED)


def issue_document(state: State, command: IssueDocument, now: datetime) -> tuple[Event, ...]:
    """Issue the documents that bring those of a booking closer to the amount that its hotel keeps."""
    issuing = _Issuing(state, command)
    if state.document is None and issuing.is_possible():
        issuing.issue()
    return tuple(issuing.events) or (DocumentNotIssued(hotel_id=command.hotel_id, document_id=command.document_id),)


class _Issuing:
    """One command about the documents of a booking, and the events so far that answer it."""

    def __init__(self, state: State, command: IssueDocument) -> None:
        self.events: list[DocumentIssued] = []
        self._command = command
        self._numbers = dict(state.last_numbers)
        self._documents = state.documents
        self._open = [each for each in state.documents if each.kind is DocumentKind.INVOICE and each.left_minor]
        net_minor = sum(invoice.left_minor for invoice in self._open)
        kept_minor = command.kept_minor
        if kept_minor is None:
            kept_minor = command.amount_minor if command.kind is DocumentKind.INVOICE else 0
        self._kept_minor = kept_minor
        self._above_minor = min(command.amount_minor, max(0, net_minor - kept_minor))
        self._lacking_minor = min(command.amount_minor, max(0, kept_minor - net_minor))

    def is_possible(self) -> bool:
        """Return whether the command is of the booking's hotel and currency, and not older than the documents.

        Version 0 is unknown: code from before there were versions wrote the command.
        """
        command = self._command
        return all(
            (each.hotel_id, each.currency) == (command.hotel_id, command.currency)
            and (command.booking_version == 0 or each.booking_version <= command.booking_version)
            for each in self._documents
        )

    def issue(self) -> None:
        """Issue what the command asks for, as far as it is needed."""
        command = self._command
        if command.kind is DocumentKind.CREDIT_NOTE:
            self._credit(self._above_minor)
        elif command.reason is DocumentReason.REFUND_FAILED:
            self._take_back()
        elif total_minor(command.lines) != command.amount_minor or any(each.amount_minor < 0 for each in command.lines):
            return
        elif command.reason in _OF_THE_STAY:
            self._credit_all()
            self._add(DocumentKind.INVOICE, command.lines, command.amount_minor)
            # Refunds by hand from before a change stay credited.
            back_minor = max(0, command.amount_minor - self._kept_minor)
            self._add(DocumentKind.CREDIT_NOTE, command.lines, back_minor, self.events[-1].document_id)
        elif all(invoice.reason is command.reason for invoice in self._open):
            self._add(DocumentKind.INVOICE, command.lines, self._lacking_minor)
        elif command.corrects_id is None:
            self._credit_all()
            self._add(DocumentKind.INVOICE, command.lines, min(command.amount_minor, self._kept_minor))

    def _credit_all(self) -> None:
        self._credit(sum(invoice.left_minor for invoice in self._open))

    def _credit(self, amount_minor: int) -> None:
        """Credit the booking's invoices, the oldest first."""
        for invoice, part_minor in _parts(self._open, amount_minor):
            self._add(DocumentKind.CREDIT_NOTE, invoice.lines, part_minor, invoice.id)

    def _take_back(self) -> None:
        """Take credit notes of the present stay back: first the one of the refund, and then the newest."""
        named = self._command.corrects_id
        notes = sorted(self._notes_of_stay(), key=lambda note: (note.id != named, -note.number))
        for note, part_minor in _parts(notes, self._lacking_minor):
            self._add(DocumentKind.INVOICE, note.lines, part_minor, note.id)

    def _notes_of_stay(self) -> list[Document]:
        """Return the credit notes of the present stay: those of earlier ones were replaced with their invoices."""
        invoices = {each.id: each for each in self._documents if each.kind is DocumentKind.INVOICE}
        first = max((each.number for each in invoices.values() if each.reason in _OF_THE_STAY), default=None)
        if first is None:
            return []
        present = {id for id, invoice in invoices.items() if invoice.number >= first}
        return [each for each in self._documents if each.corrects_id in present]

    def _add(
        self, kind: DocumentKind, lines: Iterable[PriceLine], amount_minor: int, corrects_id: UUID | None = None
    ) -> None:
        """Issue a document with lines that are cut to an amount; of 0, none is issued."""
        if amount_minor == 0:
            return
        command = self._command
        self._numbers[kind] = self._numbers.get(kind, 0) + 1
        self.events.append(
            DocumentIssued(
                hotel_id=command.hotel_id,
                document_id=_part_id(command.document_id, len(self.events)),
                kind=kind,
                number=self._numbers[kind],
                reason=command.reason,
                booking_id=command.booking_id,
                lines=cut_lines(tuple(lines), amount_minor),
                amount_minor=amount_minor,
                currency=command.currency,
                corrects_id=corrects_id,
                booking_version=command.booking_version,
            )
        )


def _parts(documents: Iterable[Document], amount_minor: int) -> Iterable[tuple[Document, int]]:
    """Yield documents with their parts of an amount, as far as something is left of them."""
    for document in documents:
        part_minor = min(document.left_minor, amount_minor)
        amount_minor -= part_minor
        yield document, part_minor


def _part_id(id: UUID, part: int) -> UUID:
    """Return the id of one of the documents that a command leads to; the first has the command's own."""
    return uuid5(id, str(part)) if part else id
