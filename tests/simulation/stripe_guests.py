"""Stripe as the world has it: its books, the guests in front of its page, and the way of its webhooks to the topic."""

from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tests.simulation.payment_statements import SESSIONS
from tests.simulation.plan import Kind
from tests.simulation.stripe_books import Books, Session
from topics.catalogue import STRIPE_WEBHOOKS
from topics.envelope import Outgoing
from topics.webhooks import webhook_record

if TYPE_CHECKING:
    from tests.simulation.world import World

_LOOK_SECONDS: Final = 30.0
_MAX_LATE_SECONDS: Final = 1_200.0
_MAX_WEBHOOK_SECONDS: Final = 300.0
_OTHERS_SECONDS: Final = 7_200.0
#: The shares of payments that are refunded by hand, and that are disputed, each within so long.
_BY_HAND, _DISPUTED = 0.05, 0.03
_MAX_RECONSIDER_SECONDS: Final = 20 * 3_600.0
_MAX_DISPUTE_SECONDS: Final = 2 * 3_600.0
_TWICE, _MAX_TWICE_SECONDS = 0.1, 3_600.0


class Stripe:
    """Stripe, and the guests who pay there."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._topic = world.kafka.topic(STRIPE_WEBHOOKS)
        self.books = Books(now=world.now, chance=world.plan.chance, later=world.later, emit=self._emit)
        self.books.opened.append(lambda session: world.spawn(self._visit(session)))

    async def _visit(self, session: Session) -> None:
        """Pay, or not, as soon as our row shows the page."""
        world = self._world
        # One source for each session: another visitor's payment does not change what happens here.
        own = world.plan.chance(f"guest {session.key}")
        await world.sleep(own.random() * 5.0)
        while not self._is_shown(session):
            if session.status != "open":
                return
            await world.sleep(_LOOK_SECONDS)
        what = own.random()
        await world.sleep(own.expovariate(1 / 240))
        if what < 0.1:
            return
        if what < 0.2:
            self.books.decline(session)
            await world.sleep(own.random() * 300)
        if what < 0.3:
            await world.sleep(own.random() * _MAX_LATE_SECONDS)
        if what > 0.96:
            self.books.expire(session.id)  # Somebody does so at Stripe, by hand.
        else:
            self.books.pay(session)
            await self._reconsider(session, own)

    async def _reconsider(self, session: Session, own: Random) -> None:
        """Let a person refund a payment by hand, or the cardholder dispute it, now and then."""
        payment, what = self.books.payments.get(session.payment_intent), own.random()
        if payment is None or what >= _BY_HAND + _DISPUTED:
            return
        is_soon = own.random() < 0.6
        await self._world.sleep(own.random() * (10.0 if is_soon else _MAX_RECONSIDER_SECONDS))
        if what < _BY_HAND:
            self.books.refund_by_hand(payment, own.choice((1.0, 1.0, 0.3)), own)
        else:
            self.books.open_dispute(payment)
            await self._world.sleep(own.random() * _MAX_DISPUTE_SECONDS)
            self.books.decide_dispute(payment, own.choice(("won", "lost")))

    async def share_account(self, hours: float) -> None:
        """Let another system with the same account report sessions, which may name a booking of ours."""
        own = self._world.plan.chance("another system")
        end = self._world.time() + hours * 3_600
        while self._world.time() < end:
            await self._world.sleep(own.expovariate(1 / _OTHERS_SECONDS))
            if self.books.sessions:
                self.books.report_of_another(own.choice(list(self.books.sessions.values())))

    def _is_shown(self, session: Session) -> bool:
        booking_id, attempt = UUID(session.params["client_reference_id"]), int(session.params["metadata"]["attempt"])
        row = (self._world.database.rows.get(SESSIONS, booking_id) or {}).get(attempt)
        return row is not None and row["session_id"] == session.id

    def _emit(self, body: bytes, event_id: str, object_id: str, room_id: str | None) -> None:
        """Let Stripe report something, sometimes late or twice, until it is stored."""
        chance = self._world.plan.chance(f"webhook {event_id}")
        record = webhook_record(self._topic, body, event_id=event_id, object_id=object_id, room_id=room_id)
        seconds = [chance.random() ** 4 * _MAX_WEBHOOK_SECONDS]
        if chance.random() < _TWICE:
            seconds.append(chance.random() * _MAX_TWICE_SECONDS)
        for each in seconds:
            self._world.spawn(self._deliver(record, each, chance.random()))

    async def _deliver(self, record: Outgoing, seconds: float, share: float) -> None:
        await self._world.sleep(seconds)
        while self._world.is_away(Kind.SEND):
            await self._world.sleep(1 + share * 4)
        self._world.log.append(record)

    def payments(self) -> Iterable[dict[str, Any]]:
        """Yield each payment: its booking, its amount, the refunds that succeeded, and what people took beside ours."""
        for intent, payment in self.books.payments.items():
            done = [each for each in payment.refunds if each.status == "succeeded"]
            is_lost = payment.dispute is not None and payment.dispute.status == "lost"
            yield {
                "id": intent,
                "booking_id": payment.session.params["client_reference_id"],
                "amount": payment.amount,
                "refunds": {each.id: each.amount for each in done},
                "by_hand": sum(each.amount for each in done if not each.metadata),
                "lost": payment.amount if is_lost else 0,
            }

    def sessions(self) -> Iterable[dict[str, Any]]:
        """Yield each session: its id, its booking and attempt, and the times at which it was opened and ended."""
        for session in self.books.sessions.values():
            yield {
                "id": session.id,
                "booking_id": session.params["client_reference_id"],
                "attempt": int(session.params["metadata"]["attempt"]),
                "opened": session.created,
                "ended": session.ended_at,
            }
