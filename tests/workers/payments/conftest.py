"""Fixtures of payments' tests: the stand-in for Stripe, and a desk."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from sandbox.stripe import Running, running_stripe
from storage.settings import DatabaseSettings
from tests.support.log import open_log
from tests.support.stripe_traffic import stripe_knows_our_requests
from tests.workers.payments.desk import Desk, open_desk
from topics.kafka.settings import KafkaSettings
from workers.payments.settings import PaymentSettings

__all__ = ["stripe_knows_our_requests"]


@pytest.fixture
async def stand_in(tmp_path: Path) -> AsyncIterator[Running]:
    """Stripe's stand-in with empty books; it posts no webhooks; the tests hand them over."""
    async with running_stripe(tmp_path / "stripe") as running:
        yield running


@pytest.fixture
def payment_settings(stand_in: Running) -> PaymentSettings:
    """Settings that lead to the stand-in."""
    return PaymentSettings(
        _env_file=None,
        stripe_api_key=SecretStr("sk_test_of_the_stand_in"),
        stripe_api_url=stand_in.url,
        frontend_url="http://127.0.0.1:3000",
        stripe_calls_per_second=100,
    )


@pytest.fixture
async def desk(
    kafka_settings: KafkaSettings,
    database: DatabaseSettings,
    stand_in: Running,
    payment_settings: PaymentSettings,
) -> AsyncIterator[Desk]:
    """A payments desk."""
    async with (
        open_log(kafka_settings) as log,
        open_desk(log, database, stand_in, payment_settings) as desk,
    ):
        yield desk
