"""Each event of a booking's money leads to the documents that are due to the guest, and to each of them once."""

from datetime import timedelta
from uuid import uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.scenario import NOON, Scenario
from tests.workers.coordination.bookkeeping import CREDIT_NOTE, INVOICE, OneBooking, net_minor, shown
from tests.workers.decisions.words import (
    ADAS,
    CANCEL,
    CHECK_IN,
    CONFIRMED_FREE,
    FAIL_REFUND,
    HAND_REFUND,
    LAST_DAY,
    NAMED,
    OPENED,
    RESERVED,
    SECOND_DAY,
    WAITING,
    but,
)
from tests.workers.decisions.words_at_hotel import ARRIVE, LEAVE, NO_SHOW
from tests.workers.decisions.words_of_changes import ASKED_MORE
from tests.workers.decisions.words_of_moves import HAS_MOVED, LEG_ENDS, MOVE_HELD, MOVE_OPENED
from tests.workers.decisions.words_of_sale import ARRIVING, FREE_UNTIL, PART_UNTIL, SALE, SOLD, SOLD_SAVER
from topics.envelope import Envelope
from topics.messages.events import DocumentIssued, DocumentNotIssued, Event
from topics.messages.sale import CancellationStep, Moved
from topics.messages.values import BookingStatus, DocumentReason
from workers.coordination.documents import DOCUMENTS, commands_for

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
    (invoice,) = OneBooking(*SOLD).documents()

    assert shown([invoice]) == [(INVOICE, 1, STAY, 200_00)]
    assert [(line.name, line.amount_minor, line.included) for line in invoice.lines] == [
        ("Standard, 1 room, 2026-03-10 to 2026-03-12", 200_00, False),
        ("VAT", 13_08, True),
    ]


def test_a_booking_of_the_release_before_has_no_documents_also_when_it_is_changed_or_ends() -> None:
    opened, terms_set, _, *rest = SOLD
    booked = OneBooking(opened, terms_set, but(RESERVED, night_amounts_minor=()), *rest)
    booked.changes(250_00)
    booked.when(but(HAND_REFUND, amount_minor=10_00))
    booked.when(CANCEL, at=PART_UNTIL - HOUR)
    assert booked.documents() == []


def test_a_stay_that_is_free_or_paid_at_the_hotel_has_none_when_it_is_booked() -> None:
    assert OneBooking(*NAMED, but(CONFIRMED_FREE, amount_minor=0)).documents() == []
    assert OneBooking(*PAID_AT_HOTEL).documents() == []


def test_a_cancellation_credits_the_stay_and_invoices_what_is_kept() -> None:
    booked = OneBooking(*SOLD)
    booked.when(CANCEL, at=PART_UNTIL - HOUR)

    issued = booked.documents()

    assert shown(issued) == [
        (INVOICE, 1, STAY, 200_00),
        (CREDIT_NOTE, 1, ENDED, 200_00),
        (INVOICE, 2, ENDED, 50_00),
    ]
    assert issued[1].lines == issued[0].lines
    assert issued[1].corrects_id == issued[0].document_id
    assert [line.name for line in issued[2].lines] == ["Cancellation"]


def test_a_cancellation_that_costs_nothing_credits_the_stay_alone() -> None:
    booked = OneBooking(*SOLD)
    booked.when(CANCEL, at=FREE_UNTIL - HOUR)

    assert shown(booked.documents()) == [(INVOICE, 1, STAY, 200_00), (CREDIT_NOTE, 1, ENDED, 200_00)]


def test_an_unpaid_booking_has_no_documents() -> None:
    booked = OneBooking(*WAITING)
    booked.when(CANCEL)

    assert booked.documents() == []


def test_a_change_replaces_the_invoice_unless_nothing_on_it_changes() -> None:
    booked = OneBooking(*SOLD)
    booked.changes(260_00, days=3)
    booked.changes(260_00, days=3)
    booked.changes(260_00, days=2)

    issued = booked.documents()

    assert shown(issued) == [
        (INVOICE, 1, STAY, 200_00),
        (CREDIT_NOTE, 1, CHANGED, 200_00),
        (INVOICE, 2, CHANGED, 260_00),
        (CREDIT_NOTE, 2, CHANGED, 260_00),
        (INVOICE, 3, CHANGED, 260_00),
    ]
    assert issued[2].lines[0].name == "Standard, 1 room, 2026-03-10 to 2026-03-13"
    assert issued[3].corrects_id == issued[2].document_id


def test_documents_that_earlier_code_issued_are_not_issued_again() -> None:
    """Their ids are names of the stay, by its number, and of the end; an event of any of them may be read again."""
    booked = OneBooking(*SOLD)
    booked.changes(260_00, days=3)
    booked.when(CANCEL, at=PART_UNTIL - HOUR)
    issued = booked.documents()
    hotel = Scenario()
    for document, name in zip(issued, ("invoice:0", "credit:0", "invoice:1", "credit:1", "invoice:end"), strict=True):
        named = but(document, document_id=uuid5(DOCUMENTS, f"{ADAS}:{name}"), corrects_id=None, booking_version=0)
        if document.kind is CREDIT_NOTE:
            named = replace(named, corrects_id=uuid5(DOCUMENTS, f"{ADAS}:{name.replace('credit', 'invoice')}"))
        hotel.happen(named)

    for event, booking in booked.log:
        envelope = Envelope(id="again:0", type=event.message_type, source="a test", subject="", time=NOON)
        for _, command in commands_for(event, envelope, booking):
            assert [type(answer) for answer in hotel.when(command).answer] == [DocumentNotIssued]


def moved_stay() -> OneBooking:
    """Return a stay whose leg in another room type took its place: it paid 200.00, and then 100.00 more."""
    booked = OneBooking(*SOLD)
    booked.happened(but(MOVE_OPENED, moved=Moved(amount_minor=200_00)))
    booked.happened(MOVE_HELD, ASKED_MORE)
    booked.happened(but(HAS_MOVED, before=booked.booking.present_stay()))
    return booked


def test_a_stay_that_moves_to_another_room_type_credits_its_invoice_and_its_leg_has_another() -> None:
    booked = moved_stay()

    assert shown(booked.documents()) == [(INVOICE, 1, STAY, 200_00), (CREDIT_NOTE, 1, CHANGED, 200_00)]


def test_a_stay_that_moved_has_no_further_documents_whatever_happens_to_its_money() -> None:
    booked = moved_stay()
    moved = shown(booked.documents())
    booked.when(but(HAND_REFUND, amount_minor=10_00))
    booked.when(HAND_50_FAILS)
    booked.when(LEG_ENDS)

    assert booked.booking.status is BookingStatus.CANCELLED
    assert shown(booked.documents()) == moved
    # The ledger has all of it before the first event is read, and the events are read again.
    assert net_minor(booked.documents(newer=[len(booked.log)] * len(booked.log), times=2)) == 0


def test_a_change_of_a_stay_paid_at_the_hotel_waits_for_the_departure() -> None:
    booked = OneBooking(*PAID_AT_HOTEL)
    booked.changes(105_00, days=1)

    assert booked.documents() == []


def test_a_refund_by_hand_is_credited_and_one_that_fails_is_taken_back() -> None:
    booked = OneBooking(*SOLD)
    booked.when(HAND_50)
    booked.when(HAND_50_FAILS)
    booked.when(CANCEL, at=PART_UNTIL - HOUR)

    assert shown(booked.documents()) == [
        (INVOICE, 1, STAY, 200_00),
        (CREDIT_NOTE, 1, BY_HAND, 50_00),
        (INVOICE, 2, FAILED, 50_00),
        (CREDIT_NOTE, 2, ENDED, 150_00),
        (CREDIT_NOTE, 3, ENDED, 50_00),
        (INVOICE, 3, ENDED, 50_00),
    ]


def test_a_refund_by_hand_before_the_end_is_not_credited_twice() -> None:
    booked = OneBooking(*SOLD_SAVER)
    booked.when(HAND_50)
    booked.when(CANCEL)

    assert shown(booked.documents())[1:] == [
        (CREDIT_NOTE, 1, BY_HAND, 50_00),
        (CREDIT_NOTE, 2, ENDED, 130_00),
        (INVOICE, 2, ENDED, 130_00),
    ]


def test_a_refund_by_hand_stays_credited_after_a_change() -> None:
    booked = OneBooking(*SOLD)
    booked.when(HAND_50)
    booked.changes(300_00, days=3)

    issued = booked.documents()

    assert shown(issued)[1:] == [
        (CREDIT_NOTE, 1, BY_HAND, 50_00),
        (CREDIT_NOTE, 2, CHANGED, 150_00),
        (INVOICE, 2, CHANGED, 300_00),
        (CREDIT_NOTE, 3, CHANGED, 50_00),
    ]
    assert net_minor(issued) == booked.paid_minor() == 250_00


def test_goodwill_after_the_end_is_credited_of_what_was_kept() -> None:
    booked = OneBooking(*SOLD_SAVER)
    booked.when(CANCEL)
    booked.when(HAND_50)

    issued = booked.documents()

    assert shown(issued)[-1] == (CREDIT_NOTE, 2, BY_HAND, 50_00)
    assert issued[-1].corrects_id == issued[2].document_id
    assert [line.name for line in issued[-1].lines] == ["Cancellation"]


def test_guests_who_leave_early_are_invoiced_for_what_is_kept() -> None:
    booked = OneBooking(*SOLD)
    booked.when(ARRIVE, at=CHECK_IN)
    booked.when(LEAVE, at=SECOND_DAY)

    assert shown(booked.documents())[1:] == [
        (CREDIT_NOTE, 1, DocumentReason.EARLY_DEPARTURE, 200_00),
        (INVOICE, 2, DocumentReason.EARLY_DEPARTURE, 150_00),
    ]


def test_guests_who_leave_early_and_pay_all_keep_their_invoice() -> None:
    booked = OneBooking(*SOLD_SAVER)
    booked.when(ARRIVE, at=CHECK_IN)
    booked.when(LEAVE, at=SECOND_DAY)

    assert shown(booked.documents()) == [(INVOICE, 1, STAY, 180_00)]


def test_guests_who_do_not_arrive_are_invoiced_for_what_is_kept() -> None:
    booked = OneBooking(*SOLD)
    booked.when(NO_SHOW, at=CHECK_IN)

    assert shown(booked.documents())[1:] == [
        (CREDIT_NOTE, 1, DocumentReason.NO_SHOW, 200_00),
        (INVOICE, 2, DocumentReason.NO_SHOW, 100_00),
    ]


def test_a_prepaid_stay_that_ends_in_order_has_nothing_more() -> None:
    booked = OneBooking(*SOLD)
    booked.when(ARRIVE, at=CHECK_IN)
    booked.when(LEAVE, at=LAST_DAY)

    assert shown(booked.documents()) == [(INVOICE, 1, STAY, 200_00)]


def test_a_stay_paid_at_the_hotel_is_invoiced_at_departure() -> None:
    booked = OneBooking(*PAID_AT_HOTEL)
    booked.when(ARRIVE, at=CHECK_IN)
    booked.when(LEAVE, at=LAST_DAY)

    (invoice,) = booked.documents()

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
def test_an_amount_due_at_the_hotel_for_a_stay_that_was_not_taken_is_invoiced(
    command: object, at: object, reason: DocumentReason, amount_minor: int
) -> None:
    booked = OneBooking(*PAID_AT_HOTEL)
    booked.when(command, at=at)  # type: ignore[arg-type]

    assert shown(booked.documents()) == [(INVOICE, 1, reason, amount_minor)]


def test_a_stay_paid_before_documents_existed_is_invoiced_for_what_is_kept() -> None:
    booked = OneBooking(*SOLD)
    booked.log.clear()
    booked.when(CANCEL, at=PART_UNTIL - HOUR)

    assert shown(booked.documents()) == [(INVOICE, 1, ENDED, 50_00)]


def test_a_refund_by_hand_of_all_that_fails_after_the_end_leaves_what_is_kept() -> None:
    booked = OneBooking(*SOLD)
    booked.when(but(HAND_50, amount_minor=200_00))
    booked.when(CANCEL, at=PART_UNTIL - HOUR)
    booked.when(but(HAND_50_FAILS, amount_minor=200_00))

    issued = booked.documents()

    assert shown(issued) == [
        (INVOICE, 1, STAY, 200_00),
        (CREDIT_NOTE, 1, BY_HAND, 200_00),
        (INVOICE, 2, ENDED, 50_00),
    ]
    # A restore lets coordination read the log again.
    assert booked.documents(times=2) == issued


def test_a_refund_of_ours_that_fails_after_one_by_hand_leaves_what_is_kept() -> None:
    booked = OneBooking(*SOLD)
    booked.when(CANCEL, at=PART_UNTIL - HOUR)
    booked.when(but(HAND_50, amount_minor=40_00))
    (ours,) = [refund for refund in booked.booking.payments[0].refunds if not refund.by_hand]
    booked.when(but(FAIL_REFUND, refund_id=ours.refund_id, amount_minor=ours.amount_minor))

    issued = booked.documents()

    assert shown(issued)[3:] == [(CREDIT_NOTE, 2, BY_HAND, 40_00), (INVOICE, 3, ENDED, 40_00)]
    assert [line.name for line in issued[-1].lines] == ["Cancellation"]
    assert net_minor(issued) == 50_00
    assert booked.documents(times=2) == issued


def sold_keeping(kept_minor: int) -> tuple[Event, ...]:
    """Return the events of a paid stay of 200.00, of which a cancellation keeps an amount."""
    reserved = but(SOLD[2], sale=replace(SALE, steps=(CancellationStep(kept_minor=kept_minor),)))
    return (*SOLD[:2], reserved, *SOLD[3:])


_STEPS = st.one_of(
    st.tuples(st.just("refund"), st.integers(1, 120_00)),
    st.tuples(st.just("fail"), st.integers(0, 3)),
    st.tuples(st.just("change"), st.integers(1_00, 400_00)),
)
_ENDS = st.sampled_from(("none", "cancel", "no-show", "early", "departure"))


def play(booked: OneBooking, steps: list[tuple[str, int]]) -> None:
    """Refund by hand, let such refunds fail, and change the stay."""
    made = [
        (paid.payment_intent, refund.refund_id, refund.amount_minor)
        for paid in booked.booking.payments
        for refund in paid.refunds
        if refund.by_hand
    ]
    for number, (what, value) in enumerate(steps):
        if what == "refund":
            payments = [paid for paid in booked.booking.payments if paid.left_minor]
            if payments:
                paid = payments[value % len(payments)]
                refund = (paid.payment_intent, f"re_hand_{len(booked.log)}_{number}", min(value, paid.left_minor))
                booked.when(but(HAND_REFUND, payment_intent=refund[0], refund_id=refund[1], amount_minor=refund[2]))
                made.append(refund)
        elif what == "fail" and made:
            intent, refund_id, amount_minor = made.pop(value % len(made))
            booked.when(
                but(
                    FAIL_REFUND,
                    payment_intent=intent,
                    refund_id=refund_id,
                    amount_minor=amount_minor,
                    by_hand=True,
                )
            )
        elif what == "change" and booked.booking.status == "CONFIRMED":
            # A stay that became cheaper than what is left of its payments can give back no more than that.
            kept_minor = sum(paid.kept_minor for paid in booked.booking.paying_payments())
            booked.changes(max(value, booked.booking.amount_minor - kept_minor, 1), days=1 + value % 3)


def ended(booked: OneBooking, end: str) -> None:
    """End the stay."""
    if end == "cancel":
        booked.when(CANCEL, at=FREE_UNTIL)
    elif end == "no-show":
        booked.when(NO_SHOW, at=CHECK_IN)
    elif end in ("early", "departure"):
        booked.when(ARRIVE, at=CHECK_IN)
        booked.when(LEAVE, at=SECOND_DAY if end == "early" else LAST_DAY)


def assert_in_order(issued: list[DocumentIssued]) -> None:
    """The numbers of each kind are 1, 2, 3 ... in the order in which they were issued."""
    for kind in (INVOICE, CREDIT_NOTE):
        numbers = [event.number for event in issued if event.kind is kind]
        assert numbers == list(range(1, len(numbers) + 1))


@given(st.integers(0, 200_00), st.lists(_STEPS, max_size=6), _ENDS, st.lists(_STEPS, max_size=3))
def test_the_net_of_the_documents_is_the_money_that_the_guest_has_not_got_back(
    kept_minor: int, before: list[tuple[str, int]], end: str, after: list[tuple[str, int]]
) -> None:
    booked = OneBooking(*sold_keeping(kept_minor))
    play(booked, before)
    ended(booked, end)
    play(booked, after)

    issued = booked.documents()

    assert net_minor(issued) == booked.paid_minor()
    assert_in_order(issued)
    # An operator may let coordination read the log again.
    assert booked.documents(times=2) == issued


_REFUNDS = st.lists(st.tuples(st.just("refund"), st.integers(1, 120_00)), max_size=4)
_CHANGES = st.lists(st.tuples(st.just("change"), st.integers(1_00, 400_00)), max_size=4)


@given(
    st.integers(0, 200_00),
    st.one_of(
        st.tuples(st.lists(_STEPS, max_size=6), st.just("none"), st.just([])),
        st.tuples(_CHANGES | _REFUNDS, _ENDS, st.just([])),
        st.tuples(st.just([]), _ENDS, _REFUNDS),
    ),
    st.lists(st.integers(0, 9), min_size=40, max_size=40),
)
def test_the_documents_do_not_depend_on_how_new_the_ledger_is(
    kept_minor: int,
    history: tuple[list[tuple[str, int]], str, list[tuple[str, int]]],
    newer: list[int],
) -> None:
    before, end, after = history
    booked = OneBooking(*sold_keeping(kept_minor))
    play(booked, before)
    ended(booked, end)
    play(booked, after)

    issued = booked.documents(newer)

    assert net_minor(issued) == booked.paid_minor()
    assert_in_order(issued)
