"""Fixtures of the role's tests: paid bookings, and Stripe's own description of its API."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.settings import DatabaseSettings
from tests.operators.reconcile.paid_bookings import PaidBookings, open_paid_bookings
from tests.support.log import Log
from tests.support.stripe_traffic import stripe_knows_our_requests
from workers.reconciliation import role, stripe_client

__all__ = ["stripe_knows_our_requests"]


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests wait for the next look only for a moment; no leader loses the lead while the machine pauses."""
    monkeypatch.setattr(role, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(role, "SILENT_SECONDS", 600)
    monkeypatch.setattr(stripe_client, "_FIRST_RETRY_SECONDS", 0.001)


@pytest.fixture
async def paid(log: Log, database: DatabaseSettings, tmp_path: Path, brisk: None) -> AsyncIterator[PaidBookings]:
    async with open_paid_bookings(log, database, tmp_path) as opened:
        yield opened
