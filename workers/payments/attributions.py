"""Finds the booking of an object of Stripe's; several systems can share one Stripe account.

An object is ours if its mark was made by this installation, or if a row of ours has its id, with any mark: 0.1.0
left no marks, and the key of the mark or the installation's id can have changed since. Refunds made by hand and
disputes carry nothing of ours; they belong to the booking of their payment.
"""

from typing import Final

from psycopg import AsyncConnection

from storage.payment_statements import PaymentStatements
from storage.payments import BookingOfPayment
from workers.stripe.marks import Marks
from workers.stripe.objects import Attribution, BookingRef, Dispute, PaymentIntent, Refund, Session, StripeObject

#: The name of each kind of object in metrics and logs.
KINDS: Final[dict[type[StripeObject], str]] = {
    Session: "session",
    PaymentIntent: "payment",
    Refund: "refund",
    Dispute: "dispute",
}


class Attributions:
    """Finds the bookings of objects in the transaction of a batch."""

    def __init__(self, mark_key: str, statements: PaymentStatements) -> None:
        self._mark_key = mark_key
        self._statements = statements
        self._marks: Marks | None = None

    async def marks(self, connection: AsyncConnection) -> Marks:
        """Return the marks of this installation, whose id is read once."""
        if self._marks is None:
            self._marks = Marks(self._mark_key, await self._statements.installation_id(connection))
        return self._marks

    async def attribution_of(self, connection: AsyncConnection, about: StripeObject) -> Attribution | None:
        """Return the booking of an object; None for an object that is not ours."""
        match about:
            case Refund():
                return await self._of_refund(connection, about)
            case Dispute():
                return _attribution(await self._statements.booking_of_payment(connection, about.payment_intent))
            case _ if about.has_our_mark(await self.marks(connection)):
                ref = about.claimed_ref()
                return None if ref is None else Attribution(ref)
            case Session():
                return await self._by_row(
                    connection, about, await self._statements.booking_of_session(connection, about.id)
                )
            case PaymentIntent():
                return await self._by_row(
                    connection, about, await self._statements.booking_of_payment(connection, about.id)
                )
            case _:
                return None

    async def _of_refund(self, connection: AsyncConnection, refund: Refund) -> Attribution | None:
        marks = await self.marks(connection)
        claimed = refund.claimed_ref()
        if claimed is not None and refund.has_our_mark(marks):
            return Attribution(claimed)
        found = await self._statements.booking_of_payment(connection, refund.payment_intent)
        if found is None:
            return None
        ref = BookingRef(*found)
        known = await self._statements.is_by_hand(connection, refund.id)
        by_hand = not refund.is_made_by_us(ref, marks) if known is None else known
        if not by_hand:
            return Attribution(ref)
        return Attribution(
            ref, by_hand=True, cancel_if_full=await self._statements.cancels_if_full(connection, ref.room_id)
        )

    async def _by_row(
        self, connection: AsyncConnection, about: StripeObject, found: BookingOfPayment | None
    ) -> Attribution | None:
        """Return the booking whose row has the object's id, or whose call has the object's mark.

        The row of a session that is open does not know its payment yet.
        """
        claimed = about.claimed_ref()
        if found is None and claimed is not None:
            found = await self._statements.booking_of_attempt(
                connection, claimed.booking_id, claimed.attempt, about.mark
            )
        return _attribution(found)


def _attribution(found: BookingOfPayment | None) -> Attribution | None:
    return None if found is None else Attribution(BookingRef(*found))
