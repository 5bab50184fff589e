"""Alembic's entry: runs the migrations on the database of the settings."""

from alembic import context
from sqlalchemy import create_engine

from storage.models import Table
from storage.settings import DatabaseSettings


def run() -> None:
    """Migrate in one transaction; two that start at once wait for each other."""
    engine = create_engine(DatabaseSettings().sqlalchemy_url())
    with engine.begin() as connection:
        connection.exec_driver_sql("select pg_advisory_xact_lock(hashtext('innkeeper.migrations'))")
        context.configure(connection=connection, target_metadata=Table.metadata, compare_server_default=True)
        # The lock excludes other migrations here: a process that waited for it finds the schema that the other made.
        context.config.attributes["was"] = context.get_context().get_current_revision()
        context.run_migrations()
        context.config.attributes["now"] = context.get_context().get_current_revision()
    engine.dispose()


run()
