"""The models and the migrations describe the same database."""

from collections.abc import Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, create_engine, text

from storage.models import Table
from storage.settings import DatabaseSettings


@pytest.fixture
def connection(database: DatabaseSettings) -> Iterator[Connection]:
    """Return a connection to a database that has all migrations."""
    engine = create_engine(database.sqlalchemy_url())
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def differences(connection: Connection) -> list[Any]:
    """Return the changes that Alembic would make to the database for the sake of the models."""
    options = {"compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), Table.metadata))


def test_the_migrations_make_the_tables_of_the_models(connection: Connection) -> None:
    assert differences(connection) == []


@pytest.mark.parametrize(
    "change",
    [
        "alter table booking add column note text",
        "alter table booking drop column terms",
        "alter table booking alter column rooms_count type bigint",
        "alter table booking alter column user_id set not null",
        "alter table inventory alter column surge_milli set default 999",
        "drop index booking_user",
        "create index booking_made on booking (created_at)",
        "alter table guest drop constraint guest_user_id_fkey",
    ],
)
def test_a_difference_is_found(change: str, connection: Connection) -> None:
    connection.execute(text(change))

    assert differences(connection) != []


def test_checks_and_storage_parameters_are_those_of_the_models(connection: Connection) -> None:
    """Alembic compares neither."""
    checks = {
        (table.name, str(constraint.name))
        for table in Table.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    fill_factors = {
        table.name: f"fillfactor={options['fillfactor']}"
        for table in Table.metadata.tables.values()
        if (options := table.dialect_options["postgresql"]["with"])
    }

    found = connection.execute(text("select conrelid::regclass::text, conname from pg_constraint where contype = 'c'"))
    assert {tuple(row) for row in found} == checks
    stored = connection.execute(
        text("select relname, unnest(reloptions) from pg_class where relkind = 'r' and reloptions is not null")
    )
    assert dict(map(tuple, stored)) == fill_factors
