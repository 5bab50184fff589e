"""A read model's new tables beside those that serve: filled from the log, compared, and put in their place.

The new tables are in a schema of their own, which comes first in the connection's search path: the code that applies
events to the tables that serve fills these in the same way. They follow the consumer's cursors and never overtake it,
so that at the same cursors both have the same rows. A transaction that locks the cursors' rows stops the consumer.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, sql
from sqlalchemy import make_url
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from storage.database import connect
from storage.projections.rebuildable import SCHEMAS, Projection
from storage.settings import DatabaseSettings

#: The number of differences of a table that are reported one by one.
MAX_DIFFERENCES_SHOWN: Final = 10

# As in a worker, statements are prepared while the tables are empty. After a crash the rebuild starts again.
_DIALECT: Final = make_url("postgresql+psycopg://").get_dialect()()
_SESSION_OPTIONS: Final = {"enable_seqscan": "off", "synchronous_commit": "off"}


class Busy(Exception):
    """Another process is rebuilding this read model."""


class NoCursor(Exception):
    """The read model's consumer has no cursor: no worker has written the read model yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One row that differs: `was` in the table that serves, `is_now` in the new one. None: it is missing there."""

    table: str
    key: dict[str, Any]
    was: dict[str, Any] | None
    is_now: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """The comparison of one table: the new table's `rows`, how many are `different`, and the `first` of those."""

    table: str
    rows: int
    different: int
    first: tuple[Difference, ...]


class Shadow:
    """The new tables of one read model, on a connection of their own."""

    def __init__(self, connection: AsyncConnection, projection: Projection, serving: str, topic: str) -> None:
        """`serving` is the schema of the tables that serve; `topic` the events' name on the broker."""
        self.connection = connection
        self._projection = projection
        self._serving = serving
        self._topic = topic

    async def sequences(self, *, held: bool = False) -> dict[int, int]:
        """Return the sequence of the last event that the consumer has applied, by partition; `held`: lock its cursors.

        Raises:
            NoCursor: the consumer has none.
        """
        rows = await self.connection.execute(
            _CURSOR_SEQUENCES + ("for update" if held else ""), (self._projection.name, self._topic)
        )
        # Of several generations of the topic the last one counts.
        found = {partition: sequence async for partition, sequence in rows}
        if not found:
            raise NoCursor(
                f"no worker has kept {self._projection.name} yet: start one (innkeeper worker projections),"
                " it makes the read model from the whole log"
            )
        return found

    async def compare(self) -> list[Compared]:
        """Return how the new tables differ from those that serve, in the caller's transaction."""
        await self.connection.execute("set local enable_seqscan = on")
        return [await self._compare(table.name) for table in self._projection.tables]

    async def _compare(self, table: str) -> Compared:
        columns, key = self._columns(table), self._key(table)
        rows = await self.connection.execute(
            sql.SQL(_DIFFERENCES).format(
                key=sql.SQL(", ").join(map(sql.Identifier, key)),
                serving=self._compared(self._serving, table),
                new=self._compared(self._projection.schema, table),
                was=sql.SQL(", ").join(sql.Identifier("was", name) for name in columns),
                is_now=sql.SQL(", ").join(sql.Identifier("is_now", name) for name in columns),
                most=MAX_DIFFERENCES_SHOWN,
            )
        )
        found = await rows.fetchall()
        counted = await self.connection.execute(
            sql.SQL("select count(*) from {}").format(sql.Identifier(self._projection.schema, table))
        )
        (count,) = await counted.fetchone() or (0,)
        return Compared(
            table=table,
            rows=count,
            different=found[0][0] if found else 0,
            first=tuple(
                Difference(table=table, key={name: (was or is_now)[name] for name in key}, was=was, is_now=is_now)
                for _, was, is_now in found
            ),
        )

    def _compared(self, schema: str, table: str) -> sql.Composable:
        """Return the table, or a query of the rows of it that must be the same in both."""
        query, name = self._projection.compared.get(table), sql.Identifier(schema, table)
        return name if query is None else sql.SQL("({})").format(sql.SQL(query).format(name))

    def _columns(self, table: str) -> list[str]:
        return [column.name for each in self._projection.tables if each.name == table for column in each.columns]

    def _key(self, table: str) -> list[str]:
        return [
            column.name for each in self._projection.tables if each.name == table for column in each.primary_key.columns
        ]

    async def analyze(self) -> None:
        """Collect statistics of the new tables for the planner."""
        for table in self._projection.tables:
            await self.connection.execute(sql.SQL("analyze {}").format(sql.Identifier(table.name)))

    async def swap(self, catch_up: Callable[[dict[int, int]], Awaitable[None]], max_wait_ms: int) -> None:
        """Put the new tables in the place of those that serve, which are dropped, in the caller's transaction.

        The consumer is stopped by its locked cursors; then `catch_up` is called with the sequences of these cursors.

        Raises:
            psycopg.errors.LockNotAvailable: the tables are used for longer than `max_wait_ms`; nothing was done.
        """
        await self.connection.execute("set local synchronous_commit = on")
        await self.connection.execute(sql.SQL("set local lock_timeout = {}").format(max_wait_ms))
        sequences = await self.sequences(held=True)
        names = [table.name for table in self._projection.tables]
        serving = [sql.Identifier(self._serving, name) for name in names]
        await self.connection.execute(
            sql.SQL("lock table {} in access exclusive mode").format(sql.SQL(", ").join(serving))
        )
        await catch_up(sequences)
        for name in names:
            await self._take_the_place(name)

    async def _take_the_place(self, name: str) -> None:
        old, new = sql.Identifier(self._serving, name), sql.Identifier(self._projection.schema, name)
        for statement in await self._rights(name):
            await self.connection.execute(statement.encode())
        await self.connection.execute(sql.SQL("drop table {}").format(old))
        await self.connection.execute(
            sql.SQL("alter table {} set schema {}").format(new, sql.Identifier(self._serving))
        )

    async def _rights(self, name: str) -> Sequence[str]:
        """Return the statements that give the new table the owner and the rights of the old one."""
        names = {"serving": self._serving, "new": self._projection.schema, "table": name}
        rows = await self.connection.execute(_RIGHTS, names)
        return [statement async for (statement,) in rows]


@asynccontextmanager
async def open_shadow(database: DatabaseSettings, projection: Projection, topic: str) -> AsyncIterator[Shadow]:
    """Create empty tables beside those that serve; when the block ends, also by an error, they are dropped.

    Raises:
        Busy: another process is rebuilding the read model.
        psycopg.Error: the database cannot be used.
    """
    connection = await connect(database, "innkeeper rebuild", options=_SESSION_OPTIONS)
    try:
        if not await _is_ours(connection, projection.schema):
            raise Busy(f"somebody else is rebuilding {projection.name} at this moment")
        row = await (await connection.execute("select current_schema()")).fetchone()
        assert row is not None
        await _create(connection, projection)
        yield Shadow(connection, projection, row[0], topic)
    finally:
        # The connection is closed first: after Ctrl-C a statement may still run on it and lock the tables dropped here.
        await connection.close()
        await sweep(database)


async def sweep(database: DatabaseSettings) -> list[str]:
    """Drop the schemas that killed rebuilds left, and return their names; rebuilds that run are left alone."""
    async with await connect(database, "innkeeper rebuild") as connection:
        rows = await connection.execute("select nspname from pg_namespace where nspname like %s", (f"{SCHEMAS}%",))
        left = [name for (name,) in await rows.fetchall() if await _is_ours(connection, name)]
        for name in left:
            await connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(name)))
    return left


async def _is_ours(connection: AsyncConnection, schema: str) -> bool:
    """Take the schema's lock, which ends with the connection; that of a killed process is free soon after."""
    await connection.execute("set lock_timeout = '3s'")
    try:
        await connection.execute("select pg_advisory_lock(hashtext('innkeeper.rebuild'), hashtext(%s))", (schema,))
    except psycopg.errors.LockNotAvailable:
        return False
    finally:
        await connection.execute("reset lock_timeout")
    return True


async def _create(connection: AsyncConnection, projection: Projection) -> None:
    schema = sql.Identifier(projection.schema)
    async with connection.transaction():
        await connection.execute(sql.SQL("drop schema if exists {} cascade").format(schema))
        await connection.execute(sql.SQL("create schema {}").format(schema))
        await connection.execute(
            "select set_config('search_path', %s || ', ' || current_setting('search_path'), false)",
            (projection.schema,),
        )
        for statement in _statements(projection):
            await connection.execute(statement.encode())


def _statements(projection: Projection) -> list[str]:
    """Return the statements that create the tables, with the indexes' names as in `storage.models`."""
    making: list[ExecutableDDLElement] = []
    for table in projection.tables:
        making += [CreateTable(table), *map(CreateIndex, table.indexes)]
    return [str(each.compile(dialect=_DIALECT)) for each in making]


_CURSOR_SEQUENCES: Final = """
select partition, sequence from log_cursor where consumer = %s and topic = %s
order by consumer, topic, partition, generation
"""

_DIFFERENCES: Final = """
select count(*) over (), to_jsonb(was), to_jsonb(is_now)
from {serving} as was full join {new} as is_now using ({key})
where ({was}) is distinct from ({is_now})
order by {key} limit {most}
"""

# The owner of a table may do everything with it; all other roles have the rights that were granted to them.
_RIGHTS: Final = """
select format('alter table %%I.%%I owner to %%I', %(new)s::text, %(table)s::text, pg_get_userbyid(relowner))
from pg_class where oid = format('%%I.%%I', %(serving)s::text, %(table)s::text)::regclass
union all
select format('grant %%s on %%I.%%I to %%s', privilege_type, %(new)s::text, %(table)s::text,
              case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end)
from pg_class cross join lateral aclexplode(relacl)
where pg_class.oid = format('%%I.%%I', %(serving)s::text, %(table)s::text)::regclass and grantee <> relowner
"""
