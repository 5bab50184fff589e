"""Stripe, and the guest in front of its page: a stand-in for it and for the role `payments`.

It follows the events: it opens a session for each payment that is asked for, takes the money of guests who pay, sends
back what is to go back, and reports all of it as commands, late, twice, in another order, until they are stored.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from topics.messages.commands import ClosePayment, ConfirmPayment, DeclinePayment, RecordRefund, RecordSession

if TYPE_CHECKING:
    from tests.simulation.world import World

_SESSION_SECONDS: Final = 5.0
_REFUND_SECONDS: Final = 600.0
_CLOSE_SECONDS: Final = 1_200.0


@dataclass
class Payment:
    """The money of one payment at Stripe, in minor units."""

    booking_id: UUID
    amount_minor: int
    refunded_minor: int = 0
    refunds: dict[str, int] = field(default_factory=dict)


class Bank:
    """Stripe's books, and its reports."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.payments: dict[str, Payment] = {}
        self._sessions: set[tuple[UUID, int]] = set()

    def read(self, kind: str, event: dict[str, Any]) -> None:
        """Take an event that was published for the first time."""
        if kind == "booking.payment_requested.v1":
            self._world.spawn(self._session(event))
        elif kind.startswith("booking.refund_requested."):
            self._world.spawn(self._refund(event))

    async def _session(self, event: dict[str, Any]) -> None:
        world = self._world
        booking_id, room_id, attempt = UUID(event["booking_id"]), event["room_id"], event["attempt"]
        if (booking_id, attempt) in self._sessions:
            return
        self._sessions.add((booking_id, attempt))
        # One source for each session: another visitor's payment does not change what happens here.
        own = world.plan.chance(f"session {booking_id} {attempt}")
        session = f"cs_{booking_id.hex}_{attempt}"
        await world.sleep(own.random() * _SESSION_SECONDS)
        world.report(RecordSession(room_id=room_id, booking_id=booking_id, attempt=attempt, session_id=session), own)
        what = own.random()
        await world.sleep(own.expovariate(1 / 240))
        if what < 0.1:
            return
        if what < 0.2:
            world.report(DeclinePayment(room_id=room_id, booking_id=booking_id, failure="card_declined"), own)
            await world.sleep(own.random() * 300)
        if what < 0.3:
            await world.sleep(own.random() * _CLOSE_SECONDS)
        if what > 0.93:
            world.report(ClosePayment(room_id=room_id, booking_id=booking_id, session_id=session), own)
            return
        self._pay(event, session, own)

    def _pay(self, event: dict[str, Any], session: str, own: Any) -> None:
        intent = f"pi_{session}"
        booking_id, amount = UUID(event["booking_id"]), event["amount_minor"]
        self.payments[intent] = Payment(booking_id, amount)
        paid = ConfirmPayment(
            room_id=event["room_id"],
            booking_id=booking_id,
            session_id=session,
            payment_intent=intent,
            amount_minor=amount,
            currency=event["currency"],
            attempt=event["attempt"],
        )
        self._world.report(paid, own)

    async def _refund(self, event: dict[str, Any]) -> None:
        intent = event["payment_intent"]
        own = self._world.plan.chance(f"refund {intent} {event['amount_minor']}")
        await self._world.sleep(own.random() * _REFUND_SECONDS)
        payment = self.payments[intent]
        target = event.get("total_minor") or event["amount_minor"]
        amount = target - payment.refunded_minor
        if amount <= 0:
            return
        refund_id = f"re_{intent}_{len(payment.refunds)}"
        payment.refunds[refund_id] = amount
        payment.refunded_minor += amount
        done = RecordRefund(
            room_id=event["room_id"],
            booking_id=payment.booking_id,
            payment_intent=intent,
            refund_id=refund_id,
            amount_minor=amount,
        )
        self._world.report(done, own)
