"""The endpoints that only the stand-in has, under `/_sandbox`: pay by script, books, faults, clock."""

from collections import Counter
from typing import Final

import msgspec
from aiohttp import web

from sandbox.stripe import checkout
from sandbox.stripe.books import Json
from sandbox.stripe.cards import card_of
from sandbox.stripe.refused import Refused
from sandbox.stripe.till import Till, shown
from sandbox.stripe.timers import run_due


def add_routes(app: web.Application, till: Till) -> None:
    """Add the stand-in's own endpoints, which need no key."""
    control = _Control(till)
    app.router.add_post("/_sandbox/sessions/{id}/pay", control.pay)
    app.router.add_get("/_sandbox/ledger", control.books)
    app.router.add_get("/_sandbox/deliveries", control.deliveries)
    app.router.add_get("/_sandbox/faults", control.list_faults)
    app.router.add_post("/_sandbox/faults", control.add_faults)
    app.router.add_delete("/_sandbox/faults", control.clear_faults)
    app.router.add_get("/_sandbox/clock", control.time)
    app.router.add_post("/_sandbox/clock", control.advance_clock)
    app.router.add_get("/_sandbox/health", control.health)


def attempt(till: Till, session_id: str, number: str, late_seconds: float | None = None) -> Json:
    """Pay a session as its guest does, by the number of a test card; gives the session.

    Raises Refused: 402 for a card that is declined or unknown, 400 for a session that is not
    open, 404 for none. A decline is on record by then; an unknown number leaves no trace, as
    Stripe's page refuses it before anything is tried.
    """
    run_due(till)
    card = card_of(number)
    if card is None:
        raise Refused(
            "Your card number is invalid. Only the test cards are taken here.",
            status=402,
            kind="card_error",
            code="incorrect_number",
            param="card",
        )
    with till.books.transaction():
        session = checkout.pay(till, session_id, card, late_seconds)
    refused = checkout.declined(till, session)
    if refused is not None:
        raise refused
    return session


_TOTALS: Final = ("captured_minor", "refunded_minor", "disputed_minor", "lost_minor")


class _Payment(msgspec.Struct, forbid_unknown_fields=True):
    card: str = "4242424242424242"
    late_seconds: float | None = None


class _Leap(msgspec.Struct, forbid_unknown_fields=True):
    advance_seconds: float


class _Control:
    def __init__(self, till: Till) -> None:
        self._till = till

    async def pay(self, request: web.Request) -> web.Response:
        """Pay a session: `{"card": "4242424242424242"}`; answers with the session."""
        try:
            body = msgspec.json.decode(await request.read() or b"{}", type=_Payment)
            session = attempt(self._till, request.match_info["id"], body.card, body.late_seconds)
        except msgspec.MsgspecError as error:
            return _bad_request(error)
        except Refused as refused:
            return web.json_response(refused.body(), status=refused.status)
        return web.json_response(shown(session))

    async def books(self, _: web.Request) -> web.Response:
        """Count the money: for each payment intent with its refunds and disputes, and by currency."""
        run_due(self._till)
        balances = self._till.books.balances()
        totals: dict[str, Counter[str]] = {name: Counter() for name in _TOTALS}
        for balance in balances:
            for name, total in totals.items():
                total[balance["currency"]] += balance[name]
            balance["refund_objects"] = self._refunds_of(balance["payment_intent"])
            balance["dispute_objects"] = self._disputes_of(balance["payment_intent"])
        return web.json_response({name: dict(total) for name, total in totals.items()} | {"payment_intents": balances})

    def _refunds_of(self, payment_id: str) -> list[Json]:
        return [
            {
                "id": refund["id"],
                "amount_minor": refund["amount"],
                "status": refund["status"],
                "has_metadata": bool(refund["metadata"]),
                "created": refund["created"],
            }
            for refund in self._till.books.of_payment("refund", payment_id)
        ]

    def _disputes_of(self, payment_id: str) -> list[Json]:
        return [
            {
                "id": dispute["id"],
                "amount_minor": dispute["amount"],
                "status": dispute["status"],
                "reason": dispute["reason"],
                "created": dispute["created"],
            }
            for dispute in self._till.books.of_payment("dispute", payment_id)
        ]

    async def deliveries(self, _: web.Request) -> web.Response:
        """List every webhook delivery with its state and attempts."""
        return web.json_response(self._till.books.deliveries())

    async def list_faults(self, _: web.Request) -> web.Response:
        """List the faults still to strike."""
        return web.json_response(self._till.faults.as_json())

    async def add_faults(self, request: web.Request) -> web.Response:
        """Add a rule or a list of rules to the fault plan; answers with the whole plan."""
        try:
            self._till.faults.add(await request.read())
        except msgspec.MsgspecError as error:
            return _bad_request(error)
        return web.json_response(self._till.faults.as_json(), status=201)

    async def clear_faults(self, _: web.Request) -> web.Response:
        """Forget all faults, and let go the webhooks that wait for a later one."""
        self._till.faults.clear()
        with self._till.books.transaction():
            self._till.books.release_held(0.0)
        return web.Response(status=204)

    async def time(self, _: web.Request) -> web.Response:
        """Answer with the time of the stand-in's clock."""
        return web.json_response({"now": self._till.clock.now()})

    async def advance_clock(self, request: web.Request) -> web.Response:
        """Let time pass at once: `{"advance_seconds": 1800}`."""
        try:
            leap = msgspec.json.decode(await request.read(), type=_Leap)
            self._till.clock.advance(leap.advance_seconds)
        except ValueError as error:
            return _bad_request(error)
        run_due(self._till)
        return web.json_response({"now": self._till.clock.now()})

    async def health(self, _: web.Request) -> web.Response:
        """Answer that the stand-in serves."""
        return web.json_response({"status": "ok"})


def _bad_request(error: Exception) -> web.Response:
    return web.json_response({"error": {"message": str(error)}}, status=400)
