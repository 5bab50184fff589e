"""Refunds by the caller against the stand-in: the sum that leaves equals the target, and nothing due is given up."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from storage import payments
from telemetry import metrics
from tests.support.waiting import wait_until
from tests.workers.payments.desk import ROOM, Desk, payment_requested, refund_failed, refund_requested
from topics.messages.commands import FailRefund, RecordDispute, RecordRefund
from topics.messages.releases import Release
from workers.decisions import Payment, PaymentState, RefundMade
from workers.payments import caller, refunding, steps

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REFUND = "POST /v1/refunds"
SERVER_ERROR = '{"error": {"type": "api_error", "message": "An unknown error occurred."}}'


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests wait for a poll or a pause only for a moment; refusals keep their pauses."""
    monkeypatch.setattr(caller, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(caller, "MEASURE_SECONDS", 0.1)
    monkeypatch.setattr(caller, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(steps, "MAX_RETRY_DELAY_SECONDS", 0.3)


async def until_postponed(desk: Desk, booking_id: UUID, failures: int = 1) -> dict[str, Any]:
    """Wait until the refund was tried so often without success; return its row."""

    async def tried() -> dict[str, Any]:
        (row,) = await desk.refunds(booking_id)
        assert row["failures"] == failures
        assert row["next_attempt_at"] is not None
        return row

    return await wait_until(tried)


def amounts(refunds: Sequence[dict[str, Any]]) -> list[int]:
    return [refund["amount"] for refund in refunds]


async def recorded(desk: Desk) -> dict[str, tuple[int, bool]]:
    """Return amount and kind of each refund that the room got a command about."""
    commands = (await desk.sent(RecordRefund)).values()
    return {each.refund_id: (each.amount_minor, each.by_hand) for each in commands if isinstance(each, RecordRefund)}


async def test_after_a_part_was_refunded_by_hand_the_rest_goes_back(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    by_hand = await desk.refund_by_hand(payment, 5_000)
    await desk.read_events(refund_requested(booking_id, payment))

    async with desk.caller():
        row = await desk.until_refund("succeeded", booking_id)

    assert amounts(await desk.at_stripe("refunds")) == [5_000, 19_000]
    assert await desk.left_stripe(payment) == 24_000
    # Its webhook was lost; the list of the payment's refunds has it all the same.
    assert await recorded(desk) == {by_hand: (5_000, True), row["refund_id"]: (19_000, False)}


async def test_a_part_that_the_ledger_knew_before_is_not_counted_twice(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    await desk.refund_by_hand(payment, 5_000)
    await desk.webhooks(*await desk.events())
    await desk.read_events(refund_requested(booking_id, payment, 19_000, total_minor=24_000))

    async with desk.caller():
        await desk.until_refund("succeeded", booking_id)

    assert await desk.left_stripe(payment) == 24_000


async def test_a_part_by_hand_between_two_calls_is_taken_off(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    await desk.at_bank("balance", {"available_minor": 0})
    await desk.read_events(refund_requested(booking_id, payment, 20_000))
    async with desk.caller():
        await until_postponed(desk, booking_id)
    await desk.at_bank("balance", {"available_minor": None})
    await desk.refund_by_hand(payment, 5_000)
    await desk.refunds_are_due_now()

    async with desk.caller():
        await desk.until_refund("succeeded", booking_id)

    assert amounts(await desk.at_stripe("refunds")) == [5_000, 15_000]
    assert await desk.left_stripe(payment) == 20_000


async def test_all_by_hand_before_our_call_leaves_nothing_to_be_made(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    by_hand = await desk.refund_by_hand(payment, 24_000)
    await desk.read_events(refund_requested(booking_id, payment))

    async with desk.caller():
        await desk.until_refund("succeeded", booking_id)

    assert len(await desk.at_stripe("refunds")) == 1
    assert await recorded(desk) == {by_hand: (24_000, True)}


async def test_a_part_by_hand_after_our_part_is_recorded_and_refunds_nothing_more(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    await desk.read_events(refund_requested(booking_id, payment, 10_000))
    async with desk.caller():
        await desk.until_refund("succeeded", booking_id)
        await desk.refund_by_hand(payment, 3_000)
        commands = await desk.webhooks(*await desk.events())
        row = await desk.until_refund("succeeded", booking_id)

    hand = [each for _, each in commands if isinstance(each, RecordRefund) and each.by_hand]
    assert [each.amount_minor for each in hand] == [3_000] * len(hand)
    assert len(hand) > 0
    assert row["amount_minor"] == 10_000
    assert await desk.left_stripe(payment) == 13_000


async def test_a_target_that_grows_is_reached_by_a_second_refund(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    async with desk.caller():
        await desk.read_events(refund_requested(booking_id, payment, 10_000))
        await desk.until_refund("succeeded", booking_id)
        await desk.read_events(refund_requested(booking_id, payment, 14_000, total_minor=24_000))
        await wait_until(lambda: _left(desk, payment, 24_000))
        await desk.until_refund("succeeded", booking_id)

    assert amounts(await desk.at_stripe("refunds")) == [10_000, 14_000]
    assert sorted((await recorded(desk)).values()) == [(10_000, False), (14_000, False)]


async def _left(desk: Desk, payment: str, amount_minor: int) -> bool:
    return await desk.left_stripe(payment) == amount_minor


async def test_a_refund_without_money_in_the_account_is_tried_again_and_made_when_there_is_some(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    booking_id, payment = await desk.paid_booking()
    await desk.at_bank("balance", {"available_minor": 0})
    await desk.read_events(refund_requested(booking_id, payment))
    async with desk.caller():
        first = await until_postponed(desk, booking_id)
        await desk.refunds_are_due_now()
        second = await until_postponed(desk, booking_id, failures=2)
        await desk.at_bank("balance", {"available_minor": None})
        await desk.refunds_are_due_now()
        row = await desk.until_refund("succeeded", booking_id)

    assert "Insufficient funds" in first["last_error"]
    assert 45 < (first["next_attempt_at"] - first["updated_at"]).total_seconds() <= 60
    assert 90 < (second["next_attempt_at"] - second["updated_at"]).total_seconds() <= 120
    # Stripe would repeat its refusal to the old key for a day.
    assert first["idempotency_key"] != row["idempotency_key"]
    assert "NOT refunded" in caplog.text
    assert await desk.left_stripe(payment) == 24_000
    assert row["failures"] == 0


async def test_a_target_above_the_payment_is_never_final_either(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    await desk.read_events(refund_requested(booking_id, payment, 99_999))

    async with desk.caller():
        row = await until_postponed(desk, booking_id)

    assert row["status"] == "creating"
    assert "amount_too_large" in row["last_error"]
    assert await desk.left_stripe(payment) == 0


async def test_a_disputed_payment_is_refunded_when_the_dispute_is_won(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    dispute = await desk.at_bank(f"payment_intents/{payment}/dispute")
    await desk.read_events(refund_requested(booking_id, payment))
    async with desk.caller():
        refused = await until_postponed(desk, booking_id)
        await desk.at_bank(f"disputes/{dispute['id']}/close", {"outcome": "won"})
        await desk.webhooks(*await desk.events())
        await desk.until_refund("succeeded", booking_id)

    assert "charge_disputed" in refused["last_error"]
    assert await desk.left_stripe(payment) == 24_000


@pytest.mark.parametrize("amount_minor", [24_000, 15_000])
async def test_money_that_a_lost_dispute_took_is_not_refunded_again(desk: Desk, amount_minor: int) -> None:
    booking_id, payment = await desk.paid_booking()
    dispute = await desk.at_bank(f"payment_intents/{payment}/dispute", {"amount_minor": amount_minor})
    await desk.read_events(refund_requested(booking_id, payment))
    async with desk.caller():
        await until_postponed(desk, booking_id)
        await desk.at_bank(f"disputes/{dispute['id']}/close", {"outcome": "lost"})
        commands = await desk.webhooks(*await desk.events())
        await desk.refunds_are_due_now()
        row = await desk.until_refund("closed", booking_id)

    ended = [each for _, each in commands if isinstance(each, RecordDispute) and each.result is not None]
    assert {each.amount_minor for each in ended} == {amount_minor}
    assert await desk.left_stripe(payment) == 24_000 - amount_minor
    assert row["next_attempt_at"] is None


async def test_a_refund_that_fails_later_is_made_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refunding, "MIN_REFUSED_DELAY_SECONDS", 0.1)
    booking_id, payment = await desk.paid_booking()
    await desk.plan({"match": REFUND, "fault": "refund_fails_later", "seconds": 60, "times": 1})
    await desk.read_events(refund_requested(booking_id, payment))
    async with desk.caller():
        first = (await desk.until_refund("succeeded", booking_id))["refund_id"]
        desk.stand_in.clock.advance(61)
        commands = await desk.webhooks(*await desk.events())
        await wait_until(lambda: _made(desk, 2))
        row = await desk.until_refund("succeeded", booking_id)

    failed = {envelope.id: each for envelope, each in commands if isinstance(each, FailRefund)}
    assert list(failed.values()) == [
        FailRefund(
            room_id=ROOM,
            booking_id=booking_id,
            payment_intent=payment,
            refund_id=first,
            amount_minor=24_000,
            failure="expired_or_canceled_card",
        )
    ]
    assert row["refund_id"] != first
    assert await desk.left_stripe(payment) == 24_000
    # The list has the failed one, too; its command is the same as the webhook's.
    assert set(await desk.sent(FailRefund)) == set(failed)


async def _made(desk: Desk, count: int) -> bool:
    return len(await desk.at_stripe("refunds")) == count


async def test_the_part_that_the_policy_keeps_stays_at_stripe_also_when_the_refund_fails(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 240.00 the policy keeps 50.00. The refund of 190.00 fails later, and is made again."""
    monkeypatch.setattr(refunding, "MIN_REFUSED_DELAY_SECONDS", 0.1)
    booking_id, payment = await desk.paid_booking()
    await desk.plan({"match": REFUND, "fault": "refund_fails_later", "seconds": 60, "times": 1})
    request = msgspec.structs.replace(refund_requested(booking_id, payment, 19_000), retained_minor=5_000)
    await desk.read_events(request)
    async with desk.caller():
        first = (await desk.until_refund("succeeded", booking_id))["refund_id"]
        assert await desk.left_stripe(payment) == 19_000
        desk.stand_in.clock.advance(61)
        await desk.webhooks(*await desk.events())
        await wait_until(lambda: _made(desk, 2))
        row = await desk.until_refund("succeeded", booking_id)

    assert row["refund_id"] != first
    assert amounts(await desk.at_stripe("refunds")) == [19_000, 19_000]
    assert await desk.left_stripe(payment) == 19_000
    (status,) = {each["status"] for each in await desk.refunds(booking_id)}
    assert status == "succeeded"


async def test_a_failure_whose_webhook_was_lost_is_found_in_the_list(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    await desk.read_events(refund_requested(booking_id, payment, 10_000))
    async with desk.caller():
        first = (await desk.until_refund("succeeded", booking_id))["refund_id"]
        await desk.at_bank(f"refunds/{first}/fail")
        await desk.read_events(refund_requested(booking_id, payment, 14_000, total_minor=24_000))
        await wait_until(lambda: _left(desk, payment, 24_000))

    assert amounts(await desk.at_stripe("refunds")) == [10_000, 24_000]
    assert [each.refund_id for each in (await desk.sent(FailRefund)).values() if isinstance(each, FailRefund)] == [
        first
    ]


def _payment(payment: str, *refunds: RefundMade, **fields: Any) -> Payment:
    """Return a payment of 240.00 that pays a stay."""
    return Payment(payment, "cs_1", 24_000, PaymentState.KEPT, refunds=refunds, **fields)


async def test_commands_about_what_the_ledger_knows_are_not_sent_again(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    by_hand = await desk.refund_by_hand(payment, 5_000)
    await desk.add_to_ledger(booking_id, _payment(payment, RefundMade(by_hand, 5_000, by_hand=True), due_minor=19_000))
    await desk.read_events(refund_requested(booking_id, payment, 19_000, total_minor=24_000))

    async with desk.caller():
        row = await desk.until_refund("succeeded", booking_id)

    assert await recorded(desk) == {row["refund_id"]: (19_000, False)}


async def test_a_rest_that_an_operator_closed_is_not_sent(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    await desk.add_to_ledger(booking_id, _payment(payment, closed_minor=20_000, due_minor=4_000))
    await desk.read_events(refund_requested(booking_id, payment))

    async with desk.caller():
        await desk.until_refund("closed", booking_id)

    assert await desk.left_stripe(payment) == 4_000


async def test_a_refund_of_ours_that_fails_is_due_in_full_beside_one_by_hand(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 240.00, 100.00 go back for a cheaper stay and 50.00 by hand; then the 100.00 fail."""
    monkeypatch.setattr(refunding, "MIN_REFUSED_DELAY_SECONDS", 0.1)
    booking_id, payment = await desk.paid_booking()
    await desk.add_to_ledger(booking_id, _payment(payment, due_minor=10_000))
    await desk.read_events(refund_requested(booking_id, payment, 10_000))
    async with desk.caller():
        ours = RefundMade((await desk.until_refund("succeeded", booking_id))["refund_id"], 10_000)
        by_hand = RefundMade(await desk.refund_by_hand(payment, 5_000), 5_000, by_hand=True)
        await desk.add_to_ledger(booking_id, _payment(payment, ours, by_hand))
        await desk.at_bank(f"refunds/{ours.refund_id}/fail")
        await desk.webhooks(*await desk.events())
        (row,) = await desk.refunds(booking_id)
        assert (row["status"], row["next_attempt_at"]) == ("succeeded", None), "the room has not recorded the failure"
        failed = _payment(payment, by_hand, due_minor=10_000, failed_refund_ids=(ours.refund_id,))
        await desk.add_to_ledger(booking_id, failed)
        await desk.read_events(refund_failed(booking_id, payment, ours))
        await desk.until_refund("succeeded", booking_id)

    assert await desk.left_stripe(payment) == 15_000


async def test_a_refund_by_hand_that_fails_lowers_the_target(desk: Desk) -> None:
    """Of 240.00, 50.00 go back by hand and 80.00 for a cheaper stay; then the 50.00 fail."""
    booking_id, payment = await desk.paid_booking()
    by_hand = RefundMade(await desk.refund_by_hand(payment, 5_000), 5_000, by_hand=True)
    await desk.add_to_ledger(booking_id, _payment(payment, by_hand, due_minor=8_000))
    await desk.read_events(refund_requested(booking_id, payment, 8_000, total_minor=13_000))
    async with desk.caller():
        ours = RefundMade((await desk.until_refund("succeeded", booking_id))["refund_id"], 8_000)
        await desk.add_to_ledger(booking_id, _payment(payment, by_hand, ours))
        await desk.at_bank(f"refunds/{by_hand.refund_id}/fail")
        await desk.webhooks(*await desk.events())
        (before,) = await desk.refunds(booking_id)
        await desk.add_to_ledger(booking_id, _payment(payment, ours, failed_refund_ids=(by_hand.refund_id,)))
        await desk.read_events(refund_failed(booking_id, payment, by_hand))
        (after,) = await desk.refunds(booking_id)

    assert [(row["status"], row["amount_minor"], row["next_attempt_at"]) for row in (before, after)] == [
        ("succeeded", 13_000, None),
        ("succeeded", 8_000, None),
    ]
    assert await desk.left_stripe(payment) == 8_000


async def test_a_server_error_after_the_refund_was_made_does_not_make_it_twice(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    await desk.read_events(refund_requested(booking_id, payment, 10_000))
    await desk.plan({"match": REFUND, "fault": "answer_lost", "times": None})
    async with desk.caller():
        await wait_until(lambda: _made(desk, 1))
        desk.stand_in.till.books._db.execute("update idempotency set status = 500, body = ?", (SERVER_ERROR,))
        await desk.end_of_faults()
        await desk.until_refund("succeeded", booking_id)

    assert await desk.left_stripe(payment) == 10_000


async def test_two_callers_that_work_on_one_row_make_one_refund(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    await desk.plan({"match": REFUND, "fault": "latency", "seconds": 0.5, "times": None})
    await desk.read_events(refund_requested(booking_id, payment, 10_000))
    async with desk.caller(2):
        for _ in range(5):
            # Leases run out while the first caller waits for Stripe.
            await desk.refunds_are_due_now()
            await asyncio.wait_for(wait_until(lambda: _fixed(desk, booking_id)), 30)
        await desk.until_refund("succeeded", booking_id)

    assert amounts(await desk.at_stripe("refunds")) == [10_000]
    assert await desk.left_stripe(payment) == 10_000


async def _fixed(desk: Desk, booking_id: UUID) -> bool:
    (row,) = await desk.refunds(booking_id)
    return str(row["idempotency_key"]) != f"{row['payment_intent']}:refund"


async def test_refunds_that_0_1_0_gave_up_are_due_again_in_a_day(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    booking_id, payment = await desk.paid_booking()
    await desk.refund_by_hand(payment, 5_000)
    await desk.read_events(refund_requested(booking_id, payment))
    await desk.connection.execute("update refund set status = 'failed', next_attempt_at = null, failures = 1")

    async with desk.caller():
        await wait_until(lambda: _reopened(desk, booking_id))
        (reopened,) = await desk.refunds(booking_id)
        await desk.refunds_are_due_now()
        await desk.until_refund("succeeded", booking_id)

    assert (reopened["next_attempt_at"] - reopened["updated_at"]).total_seconds() == 24 * 3600
    assert "1 refunds that 0.1.0 had given up are due again in 24 hours" in caplog.text
    assert await desk.left_stripe(payment) == 24_000


async def test_refunds_that_0_1_0_gave_up_stay_so_while_it_may_run(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    other, other_payment = await desk.paid_booking()
    desk.log.settings = desk.log.settings.model_copy(update={"log_readable_by": Release.V0_1_0})
    await desk.read_events(refund_requested(booking_id, payment))
    # The worker of 0.1.0 died before it cleared the time.
    await desk.connection.execute("update refund set status = 'failed', next_attempt_at = now()")
    await desk.read_events(refund_requested(other, other_payment))

    metrics.REFUNDS.clear()
    async with desk.caller():
        await desk.until_refund("succeeded", other)
        await wait_until(lambda: _measured(1.0))

    assert [row["status"] for row in await desk.refunds(booking_id)] == ["failed"]
    assert await desk.left_stripe(payment) == 0


async def test_calls_without_an_answer_are_no_refusals(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    await desk.plan({"match": REFUND, "fault": "status", "status": 503, "times": 18})
    await desk.at_bank("balance", {"available_minor": 0})
    await desk.read_events(refund_requested(booking_id, payment))

    async with desk.caller():
        row = await wait_until(lambda: _refused(desk, booking_id))

    assert (row["refusals"], row["failures"] > 5) == (1, True)
    assert 45 < (row["next_attempt_at"] - row["updated_at"]).total_seconds() <= 60


async def _refused(desk: Desk, booking_id: UUID) -> dict[str, Any]:
    (row,) = await desk.refunds(booking_id)
    assert row["refusals"] > 0
    return row


async def test_a_refund_whose_end_nobody_reported_is_looked_at_again(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    await desk.plan({"match": REFUND, "fault": "refund_pends", "seconds": 600})
    await desk.read_events(refund_requested(booking_id, payment))
    async with desk.caller():
        await desk.until_refund("pending", booking_id)
    desk.stand_in.clock.advance(601)
    await desk.connection.execute("update refund set updated_at = now() - interval '12 hours'")

    async with desk.caller():
        row = await desk.until_refund("succeeded", booking_id)

    assert await recorded(desk) == {row["refund_id"]: (24_000, False)}
    assert len(await desk.at_stripe("refunds")) == 1


async def test_a_refund_by_hand_and_a_dispute_before_the_payment_is_known_are_recorded_once_it_is(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    await desk.read_events(payment_requested(booking_id))
    by_hand = await desk.refund_by_hand(payment, 5_000)
    dispute = await desk.at_bank(f"payment_intents/{payment}/dispute", {"amount_minor": 1_000})
    await desk.webhooks(*[event for event in await desk.events() if b"checkout.session" not in event])
    assert await desk.refund_objects(booking_id) == await desk.disputes(booking_id) == []

    async with desk.caller():
        await desk.webhooks(*[event for event in await desk.events() if b'"checkout.session.completed"' in event])
        await wait_until(lambda: _nothing_is_kept(desk))

    assert await recorded(desk) == {by_hand: (5_000, True)}
    assert [
        each.dispute_id for each in (await desk.sent(RecordDispute)).values() if isinstance(each, RecordDispute)
    ] == [dispute["id"]]
    assert [row["refund_id"] for row in await desk.refund_objects(booking_id)] == [by_hand]
    assert [row["dispute_id"] for row in await desk.disputes(booking_id)] == [dispute["id"]]


async def _nothing_is_kept(desk: Desk) -> bool:
    return await desk.kept() == 0


async def test_objects_of_other_systems_are_kept_for_a_week_and_only_so_many(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payments, "MAX_UNATTRIBUTED", 3)
    marked = {"id": "re_9", "payment_intent": "pi_9", "metadata": {"mark": "0" * 32}, "amount": 1, "currency": "eur"}
    await desk.webhooks(refund_event(marked))
    assert await desk.kept() == 0
    for each in range(4):
        await desk.webhooks(refund_event(marked | {"id": f"re_{each}", "metadata": {"order": "17"}}))
    assert await desk.kept() == 3

    await desk.connection.execute("update unattributed_object set created_at = now() - interval '7 days'")
    async with desk.caller():
        await wait_until(lambda: _nothing_is_kept(desk))


def refund_event(refund: dict[str, Any]) -> bytes:
    event = {"id": "evt_1", "type": "refund.created", "livemode": False, "data": {"object": refund}}
    return json.dumps(event).encode()


async def test_a_rest_that_is_a_fraction_of_stripes_unit_is_refused_and_not_given_up(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    await desk.read_events(refund_requested(booking_id, payment, 1_234))
    await desk.connection.execute("update refund set currency = 'MGA'")

    async with desk.caller():
        row = await wait_until(lambda: _refused(desk, booking_id))

    assert row["status"] == "creating"
    assert row["last_error"].startswith("amount_not_sendable 1234 minor units")


async def _reopened(desk: Desk, booking_id: UUID) -> bool:
    return [row["status"] for row in await desk.refunds(booking_id)] == ["creating"]


async def test_sessions_that_0_1_0_completed_get_their_payments(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.connection.execute(
        "insert into checkout_session (booking_id, attempt, room_id, status, params, idempotency_key, session_id,"
        " expires_at, causation, correlation) values (%s, 1, 7, 'complete', '{}', 'k', 'cs_1', now(), 'x', 'x')",
        (booking_id,),
    )
    await desk.add_to_ledger(booking_id, _payment("pi_7"))

    async with desk.caller():
        await wait_until(lambda: _noted(desk, booking_id))


async def _noted(desk: Desk, booking_id: UUID) -> bool:
    return [row["payment_intent"] for row in await desk.sessions(booking_id)] == ["pi_7"]


async def test_0_1_0_gets_no_command_about_a_refund_by_hand(desk: Desk) -> None:
    booking_id, payment = await desk.paid_booking()
    await desk.refund_by_hand(payment, 5_000)
    desk.log.settings = desk.log.settings.model_copy(update={"log_readable_by": Release.V0_1_0})
    await desk.read_events(refund_requested(booking_id, payment))

    async with desk.caller():
        row = await desk.until_refund("succeeded", booking_id)

    assert await recorded(desk) == {row["refund_id"]: (19_000, False)}


async def test_the_figures_of_refunds_and_disputes_are_exported(desk: Desk) -> None:
    due, pending, failing = uuid4(), uuid4(), uuid4()
    await desk.read_events(*(refund_requested(each, f"pi_{each}") for each in (due, pending, failing)))
    await desk.connection.execute(
        "update refund set next_attempt_at = now() + interval '1 hour',"
        " created_at = now() - case when booking_id = %s then interval '2 hours' else interval '1 hour' end,"
        " status = case when booking_id = %s then 'pending' else 'creating' end,"
        " failures = 9, refusals = case when booking_id = %s then 5 else 4 end",
        (failing, pending, failing),
    )
    await desk.connection.execute(
        "insert into payment_refund (refund_id, payment_intent, booking_id, amount_minor, currency, status, created_at)"
        " values ('re_1', 'pi_1', %(id)s, 1, 'EUR', 'pending', now() - interval '3 hours'),"
        " ('re_2', 'pi_1', %(id)s, 1, 'EUR', 'succeeded', now() - interval '9 hours')",
        {"id": pending},
    )
    await desk.connection.execute(
        "insert into payment_dispute (dispute_id, payment_intent, booking_id, amount_minor, currency, status, reason)"
        " values ('du_1', 'pi_1', %s, 1, 'EUR', 'open', 'x'), ('du_2', 'pi_1', %s, 1, 'EUR', 'lost', 'x')",
        (due, due),
    )

    async with desk.caller():
        await wait_until(lambda: _measured(2.0))

    assert metrics.REFUNDS.values() == {("due",): 2, ("pending",): 1}
    assert metrics.REFUNDS_FAILING.values() == {(): 1}
    assert metrics.DISPUTES_OPEN.values() == {(): 1}
    assert 7200 <= metrics.OLDEST_REFUND_DUE_SECONDS.values()[()] < 7260
    assert 10_800 <= metrics.OLDEST_REFUND_PENDING_SECONDS.values()[()] < 10_860


async def _measured(due: float) -> bool:
    return metrics.REFUNDS.values().get(("due",)) == due
