"""The part of Stripe's API that this path needs: one entry for each endpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stripe import params as sdk
from stripe.params import checkout as sdk_checkout

from sandbox.stripe import checkout, disputes, refunds
from sandbox.stripe.books import Json
from sandbox.stripe.refused import Refused, invalid, no_such
from sandbox.stripe.till import Cause, Till, shown


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request whose parameters have been checked."""

    params: Json
    object_id: str
    cause: Cause


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A method and path, the SDK's type of its parameters, and the function that answers."""

    method: str
    path: str
    params: Any
    work: Callable[[Till, Call], Json]


def answer(till: Till, endpoint: Endpoint, call: Call) -> Json:
    """Do what an endpoint does and give the object as the API shows it. Raises Refused."""
    return _expanded(till, endpoint.work(till, call), call.params.get("expand", []))


def _create_session(till: Till, call: Call) -> Json:
    return checkout.open_session(till, call.params)


def _expire_session(till: Till, call: Call) -> Json:
    return checkout.expire_session(till, call.object_id, call.cause)


def _create_refund(till: Till, call: Call) -> Json:
    refund = refunds.create_refund(till, call.params, call.cause)
    disputes.close_inquiries_of_refunded(till, refund["payment_intent"], call.cause)
    return refund


def _cancel_refund(till: Till, call: Call) -> Json:
    return refunds.refuse_cancel(till, call.object_id)


def _accept_dispute(till: Till, call: Call) -> Json:
    return disputes.close_dispute(till, call.object_id, "lost", call.cause)


def _retrieve(kind: str) -> Callable[[Till, Call], Json]:
    def work(till: Till, call: Call) -> Json:
        return till.get(kind, call.object_id)

    return work


def _retrieve_event(till: Till, call: Call) -> Json:
    return _with_deliveries(till, till.get("event", call.object_id))


def _list_sessions(till: Till, call: Call) -> Json:
    filters = [*_equal(call, "payment_intent"), *_equal(call, "status")]
    return _page(till, call, "checkout.session", "/v1/checkout/sessions", filters)


def _list_refunds(till: Till, call: Call) -> Json:
    filters = [*_equal(call, "payment_intent"), *_equal(call, "charge")]
    return _page(till, call, "refund", "/v1/refunds", filters)


def _list_disputes(till: Till, call: Call) -> Json:
    filters = [*_equal(call, "payment_intent"), *_equal(call, "charge")]
    return _page(till, call, "dispute", "/v1/disputes", filters)


def _list_balance_transactions(till: Till, call: Call) -> Json:
    for name in call.params:
        if name not in _IMITATED_OF_TRANSACTIONS:
            raise Refused(f"The local stand-in does not imitate {name}.", param=name, saved=False)
    filters = [*_equal(call, "currency"), *_equal(call, "source"), *_equal(call, "type")]
    return _page(till, call, "balance_transaction", "/v1/balance_transactions", filters)


def _list_line_items(till: Till, call: Call) -> Json:
    """Give all of them: a session has at most 100, and this list has no pages."""
    for name in call.params:
        if name not in ("expand", "limit"):
            raise Refused(f"The local stand-in does not imitate {name}.", param=name, saved=False)
    return _line_items(till.get("checkout.session", call.object_id, param="session"))


def _list_events(till: Till, call: Call) -> Json:
    filters = _equal(call, "type")
    if "types" in call.params:
        listed = ",".join(call.params["types"])
        filters.append(("instr(',' || ? || ',', ',' || json_extract(body, '$.type') || ',')", listed))
    if "delivery_success" in call.params:
        undelivered = "SELECT event_id FROM delivery WHERE state <> 'delivered'"
        filters.append((f"(id IN ({undelivered})) <> ?", call.params["delivery_success"]))
    page = _page(till, call, "event", "/v1/events", filters)
    page["data"] = [_with_deliveries(till, event) for event in page["data"]]
    return page


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/checkout/sessions",
        params=sdk_checkout.SessionCreateParams,
        work=_create_session,
    ),
    Endpoint(
        method="GET",
        path="/v1/checkout/sessions",
        params=sdk_checkout.SessionListParams,
        work=_list_sessions,
    ),
    Endpoint(
        method="GET",
        path="/v1/checkout/sessions/{id}",
        params=sdk_checkout.SessionRetrieveParams,
        work=_retrieve("checkout.session"),
    ),
    Endpoint(
        method="POST",
        path="/v1/checkout/sessions/{id}/expire",
        params=sdk_checkout.SessionExpireParams,
        work=_expire_session,
    ),
    Endpoint(
        method="GET",
        path="/v1/checkout/sessions/{id}/line_items",
        params=sdk_checkout.SessionListLineItemsParams,
        work=_list_line_items,
    ),
    Endpoint(
        method="GET",
        path="/v1/payment_intents/{id}",
        params=sdk.PaymentIntentRetrieveParams,
        work=_retrieve("payment_intent"),
    ),
    Endpoint(
        method="GET",
        path="/v1/charges/{id}",
        params=sdk.ChargeRetrieveParams,
        work=_retrieve("charge"),
    ),
    Endpoint(method="POST", path="/v1/refunds", params=sdk.RefundCreateParams, work=_create_refund),
    Endpoint(method="GET", path="/v1/refunds", params=sdk.RefundListParams, work=_list_refunds),
    Endpoint(
        method="GET",
        path="/v1/refunds/{id}",
        params=sdk.RefundRetrieveParams,
        work=_retrieve("refund"),
    ),
    Endpoint(
        method="POST",
        path="/v1/refunds/{id}/cancel",
        params=sdk.RefundCancelParams,
        work=_cancel_refund,
    ),
    Endpoint(method="GET", path="/v1/disputes", params=sdk.DisputeListParams, work=_list_disputes),
    Endpoint(
        method="GET",
        path="/v1/disputes/{id}",
        params=sdk.DisputeRetrieveParams,
        work=_retrieve("dispute"),
    ),
    Endpoint(
        method="POST",
        path="/v1/disputes/{id}/close",
        params=sdk.DisputeCloseParams,
        work=_accept_dispute,
    ),
    Endpoint(
        method="GET",
        path="/v1/balance_transactions",
        params=sdk.BalanceTransactionListParams,
        work=_list_balance_transactions,
    ),
    Endpoint(
        method="GET",
        path="/v1/balance_transactions/{id}",
        params=sdk.BalanceTransactionRetrieveParams,
        work=_retrieve("balance_transaction"),
    ),
    Endpoint(method="GET", path="/v1/events", params=sdk.EventListParams, work=_list_events),
    Endpoint(
        method="GET",
        path="/v1/events/{id}",
        params=sdk.EventRetrieveParams,
        work=_retrieve_event,
    ),
)


_COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_MAX_PAGE = 100
_IMITATED_OF_TRANSACTIONS = frozenset(
    {"created", "currency", "ending_before", "expand", "limit", "source", "starting_after", "type"}
)


def _equal(call: Call, name: str) -> list[tuple[str, Any]]:
    if name not in call.params:
        return []
    return [(f"json_extract(body, '$.{name}') = ?", call.params[name])]


def _created(call: Call) -> list[tuple[str, Any]]:
    created = call.params.get("created", {})
    if isinstance(created, int):
        created = {"gte": created, "lte": created}
    return [(f"json_extract(body, '$.created') {_COMPARISONS[name]} ?", at) for name, at in created.items()]


def _page(till: Till, call: Call, kind: str, url: str, filters: list[tuple[str, Any]]) -> Json:
    """Give one page of a list, newest first (docs.stripe.com/api/pagination)."""
    limit = call.params.get("limit", 10)
    if not 1 <= limit <= _MAX_PAGE:
        raise invalid(f"Limit must be between 1 and {_MAX_PAGE}", "limit")
    backwards = "ending_before" in call.params
    where = [*filters, *_created(call), *_cursor(till, call, kind)]
    found = till.books.page(kind, where, limit=limit + 1, newest_first=not backwards)
    rows = found[:limit]
    return {
        "object": "list",
        "data": rows[::-1] if backwards else rows,
        "has_more": len(found) > limit,
        "url": url,
    }


def _cursor(till: Till, call: Call, kind: str) -> list[tuple[str, Any]]:
    for name, comparison in (("starting_after", "<"), ("ending_before", ">")):
        if name in call.params:
            sequence = till.books.sequence_of(call.params[name])
            if sequence is None:
                raise no_such(kind, call.params[name], param=name)
            return [(f"sequence {comparison} ?", sequence)]
    return []


def _with_deliveries(till: Till, event: Json) -> Json:
    return event | {"pending_webhooks": till.books.undelivered(event["id"])}


_EXPANDABLE = {
    "balance_transaction": "balance_transaction",
    "charge": "charge",
    "failure_balance_transaction": "balance_transaction",
    "latest_charge": "charge",
    "payment_intent": "payment_intent",
}


def _expanded(till: Till, stored: Json, paths: list[str]) -> Json:
    """Put whole objects in place of the ids that `expand` names (docs.stripe.com/api/expanding)."""
    if stored["object"] == "list":
        inner = [path.removeprefix("data.") for path in paths]
        return stored | {"data": [_expanded(till, row, inner) for row in stored["data"]]}
    result = shown(stored)
    for path in paths:
        name, _, rest = path.partition(".")
        if name == "line_items" and "_line_items" in stored:
            result[name] = _line_items(stored)
        elif name not in _EXPANDABLE or name not in stored:
            raise Refused(f"This property cannot be expanded ({path}).", param="expand")
        elif stored[name] is not None:
            whole = till.get(_EXPANDABLE[name], stored[name])
            result[name] = _expanded(till, whole, [rest] if rest else [])
    return result


def _line_items(session: Json) -> Json:
    return {
        "object": "list",
        "data": [shown(item) for item in session["_line_items"]],
        "has_more": False,
        "url": f"/v1/checkout/sessions/{session['id']}/line_items",
    }
