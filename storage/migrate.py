"""Brings a database to the newest schema."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from psycopg.errors import LockNotAvailable
from sqlalchemy.exc import OperationalError

#: A migration of tables that are in use waits half a second for each, and is tried again for so long.
MAX_SECONDS_FOR_LOCKS: Final = 60.0
_PAUSE_SECONDS: Final = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Migrated:
    """The schema of the database before (None: it was empty) and after."""

    was: str | None
    now: str | None


def migrations() -> Config:
    """Return Alembic's configuration of our migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def upgrade(revision: str = "head", *, max_seconds_for_locks: float = MAX_SECONDS_FOR_LOCKS) -> Migrated:
    """Migrate the database of the settings; repeatable, and safe to run from several processes at once.

    Raises:
        sqlalchemy.exc.OperationalError: others held a table for all of `max_seconds_for_locks`. The migrations before
            that one are done, and nothing of it is.
    """
    config = migrations()
    deadline = time.monotonic() + max_seconds_for_locks
    while True:
        try:
            command.upgrade(config, revision)
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable) or time.monotonic() >= deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return Migrated(was=config.attributes["was"], now=config.attributes["now"])
