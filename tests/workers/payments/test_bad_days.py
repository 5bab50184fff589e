"""Stripe is slow, down, flapping, refuses for a while, loses answers: a part goes back once, and a change is paid once.

`test_caller` and `test_outage` look at each call alone.
"""

from typing import Any
from uuid import uuid4

import pytest

from tests.workers.payments.desk import Desk, change_ended, payment_requested, refund_requested
from topics.messages.commands import RecordRefund, RecordSession
from workers.payments import caller, gateway, steps

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

CALLS = (
    "POST /v1/checkout/sessions",
    "POST /v1/checkout/sessions/*/expire",
    "POST /v1/refunds",
    "GET /v1/refunds",
)
DAYS: dict[str, list[dict[str, Any]]] = {
    "slow": [{"fault": "hang", "times": 1}],
    "down": [{"fault": "reset", "times": 3}],
    "flapping": [
        {"fault": "reset", "times": 1},
        {"fault": "status", "status": 500, "saved": False, "times": 1},
        {"fault": "answer_lost", "times": 1},
        {"fault": "status", "status": 503, "saved": False, "times": 1},
    ],
    "too many requests": [{"fault": "status", "status": 429, "times": 3}],
    "answers are lost": [{"fault": "answer_lost", "times": 3}],
}


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests wait for a poll, an answer or a pause only for a moment."""
    monkeypatch.setattr(caller, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(caller, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(steps, "MAX_RETRY_DELAY_SECONDS", 0.3)
    monkeypatch.setattr(gateway, "TIMEOUT_SECONDS", 1.0)


@pytest.mark.parametrize("faults", DAYS.values(), ids=DAYS.keys())
async def test_a_part_goes_back_once_and_a_change_is_paid_once(desk: Desk, faults: list[dict[str, Any]]) -> None:
    # The circuit stays closed: `test_outage` looks at it.
    desk.settings = desk.settings.model_copy(update={"stripe_circuit_failures": 1_000})
    changing, ended = uuid4(), uuid4()
    cancelled, payment = await desk.paid_booking()
    for booking_id in (changing, ended):
        await desk.add_to_ledger(booking_id)
        await desk.hold_change(booking_id, 2)
    async with desk.caller():
        await desk.read_events(payment_requested(ended, 2, 8_000))
        await desk.until_session("open", ended)
    # Each fault is met by each kind of call.
    await desk.plan(*({"match": call, **fault} for fault in faults for call in CALLS))

    await desk.hold_change(ended, None)
    # The policy keeps 90.00 of the payment.
    await desk.read_events(
        payment_requested(changing, 2, 8_000), change_ended(ended), refund_requested(cancelled, payment, 15_000)
    )
    async with desk.caller():
        opened = await desk.until_session("open", changing)
        await desk.until_session("expired", ended)
        await desk.until_refund("succeeded", cancelled)

    sessions = {session["id"]: session for session in await desk.at_stripe("checkout/sessions")}
    named = [session for session in sessions.values() if session["client_reference_id"] == str(changing)]
    assert [(session["id"], session["amount_total"]) for session in named] == [(opened["session_id"], 8_000)]
    assert {session["status"] for session in sessions.values()} == {"open", "expired", "complete"}
    assert await desk.left_stripe(payment) == 15_000
    assert [refund["amount"] for refund in await desk.at_stripe("refunds")] == [15_000]
    assert len(await desk.sent(RecordRefund)) == 1
    assert len(await desk.sent(RecordSession)) == 2
