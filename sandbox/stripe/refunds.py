"""Refunds: money that goes back to a guest, at once, later, or in the end not at all.

Sources: docs.stripe.com/refunds, docs.stripe.com/api/refunds, docs.stripe.com/testing#refunds.
"""

import logging
from collections.abc import Callable
from typing import Final

import stripe

from sandbox.stripe import balance
from sandbox.stripe.books import Json
from sandbox.stripe.cards import Refunding
from sandbox.stripe.currencies import refuse_fractions
from sandbox.stripe.faults import REFUND_FAULTS, Fault
from sandbox.stripe.refused import Refused, invalid, missing
from sandbox.stripe.till import Cause, Till, new_id, nulls_of

log = logging.getLogger(__name__)

_IMITATED: Final = frozenset({"amount", "charge", "expand", "metadata", "payment_intent", "reason"})
_FIELDS_OF_A_FAILURE: Final = ("failure_balance_transaction", "failure_reason", "pending_reason", "status")
_TAKEN_BY_A_DISPUTE: Final = frozenset({"needs_response", "under_review"})


def create_refund(till: Till, params: Json, cause: Cause) -> Json:
    """Refund a payment, all that is left of it unless `amount` is less. Raises Refused."""
    for name in params:
        if name not in _IMITATED:
            raise Refused(f"The local stand-in does not imitate {name}.", param=name, saved=False)
    charge = _charge_named(till, params)
    payment = till.get("payment_intent", charge["payment_intent"])
    refund = _new_refund(till, charge, _amount(till, charge, params.get("amount")), params)
    if balance.is_short(till, refund["amount"]):
        _accept_shortage(till)
        refund |= {"status": "pending", "pending_reason": "insufficient_funds"}
    else:
        _send(till, payment, refund)
    till.books.put(refund)
    refund["balance_transaction"] = balance.move(till, "refund", refund, refund["amount"])["id"]
    till.books.put(refund)
    _recount(till, charge)
    # A card's refund that succeeds at once brings no refund.updated: only its changes do.
    till.emit("refund.created", refund, cause)
    till.emit("charge.refunded", charge, cause)
    log.info("%s refunds %s of %s: %s", refund["id"], refund["amount"], payment["id"], refund["status"])
    return refund


def settle_refund(till: Till, refund_id: str) -> None:
    """Let a pending refund succeed."""
    refund = till.get("refund", refund_id)
    before = {name: refund[name] for name in ("pending_reason", "status")}
    refund |= {"status": "succeeded", "pending_reason": None}
    till.books.put(refund)
    _emit_changed(till, refund, before)


def settle_short_refunds(till: Till) -> None:
    """Let the refunds that wait for money succeed, the oldest first, as far as the available balance goes."""
    waiting = ("json_extract(body, '$.pending_reason') = ?", "insufficient_funds")
    for refund in till.books.page("refund", [waiting], limit=-1, newest_first=False):
        if not balance.is_short(till, refund["amount"]):
            balance.change_available(till, -refund["amount"])
            settle_refund(till, refund["id"])


def fail_refund(till: Till, refund_id: str, reason: str = "expired_or_canceled_card") -> Json:
    """Let a refund fail after all: the money is ours again, and may be refunded anew. Raises Refused."""
    refund = _reverse(till, refund_id, "failed", reason)
    till.emit("refund.failed", refund)
    return refund


def cancel_refund(till: Till, refund_id: str) -> Json:
    """Cancel a pending refund, as a person can for a short time in the dashboard. Raises Refused for any other."""
    status = till.get("refund", refund_id, param="refund")["status"]
    if status != "pending":
        raise Refused(f"A refund that is {status} cannot be canceled.", param="refund")
    return _reverse(till, refund_id, "canceled", "merchant_request")


def refuse_cancel(till: Till, refund_id: str) -> Json:
    """Refuse to cancel a refund by the API: only one that waits for its customer can be, and cards have none."""
    status = till.get("refund", refund_id, param="refund")["status"]
    raise Refused(
        f"You can only cancel a refund with a status of requires_action. This refund has a status of {status}.",
        param="refund",
    )


def _reverse(till: Till, refund_id: str, status: str, reason: str) -> Json:
    refund = till.get("refund", refund_id, param="refund")
    if refund["status"] not in ("pending", "succeeded"):
        raise Refused(f"This refund is {refund['status']} already.", param="refund")
    before = {name: refund[name] for name in _FIELDS_OF_A_FAILURE}
    left_the_account = refund["pending_reason"] != "insufficient_funds"
    transaction = balance.move(till, "refund_reversed", refund, refund["amount"])
    if left_the_account:
        balance.change_available(till, refund["amount"])
    refund |= {
        "status": status,
        "failure_reason": reason,
        "failure_balance_transaction": transaction["id"],
        "pending_reason": None,
    }
    till.books.put(refund)
    for task in TIMED:
        till.books.drop_timer(task, refund_id)
    _recount(till, till.get("charge", refund["charge"]))
    _emit_changed(till, refund, before)
    log.info("%s is %s: %s", refund_id, status, reason)
    return refund


def _charge_named(till: Till, params: Json) -> Json:
    if "charge" in params:
        charge = till.get("charge", params["charge"], param="charge")
    elif "payment_intent" in params:
        payment = till.get("payment_intent", params["payment_intent"], param="payment_intent")
        charge = till.books.find("charge", payment["latest_charge"] or "") or {}
    else:
        raise missing("payment_intent")
    if charge.get("status") != "succeeded":
        raise Refused("This payment has no successful charge to refund.", param="payment_intent")
    return charge


def _amount(till: Till, charge: Json, asked_minor: int | None) -> int:
    """Check the amount: refunds and lost disputes of a payment never exceed what was captured."""
    if asked_minor is not None and asked_minor < 1:
        raise invalid("This value must be greater than or equal to 1.", "amount", "parameter_invalid_integer")
    if asked_minor is not None:
        refuse_fractions(asked_minor, charge["currency"], "amount")
    sums = till.books.balance(charge["payment_intent"])
    if sums.refunded_minor >= sums.captured_minor:
        raise Refused(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    disputes = till.books.of_payment("dispute", charge["payment_intent"])
    if sums.left_minor <= 0 or any(dispute["status"] in _TAKEN_BY_A_DISPUTE for dispute in disputes):
        raise Refused(f"Charge {charge['id']} has been charged back; cannot issue a refund.", code="charge_disputed")
    if asked_minor is not None and asked_minor > sums.left_minor:
        raise Refused(
            f"Refund amount ({asked_minor}) is greater than unrefunded amount on charge ({sums.left_minor})",
            code="amount_too_large",
            param="amount",
        )
    return sums.left_minor if asked_minor is None else asked_minor


def _accept_shortage(till: Till) -> None:
    """Refuse a refund that the balance does not cover, unless it may wait.

    The answer has no `code`: Stripe names the reason in `message_code` alone, which no list of codes documents.
    """
    if balance.when_short(till) == "refuse":
        raise Refused(
            "Insufficient funds in your Stripe balance to refund this amount.",
            message_code="insufficient_balance_for_refund",
        )


def _send(till: Till, payment: Json, refund: Json) -> None:
    """Let a refund leave the account: at once, later, or for a time."""
    fate, seconds = _fate(till, payment)
    pends = fate is Refunding.PENDS
    refund |= {"status": "pending" if pends else "succeeded", "pending_reason": "processing" if pends else None}
    balance.change_available(till, -refund["amount"])
    if fate is not Refunding.SUCCEEDS:
        task = "settle_refund" if pends else "fail_refund"
        till.books.set_timer(task, refund["id"], till.clock.now() + seconds)


def _fate(till: Till, payment: Json) -> tuple[Refunding, float]:
    """Decide what becomes of a refund, and when: the fault plan's word, else the card's."""
    struck = till.faults.strike("POST /v1/refunds", REFUND_FAULTS)
    if rule := struck.get(Fault.REFUND_FAILS_LATER):
        return Refunding.FAILS_LATER, rule.seconds
    if rule := struck.get(Fault.REFUND_PENDS):
        return Refunding.PENDS, rule.seconds
    return Refunding(payment["_refunding"]), till.settings.late_refund_seconds


def _new_refund(till: Till, charge: Json, amount_minor: int, params: Json) -> Json:
    return {
        **nulls_of(stripe.Refund),
        "id": new_id("re_"),
        "object": "refund",
        "amount": amount_minor,
        "charge": charge["id"],
        "created": till.now(),
        "currency": charge["currency"],
        "metadata": params.get("metadata") or {},
        "payment_intent": charge["payment_intent"],
        "reason": params.get("reason"),
    }


def _recount(till: Till, charge: Json) -> None:
    refunded_minor = till.books.balance(charge["payment_intent"]).refunded_minor
    charge |= {
        "amount_refunded": refunded_minor,
        "refunded": refunded_minor == charge["amount_captured"],
    }
    till.books.put(charge)


def _emit_changed(till: Till, refund: Json, before: Json) -> None:
    changed = {name: value for name, value in before.items() if refund[name] != value}
    till.emit("refund.updated", refund, previous=changed)
    till.emit("charge.refund.updated", refund, previous=changed)


TIMED: dict[str, Callable[[Till, str], object]] = {
    "settle_refund": settle_refund,
    "fail_refund": fail_refund,
}
"""The tasks of this module that the stand-in's clock starts."""
