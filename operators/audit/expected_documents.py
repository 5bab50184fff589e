"""Computes the invoices and credit notes that the ledger should have, from the events alone."""

from collections.abc import Callable
from typing import Final

from operators.audit.expected_rows import Document, Event
from operators.audit.report import Check

_INVOICE: Final = "invoice"
_CREDIT_NOTE: Final = "credit_note"


class ExpectedDocuments:
    """The documents after the events so far.

    Attributes:
        by_id: the documents by their ids.
        of_stays: the bookings that have the invoice of a stay.
        now_ms: the log's time of the event that is applied, in milliseconds since 1970.
        appliers: the function that applies an event, by its type.
    """

    def __init__(self, wrong: Callable[[Check, str], None]) -> None:
        """Report what is wrong with an event to `wrong`, as a sentence about a check."""
        self.by_id: dict[str, Document] = {}
        self.of_stays: set[str] = set()
        self.now_ms = 0
        self._wrong = wrong
        self._last_numbers: dict[tuple[int, str], int] = {}
        self.appliers: dict[str, Callable[[Event], None]] = {
            "document.issued.v1": self._on_issued,
            "document.not_issued.v1": self._on_answer,
        }

    def _fault(self, event: Event, sentence: str) -> None:
        self._wrong(Check.DOCUMENTS_ADD_UP, f"document {event['document_id']} of hotel {event['hotel_id']}: {sentence}")

    def _on_answer(self, event: Event) -> None:
        """Do nothing: the event changes nothing."""

    def _on_issued(self, event: Event) -> None:
        id_, series = event["document_id"], (event["hotel_id"], event["kind"])
        if id_ in self.by_id:
            self._fault(event, "issued a second time")
            return
        last = self._last_numbers.get(series, 0)
        if event["number"] != last + 1:
            self._fault(event, f"number {event['number']} follows {last}")
        self._last_numbers[series] = event["number"]
        total = sum(line["amount_minor"] for line in event["lines"] if not line.get("included", False))
        if event["amount_minor"] != total or total <= 0:
            self._fault(
                event,
                f"it is of {event['amount_minor']}, and its lines sum to {total}",
            )
        self._correct(event)
        self.by_id[id_] = Document(event, self.now_ms)
        if event["kind"] == _INVOICE and event["reason"] == "stay":
            self.of_stays.add(event["booking_id"])

    def _correct(self, event: Event) -> None:
        """Check which invoice the document corrects, and count its amount there."""
        corrects = event.get("corrects_id")
        if event["kind"] == _INVOICE or corrects is None:
            if (event["kind"] == _CREDIT_NOTE) == (corrects is None):
                self._fault(event, f"a document of kind {event['kind']} for {corrects}")
            return
        invoice = self.by_id.get(corrects)
        if invoice is None or invoice.event["kind"] != _INVOICE:
            self._fault(event, f"it corrects {corrects}, which is no invoice")
            return
        for name in ("hotel_id", "booking_id", "currency"):
            if event[name] != invoice.event[name]:
                self._fault(
                    event,
                    f"its {name} is {event[name]}, that of its invoice {invoice.event[name]}",
                )
        invoice.credited += event["amount_minor"]
        if invoice.credited > invoice.event["amount_minor"]:
            self._fault(
                event,
                f"{invoice.credited} of invoice {corrects} are credited, which is of {invoice.event['amount_minor']}",
            )

    def began(self) -> int | None:
        """Return the log's time of the first document, in milliseconds since 1970; None: there is none."""
        return min((document.issued_at for document in self.by_id.values()), default=None)

    def nets(self) -> dict[str, int]:
        """Return, by booking, the sum of its invoices without that of its credit notes, in minor units."""
        nets: dict[str, int] = {}
        for document in self.by_id.values():
            sign = 1 if document.event["kind"] == _INVOICE else -1
            booking_id = document.event["booking_id"]
            nets[booking_id] = nets.get(booking_id, 0) + sign * document.event["amount_minor"]
        return nets
