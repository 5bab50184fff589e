"""The effects of Stripe's webhooks: Stripe's objects become commands to the room and changes of our rows.

Pure: an event's objects and their bookings in, effects out. Webhooks come twice, late and in any order; so a command's
id is made of the object and its transition, and a row's state only ever moves towards its end.
"""

import logging
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from pricing.charges import from_stripe
from storage.payments import DisputeReported, RefundReported, SessionEnded
from topics.envelope import UNREADABLE
from topics.messages.commands import (
    BookingCommand,
    ClosePayment,
    ConfirmPayment,
    DeclinePayment,
    FailRefund,
    RecordDispute,
    RecordRefund,
)
from workers.stripe import states
from workers.stripe.objects import (
    Attribution,
    BookingRef,
    Charge,
    Dispute,
    PaymentIntent,
    Refund,
    Session,
    StripeObject,
    command_id,
    log_currency,
)


class NotUnderstood(ValueError):
    """The bytes are no event of Stripe's, or lack a field that its documentation promises."""


@dataclass(frozen=True, kw_only=True)
class WebhookEffect:
    """The effect of a webhook or an answer: commands with their ids, changes of our rows, and a line for the log.

    `is_foreign`: the object is another system's. `is_inquiry`: a bank asks about a payment and takes no money.
    """

    commands: tuple[tuple[str, BookingCommand], ...] = ()
    updates: tuple[SessionEnded | RefundReported | DisputeReported, ...] = ()
    summary: str
    level: int = logging.INFO
    is_foreign: bool = False
    is_inquiry: bool = False


class _Content(msgspec.Struct, frozen=True):
    object: msgspec.Raw


class StripeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope of a webhook; `api_version` is the version in which its object is written."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    type: str
    livemode: bool
    data: _Content
    api_version: str | None = None


_EVENTS: Final = msgspec.json.Decoder(StripeEvent)


def read_event(body: bytes | None) -> StripeEvent:
    """Read a webhook's body as Stripe sent it.

    Raises:
        NotUnderstood: it is no event.
    """
    if body is None:
        raise NotUnderstood("a webhook without a body")
    try:
        return _EVENTS.decode(body)
    except UNREADABLE as error:
        raise NotUnderstood(f"no event of Stripe's: {error}") from error


def effect_without_objects(event: StripeEvent, *, live: bool) -> WebhookEffect | None:
    """Return the effect of an event whose objects do not matter, else None.

    `live` is whether our key moves real money.
    """
    if event.type not in _KINDS:
        return WebhookEffect(summary=f"{event.type} {event.id} has no effect", level=logging.DEBUG)
    if event.livemode != live:
        return _other_mode_effect(event.id, live=event.livemode)
    return None


def objects_of(event: StripeEvent) -> tuple[StripeObject, ...]:
    """Return the objects whose states an event reports: one, or the refunds that an old version lists in a charge.

    Raises:
        NotUnderstood: the event's object lacks a field that its type promises.
    """
    try:
        about: StripeObject = msgspec.json.decode(event.data.object, type=_KINDS[event.type])
    except UNREADABLE as error:
        raise NotUnderstood(f"{event.type} {event.id}: {error}") from error
    if not isinstance(about, Charge):
        return (about,)
    # Newer versions of the API send `refund.created` instead of listing the refunds.
    refunds = about.refunds.data if about.refunds is not None else ()
    return tuple(_with_payment(refund, about) for refund in refunds)


def _with_payment(refund: Refund, charge: Charge) -> Refund:
    return msgspec.structs.replace(refund, payment_intent=refund.payment_intent or charge.payment_intent)


def effect_of(event: StripeEvent, about: StripeObject, attribution: Attribution | None) -> WebhookEffect:
    """Return the effect of one object of an event; `attribution` is its booking, None for an object that is not ours.

    Raises:
        NotUnderstood: the object lacks a field that its state promises.
    """
    if attribution is None:
        return WebhookEffect(summary=f"{about.id} is not about a booking of ours", level=logging.DEBUG, is_foreign=True)
    match about:
        case Session() if event.type == "checkout.session.async_payment_failed":
            return _delayed_failure_effect(about, attribution.ref)
        case Session():
            return effect_of_session(about, attribution.ref, live=event.livemode)
        case PaymentIntent():
            return _declined_effect(about, attribution.ref, event)
        case Refund() | Dispute():
            return effect_of_payments_object(about, attribution)
        case _:
            raise NotUnderstood(f"{event.type} {event.id} has an object of another kind")


def effect_of_payments_object(about: Refund | Dispute, attribution: Attribution) -> WebhookEffect:
    """Return the effect of a refund or a dispute of a payment."""
    return (
        effect_of_refund(about, attribution) if isinstance(about, Refund) else _dispute_effect(about, attribution.ref)
    )


def effect_of_session(session: Session, ref: BookingRef, *, live: bool) -> WebhookEffect:
    """Return the effect of a session's state, whether it comes from a webhook or from an answer.

    Raises:
        NotUnderstood: the session is paid and lacks its amount.
    """
    if session.livemode != live:
        return _other_mode_effect(session.id, live=session.livemode)
    if session.status == "complete":
        return _paid_effect(session, ref) if session.paid else _unpaid_effect(session, ref)
    if session.status == "expired":
        return _expired_effect(session, ref)
    return WebhookEffect(summary=f"{session.id} is {session.status}")


def effect_of_refund(refund: Refund, attribution: Attribution) -> WebhookEffect:
    """Return the effect of a refund's state, whether it comes from a webhook or from an answer."""
    payment_intent = refund.payment_intent
    if payment_intent is None:
        return WebhookEffect(summary=f"{refund.id} has no payment intent", level=logging.ERROR)
    match refund.state:
        case "succeeded":
            return _refunded_effect(refund, attribution, payment_intent)
        case "failed":
            return _failed_refund_effect(refund, attribution, payment_intent)
        case "pending":
            return WebhookEffect(
                updates=(_refund_reported(refund, attribution, payment_intent),),
                summary=f"{refund.id} of {payment_intent} pends: {refund.status}",
            )


def _paid_effect(session: Session, ref: BookingRef) -> WebhookEffect:
    if session.client_reference_id != str(ref.booking_id):
        return WebhookEffect(
            summary=f"{session.id} is paid, its reference is {session.client_reference_id}, not {ref.booking_id}",
            level=logging.ERROR,
        )
    if session.amount_total is None or session.currency is None:
        raise NotUnderstood(f"{session.id} is paid, and its amount or currency is missing")
    confirm = ConfirmPayment(
        room_id=ref.room_id,
        booking_id=ref.booking_id,
        session_id=session.id,
        # Without anything to pay there is no payment intent; the session itself is the payment then.
        payment_intent=session.payment_intent or session.id,
        amount_minor=from_stripe(session.amount_total, log_currency(session.currency)),
        currency=log_currency(session.currency),
        attempt=ref.attempt or None,
    )
    return WebhookEffect(
        commands=((command_id(session.id, "paid"), confirm),),
        updates=(_session_ended(session, ref, "complete"),),
        summary=f"{session.id} of booking {ref.booking_id} is paid",
    )


def _unpaid_effect(session: Session, ref: BookingRef) -> WebhookEffect:
    return WebhookEffect(
        updates=(_session_ended(session, ref, "complete"),),
        summary=f"{session.id} of booking {ref.booking_id} is completed and not paid yet",
    )


def _expired_effect(session: Session, ref: BookingRef) -> WebhookEffect:
    close = ClosePayment(room_id=ref.room_id, booking_id=ref.booking_id, session_id=session.id)
    return WebhookEffect(
        commands=((command_id(session.id, "expired"), close),),
        updates=(_session_ended(session, ref, "expired"),),
        summary=f"{session.id} of booking {ref.booking_id} expired",
    )


def _session_ended(session: Session, ref: BookingRef, status: Literal["complete", "expired"]) -> SessionEnded:
    return SessionEnded(
        booking_id=ref.booking_id,
        attempt=ref.attempt,
        session_id=session.id,
        status=status,
        # Of a session without anything to pay, the session itself is the payment.
        payment_intent=session.payment_intent or (session.id if session.paid else None),
    )


def _delayed_failure_effect(session: Session, ref: BookingRef) -> WebhookEffect:
    decline = DeclinePayment(room_id=ref.room_id, booking_id=ref.booking_id, failure="async_payment_failed")
    return WebhookEffect(
        commands=((command_id(session.id, "async_payment_failed"), decline),),
        updates=(_session_ended(session, ref, "complete"),),
        summary=f"{session.id} of booking {ref.booking_id}: the delayed payment failed",
    )


def _declined_effect(payment: PaymentIntent, ref: BookingRef, event: StripeEvent) -> WebhookEffect:
    error = payment.last_payment_error
    failure = (error and (error.decline_code or error.code)) or "declined"
    decline = DeclinePayment(room_id=ref.room_id, booking_id=ref.booking_id, failure=failure)
    # One intent can fail many times: the charge, else the event, distinguishes the attempts.
    attempt = (error and error.charge) or event.id
    return WebhookEffect(
        commands=((command_id(payment.id, f"declined:{attempt}"), decline),),
        summary=f"{payment.id} of booking {ref.booking_id} was declined: {failure}",
    )


def _refunded_effect(refund: Refund, attribution: Attribution, payment_intent: str) -> WebhookEffect:
    ref = attribution.ref
    record = RecordRefund(
        room_id=ref.room_id,
        booking_id=ref.booking_id,
        payment_intent=payment_intent,
        refund_id=refund.id,
        amount_minor=refund.amount_minor,
        by_hand=attribution.by_hand,
        cancel_if_full=attribution.cancel_if_full,
    )
    by_hand = " by hand" if attribution.by_hand else ""
    return WebhookEffect(
        commands=((command_id(refund.id, refund.state), record),),
        updates=(_refund_reported(refund, attribution, payment_intent),),
        summary=f"{refund.id} of {payment_intent}, booking {ref.booking_id}, succeeded{by_hand}",
    )


def _failed_refund_effect(refund: Refund, attribution: Attribution, payment_intent: str) -> WebhookEffect:
    ref, failure = attribution.ref, refund.failure_reason or refund.status or "failed"
    fail = FailRefund(
        room_id=ref.room_id,
        booking_id=ref.booking_id,
        payment_intent=payment_intent,
        refund_id=refund.id,
        amount_minor=refund.amount_minor,
        failure=failure,
        by_hand=attribution.by_hand,
    )
    return WebhookEffect(
        commands=((command_id(refund.id, refund.state), fail),),
        updates=(_refund_reported(refund, attribution, payment_intent, failure),),
        summary=f"{refund.id} of {payment_intent} FAILED ({failure}): the guest has no money back yet",
        level=logging.ERROR,
    )


def _refund_reported(
    refund: Refund,
    attribution: Attribution,
    payment_intent: str,
    failure: str | None = None,
) -> RefundReported:
    return RefundReported(
        refund_id=refund.id,
        payment_intent=payment_intent,
        booking_id=attribution.ref.booking_id,
        amount_minor=refund.amount_minor,
        currency=log_currency(refund.currency),
        status=refund.state,
        by_hand=attribution.by_hand,
        failure=failure,
    )


def _dispute_effect(dispute: Dispute, ref: BookingRef) -> WebhookEffect:
    payment_intent = dispute.payment_intent
    if payment_intent is None:
        return WebhookEffect(summary=f"{dispute.id} has no payment intent", level=logging.ERROR)
    about = f"{dispute.id} of {payment_intent}, booking {ref.booking_id}, {dispute.reason}"
    result = states.dispute_result(dispute.status, took_money=dispute.took_money)
    if states.is_inquiry(dispute.status, took_money=dispute.took_money):
        return WebhookEffect(summary=f"{about}: {dispute.status}", level=logging.WARNING, is_inquiry=True)
    record = RecordDispute(
        room_id=ref.room_id,
        booking_id=ref.booking_id,
        payment_intent=payment_intent,
        dispute_id=dispute.id,
        amount_minor=dispute.amount_minor,
        reason=dispute.reason,
        result=result,
    )
    reported = DisputeReported(
        dispute_id=dispute.id,
        payment_intent=payment_intent,
        booking_id=ref.booking_id,
        amount_minor=dispute.amount_minor,
        currency=log_currency(dispute.currency),
        status=states.dispute_state(result),
        reason=dispute.reason,
    )
    return WebhookEffect(
        commands=((command_id(dispute.id, states.dispute_transition(result)), record),),
        updates=(reported,),
        summary=f"{about}: {dispute.status}",
        level=logging.WARNING,
    )


def _other_mode_effect(subject: str, *, live: bool) -> WebhookEffect:
    mode = "live" if live else "test"
    return WebhookEffect(summary=f"{subject} is ignored: it is of {mode} mode, our key is not", level=logging.WARNING)


_KINDS: Final[dict[str, type[StripeObject]]] = {
    "checkout.session.completed": Session,
    "checkout.session.async_payment_succeeded": Session,
    "checkout.session.async_payment_failed": Session,
    "checkout.session.expired": Session,
    "payment_intent.payment_failed": PaymentIntent,
    "refund.created": Refund,
    "refund.updated": Refund,
    "refund.failed": Refund,
    "charge.refund.updated": Refund,
    "charge.refunded": Charge,
    "charge.dispute.created": Dispute,
    "charge.dispute.updated": Dispute,
    "charge.dispute.funds_withdrawn": Dispute,
    "charge.dispute.funds_reinstated": Dispute,
    "charge.dispute.closed": Dispute,
}
"""The kind of the object of each type of event that has an effect."""
