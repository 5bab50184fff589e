"""The acts of people and banks that reach no API: disputes, refunds by hand, an account without money.

The endpoints are under `/_sandbox` and need no key; their events have no request.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from sandbox.stripe import balance, disputes, refunds
from sandbox.stripe.books import Json
from sandbox.stripe.refused import Refused
from sandbox.stripe.till import NOBODY, Till, shown
from sandbox.stripe.timers import run_due

_Body = TypeVar("_Body")


class _Dispute(msgspec.Struct, forbid_unknown_fields=True):
    amount_minor: int | None = None
    reason: str = "fraudulent"
    inquiry: bool = False


class _Decision(msgspec.Struct, forbid_unknown_fields=True):
    outcome: disputes.Outcome


class _Refund(msgspec.Struct, forbid_unknown_fields=True):
    amount_minor: int | None = None


class _Failure(msgspec.Struct, forbid_unknown_fields=True):
    reason: str = "expired_or_canceled_card"


class _Balance(msgspec.Struct, forbid_unknown_fields=True):
    available_minor: int | None
    when_short: balance.Shortage = "refuse"


class _Nothing(msgspec.Struct, forbid_unknown_fields=True):
    pass


def add_routes(app: web.Application, till: Till) -> None:
    """Add the endpoints; each takes JSON, or nothing where every field has a default.

    `POST /_sandbox/payment_intents/{id}/dispute`: `{"amount_minor", "reason", "inquiry"}`.
    `POST /_sandbox/disputes/{id}/close`: `{"outcome": "won" | "lost"}`; an inquiry can only be won.
    `POST /_sandbox/disputes/{id}/escalate`: an inquiry becomes a dispute.
    `POST /_sandbox/payment_intents/{id}/refund`: `{"amount_minor"}`, a refund without metadata.
    `POST /_sandbox/refunds/{id}/fail`: `{"reason"}`; `.../cancel`: a pending one.
    `POST /_sandbox/balance`: `{"available_minor": n | null, "when_short": "refuse" | "pend"}`.
    """

    def add(path: str, body_type: type[_Body], work: Callable[[Till, str, _Body], Json]) -> None:
        app.router.add_post(path, _handler(till, body_type, work))

    add("/_sandbox/payment_intents/{id}/dispute", _Dispute, _dispute)
    add("/_sandbox/payment_intents/{id}/refund", _Refund, _refund)
    add("/_sandbox/disputes/{id}/close", _Decision, lambda t, i, body: disputes.close_dispute(t, i, body.outcome))
    add("/_sandbox/disputes/{id}/escalate", _Nothing, lambda t, i, _: disputes.escalate_inquiry(t, i))
    add("/_sandbox/refunds/{id}/fail", _Failure, lambda t, i, body: refunds.fail_refund(t, i, body.reason))
    add("/_sandbox/refunds/{id}/cancel", _Nothing, lambda t, i, _: refunds.cancel_refund(t, i))
    add("/_sandbox/balance", _Balance, _set_balance)


def _handler(
    till: Till, body_type: type[_Body], work: Callable[[Till, str, _Body], Json]
) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.Response:
        try:
            body = msgspec.json.decode(await request.read() or b"{}", type=body_type)
            run_due(till)
            with till.books.transaction():
                answer = work(till, request.match_info.get("id", ""), body)
        except msgspec.MsgspecError as error:
            return web.json_response({"error": {"message": str(error)}}, status=400)
        except Refused as refused:
            return web.json_response(refused.body(), status=refused.status)
        return web.json_response(shown(answer))

    return handle


def _dispute(till: Till, payment_id: str, body: _Dispute) -> Json:
    return disputes.open_dispute(till, payment_id, body.amount_minor, body.reason, inquiry=body.inquiry)


def _refund(till: Till, payment_id: str, body: _Refund) -> Json:
    params: Json = {"payment_intent": payment_id, "reason": "requested_by_customer"}
    if body.amount_minor is not None:
        params["amount"] = body.amount_minor
    refund = refunds.create_refund(till, params, NOBODY)
    disputes.close_inquiries_of_refunded(till, payment_id, NOBODY)
    return refund


def _set_balance(till: Till, _: str, body: _Balance) -> Json:
    balance.set_available(till, body.available_minor, body.when_short)
    refunds.settle_short_refunds(till)
    return {"available_minor": balance.available_minor(till), "when_short": body.when_short}
