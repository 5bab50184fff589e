"""The effects of Stripe's webhooks: Stripe's objects become commands to the room and changes of our rows.

Pure: an event in, an effect out. Webhooks come twice, late and in any order; so a command's id is made of the object
and its transition, and a row's state only ever moves towards its end.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec

from storage.payments import RefundChanged, SessionEnded
from topics.envelope import UNREADABLE
from topics.messages.commands import BookingCommand, ClosePayment, ConfirmPayment, DeclinePayment, RecordRefund
from workers.payments.objects import (
    BookingRef,
    Charge,
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
    """The effect of a webhook or an answer: commands with their ids, changes of our rows, and a line for the log."""

    commands: tuple[tuple[str, BookingCommand], ...] = ()
    updates: tuple[SessionEnded | RefundChanged, ...] = ()
    summary: str
    level: int = logging.INFO


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


def effect_of(event: StripeEvent, *, live: bool) -> WebhookEffect:
    """Return the effect of an event; `live` is whether our key moves real money.

    Raises:
        NotUnderstood: the event's object lacks a field that its type promises.
    """
    if event.type not in _EFFECTS:
        return WebhookEffect(summary=f"{event.type} {event.id} has no effect", level=logging.DEBUG)
    if event.livemode != live:
        return _other_mode_effect(event.id, live=event.livemode)
    kind, effect = _EFFECTS[event.type]
    try:
        about: StripeObject = msgspec.json.decode(event.data.object, type=kind)
    except UNREADABLE as error:
        raise NotUnderstood(f"{event.type} {event.id}: {error}") from error
    return effect(about, event)


def effect_of_session(session: Session, *, live: bool) -> WebhookEffect:
    """Return the effect of a session's state, whether it comes from a webhook or from an answer.

    Raises:
        NotUnderstood: the session is paid and lacks its amount.
    """
    ref = session.booking_ref()
    if ref is None:
        return _foreign_effect(session)
    if session.livemode != live:
        return _other_mode_effect(session.id, live=session.livemode)
    if session.status == "complete":
        return _paid_effect(session, ref) if session.paid else _unpaid_effect(session, ref)
    if session.status == "expired":
        return _expired_effect(session, ref)
    return WebhookEffect(summary=f"{session.id} is {session.status}")


def effect_of_refund(refund: Refund) -> WebhookEffect:
    """Return the effect of a refund's state, whether it comes from a webhook or from an answer."""
    ref = refund.booking_ref()
    if ref is None or refund.payment_intent is None:
        return _foreign_effect(refund)
    if refund.status == "succeeded":
        return _refunded_effect(refund, ref, refund.payment_intent)
    if refund.status in {"failed", "canceled"}:
        return _failed_refund_effect(refund, refund.payment_intent)
    changed = RefundChanged(payment_intent=refund.payment_intent, refund_id=refund.id, status="pending")
    return WebhookEffect(updates=(changed,), summary=f"{refund.id} of {refund.payment_intent} pends: {refund.status}")


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
        amount_minor=session.amount_total,
        currency=log_currency(session.currency),
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
    return SessionEnded(booking_id=ref.booking_id, attempt=ref.attempt, session_id=session.id, status=status)


def _delayed_failure_effect(session: Session, _: StripeEvent) -> WebhookEffect:
    ref = session.booking_ref()
    if ref is None:
        return _foreign_effect(session)
    decline = DeclinePayment(room_id=ref.room_id, booking_id=ref.booking_id, failure="async_payment_failed")
    return WebhookEffect(
        commands=((command_id(session.id, "async_payment_failed"), decline),),
        updates=(_session_ended(session, ref, "complete"),),
        summary=f"{session.id} of booking {ref.booking_id}: the delayed payment failed",
    )


def _declined_effect(payment: PaymentIntent, event: StripeEvent) -> WebhookEffect:
    ref = payment.booking_ref()
    if ref is None:
        return _foreign_effect(payment)
    error = payment.last_payment_error
    failure = (error and (error.decline_code or error.code)) or "declined"
    decline = DeclinePayment(room_id=ref.room_id, booking_id=ref.booking_id, failure=failure)
    # One intent can fail many times: the charge, else the event, distinguishes the attempts.
    attempt = (error and error.charge) or event.id
    return WebhookEffect(
        commands=((command_id(payment.id, f"declined:{attempt}"), decline),),
        summary=f"{payment.id} of booking {ref.booking_id} was declined: {failure}",
    )


def _refunded_effect(refund: Refund, ref: BookingRef, payment_intent: str) -> WebhookEffect:
    record = RecordRefund(
        room_id=ref.room_id,
        booking_id=ref.booking_id,
        payment_intent=payment_intent,
        refund_id=refund.id,
        amount_minor=refund.amount,
    )
    return WebhookEffect(
        commands=((command_id(refund.id, "succeeded"), record),),
        updates=(RefundChanged(payment_intent=payment_intent, refund_id=refund.id, status="succeeded"),),
        summary=f"{refund.id} of {payment_intent}, booking {ref.booking_id}, succeeded",
    )


def _failed_refund_effect(refund: Refund, payment_intent: str) -> WebhookEffect:
    failure = refund.failure_reason or refund.status
    return WebhookEffect(
        updates=(RefundChanged(payment_intent=payment_intent, refund_id=refund.id, status="failed", failure=failure),),
        summary=f"{refund.id} of {payment_intent} FAILED ({failure}): the guest has no money back yet",
        level=logging.ERROR,
    )


def _charge_effect(charge: Charge, _: StripeEvent) -> WebhookEffect:
    """Return the effect of the refunds that a charge lists; newer versions of the API send `refund.created` instead."""
    refunds = charge.refunds.data if charge.refunds is not None else ()
    effects = [effect_of_refund(refund) for refund in refunds]
    lines = "; ".join(effect.summary for effect in effects)
    return WebhookEffect(
        commands=tuple(command for effect in effects for command in effect.commands),
        updates=tuple(update for effect in effects for update in effect.updates),
        summary=lines or f"{charge.id} was refunded; its refund has an event of its own",
        level=max((effect.level for effect in effects), default=logging.DEBUG),
    )


def _foreign_effect(about: StripeObject) -> WebhookEffect:
    return WebhookEffect(summary=f"{about.id} is not about a booking of ours", level=logging.DEBUG)


def _other_mode_effect(subject: str, *, live: bool) -> WebhookEffect:
    mode = "live" if live else "test"
    return WebhookEffect(summary=f"{subject} is ignored: it is of {mode} mode, our key is not", level=logging.WARNING)


def _session_effect(session: Session, event: StripeEvent) -> WebhookEffect:
    return effect_of_session(session, live=event.livemode)


def _refund_effect(refund: Refund, _: StripeEvent) -> WebhookEffect:
    return effect_of_refund(refund)


_EFFECTS: Final[dict[str, tuple[type[StripeObject], Callable[[Any, StripeEvent], WebhookEffect]]]] = {
    "checkout.session.completed": (Session, _session_effect),
    "checkout.session.async_payment_succeeded": (Session, _session_effect),
    "checkout.session.async_payment_failed": (Session, _delayed_failure_effect),
    "checkout.session.expired": (Session, _session_effect),
    "payment_intent.payment_failed": (PaymentIntent, _declined_effect),
    "refund.created": (Refund, _refund_effect),
    "refund.updated": (Refund, _refund_effect),
    "refund.failed": (Refund, _refund_effect),
    "charge.refund.updated": (Refund, _refund_effect),
    "charge.refunded": (Charge, _charge_effect),
}
