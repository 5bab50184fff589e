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
#: The events with which a payment that pays its booking arrives.
_PAYING: Final = frozenset({"booking.confirmed.v1", "booking.changed.v1"})
#: The field with the amount, by the type of the event; others have `amount_minor`.
_AMOUNTS: Final = {"booking.changed.v1": "extra_minor"}
#: The versions of a request of a refund; it is the first event of a payment that pays no booking.
_REQUESTS: Final = frozenset({"booking.refund_requested.v1", "booking.refund_requested.v2"})
#: The events by which a stay may end early, and a part of its payment be kept.
_ENDS: Final = frozenset({"booking.cancelled.v1", "booking.checked_out.v1", "booking.no_show.v1"})


class ExpectedMovements:
    """The movements that follow from events, which come in the order of the log."""

    def __init__(self) -> None:
        self._hotels: dict[str, int] = {}
        self._currencies: dict[str, str] = {}
        self._paying: dict[str, str] = {}
        #: The payment and the id of each refund that was carried out.
        self._refunded: set[tuple[str, str]] = set()
        #: The rows by key.
        self.rows: Reads = {}

    def note_hotel(self, event: _Event) -> None:
        """Note the hotel of a booking, from the event that began it."""
        self._hotels[event["booking_id"]] = event["hotel_id"]

    def apply(self, kind: str, key: str, milliseconds: int, event: _Event) -> None:
        """Add the event's movement, if it is one; `key` is that of its row."""
        payment = self._paying.get(event["booking_id"]) if kind in _ENDS else event.get("payment_intent")
        if payment is None:
            return
        amount: Any = event.get(_AMOUNTS.get(kind, "amount_minor"))
        change = 0
        pays = kind in _PAYING
        if pays or (kind in _REQUESTS and payment not in self._currencies):
            self._currencies.setdefault(payment, event["currency"])
            name, change = "payment", amount
            if pays:
                # The amount that a policy keeps is under the first of several payments.
                self._paying.setdefault(event["booking_id"], payment)
        elif kind in _ENDS:
            name, amount = "kept_by_policy", (event.get("policy") or {}).get("kept_minor")
        elif kind in _OBJECTS or kind in _KINDS:
            name, change = self._left(kind, event)
        else:
            return
        if payment not in self._currencies or (kind in _ENDS and not amount):
            return
        self.rows[key] = (
            self._hotels.get(event["booking_id"]),
            milliseconds,
            name,
            payment,
            event.get(_OBJECTS.get(kind, ""), payment),
            amount,
            change,
            self._currencies[payment],
            pays,
        )

    def _left(self, kind: str, event: _Event) -> tuple[str, int]:
        """Return the name of a movement of money that had arrived, and how it changed the balance."""
        amount: int = event["amount_minor"]
        match kind:
            case "booking.refunded.v1":
                self._refunded.add((event["payment_intent"], event["refund_id"]))
                return _KINDS[kind], -amount
            case "booking.refund_failed.v1":
                return _KINDS[kind], amount if (event["payment_intent"], event["refund_id"]) in self._refunded else 0
            case "booking.dispute_opened.v1":
                return _KINDS[kind], -amount
            case "booking.dispute_closed.v1":
                return ("dispute_won", amount) if event["result"] == "won" else ("dispute_lost", 0)
            case _:
                return _KINDS[kind], 0
