"""The consumer on a real database: events and webhooks become rows and commands."""

import json
import logging
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support.stack import Server
from tests.workers.payments.desk import ROOM, Desk, payment_requested, refund_requested
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ClosePayment, ConfirmPayment, DeclinePayment
from topics.messages.events import BookingCancelled, BookingConfirmed, BookingExpired
from topics.messages.values import CancelReason
from workers.runtime.role import Unreadable


@pytest.fixture
def kafka_settings(kafka: Server) -> KafkaSettings:
    """The consumer is called directly here: no topics are needed."""
    return KafkaSettings(_env_file=None, kafka_url=kafka.url)


def session_webhook(booking_id: UUID, type: str, *, attempt: int = 1, **changes: Any) -> bytes:
    session = {
        "id": f"cs_{booking_id}_{attempt}",
        "status": "complete",
        "payment_status": "paid",
        "amount_total": 24_000,
        "currency": "eur",
        "client_reference_id": str(booking_id),
        "payment_intent": "pi_1",
        "metadata": {"booking_id": str(booking_id), "room_id": "7", "attempt": str(attempt)},
        **changes,
    }
    return webhook(f"checkout.session.{type}", session)


def refund_webhook(booking_id: UUID, status: str, refund_id: str = "re_1") -> bytes:
    metadata = {"booking_id": str(booking_id), "room_id": "7"}
    refund = {"id": refund_id, "status": status, "amount": 24_000, "payment_intent": "pi_1", "metadata": metadata}
    return webhook("refund.updated", refund)


def webhook(type: str, about: dict[str, Any], version: str = "2026-10-28.endive") -> bytes:
    event = {"id": "evt_1", "type": type, "livemode": False, "api_version": version, "data": {"object": about}}
    return json.dumps(event).encode()


async def test_a_requested_payment_adds_a_session_at_once_and_only_once(desk: Desk) -> None:
    booking_id = uuid4()

    await desk.read_events(payment_requested(booking_id))
    (first,) = await desk.sessions()
    await desk.read_events(payment_requested(booking_id))

    assert (first["status"], first["attempt"], first["room_id"]) == ("creating", 1, ROOM)
    assert first["next_attempt_at"] == first["created_at"]
    assert await desk.sessions() == [first]


@pytest.mark.parametrize(
    "end",
    [
        lambda booking_id: BookingExpired(room_id=ROOM, booking_id=booking_id),
        lambda booking_id: BookingCancelled(room_id=ROOM, booking_id=booking_id, reason=CancelReason.BY_GUEST),
        lambda booking_id: BookingConfirmed(
            room_id=ROOM, booking_id=booking_id, amount_minor=1, currency="EUR", payment_intent="pi_2"
        ),
    ],
    ids=["expired", "cancelled", "confirmed by another payment"],
)
async def test_a_booking_that_ends_closes_its_session_and_nobody_elses(desk: Desk, end: Any) -> None:
    ended, other = uuid4(), uuid4()
    await desk.read_events(payment_requested(ended), payment_requested(other))
    await desk.connection.execute("update checkout_session set status = 'open', next_attempt_at = null, failures = 3")

    await desk.read_events(end(ended))

    (closing,), (open_,) = await desk.sessions(ended), await desk.sessions(other)
    assert (closing["status"], closing["failures"]) == ("closing", 0)
    assert closing["next_attempt_at"] is not None
    assert (open_["status"], open_["next_attempt_at"]) == ("open", None)


async def test_a_refund_is_added_once_however_often_it_is_requested(desk: Desk) -> None:
    booking_id = uuid4()

    for _ in range(5):
        await desk.read_events(refund_requested(booking_id, "pi_1"))

    (refund,) = await desk.refunds()
    assert (refund["payment_intent"], refund["status"], refund["amount_minor"]) == ("pi_1", "creating", 24_000)


async def test_webhooks_twice_and_in_the_wrong_order_confirm_once_and_undo_nothing(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))
    paid = session_webhook(booking_id, "completed")
    expired = session_webhook(booking_id, "expired", status="expired", payment_status="unpaid")

    commands = await desk.webhooks(paid, expired, paid)

    assert [type(command) for _, command in commands] == [ConfirmPayment, ClosePayment, ConfirmPayment]
    assert commands[0][0].id == commands[2][0].id
    (row,) = await desk.sessions()
    assert (row["status"], row["next_attempt_at"]) == ("complete", None)


async def test_a_webhook_that_comes_before_the_session_is_recorded_finds_its_booking(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))

    ((envelope, command),) = await desk.webhooks(session_webhook(booking_id, "completed"))

    assert isinstance(command, ConfirmPayment)
    assert (envelope.source, envelope.subject) == ("innkeeper/payments", str(booking_id))
    (row,) = await desk.sessions()
    assert (row["session_id"], row["status"]) == (command.session_id, "complete")


async def test_a_payment_that_arrives_after_the_session_was_given_up_still_counts(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))
    await desk.webhooks(session_webhook(booking_id, "expired", status="expired", payment_status="unpaid"))

    await desk.webhooks(session_webhook(booking_id, "completed"))

    assert [row["status"] for row in await desk.sessions()] == ["complete"]


async def test_a_webhook_about_a_booking_that_we_have_no_row_of_is_sent_to_the_room_all_the_same(desk: Desk) -> None:
    ((_, command),) = await desk.webhooks(session_webhook(uuid4(), "completed"))

    assert isinstance(command, ConfirmPayment)


async def test_a_refund_that_failed_stays_failed(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(refund_requested(booking_id, "pi_1"))

    statuses = []
    for status in ("pending", "succeeded", "pending", "failed", "succeeded"):
        await desk.webhooks(refund_webhook(booking_id, status))
        statuses.append((await desk.refunds())[0]["status"])

    assert statuses == ["pending", "succeeded", "succeeded", "failed", "failed"]


async def test_another_refund_of_the_same_payment_does_not_pass_for_ours(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(refund_requested(booking_id, "pi_1"))
    await desk.webhooks(refund_webhook(booking_id, "succeeded"), refund_webhook(booking_id, "failed", "re_2"))

    (refund,) = await desk.refunds()
    assert (refund["refund_id"], refund["status"]) == ("re_1", "succeeded")


async def test_a_webhook_that_cannot_be_read_is_named_and_leaves_nothing_of_its_batch(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))

    with pytest.raises(Unreadable) as raised:
        await desk.webhooks(session_webhook(booking_id, "completed"), b"no event")

    assert raised.value.record.offset == 1
    assert [row["status"] for row in await desk.sessions()] == ["creating"]


async def test_a_webhook_of_another_version_of_the_api_is_read_and_logged_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    intent = {"id": "pi_1", "metadata": {"booking_id": str(uuid4()), "room_id": "7", "attempt": "1"}}
    old = webhook("payment_intent.payment_failed", intent, version="2024-06-20")

    commands = await desk.webhooks(old, old)

    assert [type(command) for _, command in commands] == [DeclinePayment] * 2
    assert [record.levelno for record in caplog.records if "2024-06-20" in record.message] == [logging.WARNING]
