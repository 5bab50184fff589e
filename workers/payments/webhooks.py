"""What Stripe's webhooks mean to us: Stripe's words end here, and commands to the room's owner begin.

Pure: an event in, a meaning out. Webhooks come twice, late and in any order; so a command's id is made of the object
and its transition, and a row's state only ever moves towards its end.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec

from storage.payments import RefundMoved, SessionEnded
from topics.messages.commands import BookingCommand, ClosePayment, ConfirmPayment, DeclinePayment, RecordRefund
from workers.payments.objects import (
    Charge,
    Ours,
    PaymentIntent,
    Refund,
    Session,
    StripeObject,
    command_id,
    our_currency,
)


class NotUnderstood(ValueError):
    """The bytes are no event of Stripe's, or lack what its documentation promises."""


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What follows: commands with their ids, news for our own rows, and a line for the log."""

    commands: tuple[tuple[str, BookingCommand], ...] = ()
    news: tuple[SessionEnded | RefundMoved, ...] = ()
    says: str
    level: int = logging.INFO


class _Content(msgspec.Struct, frozen=True):
    object: msgspec.Raw


class StripeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope of a webhook; `api_version` is the one its object was written in."""

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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotUnderstood(f"no event of Stripe's: {error}") from error


def meaning_of(event: StripeEvent, *, live: bool) -> Meaning:
    """Return what an event means to us; `live` is whether our key moves real money.

    Raises:
        NotUnderstood: the event's object is not what the event's type promises.
    """
    if event.type not in _MEANINGS:
        return Meaning(says=f"{event.type} {event.id} means nothing to us", level=logging.DEBUG)
    if event.livemode != live:
        return _other_mode(event.id, live=event.livemode)
    kind, explain = _MEANINGS[event.type]
    try:
        told: StripeObject = msgspec.json.decode(event.data.object, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotUnderstood(f"{event.type} {event.id}: {error}") from error
    return explain(told, event)


def meaning_of_session(session: Session, *, live: bool) -> Meaning:
    """Return what a session's state means, whether a webhook told of it or we asked for it.

    Raises:
        NotUnderstood: the session is paid and does not say how much.
    """
    ours = session.ours()
    if ours is None:
        return _foreign(session)
    if session.livemode != live:
        return _other_mode(session.id, live=session.livemode)
    if session.status == "complete":
        return _paid(session, ours) if session.paid else _completed_unpaid(session, ours)
    if session.status == "expired":
        return _expired(session, ours)
    return Meaning(says=f"{session.id} is {session.status}")


def meaning_of_refund(refund: Refund) -> Meaning:
    """Return what a refund's state means, whether a webhook told of it or Stripe answered so."""
    ours = refund.ours()
    if ours is None or refund.payment_intent is None:
        return _foreign(refund)
    if refund.status == "succeeded":
        return _refunded(refund, ours, refund.payment_intent)
    if refund.status in {"failed", "canceled"}:
        return _refund_failed(refund, refund.payment_intent)
    moved = RefundMoved(payment_intent=refund.payment_intent, refund_id=refund.id, status="pending")
    return Meaning(news=(moved,), says=f"{refund.id} of {refund.payment_intent} pends: {refund.status}")


def _paid(session: Session, ours: Ours) -> Meaning:
    if session.client_reference_id != str(ours.booking_id):
        return Meaning(
            says=f"{session.id} is paid, its reference {session.client_reference_id} is not booking {ours.booking_id}",
            level=logging.ERROR,
        )
    if session.amount_total is None or session.currency is None:
        raise NotUnderstood(f"{session.id} is paid and does not say how much")
    confirm = ConfirmPayment(
        room_id=ours.room_id,
        booking_id=ours.booking_id,
        session_id=session.id,
        # Where nothing was owed there is no payment intent; the session itself is the payment then.
        payment_intent=session.payment_intent or session.id,
        amount_minor=session.amount_total,
        currency=our_currency(session.currency),
    )
    return Meaning(
        commands=((command_id(session.id, "paid"), confirm),),
        news=(_ended(session, ours, "complete"),),
        says=f"{session.id} of booking {ours.booking_id} is paid",
    )


def _completed_unpaid(session: Session, ours: Ours) -> Meaning:
    return Meaning(
        news=(_ended(session, ours, "complete"),),
        says=f"{session.id} of booking {ours.booking_id} is completed and not paid yet",
    )


def _expired(session: Session, ours: Ours) -> Meaning:
    close = ClosePayment(room_id=ours.room_id, booking_id=ours.booking_id, session_id=session.id)
    return Meaning(
        commands=((command_id(session.id, "expired"), close),),
        news=(_ended(session, ours, "expired"),),
        says=f"{session.id} of booking {ours.booking_id} expired",
    )


def _ended(session: Session, ours: Ours, status: Literal["complete", "expired"]) -> SessionEnded:
    return SessionEnded(booking_id=ours.booking_id, attempt=ours.attempt, session_id=session.id, status=status)


def _delayed_payment_failed(session: Session, _: StripeEvent) -> Meaning:
    ours = session.ours()
    if ours is None:
        return _foreign(session)
    decline = DeclinePayment(room_id=ours.room_id, booking_id=ours.booking_id, failure="async_payment_failed")
    return Meaning(
        commands=((command_id(session.id, "async_payment_failed"), decline),),
        news=(_ended(session, ours, "complete"),),
        says=f"{session.id} of booking {ours.booking_id}: the delayed payment failed",
    )


def _declined(payment: PaymentIntent, event: StripeEvent) -> Meaning:
    ours = payment.ours()
    if ours is None:
        return _foreign(payment)
    error = payment.last_payment_error
    failure = (error and (error.decline_code or error.code)) or "declined"
    decline = DeclinePayment(room_id=ours.room_id, booking_id=ours.booking_id, failure=failure)
    # One intent fails as often as its guest tries: the charge, else the event, tells the attempts apart.
    attempt = (error and error.charge) or event.id
    return Meaning(
        commands=((command_id(payment.id, f"declined:{attempt}"), decline),),
        says=f"{payment.id} of booking {ours.booking_id} was declined: {failure}",
    )


def _refunded(refund: Refund, ours: Ours, payment_intent: str) -> Meaning:
    record = RecordRefund(
        room_id=ours.room_id,
        booking_id=ours.booking_id,
        payment_intent=payment_intent,
        refund_id=refund.id,
        amount_minor=refund.amount,
    )
    return Meaning(
        commands=((command_id(refund.id, "succeeded"), record),),
        news=(RefundMoved(payment_intent=payment_intent, refund_id=refund.id, status="succeeded"),),
        says=f"{refund.id} of {payment_intent}, booking {ours.booking_id}, succeeded",
    )


def _refund_failed(refund: Refund, payment_intent: str) -> Meaning:
    failure = refund.failure_reason or refund.status
    return Meaning(
        news=(RefundMoved(payment_intent=payment_intent, refund_id=refund.id, status="failed", failure=failure),),
        says=f"{refund.id} of {payment_intent} FAILED ({failure}): the guest's money is still here",
        level=logging.ERROR,
    )


def _charge(charge: Charge, _: StripeEvent) -> Meaning:
    """Read the refunds that a charge lists; newer versions of the API list none and tell `refund.created` instead."""
    refunds = charge.refunds.data if charge.refunds is not None else ()
    meanings = [meaning_of_refund(refund) for refund in refunds]
    return Meaning(
        commands=tuple(command for meaning in meanings for command in meaning.commands),
        news=tuple(news for meaning in meanings for news in meaning.news),
        says="; ".join(meaning.says for meaning in meanings) or f"{charge.id} was refunded, as its refund tells",
        level=max((meaning.level for meaning in meanings), default=logging.DEBUG),
    )


def _foreign(told: StripeObject) -> Meaning:
    return Meaning(says=f"{told.id} is not about a booking of ours", level=logging.DEBUG)


def _other_mode(subject: str, *, live: bool) -> Meaning:
    mode = "live" if live else "test"
    return Meaning(says=f"{subject} is ignored: it is of {mode} mode and our key is not", level=logging.WARNING)


def _session(session: Session, event: StripeEvent) -> Meaning:
    return meaning_of_session(session, live=event.livemode)


def _refund(refund: Refund, _: StripeEvent) -> Meaning:
    return meaning_of_refund(refund)


_MEANINGS: Final[dict[str, tuple[type[StripeObject], Callable[[Any, StripeEvent], Meaning]]]] = {
    "checkout.session.completed": (Session, _session),
    "checkout.session.async_payment_succeeded": (Session, _session),
    "checkout.session.async_payment_failed": (Session, _delayed_payment_failed),
    "checkout.session.expired": (Session, _session),
    "payment_intent.payment_failed": (PaymentIntent, _declined),
    "refund.created": (Refund, _refund),
    "refund.updated": (Refund, _refund),
    "refund.failed": (Refund, _refund),
    "charge.refund.updated": (Refund, _refund),
    "charge.refunded": (Charge, _charge),
}
