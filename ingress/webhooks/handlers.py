"""Stripe's webhooks: verified over the raw bytes, put on `stripe.webhooks` unchanged, and only then answered.

The payments worker interprets them. Stripe gets no 2xx before the broker has a webhook, and sends it again.
"""

import time
from collections.abc import Sequence
from typing import Final

from pydantic import TypeAdapter
from stripe import SignatureVerificationError, WebhookSignature

from ingress.http.bodies import decode, read
from ingress.http.deadlines import sending
from ingress.http.models import NoBody, NoQuery, Problems, RequestHeader
from ingress.http.problems import Problem
from ingress.http.responses import Response, json_response
from ingress.log.broker import Broker
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from ingress.webhooks.models import Received, StripeEvent
from telemetry import traces
from topics.catalogue import STRIPE_WEBHOOKS
from topics.kafka.settings import KafkaSettings
from topics.webhooks import webhook_record

TOLERANCE_SECONDS: Final = 300
_SIGNATURE: Final = RequestHeader(
    name="Stripe-Signature",
    description="The time, and the signature of the raw bytes by the secret that Stripe shares with us.",
    example="t=1766000000,v1=signature",
)


_stripe_event: Final = TypeAdapter(StripeEvent)


class Webhooks:
    """The operation that takes Stripe's webhooks."""

    def __init__(self, settings: KafkaSettings, broker: Broker, secrets: Sequence[str]) -> None:
        self._topic = settings.topic(STRIPE_WEBHOOKS)
        self._broker = broker
        self._secrets = secrets

    @operation(
        "POST /webhooks/stripe",
        access=Access.SIGNED,
        summary="Take a webhook of Stripe's",
        responses={200: Received, 400: ResponseSpec(Problems, "Stripe did not sign this, or it is no JSON.")},
        example=Example(
            headers={"Stripe-Signature": "t=1766000000,v1=signature"},
            body={"id": "evt_1", "type": "charge.updated", "livemode": False, "data": {"object": {"id": "ch_1"}}},
        ),
        limited=False,
        service=True,
        raw_body=True,
        headers=(_SIGNATURE,),
    )
    async def stripe(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Take one webhook, verified over its raw bytes: 200 when the broker has it, 503 without a broker."""
        body = await read(context.request)
        verify(body, context.request.headers.get("Stripe-Signature"), self._secrets)
        event = decode(body, _stripe_event)
        # The metadata of a Checkout Session name the trace of the payment, and its webhooks bring them back.
        payment_trace = traces.well_formed((event.data.object.metadata or {}).get(traces.TRACEPARENT))
        with traces.span("receive stripe.webhooks", kind="producer", parent=payment_trace):
            trace = traces.current() or payment_trace
            about = event.data.object
            record = webhook_record(
                self._topic,
                body,
                event_id=event.id,
                object_id=about.id,
                room_id=(about.metadata or {}).get("room_id"),
                headers=((traces.TRACEPARENT, trace.encode()),) if trace else (),
            )
            # It is sent also for a client that has hung up: Stripe's event is a fact.
            with sending():
                await self._broker.send(record)
        return json_response(200, Received(received=True))


def verify(body: bytes, signature: str | None, secrets: Sequence[str]) -> None:
    """Check that one of the secrets signed these bytes at most 300 s ago, and not more than 300 s ahead.

    Raises:
        Problem: 400, the same for every fault.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Problem(400, "the body is not UTF-8") from None
    # The library compares signatures as text, which only ASCII can be compared as.
    if signature is None or not signature.isascii() or not any(_is_signed(text, signature, each) for each in secrets):
        raise Problem(400, "invalid signature")


def _is_signed(text: str, signature: str, secret: str) -> bool:
    try:
        WebhookSignature.verify_header(text, signature, secret, TOLERANCE_SECONDS)
    except SignatureVerificationError:
        return False
    # The library refuses old signatures, but takes any time in the future; it has read a number at `t` by now.
    signed_at = next(int(part[2:]) for part in signature.split(",") if part.startswith("t="))
    return signed_at <= time.time() + TOLERANCE_SECONDS
