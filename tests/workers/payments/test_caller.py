"""The caller on a real database and log, against the stand-in: a pending call takes effect once, despite failures."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from pydantic import SecretStr

from storage.database import connect_worker
from storage.payment_statements import PaymentStatements
from storage.pool import WorkerPool
from storage.settings import DatabaseSettings
from tests.support.waiting import MAX_WAIT_SECONDS, wait_until
from tests.workers.payments.desk import ROOM, Desk, payment_requested, refund_requested
from topics.messages.commands import ConfirmPayment, DeclinePayment, RecordRefund, RecordSession
from topics.messages.events import BookingCancelled, BookingExpired
from topics.messages.values import CancelReason
from workers.payments import caller, gateway, steps
from workers.payments.gateway import open_gateway
from workers.stripe.marks import Marks

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
"""Stripe's library hands its form to httpx in a way that httpx no longer likes."""

CREATE = "POST /v1/checkout/sessions"
EXPIRE = "POST /v1/checkout/sessions/*/expire"
REFUND = "POST /v1/refunds"
SERVER_ERROR = '{"error": {"type": "api_error", "message": "An unknown error occurred."}}'


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests wait for a poll, a lease or a pause only for a moment."""
    monkeypatch.setattr(caller, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(caller, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(steps, "MAX_RETRY_DELAY_SECONDS", 0.3)


def expired(booking_id: UUID) -> BookingExpired:
    return BookingExpired(room_id=ROOM, booking_id=booking_id)


async def test_a_guest_who_wants_to_pay_gets_a_payment_page(desk: Desk) -> None:
    booking_id = uuid4()
    async with desk.caller() as caller:
        await desk.read_events(payment_requested(booking_id))
        caller.wake()
        row = await desk.until_session("open", booking_id)

    (session,) = await desk.at_stripe("checkout/sessions")
    ((envelope, command),) = await desk.commands()
    assert (row["session_id"], row["url"], row["failures"]) == (session["id"], session["url"], 0)
    assert session["amount_total"] == 24_000
    assert session["metadata"] == desk.metadata(booking_id, 1)
    assert command == RecordSession(room_id=ROOM, booking_id=booking_id, attempt=1, session_id=session["id"])
    assert (envelope.causation, envelope.correlation) == (row["causation"], f"request of {booking_id}")


async def test_two_callers_open_one_session_for_each_of_thirty_guests(desk: Desk) -> None:
    bookings = [uuid4() for _ in range(30)]
    await desk.read_events(*(payment_requested(booking_id) for booking_id in bookings))

    async with desk.caller(2):
        for booking_id in bookings:
            await desk.until_session("open", booking_id)

    sessions = await desk.at_stripe("checkout/sessions")
    assert sorted(session["client_reference_id"] for session in sessions) == sorted(map(str, bookings))
    assert len(await desk.sent(RecordSession)) == 30


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "answer_lost", "times": 4},
        {"fault": "reset", "times": 2},
        {"fault": "status", "status": 500, "times": 1},
        {"fault": "status", "status": 503, "saved": False, "times": 2},
        {"fault": "status", "status": 429, "times": 2},
        {"fault": "status", "status": 401, "saved": False, "times": 1},
    ],
    ids=lambda fault: f"{fault['fault']}-{fault.get('status', '')}",
)
async def test_a_fault_leads_to_one_session_all_the_same(desk: Desk, fault: Mapping[str, Any]) -> None:
    booking_id = uuid4()
    await desk.plan({"match": CREATE, **fault})
    await desk.read_events(payment_requested(booking_id))

    async with desk.caller():
        row = await desk.until_session("open", booking_id)

    (session,) = await desk.at_stripe("checkout/sessions")
    assert session["id"] == row["session_id"]
    assert list((await desk.sent(RecordSession)).values()) == [
        RecordSession(room_id=ROOM, booking_id=booking_id, attempt=1, session_id=session["id"])
    ]


async def test_a_server_error_after_the_work_was_done_adopts_the_session(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))
    await desk.plan({"match": CREATE, "fault": "answer_lost", "times": None})
    async with desk.caller():
        await wait_until(lambda: desk.at_stripe("checkout/sessions"))
        # From now on Stripe answers this key with an error, as if the first try had ended in one.
        desk.stand_in.till.books._db.execute("update idempotency set status = 500, body = ?", (SERVER_ERROR,))
        await desk.end_of_faults()
        row = await desk.until_session("open", booking_id)

    (session,) = await desk.at_stripe("checkout/sessions")
    assert session["id"] == row["session_id"]


async def test_a_slow_booking_does_not_hold_up_its_neighbours(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    # It is slow for longer than a slow machine needs for the others.
    monkeypatch.setattr(gateway, "TIMEOUT_SECONDS", 600.0)
    monkeypatch.setattr(steps, "WORK_SECONDS", 600.0)
    for module in (steps, caller):
        monkeypatch.setattr(module, "LEASE_SECONDS", 605.0)
    slow, *others = [uuid4() for _ in range(6)]
    await desk.plan({"match": CREATE, "fault": "hang", "times": 1})
    async with desk.caller() as woken:
        await desk.read_events(payment_requested(slow))
        woken.wake()
        await wait_until(lambda: not desk.stand_in.till.faults.as_json())
        await desk.read_events(*(payment_requested(booking_id) for booking_id in others))
        woken.wake()

        for booking_id in others:
            await desk.until_session("open", booking_id)

        assert (await desk.sessions(slow))[0]["status"] == "creating"


async def test_a_session_that_stripe_refuses_is_sent_as_a_declined_payment(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id, amount_minor=1))

    async with desk.caller():
        row = await desk.until_session("failed", booking_id)

    assert "at least" in row["last_error"]
    assert list((await desk.sent(DeclinePayment)).values()) == [
        DeclinePayment(room_id=ROOM, booking_id=booking_id, failure="session_refused:amount_too_small")
    ]


async def test_a_wrong_api_key_is_our_fault_and_declines_nobody(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))
    right = desk.settings
    desk.settings = right.model_copy(update={"stripe_api_key": SecretStr("sk_wrong")})
    async with desk.caller():
        await wait_until(lambda: "does not take our key" in caplog.text)

    desk.settings = right
    async with desk.caller():
        await desk.until_session("open", booking_id)

    assert not await desk.sent(DeclinePayment)


async def test_a_call_that_comes_ten_minutes_late_still_opens_a_session(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id), at=datetime.now(UTC) - timedelta(minutes=10))

    async with desk.caller():
        row = await desk.until_session("open", booking_id)

    (session,) = await desk.at_stripe("checkout/sessions")
    assert session["id"] == row["session_id"]
    assert session["expires_at"] == int(row["expires_at"].timestamp())
    assert row["expires_at"] > datetime.now(UTC) + timedelta(minutes=30)


async def test_a_late_call_whose_session_was_opened_before_finds_it_under_its_key(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))
    await desk.plan({"match": CREATE, "fault": "answer_lost", "times": None})
    async with desk.caller():
        await wait_until(lambda: desk.at_stripe("checkout/sessions"))
    await desk.end_of_faults()
    desk.stand_in.clock.advance(10 * 60)

    async with desk.caller():
        await desk.connection.execute("update checkout_session set next_attempt_at = now()")
        row = await desk.until_session("open", booking_id)

    (session,) = await desk.at_stripe("checkout/sessions")
    assert (session["id"], session["status"]) == (row["session_id"], "open")


async def test_a_hold_that_ends_closes_the_payment_page(desk: Desk) -> None:
    booking_id = uuid4()
    async with desk.caller() as caller:
        await desk.read_events(payment_requested(booking_id))
        await desk.until_session("open", booking_id)
        await desk.read_events(expired(booking_id))
        caller.wake()
        await desk.until_session("expired", booking_id)

    (session,) = await desk.at_stripe("checkout/sessions")
    assert session["status"] == "expired"


async def test_a_booking_cancelled_before_its_session_is_known_leaves_none_open(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(
        payment_requested(booking_id),
        BookingCancelled(room_id=ROOM, booking_id=booking_id, reason=CancelReason.BY_GUEST),
    )

    async with desk.caller():
        await desk.until_session("expired", booking_id)

    assert {session["status"] for session in await desk.at_stripe("checkout/sessions")} <= {"expired"}
    assert not await desk.sent(RecordSession)


async def test_a_session_never_opened_and_too_late_to_open_is_simply_over(desk: Desk) -> None:
    booking_id = uuid4()
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    await desk.read_events(payment_requested(booking_id), expired(booking_id), at=hour_ago)

    async with desk.caller():
        await desk.until_session("expired", booking_id)

    assert await desk.at_stripe("checkout/sessions") == []
    assert await desk.commands() == []


async def test_a_second_attempt_closes_the_first_session(desk: Desk) -> None:
    booking_id = uuid4()
    async with desk.caller():
        await desk.read_events(payment_requested(booking_id))
        await desk.until_session("open", booking_id)
        await desk.read_events(payment_requested(booking_id, attempt=2))
        await desk.until_session("open", booking_id)
        await wait_until(lambda: _statuses(desk, "expired", "open"))

    assert [session["status"] for session in await desk.at_stripe("checkout/sessions")] == ["expired", "open"]


async def _statuses(desk: Desk, *wanted: str) -> bool:
    return [row["status"] for row in await desk.sessions()] == list(wanted)


@pytest.mark.parametrize("fault", ["answer_lost", "reset"])
async def test_an_expired_session_whose_answer_was_lost_is_found_expired(desk: Desk, fault: str) -> None:
    booking_id = uuid4()
    async with desk.caller():
        await desk.read_events(payment_requested(booking_id))
        await desk.until_session("open", booking_id)
        await desk.plan({"match": EXPIRE, "fault": fault, "times": 3})
        await desk.read_events(expired(booking_id))
        await desk.until_session("expired", booking_id)


async def test_a_session_paid_at_the_last_moment_takes_the_late_payments_way(desk: Desk) -> None:
    booking_id = uuid4()
    async with desk.caller():
        await desk.read_events(payment_requested(booking_id))
        session_id = (await desk.until_session("open", booking_id))["session_id"]
        paid = await desk.pay(session_id)
        await desk.read_events(expired(booking_id))
        await desk.until_session("complete", booking_id)

    confirmed = await desk.sent(ConfirmPayment)
    assert list(confirmed.values()) == [
        ConfirmPayment(
            room_id=ROOM,
            booking_id=booking_id,
            session_id=session_id,
            payment_intent=paid["payment_intent"],
            amount_minor=24_000,
            currency="EUR",
            attempt=1,
        )
    ]
    # The webhook that comes after all is the same command.
    assert {envelope.id for envelope, _ in await desk.webhooks(*await desk.events())} == set(confirmed)


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "answer_lost", "times": 4},
        {"fault": "status", "status": 500, "times": 1},
        {"fault": "latency", "seconds": 0.2, "times": None},
    ],
    ids=lambda fault: fault["fault"],
)
async def test_money_goes_back_once_although_five_refunds_are_requested(desk: Desk, fault: Mapping[str, Any]) -> None:
    booking_id, payment_intent = await desk.paid_booking()
    await desk.plan({"match": REFUND, **fault})

    async with desk.caller(2):
        for _ in range(5):
            await desk.read_events(refund_requested(booking_id, payment_intent))
        row = await desk.until_refund("succeeded", booking_id)

    (refund,) = await desk.at_stripe("refunds")
    assert (refund["id"], refund["amount"]) == (row["refund_id"], 24_000)
    assert list((await desk.sent(RecordRefund)).values()) == [
        RecordRefund(
            room_id=ROOM,
            booking_id=booking_id,
            payment_intent=payment_intent,
            refund_id=refund["id"],
            amount_minor=24_000,
        )
    ]


async def test_a_refund_that_was_carried_out_and_forgotten_is_recognised(desk: Desk) -> None:
    booking_id, payment_intent = await desk.paid_booking()
    async with desk.caller():
        await desk.read_events(refund_requested(booking_id, payment_intent))
        await desk.until_refund("succeeded", booking_id)
        # A day later the key is forgotten, and the row comes from a backup.
        desk.stand_in.clock.advance(25 * 60 * 60)
        await desk.connection.execute("delete from payment_refund")
        await desk.connection.execute(
            "update refund set status = 'creating', refund_id = null, next_attempt_at = now()"
        )
        row = await desk.until_refund("succeeded", booking_id)

    (refund,) = await desk.at_stripe("refunds")
    assert refund["id"] == row["refund_id"]


async def test_a_failed_refusal_is_read_again_from_its_row(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id, amount_minor=1))
    async with desk.caller():
        await desk.until_session("failed", booking_id)
    (first,) = (await desk.sent(DeclinePayment)).values()
    # The command may have been lost with the worker.
    await desk.connection.execute("update checkout_session set next_attempt_at = now()")

    async with desk.caller():
        await desk.until_session("failed", booking_id)

    assert [command for _, command in await desk.commands()] == [first, first]


async def test_a_session_of_a_restored_row_is_found_although_its_words_differ(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.add_to_ledger(booking_id)
    async with desk.caller():
        await desk.read_events(payment_requested(booking_id))
        opened = await desk.until_session("open", booking_id)
        # After a restore the log alone is known, and it has no words of the hotel.
        await desk.connection.execute("delete from checkout_session")
        await desk.connection.execute("delete from booking")
        await desk.read_events(payment_requested(booking_id), at=opened["created_at"])
        restored = await desk.until_session("open", booking_id)

    (session,) = await desk.at_stripe("checkout/sessions")
    assert restored["params"] != opened["params"]
    assert (session["id"], session["url"]) == (restored["session_id"], restored["url"])


async def test_a_session_of_our_booking_is_ours_also_with_the_mark_of_another_key(desk: Desk) -> None:
    booking_id = uuid4()
    ours = desk.marks
    desk.marks = Marks("the key of another", uuid4())
    theirs = (await desk._params_of(booking_id)) | {"expires_at": int(desk.stand_in.clock.now()) + 40 * 60}
    desk.marks = ours
    async with open_gateway(desk.settings) as gateway:
        await gateway._sessions.create_async(theirs, {"idempotency_key": f"{booking_id}:checkout:1"})  # type: ignore[arg-type]
        await desk.read_events(payment_requested(booking_id))
        async with desk.caller():
            row = await desk.until_session("open", booking_id)

    # A second one could be paid beside it: the guest has the first since before the database was made anew.
    (session,) = await desk.at_stripe("checkout/sessions")
    assert row["session_id"] == session["id"]
    assert session["metadata"]["mark"] != ours.mark(booking_id, ROOM)


async def test_a_session_of_another_booking_or_attempt_is_not_taken_for_ours(desk: Desk) -> None:
    booking_id = uuid4()
    theirs = (await desk._params_of(booking_id)) | {"expires_at": int(desk.stand_in.clock.now()) + 40 * 60}
    named: list[dict[str, Any]] = [{"client_reference_id": str(uuid4())}, {"metadata": desk.metadata(booking_id, 2)}]
    async with open_gateway(desk.settings) as gateway:
        for number, changes in enumerate(named):
            # The second has the key that our call has.
            key = {"idempotency_key": f"{booking_id}:checkout:{number}"}
            await gateway._sessions.create_async(theirs | changes, key)  # type: ignore[arg-type]
    await desk.read_events(payment_requested(booking_id))

    async with desk.caller():
        row = await desk.until_session("open", booking_id)

    *others, ours = await desk.at_stripe("checkout/sessions")
    assert (row["session_id"], len(others)) == (ours["id"], 2)


async def test_a_pending_refund_is_recorded_when_stripe_reports_its_success(desk: Desk) -> None:
    booking_id, payment_intent = await desk.paid_booking()
    await desk.plan({"match": REFUND, "fault": "refund_pends", "seconds": 600})
    await desk.read_events(refund_requested(booking_id, payment_intent))
    async with desk.caller():
        await desk.until_refund("pending", booking_id)
    assert not await desk.sent(RecordRefund)

    desk.stand_in.clock.advance(601)
    commands = await desk.webhooks(*await desk.events())

    ids = {envelope.id for envelope, command in commands if isinstance(command, RecordRefund)}
    assert len(ids) == 1
    assert (await desk.refunds(booking_id))[0]["status"] == "succeeded"


@pytest.mark.parametrize("statement", ["claim_refunds", "refund_figures"])
async def test_a_caller_whose_cancellation_is_lost_in_the_database_ends_all_the_same(
    desk: Desk, statement: str
) -> None:
    begun = asyncio.Event()

    async def losing(*_: Any, **__: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise psycopg.OperationalError("in the moment of the cancellation") from None

    broken: dict[str, Any] = {statement: losing}
    dependencies = caller.CallerDependencies(statements=PaymentStatements(**broken))
    async with asyncio.timeout(MAX_WAIT_SECONDS), desk.caller(dependencies=dependencies):
        await begun.wait()


async def test_refunds_and_closings_leave_room_for_guests_who_want_to_pay(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "ENDING_SLOTS", 2)
    monkeypatch.setattr(caller, "SLOTS", 3)
    ending, guest = [uuid4() for _ in range(6)], uuid4()
    async with desk.caller():
        await desk.read_events(*(payment_requested(booking_id) for booking_id in ending))
        for booking_id in ending:
            await desk.until_session("open", booking_id)
    await desk.plan({"match": EXPIRE, "fault": "hang", "times": None})
    await desk.read_events(*(expired(booking_id) for booking_id in ending))

    async with desk.caller():
        await desk.read_events(payment_requested(guest))
        await desk.until_session("open", guest)


async def test_a_bug_met_by_one_row_stops_no_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken, whole = uuid4(), uuid4()
    monkeypatch.setattr(steps, "_booking_ref", _failing_for(broken, steps._booking_ref))
    await desk.read_events(payment_requested(broken), payment_requested(whole))

    async with desk.caller():
        await desk.until_session("open", whole)
        await wait_until(lambda: "unforeseen" in caplog.text)

    (row,) = await desk.sessions(broken)
    assert row["status"] == "creating"
    assert any(record.levelno == logging.CRITICAL for record in caplog.records)


def _failing_for(booking_id: UUID, ours: Any) -> Any:
    def fail(due: Any) -> Any:
        if due.booking_id == booking_id:
            raise ZeroDivisionError
        return ours(due)

    return fail


CALLER = """
import asyncio
from storage.settings import DatabaseSettings
from topics.kafka.settings import KafkaSettings
from workers.payments import caller
from workers.payments.settings import PaymentSettings

caller.LEASE_SECONDS = 1.0
asyncio.run(caller.Caller(KafkaSettings(), DatabaseSettings(), PaymentSettings()).run())
"""


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("before_call", marks=pytest.mark.long),
        # Stripe has carried it out and we have not recorded it: a crash here could do the most harm.
        "after_call",
        pytest.param("after_record", marks=pytest.mark.long),
        pytest.param("after_produce", marks=pytest.mark.long),
    ],
)
async def test_a_caller_killed_anywhere_leaves_nothing_undone_and_nothing_done_twice(
    desk: Desk, environment: dict[str, str], point: str
) -> None:
    new, late, changing = uuid4(), uuid4(), uuid4()
    refunded, payment_intent = await desk.paid_booking()
    await desk.add_to_ledger(changing)
    await desk.hold_change(changing, 2)
    async with desk.caller():
        await desk.read_events(payment_requested(late))
        await desk.pay((await desk.until_session("open", late))["session_id"])

    # The first caller dies at the failpoint that comes first; a second one dies at the other.
    # The policy keeps 90.00 of the payment that goes back.
    await desk.read_events(
        refund_requested(refunded, payment_intent, 15_000),
        expired(late),
        payment_requested(new),
        payment_requested(changing, 2, 8_000),
    )
    for passes in (1, 2):
        assert await _killed_at(f"payments.{point}:{passes}", desk, environment) == -signal.SIGKILL
    async with desk.caller():
        row = await desk.until_session("open", new)
        dearer = await desk.until_session("open", changing)
        await desk.until_session("complete", late)
        await desk.until_refund("succeeded", refunded)

    assert [session["id"] for session in await _of(desk, new)] == [row["session_id"]]
    assert [(session["id"], session["amount_total"]) for session in await _of(desk, changing)] == [
        (dearer["session_id"], 8_000)
    ]
    assert len(await desk.at_stripe("refunds")) == 1
    assert await desk.left_stripe(payment_intent) == 15_000
    assert len(await desk.sent(RecordSession)) == 3
    assert len(await desk.sent(ConfirmPayment)) == 1
    assert len(await desk.sent(RecordRefund)) == 1


async def _of(desk: Desk, booking_id: UUID) -> list[dict[str, Any]]:
    sessions = await desk.at_stripe("checkout/sessions")
    return [session for session in sessions if session["client_reference_id"] == str(booking_id)]


async def _killed_at(failpoint: str, desk: Desk, environment: dict[str, str]) -> int:
    stripe = {"STRIPE_API_URL": desk.stand_in.url, "STRIPE_API_KEY": "sk_test_of_the_stand_in"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CALLER, env=os.environ | environment | stripe | {"INNKEEPER_FAILPOINT": failpoint}
    )
    return await asyncio.wait_for(process.wait(), MAX_WAIT_SECONDS)


async def test_its_connections_have_the_parameters_of_every_workers(database: DatabaseSettings) -> None:
    async with (
        WorkerPool(database, "innkeeper payments caller", max_size=1) as pool,
        pool.connection() as pooled,
        await connect_worker(database, "innkeeper payments caller") as other,
    ):
        parameters = pooled.info.get_parameters()
        assert parameters == other.info.get_parameters()
        assert parameters["tcp_user_timeout"] == "10000"
        assert "idle_in_transaction_session_timeout" in parameters["options"]
        assert pooled.autocommit
