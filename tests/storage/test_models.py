"""The models and the migrations describe the same database."""

from collections.abc import Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from storage import engines
from storage.models import Table
from storage.settings import DatabaseSettings


@pytest.fixture
def connection(database: DatabaseSettings) -> Iterator[Connection]:
    """Return a connection to a database that has all migrations."""
    engine = engines.engine(database, "innkeeper test")
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


#: Everything about the tables of a schema that has a text: columns, constraints, indexes, storage parameters. The names
#: of NOT NULL constraints are left out: they stay when a table is renamed.
_DEFINITIONS = """
select table_name, column_name, concat_ws(' ', udt_name, column_default, is_nullable, identity_generation)
from information_schema.columns where table_schema = :schema
union all
select relname, conname, pg_get_constraintdef(c.oid)
from pg_constraint c join pg_class t on t.oid = conrelid
where connamespace = to_regnamespace(:schema) and contype <> 'n'
union all
select tablename, indexname, replace(indexdef, schemaname || '.', '') from pg_indexes where schemaname = :schema
union all
select relname, 'parameters', array_to_string(reloptions, ', ')
from pg_class where relnamespace = to_regnamespace(:schema) and relkind = 'r' and reloptions is not null
"""


def definitions(connection: Connection, schema: str) -> set[tuple[str, str, str]]:
    """Return the definitions of a schema's tables, as PostgreSQL writes them."""
    connection.execute(text(f"set local search_path = {schema}"))
    rows = connection.execute(text(_DEFINITIONS), {"schema": schema})
    return {(table, name, definition) for table, name, definition in rows if table != "alembic_version"}


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (None, set()),
        ("alter table guest drop constraint age, add constraint age check (age between 0 and 151)", {"age"}),
        ("drop index refund_due; create index refund_due on refund (next_attempt_at)", {"refund_due"}),
        ("alter table booking set (fillfactor = 90)", {"parameters"}),
    ],
    ids=["as migrated", "another check", "another predicate of an index", "another storage parameter"],
)
def test_the_migrations_make_the_checks_indexes_and_parameters_of_the_models(
    change: str | None, changed: set[str], connection: Connection
) -> None:
    """Alembic does not compare these, so PostgreSQL describes tables made from the models beside the migrated ones."""
    if change is not None:
        connection.execute(text(change))
    migrated = definitions(connection, "public")
    connection.execute(text("create schema from_models"))
    connection.execute(text("set local search_path = from_models"))
    Table.metadata.create_all(connection, checkfirst=False)

    assert {name for _, name, _ in migrated ^ definitions(connection, "from_models")} == changed
