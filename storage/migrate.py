"""Brings a database to the newest schema."""

from pathlib import Path

from alembic import command
from alembic.config import Config


def migrations() -> Config:
    """Return Alembic's configuration of our migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def upgrade(revision: str = "head") -> None:
    """Migrate the database of the settings; repeatable, and safe to run from several processes at once."""
    command.upgrade(migrations(), revision)
