"""The part of the auditor that judges money: Stripe's books against the events, cent by cent, and session by session.

It shares no code with the workers. Stripe's books are those of the simulation; the events are read from the log.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from tests.faults.row import Promise

#: Within this time after its booking ended, or was paid otherwise, no session can be paid any more.
MAX_OPEN: Final = timedelta(minutes=15)
#: The events after which all sessions of a booking so far must be closed.
_CLOSING: Final = frozenset(
    {"booking.cancelled", "booking.expired", "booking.change_ended", "booking.confirmed", "booking.changed"}
)
_ENDED: Final = frozenset({"complete", "expired", "failed", "succeeded", "closed"})


class MoneyAuditor:
    """Follows payments, refunds and sessions by the events; `problem` takes a broken promise."""

    def __init__(self, problem: Callable[[Promise, str], None]) -> None:
        self._problem = problem
        #: The newest payment attempt of each booking.
        self._attempts: Counter[str] = Counter()
        #: The time at which the workers could know that a session must be closed.
        self._closing: dict[tuple[str, int], datetime] = {}
        self._named: set[str] = set()
        #: The refunds that count as carried out, by payment.
        self._refunds: dict[str, dict[str, int]] = {}

    def read(self, kind: str, event: Mapping[str, Any], at: datetime) -> None:
        """Take an event that came to the log at a time."""
        intent = event.get("payment_intent")
        if intent is not None and kind in {"booking.confirmed", "booking.changed", "booking.refund_requested"}:
            self._named.add(intent)
        if kind == "booking.payment_requested":
            self._attempts[event["booking_id"]] = event["attempt"]
            self._close(event["booking_id"], event["attempt"] - 1, at)
        elif kind in _CLOSING:
            self._close(event["booking_id"], self._attempts[event["booking_id"]], at)
        elif kind == "booking.refunded":
            refunds = self._refunds.setdefault(event["payment_intent"], {})
            if event["refund_id"] in refunds:
                self._problem(Promise.MONEY_IS_EXPLAINED, f"{event['refund_id']} is recorded twice")
            refunds[event["refund_id"]] = event["amount_minor"]
        elif kind == "booking.refund_failed":
            self._refunds.get(event["payment_intent"], {}).pop(event["refund_id"], None)

    def _close(self, booking_id: str, last: int, at: datetime) -> None:
        for attempt in range(1, last + 1):
            self._closing.setdefault((booking_id, attempt), at)

    # At the end.

    def check_money(self, payments: Iterable[Mapping[str, Any]], due: Mapping[str, int]) -> None:
        """Compare Stripe's payments with the events, and with the costs of each booking (`due`).

        A person at Stripe who refunds money by hand, and a dispute that is lost, take money that a booking costs.
        """
        kept: Counter[str] = Counter()
        taken: Counter[str] = Counter()
        unknown = set(self._named)
        for payment in payments:
            unknown.discard(payment["id"])
            booking_id, refunds = payment["booking_id"], payment["refunds"]
            kept[booking_id] += payment["amount"] - sum(refunds.values()) - payment["lost"]
            taken[booking_id] += payment["by_hand"] + payment["lost"]
            self._check_payment(payment)
        for intent in sorted(unknown):
            self._problem(Promise.MONEY_IS_EXPLAINED, f"an event names {intent}, which nobody paid here")
        for booking_id, amount in due.items():
            found = kept.pop(booking_id, 0)
            if not amount - taken[booking_id] <= found <= amount:
                self._problem(
                    Promise.MONEY_IS_EXPLAINED,
                    f"booking {booking_id} costs {amount}, people took {taken[booking_id]}, Stripe has {found} for it",
                )
        for booking_id, amount in kept.items():
            if amount:
                self._problem(Promise.MONEY_IS_EXPLAINED, f"{amount} for booking {booking_id}, which there is not")

    def _check_payment(self, payment: Mapping[str, Any]) -> None:
        intent, refunds = payment["id"], payment["refunds"]
        if intent not in self._named:
            self._problem(Promise.MONEY_IS_EXPLAINED, f"{intent} was paid, and no event names it")
        if not 0 <= sum(refunds.values()) <= payment["amount"]:
            self._problem(Promise.MONEY_IS_EXPLAINED, f"{intent}: {refunds} of {payment['amount']} went back")
        if (recorded := self._refunds.get(intent, {})) != refunds:
            self._problem(Promise.MONEY_IS_EXPLAINED, f"{intent}: Stripe has {refunds}, the events {recorded}")

    def check_sessions(self, sessions: Iterable[Mapping[str, Any]]) -> None:
        """Check that no guest could pay for long what was over, or at two pages for one attempt."""
        last: dict[tuple[str, int], Mapping[str, Any]] = {}
        for session in sessions:
            at = session["booking_id"], session["attempt"]
            before, ended = last.get(at), session["ended"]
            if before is not None and (before["ended"] is None or before["ended"] > session["opened"]):
                self._problem(
                    Promise.MONEY_IS_EXPLAINED, f"{before['id']} and {session['id']} of {at} could both be paid"
                )
            last[at] = session
            closing = self._closing.get(at)
            if closing is not None and (ended is None or ended > max(closing, session["opened"]) + MAX_OPEN):
                self._problem(
                    Promise.MONEY_IS_EXPLAINED,
                    f"{session['id']} of {at} could be paid until {ended}, and was over at {closing}",
                )

    def check_calls(self, calls: Iterable[tuple[str, str, bool]]) -> None:
        """Check that no call is left undone: about what each is, its status, and whether it is due."""
        for about, status, is_due in calls:
            if is_due or status not in _ENDED:
                self._problem(Promise.MONEY_IS_EXPLAINED, f"{about} is {status}{' and due' if is_due else ''}")
