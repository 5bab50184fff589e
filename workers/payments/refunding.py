"""How much of a payment must still go back, by which call, and when the call is tried again.

Pure. A refund has a target: the sum that all refunds of the payment must reach, those by hand too. Money that a lost
dispute took, or that an operator closed, is not sent any more. A refund that fails, and a call that Stripe refuses,
leave the rest due: no refund is given up while a rest is due.
"""

import random
from typing import Any, Final, NamedTuple

from pricing.charges import to_stripe
from storage.payments import DueRefund, RefundSums
from telemetry import traces
from workers.stripe.marks import Marks
from workers.stripe.objects import BookingRef

MIN_REFUSED_DELAY_SECONDS: Final = 60.0
MAX_REFUSED_DELAY_SECONDS: Final = 6 * 60 * 60.0


class RefundCall(NamedTuple):
    """The exact call for the rest of a refund."""

    params: dict[str, Any]
    idempotency_key: str


def rest_minor(sums: RefundSums) -> int:
    """Return the amount that must still be sent back."""
    return max(0, sums.target_minor - _gone_minor(sums))


def status_after(sums: RefundSums) -> str:
    """Return the status of a refund's row by its payment's sums."""
    if rest_minor(sums):
        return "creating"
    if sums.pending_minor:
        return "pending"
    return "succeeded" if sums.succeeded_minor >= sums.target_minor else "closed"


def call_for_rest(due: DueRefund, sums: RefundSums, refunds_count: int, marks: Marks) -> RefundCall:
    """Return the call for the rest; `refunds_count` are all refunds that the payment has at Stripe, failed ones too.

    The key names the target and the state that the rest was computed from: a repeated call is the same call, and one
    that follows a failed refund is another.

    Raises:
        ValueError: the rest is no amount that Stripe can send.
    """
    key = f"{_first_key(due.payment_intent)}:{sums.target_minor}:{_gone_minor(sums)}:{refunds_count}"
    if due.idempotency_key == key or due.idempotency_key.startswith(f"{key}/"):
        return RefundCall(due.params, due.idempotency_key)
    params = {
        "payment_intent": due.payment_intent,
        "amount": to_stripe(rest_minor(sums), due.currency),
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


def _gone_minor(sums: RefundSums) -> int:
    return sums.succeeded_minor + sums.pending_minor + sums.lost_minor + sums.closed_minor


def _first_key(payment_intent: str) -> str:
    return f"{payment_intent}:refund"


def _trace(due: DueRefund) -> dict[str, str]:
    trace = due.params.get("metadata", {}).get(traces.TRACEPARENT)
    return {} if trace is None else {traces.TRACEPARENT: trace}
