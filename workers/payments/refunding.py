"""How much of a payment must still go back, by which call, and when the call is tried again.

Pure. The amount that is due is the ledger's. Stripe may have reported refunds and lost disputes that the ledger does
not have yet: they are taken off, and nothing is added for a refund that failed until the room has recorded the failure,
since only its decision makes an amount due again.

A payment that the ledger does not know has the target of its row alone: the sum that all refunds of the payment must
reach, those by hand too. Money that a lost dispute took, or that an operator closed, is not sent any more. A refund
that fails, and a call that Stripe refuses, leave the rest due: no refund is given up while a rest is due.
"""

import random
from typing import Any, Final, NamedTuple

from pricing.charges import to_stripe
from storage.payments import DueRefund, RefundRow
from telemetry import traces
from workers.booking_rows import payment_of
from workers.decisions import Payment
from workers.decisions.state import UNKNOWN_REFUND
from workers.stripe.marks import Marks
from workers.stripe.objects import BookingRef

MIN_REFUSED_DELAY_SECONDS: Final = 60.0
MAX_REFUSED_DELAY_SECONDS: Final = 6 * 60 * 60.0


class RefundCall(NamedTuple):
    """The exact call for the rest of a refund."""

    params: dict[str, Any]
    idempotency_key: str


class RefundSums(NamedTuple):
    """The sums of a payment of which money must go back, in minor units.

    `target_minor` is the sum that refunds reach together with the amounts that are not sent: those of lost disputes,
    and those that an operator closed. `rest_minor` must still be sent back. `ended`: no money is left to be sent, and a
    part was not.
    """

    target_minor: int
    rest_minor: int
    pending_minor: int
    ended: bool

    @property
    def status(self) -> str:
        """The status of the refund's row."""
        if self.rest_minor:
            return "creating"
        if self.pending_minor:
            return "pending"
        return "closed" if self.ended else "succeeded"


def sums_of(row: RefundRow) -> RefundSums:
    """Return the sums of a payment by its row and the ledger."""
    pending_minor = sum(refund.amount_minor for refund in row.seen if refund.status == "pending")
    if row.ledger is None:
        succeeded_minor = sum(refund.amount_minor for refund in row.seen if refund.status == "succeeded")
        # An operator closes the refund of a payment that the ledger does not know in the row alone.
        closed_minor = row.target_minor if row.status == "closed" else 0
        gone_minor = succeeded_minor + pending_minor + closed_minor + sum(each.amount_minor for each in row.lost)
        rest_minor = max(0, row.target_minor - gone_minor)
        return RefundSums(row.target_minor, rest_minor, pending_minor, ended=succeeded_minor < row.target_minor)
    paid = payment_of(row.ledger)
    sums, lost_minor = sums_by_ledger(paid), _unrecorded_lost_minor(row, paid)
    return RefundSums(
        sums.target_minor,
        max(0, sums.rest_minor - _unrecorded_refunds_minor(row, paid) - lost_minor),
        pending_minor,
        ended=sums.ended or lost_minor > 0,
    )


def sums_by_ledger(paid: Payment) -> RefundSums:
    """Return the sums of a payment of which Stripe reported nothing that the ledger does not have."""
    return RefundSums(
        target_minor=paid.refunded_minor + paid.lost_minor + paid.closed_minor + paid.due_minor,
        rest_minor=paid.due_minor,
        pending_minor=0,
        ended=bool(paid.lost_minor or paid.closed_minor),
    )


def due_in_full(target_minor: int) -> RefundSums:
    """Return the sums of a payment of which nothing went back yet."""
    return RefundSums(target_minor, target_minor, 0, ended=False)


def failed_count(row: RefundRow) -> int:
    """Return how many of our refunds of the payment failed."""
    return sum(refund.status == "failed" and not refund.by_hand for refund in row.seen)


def call_for_rest(due: DueRefund, sums: RefundSums, refunds_count: int, marks: Marks) -> RefundCall:
    """Return the call for the rest; `refunds_count` are all refunds that the payment has at Stripe, failed ones too.

    The key names the target and the state that the rest was computed from: a repeated call is the same call, and one
    that follows a failed refund is another.

    Raises:
        ValueError: the rest is no amount that Stripe can send.
    """
    gone_minor = sums.target_minor - sums.rest_minor
    key = f"{_first_key(due.payment_intent)}:{sums.target_minor}:{gone_minor}:{refunds_count}"
    if due.idempotency_key == key or due.idempotency_key.startswith(f"{key}/"):
        return RefundCall(due.params, due.idempotency_key)
    params = {
        "payment_intent": due.payment_intent,
        "amount": to_stripe(sums.rest_minor, due.currency),
        "metadata": BookingRef(due.booking_id, due.room_id).metadata(marks) | _trace(due),
    }
    return RefundCall(params, key)


def renewed_key(key: str) -> str:
    """Return the next key for the same call: `.../1`, `.../2`."""
    first, _, number = key.partition("/")
    return f"{first}/{int(number or 0) + 1}"


def refused_delay_seconds(refusals: int) -> float:
    """Return the delay after a refusal, or a refund that failed, that follows so many others: a minute to six hours.

    It doubles each time, with jitter.
    """
    delay = min(MAX_REFUSED_DELAY_SECONDS, MIN_REFUSED_DELAY_SECONDS * 2.0 ** min(refusals, 10))
    return delay * random.uniform(0.8, 1.0)  # noqa: S311 - no secret.


def _unrecorded_refunds_minor(row: RefundRow, paid: Payment) -> int:
    """Return the sum of the refunds that Stripe carries out, or has, and that the ledger does not have yet."""
    unrecorded_minor = sum(
        refund.amount_minor
        for refund in row.seen
        if refund.status != "failed"
        and paid.refund(refund.refund_id) is None
        and refund.refund_id not in paid.failed_refund_ids
    )
    # 0.1.0 recorded a sum without ids: the refunds of that sum are recorded.
    unnamed = paid.refund(UNKNOWN_REFUND)
    return max(0, unrecorded_minor - (0 if unnamed is None else unnamed.amount_minor))


def _unrecorded_lost_minor(row: RefundRow, paid: Payment) -> int:
    """Return the sum of the lost disputes whose end the ledger does not have yet."""
    known = {dispute.dispute_id for dispute in paid.disputes if dispute.state != "open"}
    return sum(dispute.amount_minor for dispute in row.lost if dispute.dispute_id not in known)


def _first_key(payment_intent: str) -> str:
    return f"{payment_intent}:refund"


def _trace(due: DueRefund) -> dict[str, str]:
    trace = due.params.get("metadata", {}).get(traces.TRACEPARENT)
    return {} if trace is None else {traces.TRACEPARENT: trace}
