"""The restored row of a refund that an operator closed, where the policy keeps a part of the payment."""

from datetime import timedelta
from uuid import UUID

import pytest

from operators.restore.payments import payments_of
from tests.support.scenario import NOON, given
from tests.workers.decisions.words import ADAS, REFUND_CLOSED, REFUND_FAILED, REFUNDED_BY_HAND, but
from tests.workers.decisions.words_of_sale import SOLD, back, cancelled, policy
from topics.envelope import Envelope
from topics.messages.events import BookingEvent
from workers.payments.pending_calls import CallContext
from workers.stripe.marks import Marks

CONTEXT = CallContext(marks=Marks("key", UUID(int=1)), frontend_url="https://hotel.example")
CLOSED = but(REFUND_CLOSED, amount_minor=100_00)
BY_HAND = but(REFUNDED_BY_HAND, amount_minor=100_00)
FAILED = but(REFUND_FAILED, refund_id="re_hand", amount_minor=100_00, by_hand=True)
AGAIN = back(100_00, 100_00)


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ((), "creating"),
        ((CLOSED,), "closed"),
        ((CLOSED, BY_HAND), "succeeded"),
        ((CLOSED, BY_HAND, FAILED, AGAIN), "creating"),
    ],
)
def test_a_refund_that_was_closed_and_made_by_hand_is_due_again_when_that_fails(
    events: tuple[BookingEvent, ...], status: str
) -> None:
    """As in the ledger: the closed amount went back by hand, and the hotel keeps its own part."""
    happened = (*SOLD, cancelled(policy(100_00)), AGAIN, *events)
    story = [event for event in happened if isinstance(event, BookingEvent)]
    logged = [
        (event, Envelope(id=f"event-{number}", type=event.message_type, source="", subject=str(ADAS), time=at), at)
        for number, event in enumerate(story)
        for at in [NOON + timedelta(minutes=number)]
    ]

    booking = given(*happened).bookings[ADAS]
    ledger = {paid.payment_intent: paid for paid in booking.payments}

    (row,) = payments_of(logged, context=CONTEXT).refund_rows(NOON, ledger)

    assert (row["status"], row["amount_minor"]) == (status, 100_00)
