"""Stripe's webhooks: verified over the raw bytes, put on `stripe.webhooks` as they came, and only then answered.

What they mean is for payments to say. Until the broker has one Stripe gets no 2xx, and sends it again.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, TypeAdapter
from stripe import SignatureVerificationError, WebhookSignature

from ingress.http.answers import Answer, answer
from ingress.http.bodies import decoded, read
from ingress.http.models import NoBody, NoQuery, Problems, RequestHeader, Shown
from ingress.http.problems import Problem
from ingress.log.broker import Broker
from ingress.operations import Access, Asked, Example, Reply, operation
from telemetry import traces
from topics.catalogue import STRIPE_WEBHOOKS
from topics.envelope import Outgoing
from topics.kafka.settings import KafkaSettings

TOLERANCE_SECONDS: Final = 300
_MAX_KEY: Final = 255
_SIGNATURE: Final = RequestHeader(
    name="Stripe-Signature",
    description="The time, and what Stripe made of the raw bytes with the secret that it shares with us.",
    example="t=1766000000,v1=signature",
)


class _Told(BaseModel):
    """What we read of what Stripe sends, which has much else."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Object(_Told):
    """What the webhook tells of; the fields that choose its partition."""

    id: str | None = None
    metadata: dict[str, Any] | None = None


class _Data(_Told):
    object: _Object


class _StripeEvent(_Told):
    id: str
    type: str
    data: _Data


class Received(Shown):
    """The webhook is on the log."""

    received: bool


_stripe_event: Final = TypeAdapter(_StripeEvent)


class Webhooks:
    """Takes what Stripe sends."""

    def __init__(self, settings: KafkaSettings, broker: Broker, secrets: Sequence[str]) -> None:
        self._topic = settings.topic(STRIPE_WEBHOOKS)
        self._broker = broker
        self._secrets = secrets

    @operation(
        "POST /webhooks/stripe",
        access=Access.SIGNED,
        summary="Take a webhook of Stripe's",
        answers={200: Received, 400: Reply(Problems, "Stripe did not sign this, or it is no JSON.")},
        example=Example(
            headers={"Stripe-Signature": "t=1766000000,v1=signature"},
            body={"id": "evt_1", "type": "charge.updated", "livemode": False, "data": {"object": {"id": "ch_1"}}},
        ),
        limited=False,
        service=True,
        raw_body=True,
        headers=(_SIGNATURE,),
    )
    async def stripe(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Take one webhook, verified over its raw bytes: 200 when the broker has it, 503 without a broker."""
        body = await read(asked.request)
        verify(body, asked.request.headers.get("Stripe-Signature"), self._secrets)
        event = decoded(body, _stripe_event)
        # What we opened at Stripe names the trace of the payment, and its webhooks bring that back.
        theirs = traces.well_formed((event.data.object.metadata or {}).get(traces.TRACEPARENT))
        with traces.span("receive stripe.webhooks", kind="producer", parent=theirs):
            headers = [("content-type", b"application/json")]
            if trace := traces.current() or theirs:
                headers.append((traces.TRACEPARENT, trace.encode()))
            await self._broker.send(Outgoing(self._topic, key_of(event), body, headers))
        return answer(200, Received(received=True))


def verify(body: bytes, signature: str | None, secrets: Sequence[str]) -> None:
    """Check that one of the secrets signed these bytes at most 300 s ago, and not more than 300 s ahead.

    Raises:
        Problem: 400, always the same, whatever is wrong.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Problem(400, "the body is not UTF-8") from None
    # The library compares signatures as text, which only ASCII can be compared as.
    if signature is None or not signature.isascii() or not any(_signed(text, signature, each) for each in secrets):
        raise Problem(400, "invalid signature")


def key_of(event: _StripeEvent) -> bytes:
    """Return the room that the webhook is about, as far as it says; else what it tells of."""
    told = event.data.object
    room_id = (told.metadata or {}).get("room_id")
    if isinstance(room_id, str) and room_id:
        return room_id[:_MAX_KEY].encode()
    return (told.id or event.id)[:_MAX_KEY].encode()


def _signed(text: str, signature: str, secret: str) -> bool:
    try:
        WebhookSignature.verify_header(text, signature, secret, TOLERANCE_SECONDS)
    except SignatureVerificationError:
        return False
    # The library refuses what is too old, but takes any time to come; it has read a number at `t` here.
    signed_at = next(int(part[2:]) for part in signature.split(",") if part.startswith("t="))
    return signed_at <= time.time() + TOLERANCE_SECONDS
