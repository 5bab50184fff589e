"""Disputes: a guest's bank takes a payment back, and a decision gives it to one side.

An inquiry (`warning_needs_response`) takes no money; it ends as `warning_closed` or becomes a dispute.
Sources: docs.stripe.com/disputes/how-disputes-work, docs.stripe.com/api/disputes, docs.stripe.com/testing#disputes.
"""

import logging
from typing import Final, Literal

import stripe

from sandbox.stripe import balance
from sandbox.stripe.books import Json
from sandbox.stripe.cards import Disputing
from sandbox.stripe.refunds import fail_refund
from sandbox.stripe.refused import Refused, invalid
from sandbox.stripe.till import NOBODY, Cause, Till, new_id, nulls_of

log = logging.getLogger(__name__)

Outcome = Literal["won", "lost"]

_ANSWER_SECONDS: Final = 9 * 24 * 60 * 60
_INQUIRIES: Final = frozenset({"warning_needs_response", "warning_under_review"})
_OPEN: Final = _INQUIRIES | {"needs_response", "under_review"}
_NETWORK_CODES: Final = {"fraudulent": "10.4", "product_not_received": "13.1", "credit_not_processed": "13.6"}
_REASONS: Final = frozenset(
    {
        "bank_cannot_process",
        "check_returned",
        "credit_not_processed",
        "customer_initiated",
        "debit_not_authorized",
        "duplicate",
        "fraudulent",
        "general",
        "incorrect_account_details",
        "insufficient_funds",
        "noncompliant",
        "product_not_received",
        "product_unacceptable",
        "subscription_canceled",
        "unrecognized",
    }
)


def open_dispute(
    till: Till, payment_id: str, amount_minor: int | None = None, reason: str = "fraudulent", *, inquiry: bool = False
) -> Json:
    """Dispute a payment, or inquire about it; without an amount, all of it that is not refunded.

    Raises Refused: 404 for no such payment, 400 for one that is not captured or was disputed for all of its money.
    """
    payment = till.get("payment_intent", payment_id, param="payment_intent")
    if payment["status"] != "succeeded":
        raise Refused("Only a payment that succeeded can be disputed.", param="payment_intent")
    if reason not in _REASONS:
        raise invalid(f"Invalid reason: must be one of {', '.join(sorted(_REASONS))}", "reason")
    charge = till.get("charge", payment["latest_charge"])
    dispute = _new_dispute(till, charge, _amount(till, payment, amount_minor), reason, inquiry=inquiry)
    charge["disputed"] = True
    till.books.put(charge)
    till.books.put(dispute)
    if not inquiry:
        _withdraw(till, dispute)
    till.emit("charge.dispute.created", dispute)
    if not inquiry:
        till.emit("charge.dispute.funds_withdrawn", dispute)
        _fail_pending_refunds(till, payment_id)
    log.info("%s disputes %s of %s: %s", dispute["id"], dispute["amount"], payment_id, dispute["status"])
    return dispute


def open_by_card(till: Till, payment_id: str, disputing: Disputing | None) -> None:
    """Open the dispute that a test card leads to right after its payment."""
    if disputing is Disputing.INQUIRY:
        open_dispute(till, payment_id, inquiry=True)
    elif disputing is not None:
        open_dispute(till, payment_id, reason=disputing.value)


def close_dispute(till: Till, dispute_id: str, outcome: Outcome, cause: Cause = NOBODY) -> Json:
    """Decide a dispute: the money comes back (`won`) or is gone (`lost`). An inquiry can only end without a dispute.

    Raises Refused: 404 for no such dispute, 400 for one that is closed, or for an inquiry that would be lost.
    """
    dispute = _open_one(till, dispute_id)
    if dispute["status"] in _INQUIRIES:
        if outcome == "lost":
            raise Refused("An inquiry takes no money, so that it cannot be lost; escalate it first.", param="outcome")
        return _close(till, dispute, "warning_closed", cause)
    if outcome == "lost":
        payment = till.get("payment_intent", dispute["payment_intent"])
        till.books.move_money("dispute_lost", payment, dispute["amount"], till.clock.now())
        return _close(till, dispute, "lost", cause)
    transaction = balance.move(till, "dispute_reversed", dispute, dispute["amount"])
    balance.change_available(till, dispute["amount"])
    dispute["balance_transactions"].append(transaction)
    dispute["is_charge_refundable"] = True
    _close(till, dispute, "won", cause)
    till.emit("charge.dispute.funds_reinstated", dispute, cause)
    return dispute


def escalate_inquiry(till: Till, dispute_id: str) -> Json:
    """Let an inquiry become a dispute, which takes the money. Raises Refused for any other dispute."""
    dispute = _open_one(till, dispute_id)
    if dispute["status"] not in _INQUIRIES:
        raise Refused("Only an inquiry can be escalated.", param="dispute")
    before = {"is_charge_refundable": True, "status": dispute["status"]}
    dispute |= {"is_charge_refundable": False, "status": "needs_response"}
    dispute["payment_method_details"]["card"]["case_type"] = "chargeback"
    _withdraw(till, dispute)
    till.emit("charge.dispute.updated", dispute, previous=before)
    till.emit("charge.dispute.funds_withdrawn", dispute)
    _fail_pending_refunds(till, dispute["payment_intent"])
    return dispute


def close_inquiries_of_refunded(till: Till, payment_id: str, cause: Cause) -> None:
    """Close a payment's inquiries once all of its money went back: nothing is left to ask for."""
    if till.books.balance(payment_id).left_minor == 0:
        for dispute in till.books.of_payment("dispute", payment_id):
            if dispute["status"] in _INQUIRIES:
                _close(till, dispute, "warning_closed", cause)


def _amount(till: Till, payment: Json, asked_minor: int | None) -> int:
    """Choose the amount: a dispute may take what was refunded already, but never more than was captured."""
    sums = till.books.balance(payment["id"])
    most_minor = sums.captured_minor - sums.disputed_minor - sums.lost_minor
    unrefunded_minor = most_minor - sums.refunded_minor
    usual_minor = unrefunded_minor if unrefunded_minor > 0 else most_minor
    amount_minor = usual_minor if asked_minor is None else asked_minor
    if not 1 <= amount_minor <= most_minor:
        raise invalid(f"A dispute of this payment is for 1 to {most_minor} minor units", "amount_minor")
    return amount_minor


def _new_dispute(till: Till, charge: Json, amount_minor: int, reason: str, *, inquiry: bool) -> Json:
    network_code = _NETWORK_CODES.get(reason)
    return {
        **nulls_of(stripe.Dispute),
        "id": new_id("du_"),
        "object": "dispute",
        "amount": amount_minor,
        "balance_transactions": [],
        "charge": charge["id"],
        "created": till.now(),
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**nulls_of(stripe.Dispute.Evidence), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": till.now() + _ANSWER_SECONDS,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "is_charge_refundable": inquiry,
        "livemode": False,
        # A dispute has none of the metadata of its payment (docs.stripe.com/metadata).
        "metadata": {},
        "network_reason_code": network_code,
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "type": "card",
            "card": {
                "brand": "visa",
                "case_type": "inquiry" if inquiry else "chargeback",
                "network": "visa",
                "network_reason_code": network_code,
            },
        },
        "reason": reason,
        "status": "warning_needs_response" if inquiry else "needs_response",
    }


def _withdraw(till: Till, dispute: Json) -> None:
    transaction = balance.move(till, "dispute", dispute, dispute["amount"])
    balance.change_available(till, -dispute["amount"])
    dispute["balance_transactions"].append(transaction)
    till.books.put(dispute)


def _open_one(till: Till, dispute_id: str) -> Json:
    dispute = till.get("dispute", dispute_id, param="dispute")
    if dispute["status"] not in _OPEN:
        raise Refused("This dispute is already closed.", param="dispute")
    return dispute


def _close(till: Till, dispute: Json, status: str, cause: Cause) -> Json:
    dispute["status"] = status
    till.books.put(dispute)
    till.emit("charge.dispute.closed", dispute, cause)
    log.info("%s is %s", dispute["id"], status)
    return dispute


def _fail_pending_refunds(till: Till, payment_id: str) -> None:
    """Fail the refunds that have not left yet: the bank took the money first."""
    for refund in till.books.of_payment("refund", payment_id):
        if refund["status"] == "pending":
            fail_refund(till, refund["id"], "charge_for_pending_refund_disputed")
