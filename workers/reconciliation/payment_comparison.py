"""Compares one payment by its events and at Stripe, with its refunds and disputes. Pure.

Each refund and each dispute must have its event and its row, and money that is due must be on its way. A sum counts as
wrong only by an amount that no other difference explains.
"""

from collections.abc import Iterator, Sequence

import msgspec

from topics.messages.commands import FailRefund, RecordDispute, RecordRefund
from workers.decisions.state import Dispute as KnownDispute
from workers.decisions.state import Payment, PaymentState, RefundMade
from workers.reconciliation.at_stripe import PaymentAtStripe
from workers.reconciliation.bookings import Booking, ObjectRow
from workers.reconciliation.differences import (
    ROW_IS_UPDATED,
    Difference,
    DisputeObjectCorrection,
    Kind,
    RefundCorrection,
    RefundObjectCorrection,
    RowCorrection,
    in_words,
)
from workers.reconciliation.stripe_client import Dispute, Refund
from workers.stripe.objects import command_id
from workers.stripe.states import dispute_transition


class PaymentComparison:
    """One payment that the room knows, by its events and at Stripe."""

    def __init__(self, booking: Booking, payment: Payment, stripe: PaymentAtStripe) -> None:
        self._booking = booking
        self._payment = payment
        self._stripe = stripe
        self._row = booking.refunds.get(payment.payment_intent)
        self._currency = payment.currency or booking.currency
        #: Refunds that payments is working on have their events and rows soon.
        self._is_due = self._row is not None and self._row.is_due
        self._is_older = any(not made.refund_id for made in payment.refunds)
        self._failed = [each for each in stripe.refunds if each.state == "failed" and self._is_failure_unknown(each)]
        self._unknown = list(self._unknown_refunds())
        self._disputes = [dispute for dispute in stripe.disputes if self._is_dispute_unknown(dispute)]
        self._after = self._payment_after()

    def differences(self) -> Iterator[Difference]:
        """Yield each difference; failures come first, since the refund that replaces one is recorded after it."""
        yield from map(self._failed_refund, self._failed)
        for refund in self._unknown:
            if self._by_hand(refund) or not self._is_due:
                yield self._unknown_refund(refund)
        yield from map(self._unknown_dispute, self._disputes)
        yield from self._stale_rows()
        yield from self._idle_refund()
        yield from self._wrong_sum()

    # The events that are missing.

    def _is_failure_unknown(self, refund: Refund) -> bool:
        """Return whether the failure of the refund has no event yet.

        Payments of 0.1.0 have the sum of their refunds without ids: if Stripe has carried out that sum, the refund that
        failed is not in it.
        """
        payment = self._payment
        if refund.id in payment.failed_refund_ids:
            return False
        is_counted = payment.refund(refund.id) is not None or payment.refunded_minor > self._stripe.succeeded_minor
        return is_counted or not self._is_older

    def _recorded_without_failed(self) -> list[RefundMade]:
        """Return the refunds of the events without those that failed at Stripe."""
        failed = {refund.id: refund.amount_minor for refund in self._failed}
        recorded = [made for made in self._payment.refunds if made.refund_id not in failed]
        unnamed = sum(amount for id, amount in failed.items() if self._payment.refund(id) is None)
        return [_reduced(made, unnamed) if not made.refund_id else made for made in recorded]

    def _unknown_refunds(self) -> Iterator[Refund]:
        """Yield the refunds that Stripe carried out and that have no event; those within a sum of 0.1.0 are known."""
        recorded = sum(made.amount_minor for made in self._recorded_without_failed())
        for refund in self._stripe.refunds:
            is_recorded = self._payment.refund(refund.id) is not None or refund.id in self._payment.failed_refund_ids
            if refund.state == "succeeded" and not is_recorded:
                if recorded + refund.amount_minor > self._payment.amount_minor:
                    continue
                recorded += refund.amount_minor
                yield refund

    def _is_dispute_unknown(self, dispute: Dispute) -> bool:
        known = self._payment.dispute(dispute.id)
        return known is None or (known.state == "open" and dispute.result is not None)

    def _payment_after(self) -> Payment:
        """Return the payment as its events will have it, once the missing ones are there."""
        payment, recorded = self._payment, self._recorded_without_failed()
        counted = payment.refunded_minor - sum(made.amount_minor for made in recorded)
        disputes = {each.dispute_id: each for each in payment.disputes}
        for each in self._disputes:
            disputes[each.id] = KnownDispute(each.id, each.amount_minor, each.state)
        recorded += [RefundMade(refund.id, refund.amount_minor, self._by_hand(refund)) for refund in self._unknown]
        after = msgspec.structs.replace(payment, refunds=tuple(recorded), disputes=tuple(disputes.values()))
        if payment.state is PaymentState.KEPT:
            # A refund by hand that failed is not due again: its money pays the booking.
            counted = sum(made.amount_minor for made in payment.refunds if self._has_failed_of_ours(made))
        due = payment.due_minor + counted - sum(refund.amount_minor for refund in self._unknown)
        kept = payment.closed_minor + payment.policy_minor
        return msgspec.structs.replace(after, due_minor=max(0, min(due, after.left_minor - kept)))

    def _has_failed_of_ours(self, made: RefundMade) -> bool:
        return not made.by_hand and any(refund.id == made.refund_id for refund in self._failed)

    def _by_hand(self, refund: Refund) -> bool:
        """Return whether a person made the refund at Stripe: neither its mark nor a row of ours is about it."""
        known = self._booking.refund_rows.get(refund.id)
        if known is not None:
            return known.by_hand
        return refund.by_hand and (self._row is None or self._row.refund_id != refund.id)

    def _failed_refund(self, refund: Refund) -> Difference:
        is_counted = self._payment.refund(refund.id) is not None
        events = "counts as carried out by its events" if is_counted else "has no event"
        command = FailRefund(
            room_id=self._booking.room_id,
            booking_id=self._booking.id,
            payment_intent=self._payment.payment_intent,
            refund_id=refund.id,
            amount_minor=refund.amount_minor,
            failure=refund.failure or refund.status,
            by_hand=self._by_hand(refund),
        )
        return Difference(
            booking_id=self._booking.id,
            kind=Kind.FAILED_REFUND,
            description=(f"{self._named(refund)}, failed at Stripe ({command.failure}), and {events}"),
            correction="the room gets the command FailRefund",
            commands=((command_id(refund.id, refund.state), command),),
            rows=(self._refund_object(refund),),
        )

    def _unknown_refund(self, refund: Refund) -> Difference:
        by_hand = self._by_hand(refund)
        command = RecordRefund(
            room_id=self._booking.room_id,
            booking_id=self._booking.id,
            payment_intent=self._payment.payment_intent,
            refund_id=refund.id,
            amount_minor=refund.amount_minor,
            by_hand=by_hand,
            cancel_if_full=by_hand and self._booking.cancels_if_full,
        )
        maker = "was made by hand at Stripe" if by_hand else "succeeded at Stripe"
        return Difference(
            booking_id=self._booking.id,
            kind=Kind.UNKNOWN_REFUND,
            description=(f"{self._named(refund)}, {maker}, and has no event"),
            correction="the room gets the command RecordRefund with this amount",
            commands=((command_id(refund.id, refund.state), command),),
            rows=(self._refund_object(refund),),
        )

    def _unknown_dispute(self, dispute: Dispute) -> Difference:
        command = RecordDispute(
            room_id=self._booking.room_id,
            booking_id=self._booking.id,
            payment_intent=self._payment.payment_intent,
            dispute_id=dispute.id,
            amount_minor=dispute.amount_minor,
            reason=dispute.reason,
            result=dispute.result,
        )
        known = self._payment.dispute(dispute.id)
        events = "has no event" if known is None else "is open by its events"
        return Difference(
            booking_id=self._booking.id,
            kind=Kind.UNKNOWN_DISPUTE,
            description=(
                f"{dispute.id}, a dispute of {self._in_words(dispute.amount_minor)} of"
                f" {self._payment.payment_intent} ({dispute.reason}), is {dispute.state} at Stripe, and {events}"
            ),
            correction="the room gets the command RecordDispute",
            commands=((command_id(dispute.id, dispute_transition(dispute.result)), command),),
            rows=(DisputeObjectCorrection(booking=self._booking, payment=self._payment, dispute=dispute),),
        )

    # Rows.

    def _stale_rows(self) -> Iterator[Difference]:
        lacking = [refund for refund in self._stripe.refunds if self._lacks(refund)]
        rows: list[RowCorrection] = [self._refund_object(refund) for refund in lacking]
        rows += self._stale_refund()
        if rows:
            named = self._refunds_in_words([refund.id for refund in lacking])
            yield Difference(
                booking_id=self._booking.id,
                kind=Kind.STALE_REFUND,
                description=f"our rows lack the present state of {named}",
                correction=ROW_IS_UPDATED,
                rows=tuple(rows),
            )
        yield from self._stale_disputes()

    def _stale_disputes(self) -> Iterator[Difference]:
        payment = self._payment.payment_intent
        for dispute in self._stripe.disputes:
            row = self._booking.dispute_rows.get(dispute.id)
            if dispute not in self._disputes and not _has(row, dispute.amount_minor, dispute.state):
                was = "has no row" if row is None else f"is {row.status} in our rows"
                yield Difference(
                    booking_id=self._booking.id,
                    kind=Kind.STALE_DISPUTE,
                    description=f"{dispute.id} of {payment} is {dispute.state} at Stripe and {was}",
                    correction=ROW_IS_UPDATED,
                    rows=(DisputeObjectCorrection(booking=self._booking, payment=self._payment, dispute=dispute),),
                )

    def _lacks(self, refund: Refund) -> bool:
        """Return whether the refund's own row is missing or old; refunds of payments of 0.1.0 need none."""
        if refund in self._failed or refund in self._unknown or (self._is_due and not self._by_hand(refund)):
            return False
        row = self._booking.refund_rows.get(refund.id)
        return not (row is None and self._is_older) and not _has(row, refund.amount_minor, refund.state)

    def _stale_refund(self) -> Iterator[RefundCorrection]:
        """Yield the right row of a refund of which all has gone, or is on its way."""
        due, pending = self._after.due_minor, self._stripe.pending_minor
        if not self._was_asked_for() or self._is_due or due > pending:
            return
        if due:
            right: tuple[str, ...] = ("pending", "creating")
        elif self._after.closed_minor or self._after.lost_minor:
            right = ("closed", "succeeded")
        else:
            right = ("succeeded",)
        ours = [each.id for each in self._stripe.refunds if each.is_effective and not self._by_hand(each)]
        row = self._row
        if row is None and not ours:
            # A person made every refund: none was asked for, or none is left to follow.
            return
        if row is None or row.status not in right or (row.refund_id is None and ours):
            refund_id = ours[0] if ours else (None if row is None else row.refund_id)
            yield self._refund_row(right[0], refund_id=refund_id, is_due=False)

    def _was_asked_for(self) -> bool:
        """Return whether this product asked for a refund: of a payment that pays a stay, if the stay became cheaper."""
        payment = self._payment
        if payment.state is not PaymentState.KEPT or payment.due_minor or payment.closed_minor:
            return True
        return any(not made.by_hand for made in payment.refunds)

    def _idle_refund(self) -> Iterator[Difference]:
        """Yield the difference of money that is due to the guest while nothing sends it."""
        due = self._after.due_minor - self._stripe.pending_minor
        if self._is_due or due <= 0:
            return
        yield Difference(
            booking_id=self._booking.id,
            kind=Kind.IDLE_REFUND,
            description=(
                f"{self._in_words(due)} of {self._payment.payment_intent} are due to the guest, and nothing sends them"
            ),
            correction="the refund is due again, and payments makes it as soon as it runs",
            rows=(self._refund_row("creating", refund_id=None, is_due=True),),
        )

    def _refund_row(self, status: str, *, refund_id: str | None, is_due: bool) -> RefundCorrection:
        after = self._after
        return RefundCorrection(
            booking=self._booking,
            payment=self._payment,
            was=self._row,
            status=status,
            refund_id=refund_id,
            amount_minor=after.refunded_minor + after.lost_minor + after.closed_minor + after.due_minor,
            is_due=is_due,
        )

    def _refund_object(self, refund: Refund) -> RefundObjectCorrection:
        return RefundObjectCorrection(
            booking=self._booking, payment=self._payment, refund=refund, by_hand=self._by_hand(refund)
        )

    # Sums.

    def _wrong_sum(self) -> Iterator[Difference]:
        """Yield the difference of the sums that is left when all that is missing above is recorded."""
        payment = self._payment.payment_intent
        should = self._booking.due_of(self._after) + self._after.due_minor
        left = self._stripe.left_minor
        if left == should:
            return
        if left > should:
            correction = (
                f"refund {self._in_words(left - should)} of {payment} at Stripe by hand, unless the hotel keeps it"
            )
        else:
            correction = (
                f"compare the refunds of {payment} at Stripe with its events (innkeeper explain {self._booking.id}):"
                f" {self._in_words(should - left)} left Stripe without an event"
            )
        yield Difference(
            booking_id=self._booking.id,
            kind=Kind.WRONG_SUM,
            description=(
                f"{self._booking.status}: Stripe has {self._in_words(left)} of {payment},"
                f" and it should have {self._in_words(should)}"
            ),
            correction=correction,
        )

    def _named(self, refund: Refund) -> str:
        return f"{refund.id}, {self._in_words(refund.amount_minor)} of {self._payment.payment_intent}"

    def _in_words(self, amount_minor: int) -> str:
        return in_words(amount_minor, self._currency)

    def _refunds_in_words(self, names: Sequence[str]) -> str:
        payment = self._payment.payment_intent
        return f"{', '.join(names)} of {payment}" if names else f"the refund of {payment}"


def _reduced(made: RefundMade, by_minor: int) -> RefundMade:
    return RefundMade(made.refund_id, max(0, made.amount_minor - by_minor), made.by_hand)


def _has(row: ObjectRow | None, amount_minor: int, status: str) -> bool:
    return row is not None and (row.amount_minor, row.status) == (amount_minor, status)
