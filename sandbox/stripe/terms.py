"""The terms of a Checkout Session that a request may ask for: amount, currency and deadline."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from sandbox.stripe.books import Json
from sandbox.stripe.currencies import refuse_fractions, refuse_total, supported
from sandbox.stripe.refused import Refused, invalid, missing
from sandbox.stripe.till import new_id

MIN_SESSION_SECONDS = 30 * 60
MAX_SESSION_SECONDS = 24 * 60 * 60
_MAX_REFERENCE_LENGTH = 200
_MAX_TEXT_LENGTH = 1200

_IMITATED = frozenset(
    {
        "allowed_payment_method_types",
        "cancel_url",
        "client_reference_id",
        "currency",
        "customer_email",
        "expand",
        "expires_at",
        "line_items",
        "metadata",
        "mode",
        "payment_intent_data",
        "success_url",
        "ui_mode",
    }
)
# These change how the page looks, and never what is paid.
_HARMLESS = frozenset(
    {
        "billing_address_collection",
        "branding_settings",
        "custom_text",
        "customer_creation",
        "integration_identifier",
        "locale",
        "origin_context",
        "payment_method_collection",
        "phone_number_collection",
        "submit_type",
    }
)
_IMITATED_OF_AN_ITEM = frozenset({"metadata", "price_data", "quantity"})
_IMITATED_OF_A_PAYMENT = frozenset({"description", "metadata", "receipt_email", "statement_descriptor_suffix"})


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The subject of a session; `expires_at` in seconds since the epoch."""

    amount_minor: int
    currency: str
    expires_at: int
    items: list[Json]


def terms_of(params: Json, now: int) -> Terms:
    """Read the terms out of checked SessionCreateParams. Raises Refused, and no key remembers it."""
    _refuse_what_is_not_imitated(params)
    _refuse_bad_urls(params)
    _refuse_long_texts(params)
    items = [_line_item(item, f"line_items[{i}]") for i, item in enumerate(params["line_items"])]
    amount_minor, currency = _total(items, params.get("currency"))
    return Terms(amount_minor=amount_minor, currency=currency, expires_at=_expires_at(params, now), items=items)


def _refuse_what_is_not_imitated(params: Json) -> None:
    """Refuse what Stripe would do and we would not, rather than pretend."""
    if "mode" not in params:
        raise missing("mode")
    if not params.get("line_items"):
        raise missing("line_items")
    for name, only in (("mode", "payment"), ("ui_mode", "hosted_page")):
        if params.get(name, only) != only:
            raise _not_imitated(f"{name}={params[name]}", name)
    for name in params:
        if name not in _IMITATED | _HARMLESS:
            raise _not_imitated(name, name)
    for name in params.get("payment_intent_data", {}):
        if name not in _IMITATED_OF_A_PAYMENT:
            raise _not_imitated(f"payment_intent_data[{name}]", "payment_intent_data")


def _not_imitated(what: str, param: str) -> Refused:
    return Refused(f"The local stand-in does not imitate {what}.", param=param, saved=False)


def _refuse_bad_urls(params: Json) -> None:
    if "success_url" not in params:
        raise missing("success_url")
    for name in ("success_url", "cancel_url"):
        parts = urlsplit(params.get(name, "http://absent"))
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise invalid("Not a valid URL", name, "url_invalid")
    if len(params.get("client_reference_id", "")) > _MAX_REFERENCE_LENGTH:
        raise invalid(f"At most {_MAX_REFERENCE_LENGTH} characters", "client_reference_id")


def _refuse_long_texts(params: Json) -> None:
    for name, text in params.get("custom_text", {}).items():
        if text and len(text["message"]) > _MAX_TEXT_LENGTH:
            raise invalid(
                f"Text can be up to {_MAX_TEXT_LENGTH} characters in length.", f"custom_text[{name}][message]"
            )


def _expires_at(params: Json, now: int) -> int:
    """Check the deadline against the window of 30 minutes to 24 hours, by the stand-in's clock."""
    expires_at: int = params.get("expires_at", now + MAX_SESSION_SECONDS)
    if expires_at < now + MIN_SESSION_SECONDS:
        raise invalid(
            "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation.",
            "expires_at",
        )
    if expires_at > now + MAX_SESSION_SECONDS:
        raise invalid(
            "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation.",
            "expires_at",
        )
    return expires_at


def _line_item(item: Json, path: str) -> Json:
    for name in item:
        if name not in _IMITATED_OF_AN_ITEM:
            raise _not_imitated(f"{path}[{name}]", f"{path}[{name}]")
    price = item.get("price_data")
    if price is None:
        raise missing(f"{path}[price_data]")
    for name in ("unit_amount", "product_data"):
        if name not in price:
            raise missing(f"{path}[price_data][{name}]")
    if "recurring" in price:
        raise _not_imitated("recurring prices", f"{path}[price_data][recurring]")
    if "quantity" not in item:
        raise missing(f"{path}[quantity]")
    currency = supported(price["currency"], f"{path}[price_data][currency]")
    refuse_fractions(price["unit_amount"], currency, f"{path}[price_data][unit_amount]")
    return {
        "id": new_id("li_"),
        "object": "item",
        "currency": currency,
        "description": price["product_data"]["name"],
        "quantity": _at_least(1, item["quantity"], f"{path}[quantity]"),
        "unit_amount": _at_least(0, price["unit_amount"], f"{path}[price_data][unit_amount]"),
        "amount_total": item["quantity"] * price["unit_amount"],
    }


def _at_least(least: int, given: int, path: str) -> int:
    if given < least:
        message = f"This value must be greater than or equal to {least}."
        raise invalid(message, path, "parameter_invalid_integer")
    return given


def _total(items: list[Json], expected_currency: str | None) -> tuple[int, str]:
    currencies = {str(item["currency"]) for item in items}
    if expected_currency is not None:
        currencies.add(expected_currency.lower())
    if len(currencies) > 1:
        raise invalid("All prices must use the same currency", "line_items")
    amount_minor = sum(item["amount_total"] for item in items)
    currency = currencies.pop()
    refuse_total(amount_minor, currency)
    return amount_minor, currency
