"""The money of a booking's payments that went back or must, from the ledger and from the payments workers' rows.

Amounts are integers in minor units of the payment's currency.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import PaymentRefund, Refund

RefundStatus: TypeAlias = Literal["due", "pending", "failed", "succeeded", "closed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReturnedPayment:
    """A payment of which money went back, must go back, or failed to, or that is disputed.

    `amount_minor` is the whole payment's. `status` is None if it is disputed only. `closed_minor` does not go back
    through Stripe, because an operator ended the refund; `retained_minor` does not go back, because the hotel keeps it
    by its policy.
    """

    payment_intent: str
    amount_minor: int
    refunded_minor: int
    due_minor: int
    closed_minor: int
    retained_minor: int
    currency: str
    status: RefundStatus | None
    disputed: bool


async def returned_payments(
    connection: AsyncConnection, booking_id: UUID, payments: Sequence[Mapping[str, Any]], currency: str
) -> list[ReturnedPayment]:
    """Return the payments of a booking of which money went back or must, or that are disputed, in their order.

    Args:
        connection: a connection.
        booking_id: the booking.
        payments: its payments, as the ledger has them.
        currency: its currency, which payments have unless they name another.
    """
    if not payments:
        return []
    rows = await connection.execute(select(Refund.payment_intent, Refund.status).where(Refund.booking_id == booking_id))
    calls = {row.payment_intent: row.status for row in rows}
    made = await connection.execute(
        select(PaymentRefund.payment_intent, PaymentRefund.status)
        .where(PaymentRefund.booking_id == booking_id, ~PaymentRefund.by_hand)
        .order_by(PaymentRefund.created_at)
    )
    newest = {row.payment_intent: row.status for row in made}
    found = (
        _returned(payment, currency, calls.get(payment["payment_intent"]), newest.get(payment["payment_intent"]))
        for payment in payments
    )
    return [payment for payment in found if payment.status is not None or payment.disputed]


def is_disputed(payments: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a dispute of any of these payments is open."""
    return any(state == "open" for payment in payments for _, _, state in payment.get("disputes", ()))


def refunded_of(payments: Sequence[Mapping[str, Any]], currency: str) -> int:
    """Return the sum of all refunds that were carried out of payments in the booking's currency."""
    return sum(_refunded_minor(payment) for payment in payments if payment.get("currency", currency) == currency)


def left_of_paying(payments: Sequence[Mapping[str, Any]], currency: str) -> int | None:
    """Return what is left of the payments that pay the booking, in its currency; None if no payment does."""
    paying = [
        payment for payment in payments if payment["state"] == "kept" and payment.get("currency", currency) == currency
    ]
    return sum(_left_minor(payment) for payment in paying) if paying else None


def _left_minor(payment: Mapping[str, Any]) -> int:
    """Return the amount that did not leave again, by refunds or by lost disputes, and is not due either."""
    lost = sum(int(amount_minor) for _, amount_minor, state in payment.get("disputes", ()) if state == "lost")
    due = int(payment.get("due_minor", 0)) + int(payment.get("closed_minor", 0))
    return max(0, int(payment["amount_minor"]) - _refunded_minor(payment) - lost - due)


def _returned(
    payment: Mapping[str, Any], currency: str, call_status: str | None, newest_status: str | None
) -> ReturnedPayment:
    due_minor, closed_minor = _due_minor(payment), payment.get("closed_minor", 0)
    refunded_minor = _refunded_minor(payment)
    is_lost = any(state == "lost" for _, _, state in payment.get("disputes", ()))
    status: RefundStatus | None = None
    if due_minor:
        status = _status_of_due(payment, call_status, newest_status)
    elif closed_minor or (is_lost and payment["state"] != "kept"):
        status = "closed"
    elif refunded_minor:
        status = "succeeded"
    elif payment.get("failed_refund_ids"):
        # A refund by hand, which nobody sends again.
        status = "failed"
    return ReturnedPayment(
        payment_intent=payment["payment_intent"],
        amount_minor=payment["amount_minor"],
        refunded_minor=refunded_minor,
        due_minor=due_minor,
        closed_minor=closed_minor,
        retained_minor=payment.get("retained_minor", 0),
        currency=payment.get("currency", currency),
        status=status,
        disputed=is_disputed([payment]),
    )


def _status_of_due(payment: Mapping[str, Any], call_status: str | None, newest_status: str | None) -> RefundStatus:
    """Return the status of a refund that is due; a failed one is made again."""
    if "pending" in (call_status, newest_status):
        return "pending"
    if "failed" in (call_status, newest_status) or payment.get("failed_refund_ids"):
        return "failed"
    return "due"


def _due_minor(payment: Mapping[str, Any]) -> int:
    """Return what is due; 0.1.0 wrote the state of a refund in full, and no sums."""
    if payment["state"] == "refund_requested" and not _has_sums(payment):
        return int(payment["amount_minor"])
    return int(payment.get("due_minor", 0))


def _refunded_minor(payment: Mapping[str, Any]) -> int:
    """Return the sum of the refunds that were carried out; 0.1.0 wrote the state of a refund in full, and no sums."""
    if payment["state"] == "refunded" and not _has_sums(payment):
        return int(payment["amount_minor"])
    return sum(amount_minor for _, amount_minor, *_ in payment.get("refunds", ()))


def _has_sums(payment: Mapping[str, Any]) -> bool:
    return any(payment.get(name) for name in ("due_minor", "closed_minor", "retained_minor", "refunds", "disputes"))
