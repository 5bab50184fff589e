"""Each kind of difference in a payment, with the commands and rows that mend it, without a server."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from topics.messages.commands import FailRefund, RecordDispute, RecordRefund
from topics.messages.values import DisputeResult
from workers.decisions.state import Dispute as KnownDispute
from workers.decisions.state import Payment, PaymentState, RefundMade
from workers.reconciliation.at_stripe import AtStripe
from workers.reconciliation.bookings import Booking, ObjectRow, RefundRow, SessionRow
from workers.reconciliation.comparison import compare
from workers.reconciliation.differences import Difference, Kind, RefundCorrection, RefundObjectCorrection
from workers.reconciliation.stripe_client import Dispute, Refund, Session
from workers.stripe.objects import command_id

BOOKING = UUID(int=1)
PI = "pi_1"
AMOUNT = 20_000
KEPT = Payment(PI, "cs_1", AMOUNT, PaymentState.KEPT)
DUE = Payment(PI, "cs_1", AMOUNT, PaymentState.REFUND_REQUESTED, due_minor=AMOUNT)
SESSION_ROW = SessionRow(status="complete", session_id="cs_1", url=None, payment_intent=PI, is_due=False)
DUE_ROW = RefundRow(status="creating", refund_id=None, amount_minor=AMOUNT, is_due=True)


def refunded(*refunds: RefundMade, **values: Any) -> Payment:
    return msgspec.structs.replace(DUE, state=PaymentState.REFUNDED, due_minor=0, refunds=refunds, **values)


def booking(payment: Payment, *, row: RefundRow | None = None, **values: Any) -> Booking:
    """A booking with one payment: confirmed if the payment is kept, else cancelled."""
    return Booking(
        id=BOOKING,
        room_id=1,
        status="CONFIRMED" if payment.state is PaymentState.KEPT else "CANCELLED",
        terms="prepaid",
        amount_minor=AMOUNT,
        currency="EUR",
        attempt=1,
        session_id="cs_1",
        created_at=datetime(2027, 1, 1, tzinfo=UTC),
        payments={PI: payment},
        sessions={1: SESSION_ROW},
        refunds={} if row is None else {PI: row},
        **values,
    )


def refund(id: str, amount_minor: int, status: str = "succeeded", *, by_hand: bool = False) -> Refund:
    return Refund(id=id, payment=PI, amount_minor=amount_minor, status=status, failure=None, by_hand=by_hand)


def dispute(amount_minor: int = AMOUNT, outcome: DisputeResult | None = None) -> Dispute:
    return Dispute(
        id="du_1", payment=PI, amount_minor=amount_minor, currency="EUR", reason="fraudulent", result=outcome
    )


def at_stripe(*objects: Refund | Dispute) -> AtStripe:
    """A paid session, and these refunds and disputes of its payment."""
    paid = Session(
        id="cs_1",
        booking_id=BOOKING,
        room_id=1,
        attempt=1,
        mark=None,
        status="complete",
        paid=True,
        amount_minor=AMOUNT,
        currency="EUR",
        payment=PI,
        url=None,
        expires_at=datetime(2027, 1, 1, tzinfo=UTC),
    )
    return AtStripe(
        sessions=[paid],
        refunds=[each for each in objects if isinstance(each, Refund)],
        disputes=[each for each in objects if isinstance(each, Dispute)],
    )


def object_rows(*refunds: Refund) -> dict[str, ObjectRow]:
    return {
        each.id: ObjectRow(payment_intent=PI, amount_minor=each.amount_minor, status=each.state, by_hand=each.by_hand)
        for each in refunds
    }


def differences(ours: Booking, stripe: AtStripe) -> list[Difference]:
    return list(compare(BOOKING, ours, stripe))


def kinds(ours: Booking, stripe: AtStripe) -> list[Kind]:
    return [each.kind for each in differences(ours, stripe)]


def test_a_paid_booking_and_one_whose_refund_is_being_made_differ_in_nothing() -> None:
    assert kinds(booking(KEPT), at_stripe()) == []
    assert kinds(booking(DUE, row=DUE_ROW), at_stripe()) == []


def test_a_refund_by_hand_of_a_part_becomes_an_event_of_its_own_amount() -> None:
    by_hand = refund("re_1", 5_000, by_hand=True)

    (found,) = differences(booking(KEPT), at_stripe(by_hand))

    assert found.kind is Kind.UNKNOWN_REFUND
    assert "re_1, 50.00 EUR of pi_1, was made by hand at Stripe" in found.description
    assert found.commands == (
        (
            command_id("re_1", "succeeded"),
            RecordRefund(
                room_id=1,
                booking_id=BOOKING,
                payment_intent=PI,
                refund_id="re_1",
                amount_minor=5_000,
                by_hand=True,
                cancel_if_full=True,
            ),
        ),
    )


def test_a_hotel_that_keeps_bookings_is_not_asked_to_cancel() -> None:
    (found,) = differences(booking(KEPT, cancels_if_full=False), at_stripe(refund("re_1", AMOUNT, by_hand=True)))

    ((_, command),) = found.commands
    assert isinstance(command, RecordRefund)
    assert not command.cancel_if_full


def test_each_of_several_refunds_is_a_command_and_the_rest_stays_due() -> None:
    refunds = (refund("re_1", 5_000, by_hand=True), refund("re_2", 4_000))
    row = replace(DUE_ROW, is_due=False)

    found = differences(booking(DUE, row=row), at_stripe(*refunds))

    assert [each.kind for each in found] == [Kind.UNKNOWN_REFUND, Kind.UNKNOWN_REFUND, Kind.IDLE_REFUND]
    amounts = [
        command.amount_minor for each in found for _, command in each.commands if isinstance(command, RecordRefund)
    ]
    assert amounts == [5_000, 4_000]
    assert "110.00 EUR of pi_1 are due to the guest" in found[2].description


def test_a_refund_of_ours_that_payments_is_working_on_is_no_difference_and_one_by_hand_is() -> None:
    assert kinds(booking(DUE, row=DUE_ROW), at_stripe(refund("re_1", AMOUNT))) == []
    by_hand = refund("re_1", 5_000, by_hand=True)
    assert kinds(booking(DUE, row=DUE_ROW), at_stripe(by_hand)) == [Kind.UNKNOWN_REFUND]


def test_a_refund_that_failed_after_its_event_is_failed_before_it_is_due_again() -> None:
    failed = refund("re_1", AMOUNT, "failed")
    row = RefundRow(status="succeeded", refund_id="re_1", amount_minor=AMOUNT, is_due=False)
    ours = booking(refunded(RefundMade("re_1", AMOUNT)), row=row)

    first, second = differences(ours, at_stripe(failed))

    assert (first.kind, second.kind) == (Kind.FAILED_REFUND, Kind.IDLE_REFUND)
    assert "counts as carried out by its events" in first.description
    ((id, command),) = first.commands
    assert id == command_id("re_1", "failed")
    assert isinstance(command, FailRefund)
    assert command.amount_minor == AMOUNT
    (correction,) = second.rows
    assert isinstance(correction, RefundCorrection)
    assert (correction.status, correction.amount_minor, correction.is_due) == ("creating", AMOUNT, True)


def test_a_refund_that_replaced_a_failed_one_is_recorded_after_the_failure() -> None:
    refunds = (refund("re_1", AMOUNT, "failed"), refund("re_2", AMOUNT))
    row = RefundRow(status="succeeded", refund_id="re_2", amount_minor=AMOUNT, is_due=False)
    ours = booking(refunded(RefundMade("re_1", AMOUNT)), row=row)

    assert kinds(ours, at_stripe(*refunds)) == [Kind.FAILED_REFUND, Kind.UNKNOWN_REFUND]


def test_refunds_of_0_1_0_are_known_by_their_sum() -> None:
    row = RefundRow(status="succeeded", refund_id="re_1", amount_minor=AMOUNT, is_due=False)
    ours = booking(refunded(RefundMade("", AMOUNT)), row=row)

    assert kinds(ours, at_stripe(refund("re_1", AMOUNT))) == []
    assert kinds(ours, at_stripe(refund("re_1", AMOUNT), refund("re_0", AMOUNT, "failed"))) == []
    assert kinds(ours, at_stripe(refund("re_1", AMOUNT, "failed"))) == [Kind.FAILED_REFUND, Kind.IDLE_REFUND]


def test_a_false_event_of_0_1_0_is_a_wrong_sum_with_its_amounts() -> None:
    row = RefundRow(status="succeeded", refund_id="re_1", amount_minor=AMOUNT, is_due=False)
    ours = booking(refunded(RefundMade("", AMOUNT)), row=row)

    (found,) = differences(ours, at_stripe(refund("re_1", 5_000, by_hand=True)))

    assert (found.kind, found.is_certain) == (Kind.WRONG_SUM, False)
    assert found.description == "CANCELLED: Stripe has 150.00 EUR of pi_1, and it should have 0.00 EUR"
    assert "refund 150.00 EUR of pi_1 at Stripe by hand" in found.correction


@pytest.mark.parametrize(
    ("outcome", "known", "transition"),
    [
        (None, (), "opened"),
        (DisputeResult.LOST, (), "lost"),
        (DisputeResult.LOST, (KnownDispute("du_1", AMOUNT, "open"),), "lost"),
        (DisputeResult.WON, (KnownDispute("du_1", AMOUNT, "open"),), "won"),
    ],
)
def test_a_dispute_or_its_end_without_an_event_is_a_command(
    outcome: DisputeResult | None, known: tuple[KnownDispute, ...], transition: str
) -> None:
    ours = booking(msgspec.structs.replace(KEPT, disputes=known))

    (found,) = differences(ours, at_stripe(dispute(outcome=outcome)))

    assert found.kind is Kind.UNKNOWN_DISPUTE
    ((id, command),) = found.commands
    assert id == command_id("du_1", transition)
    assert isinstance(command, RecordDispute)
    assert (command.result, command.reason, command.amount_minor) == (outcome, "fraudulent", AMOUNT)


@pytest.mark.parametrize("state", ["open", "won", "lost"])
def test_a_dispute_that_events_and_rows_have_is_no_difference(state: str) -> None:
    outcome = None if state == "open" else DisputeResult(state)
    known = msgspec.structs.replace(KEPT, disputes=(KnownDispute("du_1", AMOUNT, state),))
    rows = {"du_1": ObjectRow(payment_intent=PI, amount_minor=AMOUNT, status=state)}

    assert kinds(booking(known, dispute_rows=rows), at_stripe(dispute(outcome=outcome))) == []
    older = {"du_1": ObjectRow(payment_intent=PI, amount_minor=AMOUNT - 1, status=state)}
    assert kinds(booking(known, dispute_rows=older), at_stripe(dispute(outcome=outcome))) == [Kind.STALE_DISPUTE]
    assert kinds(booking(known), at_stripe(dispute(outcome=outcome))) == [Kind.STALE_DISPUTE]


def test_money_that_a_lost_dispute_took_is_not_due_any_more() -> None:
    ours = booking(DUE, row=replace(DUE_ROW, is_due=False))

    found = differences(ours, at_stripe(dispute(15_000, DisputeResult.LOST)))

    assert [each.kind for each in found] == [Kind.UNKNOWN_DISPUTE, Kind.IDLE_REFUND]
    assert "50.00 EUR of pi_1 are due to the guest" in found[1].description


@pytest.mark.parametrize("row", [None, replace(DUE_ROW, is_due=False), replace(DUE_ROW, status="failed", is_due=False)])
def test_money_that_is_due_and_that_nothing_sends_is_due_again(row: RefundRow | None) -> None:
    (found,) = differences(booking(DUE, row=row), at_stripe())

    assert found.kind is Kind.IDLE_REFUND
    (correction,) = found.rows
    assert isinstance(correction, RefundCorrection)
    assert (correction.was, correction.status, correction.is_due) == (row, "creating", True)


def test_a_refund_on_its_way_is_no_difference_and_its_rows_follow_it() -> None:
    pending = refund("re_1", AMOUNT, "pending")
    row = RefundRow(status="pending", refund_id="re_1", amount_minor=AMOUNT, is_due=False)

    assert kinds(booking(DUE, row=row, refund_rows=object_rows(pending)), at_stripe(pending)) == []
    (found,) = differences(booking(DUE), at_stripe(pending))
    assert found.kind is Kind.STALE_REFUND
    objects, refunds = found.rows
    assert isinstance(objects, RefundObjectCorrection)
    assert isinstance(refunds, RefundCorrection)
    assert (refunds.status, refunds.refund_id, refunds.is_due) == ("pending", "re_1", False)


def test_a_booking_that_refunds_by_hand_ended_needs_no_refund_of_ours() -> None:
    made = refund("re_1", AMOUNT, by_hand=True)
    ours = booking(refunded(RefundMade("re_1", AMOUNT, by_hand=True)), refund_rows=object_rows(made))

    assert kinds(ours, at_stripe(made)) == []


def test_a_refund_that_an_operator_closed_stays_at_stripe() -> None:
    closed = refunded(RefundMade("re_1", 5_000), closed_minor=15_000)
    made = refund("re_1", 5_000)
    row = RefundRow(status="closed", refund_id="re_1", amount_minor=AMOUNT, is_due=False)
    ours = booking(closed, row=row, refund_rows=object_rows(made))

    assert ours.due_of(closed) == 15_000
    assert kinds(ours, at_stripe(made)) == []


def test_money_that_stays_after_a_cancellation_without_a_refund_is_a_wrong_sum() -> None:
    ours = replace(booking(KEPT), status="CANCELLED")

    (found,) = differences(ours, at_stripe())

    assert found.kind is Kind.WRONG_SUM
    assert found.description == "CANCELLED: Stripe has 200.00 EUR of pi_1, and it should have 0.00 EUR"


def test_money_that_the_policy_keeps_after_a_cancellation_is_right() -> None:
    all_kept = replace(booking(KEPT), status="CANCELLED", policy_minor=AMOUNT)
    assert differences(all_kept, at_stripe()) == []

    part = msgspec.structs.replace(refunded(RefundMade("re_1", 15_000)), policy_minor=5_000, retained_minor=5_000)
    assert replace(booking(part), status="CANCELLED", policy_minor=5_000).due_of(part) == 5_000
    assert replace(booking(KEPT), status="NO_SHOW", policy_minor=5_000).due_of(KEPT) == 5_000
    assert replace(booking(KEPT), status="CHECKED_OUT").due_of(KEPT) == AMOUNT


def test_a_confirmed_booking_without_a_payment_is_a_wrong_sum() -> None:
    ours = replace(booking(KEPT), payments={})

    (found,) = differences(ours, AtStripe())

    assert found.kind is Kind.WRONG_SUM
    assert "it should have 200.00 EUR" in found.description


def test_a_payment_that_stripe_does_not_have_is_a_wrong_sum() -> None:
    (found,) = differences(booking(KEPT), AtStripe())

    assert found.kind is Kind.WRONG_SUM
    assert "Stripe has 0.00 EUR of pi_1, and it should have 200.00 EUR" in found.description


@pytest.mark.parametrize(
    ("payment", "due"),
    [
        (KEPT, AMOUNT),
        (msgspec.structs.replace(KEPT, refunds=(RefundMade("re_1", 5_000, by_hand=True),)), 15_000),
        (msgspec.structs.replace(KEPT, disputes=(KnownDispute("du_1", AMOUNT, "lost"),)), 0),
        (msgspec.structs.replace(KEPT, disputes=(KnownDispute("du_1", AMOUNT, "open"),)), AMOUNT),
        (DUE, 0),
        (refunded(RefundMade("", AMOUNT)), 0),
    ],
)
def test_a_payment_gives_the_amount_that_stripe_must_have_of_it_in_the_end(payment: Payment, due: int) -> None:
    assert booking(payment).due_of(payment) == due


# Changes of stays.


CHEAPER = msgspec.structs.replace(KEPT, due_minor=5_000)
CHEAPER_ROW = replace(DUE_ROW, amount_minor=5_000)


def test_the_difference_to_a_cheaper_stay_is_on_its_way_or_sent() -> None:
    sent = refund("re_1", 5_000)
    known = msgspec.structs.replace(KEPT, refunds=(RefundMade("re_1", 5_000),))
    done = replace(CHEAPER_ROW, status="succeeded", refund_id="re_1", is_due=False)

    assert kinds(booking(CHEAPER, row=CHEAPER_ROW), at_stripe()) == []
    assert kinds(booking(known, row=done, refund_rows=object_rows(sent)), at_stripe(sent)) == []
    pending = replace(sent, status="pending")
    on_its_way = replace(CHEAPER_ROW, status="pending", refund_id="re_1", is_due=False)
    assert kinds(booking(CHEAPER, row=on_its_way, refund_rows=object_rows(pending)), at_stripe(pending)) == []


def test_the_difference_to_a_cheaper_stay_that_nothing_sends_is_due_again() -> None:
    idle = replace(CHEAPER_ROW, status="closed", is_due=False)

    (found,) = differences(booking(CHEAPER, row=idle), at_stripe())

    (row,) = found.rows
    assert isinstance(row, RefundCorrection)
    assert (found.kind, row.status, row.amount_minor, row.is_due) == (Kind.IDLE_REFUND, "creating", 5_000, True)


def test_a_refund_of_a_cheaper_stay_that_failed_is_due_again_and_one_without_event_gets_it() -> None:
    known = msgspec.structs.replace(KEPT, refunds=(RefundMade("re_1", 5_000),))
    done = replace(CHEAPER_ROW, status="succeeded", refund_id="re_1", is_due=False)
    failed = refund("re_1", 5_000, "failed")
    assert kinds(booking(known, row=done, refund_rows=object_rows(refund("re_1", 5_000))), at_stripe(failed)) == [
        Kind.FAILED_REFUND,
        Kind.IDLE_REFUND,
    ]

    waiting = replace(CHEAPER_ROW, status="pending", refund_id="re_1", is_due=False)
    (found, stale) = differences(booking(CHEAPER, row=waiting), at_stripe(refund("re_1", 5_000)))
    ((_, command),) = found.commands
    assert isinstance(command, RecordRefund)
    assert (found.kind, command.by_hand, command.amount_minor) == (Kind.UNKNOWN_REFUND, False, 5_000)
    assert stale.kind is Kind.STALE_REFUND


def test_a_second_payment_that_pays_a_dearer_stay_is_expected_at_stripe() -> None:
    extra = Payment("pi_2", "cs_2", 7_000, PaymentState.KEPT)
    paid = replace(booking(KEPT), amount_minor=27_000, attempt=2, session_id="cs_2")
    stripe, second = at_stripe(), replace(SESSION_ROW, session_id="cs_2", payment_intent="pi_2")
    stripe.sessions.append(replace(stripe.sessions[0], id="cs_2", attempt=2, amount_minor=7_000, payment="pi_2"))
    ours = replace(paid, payments={PI: KEPT, "pi_2": extra}, sessions={1: SESSION_ROW, 2: second})

    assert kinds(ours, stripe) == []
    assert kinds(ours, at_stripe()) == [Kind.WRONG_SUM]
    # The oldest payment is kept as a whole by the policy, and nothing of the other one.
    back = msgspec.structs.replace(extra, state=PaymentState.REFUND_REQUESTED, due_minor=7_000)
    row = replace(DUE_ROW, amount_minor=7_000)
    ended = replace(ours, status="CANCELLED", policy_minor=AMOUNT, payments={PI: KEPT, "pi_2": back})
    assert kinds(replace(ended, refunds={"pi_2": row}), stripe) == []


def test_the_session_of_a_change_is_open_while_the_change_waits_for_its_payment() -> None:
    stripe = at_stripe()
    url, row = "https://checkout", replace(SESSION_ROW, status="open", session_id="cs_2", payment_intent=None)
    stripe.sessions.append(
        replace(stripe.sessions[0], id="cs_2", attempt=2, status="open", paid=False, payment="", url=url)
    )
    waiting = replace(
        booking(KEPT, awaits_change=True),
        attempt=2,
        session_id="cs_2",
        sessions={1: SESSION_ROW, 2: replace(row, url=url)},
    )

    assert kinds(waiting, stripe) == []
    (found,) = differences(replace(waiting, awaits_change=False), stripe)
    (closing,) = found.rows
    assert (found.kind, getattr(closing, "status", None)) == (Kind.STALE_SESSION, "closing")
