"""The consumer on a real database: events and webhooks become rows and commands."""

import json
import logging
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from storage import payments
from storage.payment_statements import PaymentStatements
from telemetry import metrics
from tests.support.stack import Server
from tests.workers.payments.desk import (
    ROOM,
    Desk,
    change_ended,
    payment_requested,
    refund_requested,
    stay_changed,
)
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import (
    ClosePayment,
    ConfirmPayment,
    DeclinePayment,
    FailRefund,
    RecordDispute,
    RecordRefund,
)
from topics.messages.events import BookingCancelled, BookingConfirmed, BookingExpired, RefundClosed
from topics.messages.releases import Release
from topics.messages.values import CancelReason, DisputeResult, RefundClosing
from workers.decisions import Payment, PaymentState, RefundMade
from workers.payments.consumer import Payments
from workers.runtime.role import Unreadable
from workers.stripe.marks import Marks
from workers.stripe.objects import BookingRef


@pytest.fixture
def kafka_settings(kafka: Server) -> KafkaSettings:
    """The consumer is called directly here: no topics are needed."""
    return KafkaSettings(_env_file=None, kafka_url=kafka.url)


def session_webhook(
    desk: Desk, booking_id: UUID, type: str, *, attempt: int = 1, metadata: dict[str, str] | None = None, **changes: Any
) -> bytes:
    session = {
        "id": f"cs_{booking_id}_{attempt}",
        "status": "complete",
        "payment_status": "paid",
        "amount_total": 24_000,
        "currency": "eur",
        "client_reference_id": str(booking_id),
        "payment_intent": "pi_1",
        "metadata": desk.metadata(booking_id, attempt) if metadata is None else metadata,
        **changes,
    }
    return webhook(f"checkout.session.{type}", session)


def refund_webhook(
    metadata: dict[str, str], status: str, refund_id: str = "re_1", amount: int = 24_000, payment: str = "pi_1"
) -> bytes:
    refund = {"id": refund_id, "status": status, "amount": amount, "currency": "eur", "payment_intent": payment}
    return webhook("refund.updated", refund | {"metadata": metadata})


def dispute_webhook(status: str, amount: int = 24_000, payment: str = "pi_1") -> bytes:
    dispute = {"id": "du_1", "status": status, "amount": amount, "currency": "eur", "payment_intent": payment}
    return webhook("charge.dispute.updated", dispute | {"reason": "fraudulent", "balance_transactions": []})


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


@pytest.mark.parametrize("end", [change_ended, stay_changed], ids=["ended", "changed for nothing"])
async def test_a_change_that_ends_unpaid_closes_its_session_and_nobody_elses(desk: Desk, end: Any) -> None:
    ended, other = uuid4(), uuid4()
    for booking_id in (ended, other):
        await desk.add_to_ledger(booking_id)
        await desk.hold_change(booking_id, 2)
    await desk.read_events(payment_requested(ended, attempt=2), payment_requested(other, attempt=2))
    await desk.connection.execute("update checkout_session set status = 'open', next_attempt_at = null")

    await desk.hold_change(ended, None)
    await desk.read_events(end(ended))

    (closing,), (open_,) = await desk.sessions(ended), await desk.sessions(other)
    assert (closing["status"], open_["status"]) == ("closing", "open")


async def test_a_change_that_was_paid_notes_its_payment_beside_that_of_the_stay(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id), payment_requested(booking_id, 2, 8_000))
    await desk.connection.execute("update checkout_session set session_id = 'cs_' || attempt, status = 'open'")
    confirmed = BookingConfirmed(
        room_id=ROOM,
        booking_id=booking_id,
        amount_minor=24_000,
        currency="EUR",
        session_id="cs_1",
        payment_intent="pi_1",
    )

    await desk.read_events(confirmed, stay_changed(booking_id, "cs_2", "pi_2"))

    assert [row["payment_intent"] for row in await desk.sessions(booking_id)] == ["pi_1", "pi_2"]


async def test_events_that_are_read_again_leave_the_session_of_a_later_change_open(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.add_to_ledger(booking_id)
    confirmed = BookingConfirmed(
        room_id=ROOM, booking_id=booking_id, amount_minor=24_000, currency="EUR", payment_intent="pi_1"
    )
    replaced = (
        payment_requested(booking_id),
        BookingExpired(room_id=ROOM, booking_id=booking_id),
        confirmed,
        payment_requested(booking_id, 2, 8_000),
        stay_changed(booking_id, "cs_2", "pi_2"),
        payment_requested(booking_id, 3, 8_000),
        change_ended(booking_id),
    )
    await desk.read_events(*replaced)
    await desk.hold_change(booking_id, 4)
    await desk.read_events(payment_requested(booking_id, 4, 8_000))

    await desk.read_events(*replaced, payment_requested(booking_id, 4, 8_000))

    assert [row["status"] for row in await desk.sessions(booking_id)] == ["closing", "closing", "closing", "creating"]
    await desk.hold_change(booking_id, None)
    await desk.read_events(change_ended(booking_id))
    assert {row["status"] for row in await desk.sessions(booking_id)} == {"closing"}


async def test_the_page_of_a_change_names_both_stays(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.add_to_ledger(booking_id)
    await desk.hold_change(booking_id, 2)

    await desk.read_events(payment_requested(booking_id, 2, 8_000))

    (row,) = await desk.sessions(booking_id)
    (line,) = row["params"]["line_items"]
    assert line["price_data"]["unit_amount"] == 8_000
    assert line["price_data"]["product_data"] == {
        "name": "Sea View, Double room",
        "description": "Additional amount for a change of the stay, now 24 Dec 2030 - 27 Dec 2030, 3 nights, 2 rooms,"
        " to 24 Dec 2030 - 28 Dec 2030, 4 nights, 2 rooms",
    }


async def test_the_page_of_a_trip_has_a_line_for_each_leg_in_their_order(desk: Desk) -> None:
    trip_id, other_id, *leg_ids = uuid4(), uuid4(), UUID(int=9), UUID(int=8)
    await desk.add_trip(trip_id, *leg_ids)
    await desk.add_to_ledger(other_id)
    await desk.connection.execute("update booking set rooms_count = 1 where id = %s", (leg_ids[1],))

    await desk.read_events(payment_requested(trip_id, 1, 48_000), payment_requested(other_id))

    (of_trip,), (of_other,) = await desk.sessions(trip_id), await desk.sessions(other_id)
    lines = [line["price_data"] for line in of_trip["params"]["line_items"]]
    assert [line["unit_amount"] for line in lines] == [24_000, 24_000]
    assert [line["product_data"]["description"][-7:] for line in lines] == ["2 rooms", " 1 room"]
    receipt = of_trip["params"]["payment_intent_data"]["description"]
    assert receipt.startswith("Sea View, Double room + Double room: 24 Dec 2030 - 27 Dec 2030, 3 nights, 3 rooms.")
    assert len(of_other["params"]["line_items"]) == 1


async def test_a_trip_whose_legs_are_not_all_there_has_one_line(desk: Desk) -> None:
    trip_id, *leg_ids = (uuid4() for _ in range(3))
    await desk.add_trip(trip_id, *leg_ids)
    await desk.connection.execute("delete from booking where id = %s", (leg_ids[0],))

    await desk.read_events(payment_requested(trip_id, 1, 48_000))

    (row,) = await desk.sessions(trip_id)
    assert [line["price_data"]["unit_amount"] for line in row["params"]["line_items"]] == [48_000]


async def test_the_parts_that_legs_of_a_trip_give_back_grow_the_target_of_its_payment(desk: Desk) -> None:
    trip_id, leg_id = uuid4(), uuid4()
    await desk.read_events(payment_requested(trip_id, 1, 48_000))
    await desk.connection.execute("update checkout_session set session_id = 'cs_1', status = 'open'")
    paid = BookingConfirmed(
        room_id=ROOM,
        booking_id=trip_id,
        amount_minor=48_000,
        currency="EUR",
        session_id="cs_1",
        payment_intent="pi_1",
    )
    # The events of a leg concern no payment.
    of_leg = (
        BookingConfirmed(room_id=ROOM, booking_id=leg_id, amount_minor=24_000, currency="EUR"),
        BookingCancelled(room_id=ROOM, booking_id=leg_id, reason=CancelReason.BY_GUEST),
    )

    await desk.read_events(
        paid,
        *of_leg,
        refund_requested(trip_id, "pi_1", 24_000),
        refund_requested(trip_id, "pi_1", 10_000, 34_000),
        BookingCancelled(room_id=ROOM, booking_id=trip_id, reason=CancelReason.BY_GUEST),
    )

    (refund,) = await desk.refunds(trip_id)
    assert (refund["amount_minor"], refund["payment_intent"]) == (34_000, "pi_1")
    (session,) = await desk.sessions(trip_id)
    assert (session["status"], session["payment_intent"]) == ("closing", "pi_1")
    assert (await desk.sessions(leg_id), await desk.refunds(leg_id)) == ([], [])


async def test_the_refunds_of_a_bookings_payments_are_rows_of_their_own(desk: Desk) -> None:
    booking_id = uuid4()

    await desk.read_events(
        refund_requested(booking_id, "pi_1", 24_000),
        refund_requested(booking_id, "pi_2", 3_000),
        refund_requested(booking_id, "pi_2", 5_000, 8_000),
    )

    assert {row["payment_intent"]: row["amount_minor"] for row in await desk.refunds(booking_id)} == {
        "pi_1": 24_000,
        "pi_2": 8_000,
    }


async def test_a_refund_is_added_once_however_often_it_is_requested(desk: Desk) -> None:
    booking_id = uuid4()

    for _ in range(5):
        await desk.read_events(refund_requested(booking_id, "pi_1"))

    (refund,) = await desk.refunds()
    assert (refund["payment_intent"], refund["status"], refund["amount_minor"]) == ("pi_1", "creating", 24_000)


async def test_webhooks_twice_and_in_the_wrong_order_confirm_once_and_undo_nothing(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))
    paid = session_webhook(desk, booking_id, "completed")
    expired = session_webhook(desk, booking_id, "expired", status="expired", payment_status="unpaid")

    commands = await desk.webhooks(paid, expired, paid)

    assert [type(command) for _, command in commands] == [ConfirmPayment, ClosePayment, ConfirmPayment]
    assert commands[0][0].id == commands[2][0].id
    (row,) = await desk.sessions()
    assert (row["status"], row["next_attempt_at"]) == ("complete", None)


async def test_a_webhook_that_comes_before_the_session_is_recorded_finds_its_booking(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))

    ((envelope, command),) = await desk.webhooks(session_webhook(desk, booking_id, "completed"))

    assert isinstance(command, ConfirmPayment)
    assert (envelope.source, envelope.subject) == ("innkeeper/payments", str(booking_id))
    (row,) = await desk.sessions()
    assert (row["session_id"], row["status"]) == (command.session_id, "complete")


async def test_a_payment_that_arrives_after_the_session_was_given_up_still_counts(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))
    await desk.webhooks(session_webhook(desk, booking_id, "expired", status="expired", payment_status="unpaid"))

    await desk.webhooks(session_webhook(desk, booking_id, "completed"))

    assert [row["status"] for row in await desk.sessions()] == ["complete"]


async def test_a_webhook_about_a_booking_that_we_have_no_row_of_is_sent_to_the_room_all_the_same(desk: Desk) -> None:
    ((_, command),) = await desk.webhooks(session_webhook(desk, uuid4(), "completed"))

    assert isinstance(command, ConfirmPayment)


async def paid(desk: Desk, booking_id: UUID) -> None:
    """Let a booking be paid by the payment `pi_1`, as a webhook reports it."""
    await desk.read_events(payment_requested(booking_id))
    await desk.webhooks(session_webhook(desk, booking_id, "completed"))


async def test_a_completed_session_notes_its_payment(desk: Desk) -> None:
    booking_id = uuid4()

    await paid(desk, booking_id)

    assert [row["payment_intent"] for row in await desk.sessions(booking_id)] == ["pi_1"]


async def test_a_confirmation_notes_the_payment_of_a_session_whose_end_0_1_0_recorded(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))
    await desk.connection.execute("update checkout_session set session_id = 'cs_1', status = 'complete'")

    await desk.read_events(
        BookingConfirmed(
            room_id=ROOM,
            booking_id=booking_id,
            amount_minor=1,
            currency="EUR",
            session_id="cs_1",
            payment_intent="pi_2",
        )
    )

    assert [row["payment_intent"] for row in await desk.sessions(booking_id)] == ["pi_2"]


async def test_the_page_has_the_words_of_hotel_room_and_stay(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.add_to_ledger(booking_id, hotel="Hotel 'Zum Löwen' <*>")

    await desk.read_events(payment_requested(booking_id))

    (row,) = await desk.sessions(booking_id)
    (line,) = row["params"]["line_items"]
    assert line["price_data"]["product_data"] == {
        "name": "Hotel 'Zum Löwen' <*>, Double room",
        "description": "24 Dec 2030 - 27 Dec 2030, 3 nights, 2 rooms",
    }
    assert row["params"]["payment_intent_data"]["statement_descriptor_suffix"] == "Hotel Zum"


async def test_the_words_of_all_stays_of_a_batch_are_read_at_once(desk: Desk) -> None:
    read: list[list[UUID]] = []

    async def counted(connection: Any, booking_ids: Any) -> Any:
        read.append(list(booking_ids))
        return await payments.stays(connection, booking_ids)

    desk.consumer = Payments(desk.log.settings, desk.settings, PaymentStatements(stays=counted))
    known, unknown = uuid4(), uuid4()
    await desk.add_to_ledger(known)

    await desk.read_events(payment_requested(known), payment_requested(unknown))
    await desk.read_events(refund_requested(known, "pi_1"))

    assert read == [[known, unknown]]
    named = [row["params"]["line_items"][0]["price_data"]["product_data"]["name"] for row in await desk.sessions(known)]
    assert named == ["Sea View, Double room"]
    assert len(await desk.sessions(unknown)) == 1


async def test_a_refund_that_failed_stays_failed_and_its_row_is_due_again(desk: Desk) -> None:
    booking_id = uuid4()
    await paid(desk, booking_id)
    await desk.read_events(refund_requested(booking_id, "pi_1"))

    states, commands = [], []
    for status in ("pending", "succeeded", "pending", "failed", "succeeded"):
        commands += await desk.webhooks(refund_webhook(desk.metadata(booking_id), status))
        (row,), (refund,) = await desk.refunds(), await desk.refund_objects()
        states.append((refund["status"], row["status"], row["next_attempt_at"] is not None))

    assert states == [
        ("pending", "pending", False),
        ("succeeded", "succeeded", False),
        ("succeeded", "succeeded", False),
        ("failed", "creating", True),
        ("failed", "creating", True),
    ]
    assert [type(command) for _, command in commands] == [RecordRefund, FailRefund, RecordRefund]
    (row,) = await desk.refunds()
    pause = (row["next_attempt_at"] - row["updated_at"]).total_seconds()
    assert (row["refusals"], 30 < pause <= 60) == (1, True)


async def test_each_refund_that_fails_makes_the_pause_longer_and_is_counted(desk: Desk) -> None:
    booking_id = uuid4()
    await paid(desk, booking_id)
    await desk.read_events(refund_requested(booking_id, "pi_1"))

    pauses, keys = [], {"pi_1:refund"}
    for each in range(4):
        for status in ("succeeded", "failed"):
            await desk.webhooks(refund_webhook(desk.metadata(booking_id), status, f"re_{each}"))
        (row,) = await desk.refunds()
        pauses.append((row["next_attempt_at"] - row["updated_at"]).total_seconds())
        await desk.connection.execute("update refund set next_attempt_at = null, status = 'pending', failures = 0")
        # A worker of 0.1.0 would get Stripe's answer to the key of a call that failed since.
        keys.add(row["idempotency_key"])

    assert [60 * 2**each * 0.79 < pause <= 60 * 2**each + 1 for each, pause in enumerate(pauses)] == [True] * 4
    assert (row["refusals"], len(keys)) == (4, 5)


async def test_a_refund_by_hand_does_not_pass_for_ours_and_lessens_the_rest(desk: Desk) -> None:
    booking_id = uuid4()
    await paid(desk, booking_id)
    await desk.add_to_ledger(booking_id)
    await desk.read_events(refund_requested(booking_id, "pi_1"))

    ((_, command),) = await desk.webhooks(refund_webhook({}, "succeeded", "re_2", amount=5_000))

    assert command == RecordRefund(
        room_id=ROOM,
        booking_id=booking_id,
        payment_intent="pi_1",
        refund_id="re_2",
        amount_minor=5_000,
        by_hand=True,
        cancel_if_full=True,
    )
    (row,) = await desk.refunds()
    assert (row["refund_id"], row["status"], row["next_attempt_at"] is not None) == (None, "creating", True)
    # The rest by hand, too: nothing is left to be made.
    await desk.webhooks(refund_webhook({}, "succeeded", "re_3", amount=19_000))
    (row,) = await desk.refunds()
    assert (row["status"], row["next_attempt_at"]) == ("succeeded", None)
    assert [refund["by_hand"] for refund in await desk.refund_objects(booking_id)] == [True, True]


async def test_a_hotel_keeps_a_booking_that_was_refunded_as_goodwill(desk: Desk) -> None:
    booking_id = uuid4()
    await paid(desk, booking_id)
    await desk.add_to_ledger(booking_id)
    await desk.connection.execute("update hotel set on_full_refund = 'keep'")

    ((_, command),) = await desk.webhooks(refund_webhook({}, "succeeded"))

    assert isinstance(command, RecordRefund)
    assert (command.by_hand, command.cancel_if_full) == (True, False)
    assert await desk.refunds() == []


async def test_a_refund_by_hand_that_fails_is_reported_and_not_made_again(desk: Desk) -> None:
    booking_id = uuid4()
    await paid(desk, booking_id)
    before = metrics.REFUND_FAILURES.values.get(("true",), 0)

    commands = await desk.webhooks(refund_webhook({}, "succeeded"), refund_webhook({}, "failed"))
    # Stripe reports it by two types of events.
    await desk.webhooks(refund_webhook({}, "failed"))

    assert [type(command) for _, command in commands] == [RecordRefund, FailRefund]
    assert all(command.by_hand for _, command in commands)  # type: ignore[attr-defined]
    assert await desk.refunds() == []
    assert metrics.REFUND_FAILURES.values["true",] == before + 1


async def test_a_refund_by_hand_that_fails_is_made_by_us_if_the_guest_must_have_the_money(desk: Desk) -> None:
    booking_id = uuid4()
    await paid(desk, booking_id)
    await desk.read_events(refund_requested(booking_id, "pi_1"))
    await desk.webhooks(refund_webhook({}, "succeeded"))
    assert [row["status"] for row in await desk.refunds()] == ["succeeded"]

    await desk.webhooks(refund_webhook({}, "failed"))

    (row,) = await desk.refunds()
    assert (row["status"], row["next_attempt_at"] is not None) == ("creating", True)


async def test_a_target_that_grows_makes_a_refund_due_again_and_one_that_does_not_changes_nothing(desk: Desk) -> None:
    booking_id = uuid4()
    await paid(desk, booking_id)
    await desk.read_events(refund_requested(booking_id, "pi_1", 10_000))
    await desk.webhooks(refund_webhook(desk.metadata(booking_id), "succeeded", amount=10_000))

    await desk.read_events(refund_requested(booking_id, "pi_1", 10_000), refund_requested(booking_id, "pi_1", 4_000))
    (same,) = await desk.refunds()
    await desk.read_events(refund_requested(booking_id, "pi_1", 14_000, total_minor=24_000))
    (grown,) = await desk.refunds()

    assert (same["status"], same["amount_minor"], same["next_attempt_at"]) == ("succeeded", 10_000, None)
    assert (grown["status"], grown["amount_minor"], grown["next_attempt_at"] is not None) == ("creating", 24_000, True)


def _refunded(payment_intent: str, *refunds: RefundMade, **fields: Any) -> Payment:
    """Return a payment of 240.00 that goes back."""
    return Payment(payment_intent, "cs_1", 24_000, PaymentState.REFUND_REQUESTED, refunds=refunds, **fields)


async def test_a_refund_that_an_operator_closed_is_reopened_by_a_larger_target_alone(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.add_to_ledger(booking_id, _refunded("pi_1", closed_minor=10_000))
    await desk.read_events(refund_requested(booking_id, "pi_1", 10_000), refund_closed(booking_id))
    (closed,) = await desk.refunds()
    await desk.read_events(refund_requested(booking_id, "pi_1", 10_000))
    (same,) = await desk.refunds()
    await desk.add_to_ledger(booking_id, _refunded("pi_1", closed_minor=10_000, due_minor=10_000))
    await desk.read_events(refund_requested(booking_id, "pi_1", 10_000, total_minor=20_000))
    (grown,) = await desk.refunds()

    assert (closed["status"], closed["next_attempt_at"]) == ("closed", None)
    assert same == closed
    assert grown["status"] == "creating"


async def test_an_end_by_an_operator_that_is_read_again_or_late_ends_nothing_that_is_due_since(desk: Desk) -> None:
    booking_id = uuid4()
    # The ledger has taken the closed sum back meanwhile, or 14,000 became due after it.
    await desk.add_to_ledger(booking_id, _refunded("pi_1", closed_minor=10_000, due_minor=14_000))
    await desk.read_events(refund_requested(booking_id, "pi_1", 10_000, total_minor=24_000))

    await desk.read_events(refund_closed(booking_id))

    (row,) = await desk.refunds()
    assert (row["status"], row["next_attempt_at"] is not None) == ("creating", True)


async def test_a_refund_that_was_closed_in_its_row_alone_stays_closed(desk: Desk) -> None:
    booking_id = uuid4()
    await paid(desk, booking_id)
    await desk.read_events(refund_requested(booking_id, "pi_1"))
    await desk.connection.execute("update refund set status = 'closed', next_attempt_at = null")

    await desk.webhooks(refund_webhook({}, "succeeded", "re_2", amount=5_000))

    (row,) = await desk.refunds()
    assert (row["status"], row["next_attempt_at"]) == ("closed", None)


async def test_a_refund_that_0_1_0_gave_up_does_not_become_due_by_webhooks_or_events(desk: Desk) -> None:
    booking_id = uuid4()
    await paid(desk, booking_id)
    await desk.read_events(refund_requested(booking_id, "pi_1", 20_000))
    await desk.connection.execute("update refund set status = 'failed', next_attempt_at = null")

    await desk.webhooks(refund_webhook({}, "succeeded", "re_2", amount=5_000))
    await desk.webhooks(refund_webhook(desk.metadata(booking_id), "failed", "re_1", amount=20_000))
    await desk.read_events(refund_requested(booking_id, "pi_1", 4_000, total_minor=24_000))

    (row,) = await desk.refunds()
    assert (row["status"], row["next_attempt_at"], row["amount_minor"]) == ("failed", None, 24_000)


async def test_a_refund_that_is_due_never_stays_without_a_time(desk: Desk) -> None:
    booking_id = uuid4()
    await paid(desk, booking_id)
    await desk.read_events(refund_requested(booking_id, "pi_1"))
    await desk.connection.execute("update refund set next_attempt_at = null")

    await desk.webhooks(refund_webhook({}, "succeeded", "re_2", amount=5_000))

    (row,) = await desk.refunds()
    assert (row["status"], row["next_attempt_at"] is not None) == ("creating", True)


def refund_closed(booking_id: UUID) -> RefundClosed:
    return RefundClosed(
        room_id=ROOM,
        booking_id=booking_id,
        payment_intent="pi_1",
        amount_minor=10_000,
        currency="EUR",
        reason=RefundClosing.NOT_POSSIBLE,
    )


async def test_a_lost_dispute_takes_what_was_due_and_a_won_one_makes_it_due_at_once(desk: Desk) -> None:
    booking_id = uuid4()
    await paid(desk, booking_id)
    await desk.read_events(refund_requested(booking_id, "pi_1"))
    await desk.connection.execute("update refund set next_attempt_at = now() + interval '6 hours', failures = 9")

    ((_, opened),) = await desk.webhooks(dispute_webhook("needs_response"))
    (waiting,) = await desk.refunds()
    await desk.webhooks(dispute_webhook("won"))
    (due,) = await desk.refunds()

    assert opened == RecordDispute(
        room_id=ROOM,
        booking_id=booking_id,
        payment_intent="pi_1",
        dispute_id="du_1",
        amount_minor=24_000,
        reason="fraudulent",
    )
    assert (waiting["next_attempt_at"] - waiting["updated_at"]).total_seconds() > 3600
    assert due["status"] == "creating"
    assert due["next_attempt_at"] == due["updated_at"]
    assert [row["status"] for row in await desk.disputes(booking_id)] == ["won"]


async def test_money_that_a_lost_dispute_took_is_not_sent_any_more(desk: Desk) -> None:
    booking_id = uuid4()
    await paid(desk, booking_id)
    await desk.read_events(refund_requested(booking_id, "pi_1"))

    ((_, part),) = await desk.webhooks(dispute_webhook("lost", amount=24_000))

    (row,) = await desk.refunds()
    assert isinstance(part, RecordDispute)
    assert part.result is DisputeResult.LOST
    assert (row["status"], row["next_attempt_at"]) == ("closed", None)


async def test_an_inquiry_is_counted_and_takes_nothing(desk: Desk) -> None:
    await paid(desk, uuid4())
    before = metrics.INQUIRIES.values.get((), 0)

    assert await desk.webhooks(dispute_webhook("warning_needs_response")) == []

    assert metrics.INQUIRIES.values[()] == before + 1
    assert await desk.disputes() == []


async def test_objects_of_another_installation_are_left_alone_counted_and_logged_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    ours = uuid4()
    await paid(desk, ours)
    await desk.read_events(refund_requested(ours, "pi_1"))
    before = (await desk.sessions(), await desk.refunds())
    counts = dict(metrics.FOREIGN_OBJECTS.values)
    theirs = BookingRef(ours, ROOM, 1).metadata(Marks("another key", uuid4()))
    unmarked = {name: value for name, value in theirs.items() if name != "mark"}
    intent = {"id": "pi_9", "last_payment_error": None}
    webhooks = [
        body
        for metadata in (theirs, unmarked, theirs | {"mark": ""}, {"order": "17"}, theirs | {"booking_id": "B-17"})
        for body in (
            session_webhook(desk, ours, "completed", metadata=metadata, id="cs_9"),
            session_webhook(desk, ours, "expired", metadata=metadata, id="cs_9", status="expired"),
            session_webhook(desk, ours, "async_payment_failed", metadata=metadata, id="cs_9"),
            webhook("payment_intent.payment_failed", intent | {"metadata": metadata}),
            refund_webhook(metadata, "succeeded", "re_9", payment="pi_9"),
            refund_webhook(metadata, "failed", "re_9", payment="pi_9"),
            dispute_webhook("needs_response", payment="pi_9"),
        )
    ]

    assert await desk.webhooks(*webhooks) == []

    assert (await desk.sessions(), await desk.refunds()) == before
    assert (await desk.refund_objects(), await desk.disputes()) == ([], [])
    kinds = {"session": 15, "payment": 5, "refund": 10, "dispute": 5}
    counted = {kind: metrics.FOREIGN_OBJECTS.values[kind,] - counts.get((kind,), 0) for kind in kinds}
    assert counted == kinds
    logged = [record.message for record in caplog.records if "is not of this installation" in record.message]
    assert len(logged) == 4


async def test_sessions_and_refunds_of_0_1_0_have_no_mark_and_are_ours_by_their_rows(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id), refund_requested(booking_id, "pi_1"))
    await desk.connection.execute("update checkout_session set session_id = 'cs_old', status = 'open'")
    old = {"booking_id": str(booking_id), "room_id": str(ROOM)}

    commands = await desk.webhooks(
        session_webhook(desk, booking_id, "completed", metadata=old | {"attempt": "1"}, id="cs_old"),
        refund_webhook(old, "succeeded"),
        webhook("payment_intent.payment_failed", {"id": "pi_1", "metadata": old}),
    )

    assert [type(command) for _, command in commands] == [ConfirmPayment, RecordRefund, DeclinePayment]
    assert [refund["by_hand"] for refund in await desk.refund_objects(booking_id)] == [False]


async def test_a_declined_card_of_a_session_that_0_1_0_opened_is_ours_by_the_attempt(desk: Desk) -> None:
    booking_id, of_this_release = uuid4(), uuid4()
    await desk.read_events(payment_requested(booking_id), payment_requested(of_this_release))
    await desk.connection.execute(
        "update checkout_session set params = params #- '{metadata,mark}' where booking_id = %s", (booking_id,)
    )

    async def declined(booking_id: UUID, attempt: int) -> list[object]:
        old = {"booking_id": str(booking_id), "room_id": str(ROOM), "attempt": str(attempt)}
        commands = await desk.webhooks(webhook("payment_intent.payment_failed", {"id": "pi_1", "metadata": old}))
        return [command for _, command in commands]

    assert await declined(booking_id, 1) == [DeclinePayment(room_id=ROOM, booking_id=booking_id, failure="declined")]
    # Our own sessions have a mark, and nothing can decline what has ended.
    assert await declined(of_this_release, 1) == []
    assert await declined(booking_id, 2) == []
    await desk.connection.execute("update checkout_session set status = 'expired'")
    assert await declined(booking_id, 1) == []


async def test_objects_with_an_id_of_our_rows_are_ours_whatever_their_mark_is(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))
    await desk.connection.execute("update checkout_session set session_id = 'cs_old', status = 'open'")
    # Another key of the mark, or another installation's id: that of a database made anew without a backup.
    marked = desk.metadata(booking_id, 1) | {"mark": "0" * 32}

    commands = await desk.webhooks(
        session_webhook(desk, booking_id, "completed", metadata=marked, id="cs_old"),
        webhook("payment_intent.payment_failed", {"id": "pi_1", "metadata": marked}),
    )

    assert [type(command) for _, command in commands] == [ConfirmPayment, DeclinePayment]


async def test_a_declined_card_of_a_session_from_before_the_key_was_changed_is_ours(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))
    marked = desk.metadata(booking_id, 1)
    changed = desk.settings.model_copy(update={"payment_mark_key": SecretStr("another key")})
    desk.consumer = Payments(desk.log.settings, changed)

    commands = await desk.webhooks(webhook("payment_intent.payment_failed", {"id": "pi_1", "metadata": marked}))

    assert [type(command) for _, command in commands] == [DeclinePayment]


async def test_a_refund_that_fails_after_a_lost_dispute_is_due_again(desk: Desk) -> None:
    booking_id = uuid4()
    await paid(desk, booking_id)
    await desk.add_to_ledger(booking_id, _refunded("pi_1", due_minor=24_000))
    await desk.read_events(refund_requested(booking_id, "pi_1"))
    await desk.webhooks(dispute_webhook("lost", 15_000))
    await desk.webhooks(refund_webhook(desk.metadata(booking_id), "succeeded", amount=9_000))
    (closed,) = await desk.refunds()

    await desk.webhooks(refund_webhook(desk.metadata(booking_id), "failed", amount=9_000))

    (row,) = await desk.refunds()
    assert (closed["status"], row["status"], row["next_attempt_at"] is not None) == ("closed", "creating", True)


async def test_the_payment_of_a_session_that_its_row_does_not_know_any_more_is_noted(desk: Desk) -> None:
    booking_id, confirmed = uuid4(), uuid4()
    await desk.read_events(payment_requested(booking_id), payment_requested(confirmed))
    # The call got another key, and opened another session; the guest pays the first.
    await desk.connection.execute("update checkout_session set session_id = 'cs_2' || booking_id, status = 'open'")

    await desk.webhooks(session_webhook(desk, booking_id, "completed", id="cs_1"))
    await desk.read_events(refund_requested(confirmed, "pi_of_confirmed"))

    (row,), (other,) = await desk.sessions(booking_id), await desk.sessions(confirmed)
    assert (row["payment_intent"], row["status"]) == ("pi_1", "open")
    assert other["payment_intent"] == "pi_of_confirmed"


async def test_a_session_of_ours_with_the_mark_of_another_key_is_foreign(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))
    metadata = desk.metadata(booking_id, 1) | {"mark": "0" * 32}

    assert await desk.webhooks(session_webhook(desk, booking_id, "completed", metadata=metadata)) == []

    assert [row["status"] for row in await desk.sessions(booking_id)] == ["creating"]


async def test_commands_that_0_1_0_cannot_decide_are_not_sent_while_it_may_run(desk: Desk) -> None:
    booking_id = uuid4()
    await paid(desk, booking_id)
    kafka = desk.log.settings.model_copy(update={"log_readable_by": Release.V0_1_0})
    desk.consumer = Payments(kafka, desk.settings)
    before = sum(metrics.WITHHELD_COMMANDS.values.values())

    commands = await desk.webhooks(
        refund_webhook({}, "succeeded", "re_hand", amount=5_000),
        refund_webhook(desk.metadata(booking_id), "succeeded", "re_ours", amount=5_000),
        refund_webhook(desk.metadata(booking_id), "failed", "re_ours", amount=5_000),
        dispute_webhook("needs_response"),
    )

    assert [command.refund_id for _, command in commands if isinstance(command, RecordRefund)] == ["re_ours"]
    assert len(commands) == 1
    assert sum(metrics.WITHHELD_COMMANDS.values.values()) == before + 3
    # Everything else is recorded, so that it can be compared later.
    assert len(await desk.refund_objects(booking_id)) == 2
    assert len(await desk.disputes(booking_id)) == 1


async def test_a_webhook_that_cannot_be_read_is_named_and_leaves_nothing_of_its_batch(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))

    with pytest.raises(Unreadable) as raised:
        await desk.webhooks(session_webhook(desk, booking_id, "completed"), b"no event")

    assert raised.value.record.offset == 1
    assert [row["status"] for row in await desk.sessions()] == ["creating"]


async def test_a_webhook_of_another_version_of_the_api_is_read_and_logged_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    intent = {"id": "pi_1", "metadata": desk.metadata(uuid4(), 1)}
    old = webhook("payment_intent.payment_failed", intent, version="2024-06-20")

    commands = await desk.webhooks(old, old)

    assert [type(command) for _, command in commands] == [DeclinePayment] * 2
    assert [record.levelno for record in caplog.records if "2024-06-20" in record.message] == [logging.WARNING]
