"""A system with two ingress processes behind nginx, and guests who have only nginx' address."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from sandbox import nginx
from sandbox.nginx import Nginx
from sandbox.seed import seed
from sandbox.system import ONE_OF_EACH, Plan, System
from storage.settings import DatabaseSettings
from tests.support.caps import WITHOUT_CAPS
from tests.support.stack import LONG_TIMEOUTS
from tests.system.deploy.guests import Guests
from topics.kafka.settings import KafkaSettings


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """A running system, its proxy, and its guests."""

    system: System
    proxy: Nginx
    guests: Guests
    kafka: KafkaSettings
    database: DatabaseSettings


@asynccontextmanager
async def deployed(
    folder: Path, workers: Mapping[str, int] = ONE_OF_EACH, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Deployed]:
    """Run all of it for as long as the block lasts."""
    if (reason := nginx.available()) is not None:
        pytest.skip(reason)
    plan = Plan(
        folder=folder / "system",
        workers=workers,
        ingress=2,
        own_servers=True,
        quiet=True,
        environment={
            "TRUSTED_PROXIES": "127.0.0.0/8",
            "RATE_LIMITS": "false",
            **WITHOUT_CAPS,
            **LONG_TIMEOUTS,
            **(environment or {}),
        },
    )
    async with System(plan) as system:
        kafka = KafkaSettings(_env_file=None, kafka_url=system.kafka_url)
        database = DatabaseSettings(_env_file=None, database_url=SecretStr(system.database_url))
        rooms = await seed(kafka, database)
        async with (
            Nginx(folder / "nginx", system.urls) as proxy,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=proxy.trust())) as http,
        ):
            guests = Guests(http, proxy.url, rooms)
            await guests.log_in()
            yield Deployed(system=system, proxy=proxy, guests=guests, kafka=kafka, database=database)
