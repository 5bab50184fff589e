"""Decides which objects at Stripe are ours, since several installations can share one Stripe account.

A session is ours if this installation made its mark, or if a row of ours names it, with any mark or none: 0.1.0 left no
marks, and the key of the mark or the installation's id can have changed since. Refunds and disputes belong to their
payment: a refund by hand and a dispute carry nothing of ours.
"""

from collections.abc import Collection
from dataclasses import replace
from uuid import UUID

from workers.reconciliation.stripe_client import Refund, Session
from workers.stripe.marks import Marks


def has_our_mark(session: Session, marks: Marks) -> bool:
    """Return whether this installation marked the session."""
    return session.mark is not None and marks.is_ours(session.mark, session.booking_id, session.room_id)


def is_ours(session: Session, marks: Marks, named_in_rows: Collection[str]) -> bool:
    """Return whether a session is ours; `named_in_rows` are the ids of sessions and payments in our rows."""
    return has_our_mark(session, marks) or session.id in named_in_rows or session.payment in named_in_rows


def with_maker(refund: Refund, booking_id: UUID, marks: Marks) -> Refund:
    """Return a refund of a payment of ours with its maker: a person made one that does not name this booking.

    Refunds of 0.1.0 name it without a mark. For a refund that a row of ours has, the row decides.
    """
    named = refund.named
    if named is None or named.booking_id != booking_id:
        return replace(refund, by_hand=True)
    by_us = named.mark is None or marks.is_ours(named.mark, named.booking_id, named.room_id)
    return replace(refund, by_hand=not by_us)
