"""The fixtures of the ingress' tests: an ingress of their own, a hotel, and a stand-in for the reservations worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from ingress import database as databases
from ingress.admin import nights
from ingress.application import create_app
from ingress.hotels.search import freshness
from ingress.http.connections import Runner
from ingress.limits import redis_link
from ingress.log import commands
from ingress.operators import handlers as operators
from ingress.settings import IngressSettings
from sandbox import redis
from sandbox.ports import free_port
from storage.settings import DatabaseSettings
from tests.ingress.house import House, StandInWorker, open_hotel, open_stand_in_worker
from tests.support.waiting import wait_until
from topics.kafka.settings import KafkaSettings

JWT_KEY = "a key that only tests know, of some length"
WEBHOOK_SECRETS = "whsec_of_the_stand_in, whsec_of_tomorrow"
#: How long a refresh token may come again in tests: the longest that can be set.
GRACE_SECONDS = 60
#: No machine freezes for as long. Tests of time limits set a limit of their own.
AMPLE_SECONDS = 60.0


def ingress_settings(**changes: Any) -> IngressSettings:
    """Return settings for tests: quick hashes, and limits that a slow machine keeps."""
    values: dict[str, Any] = {
        "jwt_secret_key": SecretStr(JWT_KEY),
        "stripe_webhook_secret": SecretStr(WEBHOOK_SECRETS),
        "bcrypt_rounds": 4,
        "ack_seconds": AMPLE_SECONDS,
        "request_seconds": AMPLE_SECONDS,
        "body_seconds": AMPLE_SECONDS,
        "refresh_grace_seconds": GRACE_SECONDS,
        "room_facts_seconds": 0.05,
        # One user sends more requests than a person would; tests of the limits switch them on.
        "rate_limits": False,
    }
    return IngressSettings(_env_file=None, **(values | changes))


@asynccontextmanager
async def run_ingress(
    settings: IngressSettings, kafka: KafkaSettings, database: DatabaseSettings, *, ready: bool = True
) -> AsyncIterator[House]:
    """Run an ingress for as long as the block lasts."""

    def failed(error: BaseException) -> None:
        raise error

    app = create_app(settings, kafka, database, failed=failed)
    runner = Runner(app, drain_seconds=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
            house = House(session, app)
            if ready:
                await wait_until(house.is_ready, message="the ingress was never ready")
            yield house
    finally:
        await runner.cleanup()


@pytest.fixture
def database(database: DatabaseSettings) -> DatabaseSettings:
    """No transaction or statement is ended because the machine was frozen in its middle."""
    return database.model_copy(
        update={
            "idle_in_transaction_timeout_ms": int(AMPLE_SECONDS * 1000),
            "lock_timeout_ms": int(AMPLE_SECONDS * 1000),
            "database_connect_seconds": int(AMPLE_SECONDS),
            "database_request_seconds": AMPLE_SECONDS,
        }
    )


@pytest.fixture
async def house(kafka_settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[House]:
    """An ingress that is ready, with a hotel (1) whose room (1) sleeps two."""
    await open_hotel(database)
    async with run_ingress(ingress_settings(), kafka_settings, database) as house:
        yield house


@pytest.fixture
async def house_without_broker(database: DatabaseSettings) -> AsyncIterator[House]:
    """An ingress whose broker is away, with the hotels of `house`: accounts need no broker."""
    await open_hotel(database)
    async with run_ingress(ingress_settings(), broker_away(), database, ready=False) as house:
        yield house


@pytest.fixture
async def stand_in(kafka_settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[StandInWorker]:
    """Stands in for the reservations worker: reads commands, writes bookings and events."""
    async with open_stand_in_worker(kafka_settings, database) as stand_in:
        yield stand_in


LIMITS = (
    (databases, "_POOL_SECONDS"),
    (databases, "_PING_SECONDS"),
    (freshness, "LOAD_SECONDS"),
    (operators, "_PROBE_SECONDS"),
    (nights, "_WAIT_SECONDS"),
    (operators, "_OPS_CONNECT_SECONDS"),
    (operators, "_OPS_ANSWER_SECONDS"),
    (commands, "_FOLLOW_WITHIN_SECONDS"),
    (redis_link, "MAX_ANSWER_SECONDS"),
    (redis_link, "_REDIS_CONNECT_SECONDS"),
)


@pytest.fixture(autouse=True)
def _all_have_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every wait enough time for a slow machine."""
    for module, name in LIMITS:
        monkeypatch.setattr(module, name, type(getattr(module, name))(AMPLE_SECONDS))


@pytest.fixture
async def redis_server(tmp_path: Path) -> AsyncIterator[redis.Redis]:
    """A Redis of this test's own, with a password."""
    if (reason := redis.available()) is not None:
        pytest.skip(reason)
    async with redis.Redis(tmp_path / "redis") as server:
        yield server


def broker_away() -> KafkaSettings:
    """Return settings that lead to no broker."""
    return KafkaSettings(_env_file=None, kafka_url=f"127.0.0.1:{free_port()}")


@asynccontextmanager
async def run_ingress_alone(**changes: Any) -> AsyncIterator[House]:
    """Run an ingress that has neither broker nor database, for requests that need neither."""
    nowhere = f"postgresql://nobody:nothing@127.0.0.1:{free_port()}/nothing"
    database = DatabaseSettings(_env_file=None, database_url=SecretStr(nowhere))
    async with run_ingress(ingress_settings(**changes), broker_away(), database, ready=False) as house:
        yield house
