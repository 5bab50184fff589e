"""Alembic's entry: runs the migrations on the database of the settings."""

import time

from alembic import context
from sqlalchemy import Connection

from storage import engines
from storage.models import Table
from storage.settings import DatabaseSettings

_PAUSE_SECONDS = 0.1


def run() -> None:
    """Run each migration in a transaction of its own; two processes that start at once take turns."""
    engine = engines.engine(DatabaseSettings(), "innkeeper migrate")
    try:
        with engine.connect() as connection:
            _wait_for_turn(connection)
            context.configure(
                connection=connection,
                target_metadata=Table.metadata,
                compare_server_default=True,
                transaction_per_migration=True,
            )
            # The lock excludes other migrations here: a process that waited for it finds the schema that the other
            # made.
            context.config.attributes.setdefault("was", context.get_context().get_current_revision())
            connection.commit()
            context.run_migrations()
            context.config.attributes["now"] = context.get_context().get_current_revision()
    finally:
        # The end of the session frees its lock.
        engine.dispose()


def _wait_for_turn(connection: Connection) -> None:
    """Take the lock of the migrations for this session.

    It asks again and again instead of waiting in a statement: `create index concurrently` of the other process would
    wait for the end of that statement, and neither would go on.
    """
    while True:
        taken = connection.exec_driver_sql("select pg_try_advisory_lock(hashtext('innkeeper.migrations'))").scalar()
        connection.commit()
        if taken:
            return
        time.sleep(_PAUSE_SECONDS)


run()
