"""What Stripe's webhooks mean: given the bytes that arrive, then the commands to the room and the news for our rows."""

import json
import logging
from typing import Any
from uuid import UUID

import pytest

from storage.payments import RefundMoved, SessionEnded
from topics.messages.commands import BookingCommand, ClosePayment, ConfirmPayment, DeclinePayment, RecordRefund
from workers.payments.webhooks import Meaning, NotUnderstood, meaning_of, read_event

BOOKING = UUID("0197a5b2-6c00-8000-8000-000000000001")
OURS = {"booking_id": str(BOOKING), "room_id": "7", "attempt": "2"}
SESSION: dict[str, Any] = {
    "id": "cs_1",
    "object": "checkout.session",
    "status": "complete",
    "payment_status": "paid",
    "amount_total": 24_000,
    "currency": "eur",
    "client_reference_id": str(BOOKING),
    "payment_intent": "pi_1",
    "livemode": False,
    "metadata": OURS,
}
REFUND: dict[str, Any] = {
    "id": "re_1",
    "object": "refund",
    "status": "succeeded",
    "amount": 24_000,
    "currency": "eur",
    "payment_intent": "pi_1",
    "metadata": {"booking_id": str(BOOKING), "room_id": "7"},
}
CONFIRM = ConfirmPayment(
    room_id=7, booking_id=BOOKING, session_id="cs_1", payment_intent="pi_1", amount_minor=24_000, currency="EUR"
)
RECORD_REFUND = RecordRefund(
    room_id=7, booking_id=BOOKING, payment_intent="pi_1", refund_id="re_1", amount_minor=24_000
)


def webhook(type: str, told: dict[str, Any], **envelope: Any) -> bytes:
    event = {"id": "evt_1", "type": type, "livemode": False, "api_version": "2026-10-28.endive", **envelope}
    return json.dumps(event | {"data": {"object": told}}).encode()


def heard(type: str, told: dict[str, Any], *, live: bool = False, **envelope: Any) -> Meaning:
    return meaning_of(read_event(webhook(type, told, **envelope)), live=live)


def commands(meaning: Meaning) -> list[BookingCommand]:
    return [command for _, command in meaning.commands]


@pytest.mark.parametrize("type", ["checkout.session.completed", "checkout.session.async_payment_succeeded"])
def test_a_paid_session_confirms_the_payment(type: str) -> None:
    meaning = heard(type, SESSION)

    assert commands(meaning) == [CONFIRM]
    assert meaning.news == (SessionEnded(booking_id=BOOKING, attempt=2, session_id="cs_1", status="complete"),)


def test_a_payment_told_twice_and_by_another_event_is_the_same_command() -> None:
    told = [
        heard("checkout.session.completed", SESSION),
        heard("checkout.session.completed", SESSION, id="evt_2"),
        heard("checkout.session.async_payment_succeeded", SESSION, id="evt_3"),
    ]

    assert len({id for meaning in told for id, _ in meaning.commands}) == 1


def test_a_payment_of_nothing_is_known_by_its_session() -> None:
    free = SESSION | {"payment_status": "no_payment_required", "payment_intent": None, "amount_total": 0}

    (confirm,) = commands(heard("checkout.session.completed", free))

    assert isinstance(confirm, ConfirmPayment)
    assert (confirm.payment_intent, confirm.amount_minor) == ("cs_1", 0)


def test_a_completed_session_that_is_not_paid_waits() -> None:
    meaning = heard("checkout.session.completed", SESSION | {"payment_status": "unpaid"})

    assert meaning.commands == ()
    assert [news.status for news in meaning.news] == ["complete"]


def test_a_delayed_payment_that_fails_is_declined() -> None:
    meaning = heard("checkout.session.async_payment_failed", SESSION | {"payment_status": "unpaid"})

    assert commands(meaning) == [DeclinePayment(room_id=7, booking_id=BOOKING, failure="async_payment_failed")]


def test_a_session_that_expired_closes_the_payment() -> None:
    meaning = heard("checkout.session.expired", SESSION | {"status": "expired", "payment_status": "unpaid"})

    assert commands(meaning) == [ClosePayment(room_id=7, booking_id=BOOKING, session_id="cs_1")]
    assert meaning.news == (SessionEnded(booking_id=BOOKING, attempt=2, session_id="cs_1", status="expired"),)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"code": "card_declined", "decline_code": "insufficient_funds"}, "insufficient_funds"),
        ({"code": "expired_card", "decline_code": None}, "expired_card"),
        (None, "declined"),
    ],
)
def test_a_declined_card_is_told_with_its_reason(error: dict[str, Any] | None, failure: str) -> None:
    intent = {"id": "pi_1", "metadata": OURS, "last_payment_error": error}

    assert commands(heard("payment_intent.payment_failed", intent)) == [
        DeclinePayment(room_id=7, booking_id=BOOKING, failure=failure)
    ]


def test_two_declined_cards_are_two_commands_and_one_told_twice_is_one() -> None:
    first = {"id": "pi_1", "metadata": OURS, "last_payment_error": {"code": "card_declined", "charge": "ch_1"}}
    second = {"id": "pi_1", "metadata": OURS, "last_payment_error": {"code": "card_declined", "charge": "ch_2"}}

    ids = [
        heard("payment_intent.payment_failed", told, id=event).commands[0][0]
        for told, event in [(first, "evt_1"), (first, "evt_2"), (second, "evt_3")]
    ]

    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("type", ["refund.created", "refund.updated", "charge.refund.updated"])
def test_a_refund_that_succeeded_is_recorded(type: str) -> None:
    meaning = heard(type, REFUND)

    assert commands(meaning) == [RECORD_REFUND]
    assert meaning.news == (RefundMoved(payment_intent="pi_1", refund_id="re_1", status="succeeded"),)
    assert meaning.commands == heard("charge.refunded", {"id": "ch_1", "refunds": {"data": [REFUND]}}).commands


def test_a_charge_that_lists_no_refunds_leaves_the_word_to_the_refund() -> None:
    assert heard("charge.refunded", {"id": "ch_1", "metadata": OURS}) == Meaning(
        says="ch_1 was refunded, as its refund tells", level=logging.DEBUG
    )


@pytest.mark.parametrize("status", ["pending", "requires_action"])
def test_a_refund_that_pends_is_only_noted(status: str) -> None:
    meaning = heard("refund.created", REFUND | {"status": status})

    assert meaning.commands == ()
    assert meaning.news == (RefundMoved(payment_intent="pi_1", refund_id="re_1", status="pending"),)


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_refund_that_failed_is_shouted(status: str) -> None:
    meaning = heard("refund.failed", REFUND | {"status": status, "failure_reason": None})

    assert (meaning.commands, meaning.level) == ((), logging.ERROR)
    assert meaning.news == (RefundMoved(payment_intent="pi_1", refund_id="re_1", status="failed", failure=status),)


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"order": "17"}, {"booking_id": str(BOOKING)}, {"booking_id": "B-17", "room_id": "7"}],
)
def test_what_is_somebody_elses_is_left_alone(metadata: dict[str, str] | None) -> None:
    for type, told in [
        ("checkout.session.completed", SESSION),
        ("checkout.session.expired", SESSION | {"status": "expired"}),
        ("checkout.session.async_payment_failed", SESSION),
        ("payment_intent.payment_failed", {"id": "pi_1"}),
        ("refund.updated", REFUND),
    ]:
        meaning = heard(type, told | {"metadata": metadata})
        assert (meaning.commands, meaning.news, meaning.level) == ((), (), logging.DEBUG)


@pytest.mark.parametrize("type", ["customer.created", "payment_intent.succeeded", "charge.succeeded", "v2.new"])
def test_events_of_other_kinds_mean_nothing(type: str) -> None:
    assert heard(type, {"anything": 1}).commands == ()


@pytest.mark.parametrize("live", [True, False])
def test_a_payment_of_the_other_mode_moves_nothing(live: bool) -> None:  # noqa: FBT001 - a parameter of the test.
    meaning = heard("checkout.session.completed", SESSION, live=live, livemode=not live)

    assert (meaning.commands, meaning.news, meaning.level) == ((), (), logging.WARNING)


def test_a_payment_whose_reference_is_another_booking_moves_nothing() -> None:
    meaning = heard("checkout.session.completed", SESSION | {"client_reference_id": str(UUID(int=8))})

    assert (meaning.commands, meaning.news, meaning.level) == ((), (), logging.ERROR)


@pytest.mark.parametrize("missing", ["amount_total", "currency"])
def test_a_payment_that_does_not_say_how_much_is_not_understood(missing: str) -> None:
    with pytest.raises(NotUnderstood, match="how much"):
        heard("checkout.session.completed", SESSION | {missing: None})


@pytest.mark.parametrize("body", [None, b"", b"{", b"[]", b"\xff\xfe", b'{"id": "evt_1"}', b'{"id": 1, "type": "x"}'])
def test_bytes_that_are_no_event_are_not_understood(body: bytes | None) -> None:
    with pytest.raises(NotUnderstood):
        read_event(body)


def test_an_event_of_ours_without_what_its_type_promises_is_not_understood() -> None:
    with pytest.raises(NotUnderstood, match=r"checkout\.session\.completed evt_1"):
        heard("checkout.session.completed", SESSION | {"amount_total": "much"})
