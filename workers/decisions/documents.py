"""Decisions about the documents of a hotel: their numbers, without gaps, and how much of an invoice can be credited."""

from datetime import datetime

from topics.messages.commands import IssueDocument
from topics.messages.events import DocumentNotIssued, Event
from workers.decisions.state import State


def issue_document(state: State, command: IssueDocument, now: datetime) -> tuple[Event, ...]:
    """Issue an invoice or a credit note under the next number of its series."""
    return (DocumentNotIssued(hotel_id=command.hotel_id, document_id=command.document_id),)
