"""Each event of a booking's money leads to the documents that the guest is owed, and to each of them once."""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.workers.coordination.bookkeeping import CREDIT_NOTE, INVOICE, Story, net_minor, shown
from tests.workers.decisions.words import (
    CANCEL,
    CHECK_IN,
    CONFIRMED_FREE,
    FAIL_REFUND,
    HAND_REFUND,
    LAST_DAY,
    NAMED,
    OPENED,
    SECOND_DAY,
    WAITING,
    but,
)
from tests.workers.decisions.words_at_hotel import ARRIVE, LEAVE, NO_SHOW
from tests.workers.decisions.words_of_sale import ARRIVING, FREE_UNTIL, PART_UNTIL, SALE, SOLD, SOLD_SAVER
from topics.messages.events import Event
from topics.messages.sale import CancellationStep
from topics.messages.values import DocumentReason

STAY = DocumentReason.STAY
CHANGED = DocumentReason.STAY_CHANGED
ENDED = DocumentReason.CANCELLED
BY_HAND = DocumentReason.REFUNDED_BY_HAND
FAILED = DocumentReason.REFUND_FAILED
HOUR = timedelta(hours=1)
PAID_AT_HOTEL = (OPENED, ARRIVING, but(CONFIRMED_FREE, amount_minor=210_00))
HAND_50 = but(HAND_REFUND, amount_minor=50_00)
HAND_50_FAILS = but(FAIL_REFUND, refund_id="re_hand", amount_minor=50_00, by_hand=True)


def test_a_paid_stay_has_an_invoice_with_its_taxes() -> None:
    (invoice,) = Story(*SOLD).documents()

    assert shown([invoice]) == [(INVOICE, 1, STAY, 200_00)]
    assert [(line.name, line.amount_minor, line.included) for line in invoice.lines] == [
        ("Standard, 1 room, 2026-03-10 to 2026-03-12", 200_00, False),
        ("VAT", 13_08, True),
    ]


def test_a_stay_that_is_free_or_paid_at_the_hotel_has_none_when_it_is_booked() -> None:
    assert Story(*NAMED, but(CONFIRMED_FREE, amount_minor=0)).documents() == []
    assert Story(*PAID_AT_HOTEL).documents() == []


def test_a_cancellation_credits_the_stay_and_invoices_what_is_kept() -> None:
    story = Story(*SOLD)
    story.when(CANCEL, at=PART_UNTIL - HOUR)

    issued = story.documents()

    assert shown(issued) == [
        (INVOICE, 1, STAY, 200_00),
        (INVOICE, 2, ENDED, 50_00),
        (CREDIT_NOTE, 1, ENDED, 200_00),
    ]
    assert [line.name for line in issued[1].lines] == ["Cancellation"]
    assert issued[2].lines == issued[0].lines
    assert issued[2].corrects_id == issued[0].document_id


def test_a_cancellation_that_costs_nothing_credits_the_stay_alone() -> None:
    story = Story(*SOLD)
    story.when(CANCEL, at=FREE_UNTIL - HOUR)

    assert shown(story.documents()) == [(INVOICE, 1, STAY, 200_00), (CREDIT_NOTE, 1, ENDED, 200_00)]


def test_an_unpaid_booking_has_no_documents() -> None:
    story = Story(*WAITING)
    story.when(CANCEL)

    assert story.documents() == []


def test_a_change_replaces_the_invoice_unless_nothing_on_it_changes() -> None:
    story = Story(*SOLD)
    story.changes(260_00, days=3)
    story.changes(260_00, days=3)
    story.changes(260_00, days=2)

    issued = story.documents()

    assert shown(issued) == [
        (INVOICE, 1, STAY, 200_00),
        (CREDIT_NOTE, 1, CHANGED, 200_00),
        (INVOICE, 2, CHANGED, 260_00),
        (CREDIT_NOTE, 2, CHANGED, 260_00),
        (INVOICE, 3, CHANGED, 260_00),
    ]
    assert issued[2].lines[0].name == "Standard, 1 room, 2026-03-10 to 2026-03-13"
    assert issued[3].corrects_id == issued[2].document_id


def test_a_change_of_a_stay_paid_at_the_hotel_waits_for_the_departure() -> None:
    story = Story(*PAID_AT_HOTEL)
    story.changes(105_00, days=1)

    assert story.documents() == []


def test_a_refund_by_hand_is_credited_and_one_that_fails_is_taken_back() -> None:
    story = Story(*SOLD)
    story.when(HAND_50)
    story.when(HAND_50_FAILS)
    story.when(CANCEL, at=PART_UNTIL - HOUR)

    assert shown(story.documents()) == [
        (INVOICE, 1, STAY, 200_00),
        (CREDIT_NOTE, 1, BY_HAND, 50_00),
        (INVOICE, 2, FAILED, 50_00),
        (INVOICE, 3, ENDED, 50_00),
        (CREDIT_NOTE, 2, ENDED, 150_00),
        (CREDIT_NOTE, 3, ENDED, 50_00),
    ]


def test_a_refund_by_hand_before_the_end_is_not_credited_twice() -> None:
    story = Story(*SOLD_SAVER)
    story.when(HAND_50)
    story.when(CANCEL)

    assert shown(story.documents())[1:] == [
        (CREDIT_NOTE, 1, BY_HAND, 50_00),
        (INVOICE, 2, ENDED, 130_00),
        (CREDIT_NOTE, 2, ENDED, 130_00),
    ]


def test_a_refund_by_hand_stays_credited_after_a_change() -> None:
    story = Story(*SOLD)
    story.when(HAND_50)
    story.changes(300_00, days=3)

    issued = story.documents()

    assert shown(issued)[1:] == [
        (CREDIT_NOTE, 1, BY_HAND, 50_00),
        (CREDIT_NOTE, 2, CHANGED, 150_00),
        (INVOICE, 2, CHANGED, 300_00),
        (CREDIT_NOTE, 3, BY_HAND, 50_00),
    ]
    assert net_minor(issued) == story.paid_minor() == 250_00


def test_goodwill_after_the_end_is_credited_of_what_was_kept() -> None:
    story = Story(*SOLD_SAVER)
    story.when(CANCEL)
    story.when(HAND_50)

    issued = story.documents()

    assert shown(issued)[-1] == (CREDIT_NOTE, 2, BY_HAND, 50_00)
    assert issued[-1].corrects_id == issued[1].document_id
    assert [line.name for line in issued[-1].lines] == ["Cancellation"]


def test_guests_who_leave_early_are_invoiced_for_what_is_kept() -> None:
    story = Story(*SOLD)
    story.when(ARRIVE, at=CHECK_IN)
    story.when(LEAVE, at=SECOND_DAY)

    assert shown(story.documents())[1:] == [
        (INVOICE, 2, DocumentReason.EARLY_DEPARTURE, 150_00),
        (CREDIT_NOTE, 1, DocumentReason.EARLY_DEPARTURE, 200_00),
    ]


def test_guests_who_leave_early_and_pay_all_keep_their_invoice() -> None:
    story = Story(*SOLD_SAVER)
    story.when(ARRIVE, at=CHECK_IN)
    story.when(LEAVE, at=SECOND_DAY)

    assert shown(story.documents()) == [(INVOICE, 1, STAY, 180_00)]


def test_guests_who_do_not_arrive_are_invoiced_for_what_is_kept() -> None:
    story = Story(*SOLD)
    story.when(NO_SHOW, at=CHECK_IN)

    assert shown(story.documents())[1:] == [
        (INVOICE, 2, DocumentReason.NO_SHOW, 100_00),
        (CREDIT_NOTE, 1, DocumentReason.NO_SHOW, 200_00),
    ]


def test_a_prepaid_stay_that_ends_in_order_has_nothing_more() -> None:
    story = Story(*SOLD)
    story.when(ARRIVE, at=CHECK_IN)
    story.when(LEAVE, at=LAST_DAY)

    assert shown(story.documents()) == [(INVOICE, 1, STAY, 200_00)]


def test_a_stay_paid_at_the_hotel_is_invoiced_at_departure() -> None:
    story = Story(*PAID_AT_HOTEL)
    story.when(ARRIVE, at=CHECK_IN)
    story.when(LEAVE, at=LAST_DAY)

    (invoice,) = story.documents()

    assert shown([invoice]) == [(INVOICE, 1, STAY, 210_00)]
    assert [line.name for line in invoice.lines][1:] == ["VAT", "City tax"]


@pytest.mark.parametrize(
    ("command", "at", "reason", "amount_minor"),
    [
        (NO_SHOW, CHECK_IN, DocumentReason.NO_SHOW, 105_00),
        (CANCEL, CHECK_IN - HOUR, ENDED, 105_00),
    ],
    ids=["no-show", "cancelled"],
)
def test_what_is_due_at_the_hotel_for_a_stay_that_was_not_taken_is_invoiced(
    command: object, at: object, reason: DocumentReason, amount_minor: int
) -> None:
    story = Story(*PAID_AT_HOTEL)
    story.when(command, at=at)  # type: ignore[arg-type]

    assert shown(story.documents()) == [(INVOICE, 1, reason, amount_minor)]


def test_a_stay_paid_before_documents_existed_is_invoiced_for_what_is_kept() -> None:
    story = Story(*SOLD)
    story.log.clear()
    story.when(CANCEL, at=PART_UNTIL - HOUR)

    assert shown(story.documents()) == [(INVOICE, 1, ENDED, 50_00)]


def sold_keeping(kept_minor: int) -> tuple[Event, ...]:
    """Return the events of a paid stay of 200.00, of which a cancellation keeps an amount."""
    reserved = but(SOLD[2], sale=replace(SALE, steps=(CancellationStep(kept_minor=kept_minor),)))  # type: ignore[type-var]
    return (*SOLD[:2], reserved, *SOLD[3:])


_STEPS = st.one_of(
    st.tuples(st.just("refund"), st.integers(1, 120_00)),
    st.tuples(st.just("fail"), st.integers(0, 3)),
    st.tuples(st.just("change"), st.integers(1_00, 400_00)),
)
_ENDS = st.sampled_from(("none", "cancel", "no-show", "early", "departure"))


def play(story: Story, steps: list[tuple[str, int]]) -> None:
    """Refund by hand, let such refunds fail, and change the stay."""
    made: list[tuple[str, str, int]] = []
    for number, (what, value) in enumerate(steps):
        if what == "refund":
            payments = [paid for paid in story.booking.payments if paid.left_minor]
            if payments:
                paid = payments[value % len(payments)]
                refund = (paid.payment_intent, f"re_hand_{len(story.log)}_{number}", min(value, paid.left_minor))
                story.when(but(HAND_REFUND, payment_intent=refund[0], refund_id=refund[1], amount_minor=refund[2]))
                made.append(refund)
        elif what == "fail" and made:
            intent, refund_id, amount_minor = made.pop(value % len(made))
            story.when(
                but(
                    FAIL_REFUND,
                    payment_intent=intent,
                    refund_id=refund_id,
                    amount_minor=amount_minor,
                    by_hand=True,
                )
            )
        elif what == "change" and story.booking.status == "CONFIRMED":
            story.changes(value, days=1 + value % 3)


def ended(story: Story, end: str) -> None:
    """End the stay."""
    if end == "cancel":
        story.when(CANCEL, at=FREE_UNTIL)
    elif end == "no-show":
        story.when(NO_SHOW, at=CHECK_IN)
    elif end in ("early", "departure"):
        story.when(ARRIVE, at=CHECK_IN)
        story.when(LEAVE, at=SECOND_DAY if end == "early" else LAST_DAY)


@given(
    st.integers(0, 200_00),
    st.lists(_STEPS, max_size=6),
    _ENDS,
    st.lists(_STEPS, max_size=3),
    st.lists(st.integers(0, 9)),
)
def test_the_net_of_the_documents_is_the_money_that_the_guest_has_not_got_back(
    kept_minor: int, before: list[tuple[str, int]], end: str, after: list[tuple[str, int]], newer: list[int]
) -> None:
    story = Story(*sold_keeping(kept_minor))
    play(story, before)
    ended(story, end)
    play(story, after)

    issued = story.documents()

    assert net_minor(issued) == story.paid_minor()
    kinds = Counter(event.kind for event in issued)
    assert {kind: [event.number for event in issued if event.kind is kind] for kind in kinds} == {
        kind: list(range(1, count + 1)) for kind, count in kinds.items()
    }
