"""Stripe's books in memory: sessions, payments and refunds, with the answer to each idempotency key, and webhooks.

A call's effect is whole and takes no time here; `stripe_client` lets it fail, or come late. The books report what
changes by `emit`, and the world brings it to the topic of webhooks: late, twice, in another order.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

import stripe

from workers.stripe.settings import STRIPE_VERSION

_KEY_HOURS: Final = timedelta(hours=24)
_MIN_TIME_TO_PAY: Final = timedelta(minutes=30)
#: The share of calls that Stripe refuses, and of refunds that take time or fail.
_SESSION_REFUSED: Final = 0.01
_NO_BALANCE: Final = 0.02
_PENDS, _FAILS = 0.15, 0.05
_MAX_REFUND_SECONDS: Final = 2 * 3_600.0

Emit = Callable[[bytes, str, str, str | None], None]
"""Reports an event: its body, its id, the id of its object, and the room in the object's metadata."""


@dataclass(kw_only=True)
class Session:
    """A Checkout Session, with the payment that it takes; the amount is in Stripe's unit."""

    id: str
    key: str
    params: Mapping[str, Any]
    created: datetime
    expires_at: datetime
    payment_intent: str
    amount: int
    currency: str
    status: str = "open"
    ended_at: datetime | None = None

    def body(self) -> dict[str, Any]:
        """Return the session as Stripe shows it."""
        is_paid = self.status == "complete"
        return {
            "id": self.id,
            "livemode": False,
            "metadata": self.params["metadata"],
            "status": self.status,
            "payment_status": "paid" if is_paid else "unpaid",
            "amount_total": self.amount,
            "currency": self.currency,
            "client_reference_id": self.params["client_reference_id"],
            "payment_intent": self.payment_intent if is_paid else None,
            "url": f"https://checkout.stripe.com/c/pay/{self.id}" if self.status == "open" else None,
        }


@dataclass(kw_only=True)
class Refund:
    """A refund of a payment."""

    id: str
    payment_intent: str
    amount: int
    currency: str
    metadata: Mapping[str, str]
    status: str
    failure_reason: str | None = None

    def body(self) -> dict[str, Any]:
        """Return the refund as Stripe shows it."""
        return dict(vars(self))


@dataclass(kw_only=True)
class Dispute:
    """A dispute of a payment, which takes all of it."""

    id: str
    payment_intent: str
    amount: int
    currency: str
    status: str = "needs_response"

    def body(self) -> dict[str, Any]:
        """Return the dispute as Stripe shows it."""
        taken = [{"amount": -self.amount}]
        returned = [{"amount": self.amount}] if self.status == "won" else []
        return {**vars(self), "reason": "fraudulent", "balance_transactions": [*taken, *returned]}


@dataclass(kw_only=True)
class Payment:
    """Money that a guest paid through a session, and its refunds, the oldest first."""

    session: Session
    amount: int
    refunds: list[Refund] = field(default_factory=list)
    dispute: Dispute | None = None

    def left(self) -> int:
        """Return what may still be sent back: no part of what a dispute holds or took."""
        sent = sum(refund.amount for refund in self.refunds if refund.status != "failed")
        return 0 if self.dispute is not None and self.dispute.status != "won" else self.amount - sent


class Answer:
    """An answer of Stripe's library."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body

    def to_dict(self, *, for_json: bool) -> dict[str, Any]:
        """Return the answer's fields."""
        assert for_json
        return dict(self._body)


@dataclass(frozen=True)
class Failure:
    """A refusal, or an answer with status 500; `error` makes the library's error for it."""

    error: Callable[[], stripe.StripeError]


Outcome = Answer | Failure


class Books:
    """All that Stripe knows. `chance` returns a source of chance for a call or an object; `later` waits."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        chance: Callable[[str], Random],
        later: Callable[[float, Callable[[], object]], None],
        emit: Emit,
    ) -> None:
        self._now = now
        self._chance = chance
        self._later = later
        self._emit = emit
        self._answers: dict[str, tuple[datetime, Mapping[str, Any], Outcome]] = {}
        self._events = 0
        self.sessions: dict[str, Session] = {}
        self.payments: dict[str, Payment] = {}
        #: Called with each new session: its guest may come.
        self.opened: list[Callable[[Session], None]] = []
        #: Stripe refuses nothing, and lets no refund fail, any more.
        self.is_kind = False

    # Calls.

    def create(self, params: Mapping[str, Any], key: str) -> Outcome:
        """Open a session, or make a refund, under an idempotency key: the same key has the same answer for a day."""
        found = self._answers.get(key)
        if found is not None and self._now() - found[0] < _KEY_HOURS:
            if found[1] != params:
                return Failure(lambda: stripe.IdempotencyError("other parameters than those of the first request"))
            return found[2]
        if "payment_intent" in params:
            outcome = self._refund(params, key)
        elif (problem := self._invalid(params)) is not None:
            return problem  # Stripe saves no answer to a call that it did not begin to carry out.
        else:
            outcome = self._open(params, key)
        self._answers[key] = (self._now(), params, outcome)
        return outcome

    def fail(self, params: Mapping[str, Any], key: str, *, is_done: bool) -> Outcome:
        """Answer with status 500, and save that answer; `is_done`: after the call was carried out."""
        if key in self._answers:
            return self.create(params, key)
        if is_done:
            self.create(params, key)
        failure = Failure(lambda: stripe.APIError("something went wrong (simulated)", http_status=500))
        self._answers[key] = (self._now(), params, failure)
        return failure

    def expire(self, session_id: str) -> Outcome:
        """Expire a session."""
        session = self.sessions[session_id]
        if session.status != "open":
            return _invalid("only open sessions can be expired", "session")
        self._end(session, "expired")
        return Answer(session.body())

    def retrieve(self, session_id: str) -> Outcome:
        """Return a session as it is now."""
        return Answer(self.sessions[session_id].body())

    def sessions_since(self, time: int) -> list[Answer]:
        """Return the sessions since a time (seconds since 1970), the newest first."""
        found = []
        for session in reversed(self.sessions.values()):
            if session.created.timestamp() < time:
                break
            found.append(Answer(session.body()))
        return found

    def refunds_of(self, payment_intent: str) -> list[Answer] | Failure:
        """Return the refunds of a payment, the newest first."""
        if payment_intent not in self.payments:
            return _invalid("no such payment", "payment_intent", "resource_missing")
        return [Answer(refund.body()) for refund in reversed(self.payments[payment_intent].refunds)]

    def _invalid(self, params: Mapping[str, Any]) -> Failure | None:
        expires_at = datetime.fromtimestamp(params["expires_at"], self._now().tzinfo)
        if expires_at < self._now() + _MIN_TIME_TO_PAY:
            return _invalid("expires_at is too near", "expires_at")
        return None

    def _open(self, params: Mapping[str, Any], key: str) -> Outcome:
        if self._chance(f"open {key}").random() < _SESSION_REFUSED and not self.is_kind:
            return _invalid("the account cannot take this payment (simulated)", "line_items")
        number = len(self.sessions) + 1
        items = params["line_items"]
        session = Session(
            id=f"cs_{number}",
            key=key,
            params=params,
            created=self._now(),
            expires_at=datetime.fromtimestamp(params["expires_at"], self._now().tzinfo),
            payment_intent=f"pi_{number}",
            amount=sum(item["quantity"] * item["price_data"]["unit_amount"] for item in items),
            currency=items[0]["price_data"]["currency"],
        )
        self.sessions[session.id] = session
        self._later((session.expires_at - self._now()).total_seconds(), lambda: self._expire_unpaid(session))
        for note in self.opened:
            note(session)
        return Answer(session.body())

    def _expire_unpaid(self, session: Session) -> None:
        if session.status == "open":
            self._end(session, "expired")

    def _refund(self, params: Mapping[str, Any], key: str) -> Outcome:
        payment = self.payments.get(params["payment_intent"])
        if payment is None:
            return _invalid("no such payment", "payment_intent", "resource_missing")
        own = self._chance(f"refund {key}")
        if own.random() < _NO_BALANCE and not self.is_kind:
            return _invalid("the account has too little money (simulated)", "amount", "balance_insufficient")
        if payment.dispute is not None and payment.dispute.status != "won":
            return _invalid("the payment is disputed", "payment_intent", "charge_disputed")
        if not 0 < params["amount"] <= payment.left():
            return _invalid("more than is left of the payment", "amount", "charge_already_refunded")
        refund = self._add_refund(payment, params["amount"], params["metadata"], own)
        return Answer(refund.body())

    def _add_refund(self, payment: Payment, amount: int, metadata: Mapping[str, str], own: Random) -> Refund:
        refund = Refund(
            id=f"re_{payment.session.payment_intent}_{len(payment.refunds) + 1}",
            payment_intent=payment.session.payment_intent,
            amount=amount,
            currency=payment.session.currency,
            metadata=metadata,
            status="pending" if own.random() < _PENDS else "succeeded",
        )
        payment.refunds.append(refund)
        self._report("refund.created", refund.body())
        self._later(own.random() * _MAX_REFUND_SECONDS, lambda: self._end_refund(refund, fails=own.random() < _FAILS))
        return refund

    def _end_refund(self, refund: Refund, *, fails: bool) -> None:
        """Let a refund succeed, or fail, also one that had succeeded before."""
        if fails and not self.is_kind:
            refund.status, refund.failure_reason = "failed", "lost_or_stolen_card"
            self._report("refund.failed", refund.body())
        elif refund.status == "pending":
            refund.status = "succeeded"
            self._report("refund.updated", refund.body())

    # Guests.

    def pay(self, session: Session) -> None:
        """Take a guest's money, if the session can still be paid."""
        if session.status == "open":
            self.payments[session.payment_intent] = Payment(session=session, amount=session.amount)
            self._end(session, "complete")

    def decline(self, session: Session) -> None:
        """Refuse a guest's card."""
        if session.status == "open":
            about = {
                "id": session.payment_intent,
                "livemode": False,
                "metadata": session.params["payment_intent_data"]["metadata"],
                "last_payment_error": {"code": "card_declined", "decline_code": "do_not_honor"},
            }
            self._report("payment_intent.payment_failed", about)

    # People at Stripe and at banks.

    def refund_by_hand(self, payment: Payment, share: float, own: Random) -> None:
        """Refund a part of a payment that is left, or all of it, as a person does in Stripe's dashboard."""
        if (amount := int(payment.left() * share)) > 0:
            self._add_refund(payment, amount, {}, own)

    def open_dispute(self, payment: Payment) -> None:
        """Let the cardholder's bank take the payment back, as long as nothing was refunded."""
        if payment.dispute is None and payment.left() == payment.amount:
            intent = payment.session.payment_intent
            payment.dispute = Dispute(
                id=f"dp_{intent}", payment_intent=intent, amount=payment.amount, currency=payment.session.currency
            )
            self._report("charge.dispute.created", payment.dispute.body())

    def decide_dispute(self, payment: Payment, status: str) -> None:
        """Let a dispute be `won`, which returns the money, or `lost`."""
        if payment.dispute is not None:
            payment.dispute.status = status
            self._report("charge.dispute.closed", payment.dispute.body())

    def report_of_another(self, session: Session) -> None:
        """Report a session of another system that names the booking of one of ours; its mark is not ours."""
        metadata = {**session.params["metadata"], "mark": "0" * 32}
        about = {**session.body(), "id": f"cs_of_another_{self._events}", "metadata": metadata}
        paid = {"status": "complete", "payment_status": "paid", "payment_intent": f"pi_of_another_{self._events}"}
        self._report("checkout.session.completed", about | paid)

    # Reports.

    def _end(self, session: Session, status: str) -> None:
        session.status, session.ended_at = status, self._now()
        self._report(f"checkout.session.{'completed' if status == 'complete' else 'expired'}", session.body())

    def _report(self, kind: str, about: Mapping[str, Any]) -> None:
        self._events += 1
        id = f"evt_{self._events}"
        event = {
            "id": id,
            "type": kind,
            "livemode": False,
            "api_version": STRIPE_VERSION,
            "data": {"object": about},
        }
        self._emit(json.dumps(event).encode(), id, about["id"], about.get("metadata", {}).get("room_id"))


def _invalid(message: str, param: str, code: str | None = None) -> Failure:
    return Failure(
        lambda: stripe.InvalidRequestError(message, param, code=code, http_status=400)  # type: ignore[no-untyped-call]
    )
