"""Several installations share one Stripe account: an object is ours by its mark, or by a row of ours."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from workers.reconciliation.ownership import is_ours, with_maker
from workers.reconciliation.stripe_client import Named, Refund, Session
from workers.stripe.marks import Marks

BOOKING, OTHER = UUID(int=1), UUID(int=2)
OURS = Marks("a key of the payments role", UUID(int=11))
THEIRS = Marks("a key of the payments role", UUID(int=12))


def session(mark: str | None) -> Session:
    return Session(
        id="cs_1",
        booking_id=BOOKING,
        room_id=7,
        attempt=1,
        mark=mark,
        status="complete",
        paid=True,
        amount_minor=100,
        currency="EUR",
        payment="pi_1",
        url=None,
        expires_at=datetime(2027, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("mark", "rows", "ours"),
    [
        (OURS.mark(BOOKING, 7), set(), True),
        (OURS.mark(OTHER, 7), set(), False),
        (OURS.mark(BOOKING, 8), set(), False),
        (THEIRS.mark(BOOKING, 7), set(), False),
        # The database was restored under another id, or the key was changed: the row decides.
        (THEIRS.mark(BOOKING, 7), {"cs_1"}, True),
        (THEIRS.mark(BOOKING, 7), {"pi_1"}, True),
        (THEIRS.mark(BOOKING, 7), {"cs_2"}, False),
        (None, set(), False),
        (None, {"cs_1"}, True),
        (None, {"pi_1"}, True),
        (None, {"cs_2"}, False),
    ],
)
def test_a_session_is_ours_by_its_mark_or_by_a_row(mark: str | None, rows: set[str], ours: bool) -> None:  # noqa: FBT001 - an expected value
    assert is_ours(session(mark), OURS, rows) is ours


@pytest.mark.parametrize(
    ("named", "by_hand"),
    [
        (None, True),
        (Named(booking_id=BOOKING, room_id=7, mark=OURS.mark(BOOKING, 7)), False),
        (Named(booking_id=BOOKING, room_id=7, mark=THEIRS.mark(BOOKING, 7)), True),
        (Named(booking_id=OTHER, room_id=7, mark=OURS.mark(OTHER, 7)), True),
        # 0.1.0 left no marks.
        (Named(booking_id=BOOKING, room_id=7, mark=None), False),
        (Named(booking_id=OTHER, room_id=7, mark=None), True),
    ],
)
def test_a_refund_is_by_hand_unless_we_made_it_for_this_booking(named: Named | None, by_hand: bool) -> None:  # noqa: FBT001 - an expected value
    refund = Refund(id="re_1", payment="pi_1", amount_minor=100, status="succeeded", failure=None, named=named)

    assert with_maker(refund, BOOKING, OURS).by_hand is by_hand
