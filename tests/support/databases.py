"""Empty databases for tests, used again: emptying one costs a tenth of making one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

import psycopg
from psycopg import sql

from tests.support.stack import execute_alone, url_of

#: A database that a test let grow by more than this is not used again: the rows that it left behind slow the next test.
_MAX_GROWTH_BYTES: Final = 8 * 1024 * 1024
_END_SESSIONS_MS: Final = 10_000
#: Every definition in the catalogue, by its id and the transaction that wrote it: a change of the schema changes it.
_DEFINITIONS: Final = """
with definition as (
    select 'class' as kind, c.oid::text as id, c.xmin::text as written
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid >= 16384 and n.nspname not like 'pg_%'
    union all select 'attribute', attrelid || '.' || attnum, xmin::text from pg_attribute where attrelid >= 16384
    union all select 'default', oid::text, xmin::text from pg_attrdef where oid >= 16384
    union all select 'constraint', oid::text, xmin::text from pg_constraint where oid >= 16384
    union all select 'trigger', oid::text, xmin::text from pg_trigger where oid >= 16384
    union all select 'function', oid::text, xmin::text from pg_proc where oid >= 16384
    union all select 'type', oid::text, xmin::text from pg_type where oid >= 16384
    union all select 'extension', oid::text, xmin::text from pg_extension where oid >= 16384
    union all select 'schema', oid::text, xmin::text from pg_namespace where oid >= 16384 and nspname not like 'pg_%'
    union all select 'setting', setrole::text, setconfig::text from pg_db_role_setting
        where setdatabase = (select oid from pg_database where datname = current_database())
)
select md5(string_agg(kind || ' ' || id || ' ' || written, ',' order by kind, id, written)) from definition
"""
_TABLES: Final = """
select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'public' and c.relkind in ('r', 'p') order by c.relname
"""
_RESTART_SEQUENCES: Final = """
select setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
from pg_sequences where last_value is not null
"""


@dataclass(frozen=True, kw_only=True)
class _Template:
    name: str
    definitions: str
    size: int
    #: Tables in which the migrations themselves write rows: they stay as they are, and a test may not change them.
    filled: frozenset[str]


@dataclass
class Databases:
    """Hands out databases that have the template's schema and no rows; takes them back when a test has ended."""

    server_url: str
    template_name: str
    _free: list[str] = field(default_factory=list)
    _made: list[str] = field(default_factory=list)
    _template: _Template | None = None

    @contextmanager
    def lend(self) -> Iterator[str]:
        """Yield the URL of an empty database."""
        name = self._emptied() or self._make()
        yield url_of(self.server_url, name)
        # It is emptied when it is needed again: until then all that the test started has ended.
        self._free.append(name)

    def drop(self) -> None:
        """Drop all of them."""
        with psycopg.connect(self.server_url, autocommit=True) as server:
            for name in self._made:
                execute_alone(server, sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
        self._made.clear()
        self._free.clear()

    def _make(self) -> str:
        name = f"innkeeper_test_{uuid4().hex[:12]}"
        with psycopg.connect(self.server_url, autocommit=True) as server:
            create = sql.SQL("create database {} template {}")
            execute_alone(server, create.format(sql.Identifier(name), sql.Identifier(self.template_name)))
        self._made.append(name)
        if self._template is None:
            self._template = self._describe(name)
        return name

    def _describe(self, name: str) -> _Template:
        with psycopg.connect(url_of(self.server_url, name)) as connection:
            return _Template(
                name=name,
                definitions=_definitions(connection),
                size=_size(connection),
                filled=frozenset(_tables_with_rows(connection)),
            )

    def _emptied(self) -> str | None:
        """Return a database that was given back, without its rows; None where there is none that can be used again."""
        while self._free:
            name = self._free.pop()
            if self._empty(name):
                return name
            with psycopg.connect(self.server_url, autocommit=True) as server:
                execute_alone(server, sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
            self._made.remove(name)
        return None

    def _empty(self, name: str) -> bool:
        template = self._template
        assert template is not None
        with psycopg.connect(url_of(self.server_url, name)) as connection:
            connection.execute(
                "select pg_terminate_backend(pid, %s) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()",
                (_END_SESSIONS_MS,),
            )
            if _definitions(connection) != template.definitions:
                return False
            if _size(connection) > template.size + _MAX_GROWTH_BYTES:
                return False
            # Without the foreign keys' triggers the order does not matter.
            connection.execute("set local session_replication_role = replica")
            for table in _tables_with_rows(connection):
                if table not in template.filled:
                    connection.execute(sql.SQL("delete from {}").format(sql.Identifier(table)))
            connection.execute(_RESTART_SEQUENCES)
        return True


def _tables_with_rows(connection: psycopg.Connection) -> list[str]:
    """Return them from one query: one for each table would take a third of the time to empty a database."""
    tables = [name for (name,) in connection.execute(_TABLES)]
    if_it_has_rows = sql.SQL("select {} where exists (select from {})")
    parts = [if_it_has_rows.format(sql.Literal(table), sql.Identifier(table)) for table in tables]
    return [name for (name,) in connection.execute(sql.SQL(" union all ").join(parts))] if parts else []


def _definitions(connection: psycopg.Connection) -> str:
    row = connection.execute(_DEFINITIONS).fetchone()
    assert row is not None
    return str(row[0])


def _size(connection: psycopg.Connection) -> int:
    row = connection.execute("select pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])
