"""Refunds: money that goes back to a guest, at once, later, or in the end not at all."""

import logging
from collections.abc import Callable

import stripe

from sandbox.stripe.books import Json
from sandbox.stripe.cards import Refunding
from sandbox.stripe.currencies import refuse_fractions
from sandbox.stripe.faults import REFUND_FAULTS, Fault
from sandbox.stripe.refused import Refused, invalid, missing
from sandbox.stripe.till import Cause, Till, new_id, nulls_of

log = logging.getLogger(__name__)

_IMITATED = frozenset({"amount", "charge", "expand", "metadata", "payment_intent", "reason"})


def create_refund(till: Till, params: Json, cause: Cause) -> Json:
    """Refund a payment, all that is left of it unless `amount` is less. Raises Refused."""
    for name in params:
        if name not in _IMITATED:
            raise Refused(f"The local stand-in does not imitate {name}.", param=name, saved=False)
    charge = _charge_named(till, params)
    payment = till.get("payment_intent", charge["payment_intent"])
    amount_minor = _amount(till, charge, params.get("amount"))
    fate, seconds = _fate(till, payment)
    refund = _new_refund(till, charge, amount_minor, params)
    refund["status"] = "pending" if fate is Refunding.PENDS else "succeeded"
    till.books.put(refund)
    till.books.move_money("refund", payment, amount_minor, till.clock.now())
    _recount(till, charge)
    if fate is not Refunding.SUCCEEDS:
        task = "settle_refund" if fate is Refunding.PENDS else "fail_refund"
        till.books.set_timer(task, refund["id"], till.clock.now() + seconds)
    # A card's refund that succeeds at once brings no refund.updated: only its changes do.
    till.emit("refund.created", refund, cause)
    till.emit("charge.refunded", charge, cause)
    log.info("%s refunds %s of %s: %s", refund["id"], amount_minor, payment["id"], fate)
    return refund


def settle_refund(till: Till, refund_id: str) -> None:
    """Let a pending refund succeed."""
    refund = till.get("refund", refund_id)
    refund |= {"status": "succeeded", "pending_reason": None}
    till.books.put(refund)
    _emit_changed(till, refund)


def fail_refund(till: Till, refund_id: str) -> None:
    """Let a refund fail after all: the money is ours again, and may be refunded anew."""
    refund = till.get("refund", refund_id)
    refund |= {
        "status": "failed",
        "failure_reason": "expired_or_canceled_card",
        "failure_balance_transaction": new_id("txn_"),
    }
    till.books.put(refund)
    payment = till.get("payment_intent", refund["payment_intent"])
    till.books.move_money("refund_reversed", payment, refund["amount"], till.clock.now())
    _recount(till, till.get("charge", refund["charge"]))
    _emit_changed(till, refund)
    till.emit("refund.failed", refund)
    log.info("%s failed", refund_id)


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
    """Check the amount: the sum of a payment's refunds never exceeds what was captured."""
    captured_minor, refunded_minor = till.books.balance(charge["payment_intent"])
    left_minor = captured_minor - refunded_minor
    if asked_minor is not None and asked_minor < 1:
        raise invalid("This value must be greater than or equal to 1.", "amount", "parameter_invalid_integer")
    if asked_minor is not None:
        refuse_fractions(asked_minor, charge["currency"], "amount")
    if left_minor == 0:
        raise Refused(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    if asked_minor is not None and asked_minor > left_minor:
        raise Refused(
            f"Refund amount ({asked_minor}) is greater than unrefunded amount on charge ({left_minor})",
            code="amount_too_large",
            param="amount",
        )
    return left_minor if asked_minor is None else asked_minor


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
        "metadata": params.get("metadata", {}),
        "payment_intent": charge["payment_intent"],
        "reason": params.get("reason"),
    }


def _recount(till: Till, charge: Json) -> None:
    _, refunded_minor = till.books.balance(charge["payment_intent"])
    charge |= {
        "amount_refunded": refunded_minor,
        "refunded": refunded_minor == charge["amount_captured"],
    }
    till.books.put(charge)


def _emit_changed(till: Till, refund: Json) -> None:
    till.emit("refund.updated", refund)
    till.emit("charge.refund.updated", refund)


TIMED: dict[str, Callable[[Till, str], object]] = {
    "settle_refund": settle_refund,
    "fail_refund": fail_refund,
}
"""The tasks of this module that the stand-in's clock starts."""
