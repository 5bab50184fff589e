"""What the expiry role's tests are handed: a log, a ledger, and a timer that looks again at once."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from storage.settings import DatabaseSettings
from tests.expiry.timers import Ledger
from workers import expiry


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests wait for the next sweep only for a moment; on no machine is it late enough to ask a second time.

    Nor does a leader lose the lead where the machine stands still: who leads next would ask for all of it again.
    """
    monkeypatch.setattr(expiry, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(expiry, "SILENT_SECONDS", 600)
    monkeypatch.setattr(expiry, "FIRST_PAUSE_SECONDS", 600.0)
    monkeypatch.setattr(expiry, "LONGEST_PAUSE_SECONDS", 600.0)


@pytest.fixture
async def ledger(database: DatabaseSettings) -> AsyncIterator[Ledger]:
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        yield connection
