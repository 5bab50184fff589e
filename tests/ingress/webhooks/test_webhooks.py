"""Webhooks from Stripe, and forged ones."""

import json
import time
from typing import Any

from stripe import WebhookSignature

from tests.ingress.house import House, open_reader
from topics.catalogue import STRIPE_WEBHOOKS
from topics.kafka.settings import KafkaSettings

SECRET = "whsec_of_the_stand_in"
EVENT = {
    "id": "evt_1",
    "type": "checkout.session.completed",
    "data": {"object": {"id": "cs_1", "metadata": {"room_id": "17", "booking_id": "b"}}},
}
BODY = json.dumps(EVENT, indent=1).encode()


def sign(body: bytes = BODY, secret: str = SECRET, ago: float = 0) -> str:
    signed = WebhookSignature.generate_signature_header(body.decode(), secret, int(time.time() - ago))
    assert isinstance(signed, str)
    return signed


async def send(house: House, body: bytes, signature: str | None) -> Any:
    headers = {} if signature is None else {"Stripe-Signature": signature}
    return await house.ask("POST", "/webhooks/stripe", data=body, headers=headers)


async def test_a_webhook_is_put_on_the_log_byte_for_byte_and_only_then_answered(
    house: House, kafka_settings: KafkaSettings
) -> None:
    without_room = json.dumps(EVENT | {"data": {"object": {"id": "re_1", "metadata": {}}}}).encode()
    assert (await send(house, BODY, sign())).status == 200
    assert (await send(house, without_room, sign(without_room))).status == 200

    reader = await open_reader(kafka_settings, STRIPE_WEBHOOKS)
    try:
        records = [await reader.getone() for _ in range(2)]
    finally:
        await reader.stop()
    assert {(record.key, record.value) for record in records} == {(b"17", BODY), (b"re_1", without_room)}


async def test_either_secret_signs_within_the_window(house: House) -> None:
    for signature in (
        sign(secret="whsec_of_the_stand_in"),
        sign(secret="whsec_of_tomorrow"),
        sign(ago=270),
        sign(ago=-270),
        sign() + ",v1=" + "0" * 64,
        sign() + ",v0=" + "0" * 64,
    ):
        assert (await send(house, BODY, signature)).status == 200, signature


async def test_a_webhook_that_stripe_did_not_sign_is_refused(house: House) -> None:
    for body, signature in (
        (BODY + b" ", sign()),
        (BODY.replace(b"17", b"18"), sign()),
        (b"", sign()),
        (BODY, None),
        (BODY, ""),
        (BODY, "nonsense"),
        (BODY, "t=,v1="),
        (BODY, sign().partition(",")[0] + ",v1=é"),
        (BODY, sign().partition(",")[0]),
        (BODY, sign().replace("v1=", "v0=")),
        (BODY, sign(secret="whsec_of_somebody_else")),
        (BODY, sign(ago=330)),
        (BODY, sign(ago=-330)),
        (b"\xff" + BODY, sign()),
        (b"not json", sign(b"not json")),
    ):
        refused = await send(house, body, signature)
        assert (refused.status, list(refused.body)) == (400, ["detail"]), (body, signature)


async def test_a_webhook_above_64_kb_is_refused(house: House) -> None:
    body = b'{"a": "' + b"x" * 64 * 1024 + b'"}'
    assert (await send(house, body, sign(body))).status == 413
