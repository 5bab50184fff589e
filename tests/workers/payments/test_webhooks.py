"""The effects of Stripe's webhooks: given the bytes, then the commands to the room and the changes of our rows."""

import dataclasses
import json
import logging
from typing import Any
from uuid import UUID

import msgspec
import pytest

from storage.payments import DisputeReported, RefundReported, SessionEnded
from topics.messages.commands import (
    BookingCommand,
    ClosePayment,
    ConfirmPayment,
    DeclinePayment,
    FailRefund,
    RecordDispute,
    RecordRefund,
)
from topics.messages.values import DisputeResult
from workers.payments.webhooks import (
    NotUnderstood,
    WebhookEffect,
    effect_of,
    effect_without_objects,
    objects_of,
    read_event,
)
from workers.stripe.objects import Attribution, BookingRef

BOOKING = UUID("0197a5b2-6c00-8000-8000-000000000001")
OURS = Attribution(BookingRef(BOOKING, 7, 2))
BY_HAND = Attribution(BookingRef(BOOKING, 7, 1), by_hand=True, cancel_if_full=True)
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
}
REFUND: dict[str, Any] = {
    "id": "re_1",
    "object": "refund",
    "status": "succeeded",
    "amount": 24_000,
    "currency": "eur",
    "payment_intent": "pi_1",
}
DISPUTE: dict[str, Any] = {
    "id": "du_1",
    "object": "dispute",
    "status": "needs_response",
    "amount": 24_000,
    "currency": "eur",
    "payment_intent": "pi_1",
    "reason": "fraudulent",
    "balance_transactions": [],
}
CONFIRM = ConfirmPayment(
    room_id=7,
    booking_id=BOOKING,
    session_id="cs_1",
    payment_intent="pi_1",
    amount_minor=24_000,
    currency="EUR",
    attempt=2,
)
RECORD_REFUND = RecordRefund(
    room_id=7, booking_id=BOOKING, payment_intent="pi_1", refund_id="re_1", amount_minor=24_000
)


COMPLETE = SessionEnded(booking_id=BOOKING, attempt=2, session_id="cs_1", status="complete", payment_intent="pi_1")


def webhook(type: str, about: dict[str, Any], **envelope: Any) -> bytes:
    event = {"id": "evt_1", "type": type, "livemode": False, "api_version": "2026-10-28.endive", **envelope}
    return json.dumps(event | {"data": {"object": about}}).encode()


def effects_of_webhook(
    type: str, about: dict[str, Any], *, attribution: Attribution | None = OURS, live: bool = False, **envelope: Any
) -> list[WebhookEffect]:
    event = read_event(webhook(type, about, **envelope))
    ignored = effect_without_objects(event, live=live)
    return [effect_of(event, about, attribution) for about in objects_of(event)] if ignored is None else [ignored]


def effect_of_webhook(type: str, about: dict[str, Any], **options: Any) -> WebhookEffect:
    (effect,) = effects_of_webhook(type, about, **options)
    return effect


def refund_reported(status: Any, **changes: Any) -> RefundReported:
    reported: dict[str, Any] = {"refund_id": "re_1", "payment_intent": "pi_1", "booking_id": BOOKING}
    return RefundReported(**reported | {"amount_minor": 24_000, "currency": "EUR", "status": status} | changes)


def commands(effect: WebhookEffect) -> list[BookingCommand]:
    return [command for _, command in effect.commands]


@pytest.mark.parametrize("type", ["checkout.session.completed", "checkout.session.async_payment_succeeded"])
def test_a_paid_session_confirms_the_payment(type: str) -> None:
    effect = effect_of_webhook(type, SESSION)

    assert commands(effect) == [CONFIRM]
    assert effect.updates == (COMPLETE,)


def test_a_payment_whose_session_names_no_attempt_is_confirmed_without_one() -> None:
    effect = effect_of_webhook("checkout.session.completed", SESSION, attribution=Attribution(BookingRef(BOOKING, 7)))

    assert commands(effect) == [msgspec.structs.replace(CONFIRM, attempt=None)]


def test_a_payment_reported_twice_and_by_another_event_is_the_same_command() -> None:
    effects = [
        effect_of_webhook("checkout.session.completed", SESSION),
        effect_of_webhook("checkout.session.completed", SESSION, id="evt_2"),
        effect_of_webhook("checkout.session.async_payment_succeeded", SESSION, id="evt_3"),
    ]

    assert len({id for effect in effects for id, _ in effect.commands}) == 1


def test_amounts_are_read_in_the_unit_in_which_stripe_counts() -> None:
    krona = {"currency": "isk"}
    (confirm,) = commands(effect_of_webhook("checkout.session.completed", SESSION | krona | {"amount_total": 50_000}))
    (refund,) = commands(effect_of_webhook("refund.created", REFUND | krona | {"amount": 50_000}))
    (dispute,) = commands(effect_of_webhook("charge.dispute.created", DISPUTE | krona | {"amount": 50_000}))

    assert [command.amount_minor for command in (confirm, refund, dispute)] == [500] * 3  # type: ignore[attr-defined]


def test_a_payment_of_nothing_is_known_by_its_session() -> None:
    free = SESSION | {"payment_status": "no_payment_required", "payment_intent": None, "amount_total": 0}

    (confirm,) = commands(effect_of_webhook("checkout.session.completed", free))

    assert isinstance(confirm, ConfirmPayment)
    assert (confirm.payment_intent, confirm.amount_minor) == ("cs_1", 0)


def test_a_completed_session_that_is_not_paid_waits() -> None:
    effect = effect_of_webhook("checkout.session.completed", SESSION | {"payment_status": "unpaid"})

    assert effect.commands == ()
    assert [update.status for update in effect.updates] == ["complete"]


def test_a_delayed_payment_that_fails_is_declined() -> None:
    effect = effect_of_webhook("checkout.session.async_payment_failed", SESSION | {"payment_status": "unpaid"})

    assert commands(effect) == [DeclinePayment(room_id=7, booking_id=BOOKING, failure="async_payment_failed")]


def test_a_session_that_expired_closes_the_payment() -> None:
    effect = effect_of_webhook("checkout.session.expired", SESSION | {"status": "expired", "payment_status": "unpaid"})

    assert commands(effect) == [ClosePayment(room_id=7, booking_id=BOOKING, session_id="cs_1")]
    assert effect.updates == (dataclasses.replace(COMPLETE, status="expired"),)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"code": "card_declined", "decline_code": "insufficient_funds"}, "insufficient_funds"),
        ({"code": "expired_card", "decline_code": None}, "expired_card"),
        (None, "declined"),
    ],
)
def test_a_declined_card_is_recorded_with_its_reason(error: dict[str, Any] | None, failure: str) -> None:
    intent = {"id": "pi_1", "last_payment_error": error}

    assert commands(effect_of_webhook("payment_intent.payment_failed", intent)) == [
        DeclinePayment(room_id=7, booking_id=BOOKING, failure=failure)
    ]


def test_two_declined_cards_are_two_commands_and_one_reported_twice_is_one() -> None:
    first = {"id": "pi_1", "last_payment_error": {"code": "card_declined", "charge": "ch_1"}}
    second = {"id": "pi_1", "last_payment_error": {"code": "card_declined", "charge": "ch_2"}}

    ids = [
        effect_of_webhook("payment_intent.payment_failed", about, id=event).commands[0][0]
        for about, event in [(first, "evt_1"), (first, "evt_2"), (second, "evt_3")]
    ]

    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("type", ["refund.created", "refund.updated", "charge.refund.updated"])
def test_a_refund_that_succeeded_is_recorded(type: str) -> None:
    effect = effect_of_webhook(type, REFUND)

    assert commands(effect) == [RECORD_REFUND]
    assert effect.updates == (refund_reported("succeeded"),)


def test_the_refunds_that_a_charge_of_an_old_version_lists_are_recorded_one_by_one() -> None:
    part = REFUND | {"id": "re_2", "amount": 5_000, "payment_intent": None}
    charge = {"id": "ch_1", "payment_intent": "pi_1", "refunds": {"data": [REFUND, part]}}

    both = effects_of_webhook("charge.refunded", charge)

    assert [commands(effect) for effect in both] == [
        [RECORD_REFUND],
        [msgspec.structs.replace(RECORD_REFUND, refund_id="re_2", amount_minor=5_000)],
    ]


def test_a_charge_that_lists_no_refunds_leaves_its_effect_to_the_refund() -> None:
    assert effects_of_webhook("charge.refunded", {"id": "ch_1"}) == []


def test_a_refund_by_hand_is_recorded_as_one_with_the_hotels_wish() -> None:
    effect = effect_of_webhook("refund.created", REFUND | {"amount": 5_000}, attribution=BY_HAND)

    assert commands(effect) == [
        msgspec.structs.replace(RECORD_REFUND, amount_minor=5_000, by_hand=True, cancel_if_full=True)
    ]
    assert effect.updates == (refund_reported("succeeded", amount_minor=5_000, by_hand=True),)


@pytest.mark.parametrize("status", ["pending", "requires_action"])
def test_a_refund_that_pends_is_only_recorded(status: str) -> None:
    effect = effect_of_webhook("refund.created", REFUND | {"status": status})

    assert effect.commands == ()
    assert effect.updates == (refund_reported("pending"),)


@pytest.mark.parametrize("status", ["failed", "canceled"])
@pytest.mark.parametrize("attribution", [OURS, BY_HAND])
def test_a_refund_that_failed_is_recorded_and_logged_as_an_error(status: str, attribution: Attribution) -> None:
    effect = effect_of_webhook(
        "refund.failed", REFUND | {"status": status, "failure_reason": None}, attribution=attribution
    )

    assert effect.level == logging.ERROR
    assert commands(effect) == [
        FailRefund(
            room_id=7,
            booking_id=BOOKING,
            payment_intent="pi_1",
            refund_id="re_1",
            amount_minor=24_000,
            failure=status,
            by_hand=attribution.by_hand,
        )
    ]
    assert effect.updates == (refund_reported("failed", failure=status, by_hand=attribution.by_hand),)


def test_a_refund_that_succeeded_and_failed_is_two_commands() -> None:
    succeeded = effect_of_webhook("refund.created", REFUND)
    failed = effect_of_webhook("refund.failed", REFUND | {"status": "failed"})
    again = effect_of_webhook("refund.updated", REFUND | {"status": "failed"})

    assert succeeded.commands[0][0] != failed.commands[0][0] == again.commands[0][0]


def record_dispute(outcome: DisputeResult | None) -> RecordDispute:
    return RecordDispute(
        room_id=7,
        booking_id=BOOKING,
        payment_intent="pi_1",
        dispute_id="du_1",
        amount_minor=24_000,
        reason="fraudulent",
        result=outcome,
    )


@pytest.mark.parametrize(
    ("type", "status", "outcome"),
    [
        ("created", "needs_response", None),
        ("funds_withdrawn", "needs_response", None),
        ("updated", "under_review", None),
        ("updated", "appeal_under_review", None),
        ("closed", "won", DisputeResult.WON),
        ("funds_reinstated", "won", DisputeResult.WON),
        ("closed", "charge_refunded", DisputeResult.WON),
        ("closed", "lost", DisputeResult.LOST),
    ],
)
def test_a_dispute_is_recorded_with_its_end(type: str, status: str, outcome: DisputeResult | None) -> None:
    effect = effect_of_webhook(f"charge.dispute.{type}", DISPUTE | {"status": status})

    assert commands(effect) == [record_dispute(outcome)]
    assert effect.updates == (
        DisputeReported(
            dispute_id="du_1",
            payment_intent="pi_1",
            booking_id=BOOKING,
            amount_minor=24_000,
            currency="EUR",
            status="open" if outcome is None else outcome.value,
            reason="fraudulent",
        ),
    )


def test_the_states_of_an_open_dispute_are_one_command_and_its_end_is_another() -> None:
    ids = [
        effect_of_webhook("charge.dispute.updated", DISPUTE | {"status": status}).commands[0][0]
        for status in ("needs_response", "under_review", "won", "lost")
    ]

    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


@pytest.mark.parametrize("status", ["warning_needs_response", "warning_under_review", "warning_closed", "prevented"])
def test_an_inquiry_takes_no_money(status: str) -> None:
    effect = effect_of_webhook("charge.dispute.created", DISPUTE | {"status": status})

    assert (effect.commands, effect.updates, effect.is_inquiry) == ((), (), True)


def test_a_dispute_that_the_network_ended_by_paying_the_cardholder_is_lost() -> None:
    prevented = DISPUTE | {"status": "prevented", "balance_transactions": [{"amount": -24_000}]}

    assert commands(effect_of_webhook("charge.dispute.closed", prevented)) == [record_dispute(DisputeResult.LOST)]


def test_an_object_that_is_not_ours_has_no_effect() -> None:
    for type, about in [
        ("checkout.session.completed", SESSION),
        ("checkout.session.expired", SESSION | {"status": "expired"}),
        ("checkout.session.async_payment_failed", SESSION),
        ("payment_intent.payment_failed", {"id": "pi_1"}),
        ("refund.updated", REFUND),
        ("refund.failed", REFUND | {"status": "failed"}),
        ("charge.dispute.created", DISPUTE),
    ]:
        effect = effect_of_webhook(type, about, attribution=None)
        assert (effect.commands, effect.updates, effect.level) == ((), (), logging.DEBUG)
        assert effect.is_foreign
        assert effect.summary == f"{about['id']} is not about a booking of ours"


@pytest.mark.parametrize("type", ["customer.created", "payment_intent.succeeded", "charge.succeeded", "v2.new"])
def test_events_of_other_kinds_have_no_effect(type: str) -> None:
    assert effect_of_webhook(type, {"anything": 1}).commands == ()


@pytest.mark.parametrize("live", [True, False])
def test_a_payment_of_the_other_mode_moves_nothing(live: bool) -> None:  # noqa: FBT001 - a parameter of the test.
    effect = effect_of_webhook("checkout.session.completed", SESSION, live=live, livemode=not live)

    assert (effect.commands, effect.updates, effect.level) == ((), (), logging.WARNING)


def test_a_payment_whose_reference_is_another_booking_moves_nothing() -> None:
    effect = effect_of_webhook("checkout.session.completed", SESSION | {"client_reference_id": str(UUID(int=8))})

    assert (effect.commands, effect.updates, effect.level) == ((), (), logging.ERROR)


@pytest.mark.parametrize("missing", ["amount_total", "currency"])
def test_a_payment_without_an_amount_or_currency_is_not_understood(missing: str) -> None:
    with pytest.raises(NotUnderstood, match="amount or currency"):
        effect_of_webhook("checkout.session.completed", SESSION | {missing: None})


@pytest.mark.parametrize("body", [None, b"", b"{", b"[]", b"\xff\xfe", b'{"id": "evt_1"}', b'{"id": 1, "type": "x"}'])
def test_bytes_that_are_no_event_are_not_understood(body: bytes | None) -> None:
    with pytest.raises(NotUnderstood):
        read_event(body)


def test_an_event_of_ours_without_what_its_type_promises_is_not_understood() -> None:
    with pytest.raises(NotUnderstood, match=r"checkout\.session\.completed evt_1"):
        effect_of_webhook("checkout.session.completed", SESSION | {"amount_total": "much"})
