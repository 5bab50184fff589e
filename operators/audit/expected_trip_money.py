"""Computes how the money that left the payment of a trip falls on its legs, from the trip's events alone."""

from typing import Any, Final

from operators.audit.amounts import shares

_Event = dict[str, Any]
#: The states of a movement of money out of a payment.
_SENT, _TAKEN, _CLOSED = "sent", "taken", "closed"
_KINDS: Final = {"booking.refunded.v1": _SENT, "booking.refund_closed.v1": _CLOSED}


class TripMoney:
    """A trip: the amount of each leg, what is kept of those that ended, and what left its payment.

    `is_reported`: the report has read a confirmation of the trip or of a leg, or that a stay became the trip.
    """

    def __init__(self) -> None:
        self.is_reported = False
        self._payment: str | None = None
        #: The amounts of the payments of a stay that became the trip.
        self._payments: dict[str, int] = {}
        self._amounts: dict[str, int] = {}
        self._kept: dict[str, int] = {}
        #: The state and the amount of each movement by its id.
        self._out: dict[str, tuple[str, int]] = {}

    def begin(self, event: _Event, payments: _Event, left: _Event, refunds: _Event, closings: _Event) -> None:
        """Let a stay become the trip, whose leg is in another room; `left` are all amounts that left `payments`."""
        self.is_reported = True
        self._payments = payments
        self._amounts = {event["change_id"]: event["amount_minor"]}
        self._out = {
            **{id_: (_SENT if id_ in refunds else _TAKEN, amount) for id_, amount in left.items()},
            **{id_: (_CLOSED, amount) for id_, amount in closings.items()},
        }

    def apply(self, kind: str, id_: str, event: _Event) -> None:
        """Apply an event of the trip, whose id is `id_`."""
        match kind:
            case "booking.trip_opened.v1":
                self._amounts = {leg["booking_id"]: 0 for leg in event["legs"]}
            case "booking.leg_held.v1":
                self._amounts[event["leg_id"]] = event["amount_minor"]
            case "booking.leg_ended.v1":
                self._kept[event["leg_id"]] = event["kept_minor"]
            case "booking.confirmed.v1":
                self.is_reported = True
                self._payment = event.get("payment_intent")
            case _ if event.get("payment_intent") not in {None, self._payment, *self._payments}:
                return
            case "booking.refunded.v1" | "booking.refund_closed.v1":
                state = _TAKEN if event.get("by_hand") else _KINDS[kind]
                self._out[event.get("refund_id", id_)] = (state, event["amount_minor"])
            case "booking.dispute_closed.v1" if event["result"] == "lost":
                self._out[event["dispute_id"]] = (_TAKEN, event["amount_minor"])
            case "booking.refund_failed.v1":
                self._out.pop(event["refund_id"], None)

    def parts(self) -> dict[str, int]:
        """Return what left of each leg's amount, beside what the leg gave up when it ended."""
        worth = {leg: self._kept.get(leg, amount) for leg, amount in self._amounts.items()}
        paid = sum(self._payments.values()) or sum(self._amounts.values())
        given_up = max(0, paid - sum(worth.values()))
        sent, taken, closed = (sum(self._of(state).values()) for state in (_SENT, _TAKEN, _CLOSED))
        # A refund that an operator closed may go back all the same, and counts once.
        settled = max(sent, min(given_up, sent + closed))
        gone = min(max(0, settled + taken - given_up), sum(worth.values()))
        return dict(zip(worth, shares(gone, list(worth.values())), strict=True)) if gone else {}

    def row(self) -> tuple[Any, ...]:
        """Return the row of the report's table of trips."""
        out = (self._of(state) or None for state in (_SENT, _TAKEN, _CLOSED))
        return self._payment, self._payments or None, self._kept or None, *out

    def _of(self, state: str) -> dict[str, int]:
        return {id_: amount for id_, (each, amount) in self._out.items() if each == state}
