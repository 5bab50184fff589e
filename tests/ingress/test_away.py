"""The ingress while the broker or the database is away, and when they come back."""

import asyncio
import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from sandbox.kafka import Kafka
from sandbox.ports import free_port
from storage.settings import DatabaseSettings
from tests.ingress.conftest import ingress_settings, run_ingress
from tests.ingress.house import STAY, House, open_hotel, open_reader
from tests.ingress.webhooks.test_webhooks import BODY, sign
from tests.support.waiting import wait_until
from topics.catalogue import BOOKING_COMMANDS
from topics.kafka import admin
from topics.kafka.settings import KafkaSettings


class Guest:
    """Sends bookings with a short time limit for the broker; `sent` are those that may have reached it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.sent = 0

    async def books(self) -> str | None:
        answered = await self.house.post("/v1/bookings/init", STAY, user=1)
        self.sent += answered.status == 202 or "did not answer in time" in answered.body["detail"]
        return answered.body["id"] if answered.status == 202 else None


async def test_nothing_is_half_done_while_the_broker_is_away(
    tmp_path: Path, database: DatabaseSettings, caplog: pytest.LogCaptureFixture
) -> None:
    await open_hotel(database)
    kafka = Kafka(tmp_path)
    settings = KafkaSettings(_env_file=None, kafka_url=kafka.url, topic_partitions=2)
    # One account sends what many would.
    alone = ingress_settings(ack_seconds=1.0, max_unpaid_bookings=0)
    async with run_ingress(alone, settings, database, ready=False) as house:
        # Given an ingress that started before its broker
        assert (await house.get("/health/live")).status == 200
        not_ready = await house.get("/health/ready")
        assert (not_ready.status, not_ready.body["detail"]) == (503, "not ready: broker, events")
        early = await house.post("/v1/bookings/init", STAY, user=1)
        assert (early.status, early.headers["Retry-After"]) == (503, "2")

        await kafka.start()
        try:
            await admin.create(settings)
            await wait_until(house.is_ready, message="not ready although the broker is there")
            assert "commands wait for the broker (" in caplog.text
            assert re.search(r"works again after \d+ failures: commands wait for the broker", caplog.text)
            guest = Guest(house)
            promised = [await wait_until(guest.books)]

            # When the broker is killed under ten requests
            asking = [asyncio.create_task(house.post("/v1/bookings/init", STAY, user=1)) for _ in range(10)]
            await kafka.kill()
            under_way = await asyncio.gather(*asking)
            promised += [answer.body["id"] for answer in under_way if answer.status == 202]
            refused = [
                await house.post("/v1/bookings/init", STAY, user=1, headers={"Idempotency-Key": "abc"}),
                await house.ask("POST", "/webhooks/stripe", data=BODY, headers={"Stripe-Signature": sign()}),
            ]
            assert {answer.status for answer in refused} == {503}
            assert {answer.status for answer in under_way} <= {202, 503}

            # Then it takes bookings again by itself, and the log has each that was promised and no later ghost
            await kafka.start()
            promised.append(await wait_until(guest.books, message="no booking is taken again"))
            sent = await _all_commands(settings)
            assert set(promised) <= set(sent)
            assert len(sent) <= len(under_way) + guest.sent
        finally:
            await kafka.stop()


async def _all_commands(settings: KafkaSettings) -> list[str]:
    reader = await open_reader(settings, BOOKING_COMMANDS)
    try:
        ends = await reader.end_offsets(reader.assignment())
        records = [await reader.getone() for _ in range(sum(ends.values()))]
    finally:
        await reader.stop()
    return [dict(record.headers)["ce_subject"].decode() for record in records]


async def test_without_a_database_it_refuses_and_invents_nothing(kafka_settings: KafkaSettings) -> None:
    nowhere = f"postgresql://nobody:secret@127.0.0.1:{free_port()}/none"
    database = DatabaseSettings(_env_file=None, database_url=SecretStr(nowhere))
    async with run_ingress(ingress_settings(), kafka_settings, database, ready=False) as house:
        assert (await house.get("/health/live")).status == 200
        await wait_until(lambda: _only_the_database_is_missing(house))
        for request in (
            house.post("/v1/bookings/init", STAY, user=1),
            house.get("/v1/bookings/00000000-0000-8000-8000-000000000000/status", user=1),
            house.post("/v1/auth/login", {"email": "a@example.com", "password": "password"}),
        ):
            answered = await request
            assert (answered.status, answered.headers["Retry-After"]) == (503, "1")
            assert "secret" not in str(answered.body)


async def _only_the_database_is_missing(house: House) -> bool:
    return bool((await house.get("/health/ready")).body.get("detail") == "not ready: database")
