"""Checkout Sessions and their payments: opened by the API, then paid, expired, or left alone."""

import logging
from collections.abc import Callable

import stripe

from sandbox.stripe import balance, disputes, statements
from sandbox.stripe.books import Json
from sandbox.stripe.cards import Card, Payment
from sandbox.stripe.refused import Refused
from sandbox.stripe.terms import Terms, terms_of
from sandbox.stripe.till import NOBODY, Cause, Till, new_id, nulls_of, shown

log = logging.getLogger(__name__)


def open_session(till: Till, params: Json) -> Json:
    """Open a session, of which Stripe sends no event; `params` are checked SessionCreateParams. Raises Refused."""
    terms = terms_of(params, till.now())
    suffix = params.get("payment_intent_data", {}).get("statement_descriptor_suffix")
    statements.check_suffix(till.settings.statement_prefix, suffix)
    session = _new_session(till, params, terms)
    till.books.put(session)
    till.books.set_timer("expire_session", session["id"], terms.expires_at)
    log.info("%s opened for %s %s", session["id"], terms.amount_minor, terms.currency)
    return session


def expire_session(till: Till, session_id: str, cause: Cause = NOBODY) -> Json:
    """Expire a session that is open; raises Refused for any other."""
    session = till.get("checkout.session", session_id, param="session")
    if session["status"] != "open":
        raise Refused(
            'Only Checkout Sessions with a status in ["open"] can be expired.'
            f" This Checkout Session has a status of {session['status']}."
        )
    session |= {"status": "expired", "url": None}
    till.books.put(session)
    till.books.drop_timer("expire_session", session_id)
    _cancel_payment(till, session, cause)
    till.emit("checkout.session.expired", session, cause)
    log.info("%s expired", session_id)
    return session


def pay(till: Till, session_id: str, card: Card, late_seconds: float | None = None) -> Json:
    """Pay an open session with a test card, as its guest; gives the session as it is then.

    A declined card leaves the session open (`declined` is the reason). Raises Refused (400) for a
    session that is not open.
    """
    session = till.get("checkout.session", session_id, param="session")
    if session["status"] != "open":
        raise Refused(f"This Checkout Session is {session['status']}: it cannot be paid.")
    if session["amount_total"] == 0:
        return _complete(till, session, "no_payment_required")
    payment = _payment_of(till, session, card)
    if card.payment is Payment.DECLINED:
        _decline(till, payment, card)
        return session
    _charge(till, payment, card)
    if card.payment is Payment.SUCCEEDS:
        _capture(till, payment)
        session = _complete(till, session, "paid")
        disputes.open_by_card(till, payment["id"], card.disputing)
        return session
    payment["status"] = "processing"
    till.books.put(payment)
    seconds = till.settings.late_payment_seconds if late_seconds is None else late_seconds
    till.books.set_timer("settle_payment", session_id, till.clock.now() + seconds)
    return _complete(till, session, "unpaid")


def settle_payment(till: Till, session_id: str) -> None:
    """Let a delayed payment arrive or fail."""
    session = till.get("checkout.session", session_id)
    payment = till.get("payment_intent", session["payment_intent"])
    if payment["_card_succeeds"]:
        _capture(till, payment)
        session["payment_status"] = "paid"
        till.books.put(session)
        till.emit("checkout.session.async_payment_succeeded", session)
    else:
        _fail_late(till, payment)
        till.emit("checkout.session.async_payment_failed", session)
    log.info("%s is now %s", session_id, session["payment_status"])


def declined(till: Till, session: Json) -> Refused | None:
    """Give the refusal of the last attempt to pay a session that is still open."""
    if session["status"] != "open" or session["payment_intent"] is None:
        return None
    payment = till.get("payment_intent", session["payment_intent"])
    error = payment["last_payment_error"]
    return Refused(
        error["message"],
        status=402,
        kind=error["type"],
        code=error["code"],
        decline_code=error.get("decline_code"),
        payment_intent=shown(payment),
    )


def _new_session(till: Till, params: Json, terms: Terms) -> Json:
    session_id = new_id("cs_test_", 58)
    email = params.get("customer_email")
    return {
        **nulls_of(stripe.checkout.Session),
        "id": session_id,
        "object": "checkout.session",
        "allowed_payment_method_types": params.get("allowed_payment_method_types"),
        "amount_subtotal": terms.amount_minor,
        "amount_total": terms.amount_minor,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "created": till.now(),
        "currency": terms.currency,
        "custom_fields": [],
        "custom_text": nulls_of(stripe.checkout.Session.CustomText)
        | {name: text or None for name, text in params.get("custom_text", {}).items()},
        "customer_details": {"email": email} if email else None,
        "customer_email": email,
        "expires_at": terms.expires_at,
        "livemode": False,
        "locale": params.get("locale"),
        "metadata": params.get("metadata") or {},
        "mode": "payment",
        # Since 2022-08-01 the payment intent is made when the guest first tries to pay.
        "payment_intent": None,
        "payment_method_types": params.get("allowed_payment_method_types", ["card", "sepa_debit"]),
        "payment_status": "unpaid" if terms.amount_minor else "no_payment_required",
        "shipping_options": [],
        "status": "open",
        "success_url": params["success_url"],
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": f"{till.url}/c/pay/{session_id}",
        "_line_items": [_line_item(item, given) for item, given in zip(terms.items, params["line_items"], strict=True)],
        "_payment_intent_data": params.get("payment_intent_data", {}),
    }


def _line_item(item: Json, given: Json) -> Json:
    """Give an item with its price as the API shows it, and with the product's description for the page."""
    product = given["price_data"]["product_data"]
    return {
        **nulls_of(stripe.LineItem),
        **item,
        "amount_discount": 0,
        "amount_subtotal": item["amount_total"],
        "amount_tax": 0,
        "metadata": given.get("metadata") or {},
        "_product_description": product.get("description"),
    }


def _payment_of(till: Till, session: Json, card: Card) -> Json:
    """Give the session's payment intent for another attempt, making it at the first."""
    if session["payment_intent"] is not None:
        payment = till.get("payment_intent", session["payment_intent"])
    else:
        payment = _new_payment(till, session)
        session["payment_intent"] = payment["id"]
        till.books.put(session)
    payment["_card_succeeds"] = card.payment in (Payment.SUCCEEDS, Payment.SUCCEEDS_LATER)
    payment["_refunding"] = card.refunding
    payment["_error_code"] = card.error_code
    return payment


def _new_payment(till: Till, session: Json) -> Json:
    payment_id = new_id("pi_")
    given = session["_payment_intent_data"]
    return {
        **nulls_of(stripe.PaymentIntent),
        "id": payment_id,
        "object": "payment_intent",
        "amount": session["amount_total"],
        "amount_capturable": 0,
        "amount_received": 0,
        "capture_method": "automatic_async",
        "client_secret": f"{payment_id}_secret_{new_id('', 25)}",
        "confirmation_method": "automatic",
        "created": till.now(),
        "currency": session["currency"],
        "description": given.get("description"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": given.get("metadata") or {},
        "payment_method_types": session["payment_method_types"],
        "receipt_email": given.get("receipt_email"),
        "statement_descriptor_suffix": given.get("statement_descriptor_suffix"),
        "status": "requires_payment_method",
    }


def _decline(till: Till, payment: Json, card: Card) -> None:
    payment["last_payment_error"] = {
        "type": "card_error",
        "code": card.error_code,
        "decline_code": card.decline_code,
        "message": "Your card has expired." if card.error_code == "expired_card" else "Your card was declined.",
    }
    till.books.put(payment)
    till.emit("payment_intent.payment_failed", payment)
    log.info("%s declined: %s", payment["id"], card.decline_code)


def _fail_late(till: Till, payment: Json) -> None:
    charge = till.get("charge", payment["latest_charge"])
    charge["status"] = "failed"
    till.books.put(charge)
    payment |= {
        "status": "requires_payment_method",
        "last_payment_error": {
            "type": "invalid_request_error",
            "code": payment["_error_code"],
            "message": "The payment attempt failed.",
        },
    }
    till.books.put(payment)
    till.emit("payment_intent.payment_failed", payment)


def _charge(till: Till, payment: Json, card: Card) -> None:
    charge = {
        **nulls_of(stripe.Charge),
        "id": new_id("ch_"),
        "object": "charge",
        "amount": payment["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "billing_details": {"email": payment["receipt_email"]},
        "calculated_statement_descriptor": _descriptor(till, payment, card),
        "captured": False,
        "created": till.now(),
        "currency": payment["currency"],
        "description": payment["description"],
        "disputed": False,
        "livemode": False,
        "metadata": payment["metadata"],
        "paid": False,
        "payment_intent": payment["id"],
        "payment_method_details": {"type": card.method, card.method: _details(card)},
        "receipt_email": payment["receipt_email"],
        "refunded": False,
        "statement_descriptor_suffix": payment["statement_descriptor_suffix"],
        "status": "pending",
    }
    till.books.put(charge)
    payment["latest_charge"] = charge["id"]


def _descriptor(till: Till, payment: Json, card: Card) -> str | None:
    if card.method != "card":
        return None
    return statements.descriptor(till.settings.statement_prefix, payment["statement_descriptor_suffix"])


def _details(card: Card) -> Json:
    if card.method != "card":
        return {"last4": card.number[-4:]}
    return {
        "brand": "visa",
        "country": "US",
        "exp_month": 12,
        "exp_year": 2034,
        "funding": "credit",
        "last4": card.number[-4:],
        "network": "visa",
    }


def _capture(till: Till, payment: Json) -> None:
    amount_minor = payment["amount"]
    charge = till.get("charge", payment["latest_charge"])
    charge |= {
        "amount_captured": amount_minor,
        "captured": True,
        "paid": True,
        "status": "succeeded",
    }
    payment |= {
        "amount_received": amount_minor,
        "last_payment_error": None,
        "status": "succeeded",
    }
    till.books.put(payment)
    charge["balance_transaction"] = balance.move(till, "capture", charge, amount_minor)["id"]
    till.books.put(charge)
    till.emit("charge.succeeded", charge)
    till.emit("payment_intent.succeeded", payment)


def _complete(till: Till, session: Json, payment_status: str) -> Json:
    session |= {"status": "complete", "payment_status": payment_status, "url": None}
    till.books.put(session)
    till.books.drop_timer("expire_session", session["id"])
    till.emit("checkout.session.completed", session)
    log.info("%s completed: %s", session["id"], payment_status)
    return session


def _cancel_payment(till: Till, session: Json, cause: Cause) -> None:
    """Cancel the intent that a declined attempt left behind: it cannot be paid any more."""
    if session["payment_intent"] is None:
        return
    payment = till.get("payment_intent", session["payment_intent"])
    payment |= {
        "status": "canceled",
        "canceled_at": till.now(),
        "cancellation_reason": "automatic",
    }
    till.books.put(payment)
    till.emit("payment_intent.canceled", payment, cause)


TIMED: dict[str, Callable[[Till, str], object]] = {
    "expire_session": expire_session,
    "settle_payment": settle_payment,
}
"""The tasks of this module that the stand-in's clock starts."""
