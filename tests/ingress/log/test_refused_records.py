"""The broker refuses a record outright: its request is answered that nothing was done, and others go on."""

from functools import partial

import pytest
from aiokafka.errors import TopicAuthorizationFailedError

from tests.ingress.house import STAY, House
from tests.ingress.webhooks.test_webhooks import BODY, sign
from tests.support.topics import configure
from tests.support.waiting import wait_until
from topics.catalogue import BOOKING_COMMANDS
from topics.kafka import admin
from topics.kafka.producer import Producer
from topics.kafka.settings import KafkaSettings

TOO_SMALL = "100"


async def test_a_request_whose_command_the_broker_refuses_fails_alone(
    house: House, kafka_settings: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    topic = kafka_settings.topic(BOOKING_COMMANDS)
    required = admin.topic_configuration(kafka_settings, BOOKING_COMMANDS)

    async def has_status(status: int) -> bool:
        return (await house.post("/v1/bookings/init", STAY, user=1)).status == status

    await configure(kafka_settings, topic, required | {"max.message.bytes": TOO_SMALL})
    await wait_until(partial(has_status, 503), message="the broker refuses records")

    for _ in range(2):
        refused = await house.post("/v1/bookings/init", STAY, user=1)
        assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
        assert refused.body["detail"] == "the broker refuses what it was sent; nothing was done, try again"
        # The same broker leads the webhooks' topic.
        webhook = await house.ask("POST", "/webhooks/stripe", data=BODY, headers={"Stripe-Signature": sign()})
        assert webhook.status == 200

    await configure(kafka_settings, topic, required)
    await wait_until(partial(has_status, 202), message="the broker takes records again")
    assert "the broker refuses a record of" in caplog.text
    assert "is given up" not in caplog.text


async def test_a_missing_right_at_the_broker_has_its_name(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuses(*_: object) -> None:
        raise TopicAuthorizationFailedError("booking.commands")

    monkeypatch.setattr(Producer, "send", refuses)

    refused = await house.post("/v1/bookings/init", STAY, user=1)

    assert refused.body["detail"] == "a right is missing at the broker; nothing was done, try again"
