"""Fixtures of the expiry role's tests: a log, a connection to the database, and a timer that looks again at once."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from storage.settings import DatabaseSettings
from tests.workers.expiry.timers import Connection
from workers.expiry import holds


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests wait for the next sweep only for a moment; on no machine is it late enough to ask a second time.

    Nor does a leader lose the lead while the machine pauses: the next leader would ask for all of it again.
    """
    monkeypatch.setattr(holds, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(holds, "SILENT_SECONDS", 600)
    monkeypatch.setattr(holds, "FIRST_HOLD_PAUSE_SECONDS", 600.0)
    monkeypatch.setattr(holds, "MAX_HOLD_PAUSE_SECONDS", 600.0)


@pytest.fixture
async def connection(database: DatabaseSettings) -> AsyncIterator[Connection]:
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        yield connection
