"""Computes the movements of money that the read model should have, from the events alone."""

from typing import Any, Final

from operators.audit.read_models import Reads

_Event = dict[str, Any]
#: The field with the id of the object at Stripe, by the type of the event; others are about the payment itself.
_OBJECTS: Final = {
    "booking.refunded.v1": "refund_id",
    "booking.refund_failed.v1": "refund_id",
    "booking.dispute_opened.v1": "dispute_id",
    "booking.dispute_closed.v1": "dispute_id",
}
_KINDS: Final = {
    "booking.refunded.v1": "refund",
    "booking.refund_failed.v1": "refund_failed",
    "booking.refund_closed.v1": "refund_closed",
    "booking.dispute_opened.v1": "dispute_opened",
}


class ExpectedMovements:
    """The movements that follow from events, which come in the order of the log."""

    def __init__(self) -> None:
        self._hotels: dict[str, int] = {}
        self._currencies: dict[str, str] = {}
        self._refunded: set[str] = set()
        #: The rows by key.
        self.rows: Reads = {}

    def note_hotel(self, event: _Event) -> None:
        """Note the hotel of a booking, from the event that began it."""
        self._hotels[event["booking_id"]] = event["hotel_id"]

    def apply(self, kind: str, sequence: int, milliseconds: int, event: _Event) -> None:
        """Add the event's movement, if it is one."""
        payment = event.get("payment_intent")
        if payment is None:
            return
        arrives = kind == "booking.confirmed.v1" or (
            kind == "booking.refund_requested.v1" and payment not in self._currencies
        )
        if arrives:
            self._currencies.setdefault(payment, event["currency"])
            name, change = "payment", event["amount_minor"]
        elif kind in _OBJECTS or kind in _KINDS:
            name, change = self._left(kind, event)
        else:
            return
        if payment not in self._currencies:
            return
        self.rows[f"booking {event['booking_id']}, sequence {sequence}"] = (
            self._hotels.get(event["booking_id"]),
            milliseconds,
            name,
            payment,
            event.get(_OBJECTS.get(kind, ""), payment),
            event["amount_minor"],
            change,
            self._currencies[payment],
        )

    def _left(self, kind: str, event: _Event) -> tuple[str, int]:
        """Return the name of a movement of money that had arrived, and how it changed the balance."""
        amount: int = event["amount_minor"]
        match kind:
            case "booking.refunded.v1":
                self._refunded.add(event["refund_id"])
                return _KINDS[kind], -amount
            case "booking.refund_failed.v1":
                return _KINDS[kind], amount if event["refund_id"] in self._refunded else 0
            case "booking.dispute_opened.v1":
                return _KINDS[kind], -amount
            case "booking.dispute_closed.v1":
                return ("dispute_won", amount) if event["result"] == "won" else ("dispute_lost", 0)
            case _:
                return _KINDS[kind], 0
