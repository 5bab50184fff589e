"""The role as its tests let it run: in this process, over the paid bookings of `tests.operators.reconcile`."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from storage.database import connect_worker
from storage.settings import DatabaseSettings
from tests.operators.reconcile.paid_bookings import PaidBookings
from tests.support.log import Log
from topics.catalogue import STRIPE_WEBHOOKS
from topics.kafka.log_reader import LogReader
from workers.reconciliation import role
from workers.reconciliation.lost_webhooks import LostWebhooks
from workers.reconciliation.periodic import PeriodicComparison
from workers.reconciliation.settings import ReconciliationSettings
from workers.reconciliation.stripe_client import StripeClient, open_stripe


def settings_of(paid: PaidBookings, **values: Any) -> ReconciliationSettings:
    """Return settings for the stand-in; a role with them looks again at once, and compares now and then."""
    brisk = {"reconciliation_events_seconds": 0.05, "reconciliation_compare_seconds": 3600.0}
    return ReconciliationSettings(
        _env_file=None,
        stripe_api_key=paid.settings.stripe_api_key,
        stripe_api_url=paid.stand_in.url,
        **brisk | values,
    )


@asynccontextmanager
async def reconciling(paid: PaidBookings, name: str = "one", **values: Any) -> AsyncIterator[asyncio.Task[None]]:
    """Let the role run for as long as the block lasts."""
    task = asyncio.ensure_future(role.run(paid.log.settings, paid.database, settings_of(paid, **values), name=name))
    try:
        yield task
    finally:
        task.cancel()
        (end,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(end, asyncio.CancelledError), end


@asynccontextmanager
async def lost_webhooks(
    log: Log, database: DatabaseSettings, client: StripeClient, *, arrival_seconds: float = 0.0
) -> AsyncIterator[LostWebhooks]:
    """Open what the role looks for lost webhooks with; a test takes its turns one by one."""
    async with (
        await connect_worker(database, "a test") as connection,
        LogReader(log.settings, fetch_wait_ms=20) as reader,
    ):
        topic = log.settings.topic(STRIPE_WEBHOOKS)
        yield LostWebhooks(connection, client, reader, log.producer, topic=topic, arrival_seconds=arrival_seconds)


@asynccontextmanager
async def comparison(paid: PaidBookings) -> AsyncIterator[PeriodicComparison]:
    """Open the role's comparison, which is due at every turn."""
    settings = settings_of(paid, reconciliation_compare_seconds=0.000_001)
    async with open_stripe(settings) as client:
        yield PeriodicComparison(paid.log.settings, paid.database, settings, client, paid.log.producer, name="one")


async def on_topic(log: Log) -> Counter[str]:
    """Count the webhooks on the topic, by the id of their event."""
    found = Counter[str]()
    for records in (await log.read(STRIPE_WEBHOOKS)).values():
        found.update(msgspec.json.decode(record.value)["id"] for record in records)
    return found
