"""Brings a database to the newest schema."""

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config


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


def upgrade(revision: str = "head") -> Migrated:
    """Migrate the database of the settings; repeatable, and safe to run from several processes at once."""
    config = migrations()
    command.upgrade(config, revision)
    return Migrated(was=config.attributes["was"], now=config.attributes["now"])
